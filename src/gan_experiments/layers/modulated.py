"""Convolution whose inputs are scaled by a style, and whose outputs are scaled back to unit variance.

Karras et al. 2020, arXiv:1912.04958, section 2.2. The maps are scaled and not the weights, so that one convolution
does the whole batch: equal to rounding, exportable with any batch, and differentiable as often as convolution is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.layers.equalised import EqualisedLinear
from gan_experiments.layers.resample import blur


class ModulatedConv2d(nn.Module):
    """`[N, inputs, H, W]` and w `[N, w_dim]` -> `[N, outputs, H, W]`, or twice the size with `up`; `size` is odd.

    Each sample's weights are multiplied by its style, one number per input channel, an affine function of w that
    starts around 1 (equation 1); with `demodulate` they are divided by their norm over all that an output sees
    (equation 3, ε = 1e-8), else by √(inputs · size²). With `up` the convolution is a transposed one of stride 2,
    followed by the filter [1, 3, 3, 1]. Without a bias.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, w_dim: int, up: bool = False, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.affine = EqualisedLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.up, self.demodulate = up, demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """See the class."""
        maps, scale = self.parts(x, w)
        return maps if scale is None else maps * scale

    def parts(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        """The maps `[N, outputs, H, W]` before they are scaled back, and the scales `[N, outputs, 1, 1]` if any.

        In float16 both styles and weights are divided by their largest numbers before, which demodulation undoes.
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
            weight = weight.transpose(0, 1).contiguous()  # once, for all that looks at it
            maps = blur(F.conv_transpose2d(x, weight.to(x.dtype), stride=2), padding=1, gain=4.0)
        else:
            maps = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] // 2)
        if not self.demodulate:
            return maps, None
        squares = (weight * weight).sum((2, 3))  # a product's derivative takes fewer passes than a square's
        squares = styles.square() @ (squares if self.up else squares.T)
        return maps, (squares + 1e-8).rsqrt()[:, :, None, None].to(x.dtype)
