"""A tiny generator with styles, for the tests that need one with simple answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.layers.equalised import EqualisedLinear


class Mapping(nn.Module):
    """z and a class -> w [N, w_dim]."""

    def __init__(self, latent_dim: int, w_dim: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, w_dim) if classes else None
        self.linear = nn.Linear(latent_dim, w_dim)
        self.register_buffer("average", torch.full((w_dim,), 0.25))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        w = torch.tanh(self.linear(z))
        return w if self.embed is None else w + self.embed(label)


class Layer(nn.Module):
    """A constant map scaled by a style, with fixed noise."""

    def __init__(self, w_dim: int, channels: int, side: int) -> None:
        super().__init__()
        self.affine = EqualisedLinear(w_dim, channels, bias=1.0)
        self.pattern = nn.Parameter(torch.randn(channels, side, side))
        self.register_buffer("noise", torch.randn(side, side))

    def forward(self, w: Tensor, draw: Any = None) -> Tensor:
        return self.affine(w)[:, :, None, None] * self.pattern + 0.1 * self.noise


class Synthesis(nn.Module):
    """The layers of two to a resolution, added up at the full one."""

    def __init__(self, w_dim: int, channels: int, resolution: int) -> None:
        super().__init__()
        sides = [4 * 2 ** (style // 2) for style in range(2 * resolution.bit_length() - 4)]
        self.resolution = resolution
        self.layers = nn.ModuleList(Layer(w_dim, channels, side) for side in sides)

    def forward(self, ws: Tensor, draw: Any = None) -> Tensor:
        maps = [layer(w, draw) for layer, w in zip(self.layers, ws.unbind(1), strict=True)]
        return sum(nn.functional.interpolate(m, self.resolution) for m in maps) / 4  # type: ignore[return-value]


class Styled(nn.Module):
    """See the contract of generators with styles in models/noise_to_image.py."""

    styled = drawn = True

    def __init__(
        self, latent_dim: int = 8, w_dim: int = 6, resolution: int = 32, channels: int = 1, classes: int = 0
    ) -> None:
        super().__init__()
        self.latent_dim, self.w_dim, self.classes, self.resolution = latent_dim, w_dim, classes, resolution
        self.mapping = Mapping(latent_dim, w_dim, classes)
        self.synthesis = Synthesis(w_dim, channels, resolution)
        self.styles = len(self.synthesis.layers)

    def truncate(self, w: Tensor, truncation: float | None, cutoff: int | None = None) -> Tensor:
        ws = w[:, None].expand(-1, self.styles, -1) if w.ndim == 2 else w
        if truncation is None:
            return ws
        ws = ws.clone()
        ws[:, :cutoff] = self.mapping.average.lerp(ws[:, :cutoff], truncation)
        return ws

    def forward(
        self, z: Tensor, label: Tensor | None = None, draw: Any = None, truncation: float | None = None
    ) -> Tensor:
        return self.synthesis(self.truncate(self.mapping(z, label), truncation), draw)
