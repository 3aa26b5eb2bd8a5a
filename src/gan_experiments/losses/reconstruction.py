"""Distances between generated images and their ground truth: scalars, means over the batch."""

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
"""The choices of the option `distance`: each maps two tensors of the same shape to a scalar."""


def find_distance(name: str, key: str = "distance") -> Callable[[Tensor, Tensor], Tensor]:
    """Return the distance called `name`; raises ConfigError, naming the option `key`, for an unknown one."""
    if name not in DISTANCES:
        raise ConfigError(f"{key}={name}: type {' or '.join(f'{key}={known}' for known in DISTANCES)}")
    return DISTANCES[name]


def weighted_l2(images: Tensor, targets: Tensor, hole: Tensor, known_weight: float = 10.0) -> Tensor:
    """Mean of d², weighted by 1 in the hole and by `known_weight` in the known context (Pathak et al. 2016, §5.1).

    Images are [N, C, H, W]; `hole` is bool and broadcasts to their shape: [H, W] or [N, 1, H, W].
    """
    square = (images - targets).square().to(torch.promote_types(images.dtype, torch.float32))
    return torch.where(hole, square, known_weight * square).mean()


def total_variation(images: Tensor) -> Tensor:
    """Return ½ (Σ dy² / H + Σ dx² / W), summed over pixels and channels, averaged over the images [N, C, H, W].

    It is tv_loss of zi2zi's code, which sums over the batch instead.
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    n, _, height, width = images.shape
    rows, columns = images.diff(dim=2).square().sum(), images.diff(dim=3).square().sum()
    return 0.5 * (rows / height + columns / width) / n
