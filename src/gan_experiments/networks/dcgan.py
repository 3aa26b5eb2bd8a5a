"""Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks.

Alec Radford, Luke Metz, Soumith Chintala, 2015. arXiv:1511.06434

Differs from the paper: the width is 64, as in both reference codes (dcgan.torch, pytorch/examples), where figure 1 has
128 (1024 channels at 4x4); the discriminator returns logits, without the sigmoid; resolutions other than 64 add stages
at the wide end, or take them away.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from gan_experiments.layers.init import init_normal
from gan_experiments.layers.resolution import doublings_from_4


class DCGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, resolution, resolution]` in [-1, 1] (section 3, figure 1).

    `width` counts the channels of the last hidden layer; each layer before has twice as many: 8·4·2·1 at 64 pixels.
    `batch_norm=False` is WGAN's section 4.3. Raises ConfigError unless `resolution` is a power of two from 16 on.
    """

    def __init__(
        self, latent_dim: int = 100, resolution: int = 64, channels: int = 3, width: int = 64, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        stages = doublings_from_4(resolution, "DCGANGenerator")
        widths = [width * 2**i for i in reversed(range(stages))]  # 512, 256, 128, 64
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, widths[0], 4, stride=1, padding=0, bias=False)]
        for wide, narrow in zip(widths, [*widths[1:], channels], strict=True):
            layers += [nn.BatchNorm2d(wide)] if batch_norm else []
            layers += [nn.ReLU(inplace=True), nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        init_normal(self, std=0.02)

    def forward(self, z: Tensor) -> Tensor:
        """Images of noise, `[N, latent_dim]` -> `[N, channels, resolution, resolution]`."""
        return self.layers(z[:, :, None, None])  # [N, 100, 1, 1] -> [N, 512, 4, 4] -> ... -> [N, 3, 64, 64]


class DCGANDiscriminator(nn.Module):
    """Images `[N, channels, resolution, resolution]` to logits `[N]`: the generator mirrored (section 3).

    The first layer has no batch norm. Raises ConfigError unless `resolution` is a power of two from 16 on.
    """

    def __init__(self, resolution: int = 64, channels: int = 3, width: int = 64, batch_norm: bool = True) -> None:
        super().__init__()
        stages = doublings_from_4(resolution, "DCGANDiscriminator")
        widths = [width * 2**i for i in range(stages)]  # 64, 128, 256, 512
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(wide)] if batch_norm else []
        layers += [nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(widths[-1], 1, 4, stride=1, padding=0, bias=False)]
        self.layers = nn.Sequential(*layers)
        init_normal(self, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, `[N, channels, resolution, resolution]` -> `[N]`."""
        return self.layers(images).reshape(len(images))  # [N, 1, 1, 1]: an image of another size would leave more
