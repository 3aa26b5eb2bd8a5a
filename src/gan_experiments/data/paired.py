"""Pairs of images: {"input", "target"}, the data of pix2pix."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Crop, Place, Resolution
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import HeldOut, Stream, cut, to_float
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.decode import (
    Reading,
    Shape,
    UnreadableImageError,
    decode,
    decoded,
    fit,
    has_alpha,
    pixels_of,
    shortened,
    size_of,
)
from gan_experiments.data.download import fetch_public
from gan_experiments.data.image_module import ANYWHERE, CroppedData, FromFiles, spread_rows
from gan_experiments.data.met import lines
from gan_experiments.data.sources import (
    Block,
    Files,
    Settings,
    Source,
    joined_values,
    load_blocks,
    spread,
    stacked,
)
from gan_experiments.data.splits import PICKING, SPLITS
from gan_experiments.data.uncropped import PieceStream, WholeImages, cached_whole


class Pairs(CroppedData):
    """Paired images: "input" and "target", float [N, C, H, W] in [-1, 1], always cut and mirrored alike.

    A pair is cached as one image of 2 C channels, the input's first, so that nothing can separate them.
    """

    provides = frozenset({"input", "target"})
    splits: tuple[str, ...] = ("train", "val", "test")
    items = "pairs"

    @abstractmethod
    def has(self, split: str) -> bool:
        """Return True if there is such a split."""

    def pairs(self, split: str = "train") -> ImageArray:
        """Return all pairs of a split, uint8 [N, 2 C, H, W], the inputs' channels first."""
        return super().reference(split)

    def reference(self, split: str = "train") -> ImageArray:
        """Return the targets of a split, which translations should look like."""
        both = self.pairs(split)
        targets = both.pixels[:, self.channels :]
        return ImageArray(targets, both.labels, f"{both.fingerprint}-target", split, both.class_names, both.skipped)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Cut, mirror and scale both images of each pair to float [-1, 1], on the device where they are."""
        if "real" not in batch:
            return batch
        batch = dict(batch)
        pixels, corners, flip = batch.pop("real"), batch.pop("crop", None), batch.pop("flip", None)
        if corners is not None:
            pixels = cut(pixels, corners, self.resolution)
        return self._split(pixels, flip) | batch

    def fixed(self, n: int) -> Batch:
        """Return `n` pairs evenly spread, of the split "test" or "val" if there is one, the same at each call."""
        pairs = self.pairs(next(split for split in ("test", "val", "train") if self.has(split)))
        return self._rows(pairs, spread_rows(n, len(pairs)))

    def held_out(self, split: str | None = None) -> HeldOut:
        """Return the pairs of `split`, by default of "test" or else of "val"; raise ConfigError if there are none.

        They are neither cut nor mirrored, but resized to `resolution`.
        """
        found = next((name for name in ([split] if split else ("test", "val")) if self.has(name)), None)
        if found is None:
            raise ConfigError(
                f"{self.title} has no split {split or 'test or val'} of pairs that were held out: add one beside the"
                " folder train, or type metrics=none"
            )
        pairs = self.pairs(found)
        return HeldOut(found, pairs.fingerprint, len(pairs), lambda row: self._rows(pairs, torch.tensor([row])))

    def _rows(self, pairs: ImageArray, rows: Tensor) -> Batch:
        batch = self._split(pairs.pixels[rows])
        return batch if pairs.labels is None else {**batch, "label": pairs.labels[rows]}

    def _split(self, pixels: Tensor, flip: Tensor | None = None) -> Batch:
        parts = pixels.split(self.channels, dim=1)
        return {
            key: to_float(part, flip, self.channels_last) for key, part in zip(("input", "target"), parts, strict=True)
        }

    def _pair_settings(self, resolution: Shape) -> Settings:
        return replace(self._settings(resolution=resolution), channels=2 * self.channels)


class SideBySide(Source):
    """Images that hold a pair each, A left and B right; `swapped` makes B the input. Odd widths are left out."""

    across = 2

    def __init__(self, files: Files, swapped: bool = False) -> None:
        self.files, self.swapped, self.view = files, swapped, files.view
        self.name, self.where, self.class_names = files.name, files.where, []
        self.names = [files.file(row) for row in range(len(files))]

    def __len__(self) -> int:
        return len(self.files)

    @override
    def values(self, threads: int = 1) -> tuple[float, float] | None:
        return self.files.values(threads)

    def identity(self) -> list[object]:
        """List what `Files` does, and the direction."""
        return ["side by side", self.swapped, *self.files.identity()]

    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode the pairs."""
        channels = settings.channels // 2
        reading = self.begin(settings.range, threads)
        alpha = has_alpha(channels, reading.bands)

        def load(row: int) -> Tensor:
            pair = self.pair(row, channels, reading)
            return torch.cat([fit(half, settings.resolution, how=settings.fit, alpha=alpha) for half in pair])

        yield from pair_blocks(load, settings, self.names, threads, reading)

    def pair(self, row: int, channels: int, reading: Reading) -> tuple[Tensor, Tensor]:
        """Decode a pair, uint8 [channels, H, W] each; raise UnreadableImageError if it is none."""
        both = decoded(self.files.read(row), channels, reading)
        if both.shape[-1] % 2:
            raise UnreadableImageError(f"{both.shape[-1]} pixels wide, which are not two images side by side")
        a, b = both.chunk(2, dim=-1)
        return (b, a) if self.swapped else (a, b)


