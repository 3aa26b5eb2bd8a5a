"""Unrolled Generative Adversarial Networks.

Luke Metz, Ben Poole, David Pfau, Jascha Sohl-Dickstein, 2017. arXiv:1611.02163

The multilayer perceptrons of the authors' demonstration on a ring of Gaussians (poolio/unrolled_gan 67e2c7a). A point
of the plane is an image of two channels and one pixel, `[N, 2, 1, 1]`, so that what works on images works on it; its
unit is that of data/toy.py.

Differs from the paper: tanh and the initial weights are the demonstration's; the paper's text has ReLUs.
"""

from __future__ import annotations

from torch import Tensor, nn


def _layers(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())


def _init_orthogonal(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain=1.4)
            nn.init.zeros_(layer.bias)


class ToyGenerator(nn.Module):
    """Noise `[N, latent_dim]` to points `[N, 2, 1, 1]`, not bounded: the last layer is linear.

    Two hidden layers of `width` tanh; weights start orthogonal, times 1.4. Not conditional: labels are ignored.
    """

    classes = 0

    def __init__(self, latent_dim: int = 256, width: int = 128) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = _layers(latent_dim, width)
        self.output = nn.Linear(width, 2)
        _init_orthogonal(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Points of noise, `[N, latent_dim]` -> `[N, 2, 1, 1]`."""
        return self.output(self.layers(z))[:, :, None, None]


class ToyDiscriminator(nn.Module):
    """Points `[N, 2, 1, 1]` to logits `[N]`.

    Two hidden layers of `width` tanh; weights start orthogonal, times 1.4. Not conditional: labels are ignored.
    """

    classes = 0
    of_points = True

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.layers = _layers(2, width)
        self.output = nn.Linear(width, 1)
        _init_orthogonal(self)

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """What the last layer sees, `[N, 2, 1, 1]` -> `[N, width]`."""
        return self.layers(images.flatten(1))

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits of features, `[N, width]` -> `[N]`."""
        return self.output(features).squeeze(1)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Logits of points, `[N, 2, 1, 1]` -> `[N]`."""
        return self.head(self.features(images))
