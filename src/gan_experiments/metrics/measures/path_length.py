"""PPL: how much images change along a path in latent space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from gan_experiments.metrics.extractors import plain_float32
from gan_experiments.metrics.metric import GenerativeMetric, Values

EPSILON = 1e-4


class PathLength(GenerativeMetric):
    """Perceptual path length: mean and standard deviation of d(x(t), x(t + epsilon)) / epsilon^2, without the extremes.

    Karras et al. 2019, arXiv:1812.04948, section 4.1; reported as `ppl_z` or `ppl_w`, with further details in the name.
    If `distance` is a network, it stays out of the state dict of a module that holds this metric.

    Args:
        distance: two batches of images -> [n], squared as LPIPS is.
        epsilon: the step in t from one image of a pair to the other.
        resolution: larger images are averaged over squares, see `shrink`.
        scores: None.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("ppl",)
    higher_is_better = False
    of = "paths"
    lengths: list[Tensor]

    def __init__(
        self,
        distance: Callable[[Tensor, Tensor], Tensor],
        epsilon: float = EPSILON,
        resolution: int = 256,
        scores: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(scores, **kwargs)
        self._distance = (distance,)  # in a tuple, so that it is no submodule
        self.epsilon, self.resolution = epsilon, resolution
        self.add_state("lengths", [], dist_reduce_fx="cat")

    def update(self, here: Tensor, there: Tensor) -> None:
        """Add the images [n, C, H, W] of n paths at t and at t + epsilon.

        The distance is computed in true float32, because TF32's rounding would outweigh the step.
        """
        with plain_float32(here.device):
            found = self._distance[0](shrink(here, self.resolution), shrink(there, self.resolution))
        lengths = found.cpu().double() / self.epsilon**2
        self.lengths.append(lengths[:, None] if here.device.type == "mps" else lengths[:, None].to(here.device))

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the mean over all paths on all ranks. Raises ValueError where there are none."""
        lengths = self._all("lengths")
        if not len(lengths):
            raise ValueError("no paths: PathLength needs one or more")
        return self._told(self.values(lengths[:, 0]), self.device)

    def values(self, lengths: Tensor) -> Values:
        """Compute mean and standard deviation of the lengths [n], float64, without the extremes."""
        return {"ppl": trimmed_moments(lengths.cpu())}


def trimmed_moments(distances: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of the distances [n] between their 1st and 99th percentiles.

    If a percentile falls between two distances, the outer one is the bound, as in NVIDIA's code. Returns NaN if any
    distance is not finite.
    """
    if not distances.isfinite().all():
        return math.nan, math.nan
    low = distances.quantile(0.01, interpolation="lower")
    high = distances.quantile(0.99, interpolation="higher")
    kept = distances[(distances >= low) & (distances <= high)].double()
    return kept.mean().item(), kept.std(correction=0).item()


def shrink(images: Tensor, resolution: int) -> Tensor:
    """Average images [N, C, H, W] over squares, whose side is the short side divided by `resolution`, rounded down."""
    factor = min(images.shape[-2:]) // resolution
    return F.avg_pool2d(images, factor) if factor > 1 else images