def stem(name: str) -> str:
    """Return a path without its suffix."""
    return str(PurePosixPath(name).with_suffix(""))


class TwoFolders(Source):
    """Pairs of images in two folders or archives; both images of a pair have the same path without its suffix.

    Images without a partner are left out. `same` maps a path to the name that both images of a pair have in common.
    Raises ConfigError if no two names are equal.
    """

    def __init__(
        self, inputs: Files, targets: Files, limit: int | None = None, same: Callable[[str], str] = stem
    ) -> None:
        self.inputs, self.targets, self.view = inputs, targets, inputs.view
        self.name, self.where, self.class_names = inputs.name, inputs.where, []
        rows = [{same(files.file(row)): row for row in range(len(files))} for files in (inputs, targets)]
        common = [name for name in rows[0] if name in rows[1]]
        if not common:
            raise ConfigError(
                f"{inputs.where} and {targets.where} have no two files of equal names "
                f"({inputs.file(0)}, {targets.file(0)}): name both images of a pair alike"
            )
        self._rows = [(rows[0][common[i]], rows[1][common[i]]) for i in spread(len(common), limit)]
        self.alone = sorted(rows[0].keys() ^ rows[1].keys())
        self.notes = [*dict.fromkeys([*inputs.notes, *targets.notes])]

    def __len__(self) -> int:
        return len(self._rows)

    @override
    def values(self, threads: int = 1) -> tuple[float, float] | None:
        return joined_values([self.inputs.values(threads), self.targets.values(threads)])

    def identity(self) -> list[object]:
        """List what both `Files` do, and the rows taken."""
        return [self.inputs.identity(), self.targets.identity(), self._rows]

    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode the pairs; a pair whose images differ in shape is left out."""
        channels = settings.channels // 2
        reading = self.begin(settings.range, threads)

        def load(row: int) -> Tensor:
            raw = self.read(row)
            form: dict[str, Any] = {"reading": reading, "how": settings.fit}
            images = [decode(part, settings.resolution, channels, **form) for part in raw]
            require_same_shape(*(size_of(part, reading) for part in raw))
            return torch.cat(images)

        yield from pair_blocks(load, settings, [self.file(row) for row in range(len(self))], threads, reading)
        if self.alone:
            yield stacked(["has no pair"] * len(self.alone), 0, settings.shape, [], self.alone)

    def pair(self, row: int, channels: int, reading: Reading) -> tuple[Tensor, Tensor]:
        """Decode a pair, uint8 [channels, H, W] each; raise UnreadableImageError if it is none."""
        if row >= len(self):
            raise UnreadableImageError("has no pair")
        a, b = (pixels_of(raw, channels, reading) for raw in self.read(row))
        require_same_shape((a.shape[2], a.shape[1]), (b.shape[2], b.shape[1]))
        return a, b

    @property
    def names(self) -> list[str]:
        """The names of the pairs' inputs, and of the files that have no partner."""
        return [*(self.file(row) for row in range(len(self))), *self.alone]

    def file(self, row: int) -> str:
        """Return the name of a pair's input."""
        return self.inputs.file(self._rows[row][0])

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Return the bytes of a pair's input and target."""
        a, b = self._rows[row]
        return self.inputs.read(a), self.targets.read(b)


def require_same_shape(one: tuple[int, int], other: tuple[int, int]) -> None:
    """Raise UnreadableImageError if two images, by width and height, differ in aspect ratio by more than rounding."""
    if abs(one[0] * other[1] - other[0] * one[1]) > max(*one, *other):
        raise UnreadableImageError(f"{one[0]}x{one[1]}, but its pair {other[0]}x{other[1]}, which is another shape")


