"""Endless streams of uint8 batches, each a pure function of (seed, number of the batch)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from gan_experiments.bounds import sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.cache import ImageArray

Shapes: TypeAlias = dict[str, tuple[int, ...]]

ORDER, FLIP, CROP, TURN, MASK = range(5)  # a part of the seed, so that no two kinds of draws share random numbers


@dataclass(frozen=True)
class HeldOut:
    """Held-out items, to translate one by one.

    `batch(row)` returns one of the `number` items, in the form that a model gets. `fingerprint` differs whenever their
    content does.
    """

    split: str
    fingerprint: str
    number: int
    batch: Callable[[int], Batch]


@dataclass(frozen=True)
class Part:
    """Some images of an array, at `rows` int64 [n], as real images for the scores; `name` says which ones."""

    of: ImageArray
    rows: Tensor
    name: str

    @property
    def fingerprint(self) -> str:
        """A name that differs whenever the content does."""
        return f"{self.of.fingerprint}-{self.name}"

    @property
    def split(self) -> str:
        """The name of the split."""
        return self.of.split

    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, start: int, stop: int) -> Tensor:
        """Return uint8 images [n, C, H, W]."""
        return self.of.pixels[self.rows[start:stop]]


class Stream(IterableDataset):
    """An endless iteration over `batch(start)`, `batch(start + 1)`, ...; DataLoader workers take turns."""

    start = 0

    def batch(self, number: int) -> Batch:
        """Make batch `number`, counted from 0 at the beginning of training."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for number in itertools.count(self.start + first, step):
            yield self.batch(number)


