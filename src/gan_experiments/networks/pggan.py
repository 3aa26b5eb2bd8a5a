"""Progressive Growing of GANs for Improved Quality, Stability, and Variation.

Tero Karras, Timo Aila, Samuli Laine, Jaakko Lehtinen, 2018. arXiv:1710.10196

Both networks hold the layers of all resolutions from the beginning and use those of the first `grown` doublings from
4x4 (see layers/growing.py). `grown` counts all doublings unless a model sets it.
Differs from the paper: as in the authors' code, the discriminator halves its maps before the activation, not after it.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Count, Resolution, Width, settled
from gan_experiments.layers.equalised import (
    EqualisedConv2d,
    EqualisedDownConv2d,
    EqualisedLinear,
    EqualisedUpConv2d,
    PixelNorm,
)
from gan_experiments.layers.growing import enlarge, shrink, stage_of
from gan_experiments.layers.labels import conditioned_classes, one_hot
from gan_experiments.layers.minibatch import MinibatchStandardDeviation
from gan_experiments.layers.resample import Smooth
from gan_experiments.layers.resolution import doublings_from_4, require_resolution, start_of, widths_of

LEAK = 0.2
GAIN = math.sqrt(2)
"""Gain of the weights of all layers that an activation follows."""


class PGGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, R, R]`, around [-1, 1] but not bounded (table 2).

    R is 4 · 2^⌈grown⌉ pixels, `resolution` when fully grown. At R pixels there are min(2 · `channel_base` / R,
    `channel_max`) channels. z and the output of each layer are normalised pixelwise. `conditioning="concatenation"`
    concatenates the label, one of `classes`, to z as a one-hot vector. Raises ConfigError unless `resolution` is a
    power of two from 8 on, and for another conditioning or one without classes; in forward for missing labels.
    """

    def __init__(
        self,
        latent_dim: Width = 512,
        resolution: Resolution = 1024,
        channels: Width = 3,
        channel_base: Count = 8192,
        channel_max: Width = 512,
        classes: Classes = 0,
        conditioning: str = "none",
    ) -> None:
        super().__init__()
        self.latent_dim, self.resolution = latent_dim, settled(resolution)
        self.classes = conditioned_classes(conditioning, classes, ("none", "concatenation"), "PGGANGenerator")
        doublings = doublings_from_4(resolution, "PGGANGenerator", smallest=8)
        self.grown, self.start = float(doublings), start_of(resolution, doublings)
        widths = widths_of(2 * channel_base, channel_max, doublings)
        self.norm = PixelNorm()
        # A quarter of the gain, as in the authors' code.
        self.input = EqualisedLinear(
            latent_dim + self.classes, widths[0] * math.prod(self.start), bias=None, gain=GAIN / 4
        )
        self.bias = nn.Parameter(torch.zeros(widths[0]))
        self.first = self._activated(EqualisedConv2d(widths[0], widths[0], 3, gain=GAIN))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *self._activated(EqualisedUpConv2d(before, after, gain=GAIN)),
                *self._activated(EqualisedConv2d(after, after, 3, gain=GAIN)),
            )
            for before, after in itertools.pairwise(widths)
        )
        self.to_rgb = nn.ModuleList(EqualisedConv2d(width, channels, 1) for width in widths)

    def _activated(self, layer: nn.Module) -> nn.Sequential:
        return nn.Sequential(layer, nn.LeakyReLU(LEAK, inplace=True), self.norm)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and optional labels int64 `[N]` -> `[N, channels, R, R]`."""
        if self.classes:
            z = torch.cat([z, one_hot(label, self.classes, z, "PGGANGenerator")], dim=1)
        x = self.input(self.norm(z)).unflatten(1, (-1, *self.start)) + self.bias[:, None, None]
        x = self.first(self.norm(F.leaky_relu_(x, LEAK)))  # [N, 512, 4, 4] -> ... -> [N, 16, 1024, 1024]
        stage, share = stage_of(self.grown)
        before = x
        for block in self.blocks[:stage]:
            before, x = x, block(x)
        images = self.to_rgb[stage](x)
        return images if share == 1 else torch.lerp(enlarge(self.to_rgb[stage - 1](before)), images, share)


class PGGANDiscriminator(nn.Module):
    """Images `[N, channels, R, R]` to logits `[N]`, where R is 4 · 2^⌈grown⌉ pixels: the generator mirrored (table 2).

    At 4x4 the standard deviation over groups of `group` samples is concatenated to the maps. `blur` filters the maps
    with [1, 2, 1] before they are halved (StyleGAN). `conditioning` is "none", "auxiliary" or "projection". "auxiliary"
    (AC-GAN, appendix A.2 of the paper) has `classify` and ignores labels. With "projection" there is one logit for each
    of the `classes`, and the label selects one (Mescheder et al. 2018, arXiv:1801.04406). The other arguments and
    errors are those of the generator. In forward it also raises ConfigError for images of another size.
    """

    def __init__(
        self,
        resolution: Resolution = 1024,
        channels: Width = 3,
        channel_base: Count = 8192,
        channel_max: Width = 512,
        group: Count = 4,
        blur: bool = False,
        classes: Classes = 0,
        conditioning: str = "none",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.conditioning = conditioning
        self.classes = conditioned_classes(conditioning, classes, ("none", "auxiliary", "projection"), name)
        doublings = doublings_from_4(resolution, name, smallest=8)
        self.grown, self.end = float(doublings), start_of(resolution, doublings)
        widths = widths_of(2 * channel_base, channel_max, doublings)
        last = min(channel_base, channel_max)
        self.from_rgb = nn.ModuleList(_activated(EqualisedConv2d(channels, width, 1, gain=GAIN)) for width in widths)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *_activated(EqualisedConv2d(before, before, 3, gain=GAIN)),
                *([Smooth()] if blur else []),
                *_activated(EqualisedDownConv2d(before, after, gain=GAIN)),
            )
            for after, before in itertools.pairwise(widths)
        )
        self.last = nn.Sequential(
            MinibatchStandardDeviation(group),
            *_activated(EqualisedConv2d(widths[0] + 1, widths[0], 3, gain=GAIN)),
            nn.Flatten(),
            *_activated(EqualisedLinear(widths[0] * math.prod(self.end), last, gain=GAIN)),
        )
        self.output = EqualisedLinear(last, self.classes if conditioning == "projection" else 1)
        if conditioning == "auxiliary":
            self.classify = EqualisedLinear(last, self.classes)

    def chains(self) -> list[list[nn.Module]]:
        """Return the parts from the image on, when fully grown; see techniques/freeze_d.py."""
        return [[self.from_rgb[-1], *reversed(self.blocks), self.last, self.output]]

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, R, R]` -> `[N, F]`; the label is used in the head only."""
        stage, share = stage_of(self.grown)
        require_resolution(images, [side << stage for side in self.end], type(self).__name__)
        x = self.from_rgb[stage](images)
        for i in reversed(range(stage)):
            x = self.blocks[i](x)
            if i == stage - 1 and share < 1:
                x = torch.lerp(self.from_rgb[i](shrink(images)), x, share)
        return self.last(x)

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, F]` and optional labels int64 `[N]` -> `[N]`."""
        logits = self.output(features)
        if self.conditioning == "projection":
            return (logits * one_hot(label, self.classes, logits, type(self).__name__)).sum(1)
        return logits.squeeze(1)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images `[N, channels, R, R]` and optional labels int64 `[N]` -> `[N]`."""
        return self.head(self.features(images, label), label)


def _activated(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.LeakyReLU(LEAK, inplace=True))
