"""ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks.

Xintao Wang, Ke Yu, Shixiang Wu, Jinjin Gu, Yihao Liu, Chao Dong, Chen Change Loy, Yu Qiao, Xiaoou Tang, 2018.
arXiv:1809.00219

Differs from the paper: none (section 3; details as in BasicSR, but for the discriminator's loss, which is the paper's:
its gradient goes through both means, and BasicSR detaches them). `UNetDiscriminator` is Real-ESRGAN's (Wang et al.
2021, arXiv:2107.10833, section 3.4).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Depth, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_kaiming
from gan_experiments.layers.resolution import doublings_from_4, require_resolution, require_sides
from gan_experiments.layers.spectral_norm import spectral_norm

RESIDUAL_SCALE = 0.2


class RRDBNet(nn.Module):
    """Images to `scale` times larger ones, `[N, channels, H, W]` -> `[N, channels, scale·H, scale·W]`, about [-1, 1].

    `blocks` residual-in-residual dense blocks without batch norm, a long skip, two nearest-neighbour doublings
    (section 3.1, figure 4). At `scale=2` each 2x2 pixels enter as channels of one. Takes sides that `multiple` divides.
    Raises ConfigError for another scale than 2 or 4, and in forward for other sides.
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
        """The images enlarged."""
        require_sides(images, self.multiple, "RRDBNet")
        x = self.first(F.pixel_unshuffle(images, self.multiple))
        x = x + self.body(x)
        for convolution in (self.double1, self.double2):
            x = F.leaky_relu(convolution(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.last(x)


class RRDB(nn.Module):
    """Three dense blocks in a residual block, `[N, channels, H, W]`, unchanged (figure 4)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        """x and a fifth of what the blocks make of it."""
        return x + RESIDUAL_SCALE * self.blocks(x)


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each on all that is before it, beside the identity: `[N, channels, H, W]`, unchanged."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        made = [growth] * 4 + [channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels + i * growth, wide, 3, padding=1) for i, wide in enumerate(made)
        )
        init_kaiming(self, scale=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """x and a fifth of what the last convolution makes."""
        maps = [x]
        *dense, last = self.convolutions
        for convolution in dense:
            maps.append(F.leaky_relu(convolution(torch.cat(maps, dim=1)), 0.2))
        return x + RESIDUAL_SCALE * last(torch.cat(maps, dim=1))


class VGGDiscriminator(nn.Module):
    """Images `[N, channels, resolution, resolution]` to logits `[N]`, as BasicSR trains ESRGAN and SRGAN with.

    A 3x3 convolution and a 4x4 of stride 2 at each size down to 4x4, widths 64, 128, 256, 512, 512, ..., batch norm on
    all but the first, then 100 units and one. `batch_norm=False` is not theirs: gradient penalties need it. Raises
    ConfigError unless `resolution`, that of the training crops, is a power of two from 16 on, and in forward for images
    of another.
    """

    def __init__(
        self, resolution: Width = 128, channels: Width = 3, width: Width = 64, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.resolution = resolution
        stack: list[nn.Module] = []
        narrow = channels
        for i in range(doublings_from_4(resolution, "VGGDiscriminator")):
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
        self.head = nn.Sequential(nn.Linear(narrow * 16, 100), nn.LeakyReLU(0.2, inplace=True), nn.Linear(100, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, `[N]`."""
        require_resolution(images, self.resolution, "VGGDiscriminator")
        return self.head(self.layers(images).flatten(1)).squeeze(1)


class UNetDiscriminator(nn.Module):
    """Images to a logit for each pixel, `[N, channels, H, W]` -> `[N, 1, H, W]`, a U-Net with spectral norm.

    Three convolutions of stride 2 and three bilinear doublings, with sums as skips. Needs sides that 8 divides: forward
    raises ConfigError for others.
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
        """A logit for each pixel."""
        require_sides(images, 8, "UNetDiscriminator")
        skips = [F.leaky_relu(self.first(images), 0.2)]
        for convolution in self.down:
            skips.append(F.leaky_relu(convolution(skips[-1]), 0.2))
        x = skips.pop()
        for convolution in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(convolution(x), 0.2) + skips.pop()
        return self.last(x)


def interpolate(first: Mapping[str, Tensor], second: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The weights (1 - α)·first + α·second of two networks alike, α = 0 for the first (section 3.4, eq. 4).

    Both are state dicts, in the paper those of the PSNR-oriented and of the GAN-trained network. Raises ConfigError
    where they do not have the same names and shapes.
    """
    shapes = [{name: value.shape for name, value in state.items()} for state in (first, second)]
    if shapes[0] != shapes[1]:
        apart = sorted(name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items()))
        raise ConfigError(
            f"the two networks differ in {apart[0]}: only networks alike can be interpolated; give two runs of the"
            " same model, scale and width"
        )
    return {
        name: torch.lerp(value, second[name], alpha) if value.is_floating_point() else second[name]
        for name, value in first.items()
    }
