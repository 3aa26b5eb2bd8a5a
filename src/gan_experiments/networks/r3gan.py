"""The GAN is dead; long live the GAN! A Modern Baseline GAN.

Nick Huang, Aaron Gokaslan, Volodymyr Kuleshov, James Tompkin, 2024. arXiv:2501.05441

Config E: grouped bottlenecks without any normalisation, initialised as in Fixup (Zhang et al. 2019, arXiv:1901.09321).
Differs from the paper: none (sizes and details as in brownvc/R3GAN 19a7ddf). Images are not bounded by a tanh: clamp
them before showing or scoring them.

The paper's networks, from resolution=32 on: for CIFAR-10 and for FFHQ at 64 and 256 the defaults; for ImageNet-32
width=1536 and group_width=32; for ImageNet-64 also full_width_to=64.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Depth, Resolution, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.labels import conditioned_classes, required_label
from gan_experiments.layers.resample import Downsample, Upsample
from gan_experiments.layers.resolution import doublings_from_4, start_of

LEAK = 0.2
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class R3GANBlock(nn.Module):
    """Residual block: conv1 to `expansion` times the channels, grouped conv3, conv1; `[N, channels, H, W]` unchanged.

    `group_width` is the number of channels of a group, or more than there are for a single group. `blocks` is the
    number of blocks in the whole network, which scales the initial weights of the first two convolutions. The third
    convolution starts at 0, so that the block starts as the identity. Raises ConfigError if `group_width` does not
    divide the channels.
    """

    def __init__(self, channels: int, group_width: int, expansion: int, blocks: int) -> None:
        super().__init__()
        wide = expansion * channels
        if wide > group_width and wide % group_width:
            raise ConfigError(
                f"R3GAN was given group_width={group_width}: {wide} channels do not fall into such groups;"
                f" type group_width={math.gcd(wide, group_width)}"
            )
        self.conv1 = nn.Conv2d(channels, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=max(wide // group_width, 1))
        self.conv3 = nn.Conv2d(wide, channels, 1, bias=False)
        gain = math.sqrt(2 / (1 + LEAK**2)) * blocks ** (-1 / 4)  # Fixup's L^(-1/(2m - 2)) with m = 3 layers
        for layer in (self.conv1, self.conv2):
            _draw(layer, gain)
        nn.init.zeros_(self.conv3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the block's residual."""
        h = F.leaky_relu(self.conv1(x), LEAK)
        return x + self.conv3(F.leaky_relu(self.conv2(h), LEAK))


class R3GANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]`, around [-1, 1] but not bounded.

    Learned 4x4 maps, scaled by the noise, then `blocks` blocks at each resolution, with bilinear upsampling between
    them. There are `width` channels up to `full_width_to` pixels, halved at each doubling from there. With `classes` an
    embedding of `embedding_dim` values is concatenated to the noise. Raises ConfigError unless `resolution` is a power
    of two from 16 on, if channels do not divide into groups, and in forward for a missing label.
    """

    def __init__(
        self,
        latent_dim: Width = 64,
        resolution: Resolution = 32,
        channels: Width = 3,
        width: Width = 768,
        classes: Classes = 0,
        full_width_to: Width = 32,
        group_width: Width = 16,
        expansion: Width = 2,
        blocks: Depth = 2,
        embedding_dim: Width = 64,
    ) -> None:
        super().__init__()
        self.latent_dim, self.classes = latent_dim, classes
        doublings = doublings_from_4(resolution, "R3GANGenerator")
        widths = _widths(width, full_width_to, doublings)
        self.embedding = nn.Embedding(classes, embedding_dim) if classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(classes))
        self.maps = nn.Parameter(torch.randn(width, *start_of(resolution, doublings)))
        self.input = _draw(nn.Linear(latent_dim + (embedding_dim if classes else 0), width, bias=False))
        total = blocks * len(widths)
        layers: list[nn.Module] = [R3GANBlock(width, group_width, expansion, total) for _ in range(blocks)]
        for before, after in itertools.pairwise(widths):
            layers += [Upsample()] if before == after else [_conv1(before, after), Upsample()]
            layers += [R3GANBlock(after, group_width, expansion, total) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers, _conv1(widths[-1], channels))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and labels [N] -> `[N, channels, H, W]`."""
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(required_label(label, "R3GANGenerator"))], dim=1)
        return self.layers(self.maps * self.input(z)[:, :, None, None])  # [N, 768, 4, 4] -> ... -> [N, 3, 32, 32]


class R3GANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`: the generator mirrored.

    `conditioning` is "none" or "projection": the inner product of the class's embedding and the image's features, both
    of `width` values. The other arguments and errors are those of the generator. It also raises ConfigError for another
    conditioning, and for conditioning without classes.
    """

    def __init__(
        self,
        resolution: Resolution = 32,
        channels: Width = 3,
        width: Width = 768,
        classes: Classes = 0,
        conditioning: str = "none",
        full_width_to: Width = 32,
        group_width: Width = 16,
        expansion: Width = 2,
        blocks: Depth = 2,
    ) -> None:
        super().__init__()
        choices = ("none", "projection")
        self.classes = conditioned_classes(conditioning, classes, choices, "R3GANDiscriminator")
        halvings = doublings_from_4(resolution, "R3GANDiscriminator")
        widths = _widths(width, full_width_to, halvings)[::-1]
        total = blocks * len(widths)
        layers: list[nn.Module] = [_conv1(channels, widths[0])]
        for here, after in itertools.pairwise(widths):
            layers += [R3GANBlock(here, group_width, expansion, total) for _ in range(blocks)]
            layers += [Downsample()] if here == after else [Downsample(), _conv1(here, after)]
        layers += [R3GANBlock(width, group_width, expansion, total) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        self.maps = _draw(nn.Conv2d(width, width, start_of(resolution, halvings), groups=width, bias=False))
        self.output = _draw(nn.Linear(width, width if self.classes else 1, bias=False))
        self.embedding = nn.Embedding(classes, width) if self.classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(width * classes))

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the products of the last 4x4 maps with learned ones, `[N, width]`; only the head uses the label."""
        return self.maps(self.layers(images)).flatten(1)

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits `[N]` of features `[N, width]` given their labels `[N]`."""
        h = self.output(features)
        if self.embedding is None:
            return h.squeeze(1)
        return (h * self.embedding(required_label(label, "R3GANDiscriminator"))).sum(dim=1)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images given their labels, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images, label), label)


def _widths(width: int, full_width_to: int, doublings: int) -> list[int]:
    """Return the channels at 4 pixels, 8, 16, ..."""
    return [max(width * full_width_to // max(full_width_to, 4 << i), 1) for i in range(doublings + 1)]


def _conv1(channels_in: int, channels_out: int) -> nn.Conv2d:
    return _draw(nn.Conv2d(channels_in, channels_out, 1, bias=False))


def _draw(layer: Layer, gain: float = 1.0) -> Layer:
    """Draw weights from N(0, gain² / fan_in), where fan_in is that of one group; the bias is 0."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
