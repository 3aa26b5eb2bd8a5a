"""Gaussians in the plane, the usual toy data for mode collapse: {"real", "label"}.

A point is an image of two channels and one pixel, `[2, 1, 1]`, for networks such as those of networks/toy.py. Batches
are in a unit of their own, the largest coordinate of a Gaussian's centre, so that the centres lie in [-1, 1]. A batch
times `unit` is in the papers' coordinates.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Classes, Count, Depth, Positive, Resolution, Seed, Width, settled, shown
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import Stream, generator
from gan_experiments.data.module import DataModule
from gan_experiments.kinds import POINTS

_TRAINING, _FIXED, _SAMPLES = range(3)  # a part of the seed, so that no two kinds of draws share random numbers


class ModeCoverage(NamedTuple):
    """How many modes were found, and the share of points that are of high quality."""

    modes: int
    high_quality: float


def mode_coverage(points: Tensor, centres: Tensor, std: float) -> ModeCoverage:
    """Count modes as VEEGAN does (Srivastava et al. 2017, arXiv:1705.07761, §4.1).

    A point is of high quality if it lies within three standard deviations of the nearest centre, as 1 - exp(-9/2) =
    98.9% of real points do. A mode is found if it is the nearest one to at least one such point. `points` `[N, 2]` or
    `[N, 2, 1, 1]`, `centres` `[K, 2]` and `std` are in the same unit.
    """
    distances, nearest = (points.flatten(1)[:, None] - centres.to(points)).norm(dim=2).min(1)
    good = distances <= 3 * std
    return ModeCoverage(len(nearest[good].unique()), good.double().mean().item())


@dataclass(frozen=True)
class Modes:
    """The Gaussians themselves, against which points are scored: `centres` `[K, 2]` and `std` in the batches' unit."""

    title: str
    split: str
    centres: Tensor
    std: float

    @property
    def fingerprint(self) -> str:
        """A name that differs whenever the Gaussians do."""
        return hashlib.sha256(repr((self.centres.tolist(), self.std)).encode()).hexdigest()[:32]

    @property
    def class_names(self) -> list[str]:
        """The numbers of the Gaussians."""
        return [str(index) for index in range(len(self.centres))]

    def coverage(self, points: Tensor) -> ModeCoverage:
        """Count the modes among points `[N, 2]`, see `mode_coverage`."""
        return mode_coverage(points, self.centres, self.std)

    def __len__(self) -> int:
        """Raise ConfigError: points are drawn without end, and only scores of images ask for their number."""
        raise ConfigError(f"data={self.title.lower()} has points and no images to score: type metrics=modes")


class MixtureStream(Stream):
    """Batches of new points: "real" float32 `[n, 2, 1, 1]` and int64 "label" `[n]`, each a function of (seed, number).

    `batch_size` counts all ranks together; rank r of `world` gets rows [r B / world, (r + 1) B / world) of each batch.
    Raises ConfigError if the ranks cannot share a batch evenly.
    """

    def __init__(
        self, centres: Tensor, std: float, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise ConfigError(
                f"data.batch_size={batch_size} cannot be shared by {world} processes: it counts all of them, "
                f"type data.batch_size={max(1, round(batch_size / world)) * world}"
            )
        self.centres, self.std, self.batch_size, self.seed = centres, std, batch_size, seed
        share = batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)

    def batch(self, number: int) -> Batch:
        """Draw batch `number` and keep this rank's rows."""
        rng = generator(self.seed, _TRAINING, number)
        label = torch.randint(len(self.centres), (self.batch_size,), generator=rng)
        return {
            "real": _around(self.centres[label], self.std, rng)[self._mine],
            "label": label[self._mine],
        }


