"""Temporal Generative Adversarial Nets with Singular Value Clipping.

Masaki Saito, Eiichi Matsumoto, Shunta Saito, 2016. arXiv:1611.06624

Differs from the paper: z is normal, where the paper's is uniform in [-1, 1]; batch norm has no offset in the
discriminator and the first generator, as in the authors' code, and there is none after the discriminator's first layer,
where the code has one that it does not use. Other resolutions than 64 have more or fewer layers.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Depth, Positive, Resolution, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import CLIP
from gan_experiments.layers.clips import as_clips, as_frames
from gan_experiments.layers.resolution import doublings_from_4, start_of

EPS = 2e-5
"""Of batch norm, as in Chainer."""


def _scaled(norm: nn.Module) -> nn.Module:
    """Take the offset from a batch norm."""
    norm.bias = None  # type: ignore[assignment]
    return norm


class TGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to clips `[N, C, length, H, W]` in [-1, 1] (sections 3.1 and 3.2, table 1).

    The temporal generator makes a `fast_dim` code of each frame from z, and the image generator each frame of its code
    and z. `width` is the number of channels before the frames, and each layer before has twice as many. Raises
    ConfigError for a resolution that is no power of two from 16 on, and for a length that is none from 2 on.
    """

    kind = CLIP

    def __init__(
        self,
        latent_dim: Width = 100,
        fast_dim: Width = 100,
        resolution: Resolution = 64,
        length: Depth = 16,
        channels: Width = 3,
        width: Width = 32,
        temporal_width: Width = 128,
        spread: Positive = 0.01,
    ) -> None:
        super().__init__()
        self.latent_dim, self.length = latent_dim, length
        if length < 2 or length.bit_count() != 1:
            nearest = 1 << max(1, round(math.log2(length)))
            raise ConfigError(f"TGANGenerator doubles its codes up to {length} frames; type data.length={nearest}")
        doublings = length.bit_length() - 1
        sizes = [temporal_width * max(1, 1 << i) for i in (2, 1, *[0] * doublings)][:doublings]
        layers: list[nn.Module] = [nn.ConvTranspose1d(latent_dim, sizes[0], 1)]
        for before, after in itertools.pairwise([*sizes, fast_dim]):
            layers += [_scaled(nn.BatchNorm1d(before, EPS)), nn.ReLU(True), nn.ConvTranspose1d(before, after, 4, 2, 1)]
        self.temporal = nn.Sequential(*layers, nn.Tanh())
        stages = doublings_from_4(resolution, "TGANGenerator")
        self.start = start_of(resolution, stages)
        widths = [width << i for i in reversed(range(stages + 1))]  # 512, 256, 128, 64, 32
        half = widths[0] // 2 * math.prod(self.start)
        self.slow = nn.Sequential(nn.Linear(latent_dim, half, bias=False), nn.BatchNorm1d(half, EPS), nn.ReLU(True))
        self.fast = nn.Sequential(nn.Linear(fast_dim, half, bias=False), nn.BatchNorm1d(half, EPS), nn.ReLU(True))
        frame: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(widths):
            frame += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow, EPS), nn.ReLU(True)]
        self.frame = nn.Sequential(*frame, nn.ConvTranspose2d(width, channels, 3, 1, 1), nn.Tanh())
        _initialise(self, spread)

    def forward(self, z: Tensor) -> Tensor:
        """Generate clips."""
        codes = self.temporal(z[:, :, None])  # [N, fast_dim, T]
        each = codes.transpose(1, 2).flatten(0, 1)
        again = z[:, None].expand(-1, self.length, -1).flatten(0, 1)
        maps = [part(code).unflatten(1, (-1, *self.start)) for part, code in ((self.slow, again), (self.fast, each))]
        return as_clips(self.frame(torch.cat(maps, dim=1)), self.length)


class TGANDiscriminator(nn.Module):
    """Clips `[N, C, length, H, W]` to logits `[N]` (section 3.3): the mean over what is left of the frames.

    Convolutions of 4x4x4 halve the frames and the sides. Raises ConfigError for clips that are too short.
    """

    def __init__(
        self,
        resolution: Resolution = 64,
        length: Depth = 16,
        channels: Width = 3,
        width: Width = 64,
        spread: Positive = 0.01,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        stages = doublings_from_4(resolution, "TGANDiscriminator")
        if length >> stages == 0:
            raise ConfigError(
                f"TGANDiscriminator halves clips of {length} frames {stages} times; type data.length={1 << stages} or"
                " more"
            )
        widths = [width << i for i in range(stages)]
        layers: list[nn.Module] = [nn.Conv3d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for narrow, wide in itertools.pairwise(widths):
            norm = _scaled(nn.BatchNorm3d(wide, EPS)) if batch_norm else nn.Identity()
            layers += [nn.Conv3d(narrow, wide, 4, 2, 1), norm, nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], 1, start_of(resolution, stages))
        _initialise(self, spread)

    def features(self, clips: Tensor) -> Tensor:
        """Return the last layer's input, `[N, C, T, H, W]` -> `[N, F, t, h, w]`."""
        return self.layers(clips)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features."""
        return self.last(as_frames(features)).unflatten(0, (len(features), -1)).flatten(1).mean(1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits of clips."""
        return self.head(self.features(clips))


def _initialise(network: nn.Module, spread: float) -> None:
    """Draw all weights uniformly within ±`spread`; offsets are 0 and batch norm's scales 1."""
    for layer in network.modules():
        weight: Any = getattr(layer, "weight", None)
        if weight is None:
            continue
        if weight.ndim > 1:
            nn.init.uniform_(weight, -spread, spread)
        if getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
