"""Images, grey or in colours, with transparency, or of several bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import files, provenance
from gan_experiments.bounds import sides
from gan_experiments.contracts import Batch
from gan_experiments.drawing import captioned, png_of, save_png, scaled, sheet, titled, to_uint8, viewed
from gan_experiments.kinds.kind import Kind
from gan_experiments.provenance import Mark

CELLS = 64
PIXELS = 4_000_000
"""The largest number of items, and of their pixels in all, on a sheet of the data."""
TWIN_SIDE = 8
"""Side in pixels to which images are reduced to be compared: noise and slightly thicker strokes do not count there."""


@dataclass(frozen=True)
class Image(Kind):
    """Images [n, C, H, W] in [-1, 1]: grey, RGB, or with 4 channels RGB and transparency."""

    name = "images"
    dims = 4
    suffix = ".png"
    recognised = True
    quantisation = "uint8, to the nearest level"
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
        """Return images [n, C, H, W] as uint8 with the channels of picture files: grey, RGB or RGBA."""
        images = to_uint8(images)
        return self.viewed(images) if self.shown or images.shape[1] not in (1, 3, 4) else images

    def viewed(self, images: Tensor) -> Tensor:
        """Return uint8 images [n, C, H, W] as scores see them, [n, 1 or 3, H, W]: transparency lies over white."""
        return viewed(to_uint8(images), self.shown)

    def seen_as(self, channels: int) -> str:
        """Say what of images the scores see; "" for all, that is of grey and RGB."""
        return "RGB over white" if channels == 4 else ""

    @property
    def views(self) -> tuple[Any, ...]:
        """The bands that are shown, if they are chosen."""
        return (self.shown,) if self.shown else ()

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
    recognised = False

    @classmethod
    def of(cls, channels: int, shown: Sequence[int] | None = None) -> Bands:
        """Return the kind of images with so many bands; by default the first three are shown, or the first of two."""
        return cls(shown=tuple(shown or (range(1, 4) if channels > 2 else [1])))

    def seen_as(self, channels: int) -> str:
        """Say which bands the scores see."""
        return f"band{'s' if len(self.shown) > 1 else ''} {', '.join(map(str, self.shown))} of {channels}"

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write an array [H, W, bands], uint8, or with `values` float32 in these; it has no place for a mark."""
        eight = to_uint8(sample).permute(1, 2, 0).cpu().numpy()
        with files.whole(path) as unfinished, open(unfinished, "wb") as file:
            np.save(file, eight if values is None else scaled(sample, values).astype(np.float32))


IMAGE = Image()
