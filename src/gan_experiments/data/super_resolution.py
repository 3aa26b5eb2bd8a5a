"""Images of low and of high resolution: {"low", "high"}, the data of super-resolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Resolution, Width, settled, shown, sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.archives import Places
from gan_experiments.data.batches import (
    CROP,
    TURN,
    HeldOut,
    Shapes,
    ShuffledStream,
    Stream,
    generator,
    to_float,
    turned,
)
from gan_experiments.data.cache import ImageArray
from gan_experiments.data.decode import Range, Reading, Shape, UnreadableImageError, decoded
from gan_experiments.data.download import fetch_public
from gan_experiments.data.image_module import FromFiles, spread_rows
from gan_experiments.data.met import counted, lines
from gan_experiments.data.paired import TwoFolders, stem
from gan_experiments.data.resize import imresize
from gan_experiments.data.sources import Files
from gan_experiments.data.splits import SPLITTING
from gan_experiments.data.uncropped import WholeImages, cached_whole

SCALES = (2, 3, 4, 8)
_REACH = 3  # pixels of low resolution that the kernel of `imresize` reaches beyond a crop, and one more


class CropStream(ShuffledStream):
    """Batches of random crops: "high" uint8 [n, C, H, W], of `resolution`, and "low", smaller by `scale`.

    "turn", int64 [n], says how `turned` flips and rotates them; `turns` has the bits that it may have. `rows` are those
    of the images that are large enough.
    """

    def __init__(
        self, images: WholeImages, rows: Tensor, resolution: Shape, scale: int, turns: int, *stream: Any, **options: Any
    ) -> None:
        super().__init__(len(rows), *stream, **options)
        self.images, self.rows, self.turns = images, rows, turns
        self.resolution, self.scale = resolution, scale

    def batch(self, number: int) -> Batch:
        """Read this rank's crops of batch `number`."""
        drawn = torch.rand(self.batch_size, 2, dtype=torch.float64, generator=generator(self.seed, CROP, number))
        turn = torch.randint(0, 8, (self.batch_size,), generator=generator(self.seed, TURN, number)) & self.turns
        rows = self.rows[self.indices(number)[self._mine]]
        pairs = [
            crop(self.images, row, self.resolution, self.scale, place)
            for row, place in zip(rows.tolist(), drawn[self._mine].tolist(), strict=True)
        ]
        low, high = (torch.stack(part) for part in zip(*pairs, strict=True))
        return {"low": low, "high": high, "turn": turn[self._mine]}


