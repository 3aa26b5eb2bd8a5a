"""PPL: how much images change along a path through the latent space."""

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
    """The mean of d(x(t), x(t + epsilon)) / epsilon^2 over paths, the extreme ones cut, with its standard deviation.

    Karras et al. 2019, arXiv:1812.04948, section 4.1; called `ppl_z` or `ppl_w`, with what else is to be known. A
    distance that is a network stays out of the state dict of a module that holds this metric.

    Args:
        distance: two batches of images -> [n], squared as LPIPS is.
        epsilon: the step from one image of a pair to the other.
        resolution: larger images are averaged over squares, of the whole factor that makes the short side this long.
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
        self._distance = (distance,)  # a tuple is no child
        self.epsilon, self.resolution = epsilon, resolution
        self.add_state("lengths", [], dist_reduce_fx="cat")

    def update(self, here: Tensor, there: Tensor) -> None:
        """Add the images [n, C, H, W] at t and at t + epsilon of n paths; TF32's rounding would outweigh the step."""
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
        """Compute mean and standard deviation of lengths [n], float64."""
        return {"ppl": trimmed_moments(lengths.cpu())}


def trimmed_moments(distances: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of those distances [n] that lie within the 1st and the 99th percentile.

    Of the values nearest to a percentile the outer one is the bound, as in NVIDIA's code. NaN where any is not finite.
    """
    if not distances.isfinite().all():
        return math.nan, math.nan
    low = distances.quantile(0.01, interpolation="lower")
    high = distances.quantile(0.99, interpolation="higher")
    kept = distances[(distances >= low) & (distances <= high)].double()
    return kept.mean().item(), kept.std(correction=0).item()


def shrink(images: Tensor, resolution: int) -> Tensor:
    """Average images [N, C, H, W] over squares, whose side is the whole factor by which they exceed `resolution`."""
    factor = min(images.shape[-2:]) // resolution
    return F.avg_pool2d(images, factor) if factor > 1 else images
