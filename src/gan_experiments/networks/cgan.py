"""Conditional Generative Adversarial Nets.

Mehdi Mirza, Simon Osindero, 2014. arXiv:1411.1784

The networks of section 4.1, for MNIST. The noise (or image) and the label pass through a layer each, then both through
a joint layer.

Differs from the paper: images are in [-1, 1] and the discriminator returns logits, both as in networks/gan.py. The
paper names no initial weights: the discriminator's are those of networks/gan.py, the generator's are He's, because with
smaller ones the noise hardly reaches the image. Dropout is on every hidden layer and on the discriminator's images; the
paper only says that both networks have it. z is drawn by the model; in the paper it is uniform in [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import BelowOne, Classes, Resolution, Width, sides
from gan_experiments.layers.dropout import Draw, DrawnDropout
from gan_experiments.layers.labels import one_hot, required_classes
from gan_experiments.layers.maxout import Maxout
from gan_experiments.networks.gan import init_range


class CGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` and labels `[N]` to images `[N, channels, H, W]` in [-1, 1].

    `noise_units` ReLUs for the noise and `label_units` for the label, then a joint layer of `width` ReLUs. Any
    resolution. `draw` draws dropout's random numbers, see `DrawnDropout`. Raises ConfigError without classes, and in
    forward without labels.
    """

    drawn = True

    def __init__(
        self,
        latent_dim: Width = 100,
        resolution: Resolution = 28,
        channels: Width = 1,
        classes: Classes = 10,
        width: Width = 1200,
        noise_units: Width = 200,
        label_units: Width = 1000,
        dropout: BelowOne = 0.5,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.classes = required_classes(classes, "CGANGenerator")
        self.shape = (channels, *sides(resolution))
        self.of_noise = nn.Linear(latent_dim, noise_units)
        self.of_label = nn.Linear(classes, label_units)
        self.joint = nn.Linear(noise_units + label_units, width)
        self.output = nn.Linear(width, math.prod(self.shape))
        self.dropout = DrawnDropout(dropout)
        for layer in (self.of_noise, self.of_label, self.joint, self.output):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]`, labels int64 `[N]` -> `[N, channels, H, W]`."""
        y = one_hot(label, self.classes, z, "CGANGenerator")
        h = torch.cat([self.of_noise(z), self.of_label(y)], dim=1)  # [N, 200 + 1000]
        h = self.joint(self.dropout(F.relu(h), draw))
        return torch.tanh(self.output(self.dropout(F.relu(h), draw)) / 2).unflatten(1, self.shape)


class CGANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` in [-1, 1] and labels `[N]` to logits `[N]`, any resolution.

    `width` maxout units for the image and `label_units` for the label, with 5 pieces each, then a joint layer of
    `width` maxout units with 4 pieces. `draw` is as in the generator. Raises ConfigError without classes, and in
    forward without labels.
    """

    drawn = True

    def __init__(
        self,
        resolution: Resolution = 28,
        channels: Width = 1,
        classes: Classes = 10,
        width: Width = 240,
        label_units: Width = 50,
        dropout: BelowOne = 0.5,
    ) -> None:
        super().__init__()
        self.classes = required_classes(classes, "CGANDiscriminator")
        self.of_image = Maxout(channels * math.prod(sides(resolution)), width, 5)
        self.of_label = Maxout(classes, label_units, 5)
        self.joint = Maxout(width + label_units, width, 4)
        self.output = nn.Linear(width, 1)
        self.dropout = DrawnDropout(dropout)
        init_range(self, 0.005)

    def features(self, images: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, H, W]` and int64 `[N]` -> `[N, width]`."""
        y = one_hot(label, self.classes, images, "CGANDiscriminator")
        x = self.dropout(images.flatten(1) / 2 + 0.5, draw)
        h = self.dropout(torch.cat([self.of_image(x), self.of_label(y)], dim=1), draw)  # [N, 240 + 50]
        return self.dropout(self.joint(h), draw)

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, width]` -> `[N]`."""
        return self.output(features).squeeze(1)

    def forward(self, images: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Return the logits of images `[N, channels, H, W]` and labels int64 `[N]` -> `[N]`."""
        return self.head(self.features(images, label, draw))
