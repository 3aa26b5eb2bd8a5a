"""Mode coverage: how many known modes generated points cover, and how close the points are to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from gan_experiments.data.toy import mode_coverage
from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values, kept


class ModeCoverage(GenerativeMetric):
    """The number of modes that points cover ("modes") and the share of points near a mode ("high_quality").

    Srivastava et al. 2017, arXiv:1705.07761, section 4.1: see `data.toy.mode_coverage`.

    Args:
        centres: the centres of the modes, [K, 2].
        std: the standard deviation of each mode, in the same unit.
        scores: "modes", "high_quality", or None for both.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("modes", "high_quality")
    higher_is_better = True
    of = "points"
    points: list[Tensor]

    def __init__(self, centres: Tensor, std: float, scores: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(scores, **kwargs)
        self.centres, self.spread = centres, std
        self.add_state("points", [], dist_reduce_fx="cat")

    def update(self, points: Tensor) -> None:
        """Add generated points [n, 2] or [n, 2, 1, 1]."""
        self.points.append(kept(points.flatten(1)))

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the scores of all points on all ranks. Raises ValueError where there are none."""
        points = self._all("points")
        if not len(points):
            raise ValueError("no points: ModeCoverage needs one or more")
        return self._told(self.values(points), self.device)

    def values(self, points: Tensor) -> Values:
        """Compute the scores of points [N, 2]; points that are not finite count as far from all modes."""
        found: dict[str, float] = mode_coverage(points, self.centres, self.spread)._asdict()
        return {name: (float(found[name]), None) for name in self.chosen}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        if score == "modes":
            return "modes that are the nearest to a point within three standard deviations"
        return "share of points within three standard deviations of the nearest mode; 0.989 of real ones"
