"""Generating Videos with Scene Dynamics.

Carl Vondrick, Hamed Pirsiavash, Antonio Torralba, 2016. arXiv:1609.02612

Differs from the paper: the discriminator's two logits are one, their difference, which leaves the softmax as it is.
Other resolutions than 64 have more or fewer layers, and clips of other lengths than 32 begin with more or fewer frames.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Depth, Resolution, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import CLIP
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.resolution import doublings_from_4, start_of

STD = 0.01
"""The deviation of the initial weights; that of batch norm's scales is 0.02."""


class Streams(NamedTuple):
    """What clips are of: foreground `[N, C, T, H, W]`, mask `[N, 1, T, H, W]` in [0, 1], background `[N, C, H, W]`."""

    foreground: Tensor
    mask: Tensor
    background: Tensor

    @property
    def clips(self) -> Tensor:
        """Equation 2: m · f + (1 - m) · b."""
        return self.mask * self.foreground + (1 - self.mask) * self.background[:, :, None]


class VGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to clips `[N, C, length, H, W]` in [-1, 1] of a moving foreground on a still background.

    Section 2.1, figure 1. `width` is the number of channels of the last hidden layers of both streams; each layer
    before has twice as many. Raises ConfigError for a resolution that is no power of two from 16 on, and for a length
    that the layers, which double it, do not reach.
    """

    kind = CLIP

    def __init__(
        self,
        latent_dim: Width = 100,
        resolution: Resolution = 64,
        length: Depth = 32,
        channels: Width = 3,
        width: Width = 64,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        frames, start, widths = _sizes(resolution, length, width, "VGANGenerator")
        still = nn.ConvTranspose2d(latent_dim, widths[0], start)
        moving = nn.ConvTranspose3d(latent_dim, widths[0], (frames, *start))
        self.background = _background(still, widths, channels)
        self.trunk = _trunk(moving, widths)
        self.foreground = nn.ConvTranspose3d(widths[-1], channels, 4, 2, 1)
        self.mask = nn.ConvTranspose3d(widths[-1], 1, 4, 2, 1)
        _initialise(self)

    def streams(self, z: Tensor) -> Streams:
        """Return the streams of clips of noise `[N, latent_dim]`."""
        return self._of(z[:, :, None, None], z[:, :, None, None, None])

    def _of(self, still: Tensor, moving: Tensor) -> Streams:
        h = self.trunk(moving)
        return Streams(self.foreground(h).tanh(), self.mask(h).sigmoid(), self.background(still))

    def forward(self, z: Tensor) -> Tensor:
        """Generate clips."""
        return self.streams(z).clips


class VGANPredictor(VGANGenerator):
    """The first `given` frames `[N, C, given, H, W]` to clips `[N, C, length, H, W]` that begin so (section 3.4).

    An encoder, of as many convolutions of the frames as channels of one image, takes the place of the noise, and all
    layers have twice as many channels. The paper gives one frame.
    """

    def __init__(
        self,
        resolution: Resolution = 64,
        length: Depth = 32,
        channels: Width = 3,
        width: Width = 128,
        given: Depth = 1,
    ) -> None:
        nn.Module.__init__(self)
        self.given = given
        frames, _, widths = _sizes(resolution, length, width, "VGANPredictor")
        if given >= length:
            raise ConfigError(
                f"model.generator.given={given}: clips have {length} frames, and none is left to predict; type"
                f" model.generator.given={length // 4}"
            )
        layers: list[nn.Module] = [nn.Conv2d(given * channels, widths[-1], 4, 2, 1), nn.ReLU(True)]
        for narrow, wide in itertools.pairwise([*widths[::-1]]):
            layers += [nn.Conv2d(narrow, wide, 4, 2, 1), nn.BatchNorm2d(wide, 1e-3), nn.ReLU(True)]
        self.encoder = nn.Sequential(*layers)
        self.background = _background(None, widths, channels)
        self.trunk = _trunk(nn.ConvTranspose3d(widths[0], widths[0], (frames, 1, 1)), widths)
        self.foreground = nn.ConvTranspose3d(widths[-1], channels, 4, 2, 1)
        self.mask = nn.ConvTranspose3d(widths[-1], 1, 4, 2, 1)
        _initialise(self)

    @override
    def streams(self, first: Tensor) -> Streams:
        """Return the streams of clips that begin with the frames `first`, `[N, C, given, H, W]`."""
        h = self.encoder(first.flatten(1, 2))
        return self._of(h, h[:, :, None])


class VGANDiscriminator(nn.Module):
    """Clips `[N, C, length, H, W]` to logits `[N]` (section 2.2): convolutions of 4x4x4 that halve time and sides."""

    def __init__(
        self,
        resolution: Resolution = 64,
        length: Depth = 32,
        channels: Width = 3,
        width: Width = 64,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        frames, start, widths = _sizes(resolution, length, width, "VGANDiscriminator")
        layers: list[nn.Module] = [nn.Conv3d(channels, widths[-1], 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for narrow, wide in itertools.pairwise([*widths[::-1]]):
            norm = nn.BatchNorm3d(wide, 1e-3) if batch_norm else nn.Identity()
            layers += [nn.Conv3d(narrow, wide, 4, 2, 1), norm, nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv3d(widths[0], 2, (frames, *start))
        _initialise(self)

    def features(self, clips: Tensor) -> Tensor:
        """Return the last layer's input, `[N, C, T, H, W]` -> `[N, F, t, h, w]`."""
        return self.layers(clips)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features: that of real less that of fake."""
        real, fake = self.last(features).flatten(1).unbind(1)
        return real - fake

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits of clips."""
        return self.head(self.features(clips))


def _sizes(resolution: Resolution, length: int, width: int, network: str) -> tuple[int, tuple[int, int], list[int]]:
    """Return the frames and the sides of the smallest maps, and the channels from there on."""
    doublings = doublings_from_4(resolution, network)
    if length % (1 << doublings):
        multiple = 1 << doublings
        raise ConfigError(
            f"{network} cannot make {length} frames at a resolution of {resolution}: it needs a length that {multiple}"
            f" divides; type data.length={max(1, round(length / multiple)) * multiple}"
        )
    return length >> doublings, start_of(resolution, doublings), [width << i for i in reversed(range(doublings))]


def _background(first: nn.Module | None, widths: list[int], channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [] if first is None else [first, nn.BatchNorm2d(widths[0]), nn.ReLU(True)]
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1), nn.BatchNorm2d(narrow), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh())


def _trunk(first: nn.Module, widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = [first, nn.BatchNorm3d(widths[0]), nn.ReLU(True)]
    for wide, narrow in itertools.pairwise(widths):
        layers += [nn.ConvTranspose3d(wide, narrow, 4, 2, 1), nn.BatchNorm3d(narrow), nn.ReLU(True)]
    return nn.Sequential(*layers)


def _initialise(network: nn.Module) -> None:
    init_normal(network, STD)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.normal_(layer.weight, 1.0, 0.02)
