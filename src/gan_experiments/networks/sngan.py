"""Spectral Normalization for Generative Adversarial Networks.

Takeru Miyato, Toshiki Kataoka, Masanori Koyama, Yuichi Yoshida, 2018. arXiv:1802.05957
With labels: cGANs with Projection Discriminator. Takeru Miyato, Masanori Koyama, 2018. arXiv:1802.05637

The ResNets of appendix B.4 and of the authors' code (pfnet-research/sngan_projection e84b1a5): of constant width at 32
pixels (CIFAR-10), pyramids from 48 (STL-10) to 256.
Differs from the paper: none. The choices of `conditioning` are those of the second paper's experiments.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Resolution, Width, sides
from gan_experiments.layers.conditional_batch_norm import ClassConditionalBatchNorm2d
from gan_experiments.layers.init import init_uniform
from gan_experiments.layers.labels import conditioned_classes, required_label
from gan_experiments.layers.resolution import start_of
from gan_experiments.layers.spectral_norm import spectral_norm_layers
from gan_experiments.networks.resnet_blocks import (
    DiscriminatorBlock,
    GeneratorBlock,
    Head,
    Norm,
    at_resolution,
    sum_pool,
)

# Channels as multiples of the width: the generator's from its smallest map to the image's size, ...
GENERATOR = {
    32: (4, 4, 4, 4),
    48: (8, 4, 2, 1),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
}
# ... and the discriminator's for each block, with the number of blocks that halve the size.
DISCRIMINATOR = {
    32: ((2, 2, 2, 2), 2),
    48: ((1, 2, 4, 8, 16), 4),
    64: ((1, 2, 4, 8, 16), 5),
    128: ((1, 2, 4, 8, 16, 16), 5),
    256: ((1, 2, 4, 8, 8, 16, 16), 6),
}
EPS = 2e-5  # Chainer's default for batch norm


class SNGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]` in [-1, 1].

    `width` is the number of channels of the narrowest layer. The shorter side counts of a rectangle. At 32 pixels all
    layers have 4 · `width` channels instead. With `classes` the blocks' batch norms have a scale and an offset for each
    class. Raises ConfigError for a resolution without a network in the papers, and in forward for a missing label.
    """

    def __init__(
        self,
        latent_dim: Width = 128,
        resolution: Resolution = 32,
        channels: Width = 3,
        width: Width = 64,
        classes: Classes = 0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.classes = latent_dim, classes
        widths = [width * multiple for multiple in at_resolution(GENERATOR, resolution, self)]
        self.start = start_of(resolution, len(widths) - 1)  # 4x4, or 6x6 on the way to 48
        norm: Norm = functools.partial(nn.BatchNorm2d, eps=EPS)
        if classes:
            norm = functools.partial(ClassConditionalBatchNorm2d, classes=classes, eps=EPS)
        self.input = nn.Linear(latent_dim, widths[0] * math.prod(self.start))
        self.blocks = nn.ModuleList(GeneratorBlock(a, b, norm) for a, b in itertools.pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1], eps=EPS)
        self.output = nn.Conv2d(widths[-1], channels, 3, padding=1)
        init_uniform(self.input)
        init_uniform(self.output)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and labels [N] -> `[N, channels, H, W]`."""
        condition = required_label(label, "SNGANGenerator") if self.classes else None
        h = self.input(z).unflatten(1, (-1, *self.start))  # [N, 256, 4, 4] -> ... -> [N, 256, 32, 32]
        for block in self.blocks:
            h = block(h, condition)
        return self.output(F.relu(self.norm(h))).tanh()


class SNGANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`, spectrally normalised throughout.

    `width` is the number of channels of the narrowest block. The shorter side counts of a rectangle. At 32 pixels all
    blocks have 2 · `width` channels instead. `conditioning` is "none", "projection", "auxiliary" (AC-GAN, with a layer
    `classify`) or "concatenation" (an embedding of 128 values at each position after the third block). Raises
    ConfigError for another conditioning, for conditioning without classes, for a resolution without a network in the
    papers, and in forward for a missing label.
    """

    def __init__(
        self,
        resolution: Resolution = 32,
        channels: Width = 3,
        width: Width = 64,
        classes: Classes = 0,
        conditioning: str = "none",
    ) -> None:
        super().__init__()
        choices = ("none", "projection", "auxiliary", "concatenation")
        self.classes = conditioned_classes(conditioning, classes, choices, "SNGANDiscriminator")
        self.conditioning = conditioning
        multiples, halvings = at_resolution(DISCRIMINATOR, resolution, self)
        widths = [width * multiple for multiple in multiples]
        self.embedding = nn.Embedding(classes, 128) if conditioning == "concatenation" else None
        self.blocks = nn.ModuleList([DiscriminatorBlock(channels, widths[0], first=True)])
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths), start=1):
            joining = 128 if i == 3 and self.embedding else 0
            self.blocks.append(DiscriminatorBlock(narrow + joining, wide, halve=i < halvings))
        # The code's last layer has a bias except at 32 pixels.
        self.head = Head(widths[-1], classes, conditioning, bias=min(sides(resolution)) != 32)
        if self.embedding is not None:
            nn.init.xavier_uniform_(self.embedding.weight)
        if conditioning == "auxiliary":
            self.classify = nn.Linear(widths[-1], classes)
            init_uniform(self.classify)
        spectral_norm_layers(self)

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the sums over the last feature maps, `[N, features]`; labels [N] are needed for concatenation only."""
        h = images
        for i, block in enumerate(self.blocks):
            if i == 3 and self.embedding is not None:
                embedded = self.embedding(required_label(label, "SNGANDiscriminator"))[:, :, None, None]
                h = torch.cat([h, embedded.expand(-1, -1, *h.shape[2:])], dim=1)
            h = block(h)
        return sum_pool(h)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images given their labels, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images, label), label)
