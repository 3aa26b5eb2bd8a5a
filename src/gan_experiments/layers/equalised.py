"""Layers with an equalised learning rate: weights start as N(0, 1) and are scaled in each forward, not at the start.

Karras et al. 2018, arXiv:1710.10196, section 4.1. An optimizer that divides by the gradient's size, as Adam does, then
changes all weights at the same rate, whatever their layer's fan-in.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override


class EqualisedLinear(nn.Module):
    """Linear layer `[N, inputs]` -> `[N, outputs]` with weight · gain · lr_multiplier / √inputs, bias · lr_multiplier.

    Weights start as N(0, 1) / lr_multiplier. `bias` is the initial bias after scaling, or None for no bias. With
    `lr_multiplier` 0.01 the parameters learn at a hundredth of the learning rate (Karras et al. 2019, arXiv:1812.04948,
    appendix C).
    """

    def __init__(
        self, inputs: int, outputs: int, bias: float | None = 0.0, gain: float = 1.0, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = None if bias is None else nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.scale, self.lr_multiplier = gain * lr_multiplier / math.sqrt(inputs), lr_multiplier

    @override
    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.bias is None or self.lr_multiplier == 1 else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.scale, bias)


class EqualisedConv2d(nn.Module):
    """Convolution `[N, inputs, H, W]` -> `[N, outputs, H, W]` of odd `size`, with weight · gain / √(inputs · size²).

    Weights start as N(0, 1), the bias at 0; `bias=False` is without a bias.
    """

    def __init__(self, inputs: int, outputs: int, size: int, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.padding = gain / math.sqrt(inputs * size**2), size // 2

    @override
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class EqualisedUpConv2d(EqualisedConv2d):
    """Nearest-neighbour upsampling and a 3x3 convolution in one, `[N, inputs, H, W]` -> `[N, outputs, 2H, 2W]`.

    A 4x4 transposed convolution does both with less than half the multiplications, as in the code of Karras et al.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(inputs, outputs, 3, bias, gain)

    @override
    def forward(self, x: Tensor) -> Tensor:
        weight = _of_four_shifts(self.weight * self.scale).flip(2, 3).transpose(0, 1)
        return F.conv_transpose2d(x, weight, self.bias, stride=2, padding=1)


class EqualisedDownConv2d(EqualisedConv2d):
    """A 3x3 convolution and a 2x2 mean pooling in one, `[N, inputs, H, W]` -> `[N, outputs, H/2, W/2]`."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__(inputs, outputs, 3, bias, gain)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _of_four_shifts(self.weight * (self.scale / 4)), self.bias, stride=2, padding=1)


def _of_four_shifts(weight: Tensor) -> Tensor:
    """Return 4x4 kernels, the sums of 3x3 kernels over their four positions within 4x4."""
    weight = F.pad(weight, (1, 1, 1, 1))
    weight = weight[:, :, 1:] + weight[:, :, :-1]
    return weight[..., 1:] + weight[..., :-1]


class PixelNorm(nn.Module):
    """Division of each position's channels by the root of their mean square (ε = 1e-8), `[N, C, ...]` (section 4.2)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
