"""Points of a latent space: fixed samples of a generator, walks, spherical interpolation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.conditions import Conditions, require_same_words
from gan_experiments.contracts import ConfigError

if TYPE_CHECKING:
    from gan_experiments.data.module import DataModule
    from gan_experiments.models.noise_to_image import NoiseToImage


def noise(n: int, latent_dim: int, seed: int, truncation: float | None = None, styled: bool = False) -> Tensor:
    """Draw z float32 [n, latent_dim] on the CPU; see `NoiseToImage.fixed_noise`."""
    if truncation is not None and not (isinstance(truncation, (int, float)) and truncation > 0):
        largest = "ψ" if styled else "the largest |z|"
        raise ConfigError(f"truncation={truncation}: {largest} is a number above 0; type for example 0.5")
    generator = torch.Generator().manual_seed(seed)
    if truncation is None or styled:
        return torch.randn(n, latent_dim, generator=generator, dtype=torch.float32)
    z = torch.empty(n, latent_dim)
    return nn.init.trunc_normal_(z, a=-truncation, b=truncation, generator=generator)


@dataclass(frozen=True)
class Sampler:
    """A source of fixed images, generated chunk by chunk; a chunk is the same on every rank."""

    model: NoiseToImage
    seed: int
    ema: bool
    truncation: float | None
    law: str = "data"
    held_out: Conditions | None = None
    """Conditions of a split that was not trained on, to draw from; None for those of the training."""
    split: str = "train"

    def against(self, data: DataModule, split: str) -> Sampler:
        """Return a sampler of what the real samples of a split are conditioned on, such as held-out captions.

        Raises ConfigError for captions of other words than the model's.
        """
        held_out = data.conditions_of(split)
        if held_out is None or not isinstance(self.model.conditions, type(held_out)):
            return self
        require_same_words(self.model.conditions, held_out)
        return replace(self, held_out=held_out, split=split)

    @property
    def conditions(self) -> Conditions:
        """What samples are conditioned on."""
        return self.held_out or self.model.conditions

    def __call__(self, index: int, n: int) -> Tensor:
        """Generate the images [n, C, H, W] in [-1, 1] of chunk `index`."""
        z = self.model.fixed_noise(n, self.chunk_seed(index), self.truncation)
        return self.model.sample(z, self.ema, self.labels(index, n), self.truncation)

    def told(self, index: int, conditions: Tensor) -> Tensor:
        """Generate the images [n, C, H, W] of chunk `index`, of these conditions [n, ...]."""
        z = self.model.fixed_noise(len(conditions), self.chunk_seed(index), self.truncation)
        return self.model.sample(z, self.ema, conditions, self.truncation)

    def labels(self, index: int, n: int) -> Tensor | None:
        """Draw the classes int64 [n] of chunk `index`; None for a generator without classes."""
        return self.conditions(n, self.chunk_seed(index), self.law)

    def asked(self, n: int, batch_size: int) -> tuple[Tensor, list[str]] | None:
        """Return the classes int64 [n] of the first n samples in chunks of `batch_size`, and the names of all classes.

        None for a generator without classes.
        """
        if not self.model.classes:
            return None
        chunks = [self.labels(index, min(batch_size, n - start)) for index, start in enumerate(range(0, n, batch_size))]
        return torch.cat([chunk for chunk in chunks if chunk is not None]), [
            self.model.class_name(label) for label in range(self.model.classes)
        ]

    @property
    def passport(self) -> dict[str, str]:
        """What a score's passport says of the conditions, see `Conditions.passport`."""
        drawn_of = {"conditions": f"of the split {self.split}"} if self.held_out else {}
        return {**self.conditions.passport(self.law), **drawn_of}

    def along(self, z: Tensor) -> Tensor:
        """Generate the images [n, C, H, W] of places z [n, latent_dim], without clipping them to the kind's bounds.

        Calls with the same number of places use the same classes.
        """
        labels = self.model.conditions(len(z), self.seed, self.law)
        return self.model.sample(z, self.ema, labels, self.truncation, bounded=False)

    def chunk_seed(self, index: int) -> int:
        """Return the seed of a chunk, within the 32 bits that a generator on the CPU reads."""
        return (self.seed * 0x9E3779B1 + index) % 2**32  # far from the chunks of other seeds


def closed_walk(stations: Tensor, steps: int, arcs: bool = True) -> Iterator[Tensor]:
    """Yield places [n, d] on n closed walks through `stations` [places, n, d], `steps` each, on arcs or lines."""
    for here, there in zip(stations, stations.roll(-1, dims=0), strict=True):
        for step in range(steps):
            yield slerp(here, there, step / steps) if arcs else here.lerp(there, step / steps)


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Interpolate rows [n, d] spherically, from a at t = 0 to b at t = 1 (White 2016, arXiv:1609.04468)."""
    cosine = F.cosine_similarity(a, b, dim=-1).clamp(-1, 1)[:, None]
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    # Nearly parallel rows: the straight line is the limit.
    straight = sine < 1e-6
    weights = [torch.sin((1 - t) * angle) / sine, torch.sin(t * angle) / sine]
    weight_a, weight_b = (torch.where(straight, s, w) for s, w in zip((1 - t, t), weights, strict=True))
    return weight_a * a + weight_b * b
