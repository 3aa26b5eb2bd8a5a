"""Improved Training of Wasserstein GANs.

Ishaan Gulrajani, Faruk Ahmed, Martin Arjovsky, Vincent Dumoulin, Aaron Courville, 2017. arXiv:1704.00028

Three pairs of networks, each as in the authors' code (igul222/improved_wgan_training fa66c57): `ResNet*` for CIFAR-10,
of constant width (gan_cifar_resnet.py), `PyramidResNet*` for 64x64 ("Good" in gan_64x64.py) and `Conv*` for CIFAR-10, a
DCGAN with 5x5 kernels (gan_cifar.py).

Differs from the paper: 1x1 shortcuts are computed before an upsampling and after a mean pooling; they commute with
both, so the function is the same and takes less time. In evaluation mode batch norm uses running averages, where the
code always uses the batch's statistics. Resolutions other than the code's add or remove stages.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Classes, Resolution, Width
from gan_experiments.layers.conditional_batch_norm import ClassConditionalBatchNorm2d
from gan_experiments.layers.init import init_uniform
from gan_experiments.layers.labels import conditioned_classes, required_label
from gan_experiments.layers.resolution import doublings_from_4, start_of
from gan_experiments.networks.resnet_blocks import Norm, normalised

HE = math.sqrt(2)


def _convolution(channels_in: int, channels_out: int, size: int, bias: bool = True, gain: float = HE) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=bias)
    init_uniform(layer, gain)
    return layer


def _linear(features_in: int, features_out: int) -> nn.Linear:
    layer = nn.Linear(features_in, features_out)
    init_uniform(layer)
    return layer


def _layer_norm(channels: int) -> nn.Module:
    """Return a layer norm over each sample's C, H and W, with scale and offset per channel (tflib/ops/layernorm.py)."""
    return nn.GroupNorm(1, channels)


class ResidualBlock(nn.Module):
    """Residual block of norm, ReLU, conv3, norm, ReLU, conv3; `resample` "up" doubles the size, "down" halves it.

    `[N, channels_in, H, W]` -> `[N, channels_out, 2H or H/2 or H, ...]`. `norm` is a function of the number of channels
    that makes a normalisation layer; conditional norms receive the labels. The shortcut is the identity if the shape
    stays the same, else a 1x1 convolution.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        resample: str | None = None,
        norm: Norm = nn.Identity,
        first_bias: bool = True,
    ) -> None:
        super().__init__()
        self.resample = resample
        hidden = channels_in if resample == "down" else channels_out
        self.norm1, self.norm2 = norm(channels_in), norm(hidden)
        self.conv1 = _convolution(channels_in, hidden, 3, bias=first_bias)
        self.conv2 = _convolution(hidden, channels_out, 3)
        same = channels_in == channels_out and resample is None
        self.shortcut = nn.Identity() if same else _convolution(channels_in, channels_out, 1, gain=1.0)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Apply the block; `label`, int64 [N], is passed to its norms if given."""
        h = F.relu(normalised(self.norm1, x, label))  # not in place: the shortcut reads x too
        h = self.conv1(_double(h) if self.resample == "up" else h)
        h = self.conv2(F.relu(normalised(self.norm2, h, label)))
        if self.resample == "up":
            return h + _double(self.shortcut(x))
        if self.resample == "down":
            return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))
        return h + self.shortcut(x)


