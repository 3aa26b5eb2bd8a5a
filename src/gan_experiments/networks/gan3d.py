"""Learning a Probabilistic Latent Space of Object Shapes via 3D Generative-Adversarial Modeling (3D-GAN).

Jiajun Wu, Chengkai Zhang, Tianfan Xue, William T. Freeman, Joshua B. Tenenbaum, 2016. arXiv:1610.07584

Differs from the paper: voxels lie in [-1, 1] as all samples here, so that the generator's sigmoid is stretched to
2 sigmoid - 1; z is normal, where the release has it uniform in [0, 1); the discriminator returns logits, without the
sigmoid; resolutions other than 64 add or remove stages at the wide end. Convolutions have no biases, as in the release.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Width
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import VOLUME
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.resolution import doublings_from_4


class GAN3DGenerator(nn.Module):
    """Noise `[N, latent_dim]` to volumes `[N, 1, R, R, R]` in [-1, 1] (section 3.1, figure 1).

    `width` is the number of channels of the last hidden layer; each layer before it has twice as many: 8, 4, 2 and 1
    times `width` at 64 voxels. Raises ConfigError unless `resolution` R is a power of two from 16 on.
    """

    classes = 0
    kind = VOLUME

    def __init__(self, latent_dim: Width = 200, resolution: Width = 64, width: Width = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        stages = doublings_from_4(resolution, "GAN3DGenerator")
        widths = [width * 2**i for i in reversed(range(stages))]  # 512, 256, 128, 64
        layers: list[nn.Module] = [nn.ConvTranspose3d(latent_dim, widths[0], 4, stride=1, padding=0, bias=False)]
        for wide, narrow in itertools.pairwise([*widths, 1]):
            layers += [nn.BatchNorm3d(wide), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose3d(wide, narrow, 4, stride=2, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers)
        init_normal(self, std=0.02)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate volumes of noise, `[N, latent_dim]` -> `[N, 1, R, R, R]`."""
        return 2 * torch.sigmoid(self.layers(z[:, :, None, None, None])) - 1


class GAN3DDiscriminator(nn.Module):
    """Volumes `[N, 1, R, R, R]` to logits `[N]`: the generator's mirror image (section 3.1).

    `width` is the number of channels of the first layer; each layer after it has twice as many. `batch_norm` is the
    paper's; penalties on each sample's gradient need it off. Raises ConfigError unless `resolution` R is a power of two
    from 16 on, and in forward for volumes of another.
    """

    classes = 0
    kind = VOLUME

    def __init__(self, resolution: Width = 64, width: Width = 64, batch_norm: bool = True) -> None:
        super().__init__()
        self.resolution = resolution
        widths = [width * 2**i for i in range(doublings_from_4(resolution, "GAN3DDiscriminator"))]  # 64, ..., 512
        layers: list[nn.Module] = [nn.Conv3d(1, width, 4, stride=2, padding=1, bias=False)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Conv3d(narrow, wide, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm3d(wide)] if batch_norm else []
        layers += [nn.LeakyReLU(0.2, inplace=True), nn.Conv3d(widths[-1], 1, 4, stride=1, padding=0, bias=False)]
        self.layers = nn.Sequential(*layers)
        init_normal(self, std=0.02)

    def features(self, volumes: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the last layer's input, `[N, 1, R, R, R]` -> `[N, F]`."""
        if volumes.shape[1:] != (1, *[self.resolution] * 3):
            given = "x".join(map(str, volumes.shape[1:]))
            raise ConfigError(
                f"GAN3DDiscriminator was given samples of {given}: it was made for 1x{self.resolution}x"
                f"{self.resolution}x{self.resolution}; type data.resolution={self.resolution}"
            )
        return self.layers[:-1](volumes).flatten(1)

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, F]` -> `[N]`."""
        return self.layers[-1](features.unflatten(1, (-1, 4, 4, 4))).flatten()

    def forward(self, volumes: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of volumes, `[N, 1, R, R, R]` -> `[N]`."""
        return self.head(self.features(volumes))
