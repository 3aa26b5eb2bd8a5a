"""Large Scale GAN Training for High Fidelity Natural Image Synthesis.

Andrew Brock, Jeff Donahue, Karen Simonyan, 2018. arXiv:1809.11096

BigGAN with twice as many blocks, each a bottleneck. Shortcuts drop or add channels; the others pass without weights.
Differs from the paper: the sizes at 32 and 64 pixels are those of the first author's code (ajbrock/BigGAN-PyTorch
9845943); biases start at 0. At 32 pixels the attention is at 16x16, as in PyTorch-StudioGAN; attention=0 removes it, as
in the first author's script for CIFAR-10.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Classes, Depth, Resolution, Width, sides
from gan_experiments.layers.attention import SelfAttention
from gan_experiments.layers.conditional_batch_norm import ConditionalBatchNorm2d
from gan_experiments.layers.labels import conditioned_classes, required_label
from gan_experiments.layers.resolution import start_of
from gan_experiments.layers.spectral_norm import spectral_norm_layers
from gan_experiments.networks.biggan import DISCRIMINATOR, EPS, GENERATOR, draw_biggan
from gan_experiments.networks.resnet_blocks import Head, at_resolution, attention_side, double, sum_pool

BOTTLENECK = 4


class DeepGeneratorBlock(nn.Module):
    """Bottleneck block `[N, channels_in, H, W]` -> `[N, channels_out, ...]`, 2H and 2W with `up` (figure 16b).

    Conv1 to a quarter of the channels, upsampling, conv3, conv3, conv1, each convolution after norm and ReLU. The
    shortcut drops the last channels.
    """

    def __init__(self, channels_in: int, channels_out: int, features: int, up: bool) -> None:
        super().__init__()
        self.channels_out, self.up = channels_out, up
        hidden = channels_in // BOTTLENECK
        self.norms = nn.ModuleList(ConditionalBatchNorm2d(c, features) for c in (channels_in, hidden, hidden, hidden))
        self.conv1 = nn.Conv2d(channels_in, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv3 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv4 = nn.Conv2d(hidden, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Apply the block under a condition [N, features]."""
        h = self.conv1(F.relu(self.norms[0](x, condition)))
        h = F.relu(self.norms[1](h, condition))
        x = x[:, : self.channels_out]
        if self.up:
            h, x = double(h), double(x)
        h = self.conv2(h)
        h = self.conv3(F.relu(self.norms[2](h, condition)))
        return x + self.conv4(F.relu(self.norms[3](h, condition)))


