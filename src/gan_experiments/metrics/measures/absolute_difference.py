"""L1: the absolute difference."""

from __future__ import annotations

from torch import Tensor

from gan_experiments.metrics.metric import PairMetric


class L1(PairMetric):
    """The mean absolute difference of images in [0, 1]."""

    scores = ("l1",)
    higher_is_better = False
    data_range = 1
    how = "absolute difference of an image's values"

    def likeness(self, fake: Tensor, real: Tensor) -> float:
        """Return the mean over all values of an image."""
        return (fake.double() - real.double()).abs().mean().item() / 255
