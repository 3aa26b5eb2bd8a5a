"""StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation.

Yunjey Choi, Minje Choi, Munyoung Kim, Jung-Woo Ha, Sunghun Kim, Jaegul Choo, 2017. arXiv:1711.09020

Differs from the paper: none (appendix 7.2). Instance norm keeps no running statistics: the authors' code does and never
uses them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Depth, Width
from gan_experiments.layers.resolution import require_multiple, require_resolution, require_sides


class StarGANGenerator(nn.Module):
    """Images and the attributes wanted to images in [-1, 1], `[N, channels, H, W]`, `[N, classes]` -> the same shape.

    Zeros pad, never reflections: they are what lets the constant maps of the attributes through instance norm. Needs
    sides that `multiple`, 4, divides: forward raises ConfigError for others.
    """

    multiple, smallest = 4, 8

    def __init__(self, channels: Width = 3, classes: Classes = 5, width: Width = 64, blocks: Depth = 6) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(
            nn.Conv2d(channels + classes, width, 7, padding=3, bias=False),
            *_norm_relu(width),  # [N, 64, H, W]
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            *_norm_relu(2 * width),  # [N, 128, H/2, W/2]
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1, bias=False),
            *_norm_relu(4 * width),  # [N, 256, H/4, W/4]
            *(StarGANBlock(4 * width) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
            *_norm_relu(2 * width),  # [N, 128, H/2, W/2]
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            *_norm_relu(width),  # [N, 64, H, W]
            nn.Conv2d(width, channels, 7, padding=3, bias=False),
            nn.Tanh(),
        )

    def forward(self, images: Tensor, attributes: Tensor) -> Tensor:
        """The images with other attributes; these are 0 or 1, of any type, a one-hot row for exclusive domains."""
        require_sides(images, self.multiple, "StarGANGenerator", self.smallest)
        maps = attributes.to(images.dtype)[:, :, None, None].expand(-1, -1, *images.shape[-2:])
        return self.layers(torch.cat([images, maps], dim=1))


class StarGANBlock(nn.Module):
    """Two zero-padded 3x3 convolutions beside the identity, no ReLU after the sum: `[N, C, H, W]`, unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            *_norm_relu(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x and what the block adds to it."""
        return x + self.layers(x)


class StarGANDiscriminator(nn.Module):
    """Images to a logit for each patch and a logit for each attribute, without any norm.

    `layers` convolutions of stride 2, each twice as wide: 64 to 2048 at 128 pixels, where 2x2 features are left.
    Raises ConfigError unless 2^`layers` divides `resolution`, and in forward for images of another resolution.
    """

    def __init__(
        self, resolution: Width = 128, channels: Width = 3, classes: Classes = 5, width: Width = 64, layers: Depth = 6
    ) -> None:
        super().__init__()
        deepest = (resolution & -resolution).bit_length() - 1 - (resolution.bit_count() == 1)  # 2x2 or more are left
        instead = f"model.discriminator.layers={deepest}" if deepest > 1 else ""
        require_multiple(resolution, 2**layers, "StarGANDiscriminator", instead)
        self.classes, self.resolution = classes, resolution
        stack: list[nn.Module] = []
        narrow, wide = channels, width
        for _ in range(layers):
            stack += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.01, inplace=True)]
            narrow, wide = wide, 2 * wide
        self.layers = nn.Sequential(*stack)
        self.to_logits = nn.Conv2d(narrow, 1, 3, padding=1, bias=False)
        self.to_classes = nn.Conv2d(narrow, classes, resolution // 2**layers, bias=False)

    def features(self, images: Tensor) -> Tensor:
        """What both heads see, `[N, channels, H, W]` -> `[N, 2048, H/64, W/64]`."""
        require_resolution(images, self.resolution, "StarGANDiscriminator")
        return self.layers(images)

    def head(self, features: Tensor) -> Tensor:
        """Features to the logits of patches, `[N, 1, H/64, W/64]`."""
        return self.to_logits(features)

    def classify(self, features: Tensor) -> Tensor:
        """Features to the logits of the attributes, `[N, classes]`."""
        return self.to_classes(features).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the images' patches."""
        return self.head(self.features(images))


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels, affine=True), nn.ReLU(inplace=True)]
