"""Images with a hole to be filled in: {"real", "mask"}, the data of inpainting."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Resolution, Whole, shown, sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.archives import Places
from gan_experiments.data.batches import MASK, HeldOut, Shapes, Stream, to_float
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.decode import Shape
from gan_experiments.data.image_module import CroppedData, FromFiles, spread_rows
from gan_experiments.data.splits import SPLITTING

_FIXED = 2**32  # stands for the number of a batch in the masks of `fixed`; no batch has it


def centre(size: tuple[int, int], rng: np.random.Generator, overlap: int = 4) -> np.ndarray:
    """Mask the middle of half the height and width, less `overlap` pixels on each side; nothing is random.

    The Context Encoder generates the whole middle: the overlap makes it join the known pixels (Pathak et al. 2016,
    5.1).
    """
    mask = np.zeros(size, np.uint8)
    mask[tuple(slice(side // 4 + overlap, side // 4 + side // 2 - overlap) for side in size)] = 1
    return mask


def boxes(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Mask one to four boxes anywhere, whose sides are an eighth to a half of the image's."""
    mask = np.zeros(size, np.uint8)
    for _ in range(rng.integers(1, 5)):
        height, width = (rng.integers(max(1, side // 8), side // 2 + 1) for side in size)
        top, left = rng.integers(0, size[0] - height + 1), rng.integers(0, size[1] - width + 1)
        mask[top : top + height, left : left + width] = 1
    return mask


def strokes(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Mask one to three strokes of a brush that turns back and forth (Yu et al. 2019, arXiv:1806.03589, algorithm 1).

    The widths, 12 to 40 pixels of 256, grow with the image, as the lengths do.
    """
    end = np.array(size[::-1], float)  # right and below
    image = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(image)
    length = math.hypot(*size) / 8
    for _ in range(rng.integers(1, 4)):
        corners = int(rng.integers(4, 12))
        lower, upper = 2 * math.pi / 5 + rng.uniform(0, 2 * math.pi / 15, 2) * (-1, 1)
        turns = rng.uniform(lower, upper, corners)
        angles = np.where(np.arange(corners) % 2 == 0, 2 * math.pi - turns, turns)
        points = [rng.uniform(0, end)]
        for angle in angles:
            step = np.clip(rng.normal(length, length / 2), 0, 2 * length)
            points.append(np.clip(points[-1] + step * np.array([math.cos(angle), math.sin(angle)]), 0, end))
        width = max(1, round(rng.uniform(12, 40) * min(size) / 256))
        draw.line([tuple(point) for point in points], fill=1, width=width)
        for x, y in points:  # round ends and joints
            draw.ellipse((x - width // 2, y - width // 2, x + width // 2, y + width // 2), fill=1)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return np.array(image)


KINDS: dict[str, Callable[[tuple[int, int], np.random.Generator], np.ndarray]] = {
    "centre": centre,
    "boxes": boxes,
    "strokes": strokes,
}


class MaskedStream(Stream):
    """A stream of images with a mask for each image of each batch, "mask" uint8 [n, 1, H, W]."""

    def __init__(self, stream: Stream, draw: Callable[[int, range], Tensor], mine: range) -> None:
        self.stream, self.draw, self.mine = stream, draw, mine

    def batch(self, number: int) -> Batch:
        """Make batch `number`."""
        return {**self.stream.batch(number), "mask": self.draw(number, self.mine)}


class Masked(FromFiles, CroppedData):
    """Any images below `root`, a folder or zip archive: "real", and "mask", 1 in the hole, float [N, 1, H, W].

    `mask` is the kind of masks: "centre" (one for all images), or "boxes" or "strokes" (a new one for each image of
    each batch). `overlap` is that of "centre", in pixels. `test_root` is the folder or archive of the split "test", see
    `Folder`. `crop` is that of `Folder`. Raises ConfigError for an unknown kind of masks, for an
    overlap that leaves no hole, and if there is no image.
    """

    provides = frozenset({"real", "mask"})
    splits = ("train", "val", "test")
    chosen = SPLITTING

    def __init__(
        self,
        root: Places = "data",
        resolution: Resolution = 128,
        mask: str = "centre",
        overlap: Whole = 4,
        test_root: Places | None = None,
        crop: Resolution | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        faults = []
        if mask not in KINDS:
            faults.append(f"data.mask={mask}: type data.mask={', '.join(KINDS)}")
        if mask == "centre" and not 0 <= overlap < min(sides(resolution)) // 4:
            faults.append(f"data.overlap={overlap} of {shown(resolution)} pixels leaves no hole: type data.overlap=0")
        if self.classes:
            faults.append(f"data.classes={self.classes}, but masked images have no classes: type data.classes=0")
        if faults:
            raise ConfigError(*faults)
        self.root, self.test_root, self.crop = root, test_root, crop
        self.holes = f"{mask}-{overlap}-0"  # of held-out images, the same for all seeds
        self.draw_mask = partial(centre, overlap=overlap) if mask == "centre" else KINDS[mask]

    def load_at(self, split: str, resolution: Shape) -> ImageArray:
        """Build or open the cache of a split."""
        return cached(self.files(split), self._settings(self.crop, resolution, split), self.cache, split)

    @property
    @override
    def shapes(self) -> Shapes:
        return {**super().shapes, "mask": (1, *sides(self.resolution))}

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        stream, share = super().stream(rank, world), self.batch_size // world
        return MaskedStream(stream, self.masks, range(rank * share, (rank + 1) * share))

    def masks(self, number: int, places: range) -> Tensor:
        """Draw the masks at some places of batch `number`: uint8 [n, 1, H, W]; those of _FIXED hang on no seed."""
        seed = 0 if number == _FIXED else abs(self.seed)
        rngs = (np.random.default_rng([seed, MASK, number, place]) for place in places)
        drawn = [self.draw_mask(sides(self.resolution), rng) for rng in rngs]
        return torch.from_numpy(np.stack(drawn))[:, None]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Cut, mirror and scale "real" to float [-1, 1], and bring "mask" to its dtype."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        batch["mask"] = batch["mask"].to(batch["real"].dtype)
        return batch

    def fixed(self, n: int) -> Batch:
        """Return `n` images and masks, of the split "test" if there is one, the same at each call."""
        images = self.reference("test" if self.has("test") else "train")
        real = to_float(images.pixels[spread_rows(n, len(images))])
        return {"real": real, "mask": self.masks(_FIXED, range(n)).to(real.dtype)}

    def held_out(self, split: str | None = None) -> HeldOut:
        """Return the images of `split`, by default "test", each with a mask of its own, the same at each call.

        Raises ConfigError if there is no such split.
        """
        images = self.reference(split or "test")

        def batch(row: int) -> Batch:
            real = to_float(images.pixels[row : row + 1])
            return {"real": real, "mask": self.masks(_FIXED, range(row, row + 1)).to(real.dtype)}

        return HeldOut(images.split, f"{images.fingerprint}-{self.holes}", len(images), batch)
