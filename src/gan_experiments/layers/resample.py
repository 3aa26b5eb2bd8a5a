"""Blurring and resampling by a factor of two, with the separable filter [1, 3, 3, 1] unless stated otherwise.

Maps are padded with zeros.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Filter without resampling; the filter sums to `gain`.

    `[N, C, H, W]` -> `[N, C, H + 2 padding - 3, W + 2 padding - 3]`.
    """
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) * (math.sqrt(gain) / 8)
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


class _Resample(nn.Module):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)  # [1, 1, 4, 4]

    def _per_channel(self, x: Tensor) -> Tensor:
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class Upsample(_Resample):
    """Upsampling `[N, C, H, W]` -> `[N, C, 2H, 2W]`: bilinear interpolation, except that the border is zero-padded."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map at twice the size. A constant map keeps its value inside, and ¾ of it along an edge."""
        return F.conv_transpose2d(x, 4 * self._per_channel(x), stride=2, padding=1, groups=x.shape[1])


class Downsample(_Resample):
    """Downsampling `[N, C, H, W]` -> `[N, C, H/2, W/2]`: each pixel is a weighted mean of 4x4; H and W are even."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map at half the size."""
        return F.conv2d(x, self._per_channel(x), stride=2, padding=1, groups=x.shape[1])


class Smooth(nn.Module):
    """Blur with the separable filter [1, 2, 1] / 4: `[N, C, H, W]` -> the same shape."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)  # [1, 1, 3, 3]

    @override
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel.to(x.dtype).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
