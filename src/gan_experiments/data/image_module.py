"""The bases of all data modules of images: single images, random crops, and images from a person's own files."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import (
    BelowOne,
    Classes,
    Count,
    Depth,
    Fit,
    Numbers,
    OneOf,
    Place,
    Resolution,
    Seed,
    Width,
    Workers,
    settled,
    shown,
    sides,
)
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import BatchStream, Stream, cut, to_float
from gan_experiments.data.cache import ImageArray
from gan_experiments.data.decode import Range, Shape, has_alpha
from gan_experiments.data.met import counted, lines
from gan_experiments.data.module import DataModule
from gan_experiments.data.rasters import AXES, OWN, WINDOWS
from gan_experiments.data.sources import FRAMES, NO_CHOICE, Files, Settings, splits_of
from gan_experiments.data.splits import ALL, FOLDERS, Choice, Lists, Patterns
from gan_experiments.kinds import IMAGE, Bands, Kind

CROPS = ("centre", "random")
FITS = ("crop", "pad", "stretch")
ANYWHERE = "data.crop=random cuts pieces out of all of each"


class ImageData(DataModule):
    """A set of real images: "real" float [N, C, H, W] in [-1, 1] and, if `classes` > 0, "label" int64 [N].

    `resolution` is in pixels, the side of squares or height and width; `channels` is 1 or 3. `fit` says how images of
    another shape get that one, see `decode.fit`. `batch_size` is the whole batch of one discriminator step over all
    ranks and accumulation steps. `limit` is the greatest number of images used (None: all). `cache` is the folder of
    the decoded images (None: $GAN_EXPERIMENTS_CACHE, else ~/.cache/gan_experiments). `max_pixels` is the greatest
    number of pixels of a file (None: Pillow's limit, 178,956,970). Raises ConfigError for impossible values.
    """

    provides: frozenset[str] = frozenset({"real", "label"})
    kind: Kind = IMAGE
    items: str = "images"
    """What `describe` calls the items."""
    any_channels: ClassVar[bool] = False
    """Whether there may be other images than grey ones and RGB."""

    def __init__(
        self,
        resolution: Resolution,
        channels: Width = 3,
        batch_size: Count = 64,
        classes: Classes = 0,
        flip: bool = False,
        workers: Workers = 0,
        seed: Seed = 0,
        cache: Place | None = None,
        limit: Count | None = None,
        max_pixels: Count | None = None,
        fit: Fit = "crop",
    ) -> None:
        super().__init__()
        if channels not in (1, 3) and not self.any_channels:
            raise ConfigError(f"data.channels={channels}: images are grey or in colour, type data.channels=1 or 3")
        for name, value in (
            ("resolution", min(sides(resolution))),
            ("batch_size", batch_size),
            ("limit", limit),
            ("max_pixels", max_pixels),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"data.{name}={value}: a positive number is needed, type data.{name}=64")
        if fit not in FITS:
            raise ConfigError(f"data.fit={fit}: type data.fit={' or '.join(FITS)}")
        self.resolution, self.channels, self.batch_size, self.classes = (
            settled(resolution),
            channels,
            batch_size,
            classes,
        )
        self.flip, self.workers, self.seed, self.cache, self.limit = flip, workers, seed, cache, limit
        self.max_pixels, self.fit = max_pixels, fit
        if channels not in (1, 3, 4):
            self.kind = Bands.of(channels)
        if not classes:
            self.provides = self.provides - {"label"}
        self._opened: dict[str, ImageArray] = {}

    @abstractmethod
    def load(self, split: str) -> ImageArray:
        """Build or open the images of one of `splits`."""

    def prepare_data(self) -> None:
        """Download what is missing and build the cache of the images to train on; Lightning calls it once a node."""
        self.training()

    def setup(self, stage: str | None = None) -> None:
        """Open the images to train on; raise ConfigError if they do not have `classes` classes."""
        self.training()

    def training(self) -> ImageArray:
        """Return the images to train on, without flips or shuffling."""
        return self.reference("train")

    def reference(self, split: str = "train") -> ImageArray:
        """Return the real images of a split, without flips or shuffling; raise ConfigError for an unknown split."""
        if split not in self.splits:
            raise ConfigError(f"{self.title} has no split {split!r}: type one of {', '.join(self.splits)}")
        if split not in self._opened:
            self._opened[split] = self._checked(self.load(split))
        return self._opened[split]

    @property
    def form(self) -> str:
        """The shape of an image in words: channels x height x width."""
        return "x".join(map(str, self.kind.shape(self)))

    @property
    @override
    def fingerprint(self) -> str:
        return self.training().fingerprint

    @property
    def size(self) -> int:
        """Number of training images."""
        return len(self.training())

    @property
    @override
    def values(self) -> tuple[float, float] | None:
        return self.training().about.values

    @property
    @override
    def class_names(self) -> list[str]:
        return self.training().class_names

    @property
    def class_counts(self) -> list[int]:
        """Number of training images of each class, indexed by label; empty without classes."""
        labels = self.training().labels if "label" in self.provides else None
        return [] if labels is None else labels.bincount(minlength=self.classes).tolist()

    @override
    def describe(self) -> str:
        images = self.training()
        line = f"{self.title}: {len(images):,} {self.items} {self.form}"
        line += f", {self.classes} classes" if self.classes else ""
        return line + (f", {counted(images.skipped)} left out" if images.skipped else "")

    @override
    def understood(self) -> list[str]:
        images = self.training()
        return lines(len(images), self.counts(images), images.about, images.skipped)

    def counts(self, images: ImageArray) -> dict[str, int]:
        """Count the images of each class."""
        if images.labels is None:
            return {}
        counts = torch.bincount(images.labels, minlength=len(images.class_names)).tolist()
        return dict(zip(images.class_names, counts, strict=True))

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        return BatchStream(self.training(), self.batch_size, self.seed, self.flip, rank=rank, world=world)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Convert uint8 "real" and bool "flip" to float "real" in [-1, 1], on the device where they are."""
        batch = dict(batch)
        if batch["real"].dtype == torch.uint8:
            batch["real"] = to_float(batch["real"], batch.pop("flip", None), self.channels_last)
        return batch

    def fixed(self, n: int) -> Batch:
        """Return `n` items, the same at each call: of labels 0, 1, 2, ... in turn, or without labels evenly spread."""
        images = self.reference("train")
        if images.labels is None:
            return self.at(spread_rows(n, len(images)))
        present = images.labels.unique()  # `limit` can leave a class without images
        return self.of_classes(present[torch.arange(n) % len(present)])

    @override
    def of_classes(self, labels: Tensor) -> Batch:
        images = self.reference("train")
        assert images.labels is not None
        rows = torch.empty_like(labels)
        for c in labels.unique():
            members = torch.nonzero(images.labels == c)[:, 0]
            places = torch.nonzero(labels == c)[:, 0]
            rows[places] = members[torch.arange(len(places)) % len(members)]
        return self.at(rows)

    def at(self, rows: Tensor) -> Batch:
        """Return the training items at `rows`, int64 [n], as a model gets them."""
        images = self.reference("train")
        batch = {"real": to_float(images.pixels[rows])}
        return batch if images.labels is None else {**batch, "label": images.labels[rows]}

    def _settings(self, crop: Shape | None = None, resolution: Shape | None = None) -> Settings:
        return Settings(resolution or self.resolution, self.channels, crop, self.max_pixels, fit=self.fit)

    def _checked(self, images: ImageArray) -> ImageArray:
        images.labels = checked_classes(images, images.labels, self.classes, self.title)
        return images


class CroppedData(ImageData):
    """Images of `load_resolution` that are trained on in random crops of `resolution`.

    If `load_resolution` is None, they are loaded at `resolution` and not cropped. Raises ConfigError if
    `load_resolution` is less than `resolution`.
    """

    def __init__(self, resolution: Resolution, load_resolution: Resolution | None = None, **settings: Any) -> None:
        super().__init__(resolution, **settings)
        self.load_resolution = larger(load_resolution, self.resolution)
        self._training: ImageArray | None = None

    @abstractmethod
    def load_at(self, split: str, resolution: Shape) -> ImageArray:
        """Build or open the images of one of `splits` at a resolution."""

    def load(self, split: str) -> ImageArray:
        """Build or open the images of one of `splits` at `resolution`."""
        return self.load_at(split, self.resolution)

    def training(self) -> ImageArray:
        """Return the images to train on, at `load_resolution`."""
        if self.load_resolution is None:
            return ImageData.reference(self, "train")  # a subclass may have only a part of it as its reference
        if self._training is None:
            self._training = self._checked(self.load_at("train", self.load_resolution))
        return self._training

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        margin = margins(self.load_resolution, self.resolution)
        return BatchStream(self.training(), self.batch_size, self.seed, self.flip, margin, rank, world)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Cut "real" at "crop", then convert it as every ImageData does."""
        batch = dict(batch)
        corners = batch.pop("crop", None)
        if corners is not None:
            batch["real"] = cut(batch["real"], corners, self.resolution)
        return super().on_after_batch_transfer(batch, dataloader_idx)


class FromFiles(ImageData):
    """Images read from a person's own files, whatever these are.

    With 4 `channels` they are RGB and transparency, and with other numbers, or if `bands` are given, of that many bands
    of any kind. `bands` are the three or the one of them that are shown and scored, counted from 1 (None: the first).

    `range` says how files of more than 8 bits are scaled: the two values that become black and white, "auto" for the
    least and the greatest value of the training files, the name of a window of computed tomography (see
    `rasters.WINDOWS`), "dicom" for the window that each file names, None for the values of the file's kind. `frames`,
    "first" or "all", are those taken of animations, of files of several pages and of volumes. `axis` is the direction
    across the slices of NIfTI. The other arguments say which files are used, what their classes are and which are held
    out, see `splits.Choice`. Raises ConfigError for other values.
    """

    many_frames: ClassVar[bool] = True
    """Whether `frames` may be "all"."""
    any_channels = True
    chosen: ClassVar[frozenset[str]] = frozenset()
    """The fields of `splits.Choice` that can be set: those that `files` heeds."""
    root: Any
    test_root: str | Sequence[str] | None = None

    def __init__(
        self,
        resolution: Resolution,
        range: str | Numbers | None = None,
        frames: str = "first",
        bands: Sequence[Count] | None = None,
        axis: str = "axial",
        include: Patterns = None,
        exclude: Patterns = None,
        classes_from: Annotated[str, OneOf(*FOLDERS)] | Depth | None = None,
        test_fraction: BelowOne = 0.0,
        split_seed: Seed = 0,
        split_list: Lists = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        self.range, self.frames = _checked_range(range), frames
        self.view: dict[str, Any] = {}
        if bands is not None or self.channels not in (1, 3, 4):
            self.kind = Bands.of(self.channels, _checked_bands(bands, self.channels))
            self.view["bands"] = self.channels
        if axis not in AXES:
            raise ConfigError(f"data.axis={axis}: type data.axis={' or '.join(AXES)}")
        if axis != AXES[0]:
            self.view["axis"] = axis
        self.choice = Choice(include, exclude, classes_from, test_fraction, split_seed, split_list)
        for key in sorted(ALL - self.chosen):
            given, usual = getattr(self.choice, key), getattr(NO_CHOICE, key)
            if given != usual:
                raise ConfigError(f"data.{key}={given}: {type(self).__name__} has none; leave data.{key} out")
        self._splits: set[str] | None = None
        possible = FRAMES if self.many_frames else FRAMES[:1]
        if frames not in possible:
            raise ConfigError(f"data.frames={frames}: type data.frames={' or '.join(possible)}")

    def prepare_data(self) -> None:
        """Look for the held-out images of `test_root`, if that is given; then as every ImageData does."""
        if self.test_root is not None:
            self.files("test")
        super().prepare_data()

    @property
    def alpha(self) -> bool:
        """Whether the fourth channel is transparency."""
        return has_alpha(self.channels, self.view.get("bands", 0))

    def files(self, split: str) -> Files:
        """Find the files of a split: those of `root` or `test_root`, or of the folder in them with the split's name.

        Raises ConfigError if there is no such split.
        """
        options: dict[str, Any] = {"limit": self.limit, "frames": self.frames, "choice": self.choice, "view": self.view}
        if self.test_root is not None:
            self.choice.require_unsplit("data.test_root", self.test_root)
        if split == "train":
            return self.images_of(self.root, "data.root", splits=("train",), **options)
        if split == "test" and self.test_root is not None:
            return self.images_of(self.test_root, "data.test_root", splits=("test", "val", "train"), **options)
        if not self.has(split):
            raise ConfigError(
                f"{type(self).__name__} has no split {split!r}: type data.test_root=<folder or zip archive>"
            )
        return self.images_of(
            self.root, "data.root", splits=("test", "val") if split == "test" else (split,), **options
        )

    def images_of(self, *arguments: Any, **options: Any) -> Files:
        """Open image files, see `Files`."""
        return Files(*arguments, **options)

    def has(self, split: str) -> bool:
        """Return True if there is such a split."""
        if split == "train" or (split == "test" and self.test_root is not None):
            return True
        if self._splits is None:
            self._splits = splits_of(self.root, self.choice)
        return bool(self._splits & ({"test", "val"} if split == "test" else {split}))

    def _range(self, split: str) -> Range:
        """Return the range of a split; with "auto", held-out images have that of the training images."""
        return self.training().about.range if self.range == "auto" and split != "train" else self.range

    def _checked_crop(self, crop: str) -> str:
        """Return what was given as `data.crop`, "centre" or "random"; raise ConfigError for anything else."""
        if crop not in CROPS:
            raise ConfigError(f"data.crop={crop}: type data.crop={' or '.join(CROPS)}")
        if crop == "random" and self.frames == "all":
            raise ConfigError(
                "data.frames=all with data.crop=random: pieces are cut out of the first frame of each; "
                "type data.frames=first or data.crop=centre"
            )
        if crop == "random" and self.fit != "crop":
            raise ConfigError(
                f"data.fit={self.fit} with data.crop=random: pieces are cut out of images that keep their shape; "
                "type data.fit=crop or data.crop=centre"
            )
        return crop

    def _settings(self, crop: Shape | None = None, resolution: Shape | None = None, split: str = "train") -> Settings:
        return replace(super()._settings(crop, resolution), range=self._range(split))


def checked_classes(found: Any, labels: Tensor | None, classes: int, title: str, item: str = "image") -> Tensor | None:
    """Return the labels of items, None if `classes` is 0; then what is `found` gets no class names.

    `found` has `class_names` and `about`. Raises ConfigError if it has another number of classes, or items in none.
    """
    number, about = len(found.class_names), found.about
    names = f" ({', '.join(found.class_names[:5])}{', ...' if number > 5 else ''})" if number else ""
    if not classes:
        if number:
            about.notes = [*about.notes, f"{number:,} classes{names} are not used, as data.classes=0"]
        found.class_names, about.empty = [], []
        return None
    if number != classes:
        empty = [f"no {item} in {', '.join(about.empty[:5])}"] if about.empty else []
        why = "".join(f"; {reason}" for reason in [*empty, *about.notes])
        raise ConfigError(
            f"data.classes={classes}, but {title} has {number} classes{names}{why}: type data.classes={number}"
        )
    if labels is None or (labels < 0).any():
        raise ConfigError(
            f"data.classes={classes}, but some {item}s of {title} lie in no class folder: "
            "move them into one or type data.classes=0"
        )
    return labels


def larger(load_resolution: Shape | None, resolution: Shape) -> int | tuple[int, int] | None:
    """Return what was given as `data.load_resolution`; raise ConfigError if `resolution` cannot be cut out of it."""
    if load_resolution is None:
        return None
    if any(margin < 0 for margin in margins(load_resolution, resolution)):
        enough = settled([side * 286 // 256 for side in sides(resolution)])
        raise ConfigError(
            f"data.load_resolution={shown(load_resolution)} is less than data.resolution={shown(resolution)}, which is "
            f"cut out of it: type data.load_resolution={shown(enough)} or null"
        )
    return settled(load_resolution)


def margins(load_resolution: Shape | None, resolution: Shape) -> tuple[int, int]:
    """Return how many pixels more than `resolution` the images have that it is cut out of, down and to the right."""
    (tall, wide), (height, width) = sides(load_resolution or resolution), sides(resolution)
    return tall - height, wide - width


def _checked_range(given: Any) -> Range:
    """Return what was given as `data.range`; raise ConfigError if it is no range."""
    if given is None or given in ("auto", OWN, *WINDOWS):
        return given
    numbers = list(given) if isinstance(given, (list, tuple)) else []
    if (
        len(numbers) == 2
        and all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
        and numbers[0] < numbers[1]
    ):
        return float(numbers[0]), float(numbers[1])
    raise ConfigError(
        f"data.range={given}: type the values that become black and white, as data.range=[0,4095], or data.range=auto, "
        f"of DICOM also {OWN}, and of computed tomography {', '.join(WINDOWS)}"
    )


def _checked_bands(given: Sequence[int] | None, channels: int) -> Sequence[int] | None:
    """Return what was given as `data.bands`; raise ConfigError if these are not three bands or one of the channels."""
    if given is None:
        return None
    if channels in (1, 3):
        raise ConfigError(
            f"data.bands={shown(given)}: images of data.channels={channels} are shown as they are; leave it "
            "out, or type data.channels=<number of bands>"
        )
    if len(given) not in (1, 3) or not all(1 <= band <= channels for band in given):
        raise ConfigError(
            f"data.bands={shown(given)}: three of the bands 1 to {channels} are shown as red, green and blue, "
            f"or one as grey; type data.bands=[{'1,2,3' if channels > 2 else '1'}]"
        )
    return given


def spread_rows(number: int, of: int) -> Tensor:
    """Choose `number` of `of` rows, int64 [number], evenly spread; if there are fewer, repeat them in turn."""
    return torch.arange(number) * of // number if number <= of else torch.arange(number) % of