class Paired(FromFiles, Pairs):
    """Pairs in one of three layouts, with a folder for each split as in pix2pix's data sets.

    - `root` with folders train, val, test of images A|B side by side;
    - `root` with folders trainA, trainB, valA, ... whose files have equal names;
    - `root_a` and `root_b`, two folders or archives whose files have equal names, each with folders train, val, test,
      or without any, and then all is for training.

    `direction` "ab" makes A the input, "ba" B. Training takes pieces of `resolution` out of the largest piece of their
    shape in the middle of a pair, or with `crop` "random" out of all of it (of a longer pair, out of the middle
    `decode.LONGEST` such pieces). Scores and sheets take the piece in the middle. Raises ConfigError if a folder is
    missing.
    """

    many_frames = False
    chosen = PICKING

    def __init__(
        self,
        root: Place | None = "data",
        resolution: Resolution = 256,
        root_a: Place | None = None,
        root_b: Place | None = None,
        direction: str = "ab",
        crop: Crop = "centre",
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        self.crop = self._checked_crop(crop)
        self._whole: WholeImages | None = None
        faults = []
        if (root_a is None) != (root_b is None):
            faults.append("data.root_a and data.root_b belong together: type both, or data.root=... alone")
        if direction not in ("ab", "ba"):
            faults.append(f"data.direction={direction}: type data.direction=ab or ba")
        if self.classes:
            faults.append(f"data.classes={self.classes}, but pairs have no classes: type data.classes=0")
        if faults:
            raise ConfigError(*faults)
        self.root, self.roots, self.direction = root, {"a": root_a, "b": root_b}, direction

    def load_at(self, split: str, resolution: Shape) -> ImageArray:
        """Build or open the cache of the pairs of a split."""
        settings = replace(self._pair_settings(resolution), range=self._range(split))
        return cached(self._source(split), settings, self.cache, split)

    def training(self) -> Any:
        """Return the pairs to train on: with `crop` "random" uncropped, as small as covers `load_resolution`."""
        if self.crop == "centre":
            return super().training()
        if self._whole is None:
            source, side = self._source("train"), self.load_resolution or self.resolution

            def load(reading: Reading, row: int) -> list[Tensor]:
                pair = [shortened(image, side, self.alpha) for image in source.pair(row, self.channels, reading)]
                height, width = (min(sizes) for sizes in zip(*(image.shape[1:] for image in pair), strict=True))
                return [image[:, :height, :width] for image in pair]

            settings = {"short side": side, "channels": self.channels}
            options = (self.cache, "train", self.max_pixels, self.range)
            self._whole = cached_whole(source, load, source.names, settings, *options)
        return self._whole

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        if self.crop == "centre":
            return super().stream(rank, world)
        return PieceStream(self.training(), self.batch_size, self.seed, self.flip, self.resolution, rank, world)

    @override
    def understood(self) -> list[str]:
        pairs = self.training()
        return lines(len(pairs), {}, pairs.about, pairs.skipped, ANYWHERE)

    @override
    def has(self, split: str) -> bool:
        return bool(self._folders(split))

    def _folders(self, split: str) -> list[Path]:
        """Return the folder of pairs side by side, or those of A and B; empty if there is no such split."""
        if self.roots["a"] is not None:
            own = [Path(str(root)).expanduser() for root in self.roots.values()]
            if any(_folder_of(root, "train") for root in own):
                found = [_folder_of(root, split) for root in own]
                return [folder for folder in found if folder is not None] if all(found) else []
            return own if split == "train" else []
        if self.root is None:
            return []
        root = Path(self.root).expanduser()
        if (folder := _folder_of(root, split)) is not None:
            return [folder]
        two = [root / f"{split}{letter}" for letter in "AB"]
        return two if all(folder.is_dir() for folder in two) else []

    def _source(self, split: str) -> SideBySide | TwoFolders:
        if self.root is not None and self.roots["a"] is None:
            fetch_public(self.root)
        folders = self._folders(split)
        if not folders:
            where = f"data.root={self.root}" if self.roots["a"] is None else f"data.root_a={self.roots['a']}"
            raise ConfigError(
                f"{where} has no folder {split} of images side by side, nor {split}A and {split}B: "
                "type data.root=<folder that has them>, or data.root_a=... data.root_b=..."
            )
        swapped = self.direction == "ba"
        if len(folders) == 1:
            source: SideBySide | TwoFolders = SideBySide(
                Files(folders[0], "data.root", limit=self.limit, choice=self.choice, view=self.view), swapped
            )
        else:
            keys = ("data.root", "data.root") if self.roots["a"] is None else ("data.root_a", "data.root_b")
            a, b = (
                Files(folder, key, choice=self.choice, view=self.view)
                for folder, key in zip(folders, keys, strict=True)
            )
            source = TwoFolders(b, a, self.limit) if swapped else TwoFolders(a, b, self.limit)
        source.name = f"paired-{split}"
        return source


def _folder_of(root: Path, split: str) -> Path | None:
    """Return the folder of a split by any of its names; None if there is none."""
    names = (name for name, kind in SPLITS.items() if kind == split)
    return next((root / name for name in names if (root / name).is_dir()), None)


def pair_blocks(
    load: Callable[[int], Tensor], settings: Settings, names: list[str], threads: int, reading: Reading
) -> Iterator[Block]:
    """Yield blocks of the pairs that `load(row)` decodes, which are in no class."""
    for start, results in load_blocks(load, len(names), threads):
        block = stacked(results, start, settings.shape, [-1] * len(names), names)
        reading.met.add_pixels(block.pixels)
        yield block
