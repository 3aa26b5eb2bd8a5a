"""Precision and recall: images in the nearest-neighbour balls of the other kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import Measurement, NeighbourMetric, Samples, Values
from gan_experiments.metrics.neighbours import nearest


class PrecisionRecall(NeighbourMetric):
    """The share of fake images in any real ball ("precision") and of real images in any fake ball ("recall").

    A ball reaches from an image to its k-th nearest neighbour of the same kind, surface included: Kynkäänniemi et al.
    2019, arXiv:1904.06991, eqs. 1 and 2. With k images or fewer of a kind, k is their number minus 1.

    Args:
        k: the nearest neighbour that sets a ball's radius.
        scores: "precision", "recall", or None for both.
        reset_real_features: False to keep the real features when `reset` is called.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("precision", "recall")
    higher_is_better = True
    keys: ClassVar[dict[str, str]] = {"k": "manifold_k"}

    def __init__(
        self, k: int = 3, scores: Sequence[str] | None = None, reset_real_features: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(scores, reset_real_features, **kwargs)
        self.k = self.neighbours = k

    @override
    def begin(self, samples: Samples) -> dict[str, Tensor]:
        real, fake, seen = samples.real, samples.fake, {}
        if "precision" in self.chosen:
            seen["real balls"] = samples.reach(self.k)
            seen["fake inside"] = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
        if "recall" in self.chosen:
            seen["fake balls"] = nearest(fake, min(self.k, len(fake) - 1))[:, -1]
            seen["real inside"] = torch.zeros(len(real), dtype=torch.bool, device=real.device)
        return seen

    def look(self, seen: dict[str, Tensor], rows: slice, columns: slice, distances: Tensor) -> None:
        """Mark the images that lie in a ball."""
        if "precision" in self.chosen:
            seen["fake inside"][columns] |= (distances <= seen["real balls"][rows, None]).any(dim=0)
        if "recall" in self.chosen:
            seen["real inside"][rows] |= (distances <= seen["fake balls"][columns]).any(dim=1)

    def end(self, seen: dict[str, Tensor], samples: Samples) -> Values:
        """Return precision and recall, as chosen."""
        inside = {"precision": "fake inside", "recall": "real inside"}
        return {name: (seen[inside[name]].double().mean().item(), None) for name in self.chosen}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        if score == "precision":
            return f"share of fake images in a real ball, k={min(self.k, measured.num_real - 1)}"
        return f"share of real images in a fake ball, k={min(self.k, measured.num_fake - 1)}"
