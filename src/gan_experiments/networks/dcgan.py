"""Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks.

Alec Radford, Luke Metz, Soumith Chintala, 2015. arXiv:1511.06434

Differs from the paper: the width is 64, as in both reference codes (dcgan.torch, pytorch/examples), where figure 1 has
128 (1024 channels at 4x4); the discriminator returns logits, without the sigmoid; resolutions other than 64 add or
remove stages at the wide end. Labels, minibatch layers and virtual batch norm are options that the paper does not have;
all are off by default.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Resolution, Whole, Width, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.labels import conditioned_classes, one_hot, required_label
from gan_experiments.layers.minibatch import MinibatchDiscrimination, MinibatchStandardDeviation
from gan_experiments.layers.resolution import doublings_from_4, start_of
from gan_experiments.layers.virtual_batch_norm import ReferenceBatch, VirtualBatchNorm, WithoutReference

MINIBATCH = ("none", "discrimination", "standard_deviation")


def _norm(batch_norm: bool, reference_batch: int, network: str) -> Callable[[int], list[nn.Module]]:
    """Return a function from a number of channels to the normalisation: a list of one layer, or an empty list."""
    if not reference_batch:
        return lambda channels: [nn.BatchNorm2d(channels)] if batch_norm else []
    if not batch_norm:
        raise ConfigError(
            f"{network} with batch_norm=false has no batch norm that a reference_batch={reference_batch} could make"
            " virtual: type batch_norm=true, or reference_batch=0"
        )
    return lambda channels: [VirtualBatchNorm(channels, reference_batch)]


class DCGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]` in [-1, 1] (section 3, figure 1).

    `width` is the number of channels of the last hidden layer; each layer before it has twice as many: 8, 4, 2 and 1
    times `width` at 64 pixels. `batch_norm=False` is WGAN's section 4.3. `conditioning="concatenation"` concatenates
    the label, one of `classes`, to z as a one-hot vector. `reference_batch` > 0 makes batch norm virtual, with a
    reference batch of that many rows of N(0, 1) noise whose labels cycle through the classes, unless `set_reference`
    replaces it. Raises ConfigError unless `resolution`, or its shorter side, is a power of two from 16 on, and for
    options that do not fit together; in forward for missing labels.
    """

    def __init__(
        self,
        latent_dim: Width = 100,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 64,
        batch_norm: bool = True,
        classes: Classes = 0,
        conditioning: str = "none",
        reference_batch: Whole = 0,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.classes = conditioned_classes(conditioning, classes, ("none", "concatenation"), "DCGANGenerator")
        norm = _norm(batch_norm, reference_batch, "DCGANGenerator")
        stages = doublings_from_4(resolution, "DCGANGenerator")
        widths = [width * 2**i for i in reversed(range(stages))]  # 512, 256, 128, 64
        inputs = latent_dim + self.classes
        start = start_of(resolution, stages)
        layers: list[nn.Module] = [nn.ConvTranspose2d(inputs, widths[0], start, stride=1, padding=0, bias=False)]
        for wide, narrow in zip(widths, [*widths[1:], channels], strict=True):
            layers += norm(wide)
            layers += [nn.ReLU(inplace=True), nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)]
        if reference_batch:
            layers.insert(-1, WithoutReference(reference_batch))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        init_normal(self, std=0.02)
        self.reference: ReferenceBatch | None = None
        if reference_batch:
            label = torch.arange(reference_batch) % self.classes if self.classes else None
            self.reference = ReferenceBatch(self._joined(torch.randn(reference_batch, latent_dim), label))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images of noise `[N, latent_dim]` and optional labels int64 `[N]` -> `[N, channels, R, R]`."""
        x = self._joined(z, label)
        if self.reference is not None:
            x = self.reference(x)
        return self.layers(x)  # [N, 100, 1, 1] -> [N, 512, 4, 4] -> ... -> [N, 3, 64, 64]

    def set_reference(self, z: Tensor, label: Tensor | None = None) -> None:
        """Set the reference batch of virtual batch norm: noise `[reference_batch, latent_dim]`, optionally labels."""
        assert self.reference is not None
        self.reference.set(self._joined(z, label))

    def _joined(self, z: Tensor, label: Tensor | None) -> Tensor:
        if self.classes:
            z = torch.cat([z, one_hot(label, self.classes, z, "DCGANGenerator")], dim=1)
        return z[:, :, None, None]


class DCGANDiscriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]`: the generator mirrored (section 3).

    The first layer has no batch norm.

    Args:
        resolution: of the images; its shorter side is a power of two from 16 on.
        channels: of the images.
        width: channels of the first layer; each further one has twice as many.
        batch_norm: whether there is batch norm.
        classes: the number of labels.
        conditioning: "none"; "concatenation" of the label's one-hot maps to the image; "projection" (Miyato & Koyama
            2018, arXiv:1802.05637, eq. 4), which adds the product of the features with an embedding of the label;
            "auxiliary" (AC-GAN, Odena et al. 2017, arXiv:1610.09585), which has `classify` and ignores labels.
        minibatch: the layer before the last one: "none", "discrimination" (100 kernels of 5 dimensions) or
            "standard_deviation" (groups of 4), see layers/minibatch.py.
        reference_batch: if > 0, batch norm is virtual, with a reference batch of that many images. They are NaN, and so
            is every logit, until `set_reference` is called.

    Raises:
        ConfigError: for another resolution, and for options that do not fit together; in forward for missing labels.
    """

    def __init__(
        self,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 64,
        batch_norm: bool = True,
        classes: Classes = 0,
        conditioning: str = "none",
        minibatch: str = "none",
        reference_batch: Whole = 0,
    ) -> None:
        super().__init__()
        choices = ("none", "concatenation", "projection", "auxiliary")
        self.conditioning = conditioning
        self.classes = conditioned_classes(conditioning, classes, choices, "DCGANDiscriminator")
        if minibatch not in MINIBATCH:
            raise ConfigError(
                f"DCGANDiscriminator has no minibatch={minibatch}: type minibatch= one of {', '.join(MINIBATCH)}"
            )
        norm = _norm(batch_norm, reference_batch, "DCGANDiscriminator")
        stages = doublings_from_4(resolution, "DCGANDiscriminator")
        inputs = channels + (self.classes if conditioning == "concatenation" else 0)
        widths = [width * 2**i for i in range(stages)]  # 64, 128, 256, 512
        layers: list[nn.Module] = [nn.Conv2d(inputs, width, 4, stride=2, padding=1, bias=False)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False)]
            layers += norm(wide)
        layers += [nn.LeakyReLU(0.2, inplace=True)]
        layers += [WithoutReference(reference_batch)] if reference_batch else []
        self.end = start_of(resolution, stages)
        area = math.prod(self.end)
        features = widths[-1] * area
        if minibatch == "discrimination":
            discrimination = MinibatchDiscrimination(features)
            features += discrimination.kernels
            layers += [nn.Flatten(), discrimination, nn.Linear(features, 1, bias=False)]
        else:
            wide = widths[-1]
            if minibatch == "standard_deviation":
                wide += 1
                features += area
                layers += [MinibatchStandardDeviation()]
            layers += [nn.Conv2d(wide, 1, self.end, stride=1, padding=0, bias=False)]
        self.layers = nn.Sequential(*layers)
        if conditioning == "auxiliary":
            self.classifier = nn.Linear(features, self.classes)
        init_normal(self, std=0.02)
        if conditioning == "projection":
            self.embedding = nn.Embedding(self.classes, features)
            nn.init.normal_(self.embedding.weight, std=0.02)
        self.reference: ReferenceBatch | None = None
        if reference_batch:
            self.reference = ReferenceBatch(torch.full((reference_batch, inputs, *sides(resolution)), torch.nan))

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, R, R]` and optional labels int64 `[N]` -> `[N, F]`."""
        x = self._joined(images, label)
        if self.reference is not None:
            x = self.reference(x)
        for layer in self.layers[:-1]:
            x = layer(x)  # [N, 3, 64, 64] -> ... -> [N, 512, 4, 4]
        return x.flatten(1)

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, F]` and optional labels int64 `[N]` -> `[N]`."""
        last = self.layers[-1]
        seen = features if isinstance(last, nn.Linear) else features.unflatten(1, (-1, *self.end))
        logits = last(seen).reshape(len(features))  # [N, 1, 1, 1] -> [N]
        if self.conditioning == "projection":
            label = required_label(label, "DCGANDiscriminator")
            logits = logits + (self.embedding(label) * features).sum(1)
        return logits

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits of the classes, `[N, F]` -> `[N, classes]`; for `conditioning="auxiliary"` only."""
        return self.classifier(features)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images `[N, channels, R, R]` and optional labels int64 `[N]` -> `[N]`."""
        return self.head(self.features(images, label), label)

    def set_reference(self, images: Tensor, label: Tensor | None = None) -> None:
        """Set the reference batch of virtual batch norm: `reference_batch` images, optionally with labels."""
        assert self.reference is not None
        self.reference.set(self._joined(images, label))

    def _joined(self, images: Tensor, label: Tensor | None) -> Tensor:
        if self.conditioning != "concatenation":
            return images
        maps = one_hot(label, self.classes, images, "DCGANDiscriminator")[:, :, None, None]
        return torch.cat([images, maps.expand(-1, -1, *images.shape[2:])], dim=1)
