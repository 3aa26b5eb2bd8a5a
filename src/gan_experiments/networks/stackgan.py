"""StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial Networks.

Han Zhang, Tao Xu, Hongsheng Li, Shaoting Zhang, Xiaogang Wang, Xiaolei Huang, Dimitris Metaxas, 2016. arXiv:1612.03242

The networks of figure 2, as in the authors' PyTorch code (StackGAN-Pytorch), which has no residual blocks in stage I,
and an unconditional logit beside the conditional one in stage II.

Differs from the paper: the ε of conditioning augmentation are the last numbers of z, so that a sample is a function of
z and the caption; discriminators return logits, without the sigmoid; a frozen stage I uses its running statistics, and
not those of the batch; resolutions other than 64 and 256 add or remove stages at the wide end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from gan_experiments.bounds import Count, Resolution, Width, settled, sides
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.resolution import doublings_from_4, start_of
from gan_experiments.networks.text import Text


class ConditioningAugmentation(nn.Module):
    """Sentences `[N, features]` to the mean and log variance, `[N, size]` each, of a normal distribution (section 3.2).

    Both are outputs of one layer with a ReLU, or `gated` with a gated linear unit. After a ReLU no variance is below 1,
    as in the authors' code.
    """

    def __init__(self, features: int, size: int, gated: bool = False) -> None:
        super().__init__()
        self.layers = (
            nn.Sequential(nn.Linear(features, 4 * size), nn.GLU(dim=1))
            if gated
            else nn.Sequential(nn.Linear(features, 2 * size), nn.ReLU())
        )

    def forward(self, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log variance."""
        mean, log_variance = self.layers(sentence).chunk(2, dim=1)
        return mean, log_variance

    def sample(self, sentence: Tensor, noise: Tensor) -> Tensor:
        """Return ĉ = μ + σ ε of noise ε `[N, size]`."""
        mean, log_variance = self(sentence)
        return mean + noise * (0.5 * log_variance).exp()


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3, without a bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def halved(inputs: int, outputs: int) -> nn.Conv2d:
    """4x4 of stride 2, without a bias: half the height and width."""
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)


def repeated(code: Tensor, maps: Tensor) -> Tensor:
    """Repeat a code `[N, c]` at each place of maps `[N, C, H, W]` -> `[N, c, H, W]`."""
    return code[:, :, None, None].expand(-1, -1, *maps.shape[2:])


def _enlarging(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2), convolution(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(width, width),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            convolution(width, width),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.layers(x))


class StackGAN1Generator(nn.Module):
    """Stage I: z `[N, latent_dim]` and a `Text` of `text_features` to images `[N, channels, H, W]` in [-1, 1].

    z are `noise_dim` numbers and the `condition_dim` numbers ε. `width` is the number of channels of the last hidden
    layer; each before it has twice as many. Raises ConfigError unless `resolution`, or its shorter side, is a power of
    two from 8 on.
    """

    conditional = True

    def __init__(
        self,
        text_features: Width = 1024,
        noise_dim: Width = 100,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 64,
        condition_dim: Width = 128,
    ) -> None:
        super().__init__()
        self.latent_dim = noise_dim + condition_dim
        self.resolution = resolution
        self._parts = [noise_dim, condition_dim]
        stages = doublings_from_4(resolution, type(self).__name__, smallest=8)
        widths = [width * 2**i for i in reversed(range(stages + 1))]  # 1024, 512, 256, 128, 64
        self._start = start_of(resolution, stages)
        self.augmentation = ConditioningAugmentation(text_features, condition_dim)
        first = widths[0] * math.prod(self._start)
        self.first = nn.Sequential(
            nn.Linear(self.latent_dim, first, bias=False), nn.BatchNorm1d(first), nn.ReLU(inplace=True)
        )
        layers = [_enlarging(wide, narrow) for wide, narrow in itertools.pairwise(widths)]
        self.layers = nn.Sequential(*layers, convolution(width, channels), nn.Tanh())
        init_normal(self, std=0.02)

    def forward(self, z: Tensor, text: Text) -> Tensor:
        """Generate images of z `[N, latent_dim]` and a `Text` of N captions -> `[N, channels, H, W]`."""
        noise, epsilon = z.split(self._parts, dim=1)
        told = self.augmentation.sample(text.sentence, epsilon)
        x = self.first(torch.cat([noise, told], dim=1)).unflatten(1, (-1, *self._start))
        return self.layers(x)


