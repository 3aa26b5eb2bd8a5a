"""Memorisation: the share of fake images that are copies, or nearly, of training images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import Measurement, NeighbourMetric, Samples, Values

RARE = 0.01  # share of the real images whose nearest neighbour is as near as what counts as memorised


class Memorised(NeighbourMetric):
    """The share of fake images that are as near to a real image as only 1 in 100 real images is to another one.

    A perfect generator scores 0.01. A generator a tenth of whose images are copies scores at least 0.1. Comparing the
    distance to the nearest training image with that of real images is the test of Meehan et al. 2020, arXiv:2004.05675,
    section 3. Carlini et al. 2022, arXiv:2112.03570, section IV, report memorisation as here: by the share found at a
    low rate of false alarms instead of the average, which bad images would lower.
    """

    scores = ("memorised",)
    higher_is_better = False
    neighbours = 1

    @override
    def begin(self, samples: Samples) -> dict[str, Tensor]:
        fake = samples.fake
        return {"to real": torch.full((len(fake),), torch.inf, dtype=torch.float64, device=fake.device)}

    def look(self, seen: dict[str, Tensor], rows: slice, columns: slice, distances: Tensor) -> None:
        """Keep the distance to the nearest real image."""
        torch.minimum(seen["to real"][columns], distances.amin(dim=0), out=seen["to real"][columns])

    def end(self, seen: dict[str, Tensor], samples: Samples) -> Values:
        """Return the share of memorised images."""
        rare = samples.reach(1).sort().values[math.ceil(RARE * len(samples.real)) - 1]
        return {"memorised": ((seen["to real"] <= rare).double().mean().item(), None)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return f"share of fake images as near to a real one as only {RARE:.0%} of the real ones are"

    def doubts(self, score: str, measured: Measurement) -> list[str]:
        """Warn if not all training images were compared."""
        if not measured.split.startswith("train"):
            return [f"the images of the split {measured.split} are not those that were trained on"]
        if measured.num_real < measured.available:
            return [f"only {measured.num_real} of {measured.available} training samples were looked at"]
        if measured.num_real * RARE < 1:
            return [f"of {measured.num_real} training samples, the two that are nearest stand for 1 in {1 / RARE:.0f}"]
        return []
