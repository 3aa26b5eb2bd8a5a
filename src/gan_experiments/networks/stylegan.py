"""A Style-Based Generator Architecture for Generative Adversarial Networks.

Tero Karras, Samuli Laine, Timo Aila, 2019. arXiv:1812.04948

Both networks grow, like those of pggan.py. Differs from the paper: none; sizes and details, including labels, are those
of the authors' code. The images are not bounded: clamp them before showing or scoring them.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Classes, Count, Depth, Resolution, Share, Width, settled
from gan_experiments.layers.dropout import Draw
from gan_experiments.layers.equalised import EqualisedConv2d, EqualisedLinear, EqualisedUpConv2d
from gan_experiments.layers.growing import enlarge, stage_of
from gan_experiments.layers.labels import conditioned_classes, required_label
from gan_experiments.layers.resample import Smooth
from gan_experiments.layers.resolution import doublings_from_4, start_of, widths_of
from gan_experiments.layers.styles import Mapping, StyledGenerator
from gan_experiments.networks.pggan import GAIN, LEAK, PGGANDiscriminator


class StyleGANGenerator(StyledGenerator):
    """Noise `[N, latent_dim]` to images `[N, channels, R, R]`, around [-1, 1] but not bounded (figure 1b).

    R is 4 · 2^⌈grown⌉ pixels, `resolution` when fully grown, with min(2 · `channel_base` / R, `channel_max`) channels.
    `mapping_layers` layers map z to w, which has `w_dim` values. Styles are mixed with probability `mixing`, among
    those in use at R pixels. `conditioning="concatenation"` concatenates an embedding of the label, one of `classes`,
    to z. See `StyledGenerator` for `draw` and `truncation`. Raises ConfigError unless `resolution` is a power of two
    from 8 on, and for another conditioning or one without classes; in forward for missing labels.
    """

    def __init__(
        self,
        latent_dim: Width = 512,
        resolution: Resolution = 1024,
        channels: Width = 3,
        channel_base: Count = 8192,
        channel_max: Width = 512,
        w_dim: Width = 512,
        mapping_layers: Depth = 8,
        mixing: Share = 0.9,
        classes: Classes = 0,
        conditioning: str = "none",
    ) -> None:
        classes = conditioned_classes(conditioning, classes, ("none", "concatenation"), "StyleGANGenerator")
        doublings = doublings_from_4(resolution, "StyleGANGenerator", smallest=8)
        widths = widths_of(2 * channel_base, channel_max, doublings)
        super().__init__(
            StyleGANMapping(latent_dim, w_dim, mapping_layers, classes),
            StyleGANSynthesis(widths, channels, w_dim, start_of(resolution, doublings)),
            latent_dim,
            2 * len(widths),
            mixing,
        )
        self.resolution = settled(resolution)

    @property
    def grown(self) -> float:
        """The number of doublings from 4x4 pixels that are in use, see layers/growing.py."""
        return self.synthesis.grown  # type: ignore[return-value]

    @grown.setter
    def grown(self, grown: float) -> None:
        self.synthesis.grown = grown  # type: ignore[assignment]

    @property
    def active(self) -> int:
        """The number of styles that images of the current size need."""
        return 2 * stage_of(self.grown)[0] + 2


class StyleGANMapping(Mapping):
    """Mapping network of the first StyleGAN's code: z `[N, latent_dim]`, optional label int64 `[N]` -> w `[N, w_dim]`.

    z and the label's embedding are normalised together. The gain multiplies the weights, not the activations.
    """

    def __init__(self, latent_dim: int, w_dim: int, layers: int = 8, classes: int = 0) -> None:
        super().__init__(2 * latent_dim if classes else latent_dim, w_dim, layers)
        self.classes = classes
        self.label = nn.Embedding(classes, latent_dim) if classes else None
        for layer in self.layers:
            layer.scale *= GAIN  # type: ignore[assignment, operator]

    @override
    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        assert z is not None
        if self.label is not None:
            z = torch.cat([z, self.label(required_label(label, "StyleGANGenerator"))], dim=1)
        w = self.norm(z)
        for layer in self.layers:
            w = F.leaky_relu_(layer(w), LEAK)
        return w


class StyleGANSynthesis(nn.Module):
    """Synthesis network: ws `[N, 2 · len(widths), w_dim]` to images `[N, channels, R, R]`, two layers per resolution.

    `widths` are the channels at `start`, height and width, and after each doubling. The first layer's input is a
    learned map, initially ones. `draw` draws the noise of each layer; without it the layers use their noise buffers.
    """

    def __init__(self, widths: list[int], channels: int, w_dim: int, start: tuple[int, int] = (4, 4)) -> None:
        super().__init__()
        self.grown = float(len(widths) - 1)
        self.const = nn.Parameter(torch.ones(widths[0], *start))
        layers = [
            StyledLayer(nn.Identity(), widths[0], w_dim, start),
            StyledLayer(EqualisedConv2d(widths[0], widths[0], 3, bias=False, gain=GAIN), widths[0], w_dim, start),
        ]
        for i, (before, after) in enumerate(itertools.pairwise(widths), start=1):
            size = start[0] << i, start[1] << i
            up = nn.Sequential(EqualisedUpConv2d(before, after, bias=False, gain=GAIN), Smooth())
            layers += [
                StyledLayer(up, after, w_dim, size),
                StyledLayer(EqualisedConv2d(after, after, 3, bias=False, gain=GAIN), after, w_dim, size),
            ]
        self.layers = nn.ModuleList(layers)
        self.to_rgb = nn.ModuleList(EqualisedConv2d(width, channels, 1) for width in widths)

    @override
    def forward(self, ws: Tensor, draw: Draw | None = None) -> Tensor:
        stage, share = stage_of(self.grown)
        x = before = self.const.expand(ws.shape[0], -1, -1, -1)  # len() would fix the batch of an export
        for i, (layer, w) in enumerate(zip(self.layers[: 2 * stage + 2], ws.unbind(1), strict=False)):
            before = x if i == 2 * stage else before
            x = layer(x, w, draw)
        images = self.to_rgb[stage](x)
        return images if share == 1 else torch.lerp(enlarge(self.to_rgb[stage - 1](before)), images, share)


class StyledLayer(nn.Module):
    """Styled layer: `convolution`, noise, bias, leaky ReLU and adaptive instance norm (equation 1).

    The noise is one map for all channels, times a learned strength of each channel that starts at 0. `draw` draws it;
    without `draw` it is the buffer `noise` `[H, W]`. The style, an affine function of w, holds each
    channel's scale minus 1 and its offset after normalisation.
    """

    noise: Tensor

    def __init__(self, convolution: nn.Module, channels: int, w_dim: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = convolution
        self.strength = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.affine = EqualisedLinear(w_dim, 2 * channels)
        self.register_buffer("noise", torch.randn(size))

    def forward(self, x: Tensor, w: Tensor, draw: Draw | None = None) -> Tensor:
        """Map `[N, inputs, H, W]` and w `[N, w_dim]` to `[N, channels, H, W]`."""
        noise = self.noise if draw is None else draw(torch.randn, len(x), 1, *self.noise.shape).to(x.dtype)
        added = torch.addcmul(self.bias[:, None, None], noise, self.strength[:, None, None])
        return adain(F.leaky_relu_(self.convolution(x) + added, LEAK), self.affine(w))


def adain(x: Tensor, style: Tensor) -> Tensor:
    """Normalise maps `[N, C, H, W]` to mean b and deviation |s + 1| (ε = 1e-8); the style `[N, 2C]` holds s, b."""
    n, channels = x.shape[:2]
    scale, offset = style.to(x.dtype).unflatten(1, (2, channels)).unbind(1)
    # As the channels of a single image, all maps are normalised and scaled in one pass.
    maps = x.reshape(1, n * channels, *x.shape[2:])
    maps = F.batch_norm(maps, None, None, (scale + 1).flatten(), offset.flatten(), training=True, eps=1e-8)
    return maps.reshape(x.shape)


class StyleGANDiscriminator(PGGANDiscriminator):
    """`PGGANDiscriminator` with a filter of [1, 2, 1] before the maps are halved; `settings` are its arguments."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(blur=True, **settings)
