"""Self-Attention Generative Adversarial Networks.

Han Zhang, Ian Goodfellow, Dimitris Metaxas, Augustus Odena, 2018. arXiv:1805.08318

SNGAN's pyramids with one self-attention in each network, spectral norm in both, and wide discriminator blocks.
Differs from the paper: none at 128 pixels. There the attention is at 64x64, as in the paper's main result; the released
code (brain-research/self-attention-gan ad9612e) has it at 32x32: attention=32. Other resolutions have SNGAN's widths.
At 32 pixels the attention is at 16x16, as in PyTorch-StudioGAN's CIFAR-10, because the authors' code has no such
network.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Resolution, Width, sides
from gan_experiments.layers.attention import SelfAttention
from gan_experiments.layers.conditional_batch_norm import ClassConditionalBatchNorm2d
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
from gan_experiments.networks.sngan import DISCRIMINATOR, GENERATOR


class SAGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]` in [-1, 1].

    `width` is the number of channels of the narrowest layer; at 32 pixels all layers have 4 · `width` channels instead.
    `attention` is the shorter side of the feature maps with self-attention (None: 64, or half the resolution if that is
    less; 0: no attention). With `classes` the blocks' batch norms have a scale and an offset for each class. All
    convolutions and the linear layer are spectrally normalised. Raises ConfigError for an unknown resolution or
    attention, and in forward for a missing label.
    """

    def __init__(
        self,
        latent_dim: Width = 128,
        resolution: Resolution = 128,
        channels: Width = 3,
        width: Width = 64,
        classes: Classes = 0,
        attention: Width | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim, self.classes = latent_dim, classes
        widths = [width * multiple for multiple in at_resolution(GENERATOR, resolution, self)]
        self.start = start_of(resolution, len(widths) - 1)
        places = [min(self.start) << i for i in range(1, len(widths))]
        attention = attention_side(attention, resolution, places, self)
        norm: Norm = functools.partial(ClassConditionalBatchNorm2d, classes=classes) if classes else nn.BatchNorm2d
        self.input = nn.Linear(latent_dim, widths[0] * math.prod(self.start))
        self.blocks = nn.ModuleList(GeneratorBlock(a, b, norm) for a, b in itertools.pairwise(widths))
        self.attend = nn.ModuleList(
            SelfAttention(wide) if side == attention else nn.Identity()
            for side, wide in zip(places, widths[1:], strict=True)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.output = nn.Conv2d(widths[-1], channels, 3, padding=1)
        draw_weights(self, nn.init.xavier_uniform_, embeddings=False)
        spectral_norm_layers(self, embeddings=False)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and labels [N] -> `[N, channels, H, W]`."""
        condition = required_label(label, "SAGANGenerator") if self.classes else None
        h = self.input(z).unflatten(1, (-1, *self.start))  # [N, 1024, 4, 4] -> ... -> [N, 64, 128, 128]
        for block, attend in zip(self.blocks, self.attend, strict=True):
            h = attend(block(h, condition))
        return self.output(F.relu(self.norm(h))).tanh()


class SAGANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`, spectrally normalised throughout.

    `width` is the number of channels of the narrowest block; at 32 pixels all blocks have 2 · `width` channels instead.
    `attention` is as in the generator. `conditioning` is "none", "projection" (the paper's) or "auxiliary" (AC-GAN,
    with a layer `classify`). Raises ConfigError for another conditioning, for conditioning without classes, for an
    unknown resolution or attention, and in forward for a missing label.
    """

    def __init__(
        self,
        resolution: Resolution = 128,
        channels: Width = 3,
        width: Width = 64,
        classes: Classes = 0,
        conditioning: str = "none",
        attention: Width | None = None,
    ) -> None:
        super().__init__()
        choices = ("none", "projection", "auxiliary")
        self.classes = conditioned_classes(conditioning, classes, choices, "SAGANDiscriminator")
        multiples, halvings = at_resolution(DISCRIMINATOR, resolution, self)
        widths = [channels, *(width * multiple for multiple in multiples)]
        places = [min(sides(resolution)) >> min(i, halvings) for i in range(1, len(widths))]
        attention = attention_side(attention, resolution, places, self)
        self.blocks = wide_blocks(widths, halvings, places, attention)
        self.head = Head(widths[-1], classes, conditioning)
        if conditioning == "auxiliary":
            self.classify = nn.Linear(widths[-1], classes)
        draw_weights(self, nn.init.xavier_uniform_)
        spectral_norm_layers(self)

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the sums over the last feature maps, `[N, features]`; the label is used in the head only."""
        return sum_pool(self.blocks(images))

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images given their labels, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images, label), label)
