"""Distances between what a generator made and what it should have made: scalars, means over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.contracts import ConfigError


def charbonnier(images: Tensor, targets: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of √(d² + ε²), an L1 that is smooth at 0 (Lai et al. 2017, arXiv:1704.03915, section 3.3)."""
    difference = (images - targets).to(torch.promote_types(images.dtype, torch.float32))
    return (difference.square() + epsilon**2).sqrt().mean()


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "charbonnier": charbonnier,
}
"""What `distance=` can name: each maps two tensors of one shape to a scalar."""


def find_distance(name: str, key: str = "distance") -> Callable[[Tensor, Tensor], Tensor]:
    """The distance of that name; raises ConfigError, in the words of the option `key`, for another."""
    if name not in DISTANCES:
        raise ConfigError(f"{key}={name}: type {' or '.join(f'{key}={known}' for known in DISTANCES)}")
    return DISTANCES[name]


def weighted_l2(images: Tensor, targets: Tensor, hole: Tensor, known_weight: float = 10.0) -> Tensor:
    """Mean of d² times 1 in the hole and `known_weight` where the context is known (Pathak et al. 2016, section 5.1).

    Images are [N, C, H, W]; `hole` is bool, of a shape that broadcasts to theirs: [H, W] or [N, 1, H, W].
    """
    square = (images - targets).square().to(torch.promote_types(images.dtype, torch.float32))
    return torch.where(hole, square, known_weight * square).mean()


def total_variation(images: Tensor) -> Tensor:
    """½ (Σ dy² / H + Σ dx² / W) of an image, over its channels too: the mean over [N, C, H, W].

    zi2zi's code (tv_loss), which sums over the batch.
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    n, _, height, width = images.shape
    rows, columns = images.diff(dim=2).square().sum(), images.diff(dim=3).square().sum()
    return 0.5 * (rows / height + columns / width) / n