class ShuffledStream(Stream):
    """A stream of the items of any set, in another random order in each epoch.

    `batch_size` counts all ranks together; rank r of `world` gets rows [r B / world, (r + 1) B / world) of each batch.
    Every epoch shows every item once; a batch may lie across two epochs. Raises ConfigError if the ranks cannot share a
    batch evenly.
    """

    def __init__(self, number: int, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        if batch_size < 1 or batch_size % world:
            raise ConfigError(
                f"data.batch_size={batch_size} cannot be shared by {world} processes: it counts all of them, "
                f"type data.batch_size={max(1, round(batch_size / world)) * world}"
            )
        self.number, self.batch_size, self.seed = number, batch_size, seed
        share = batch_size // world
        self._mine = slice(rank * share, (rank + 1) * share)
        self._orders: dict[int, Tensor] = {}

    def indices(self, number: int) -> Tensor:
        """Return the rows of the whole batch `number`, all ranks together, int64 [batch_size]."""
        position, end = number * self.batch_size, (number + 1) * self.batch_size
        parts = []
        while position < end:
            epoch, offset = divmod(position, self.number)
            parts.append(self._order(epoch)[offset : offset + end - position])
            position += len(parts[-1])
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            for old in [e for e in self._orders if e != epoch - 1]:
                del self._orders[old]
            self._orders[epoch] = torch.randperm(self.number, generator=generator(self.seed, ORDER, epoch))
        return self._orders[epoch]


class BatchStream(ShuffledStream):
    """Shuffled batches of one set of images: "real" uint8 [n, C, H, W] and, if asked for, "label", "flip" and "crop".

    "label" is int64 [n] and "flip" bool [n]. "crop" is int64 [n, 2], the top left corner of each image's crop, 0 to
    `crop_margin` pixels from its own, down and to the right.
    """

    def __init__(
        self,
        images: ImageArray,
        batch_size: int,
        seed: int = 0,
        flip: bool = False,
        crop_margin: int | Sequence[int] = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(len(images), batch_size, seed, rank, world)
        self.data, self.flip, self.crop_margin = images, flip, sides(crop_margin)

    def batch(self, number: int) -> Batch:
        """Read this rank's rows of batch `number`."""
        rows = self.indices(number)[self._mine]
        batch = {"real": self.data.pixels.index_select(0, rows)}
        if self.data.labels is not None:
            batch["label"] = self.data.labels.index_select(0, rows)
        if self.flip:
            batch["flip"] = flips(self.seed, number, self.batch_size)[self._mine]
        if any(self.crop_margin):
            places = torch.tensor(self.crop_margin) + 1
            drawn = torch.randint(
                0, math.lcm(*places.tolist()), (self.batch_size, 2), generator=generator(self.seed, CROP, number)
            )
            batch["crop"] = (drawn % places)[self._mine]  # every place is as likely
        return batch


class StreamLoader(DataLoader):
    """A DataLoader of a Stream that asks `position()` for the first batch's number each time an iteration begins."""

    def __init__(self, stream: Stream, position: Callable[[], int], workers: int = 0, pin_memory: bool = False) -> None:
        super().__init__(stream, batch_size=None, num_workers=workers, pin_memory=pin_memory)
        self.position = position

    def __iter__(self) -> Any:
        self.dataset.start = self.position()  # type: ignore[attr-defined]
        return super().__iter__()


def generator(seed: int, what: int, number: int = 0) -> torch.Generator:
    """Return the random generator of one kind of draw (ORDER, FLIP, ...) for batch or epoch `number`."""
    mixed = np.random.SeedSequence([abs(seed), what, number]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))


def flips(seed: int, number: int, batch_size: int) -> Tensor:
    """Draw which images of the whole batch `number` are mirrored, bool [batch_size]."""
    return torch.rand(batch_size, generator=generator(seed, FLIP, number)) < 0.5


def to_float(pixels: Tensor, flip: Tensor | None = None, channels_last: bool = False) -> Tensor:
    """Map uint8 [N, C, ..., H, W] to the default float dtype in [-1, 1], mirrored where `flip`, bool [N], is True.

    Floats are taken to be in [-1, 1] and are not mirrored.
    """
    if pixels.is_floating_point():
        return pixels.to(torch.get_default_dtype())
    if flip is not None:
        # torch.where(flip, mirrored, pixels) by its bits: on a CPU eight times as fast.
        mask = flip.to(torch.uint8).neg().view(-1, *[1] * (pixels.ndim - 1))  # 255 or 0
        pixels = pixels.flip(-1).bitwise_xor_(pixels).bitwise_and_(mask).bitwise_xor_(pixels)
    if channels_last and pixels.ndim == 4:
        # Half the time of .to(memory_format=torch.channels_last), for the same strides.
        pixels = torch.stack(pixels.unbind(1), -1).permute(0, 3, 1, 2)
    return pixels.to(torch.get_default_dtype()).sub_(127.5).div_(127.5)


def cut(pixels: Tensor, corners: Tensor, size: int | Sequence[int]) -> Tensor:
    """Cut pieces of a `Resolution` out of [N, C, H, W], each image at its own top left corner, int64 [N, 2]."""
    image = torch.arange(len(pixels), device=pixels.device).view(-1, 1, 1, 1)
    channel = torch.arange(pixels.shape[1], device=pixels.device).view(1, -1, 1, 1)
    row, column = (  # [N, height] and [N, width]
        corner[:, None] + torch.arange(side, device=pixels.device)
        for corner, side in zip(corners.unbind(1), sides(size), strict=True)
    )
    return pixels[image, channel, row[:, None, :, None], column[:, None, None, :]]


def turned(pixels: Tensor, turn: Tensor) -> Tensor:
    """Flip and rotate images [N, C, H, W], each by its value of `turn`, int64 [N] from 0 to 7.

    Bit 1 mirrors left to right, bit 2 top to bottom, and bit 4, which rectangles do not have, on the diagonal. The
    eight values are all flips and quarter turns of a square.
    """
    changes = [(1, lambda x: x.flip(-1)), (2, lambda x: x.flip(-2))]
    changes += [(4, lambda x: x.transpose(-1, -2))] if pixels.shape[-1] == pixels.shape[-2] else []
    for bit, change in changes:
        pixels = torch.where((turn & bit).bool().view(-1, 1, 1, 1), change(pixels), pixels)
    return pixels
