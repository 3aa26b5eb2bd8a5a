"""StackGAN++: Realistic Image Synthesis with Stacked Generative Adversarial Networks.

Han Zhang, Tao Xu, Hongsheng Li, Shaoting Zhang, Xiaogang Wang, Xiaolei Huang, Dimitris Metaxas, 2017. arXiv:1710.10916

The networks of section 4, as in the authors' code (StackGAN-v2): a tree whose branches make images of growing size, and
a discriminator for each.

Differs from the paper: the ε of conditioning augmentation are the last numbers of z, so that a sample is a function of
z and the caption; discriminators return logits, without the sigmoid; other resolutions add or remove stages at the wide
end of the first branch and of the discriminators.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gan_experiments.bounds import Count, Resolution, Width, settled, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_orthogonal
from gan_experiments.layers.resolution import doublings_from_4, start_of
from gan_experiments.networks.stackgan import ConditioningAugmentation, StackGANDiscriminator, convolution, repeated
from gan_experiments.networks.text import Text

Scales = Annotated[int, Field(ge=1, le=8)]


def sizes_of(resolution: Resolution, scales: int) -> list[Resolution]:
    """Return the resolutions of the branches, each twice the one before: 64, 128, 256."""
    return [settled([side >> i for side in sides(resolution)]) for i in reversed(range(scales))]


def gated_convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """3x3 with batch norm and a gated linear unit."""
    return [convolution(inputs, 2 * outputs), nn.BatchNorm2d(2 * outputs), nn.GLU(dim=1)]


def enlarging(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the height and width."""
    return nn.Sequential(nn.Upsample(scale_factor=2), *gated_convolution(inputs, outputs))


class Residual(nn.Module):
    """A residual block without an activation after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*gated_convolution(width, width), convolution(width, width), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Transform maps `[N, width, H, W]` to the same shape."""
        return x + self.layers(x)


class _Branch(nn.Module):
    """Maps of one scale and a code to maps of the next, with half as many channels: F_i of section 4.1."""

    def __init__(self, width: int, code: int, blocks: int) -> None:
        super().__init__()
        self.joint = nn.Sequential(*gated_convolution(width + code, width))
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.enlarging = enlarging(width, width // 2)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        return self.enlarging(self.blocks(self.joint(torch.cat([repeated(code, x), x], dim=1))))


class StackGANv2Generator(nn.Module):
    """z `[N, latent_dim]` and a `Text` of `text_features` to images `[N, channels, H, W]` in [-1, 1] of several scales.

    The largest have `resolution`, the smallest a half of it for each further one of `scales`. z are `noise_dim`
    numbers and the `condition_dim` numbers ε. Without `text_features` there is no text and z are `noise_dim` numbers,
    which all branches are told. `width` is the number of channels at the first scale, halved at each further one.
    `blocks` is the number of residual blocks of each further branch. Raises ConfigError unless the first scale, or its
    shorter side, is a power of two from 8 on, and `width` can be halved so often.
    """

    def __init__(
        self,
        text_features: Annotated[int, Field(ge=0)] = 1024,
        noise_dim: Width = 100,
        resolution: Resolution = 256,
        channels: Width = 3,
        width: Width = 64,
        condition_dim: Width = 128,
        scales: Scales = 3,
        blocks: Count = 2,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        doublings_from_4(resolution, name, smallest=8 << scales - 1)
        if width % (1 << scales - 1):
            raise ConfigError(
                f"model.generator.width={width}: {name} halves it at each of {scales} scales but the first; type"
                f" model.generator.width={max(width >> scales - 1, 1) << scales - 1}"
            )
        self.conditional = text_features > 0
        self.augmentation = (
            ConditioningAugmentation(text_features, condition_dim, gated=True) if text_features else None
        )
        self._parts = [noise_dim, condition_dim] if text_features else [noise_dim]
        self.latent_dim = sum(self._parts)
        smallest = sizes_of(resolution, scales)[0]
        stages = doublings_from_4(smallest, name, smallest=8)
        self._start = start_of(smallest, stages)
        widths = [width * 2**i for i in reversed(range(stages + 1))]  # 1024, 512, 256, 128, 64
        first = 2 * widths[0] * math.prod(self._start)
        self.first = nn.Sequential(nn.Linear(self.latent_dim, first, bias=False), nn.BatchNorm1d(first), nn.GLU(dim=1))
        self.layers = nn.Sequential(*(enlarging(wide, narrow) for wide, narrow in itertools.pairwise(widths)))
        own = [width >> i for i in range(scales)]  # 64, 32, 16
        self.branches = nn.ModuleList(_Branch(wide, self._parts[-1], blocks) for wide in own[:-1])
        self.images = nn.ModuleList(nn.Sequential(convolution(narrow, channels), nn.Tanh()) for narrow in own)
        init_orthogonal(self)

    def scales(self, z: Tensor, text: Text | None = None) -> list[Tensor]:
        """Generate images of each scale, the smallest first, of z `[N, latent_dim]` and a `Text` of N captions."""
        code = z
        if self.augmentation is not None:
            assert text is not None
            noise, epsilon = z.split(self._parts, dim=1)
            code = self.augmentation.sample(text.sentence, epsilon)
            z = torch.cat([code, noise], dim=1)
        x = self.layers(self.first(z).unflatten(1, (-1, *self._start)))
        maps = [x]
        for branch in self.branches:
            maps.append(branch(maps[-1], code))
        return [image(x) for image, x in zip(self.images, maps, strict=True)]

    def forward(self, z: Tensor, text: Text | None = None) -> Tensor:
        """Generate the largest images of z `[N, latent_dim]` and a `Text` of N captions -> `[N, channels, H, W]`."""
        return self.scales(z, text)[-1]


class StackGANv2Discriminator(nn.Module):
    """Images `[N, channels, H, W]` and a `Text` of `text_features` to logits of each of `scales`.

    Each scale has a `StackGANDiscriminator` of its own. Images may also be a list of those of each scale, the smallest
    first; of one tensor, the smaller scales are made. Raises its errors.
    """

    def __init__(
        self,
        text_features: Annotated[int, Field(ge=0)] = 128,
        resolution: Resolution = 256,
        channels: Width = 3,
        width: Width = 64,
        scales: Scales = 3,
        unconditional: bool = True,
    ) -> None:
        super().__init__()
        self.conditional = text_features > 0
        self.scales = nn.ModuleList(
            StackGANDiscriminator(text_features, size, channels, width, unconditional)
            for size in sizes_of(resolution, scales)
        )
        self.n_logits = sum(scale.n_logits for scale in self.scales)  # type: ignore[misc]
        init_orthogonal(self)

    def shrunk(self, images: Tensor) -> list[Tensor]:
        """Return images `[N, C, H, W]` at each scale, the smallest first, each the means of the pixels below."""
        return [F.avg_pool2d(images, 1 << i) if i else images for i in reversed(range(len(self.scales)))]

    def forward(self, images: Tensor | Sequence[Tensor], text: Text | None = None) -> list[Tensor]:
        """Return the logits `[N]`: conditional and unconditional of the smallest scale, of the next, and so on.

        Without a text there are the unconditional ones alone, and without `unconditional` the conditional ones alone.
        """
        seen = self.shrunk(images) if isinstance(images, Tensor) else images
        judges: Any = zip(self.scales, seen, strict=True)
        return [logit for judge, x in judges for logit in judge.every_logit(judge.features(x, text))]