class SuperResolution(FromFiles):
    """Photographs of any size in high resolution, "high", and smaller by `scale`, "low": random crops of both.

    `root` is a folder or zip archive of images of high resolution. Those of low resolution are made by `imresize`, or
    lie in `low_root` under the same names (or 0001x4 for 0001). `test_root` and `test_low_root` hold those of the split
    "test"; without them, folders train, val, test in `root` are the splits. "high" is [N, C, H, W], of `resolution`,
    "low" is smaller by `scale`. An image whose sides are no multiples of `scale` loses its last pixels. `flip` mirrors
    both crops alike at random, `rotate` turns them by random quarters, and rectangles upside down alone. Images smaller
    than `resolution` are left out of training. Raises ConfigError for an impossible scale or if there are no images.
    """

    provides = frozenset({"low", "high"})
    splits = ("train", "test")
    chosen = SPLITTING
    many_frames = False

    def __init__(
        self,
        root: Places = "data",
        resolution: Resolution = 128,
        scale: Width = 4,
        low_root: Places | None = None,
        test_root: Places | None = None,
        test_low_root: Places | None = None,
        rotate: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        faults = []
        if scale not in SCALES:
            faults.append(f"data.scale={scale}: type data.scale={', '.join(map(str, SCALES))}")
        elif any(side % scale for side in sides(resolution)):
            faults.append(
                f"data.resolution={shown(resolution)} is no multiple of data.scale={scale}: "
                f"type data.resolution={shown(_multiple(sides(resolution), scale))}"
            )
        if test_low_root is not None and test_root is None:
            faults.append(f"data.test_low_root={test_low_root} without data.test_root=: give both, or leave it out")
        if self.fit != "crop":
            faults.append(f"data.fit={self.fit}: crops are cut out of images of any shape; leave it out")
        if self.classes:
            faults.append(f"data.classes={self.classes}, but there are none here: type data.classes=0")
        if faults:
            raise ConfigError(*faults)
        self.test_root = test_root
        self.roots = {"train": (root, low_root), "test": (test_root, test_low_root)}
        self.root, self.scale, self.rotate = root, scale, rotate
        self._whole: dict[str, WholeImages] = {}

    def images(self, split: str = "train") -> WholeImages:
        """Return the uncropped images of a split: part 0 is high, part 1 low if it was given."""
        if split not in self.splits:
            raise ConfigError(f"{self.title} has no split {split!r}: type one of {', '.join(self.splits)}")
        if split not in self._whole:
            self._whole[split] = self._open(split)
        return self._whole[split]

    def pair(self, row: int, split: str = "test") -> tuple[Tensor, Tensor]:
        """Return one uncropped image in low and high resolution, uint8 [C, H / scale, W / scale] and [C, H, W]."""
        images = self.images(split)
        high = images.image(row)
        return images.image(row, 1) if images.sizes.shape[1] > 1 else imresize(high, 1 / self.scale), high

    def load(self, split: str) -> ImageArray:
        """Cut the centre of each image of a split."""
        images = self.images(split)
        rows = self._rows(images)
        pixels = torch.stack([crop(images, row, self.resolution, self.scale)[1] for row in rows.tolist()])
        return ImageArray(pixels, None, f"{images.fingerprint}-{self.resolution}", split, skipped=images.skipped)

    def prepare_data(self) -> None:
        """Build the cache of the train split, once the files of both are found; Lightning calls it once a node."""
        if self.test_root is not None:
            self._found("test")
        self.images()

    def setup(self, stage: str | None = None) -> None:
        """Open the train split."""
        self._rows(self.images())

    @property
    @override
    def fingerprint(self) -> str:
        return self.images().fingerprint

    @property
    def size(self) -> int:
        """Number of training images."""
        return len(self._rows(self.images()))

    @property
    def class_names(self) -> list[str]:
        """Always empty."""
        return []

    @property
    @override
    def shapes(self) -> Shapes:
        return {**super().shapes, "low": (self.channels, *(side // self.scale for side in sides(self.resolution)))}

    @override
    def describe(self) -> str:
        images, low = self.images(), "x".join(map(str, self.shapes["low"]))
        line = f"{self.title}: {self.size:,} images, crops {self.form} from {low}"
        out = images.skipped + len(images) - self.size
        return line + (f", {counted(out)} left out" if out else "")

    @override
    def understood(self) -> list[str]:
        images = self.images()
        small = len(images) - self.size
        said = lines(len(images), {}, images.about, images.skipped)
        given = f"data.resolution={shown(self.resolution)}"
        note = f"{'too small':10}{small:,} images, of which no piece of {given} can be cut"
        return [*said, note] if small else said

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        quarters = self.rotate and isinstance(self.resolution, int)
        images, turns = self.images(), self.flip * 1 + self.rotate * 2 + quarters * 4
        share = (self.batch_size, self.seed, rank, world)
        return CropStream(images, self._rows(images), self.resolution, self.scale, turns, *share)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Flip, rotate and scale both to float [-1, 1], on the device where they are."""
        if batch["high"].dtype != torch.uint8:
            return batch
        return {
            key: to_float(turned(batch[key], batch["turn"]), channels_last=self.channels_last)
            for key in ("low", "high")
        }

    def fixed(self, n: int) -> Batch:
        """Return `n` crops of the middle, of the split "test" if there is one, the same at each call."""
        images = self.images("test" if self.has("test") else "train")
        rows = self._rows(images)
        pairs = [crop(images, row, self.resolution, self.scale) for row in rows[spread_rows(n, len(rows))].tolist()]
        return {
            key: to_float(torch.stack(part))
            for key, part in zip(("low", "high"), zip(*pairs, strict=True), strict=True)
        }

    def held_out(self, split: str | None = None) -> HeldOut:
        """Return the uncropped images of `split`, by default "test"; raise ConfigError if there is none."""
        images = self.images(split or "test")

        def batch(row: int) -> Batch:
            return {
                key: to_float(image[None])
                for key, image in zip(("low", "high"), self.pair(row, images.split), strict=True)
            }

        return HeldOut(images.split, f"{images.fingerprint}-x{self.scale}", len(images), batch)

    def _rows(self, images: WholeImages) -> Tensor:
        """Return the rows of the images that a crop fits in; raise ConfigError if there are none."""
        wanted = torch.tensor(sides(self.resolution))
        share = (images.sizes[:, 0] / wanted).amin(1)  # of the crop that would fit in
        if share.max() < 1:
            most = [int(side * share.max()) for side in wanted.tolist()]
            raise ConfigError(
                f"data.resolution={shown(self.resolution)}, but no image of {self.title} is as large: "
                f"type data.resolution={shown(_multiple(most, self.scale))}"
            )
        return torch.nonzero(share >= 1)[:, 0]

    @property
    @override
    def values(self) -> tuple[float, float] | None:
        return self.images().about.values

    @override
    def has(self, split: str) -> bool:
        return split in self.splits and super().has(split)

    def _range(self, split: str) -> Range:
        return self.images().about.range if self.range == "auto" and split != "train" else self.range

    def _found(self, split: str) -> Files | TwoFolders:
        """Find the files of a split, in high resolution or in both."""
        root, low_root = self.roots[split]
        prefix = "" if split == "train" else "test_"
        if root is None and not self.has(split):
            raise ConfigError(f"{self.title} has no split 'test': type data.test_root=<folder or zip archive>")
        wanted: tuple[str, ...] = ("train",) if split == "train" else ("test", "val", "train")
        if root is None:  # the folder test of the other root
            (root, low_root), prefix, wanted = self.roots["train"], "", ("test", "val")
        assert root is not None
        fetch_public(root)
        for key, other in (("test_root", self.test_root), ("low_root", low_root)):
            if other is not None:
                self.choice.require_unsplit(f"data.{key}", other)
        options: dict[str, Any] = {"splits": wanted, "choice": self.choice, "view": self.view}
        high = Files(root, f"data.{prefix}root", limit=None if low_root else self.limit, **options)
        if low_root is None:
            return high

        def same(name: str) -> str:
            return stem(name).removesuffix(f"x{self.scale}")

        return TwoFolders(high, Files(low_root, f"data.{prefix}low_root", **options), self.limit, same)

    def _open(self, split: str) -> WholeImages:
        found = self._found(split)
        names = [found.file(row) for row in range(len(found))]
        if isinstance(found, TwoFolders):
            names += found.alone
            load = partial(self._load_both, found)
        else:
            load = partial(self._load, found)
        settings = {"whole": [self.channels, self.scale]}
        return cached_whole(found, load, names, settings, self.cache, split, self.max_pixels, self._range(split))

    def _load(self, files: Files, reading: Reading, row: int) -> list[Tensor]:
        high = decoded(files.read(row), self.channels, reading)
        height, width = (side // self.scale * self.scale for side in high.shape[1:])
        if not (height and width):
            raise UnreadableImageError(f"{high.shape[2]}x{high.shape[1]} pixels are too few")
        return [high[:, :height, :width]]

    def _load_both(self, files: TwoFolders, reading: Reading, row: int) -> list[Tensor]:
        if row >= len(files):
            raise UnreadableImageError("has no pair")
        high, low = (decoded(raw, self.channels, reading) for raw in files.read(row))
        height, width = (side // self.scale for side in high.shape[1:])
        if low.shape[1] - height not in (0, 1) or low.shape[2] - width not in (0, 1) or not (height and width):
            raise UnreadableImageError(
                f"{high.shape[2]}x{high.shape[1]}, but {low.shape[2]}x{low.shape[1]} in low resolution, "
                f"which is not smaller by {self.scale}"
            )
        return [high[:, : height * self.scale, : width * self.scale], low[:, :height, :width]]


def _multiple(sizes: Sequence[int], scale: int) -> int | tuple[int, int]:
    return settled([max(1, side // scale) * scale for side in sizes])


def crop(
    images: WholeImages, row: int, resolution: Shape, scale: int, place: tuple[float, float] = (0.5, 0.5)
) -> tuple[Tensor, Tensor]:
    """Cut low uint8 [C, H / scale, W / scale] and high [C, H, W], H and W as in `resolution`, out of an image.

    `place` is in [0, 1): how far down and how far right, among the places on whole pixels of low resolution.
    """
    high, (height, width) = images.image(row), (side // scale for side in sides(resolution))
    limits = [size // scale for size in high.shape[1:]]
    room = zip(place, limits, (height, width), strict=True)
    top, left = (int(part * (limit - side + 1)) for part, limit, side in room)
    cut_high = high[:, top * scale : (top + height) * scale, left * scale : (left + width) * scale]
    if images.sizes.shape[1] > 1:
        return images.image(row, 1)[:, top : top + height, left : left + width], cut_high
    # Equal there to `imresize` of the whole image: cut with as much around it as the kernel reaches.
    (first, last), (west, east) = (
        (max(0, start - _REACH), min(limit, start + side + _REACH))
        for start, limit, side in zip((top, left), limits, (height, width), strict=True)
    )
    low = imresize(high[:, first * scale : last * scale, west * scale : east * scale], 1 / scale)
    return low[:, top - first : top - first + height, left - west : left - west + width], cut_high
