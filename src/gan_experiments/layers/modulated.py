"""Modulated convolution: a style scales the inputs, and demodulation scales the outputs back to unit variance.

Karras et al. 2020, arXiv:1912.04958, section 2.2. Here the feature maps are scaled instead of the weights, so that one
convolution serves the whole batch. The result is equal up to rounding, can be exported with any batch size, and is
differentiable as often as a convolution.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.layers.equalised import EqualisedLinear
from gan_experiments.layers.resample import blur


class ModulatedConv2d(nn.Module):
    """Modulated convolution of odd `size`: `[N, inputs, H, W]` and w `[N, w_dim]` -> `[N, outputs, H, W]`; no bias.

    Each sample's weights are multiplied by its style (equation 1). The style has one value per input channel, an affine
    function of w that starts around 1. With `demodulate` the weights of each output channel are divided by their norm
    (equation 3, ε = 1e-8), else by √(inputs · size²). With `up` it is a transposed convolution of stride 2, followed by
    the filter [1, 3, 3, 1], and the output has twice the size.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, w_dim: int, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.affine = EqualisedLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.up, self.demodulate = up, demodulate

    @override
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        maps, scale = self.parts(x, w)
        return maps if scale is None else maps * scale

    def parts(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the maps `[N, outputs, H, W]` before demodulation and its scales `[N, outputs, 1, 1]`, if any.

        In float16 styles and weights are first divided by their largest absolute values, which demodulation undoes.
        """
        weight: Tensor = self.weight
        styles = self.affine(w)
        if not self.demodulate:
            styles = styles / math.sqrt(weight[0].numel())
        elif x.dtype == torch.float16:
            styles = styles / styles.abs().amax(1, keepdim=True)
            weight = weight / (math.sqrt(weight[0].numel()) * weight.abs().amax((1, 2, 3), keepdim=True))
        x = x * styles[:, :, None, None].to(x.dtype)
        if self.up:
            weight = weight.transpose(0, 1).contiguous()  # once, for all its uses below
            maps = blur(F.conv_transpose2d(x, weight.to(x.dtype), stride=2), padding=1, gain=4.0)
        else:
            maps = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return maps, None
        squares = (weight * weight).sum((2, 3))  # a product's derivative takes fewer passes than a square's
        squares = styles.square() @ (squares if self.up else squares.T)
        return maps, (squares + 1e-8).rsqrt()[:, :, None, None].to(x.dtype)