class FirstCriticBlock(nn.Module):
    """First residual block of a critic, without a ReLU at the beginning because its input is an image.

    Conv3, ReLU, conv3, mean pooling; the shortcut is mean pooling and conv1. `[N, channels, H, W]` ->
    `[N, width, H/2, W/2]`.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, width, 3)
        self.conv2 = _convolution(width, width, 3)
        self.shortcut = _convolution(channels, width, 1, gain=1.0)

    @override
    def forward(self, images: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(images)))
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(images, 2))


class ResNetGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]`, with `width` channels at all sizes.

    With `classes` the batch norms of the blocks have a scale and an offset for each class. Raises ConfigError unless
    `resolution` (32 in the code) is a power of two from 16 on, and in forward for a missing label.
    """

    def __init__(
        self,
        latent_dim: Width = 128,
        resolution: Resolution = 32,
        channels: Width = 3,
        width: Width = 128,
        classes: Classes = 0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.classes = latent_dim, classes
        stages = doublings_from_4(resolution, "wgan_gp.ResNetGenerator")
        self.width, self.start = width, start_of(resolution, stages)
        norm: Norm = functools.partial(ClassConditionalBatchNorm2d, classes=classes) if classes else nn.BatchNorm2d
        self.input = _linear(latent_dim, width * math.prod(self.start))
        self.blocks = nn.ModuleList(ResidualBlock(width, width, "up", norm) for _ in range(stages))
        self.norm = nn.BatchNorm2d(width)
        self.output = _convolution(width, channels, 3, gain=1.0)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images in [-1, 1] of noise, `[N, latent_dim]` and labels [N] -> `[N, channels, R, R]`."""
        condition = required_label(label, "wgan_gp.ResNetGenerator") if self.classes else None
        h = self.input(z).view(-1, self.width, *self.start)  # [N, 128, 4, 4] -> ... -> [N, 128, 32, 32]
        for block in self.blocks:
            h = block(h, condition)
        return self.output(F.relu(self.norm(h))).tanh()


class ResNetCritic(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`, without any normalisation.

    Blocks that halve the size down to 8x8, then two more blocks and the mean over positions. `conditioning` is "none"
    or "auxiliary" (AC-GAN, as in the code: a layer `classify`, and labels are ignored). Raises ConfigError for another
    conditioning, for conditioning without classes, and unless `resolution` (32 in the code) is a power of two from 16
    on.
    """

    def __init__(
        self,
        resolution: Resolution = 32,
        channels: Width = 3,
        width: Width = 128,
        classes: Classes = 0,
        conditioning: str = "none",
    ) -> None:
        super().__init__()
        self.classes = conditioned_classes(conditioning, classes, ("none", "auxiliary"), "wgan_gp.ResNetCritic")
        halvings = doublings_from_4(resolution, "wgan_gp.ResNetCritic") - 1
        self.blocks = nn.Sequential(
            FirstCriticBlock(channels, width),
            *(ResidualBlock(width, width, "down") for _ in range(halvings - 1)),
            ResidualBlock(width, width),
            ResidualBlock(width, width),
        )
        self.output = _linear(width, 1)
        if conditioning == "auxiliary":
            self.classify = _linear(width, classes)

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, H, W]` -> `[N, width]`."""
        return F.relu(self.blocks(images)).mean(dim=(2, 3))  # [N, 128, 8, 8] -> [N, 128]

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, features]` -> `[N]`."""
        return self.output(features).squeeze(1)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images))


def _pyramid(width: int, stages: int) -> list[int]:
    """Return the channels from the image inwards: 1, 2, 4, 8 and 8 times the width at 64 pixels."""
    widths = [width * min(2**i, 8) for i in range(stages)]
    return [*widths, widths[-1]]


class PyramidResNetGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]`, with fewer channels at larger sizes.

    Raises ConfigError unless `resolution` (64 in the code) is a power of two from 16 on.
    """

    def __init__(
        self, latent_dim: Width = 128, resolution: Resolution = 64, channels: Width = 3, width: Width = 64
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        stages = doublings_from_4(resolution, "wgan_gp.PyramidResNetGenerator")
        widths = _pyramid(width, stages)[::-1]
        self.widest, self.start = widths[0], start_of(resolution, stages)
        self.input = _linear(latent_dim, self.widest * math.prod(self.start))
        self.blocks = nn.Sequential(
            *(ResidualBlock(a, b, "up", nn.BatchNorm2d, first_bias=False) for a, b in itertools.pairwise(widths))
        )
        self.norm = nn.BatchNorm2d(width)
        self.output = _convolution(width, channels, 3)

    def forward(self, z: Tensor) -> Tensor:
        """Generate images of noise, `[N, latent_dim]` -> `[N, channels, H, W]` in [-1, 1]."""
        h = self.blocks(self.input(z).view(-1, self.widest, *self.start))  # [N, 512, 4, 4] -> [N, 64, 64, 64]
        return self.output(F.relu(self.norm(h))).tanh()


class PyramidResNetCritic(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`, with layer norm (section 4).

    Raises ConfigError unless `resolution` (64 in the code) is a power of two from 16 on.
    """

    def __init__(self, resolution: Resolution = 64, channels: Width = 3, width: Width = 64) -> None:
        super().__init__()
        stages = doublings_from_4(resolution, "wgan_gp.PyramidResNetCritic")
        widths = _pyramid(width, stages)
        self.input = _convolution(channels, width, 3, gain=1.0)
        self.blocks = nn.Sequential(
            *(ResidualBlock(a, b, "down", _layer_norm, first_bias=False) for a, b in itertools.pairwise(widths))
        )
        self.output = _linear(widths[-1] * math.prod(start_of(resolution, stages)), 1)

    def features(self, images: Tensor) -> Tensor:
        """Return the last layer's input, `[N, channels, H, W]` -> `[N, features]`."""
        return self.blocks(self.input(images)).flatten(1)  # [N, 512, 4, 4] -> [N, 8192]

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features, `[N, features]` -> `[N]`."""
        return self.output(features).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images))


class ConvGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]` by 5x5 transposed convolutions.

    The first batch norm has a scale for each unit, not for each channel, as in the code. Raises ConfigError unless
    `resolution` (32 in the code) is a power of two from 16 on.
    """

    def __init__(
        self, latent_dim: Width = 128, resolution: Resolution = 32, channels: Width = 3, width: Width = 128
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        stages = doublings_from_4(resolution, "wgan_gp.ConvGenerator")
        widths = [width * 2**i for i in reversed(range(stages))]  # 512, 256, 128
        start = start_of(resolution, stages)
        units = widths[0] * math.prod(start)
        layers: list[nn.Module] = [_linear(latent_dim, units), nn.BatchNorm1d(units), nn.ReLU(inplace=True)]
        layers += [nn.Unflatten(1, (widths[0], *start))]
        for wide, narrow in itertools.pairwise(widths):
            layers += [SameConvTranspose(wide, narrow), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, SameConvTranspose(width, channels), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Generate images of noise, `[N, latent_dim]` -> `[N, channels, H, W]` in [-1, 1]."""
        return self.layers(z)


class ConvCritic(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]` by 5x5 convolutions of stride 2.

    Raises ConfigError unless `resolution` (32 in the code) is a power of two from 16 on.
    """

    def __init__(self, resolution: Resolution = 32, channels: Width = 3, width: Width = 128) -> None:
        super().__init__()
        stages = doublings_from_4(resolution, "wgan_gp.ConvCritic")
        widths = [channels, *(width * 2**i for i in range(stages))]  # 3, 128, 256, 512
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(widths):
            layers += [SameConv(narrow, wide), nn.LeakyReLU(0.2, inplace=True)]
        end = start_of(resolution, stages)
        self.layers = nn.Sequential(*layers, nn.Flatten(), _linear(widths[-1] * math.prod(end), 1))

    def features(self, images: Tensor) -> Tensor:
        """Return the last layer's input, `[N, channels, H, W]` -> `[N, features]`."""
        return self.layers[:-1](images)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features, `[N, features]` -> `[N]`."""
        return self.layers[-1](features).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images))


class SameConv(nn.Conv2d):
    """5x5 convolution of stride 2 with TensorFlow's "SAME" padding: `[N, c, H, W]` -> `[N, channels_out, H/2, W/2]`."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 5, stride=2)
        init_uniform(self, HE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map at half the size; H and W are even."""
        return super().forward(F.pad(x, (1, 2, 1, 2)))  # the extra pixel of padding comes last


class SameConvTranspose(nn.ConvTranspose2d):
    """The transpose of `SameConv`: `[N, c, H, W]` -> `[N, channels_out, 2H, 2W]`."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 5, stride=2, padding=1)
        init_uniform(self, HE)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the map at twice the size."""
        return super().forward(x)[..., :-1, :-1]  # 2H + 1 without the last row and column


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
