"""Generative Adversarial Networks.

Ian J. Goodfellow, Jean Pouget-Abadie, Mehdi Mirza, Bing Xu, David Warde-Farley, Sherjil Ozair, Aaron Courville, Yoshua
Bengio, 2014. arXiv:1406.2661

The networks for MNIST, of the authors' code (goodfeli/adversarial 1720041, mnist.yaml).

Differs from the paper: images are in [-1, 1], so the generator's sigmoid σ(a) becomes 2σ(a) - 1 = tanh(a / 2) and the
discriminator first maps images back to [0, 1]. The discriminator returns logits. The generator's last bias starts at 0,
not at the logits of the mean image. z is drawn by the model; in the code it is uniform with mean 0 and variance 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gan_experiments.bounds import PartOf, Resolution, Width, sides
from gan_experiments.layers.dropout import Draw, DrawnDropout
from gan_experiments.layers.maxout import Maxout


def init_range(network: nn.Module, bound: float) -> None:
    """Draw the weights of all linear layers from U(-bound, bound); biases are 0 (Pylearn2's `irange`)."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)


class GANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]` in [-1, 1], any resolution.

    Two hidden layers of `width` ReLUs; weights start as U(-0.05, 0.05). Unconditional: labels are ignored.
    """

    classes = 0

    def __init__(
        self, latent_dim: Width = 100, resolution: Resolution = 28, channels: Width = 1, width: Width = 1200
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.shape = (channels, *sides(resolution))
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, math.prod(self.shape)),
        )
        init_range(self, 0.05)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise, `[N, latent_dim]` -> `[N, channels, H, W]`."""
        return torch.tanh(self.layers(z) / 2).unflatten(1, self.shape)


class GANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` in [-1, 1] to logits `[N]` by two maxout layers, any resolution.

    `width` units of `pieces` pieces each; weights start as U(-0.005, 0.005). Dropout keeps each pixel with probability
    `keep_input` and each unit with probability `keep_hidden`. `draw` draws its random numbers, see `DrawnDropout`.
    Unconditional: labels are ignored.
    """

    classes = 0
    drawn = True

    def __init__(
        self,
        resolution: Resolution = 28,
        channels: Width = 1,
        width: Width = 240,
        pieces: Width = 5,
        keep_input: PartOf = 0.8,
        keep_hidden: PartOf = 0.5,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            DrawnDropout(1 - keep_input),
            Maxout(channels * math.prod(sides(resolution)), width, pieces),
            DrawnDropout(1 - keep_hidden),
            Maxout(width, width, pieces),
            DrawnDropout(1 - keep_hidden),
        )
        self.output = nn.Linear(width, 1)
        init_range(self, 0.005)

    def features(self, images: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, H, W]` -> `[N, width]`."""
        x = images.flatten(1) / 2 + 0.5
        for layer in self.layers:
            x = layer(x, draw) if isinstance(layer, DrawnDropout) else layer(x)
        return x

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, width]` -> `[N]`."""
        return self.output(features).squeeze(1)

    def forward(self, images: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Return the logits of images, `[N, channels, H, W]` -> `[N]`."""
        return self.head(self.features(images, label, draw))