class StackGAN2Generator(nn.Module):
    """Stage II: z `[N, latent_dim]` and a `Text` to images `[N, channels, H, W]`, four times as high as stage I's.

    It reads the image of stage I and the caption once more, by an augmentation of its own. `stage_1` makes stage I for
    a resolution. z are its numbers, and `condition_dim` more. A `frozen` stage I is not trained. `width` is the number
    of channels of the last hidden layer, and `blocks` that of residual blocks. Raises ConfigError unless `resolution`,
    or its shorter side, is a power of two from 32 on.
    """

    conditional = True

    def __init__(
        self,
        stage_1: Callable[..., StackGAN1Generator],
        text_features: Width = 1024,
        resolution: Resolution = 256,
        channels: Width = 3,
        width: Width = 32,
        blocks: Count = 4,
        condition_dim: Width = 128,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        doublings_from_4(resolution, type(self).__name__, smallest=32)
        first = stage_1(resolution=settled([side // 4 for side in sides(resolution)]))
        self.latent_dim, self.frozen = first.latent_dim + condition_dim, frozen
        self._parts = [first.latent_dim, condition_dim]
        base = 4 * width  # 128
        self.augmentation = ConditioningAugmentation(text_features, condition_dim)
        self.encoder = nn.Sequential(
            convolution(channels, base),
            nn.ReLU(inplace=True),
            halved(base, 2 * base),
            nn.BatchNorm2d(2 * base),
            nn.ReLU(inplace=True),
            halved(2 * base, 4 * base),
            nn.BatchNorm2d(4 * base),
            nn.ReLU(inplace=True),
        )
        self.joint = nn.Sequential(
            convolution(4 * base + condition_dim, 4 * base), nn.BatchNorm2d(4 * base), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(*(_Residual(4 * base) for _ in range(blocks)))
        widths = [4 * base >> i for i in range(5)]  # 512, 256, 128, 64, 32
        layers = [_enlarging(wide, narrow) for wide, narrow in itertools.pairwise(widths)]
        self.layers = nn.Sequential(*layers, convolution(width, channels), nn.Tanh())
        init_normal(self, std=0.02)
        self.stage_1 = first.requires_grad_(not frozen)

    def scales(self, z: Tensor, text: Text) -> list[Tensor]:
        """Generate the images of stage I and those of stage II, of z `[N, latent_dim]` and a `Text` of N captions."""
        first, epsilon = z.split(self._parts, dim=1)
        drawn = self.stage_1(first, text)
        x = self.encoder(drawn)  # [N, 512, 16, 16]
        told = self.augmentation.sample(text.sentence, epsilon)
        x = self.joint(torch.cat([x, repeated(told, x)], dim=1))
        return [drawn, self.layers(self.blocks(x))]

    def forward(self, z: Tensor, text: Text) -> Tensor:
        """Generate images of z `[N, latent_dim]` and a `Text` of N captions -> `[N, channels, H, W]`."""
        return self.scales(z, text)[-1]


class StackGANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` and a `Text` of `text_features` to logits `[N]`: real, and described by the text.

    With `unconditional` there is a second logit, real whatever the text says, and the logits are a list of both.
    Without `text_features` that is the only one. `width` is the number of channels of the first layer; each further one
    has twice as many, and from more than 8 times as many, convolutions lead back to that. Raises ConfigError unless
    `resolution`, or its shorter side, is a power of two from 8 on.
    """

    def __init__(
        self,
        text_features: Annotated[int, Field(ge=0)] = 128,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 64,
        unconditional: bool = False,
    ) -> None:
        super().__init__()
        self.conditional, self.unconditional = text_features > 0, unconditional or not text_features
        stages = doublings_from_4(resolution, type(self).__name__, smallest=8)
        widths = [width * 2**i for i in range(stages)]  # 64, 128, 256, 512, and for 256 pixels 1024, 2048
        layers: list[nn.Module] = [halved(channels, width), nn.LeakyReLU(0.2, inplace=True)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [halved(narrow, wide), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]
        for wide, narrow in itertools.pairwise(reversed(widths[3:])):
            layers += [convolution(wide, narrow), nn.BatchNorm2d(narrow), nn.LeakyReLU(0.2, inplace=True)]
        self.images = nn.Sequential(*layers)
        top = widths[min(stages, 4) - 1]
        self.joint = (
            nn.Sequential(convolution(top + text_features, top), nn.BatchNorm2d(top), nn.LeakyReLU(0.2, inplace=True))
            if self.conditional
            else None
        )
        size = top * math.prod(start_of(resolution, stages))
        self.outputs = nn.ModuleList(nn.Linear(size, 1) for _ in range(self.conditional + self.unconditional))
        self.n_logits = len(self.outputs)
        init_normal(self, std=0.02)

    def features(self, images: Tensor, text: Text | None = None) -> Tensor:
        """Return the inputs of the last layers, images `[N, channels, H, W]` and a `Text` of N captions -> `[N, F]`."""
        maps = self.images(images)  # [N, 512, 4, 4]
        found = [maps.flatten(1)] if self.unconditional else []
        if self.joint is not None:
            assert text is not None
            found.insert(0, self.joint(torch.cat([maps, repeated(text.sentence, maps)], dim=1)).flatten(1))
        return torch.cat(found, dim=1)

    def head(self, features: Tensor, text: Text | None = None) -> Tensor | list[Tensor]:
        """Return the logits of features `[N, F]`: the conditional one `[N]`, the unconditional one, or both."""
        logits = self.every_logit(features)
        return logits if len(logits) > 1 else logits[0]

    def every_logit(self, features: Tensor) -> list[Tensor]:
        """Return the one or two logits `[N]` of features `[N, F]` as a list."""
        parts = features.chunk(len(self.outputs), dim=1)
        return [output(part).squeeze(1) for output, part in zip(self.outputs, parts, strict=True)]

    def forward(self, images: Tensor, text: Text | None = None) -> Tensor | list[Tensor]:
        """Return the logits of images `[N, channels, H, W]` and a `Text` of N captions."""
        return self.head(self.features(images, text), text)
