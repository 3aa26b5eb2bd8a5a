"""StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation.

Yunjey Choi, Minje Choi, Munyoung Kim, Jung-Woo Ha, Sunghun Kim, Jaegul Choo, 2017. arXiv:1711.09020

Differs from the paper: none (appendix 7.2). Instance norm keeps no running statistics; the authors' code keeps them but
never uses them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Count, Depth, Resolution, Width, settled, sides
from gan_experiments.layers.resolution import require_multiple, require_resolution, require_sides, start_of


class StarGANGenerator(nn.Module):
    """Images and target attributes to images in [-1, 1], `[N, channels, H, W]`, `[N, classes]` -> images of that shape.

    The padding is zeros, never reflections, because otherwise instance norm would remove the constant maps of the
    attributes. Sides must be multiples of 4 (`multiple`) and at least 8: forward raises ConfigError for others.
    """

    multiple, smallest = 4, 8

    def __init__(self, channels: Width = 3, classes: Count = 5, width: Width = 64, blocks: Depth = 6) -> None:
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
        """Return the images with the given attributes, 0 or 1 of any dtype; exclusive domains are a one-hot row."""
        require_sides(images, self.multiple, "StarGANGenerator", self.smallest)
        maps = attributes.to(images.dtype)[:, :, None, None].expand(-1, -1, *images.shape[-2:])
        return self.layers(torch.cat([images, maps], dim=1))


class StarGANBlock(nn.Module):
    """Residual block of two zero-padded 3x3 convolutions, no ReLU after the sum: `[N, C, H, W]` -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            *_norm_relu(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the block's residual."""
        return x + self.layers(x)


class StarGANDiscriminator(nn.Module):
    """Images to a logit for each patch and a logit for each attribute, without normalisation.

    `layers` convolutions of stride 2, each twice as wide as the one before: 64 to 2048 channels and a last map of 2x2
    at 128 pixels. Raises ConfigError unless 2^`layers` divides `resolution`, and in forward for images of another
    resolution.
    """

    def __init__(
        self,
        resolution: Resolution = 128,
        channels: Width = 3,
        classes: Count = 5,
        width: Width = 64,
        layers: Depth = 6,
    ) -> None:
        super().__init__()
        common = math.gcd(*sides(resolution))
        deepest = (
            (common & -common).bit_length() - 1 - (min(sides(resolution)).bit_count() == 1)
        )  # 2x2 or more are left
        instead = f"model.discriminator.layers={deepest}" if deepest > 1 else ""
        require_multiple(resolution, 2**layers, "StarGANDiscriminator", instead)
        self.classes, self.resolution = classes, settled(resolution)
        stack: list[nn.Module] = []
        narrow, wide = channels, width
        for _ in range(layers):
            stack += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.01, inplace=True)]
            narrow, wide = wide, 2 * wide
        self.layers = nn.Sequential(*stack)
        self.to_logits = nn.Conv2d(narrow, 1, 3, padding=1, bias=False)
        self.to_classes = nn.Conv2d(narrow, classes, start_of(resolution, layers), bias=False)

    def features(self, images: Tensor) -> Tensor:
        """Return the input of both heads, `[N, channels, H, W]` -> `[N, 2048, H/64, W/64]`."""
        require_resolution(images, self.resolution, "StarGANDiscriminator")
        return self.layers(images)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of patches, `[N, 1, H/64, W/64]`, from the features."""
        return self.to_logits(features)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits of the attributes, `[N, classes]`, from the features."""
        return self.to_classes(features).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the images' patches, `[N, 1, H/64, W/64]`."""
        return self.head(self.features(images))


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels, affine=True), nn.ReLU(inplace=True)]
