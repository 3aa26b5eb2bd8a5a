"""zi2zi: Master Chinese Calligraphy with Conditional Adversarial Networks.

Yuchen Tian, 2017. kaonashi-tyc/zi2zi.

After pix2pix (arXiv:1611.07004), AC-GAN (arXiv:1610.09585) and DTN (arXiv:1611.02200).

Differs from the paper: none; there is no paper, these are the networks of the author's TensorFlow code.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import BelowOne, Count, Resolution, Width, settled
from gan_experiments.layers.dropout import Draw, DrawnDropout
from gan_experiments.layers.plain_norm import require_several
from gan_experiments.layers.resolution import halvings_of, require_multiple, require_resolution, require_sides, start_of
from gan_experiments.networks.wgan_gp import SameConv, SameConvTranspose


class FontUNet(nn.Module):
    """Characters of the source font and target fonts to characters in the target fonts, in [-1, 1].

    `[N, channels, H, W]`, int64 `[N]` -> `[N, channels, H, W]`. It is pix2pix's U-Net with 5x5 convolutions, all with
    biases, and with batch norm on the 1x1 code too. The target font's row of `embedding`, drawn once and never trained,
    is concatenated to the code.

    Sides must be multiples of `multiple`. Raises ConfigError unless `resolution`, or its shorter side, is a power of
    two from 16 on, in forward for other sides, and in training for a batch of one image.
    """

    drawn = True
    embedding: Tensor

    def __init__(
        self,
        classes: Count = 40,
        resolution: Resolution = 256,
        channels: Width = 3,
        width: Width = 64,
        embedding_dim: Width = 128,
        dropout: BelowOne = 0.5,
    ) -> None:
        super().__init__()
        depth = halvings_of(resolution, "FontUNet")
        self.classes, self.multiple = classes, 2**depth
        widths = [width * min(2**i, 8) for i in range(depth)]  # 64, 128, 256, 512, ..., 512
        self.encoder = nn.ModuleList(
            SameConv(narrow, wide) for narrow, wide in zip([channels, *widths], widths, strict=False)
        )
        self.encoder_norms = nn.ModuleList([nn.Identity(), *(nn.BatchNorm2d(wide) for wide in widths[1:])])
        joined = [widths[-1] + embedding_dim, *(2 * wide for wide in reversed(widths[:-1]))]
        made = [*reversed(widths[:-1]), channels]
        self.decoder = nn.ModuleList(SameConvTranspose(*pair) for pair in zip(joined, made, strict=True))
        self.decoder_norms = nn.ModuleList([*(nn.BatchNorm2d(wide) for wide in made[:-1]), nn.Identity()])
        self.dropouts = nn.ModuleList(DrawnDropout(dropout) for _ in range(3))
        self.register_buffer("embedding", 0.01 * torch.randn(classes, embedding_dim))
        for layer in (*self.encoder, *self.decoder):
            _init_weights(layer, truncated=isinstance(layer, SameConv))

    def encode(self, images: Tensor) -> Tensor:
        """Return the code of a character, independent of its font, `[N, 8·width, 1, 1]` at `resolution`."""
        return self._encode(images)[-1]

    def forward(self, images: Tensor, label: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the characters in the fonts `label`; `draw` draws dropout's random numbers, see `DrawnDropout`."""
        return self.with_code(images, label, draw)[0]

    def with_code(self, images: Tensor, label: Tensor, draw: Draw | None = None) -> tuple[Tensor, Tensor]:
        """Return the results of `forward` and of `encode` on the same images, computed together."""
        *skips, code = self._encode(images)
        font = self.embedding[label].to(code.dtype)[:, :, None, None].expand(-1, -1, *code.shape[-2:])
        x = torch.cat([code, font], dim=1)
        for level, (convolution, norm) in enumerate(zip(self.decoder, self.decoder_norms, strict=True)):
            x = norm(convolution(F.relu(x)))
            if level < len(self.dropouts):
                x = self.dropouts[level](x, draw)
            if skips:
                x = torch.cat([x, skips.pop()], dim=1)
        return torch.tanh(x), code

    def _encode(self, images: Tensor) -> list[Tensor]:
        require_sides(images, self.multiple, "FontUNet")
        require_several(images, self)
        x, maps = images, []
        for level, (convolution, norm) in enumerate(zip(self.encoder, self.encoder_norms, strict=True)):
            x = norm(convolution(F.leaky_relu(x, 0.2) if level else x))
            maps.append(x)
        return maps


class FontDiscriminator(nn.Module):
    """Source and target character, concatenated along channels, to a logit, and to a logit for each font.

    `batch_norm=False` is not the author's: gradient penalties need it. Raises ConfigError unless 8 divides
    `resolution`, and in forward for images of another resolution.
    """

    def __init__(
        self,
        classes: Count = 40,
        resolution: Resolution = 256,
        channels: Width = 6,
        width: Width = 64,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        require_multiple(resolution, 8, "FontDiscriminator")
        self.classes, self.resolution = classes, settled(resolution)
        norm = nn.BatchNorm2d if batch_norm else nn.Identity
        self.layers = nn.Sequential(
            SameConv(channels, width),
            nn.LeakyReLU(0.2, inplace=True),
            SameConv(width, 2 * width),
            norm(2 * width),
            nn.LeakyReLU(0.2, inplace=True),
            SameConv(2 * width, 4 * width),
            norm(4 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * width, 8 * width, 5, padding=2),
            norm(8 * width),
            nn.LeakyReLU(0.2, inplace=True),
        )
        features = 8 * width * math.prod(start_of(resolution, 3))
        self.to_logit = nn.Linear(features, 1)
        self.to_classes = nn.Linear(features, classes)
        for layer in (*self.layers, self.to_logit, self.to_classes):
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                _init_weights(layer, truncated=isinstance(layer, nn.Conv2d))

    def features(self, images: Tensor) -> Tensor:
        """Return the input of both heads, `[N, channels, H, W]` -> `[N, 8·width·H/8·W/8]`."""
        require_resolution(images, self.resolution, "FontDiscriminator")
        return self.layers(images).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features, `[N]`."""
        return self.to_logit(features).squeeze(1)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits of the fonts, `[N, classes]`, from the features."""
        return self.to_classes(features)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of pairs of characters, `[N]`."""
        return self.head(self.features(images))


def _init_weights(layer: nn.Module, truncated: bool) -> None:
    """Draw weights from N(0, 0.02), truncated at two standard deviations if `truncated`; the bias is 0."""
    assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    if truncated:
        nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
    else:
        nn.init.normal_(layer.weight, std=0.02)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
