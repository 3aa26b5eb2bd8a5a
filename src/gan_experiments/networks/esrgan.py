"""ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks.

Xintao Wang, Ke Yu, Shixiang Wu, Jinjin Gu, Yihao Liu, Chao Dong, Chen Change Loy, Yu Qiao, Xiaoou Tang, 2018.
arXiv:1809.00219

Differs from the paper: none (section 3). Details are as in BasicSR, except for the discriminator's loss, which is the
paper's: its gradient flows through both means, which BasicSR detaches. `UNetDiscriminator` is Real-ESRGAN's (Wang et
al. 2021, arXiv:2107.10833, section 3.4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Depth, Resolution, Width, settled
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_kaiming
from gan_experiments.layers.resolution import doublings_from_4, require_resolution, require_sides, start_of
from gan_experiments.layers.spectral_norm import spectral_norm

RESIDUAL_SCALE = 0.2


class RRDBNet(nn.Module):
    """Images to `scale` times larger ones, `[N, channels, H, W]` -> `[N, channels, scale·H, scale·W]`, about [-1, 1].

    `blocks` residual-in-residual dense blocks without batch norm, a long skip, two nearest-neighbour upsamplings
    (section 3.1, figure 4). At `scale=2` the input's 2x2 squares of pixels become channels first (pixel unshuffle).
    Sides must be multiples of `multiple`. Raises ConfigError for scales other than 2 and 4, and in forward for other
    sides.
    """

    def __init__(
        self, scale: Width = 4, channels: Width = 3, width: Width = 64, blocks: Depth = 23, growth: Width = 32
    ) -> None:
        super().__init__()
        if scale not in (2, 4):
            raise ConfigError(f"RRDBNet cannot enlarge {scale} times: type data.scale=2 or data.scale=4")
        self.scale = scale
        self.multiple = 4 // scale
        self.first = nn.Conv2d(channels * self.multiple**2, width, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1))
        self.double1 = nn.Conv2d(width, width, 3, padding=1)
        self.double2 = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the enlarged images."""
        require_sides(images, self.multiple, "RRDBNet")
        x = self.first(F.pixel_unshuffle(images, self.multiple))
        x = x + self.body(x)
        for convolution in (self.double1, self.double2):
            x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.last(x)


class RRDB(nn.Module):
    """Residual block of three dense blocks, `[N, channels, H, W]` -> the same shape (figure 4)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus a fifth of the blocks' output."""
        return x + RESIDUAL_SCALE * self.blocks(x)


class DenseBlock(nn.Module):
    """Residual block of five densely connected 3x3 convolutions: `[N, channels, H, W]` -> the same shape."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        made = [growth] * 4 + [channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels + i * growth, wide, 3, padding=1) for i, wide in enumerate(made)
        )
        init_kaiming(self, scale=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus a fifth of the last convolution's output."""
        maps = [x]
        *dense, last = self.convolutions
        for convolution in dense:
            maps.append(F.leaky_relu(convolution(torch.cat(maps, dim=1)), 0.2))
        return x + RESIDUAL_SCALE * last(torch.cat(maps, dim=1))


class VGGDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`: BasicSR's discriminator for ESRGAN and SRGAN.

    A 3x3 convolution and a 4x4 one of stride 2 at each size down to 4x4, with widths 64, 128, 256, 512, 512, ... and
    batch norm on all but the first, then linear layers of 100 units and one. `resolution` is that of the training
    crops. `batch_norm=False` is not BasicSR's: gradient penalties need it. Raises ConfigError unless `resolution` is a
    power of two from 16 on, and in forward for images of another resolution.
    """

    def __init__(
        self, resolution: Resolution = 128, channels: Width = 3, width: Width = 64, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.resolution = settled(resolution)
        stack: list[nn.Module] = []
        narrow, halvings = channels, doublings_from_4(resolution, "VGGDiscriminator")
        for i in range(halvings):
            wide = width * min(2**i, 8)
            stack += [nn.Conv2d(narrow, wide, 3, padding=1, bias=i == 0 or not batch_norm)]
            stack += [nn.BatchNorm2d(wide)] if i and batch_norm else []
            stack += [
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(wide, wide, 4, stride=2, padding=1, bias=not batch_norm),
            ]
            stack += [nn.BatchNorm2d(wide)] if batch_norm else []
            stack += [nn.LeakyReLU(0.2, inplace=True)]
            narrow = wide
        self.layers = nn.Sequential(*stack)
        features = narrow * math.prod(start_of(resolution, halvings))
        self.head = nn.Sequential(nn.Linear(features, 100), nn.LeakyReLU(0.2, inplace=True), nn.Linear(100, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, `[N]`."""
        require_resolution(images, self.resolution, "VGGDiscriminator")
        return self.head(self.layers(images).flatten(1)).squeeze(1)


class UNetDiscriminator(nn.Module):
    """Images to a logit for each pixel, `[N, channels, H, W]` -> `[N, 1, H, W]`, a U-Net with spectral norm.

    Three convolutions of stride 2 and three bilinear upsamplings, with skips that are added. Sides must be multiples of
    8: forward raises ConfigError for others.
    """

    def __init__(self, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 4, stride=2, padding=1, bias=False))
            for i in range(3)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(width * 2 ** (i + 1), width * 2**i, 3, padding=1, bias=False)) for i in (2, 1, 0)
        )
        self.last = nn.Sequential(
            spectral_norm(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            nn.LeakyReLU(0.2, inplace=True),
            spectral_norm(nn.Conv2d(width, width, 3, padding=1, bias=False)),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit for each pixel, `[N, 1, H, W]`."""
        require_sides(images, 8, "UNetDiscriminator")
        skips = [F.leaky_relu(self.first(images), 0.2)]
        for convolution in self.down:
            skips.append(F.leaky_relu(convolution(skips[-1]), 0.2))
        x = skips.pop()
        for convolution in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(convolution(x), 0.2) + skips.pop()
        return self.last(x)


def interpolate(first: Mapping[str, Any], second: Mapping[str, Any], alpha: float) -> dict[str, Any]:
    """Return the weights (1 - α)·first + α·second of two networks of the same architecture (section 3.4, eq. 4).

    Both are state dicts, in the paper those of the PSNR-oriented and of the GAN-trained network. What is no weight, as
    counters and the extra state of layers, is that of the second. Raises ConfigError if their names or shapes differ.
    """
    shapes = [{name: getattr(value, "shape", ()) for name, value in state.items()} for state in (first, second)]
    if shapes[0] != shapes[1]:
        apart = sorted(name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items()))
        raise ConfigError(
            f"the two networks differ in {apart[0]}: only networks alike can be interpolated; give two runs of the"
            " same model, scale and width"
        )
    return {
        name: torch.lerp(value, second[name], alpha) if _is_weight(value) else second[name]
        for name, value in first.items()
    }


def _is_weight(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
