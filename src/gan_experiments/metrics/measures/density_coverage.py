"""Density and coverage: fake images in the nearest-neighbour balls of real images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import Measurement, NeighbourMetric, Samples, Values


class DensityCoverage(NeighbourMetric):
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797, eqs. 3 and 4).

    A real ball reaches from a real image to its k-th nearest neighbour among the real images, surface included.
    "density" is the mean number of real balls around a fake image, divided by k. "coverage" is the share of real balls
    with a fake image inside. With k real images or fewer, k is their number minus 1.

    Args:
        k: the nearest neighbour that sets a ball's radius.
        scores: "density", "coverage", or None for both.
        reset_real_features: False to keep the real features when `reset` is called.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("density", "coverage")
    higher_is_better = True
    keys: ClassVar[dict[str, str]] = {"k": "density_k"}

    def __init__(
        self, k: int = 5, scores: Sequence[str] | None = None, reset_real_features: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(scores, reset_real_features, **kwargs)
        self.k = self.neighbours = k

    @override
    def begin(self, samples: Samples) -> dict[str, Tensor]:
        real = samples.real
        return {
            "balls": samples.reach(self.k),
            "memberships": torch.zeros((), dtype=torch.int64, device=real.device),
            "to fake": torch.full((len(real),), torch.inf, dtype=torch.float64, device=real.device),
        }

    def look(self, seen: dict[str, Tensor], rows: slice, columns: slice, distances: Tensor) -> None:
        """Count the memberships, and keep the distance to the nearest fake image."""
        if "density" in self.chosen:
            seen["memberships"] += (distances <= seen["balls"][rows, None]).sum()
        if "coverage" in self.chosen:
            torch.minimum(seen["to fake"][rows], distances.amin(dim=1), out=seen["to fake"][rows])

    def end(self, seen: dict[str, Tensor], samples: Samples) -> Values:
        """Return density and coverage, as chosen."""
        k = min(self.k, len(samples.real) - 1)
        found = {
            "density": int(seen["memberships"]) / (k * len(samples.fake)),
            "coverage": (seen["to fake"] <= seen["balls"]).double().mean().item(),
        }
        return {name: (found[name], None) for name in self.chosen}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        k = min(self.k, measured.num_real - 1)
        if score == "density":
            return f"real balls around a fake image over k, k={k}"
        return f"share of real balls with a fake image, k={k}"
