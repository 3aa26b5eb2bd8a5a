"""MIND: the sliced Wasserstein distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import FeatureMetric, Measurement, Samples, Values

DIRECTIONS = 50  # directions at a time and
ROWS = 1024  # images at a time: 40 MB of float64 at 50,000 images


class MongeInceptionDistance(FeatureMetric):
    """MIND: 3 D times the squared 2-Wasserstein distance of features projected on random directions.

    Berthet et al., "MIND: Monge Inception Distance for Generative Models Evaluation", arXiv:2605.06797: the mean over
    directions on the unit sphere. If there are more images on one side, as many as on the other are drawn. It draws the
    same random numbers as torch-fidelity, but computes in float64.

    Args:
        projections: the number of directions.
        seed: the seed of the directions and of the drawn images.
        scores: None.
        reset_real_features: False to keep the real features when `reset` is called.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("mind",)
    higher_is_better = False
    published_with = "inception"
    keys: ClassVar[dict[str, str]] = {"seed": "seed"}

    def __init__(
        self,
        projections: int = 1000,
        seed: int = 0,
        scores: Sequence[str] | None = None,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(scores, reset_real_features, **kwargs)
        self.projections, self.seed = projections, seed

    def values(self, samples: Samples) -> Values:
        """Compute the mean over the directions."""
        generator = torch.Generator().manual_seed(self.seed)
        sides, width = (samples.real, samples.fake), samples.real.shape[1]
        n = min(map(len, sides))
        rows = [torch.randperm(len(x), generator=generator)[:n] if len(x) > n else torch.arange(n) for x in sides]
        directions = torch.randn(self.projections, width, generator=generator).double()
        directions /= directions.norm(dim=1, keepdim=True)
        total = 0.0
        for some in directions.to(samples.real.device).split(DIRECTIONS):
            real, fake = (_sorted(x, drawn, some) for x, drawn in zip(sides, rows, strict=True))
            total += real.sub_(fake).square_().mean(dim=1).sum().item()
        return {"mind": (3 * width * total / self.projections, None)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        n = min(measured.num_fake, measured.num_real)
        return f"squared Wasserstein distance over {self.projections} directions, times 3 D, {n} images a side"


def _sorted(features: Tensor, rows: Tensor, directions: Tensor) -> Tensor:
    """Project the `rows` of features [N, D] on directions [M, D] and sort the result [M, n], float64."""
    found = features.new_empty(len(directions), len(rows), dtype=torch.float64)
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS].to(features.device)
        torch.mm(directions, features[some].double().T, out=found[:, start : start + ROWS])
    return found.sort(dim=1).values
