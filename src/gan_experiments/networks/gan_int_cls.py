"""Generative Adversarial Text to Image Synthesis.

Scott Reed, Zeynep Akata, Xinchen Yan, Lajanugen Logeswaran, Bernt Schiele, Honglak Lee, 2016. arXiv:1605.05396

The networks of figure 2, with the residual blocks of the authors' code (main_cls_int.lua).

Differs from the paper: the discriminator returns logits, without the sigmoid; convolutions have no biases, which the
authors' code sets to zero before each step; resolutions other than 64 add or remove stages at the wide end, and the
residual blocks stay at 4 and 8 pixels.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Resolution, Width
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.resolution import doublings_from_4, start_of
from gan_experiments.networks.text import Text


class Bottleneck(nn.Module):
    """A residual block: convolutions of 1, 3 and 3 pixels over `inner` channels, added to their input."""

    def __init__(self, width: int, inner: int, slope: float) -> None:
        super().__init__()
        sizes = ((width, inner, 1), (inner, inner, 3), (inner, width, 3))
        layers: list[nn.Module] = []
        for inputs, outputs, size in sizes:
            layers += [nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)]
            layers += [nn.LeakyReLU(slope, inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])
        self.activation = nn.LeakyReLU(slope, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Transform maps [N, width, H, W] to the same shape."""
        return self.activation(x + self.layers(x))


class GANINTCLSGenerator(nn.Module):
    """Noise `[N, latent_dim]` and a `Text` of `text_features` to images `[N, channels, H, W]` in [-1, 1].

    The sentence is compressed to `told` numbers and joined to z. `width` is the number of channels of the last hidden
    layer; each before it has twice as many. Raises ConfigError unless `resolution`, or its shorter side, is a power of
    two from 16 on.
    """

    conditional = True

    def __init__(
        self,
        text_features: Width = 1024,
        latent_dim: Width = 100,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 128,
        told: Width = 128,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        stages = doublings_from_4(resolution, type(self).__name__)
        widths = [width * 2**i for i in reversed(range(stages))]  # 1024, 512, 256, 128
        start = start_of(resolution, stages)
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim + told, widths[0], start, bias=False)]
        for stage, (wide, narrow) in enumerate(zip(widths, [*widths[1:], channels], strict=True)):
            layers.append(nn.BatchNorm2d(wide))
            layers.append(Bottleneck(wide, max(wide // 4, 1), 0.0) if stage < 2 else nn.ReLU(inplace=True))
            layers.append(nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        init_normal(self, std=0.02)
        self.told = nn.Sequential(nn.Linear(text_features, told), nn.LeakyReLU(0.2))  # as torch draws it

    def forward(self, z: Tensor, text: Text) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and a `Text` of N captions -> `[N, channels, H, W]`."""
        x = torch.cat([z, self.told(text.sentence)], dim=1)
        return self.layers(x[:, :, None, None])  # [N, 228, 1, 1] -> [N, 1024, 4, 4] -> ... -> [N, 3, 64, 64]


class GANINTCLSDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` and a `Text` of `text_features` to logits `[N]`: real, and described by the text.

    The sentence is compressed to `told` numbers, repeated at each place of the 4x4 maps, and joined to these. `width`
    is the number of channels of the first layer; each further one has twice as many. Raises ConfigError unless
    `resolution`, or its shorter side, is a power of two from 16 on.
    """

    conditional = True

    def __init__(
        self,
        text_features: Width = 1024,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 64,
        told: Width = 128,
    ) -> None:
        super().__init__()
        stages = doublings_from_4(resolution, type(self).__name__)
        widths = [width * 2**i for i in range(stages)]  # 64, 128, 256, 512
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False)]
        for stage, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            # In the authors' code the last two layers before the residual block have no activation between them.
            if stage == 0 or stage < stages - 2:
                layers.append(nn.LeakyReLU(0.2, inplace=True))
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(wide)]
        top = widths[-1]
        layers.append(Bottleneck(top, max(top // 4, 1), 0.2))
        self.images = nn.Sequential(*layers)
        self.joint = nn.Sequential(
            nn.Conv2d(top + told, top, 1, bias=False), nn.BatchNorm2d(top), nn.LeakyReLU(0.2, inplace=True)
        )
        self.output = nn.Linear(top * math.prod(start_of(resolution, stages)), 1, bias=False)
        init_normal(self, std=0.02)
        norm = nn.BatchNorm1d(told)
        nn.init.normal_(norm.weight, 1.0, 0.02)
        self.told = nn.Sequential(nn.Linear(text_features, told), norm, nn.LeakyReLU(0.2))

    def features(self, images: Tensor, text: Text) -> Tensor:
        """Return the last layer's input, `[N, channels, H, W]` and a `Text` of N captions -> `[N, F]`."""
        maps = self.images(images)  # [N, 512, 4, 4]
        told = self.told(text.sentence)[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        return self.joint(torch.cat([maps, told], dim=1)).flatten(1)

    def head(self, features: Tensor, text: Text) -> Tensor:
        """Return the logits of features, `[N, F]` -> `[N]`."""
        return self.output(features).squeeze(1)

    def forward(self, images: Tensor, text: Text) -> Tensor:
        """Return the logits of images `[N, channels, H, W]` and a `Text` of N captions -> `[N]`."""
        return self.head(self.features(images, text), text)
