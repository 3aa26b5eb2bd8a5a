"""What a sample is: its shape, its bounds, how it is compared, shown and saved. Another kind is one more class.

A data module names the kind of its samples (`data.kind`), and a generator the kind of those it makes, where they are
no images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.contracts import Batch
from gan_experiments.drawing import captioned, save_png, sheet, to_uint8

CELLS = 64
PIXELS = 4_000_000
"""The greatest number of items, and of their pixels, on a sheet of the data."""
TWIN_SIDE = 8
"""Side in pixels at which images are compared: there noise and strokes that are a little thicker do not count."""


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of samples. Samples of the same kind are tensors [n, ...] of `dims` dimensions."""

    name: ClassVar[str]
    """What samples are called in messages."""
    dims: ClassVar[int]
    """The number of dimensions of several samples, n among them."""
    suffix: ClassVar[str] = ""
    """How the name of one sample's file ends; empty where samples are not saved one by one."""
    behind: ClassVar[int] = 0
    """How many real samples `sample` draws its sheets over."""

    @abstractmethod
    def shape(self, data: Any) -> tuple[int, ...]:
        """Return the shape of one sample of a data module, or of its config: anything with its arguments."""

    @abstractmethod
    def bounded(self, samples: Tensor) -> Tensor:
        """Return generated samples [n, ...] within the bounds of real ones; as they are where there are no bounds."""

    @abstractmethod
    def vectors(self, samples: Tensor) -> Tensor:
        """Return a small vector of each sample [n, ...]: float [n, d], whose distances tell how alike two are."""

    @abstractmethod
    def sheet(
        self, cells: Tensor, columns: int | None = None, smallest: int = 512, real: Tensor | None = None
    ) -> Tensor:
        """Show cells [n, k, ...], k samples in each, on one uint8 picture [3, h, w].

        There are `columns` cells in a row where that is given. The picture is at least `smallest` pixels wide. `real`
        samples [m, ...] are shown behind where that tells something.
        """

    @abstractmethod
    def fitting(self, batch: Batch) -> int:
        """Return how many items like those of a batch of the data are shown by `data_sheet`."""

    @abstractmethod
    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Show a batch of the data, all that each item holds with its title, on one uint8 picture [3, h, w]."""

    def save(self, sample: Tensor, path: Path) -> None:
        """Write one sample to a file with the suffix `suffix`, whole or not at all (see `files.whole`)."""
        raise TypeError(f"{self.name} are not saved one by one")

    def samples(self, batch: Batch) -> Batch:
        """Return the keys of a batch whose rows are samples, or of their form."""
        return {key: rows for key, rows in batch.items() if rows.ndim == self.dims}


@dataclass(frozen=True)
class Image(Kind):
    """Images [n, C, H, W] in [-1, 1], C 1 or 3."""

    name = "images"
    dims = 4
    suffix = ".png"

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (channels, resolution, resolution)."""
        return data.channels, data.resolution, data.resolution

    def bounded(self, samples: Tensor) -> Tensor:
        """Clip images to [-1, 1]."""
        return samples.clamp(-1, 1)

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the pixels of each image at 8x8."""
        return F.adaptive_avg_pool2d(samples.float(), TWIN_SIDE).flatten(1)

    def sheet(
        self, cells: Tensor, columns: int | None = None, smallest: int = 512, real: Tensor | None = None
    ) -> Tensor:
        """Lay the images out in rows, see `drawing.sheet`."""
        return sheet(cells, columns, smallest)

    def fitting(self, batch: Batch) -> int:
        """Return 64, or fewer large images."""
        images = self.samples(batch).values()
        return max(4, min(CELLS, PIXELS // (max(rows[0].numel() for rows in images) * len(images))))

    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Lay the images of each item side by side, each above its key; a hole is grey."""
        shown = {key: rows.float() for key, rows in self.samples(batch).items() if key != "mask"}
        if "mask" in batch:
            shown |= {f"{key} and hole": rows * (1 - batch["mask"]) for key, rows in shown.items()}
        side = max(rows.shape[-1] for rows in shown.values())
        cells = [F.interpolate(rows.expand(-1, 3, -1, -1), side, mode="nearest") for rows in shown.values()]
        return captioned(torch.stack(cells, dim=1), [*shown] if len(shown) > 1 else [""], titles)

    def save(self, sample: Tensor, path: Path) -> None:
        """Write a PNG."""
        save_png(to_uint8(sample), path)


@dataclass(frozen=True)
class Points(Kind):
    """Points of the plane [n, 2, 1, 1], without bounds. Real ones lie about [-1, 1]²."""

    name = "points of the plane"
    dims = 4
    behind = 1000
    on_data_sheet: ClassVar[int] = 512
    grey: ClassVar[tuple[int, int, int]] = (90, 90, 90)
    real_colour: ClassVar[tuple[int, int, int]] = (200, 200, 200)
    fake_colour: ClassVar[tuple[int, int, int]] = (31, 119, 180)

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (2, 1, 1), whatever the data say."""
        return 2, 1, 1

    def bounded(self, samples: Tensor) -> Tensor:
        """Return the points as they are."""
        return samples

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the coordinates, float [n, 2]."""
        return samples.float().flatten(1)

    def sheet(
        self, cells: Tensor, columns: int | None = None, smallest: int = 512, real: Tensor | None = None
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


def kind_of(owner: object) -> Kind:
    """Return the kind that a data module, a network or a class of them names; images where it names none."""
    return getattr(owner, "kind", IMAGE)


def scatter(layers: Sequence[tuple[Tensor, tuple[int, int, int]]], side: int, edge: float = 1.5) -> Tensor:
    """Draw points [n, 2] in their colour, each layer over those before it, to a uint8 picture [3, side, side].

    It shows [-edge, edge]². Points beyond lie on its border, those that are not finite in its middle.
    """
    picture = torch.full((3, side, side), 255, dtype=torch.uint8)
    for points, colour in layers:
        places = ((points.float().cpu() / edge).clamp(-1, 1).nan_to_num() + 1) / 2 * (side - 3)  # each 3 pixels wide
        x, y = places.round().long().T
        for right in range(3):
            for up in range(3):
                picture[:, side - 1 - y - up, x + right] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    return picture
