"""Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network.

Christian Ledig, Lucas Theis, Ferenc Huszar, Jose Caballero, et al., 2016. arXiv:1609.04802

`SRResNet` and `SRGANDiscriminator` are the paper's (figure 4). `MSRResNet` is the generator that BasicSR and most later
work train instead: it has no batch norm, because that leaves artefacts, and adds its output to a bilinear enlargement.

Differs from the paper: low-resolution images are in [-1, 1], like all images here, where the paper has [0, 1]; the
discriminator returns logits, without the sigmoid.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Depth, Resolution, Width, settled
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_kaiming
from gan_experiments.layers.resolution import require_multiple, require_resolution, start_of

FACTORS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class SRResNet(nn.Module):
    """Images to `scale` times larger ones, `[N, channels, H, W]` -> `[N, channels, scale·H, scale·W]`, about [-1, 1].

    Conv9, `blocks` residual blocks with batch norm and PReLU, a long skip, a pixel shuffle for each prime factor of
    `scale`, and conv9 without a nonlinearity. Raises ConfigError for scales other than 2, 3, 4 and 8.
    """

    multiple = 1

    def __init__(self, scale: Width = 4, channels: Width = 3, width: Width = 64, blocks: Depth = 16) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(SRResNetBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )
        enlarge: list[nn.Module] = []
        for factor in _factors(scale, "SRResNet"):
            enlarge += [nn.Conv2d(width, factor**2 * width, 3, padding=1), nn.PixelShuffle(factor), nn.PReLU()]
        self.enlarge = nn.Sequential(*enlarge)
        self.last = nn.Conv2d(width, channels, 9, padding=4)

    def forward(self, images: Tensor) -> Tensor:
        """Return the enlarged images."""
        x = self.first(images)
        return self.last(self.enlarge(x + self.body(x)))


class SRResNetBlock(nn.Module):
    """Residual block of conv3, batch norm, PReLU, conv3, batch norm: `[N, C, H, W]` -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the block's residual."""
        return x + self.layers(x)


class SRGANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]` (figure 4).

    Eight 3x3 convolutions of 64 to 512 channels, every second one of stride 2, with batch norm on all but the first,
    then linear layers of 1024 units and one. `resolution` is that of the training crops, 96 in the paper.
    `batch_norm=False` is not the paper's: gradient penalties need it. Raises ConfigError unless 16 divides
    `resolution`, and in forward for images of another resolution.
    """

    def __init__(
        self, resolution: Resolution = 96, channels: Width = 3, width: Width = 64, batch_norm: bool = True
    ) -> None:
        super().__init__()
        require_multiple(resolution, 16, "SRGANDiscriminator")
        self.resolution = settled(resolution)
        stack: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        narrow = width
        for i in range(1, 8):
            wide = width * 2 ** (i // 2)  # 64, 128, 128, 256, 256, 512, 512
            stack += [
                nn.Conv2d(narrow, wide, 3, stride=1 + i % 2, padding=1),
                nn.BatchNorm2d(wide) if batch_norm else nn.Identity(),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            narrow = wide
        self.layers = nn.Sequential(*stack)
        self.head = nn.Sequential(
            nn.Linear(narrow * math.prod(start_of(resolution, 4)), 16 * width),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(16 * width, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, `[N]`."""
        require_resolution(images, self.resolution, "SRGANDiscriminator")
        return self.head(self.layers(images).flatten(1)).squeeze(1)


class MSRResNet(nn.Module):
    """Images to `scale` times larger ones, `[N, channels, H, W]` -> `[N, channels, scale·H, scale·W]`, about [-1, 1].

    Like `SRResNet`, but without batch norm and the long skip, and with 3x3 convolutions and leaky ReLU. Its output is
    added to the bilinear enlargement. Raises ConfigError for scales other than 2, 3, 4 and 8.
    """

    multiple = 1

    def __init__(self, scale: int = 4, channels: int = 3, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.1, inplace=True))
        self.body = nn.Sequential(*(MSRResNetBlock(width) for _ in range(blocks)))
        enlarge: list[nn.Module] = []
        for factor in _factors(scale, "MSRResNet"):
            enlarge += [nn.Conv2d(width, factor**2 * width, 3, padding=1), nn.PixelShuffle(factor)]
            enlarge += [nn.LeakyReLU(0.1, inplace=True)]
        self.enlarge = nn.Sequential(*enlarge)
        self.last = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(width, channels, 3, padding=1),
        )
        init_kaiming(self, scale=0.1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the enlarged images."""
        detail = self.last(self.enlarge(self.body(self.first(images))))
        return F.interpolate(images, scale_factor=self.scale, mode="bilinear", align_corners=False) + detail


class MSRResNetBlock(nn.Module):
    """Residual block of conv3, ReLU, conv3: `[N, C, H, W]` -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the block's residual."""
        return x + self.layers(x)


def _factors(scale: int, network: str) -> tuple[int, ...]:
    if scale not in FACTORS:
        raise ConfigError(f"{network} cannot enlarge {scale} times: type data.scale=2, 3, 4 or 8")
    return FACTORS[scale]
