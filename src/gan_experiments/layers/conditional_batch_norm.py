"""Batch norm whose scale and offset depend on a condition (de Vries et al. 2017, arXiv:1707.00683)."""

from __future__ import annotations

from torch import Tensor, nn


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with scale 1 + W_g c and offset W_b c for a condition c, as in BigGAN; the matrices have no bias.

    `channels` is the number of channels of the feature maps, `features` the size of c.
    """

    def __init__(self, channels: int, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.gain = self._projection(features, channels)
        self.bias = self._projection(features, channels)

    def _projection(self, features: int, channels: int) -> nn.Module:
        return nn.Linear(features, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise maps [N, channels, H, W] under conditions [N, features] -> [N, channels, H, W]."""
        gain, bias = self.gain(condition), self.bias(condition)  # [N, channels]
        return self.norm(x) * (1 + gain[:, :, None, None]) + bias[:, :, None, None]


class ClassConditionalBatchNorm2d(ConditionalBatchNorm2d):
    """Batch norm with a scale and an offset for each class, which start at 1 and 0.

    As in the authors' code of Miyato & Koyama 2018 (sngan_projection). The condition is the label, int64 [N]. The
    weights hold the scale minus 1.
    """

    def __init__(self, channels: int, classes: int, eps: float = 1e-5) -> None:
        super().__init__(channels, classes, eps)

    def _projection(self, features: int, channels: int) -> nn.Module:
        table = nn.Embedding(features, channels)
        nn.init.zeros_(table.weight)
        return table
