"""Unrolled Generative Adversarial Networks.

Luke Metz, Ben Poole, David Pfau, Jascha Sohl-Dickstein, 2017. arXiv:1611.02163

The multilayer perceptrons of the authors' demonstration on a ring of Gaussians (poolio/unrolled_gan 67e2c7a). Points of
the plane are images of two channels and one pixel, `[N, 2, 1, 1]`, so that the code for images works on them. Their
unit is that of data/toy.py.

Differs from the paper: tanh and the initial weights are the demonstration's; the paper's text has ReLUs, which are an
option here.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from gan_experiments.bounds import Depth, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import POINTS
from gan_experiments.layers.minibatch import MinibatchDiscrimination

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
MINIBATCH = ("none", "discrimination")


def _layers(features: int, width: int, depth: int, activation: str) -> nn.Sequential:
    if activation not in ACTIVATIONS:
        raise ConfigError(f"toy networks have no activation={activation}: type activation={' or '.join(ACTIVATIONS)}")
    layers = nn.Sequential()
    for before, after in pairwise([features, *depth * [width]]):
        layers.extend([nn.Linear(before, after), ACTIVATIONS[activation]()])
    return layers


def _init_orthogonal(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, gain=1.4)
            nn.init.zeros_(layer.bias)


class ToyGenerator(nn.Module):
    """Noise `[N, latent_dim]` to points `[N, 2, 1, 1]`, not bounded: the last layer is linear.

    `depth` hidden layers of `width` units with `activation` "tanh" or "relu"; weights start orthogonal, times 1.4.
    Unconditional: labels are ignored. Raises ConfigError for another activation.
    """

    classes = 0
    kind = POINTS

    def __init__(self, latent_dim: Width = 256, width: Width = 128, depth: Depth = 2, activation: str = "tanh") -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = _layers(latent_dim, width, depth, activation)
        self.output = nn.Linear(width, 2)
        _init_orthogonal(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate points of noise, `[N, latent_dim]` -> `[N, 2, 1, 1]`."""
        return self.output(self.layers(z))[:, :, None, None]


class ToyDiscriminator(nn.Module):
    """Points `[N, 2, 1, 1]` to logits `[N]`.

    `depth` hidden layers of `width` units with `activation` "tanh" or "relu"; weights start orthogonal, times 1.4.
    Unconditional: labels are ignored. `minibatch` is "none", or "discrimination" before the last layer (Salimans et al.
    2016, arXiv:1606.03498, section 3.2; 8 kernels of 4 dimensions). Raises ConfigError for another activation or
    `minibatch`.
    """

    classes = 0
    kind = POINTS

    def __init__(self, width: Width = 128, depth: Depth = 2, activation: str = "tanh", minibatch: str = "none") -> None:
        super().__init__()
        if minibatch not in MINIBATCH:
            raise ConfigError(f"ToyDiscriminator has no minibatch={minibatch}: type minibatch={' or '.join(MINIBATCH)}")
        self.layers = _layers(2, width, depth, activation)
        features = width
        if minibatch == "discrimination":
            discrimination = MinibatchDiscrimination(width, kernels=8, kernel_dim=4)
            self.layers.append(discrimination)
            features += discrimination.kernels
        self.output = nn.Linear(features, 1)
        _init_orthogonal(self)

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the last layer's input, `[N, 2, 1, 1]` -> `[N, F]`."""
        return self.layers(images.flatten(1))

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, F]` -> `[N]`."""
        return self.output(features).squeeze(1)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of points, `[N, 2, 1, 1]` -> `[N]`."""
        return self.head(self.features(images))
