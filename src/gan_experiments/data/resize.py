"""Bicubic resizing equal to MATLAB's `imresize`, which makes the low-resolution images of the literature."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def imresize(images: Tensor, scale: float) -> Tensor:
    """Resize uint8 or floating [..., H, W] to [..., ceil(scale H), ceil(scale W)], bicubic, in float64.

    The kernel is that of Keys with a = -1/2, widened by 1 / scale if that is more than 1 (antialiasing). Beyond the
    border the image is mirrored, with its edge repeated. A float keeps its dtype and may overshoot. uint8 is rounded
    once, at the end: the result equals MATLAB's `imresize(im2double(image), scale)`, which made the field's data sets.
    Given uint8 itself, MATLAB also rounds between rows and columns, which changes some values by 1.
    """
    dtype = images.dtype
    for dimension in (-2, -1):
        indices, weights = contributions(images.shape[dimension], scale)
        shape = (-1, 1) if dimension == -2 else (-1,)
        resized = torch.zeros((), dtype=torch.float64)
        for index, weight in zip(indices.to(images.device), weights.to(images.device), strict=True):
            taps = images.index_select(dimension, index).double()
            resized = taps.mul_(weight.view(shape)).add_(resized)
        images = resized
    return (images.add_(0.5).floor_().clamp_(0, 255) if dtype == torch.uint8 else images).to(dtype)


def contributions(length: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return which of `length` samples make each of the ceil(scale length) new ones, and with which weights.

    The indices are int64 [taps, new], the weights float64 [taps, new]. The weights of each new sample sum to 1.
    """
    stretch = max(1.0, 1 / scale)
    new = torch.arange(math.ceil(scale * length), dtype=torch.float64)
    centre = (new + 0.5) / scale - 0.5
    taps = math.ceil(4 * stretch) + 2
    indices = (centre - 2 * stretch).floor() + torch.arange(taps, dtype=torch.float64)[:, None]
    weights = _cubic((centre - indices) / stretch)
    weights = weights / weights.sum(0)
    used = weights.any(1)
    mirrored = indices[used].long() % (2 * length)
    return torch.where(mirrored < length, mirrored, 2 * length - 1 - mirrored), weights[used]


def _cubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))
