"""Two sets of images that are not paired: {"real_a", "real_b"}, the data of CycleGAN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Crop, Place, Resolution
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.archives import Places
from gan_experiments.data.batches import BatchStream, HeldOut, Stream, cut, to_float
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.decode import Range, Reading, pixels_of, shortened
from gan_experiments.data.download import fetch_public
from gan_experiments.data.image_module import ANYWHERE, FromFiles, larger, margins, spread_rows
from gan_experiments.data.met import counted, lines
from gan_experiments.data.sources import Files, splits_of
from gan_experiments.data.splits import SPLITTING
from gan_experiments.data.uncropped import PieceStream, WholeImages, cached_whole

DOMAINS = ("a", "b")


class TwoStreams(Stream):
    """Batches of two streams joined: the keys of each get its domain as a suffix, as in "real_a"."""

    def __init__(self, streams: dict[str, Stream]) -> None:
        self.streams = streams

    def batch(self, number: int) -> Batch:
        """Make batch `number` of both."""
        return {
            f"{key}_{domain}": value
            for domain, stream in self.streams.items()
            for key, value in stream.batch(number).items()
        }


class Unpaired(FromFiles):
    """Two folders or zip archives of images: "real_a" and "real_b", float [N, C, H, W] in [-1, 1], shuffled separately.

    They are given as `root`, with folders trainA, trainB and perhaps testA, testB, or as `root_a` and `root_b`, perhaps
    with folders train and test or val in each. With `load_resolution` images are resized to it, and trained on in
    random pieces of `resolution`. These lie in the largest piece of their shape in the middle of each image, or with
    `crop` "random" anywhere in it (in a longer image, in the middle `decode.LONGEST` such pieces). Scores and sheets
    take the piece in the middle. Raises ConfigError if a folder is missing.
    """

    provides = frozenset({"real_a", "real_b"})
    splits = ("train_a", "train_b", "test_a", "test_b")
    chosen = SPLITTING

    def __init__(
        self,
        root: Place | None = "data",
        resolution: Resolution = 256,
        root_a: Places | None = None,
        root_b: Places | None = None,
        load_resolution: Resolution | None = None,
        crop: Crop = "centre",
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        self.crop = self._checked_crop(crop)
        if (root_a is None) != (root_b is None):
            raise ConfigError("data.root_a and data.root_b belong together: type both, or data.root=... alone")
        if self.classes:
            raise ConfigError(f"data.classes={self.classes}, but unpaired images have no classes: type data.classes=0")
        self.root, self.roots = root, {"a": root_a, "b": root_b}
        self.load_resolution = larger(load_resolution, self.resolution)
        self._streams: dict[str, ImageArray | WholeImages] = {}
        self._held_out: dict[str, bool] = {}

    def prepare_data(self) -> None:
        """Build the caches of both training folders; Lightning calls it once a node."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Open both training folders."""
        for domain in DOMAINS:
            self._training(domain)

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of one of `splits`, at `resolution`."""
        return cached(self._files(split), self._settings(split=split), self.cache, split)

    def reference(self, split: str = "train_b") -> ImageArray:
        """Return the images of a split; "train" and "test" are those of domain B, which A is translated to."""
        return super().reference(f"{split}_b" if split in ("train", "test") else split)

    def unpaired(self, reads: str, number: int | None, split: str) -> tuple[HeldOut, ImageArray]:
        """Return the images of the domain that `reads` names, and the real ones of the other domain, of `split`.

        The former are of their domain's test folder, or else of its training folder.
        """
        own = reads.removeprefix("real_")
        other = next(domain for domain in DOMAINS if domain != own)
        images = self.reference(f"{'test' if self._has_test(own) else 'train'}_{own}")

        def batch(row: int) -> Batch:
            return {reads: to_float(images.pixels[row : row + 1])}

        held_out = HeldOut(images.split, images.fingerprint, len(images), batch)
        return held_out, self.reference(f"{split}_{other}" if split in ("train", "test") else split)

    @property
    @override
    def fingerprint(self) -> str:
        return "-".join(self._training(domain).fingerprint for domain in DOMAINS)

    @property
    def size(self) -> int:
        """Number of images of the larger domain."""
        return max(len(self._training(domain)) for domain in DOMAINS)

    @property
    @override
    def values(self) -> tuple[float, float] | None:
        found = {self._training(domain).about.values for domain in DOMAINS}
        return found.pop() if len(found) == 1 else None

    @property
    def class_names(self) -> list[str]:
        """Always empty."""
        return []

    @override
    def describe(self) -> str:
        arrays = [self._training(domain) for domain in DOMAINS]
        skipped = sum(array.skipped for array in arrays)
        line = f"{self.title}: {len(arrays[0]):,} and {len(arrays[1]):,} images "
        line += f"{self.form}, not paired"
        return line + (f", {counted(skipped)} left out" if skipped else "")

    def understood(self) -> list[str]:
        """Return how the files of both domains were interpreted, a line for each thing."""
        return [
            f"{domain}: {line}"
            for domain in DOMAINS
            for images in [self._training(domain)]
            for line in lines(len(images), {}, images.about, images.skipped, ANYWHERE)
        ]

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        margin = margins(self.load_resolution, self.resolution)
        streams: dict[str, Stream] = {}
        for i, domain in enumerate(DOMAINS):
            images, share = self._training(domain), (self.batch_size, 2 * self.seed + i, self.flip)
            if isinstance(images, WholeImages):
                streams[domain] = PieceStream(images, *share, self.resolution, rank, world)
            else:
                streams[domain] = BatchStream(images, *share, margin, rank, world)
        return TwoStreams(streams)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Cut, mirror and scale both domains to float [-1, 1], on the device where they are."""
        batch = dict(batch)
        for domain in DOMAINS:
            pixels = batch[f"real_{domain}"]
            corners, flip = batch.pop(f"crop_{domain}", None), batch.pop(f"flip_{domain}", None)
            if corners is not None:
                pixels = cut(pixels, corners, self.resolution)
            if pixels.dtype == torch.uint8:
                batch[f"real_{domain}"] = to_float(pixels, flip, self.channels_last)
        return batch

    def fixed(self, n: int) -> Batch:
        """Return `n` items evenly spread, of the test folders if there are any, the same at each call."""
        batch = {}
        for domain in DOMAINS:
            images = self.reference(f"{'test' if self._has_test(domain) else 'train'}_{domain}")
            batch[f"real_{domain}"] = to_float(images.pixels[spread_rows(n, len(images))])
        return batch

    def _training(self, domain: str) -> ImageArray | WholeImages:
        if self.crop == "random":
            if domain not in self._streams:
                self._streams[domain] = self._whole(domain)
            return self._streams[domain]
        if self.load_resolution is None:
            return self.reference(f"train_{domain}")
        if domain not in self._streams:
            settings = self._settings(resolution=self.load_resolution)
            images = cached(self._files(f"train_{domain}"), settings, self.cache, "train")
            self._streams[domain] = self._checked(images)
        return self._streams[domain]

    def _whole(self, domain: str) -> WholeImages:
        files, side = self._files(f"train_{domain}"), self.load_resolution or self.resolution

        def load(reading: Reading, row: int) -> list[Tensor]:
            return [shortened(pixels_of(files.read(row), self.channels, reading), side, self.alpha)]

        names = [files.file(row) for row in range(len(files))]
        settings = {"short side": side, "channels": self.channels}
        return cached_whole(files, load, names, settings, self.cache, "train", self.max_pixels, self.range)

    def _range(self, split: str) -> Range:
        part, _, domain = split.partition("_")
        return self._training(domain).about.range if self.range == "auto" and part == "test" else self.range

    def _has_test(self, domain: str) -> bool:
        own = self.roots[domain]
        if own is not None:
            if domain not in self._held_out:
                self._held_out[domain] = bool(splits_of(own, self.choice) & {"test", "val"})
            return self._held_out[domain]
        return Path(str(self.root), f"test{domain.upper()}").expanduser().is_dir()

    def _files(self, split: str) -> Files:
        part, domain = split.split("_")
        options: dict[str, Any] = {"limit": self.limit, "frames": self.frames, "choice": self.choice, "view": self.view}
        own = self.roots[domain]
        if own is not None and (part == "train" or self._has_test(domain)):
            wanted = ("train",) if part == "train" else ("test", "val")
            return Files(own, f"data.root_{domain}", splits=wanted, **options)
        if own is not None or self.root is None:
            raise ConfigError(
                f"Unpaired has no split {split!r}: type data.root=<folder with trainA, trainB, testA, testB>"
            )
        fetch_public(self.root)
        folder = Path(self.root, f"{part}{domain.upper()}").expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"data.root={self.root} has no folder {folder.name}: "
                "type data.root=<folder with trainA and trainB>, or data.root_a=... data.root_b=..."
            )
        self.choice.require_unsplit("data.root", self.root)
        source = Files(folder, "data.root", **options)
        source.name = f"unpaired-{folder.name}"
        return source
