"""Toward Multimodal Image-to-Image Translation.

Jun-Yan Zhu, Richard Zhang, Deepak Pathak, Trevor Darrell, Alexei A. Efros, Oliver Wang, Eli Shechtman, 2017.
arXiv:1711.11586

Differs from the paper: none (section 4; details as in the authors' code). The encoder averages over the whole last map.
The code averages over a window of 8x8, which is the same at the only resolution that it fits.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Depth, Resolution, Width
from gan_experiments.layers.init import init_xavier
from gan_experiments.layers.plain_norm import plain_norm
from gan_experiments.layers.resolution import doublings_from_4, require_sides
from gan_experiments.networks.patchgan import PatchDiscriminator
from gan_experiments.networks.pix2pix import UNet


class LatentUNet(nn.Module):
    """Images and a code z to images, `[N, channels_in, H, W]`, `[N, latent_dim]` -> `[N, channels_out, H, W]`.

    pix2pix's U-Net without dropout. `latent_at` is where z is concatenated: to the input of "all" encoder layers, or
    to the "input" alone (figure 3). Raises ConfigError as `UNet` does.
    """

    def __init__(
        self,
        channels_in: Width = 3,
        channels_out: Width = 3,
        resolution: Resolution = 256,
        width: Width = 64,
        norm: str = "instance",
        latent_dim: Width = 8,
        latent_at: str = "all",
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.unet = UNet(channels_in, channels_out, resolution, width, norm, 0.0, latent_dim, latent_at)
        self.multiple = self.unet.multiple
        init_xavier(self, gain=0.02)

    def forward(self, images: Tensor, z: Tensor) -> Tensor:
        """Translate the images in the style given by z; the result is in [-1, 1]."""
        return self.unet(images, z=z)


class LatentEncoder(nn.Module):
    """Images to the mean and the log variance of their code, `[N, channels, H, W]` -> two of `[N, latent_dim]`.

    A 4x4 convolution of stride 2, then residual blocks that each halve the sides, down to 8x8 at `resolution`, then the
    mean over positions. The widths at 256 pixels are 64, 128, 192, 256, 256. Sides must be multiples of `multiple`.
    Raises ConfigError unless `resolution`, or its shorter side, is a power of two from 32 on, and in forward for other
    sides.
    """

    def __init__(
        self,
        channels: Width = 3,
        latent_dim: Width = 8,
        resolution: Resolution = 256,
        width: Width = 64,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        halvings = doublings_from_4(resolution, "LatentEncoder", smallest=32) - 1
        self.multiple = 2**halvings
        widths = [width * min(4, n) for n in range(1, halvings + 1)]
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            *(EncoderBlock(*pair, norm) for pair in itertools.pairwise(widths)),
        )
        self.to_mean = nn.Linear(widths[-1], latent_dim)
        self.to_log_variance = nn.Linear(widths[-1], latent_dim)
        init_xavier(self, gain=0.02)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means and the log variances, each `[N, latent_dim]`."""
        require_sides(images, self.multiple, "LatentEncoder", smallest=2 * self.multiple)
        features = F.leaky_relu(self.layers(images), 0.2).mean(dim=(2, 3))
        return self.to_mean(features), self.to_log_variance(features)


class EncoderBlock(nn.Module):
    """Residual block that halves the sides.

    Norm, leaky ReLU and conv3, twice, then a mean pooling; the shortcut is a mean pooling and conv1.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: str) -> None:
        super().__init__()
        self.norm1 = plain_norm(norm, channels_in, "LatentEncoder")
        self.conv1 = nn.Conv2d(channels_in, channels_in, 3, padding=1)
        self.norm2 = plain_norm(norm, channels_in, "LatentEncoder")
        self.conv2 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, channels_in, H, W]` to `[N, channels_out, H/2, W/2]`."""
        h = self.conv1(F.leaky_relu(self.norm1(x), 0.2))
        h = self.conv2(F.leaky_relu(self.norm2(h), 0.2))
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


class MultiScaleDiscriminator(nn.Module):
    """PatchGANs at `scales` scales; each is half as wide as the one before and sees images of half the size.

    `[N, channels, H, W]` -> a list of logits `[N, 1, H', W']`, the finest first. The authors use `layers=3` at 256
    pixels and 2 at 128.
    """

    def __init__(
        self, channels: Width = 3, width: Width = 64, layers: Depth = 3, norm: str = "instance", scales: Depth = 2
    ) -> None:
        super().__init__()
        self.patches = nn.ModuleList(
            PatchDiscriminator(channels, round(width / 2**scale), layers, norm) for scale in range(scales)
        )
        self.n_logits, self.smallest = scales, 3 * 2 ** (layers + scales - 1)
        init_xavier(self, gain=0.02)

    def chains(self) -> list[list[nn.Module]]:
        """Return the discriminator of each scale; see techniques/freeze_d.py."""
        return [[patches] for patches in self.patches]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the logits of every scale; raises ConfigError for images under `smallest` pixels."""
        require_sides(images, 1, "MultiScaleDiscriminator", smallest=self.smallest)
        logits = []
        for scale, patches in enumerate(self.patches):
            if scale:
                images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
            logits.append(patches(images))
        return logits