class DeepDiscriminatorBlock(nn.Module):
    """Bottleneck block `[N, channels_in, H, W]` -> `[N, channels_out, ...]`, H/2 and W/2 with `halve` (figure 16c).

    Conv1 to a quarter of the channels, conv3, conv3, mean pooling, conv1, each convolution after ReLU. The shortcut
    keeps its channels and adds the missing ones by a 1x1 convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        hidden = channels_out // BOTTLENECK
        self.conv1 = nn.Conv2d(channels_in, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv3 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv4 = nn.Conv2d(hidden, channels_out, 1)
        self.added = nn.Conv2d(channels_in, channels_out - channels_in, 1) if channels_out > channels_in else None

    @override
    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(F.relu(x))))
        h = F.relu(self.conv3(F.relu(h)))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        if self.added is not None:
            x = torch.cat([x, self.added(x)], dim=1)
        return x + self.conv4(h)


class BigGANDeepGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]` in [-1, 1] (appendix B, figure 16).

    The first layer and the blocks' batch norms receive the whole noise and, with `classes`, the label's embedding of
    `shared_dim` values. `depth` is the number of blocks for each doubling of the size; `width` is ch in the paper.
    `attention` is the shorter side of the feature maps with self-attention (None: 64, or half the resolution if that is
    less; 0: no attention). `init` is "orthogonal" or "normal", N(0, 0.02). All layers except the embedding are
    spectrally normalised. Raises ConfigError for an unknown resolution, attention or init, and in forward for a missing
    label.
    """

    def __init__(
        self,
        latent_dim: Width = 128,
        resolution: Resolution = 128,
        channels: Width = 3,
        width: Width = 128,
        classes: Classes = 0,
        shared_dim: Width = 128,
        depth: Depth = 2,
        attention: Width | None = None,
        init: str = "orthogonal",
    ) -> None:
        super().__init__()
        self.latent_dim, self.classes = latent_dim, classes
        widths = [width * multiple for multiple in at_resolution(GENERATOR, resolution, self)]
        self.start = start_of(resolution, len(widths) - 1)
        places = [4 << i for i in range(1, len(widths))]
        attention = attention_side(attention, resolution, places, self)
        self.embedding = nn.Embedding(classes, shared_dim) if classes else None
        features = latent_dim + (shared_dim if classes else 0)

        self.input = nn.Linear(features, widths[0] * math.prod(self.start))
        self.blocks, self.attend = nn.ModuleList(), nn.ModuleList()
        for side, (wide, narrow) in zip(places, itertools.pairwise(widths), strict=True):
            self.blocks += [DeepGeneratorBlock(wide, wide, features, up=False) for _ in range(depth - 1)]
            self.blocks += [DeepGeneratorBlock(wide, narrow, features, up=True)]
            self.attend += [nn.Identity() for _ in range(depth - 1)]
            self.attend += [SelfAttention(narrow) if side == attention else nn.Identity()]
        self.norm = nn.BatchNorm2d(widths[-1])
        self.output = nn.Conv2d(widths[-1], channels, 3, padding=1)
        draw_biggan(self, init)
        spectral_norm_layers(self, EPS, embeddings=False)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and labels [N] -> `[N, channels, H, W]`."""
        condition = z
        if self.embedding is not None:
            condition = torch.cat([self.embedding(required_label(label, "BigGANDeepGenerator")), z], dim=1)
        h = self.input(condition).unflatten(1, (-1, *self.start))  # [N, 2048, 4, 4] -> ... -> [N, 128, 128, 128]
        for block, attend in zip(self.blocks, self.attend, strict=True):
            h = attend(block(h, condition))
        return self.output(F.relu(self.norm(h))).tanh()


class BigGANDeepDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`, spectrally normalised throughout (appendix B).

    `depth` is the number of blocks in each stage. The other arguments and the errors are those of
    `BigGANDiscriminator`.
    """

    def __init__(
        self,
        resolution: Resolution = 128,
        channels: Width = 3,
        width: Width = 128,
        classes: Classes = 0,
        conditioning: str = "none",
        depth: Depth = 2,
        attention: Width | None = None,
        init: str = "orthogonal",
    ) -> None:
        super().__init__()
        choices = ("none", "projection", "auxiliary")
        self.classes = conditioned_classes(conditioning, classes, choices, "BigGANDeepDiscriminator")
        multiples, halvings = at_resolution(DISCRIMINATOR, resolution, self)
        widths = [width * multiple for multiple in multiples]
        places = [min(sides(resolution)) >> min(i, halvings) for i in range(1, len(widths))]
        attention = attention_side(attention, resolution, places, self)
        attends = places.index(attention) if attention else None
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1)]
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            layers += [DeepDiscriminatorBlock(narrow, wide, halve=i < halvings)]
            layers += [DeepDiscriminatorBlock(wide, wide, halve=False) for _ in range(depth - 1)]
            layers += [SelfAttention(wide)] if i == attends else []
        self.blocks = nn.Sequential(*layers)
        self.head = Head(widths[-1], classes, conditioning)
        if conditioning == "auxiliary":
            self.classify = nn.Linear(widths[-1], classes)
        draw_biggan(self, init)
        spectral_norm_layers(self, EPS)

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the sums over the last feature maps, `[N, features]`; the label is used in the head only."""
        return sum_pool(self.blocks(images))

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images given their labels, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images, label), label)
