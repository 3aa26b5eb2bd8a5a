"""Kinds of samples: their shape, their bounds, and how they are compared, shown and saved. Each kind is a class.

A data module sets `kind` for its samples, and a generator for the samples that it makes. Without it they are images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import files, provenance
from gan_experiments.bounds import sides
from gan_experiments.contracts import Batch
from gan_experiments.drawing import captioned, png_of, save_png, scaled, sheet, titled, to_uint8, viewed
from gan_experiments.provenance import Mark

CELLS = 64
PIXELS = 4_000_000
"""The largest number of items, and of their pixels in all, on a sheet of the data."""
TWIN_SIDE = 8
"""Side in pixels to which images are reduced to be compared: noise and slightly thicker strokes do not count there."""


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of samples. Samples of the same kind are tensors [n, ...] of `dims` dimensions."""

    name: ClassVar[str]
    """What samples are called in messages."""
    dims: ClassVar[int]
    """The number of dimensions of a tensor of samples, including n."""
    suffix: ClassVar[str] = ""
    """The file suffix of a single sample; empty if samples are not saved one by one."""
    behind: ClassVar[int] = 0
    """The number of real samples that the verb `sample` draws behind the generated ones on its sheets."""

    @abstractmethod
    def shape(self, data: Any) -> tuple[int, ...]:
        """Return the shape of one sample; `data` is a data module, its config or anything with its arguments."""

    @abstractmethod
    def bounded(self, samples: Tensor) -> Tensor:
        """Return generated samples [n, ...] clipped to the bounds of real ones; unchanged if there are none."""

    @abstractmethod
    def vectors(self, samples: Tensor) -> Tensor:
        """Return a small vector for each sample [n, ...], float [n, d]; their distances tell how alike samples are."""

    @abstractmethod
    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Draw cells [n, k, ...], k samples in each, on one uint8 picture [3, h, w].

        `columns`, if given, is the number of cells in a row. The picture is at least `smallest` pixels wide. `real`
        samples [m, ...] are drawn behind, by the kinds for which that shows something. `titles`, if given, are those of
        the rows.
        """

    @abstractmethod
    def fitting(self, batch: Batch) -> int:
        """Return how many items like those of `batch` a `data_sheet` shows."""

    @abstractmethod
    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Draw a batch of the data, each item with all its keys and its title, on one uint8 picture [3, h, w]."""

    def array(self, samples: Tensor) -> np.ndarray:
        """Return samples [n, ...] as an array of the shape that is usual outside of networks."""
        return samples.cpu().numpy()

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write one sample to a file that ends in `suffix`, complete or not at all (see `files.whole`).

        `mark` says in the file that a model made it, if files of that suffix can hold it. `values` are what -1 and 1
        stand for, if it is to be written with more than 8 bits. Raises TypeError if samples are not saved one by one.
        """
        raise TypeError(f"{self.name} are not saved one by one")

    def samples(self, batch: Batch) -> Batch:
        """Return the part of a batch whose tensors have as many dimensions as samples."""
        return {key: rows for key, rows in batch.items() if rows.ndim == self.dims}


@dataclass(frozen=True)
class Image(Kind):
    """Images [n, C, H, W] in [-1, 1]: grey, RGB, or with 4 channels RGB and transparency."""

    name = "images"
    dims = 4
    suffix = ".png"
    shown: tuple[int, ...] = ()
    """The bands that are shown, counted from 1; empty for images that are grey or in colours."""

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (channels, height, width)."""
        return data.channels, *sides(data.resolution)

    def bounded(self, samples: Tensor) -> Tensor:
        """Clip images to [-1, 1]."""
        return samples.clamp(-1, 1)

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the pixels of each image at 8x8."""
        return F.adaptive_avg_pool2d(samples.float(), TWIN_SIDE).flatten(1)

    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Lay the images out in rows, see `drawing.sheet` and `drawing.titled`."""
        if titles and columns:
            return titled(cells, columns, titles, smallest, self.shown)
        return sheet(cells, columns, smallest, self.shown)

    def array(self, samples: Tensor) -> np.ndarray:
        """Return images [n, H, W, C]."""
        return np.ascontiguousarray(samples.movedim(1, -1).cpu().numpy())

    def pictures(self, images: Tensor) -> Tensor:
        """Return uint8 images [n, C, H, W] with the channels of picture files: grey, RGB or RGBA."""
        return self.viewed(images) if self.shown or images.shape[1] not in (1, 3, 4) else images

    def viewed(self, images: Tensor) -> Tensor:
        """Return uint8 images [n, C, H, W] as scores see them, [n, 1 or 3, H, W]: transparency lies over white."""
        return viewed(to_uint8(images), self.shown)

    def seen_as(self, channels: int) -> str:
        """Say what of images the scores see; "" for all, that is of grey and RGB."""
        return "RGB over white" if channels == 4 else ""

    def fitting(self, batch: Batch) -> int:
        """Return 64, or less for large images."""
        images = self.samples(batch).values()
        return max(4, min(CELLS, PIXELS // (max(rows[0].numel() for rows in images) * len(images))))

    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Lay the images of each item side by side, each above its key; masked pixels are grey."""
        shown = {key: rows.float() for key, rows in self.samples(batch).items() if key != "mask"}
        if "mask" in batch:
            shown |= {f"{key} and hole": rows * (1 - batch["mask"]) for key, rows in shown.items()}
        size = max(tuple(rows.shape[2:]) for rows in shown.values())
        pictures = [viewed(to_uint8(rows), self.shown, checkered=True) for rows in shown.values()]
        cells = [F.interpolate(rows.expand(-1, 3, -1, -1), size, mode="nearest") for rows in pictures]
        return captioned(torch.stack(cells, dim=1), [*shown] if len(shown) > 1 else [""], titles)

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write a PNG, of 8 bits or of 16."""
        if values is None:
            save_png(to_uint8(sample), path, mark)
            return
        levels = np.rint(scaled(sample, values)).clip(0, 65535).astype(np.uint16)
        with files.whole(path) as unfinished:
            unfinished.write_bytes(png_of(levels, texts=provenance.chunks(mark)))


@dataclass(frozen=True)
class Bands(Image):
    """Images [n, C, H, W] in [-1, 1] of any number of bands, of which three or one are shown."""

    name = "images of several bands"
    suffix = ".npy"

    @classmethod
    def of(cls, channels: int, shown: Sequence[int] | None = None) -> Bands:
        """Return the kind of images with so many bands; by default the first three are shown, or the first of two."""
        return cls(tuple(shown or (range(1, 4) if channels > 2 else [1])))

    def seen_as(self, channels: int) -> str:
        """Say which bands the scores see."""
        return f"band{'s' if len(self.shown) > 1 else ''} {', '.join(map(str, self.shown))} of {channels}"

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write an array [H, W, bands], uint8, or with `values` float32 in these; it has no place for a mark."""
        eight = to_uint8(sample).permute(1, 2, 0).cpu().numpy()
        with files.whole(path) as unfinished, open(unfinished, "wb") as file:
            np.save(file, eight if values is None else scaled(sample, values).astype(np.float32))


@dataclass(frozen=True)
class Points(Kind):
    """Points of the plane, [n, 2, 1, 1], unbounded. Real ones lie roughly within [-1, 1]²."""

    name = "points of the plane"
    dims = 4
    behind = 1000
    on_data_sheet: ClassVar[int] = 512
    grey: ClassVar[tuple[int, int, int]] = (90, 90, 90)
    real_colour: ClassVar[tuple[int, int, int]] = (200, 200, 200)
    fake_colour: ClassVar[tuple[int, int, int]] = (31, 119, 180)

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (2, 1, 1) for any data."""
        return 2, 1, 1

    def bounded(self, samples: Tensor) -> Tensor:
        """Return the points as they are."""
        return samples

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the coordinates, float [n, 2]."""
        return samples.float().flatten(1)

    def array(self, samples: Tensor) -> np.ndarray:
        """Return the coordinates [n, 2]."""
        return samples.flatten(1).cpu().numpy()

    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Draw all points in one plane of `smallest` x `smallest` pixels, over the `real` ones."""
        below = [] if real is None else [(real.reshape(-1, 2), self.real_colour)]
        return scatter([*below, (cells.reshape(-1, 2), self.fake_colour)], smallest)

    def fitting(self, batch: Batch) -> int:
        """Return 512."""
        return self.on_data_sheet

    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Draw the points of all keys in one plane, without their titles."""
        return scatter([(rows.reshape(-1, 2), self.grey) for rows in self.samples(batch).values()], 512)


IMAGE = Image()
POINTS = Points()


def named(name: str, channels: int) -> Kind:
    """Return the kind of samples of a name; `channels` are those of bands."""
    return next(kind for kind in (IMAGE, POINTS, Bands.of(channels)) if kind.name == name)


def kind_of(owner: object) -> Kind:
    """Return the kind that a data module, a network or their class sets; IMAGE if it sets none."""
    return getattr(owner, "kind", IMAGE)


def scatter(layers: Sequence[tuple[Tensor, tuple[int, int, int]]], side: int, edge: float = 1.5) -> Tensor:
    """Draw layers of points [n, 2], each in its colour and over those before, on a uint8 picture [3, side, side].

    The picture shows [-edge, edge]². Points beyond are drawn on its border, NaN in its middle.
    """
    picture = torch.full((3, side, side), 255, dtype=torch.uint8)
    for points, colour in layers:
        places = ((points.float().cpu() / edge).clamp(-1, 1).nan_to_num() + 1) / 2 * (side - 3)  # each 3 pixels wide
        x, y = places.round().long().T
        for right in range(3):
            for up in range(3):
                picture[:, side - 1 - y - up, x + right] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    return picture