class MixtureData(DataModule):
    """Points of equally likely Gaussians of one standard deviation, new ones in each batch.

    The label of a point is the number of its Gaussian. `centres` `[K, 2]` and `std`, the standard deviation of each
    coordinate, are in the batches' unit, which is `unit` in the paper's coordinates. `batch_size` is the whole batch of
    one discriminator step over all ranks and accumulation steps, `classes` the number of Gaussians, or 0 for no labels.
    `resolution` and `channels` exist for the networks that read them from the data. Raises ConfigError for impossible
    values.
    """

    provides: frozenset[str] = frozenset({"real", "label"})
    kind = POINTS
    centres: Tensor
    std: float
    unit: float

    def __init__(
        self,
        batch_size: Count = 512,
        classes: Classes = 0,
        seed: Seed = 0,
        resolution: Resolution = 1,
        channels: Width = 2,
    ) -> None:
        super().__init__()
        if (settled(resolution), channels) != (1, 2):
            raise ConfigError(
                f"data.resolution={shown(resolution)} data.channels={channels}: a point of the plane is an image of"
                " one pixel and two channels, type data.resolution=1 data.channels=2"
            )
        self.batch_size, self.classes, self.seed = batch_size, classes, seed
        self.resolution, self.channels = 1, channels
        if not classes:
            self.provides = self.provides - {"label"}

    def place(self, centres: Tensor, std: float) -> None:
        """Put Gaussians of standard deviation `std` at `centres` `[K, 2]`, in the paper's unit."""
        if self.classes not in (0, len(centres)):
            raise ConfigError(
                f"data.classes={self.classes}, but {self.title} has {len(centres)} Gaussians: type"
                f" data.classes={len(centres)}, or data.classes=0 for no labels"
            )
        if std <= 0:
            raise ConfigError(f"data.std={std}: a positive number is needed, type data.std=0.02")
        self.unit = centres.abs().max().item()
        self.centres, self.std = centres / self.unit, std / self.unit

    @property
    def class_counts(self) -> list[int]:
        """The same number for each class, as all are equally likely; empty without classes."""
        return [1] * self.classes

    @property
    @override
    def fingerprint(self) -> str:
        return self.reference().fingerprint

    @override
    def describe(self) -> str:
        line = f"{self.title}: new points of {len(self.centres)} Gaussians in the plane"
        return f"{line}, standard deviation {self.unit * self.std:g}, in units of {self.unit:g}"

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        return MixtureStream(self.centres, self.std, self.batch_size, self.seed, rank, world)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Remove the labels if `classes` is 0."""
        return {key: rows for key, rows in batch.items() if key in self.provides}

    def fixed(self, n: int) -> Batch:
        """Return `n` points of the Gaussians 0, 1, 2, ... in turn, the same at each call."""
        label = torch.arange(n) % len(self.centres)
        real = _around(self.centres[label], self.std, generator(self.seed, _FIXED))
        return self.on_after_batch_transfer({"real": real, "label": label})

    def samples(self, n: int, seed: int = 0) -> Tensor:
        """Draw `n` real points `[n, 2, 1, 1]`, for comparison; none of them is trained on."""
        rng = generator(seed, _SAMPLES)
        label = torch.randint(len(self.centres), (n,), generator=rng)
        return _around(self.centres[label], self.std, rng)

    def mode_coverage(self, points: Tensor) -> ModeCoverage:
        """Count the modes among points `[N, 2, 1, 1]` or `[N, 2]` in the batches' unit, see `toy.mode_coverage`."""
        return mode_coverage(points, self.centres, self.std)

    def reference(self, split: str = "train") -> Modes:
        """Return the Gaussians, for `metrics.modes`; they are the same for every split."""
        return Modes(self.title, split, self.centres, self.std)


class Ring(MixtureData):
    """`modes` Gaussians evenly on a circle, the first at (radius, 0) (Metz et al. 2017, arXiv:1611.02163, §3.1).

    The paper has radius 2 and standard deviation 0.02. The batches have half of both, as the authors' demonstration
    has, whose first and last mode coincide.
    """

    def __init__(self, modes: Depth = 8, radius: Positive = 2.0, std: Positive = 0.02, **settings: Any) -> None:
        super().__init__(**settings)
        if modes < 1 or radius <= 0:
            raise ConfigError(
                f"data.modes={modes} data.radius={radius}: positive numbers are needed, type data.modes=8 data.radius=2"
            )
        angles = 2 * math.pi / modes * torch.arange(modes)
        self.place(radius * torch.stack([angles.cos(), angles.sin()], dim=1), std)


class Grid(MixtureData):
    """`side` x `side` Gaussians, `spacing` apart, around (0, 0) (Srivastava et al. 2017, arXiv:1705.07761, §4.1).

    They are numbered row by row. The paper has 25, 2 apart, of standard deviation 0.05; the batches a quarter of both.
    """

    def __init__(self, side: Depth = 5, spacing: Positive = 2.0, std: Positive = 0.05, **settings: Any) -> None:
        super().__init__(**settings)
        if side < 2 or spacing <= 0:
            raise ConfigError(
                f"data.side={side} data.spacing={spacing}: two modes a side or more are needed, a positive distance"
                " apart; type data.side=5 data.spacing=2"
            )
        places = spacing * (torch.arange(side) - (side - 1) / 2)
        self.place(torch.cartesian_prod(places, places), std)


def _around(centres: Tensor, std: float, rng: torch.Generator) -> Tensor:
    """Draw a point near each centre, `[n, 2]` -> `[n, 2, 1, 1]`."""
    return (centres + std * torch.randn(centres.shape, generator=rng))[:, :, None, None]
