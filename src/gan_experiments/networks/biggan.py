"""Large Scale GAN Training for High Fidelity Natural Image Synthesis.

Andrew Brock, Jeff Donahue, Karen Simonyan, 2018. arXiv:1809.11096

SAGAN's networks, wider, with one class embedding shared by all batch norms and a part of the noise for each block.
Differs from the paper: the sizes at 32 and 64 pixels and the options are those of the first author's code
(ajbrock/BigGAN-PyTorch 9845943); biases start at 0. At 32 pixels the attention is at 16x16, as in PyTorch-StudioGAN's
CIFAR-10. The first author's script for CIFAR-10 has no attention: latent_dim=128, width=64, shared_dim=0,
hierarchical=false, attention=0, init=normal.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Resolution, Width, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.attention import SelfAttention
from gan_experiments.layers.conditional_batch_norm import ClassConditionalBatchNorm2d, ConditionalBatchNorm2d
from gan_experiments.layers.labels import conditioned_classes, required_label
from gan_experiments.layers.resolution import start_of
from gan_experiments.layers.spectral_norm import spectral_norm_layers
from gan_experiments.networks.resnet_blocks import (
    GeneratorBlock,
    Head,
    Norm,
    at_resolution,
    attention_side,
    draw_weights,
    sum_pool,
    wide_blocks,
)

# Channels as multiples of the width: the generator's from 4x4 to the image's size, ...
GENERATOR = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}
# ... and the discriminator's for each block, with the number of blocks that halve the size.
DISCRIMINATOR = {
    32: ((4, 4, 4, 4), 2),
    64: ((1, 2, 4, 8, 16), 4),
    128: ((1, 2, 4, 8, 16, 16), 5),
    256: ((1, 2, 4, 8, 8, 16, 16), 6),
}
EPS = 1e-6  # of spectral norm


class BigGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]` in [-1, 1] (appendix B, figure 15).

    `hierarchical` splits the noise in equal parts, one for the first layer and one for each block (figure 15a). Each of
    a block's batch norms projects its part and the label's embedding of `shared_dim` values to a scale and an offset.
    `shared_dim=0` replaces the embedding by a scale and an offset for each class. `width` is ch in the paper.
    `attention` is the shorter side of the feature maps with self-attention (None: 64, or half the resolution if that is
    less; 0: no attention). `init` is "orthogonal" or "normal", N(0, 0.02). All layers except embeddings are spectrally
    normalised.

    Raises ConfigError for an unknown resolution, attention or init, for a `latent_dim` that does not split into equal
    parts, for `hierarchical` with classes but without a shared embedding, and in forward for a missing label.
    """

    def __init__(
        self,
        latent_dim: Width = 120,
        resolution: Resolution = 128,
        channels: Width = 3,
        width: Width = 96,
        classes: Classes = 0,
        shared_dim: Width = 128,
        hierarchical: bool = True,
        attention: Width | None = None,
        init: str = "orthogonal",
    ) -> None:
        super().__init__()
        self.latent_dim, self.classes = latent_dim, classes
        widths = [width * multiple for multiple in at_resolution(GENERATOR, resolution, self)]
        self.start = start_of(resolution, len(widths) - 1)
        places = [4 << i for i in range(1, len(widths))]
        attention = attention_side(attention, resolution, places, self)
        parts = len(widths) if hierarchical else 1  # the blocks are one fewer than the widths
        if latent_dim % parts:
            raise ConfigError(
                f"BigGANGenerator was given latent_dim={latent_dim}, which does not split in {parts} parts: type"
                f" latent_dim={max(latent_dim // parts, 1) * parts}, or hierarchical=false"
            )
        self.part = latent_dim // parts
        self.embedding = nn.Embedding(classes, shared_dim) if classes and shared_dim else None
        norm = self._norm((shared_dim if classes else 0) + (self.part if hierarchical else 0), hierarchical)

        self.input = nn.Linear(self.part, widths[0] * math.prod(self.start))
        self.blocks = nn.ModuleList(GeneratorBlock(a, b, norm) for a, b in itertools.pairwise(widths))
        self.attend = nn.ModuleList(
            SelfAttention(wide) if side == attention else nn.Identity()
            for side, wide in zip(places, widths[1:], strict=True)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.output = nn.Conv2d(widths[-1], channels, 3, padding=1)
        draw_biggan(self, init)
        spectral_norm_layers(self, EPS, embeddings=False)

    def _norm(self, features: int, hierarchical: bool) -> Norm:
        if self.classes and self.embedding is None:
            if hierarchical:
                raise ConfigError(
                    "BigGANGenerator was given hierarchical=true and shared_dim=0: parts of the noise join a shared"
                    " embedding; type shared_dim=128 or hierarchical=false"
                )
            return functools.partial(ClassConditionalBatchNorm2d, classes=self.classes)
        return functools.partial(ConditionalBatchNorm2d, features=features) if features else nn.BatchNorm2d

    def conditions(self, z: Tensor, label: Tensor | None) -> list[Tensor | None]:
        """Return the condition of each block's norms, made of the block's part of the noise and the label."""
        parts = list(z.split(self.part, dim=1)[1:])
        if not self.classes:
            return parts or [None] * len(self.blocks)
        given = required_label(label, "BigGANGenerator")
        if self.embedding is None:
            return [given] * len(self.blocks)
        embedded = self.embedding(given)
        return [torch.cat([embedded, part], dim=1) for part in parts] or [embedded] * len(self.blocks)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and labels [N] -> `[N, channels, H, W]`."""
        h = self.input(z[:, : self.part]).unflatten(1, (-1, *self.start))  # [N, 1536, 4, 4] -> ... -> [N, 96, 128, 128]
        for block, attend, condition in zip(self.blocks, self.attend, self.conditions(z, label), strict=True):
            h = attend(block(h, condition))
        return self.output(F.relu(self.norm(h))).tanh()


class BigGANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`, spectrally normalised throughout (appendix B).

    `width` is ch in the paper; `attention` and `init` are as in the generator. `conditioning` is "none", "projection"
    (the paper's) or "auxiliary" (AC-GAN, with a layer `classify`). Raises ConfigError for another conditioning, for
    conditioning without classes, for an unknown resolution, attention or init, and in forward for a missing label.
    """

    def __init__(
        self,
        resolution: Resolution = 128,
        channels: Width = 3,
        width: Width = 96,
        classes: Classes = 0,
        conditioning: str = "none",
        attention: Width | None = None,
        init: str = "orthogonal",
    ) -> None:
        super().__init__()
        choices = ("none", "projection", "auxiliary")
        self.classes = conditioned_classes(conditioning, classes, choices, "BigGANDiscriminator")
        multiples, halvings = at_resolution(DISCRIMINATOR, resolution, self)
        widths = [channels, *(width * multiple for multiple in multiples)]
        places = [min(sides(resolution)) >> min(i, halvings) for i in range(1, len(widths))]
        self.blocks = wide_blocks(widths, halvings, places, attention_side(attention, resolution, places, self))
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


def draw_biggan(network: nn.Module, init: str) -> None:
    """Initialise all weights, embeddings too, "orthogonal" or "normal"; raises ConfigError for another `init`."""
    schemes: dict[str, Callable[[Tensor], object]] = {
        "orthogonal": nn.init.orthogonal_,
        "normal": functools.partial(nn.init.normal_, std=0.02),
    }
    if init not in schemes:
        raise ConfigError(f"{type(network).__name__} was given init={init}: type init=orthogonal or init=normal")
    draw_weights(network, schemes[init])
