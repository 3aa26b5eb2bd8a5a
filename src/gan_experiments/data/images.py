"""Single images, with or without class labels: {"real", "label"}."""

from __future__ import annotations

import gzip
import logging
import math
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from filelock import FileLock
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.datasets.utils import download_and_extract_archive

from gan_experiments.bounds import Classes, Count, Numbers, Place, Seed, Width, Workers
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import (
    BatchStream,
    HeldOut,
    Shapes,
    Stream,
    StreamLoader,
    cut,
    item_shapes,
    to_float,
)
from gan_experiments.data.cache import ImageArray, cached, collect
from gan_experiments.data.decode import Range
from gan_experiments.data.met import lines
from gan_experiments.data.sources import FRAMES, Arrays, Files, Settings, splits_of

log = logging.getLogger(__name__)

_CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
_CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_PIX2PIX = "http://efrosgans.eecs.berkeley.edu/pix2pix/datasets"
_CYCLEGAN = "http://efrosgans.eecs.berkeley.edu/cyclegan/datasets"
_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
PUBLIC = {
    **{name: f"{_PIX2PIX}/{name}.tar.gz" for name in ("facades", "maps", "night2day", "edges2shoes", "edges2handbags")},
    **{
        name: f"{_CYCLEGAN}/{name}.zip"
        for name in ("horse2zebra", "apple2orange", "summer2winter_yosemite", "monet2photo", "vangogh2photo")
    },
    **{name: f"{_DIV2K}/{name}.zip" for name in ("DIV2K_train_HR", "DIV2K_valid_HR")},
}
"""Archives of public sets, each of one folder of that name: asked for by a folder's name, `data.root=data/facades`."""
CROPS = ("centre", "random")
ANYWHERE = "data.crop=random cuts squares out of all of each"
LARGEST_IDX = 1 << 28
"""Bytes of an idx file, five times MNIST's: a packed one can unpack to any size."""


class ImageData(LightningDataModule):
    """Real images of one kind: "real" float [N, C, H, W] in [-1, 1] and, where `classes` > 0, "label" int64 [N].

    `resolution` is in pixels, `channels` 1 or 3, `batch_size` the whole batch of one discriminator step over all ranks
    and accumulation steps, `limit` the greatest number of images used (None: all), `cache` the folder of the decoded
    images (None: $GAN_EXPERIMENTS_CACHE, else ~/.cache/gan_experiments), `max_pixels` the greatest number of pixels of
    a file (None: Pillow's limit, 178,956,970). Raises ConfigError for impossible values.
    """

    provides: frozenset[str] = frozenset({"real", "label"})
    splits: tuple[str, ...] = ("train",)

    def __init__(
        self,
        resolution: Width,
        channels: Width = 3,
        batch_size: Count = 64,
        classes: Classes = 0,
        flip: bool = False,
        workers: Workers = 0,
        seed: Seed = 0,
        cache: Place | None = None,
        limit: Count | None = None,
        max_pixels: Count | None = None,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(f"data.channels={channels}: images are grey or in colour, type data.channels=1 or 3")
        for name, value in (
            ("resolution", resolution),
            ("batch_size", batch_size),
            ("limit", limit),
            ("max_pixels", max_pixels),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"data.{name}={value}: a positive number is needed, type data.{name}=64")
        self.resolution, self.channels, self.batch_size, self.classes = resolution, channels, batch_size, classes
        self.flip, self.workers, self.seed, self.cache, self.limit = flip, workers, seed, cache, limit
        self.max_pixels = max_pixels
        self.channels_last = False
        if not classes:
            self.provides = self.provides - {"label"}
        self._opened: dict[str, ImageArray] = {}

    def load(self, split: str) -> ImageArray:
        """Build or open the images of one of `splits`."""
        raise NotImplementedError

    def prepare_data(self) -> None:
        """Download what is missing and build the cache of the images to train on; Lightning calls it once a node."""
        self.training()

    def setup(self, stage: str | None = None) -> None:
        """Open the images to train on; raises ConfigError where their classes are not `classes`."""
        self.training()

    def training(self) -> ImageArray:
        """Return the images to train on, without flips or shuffling."""
        return self.reference("train")

    def reference(self, split: str = "train") -> ImageArray:
        """Return the real images of a split, without flips or shuffling; raises ConfigError for an unknown split."""
        if split not in self.splits:
            raise ConfigError(f"{self.title} has no split {split!r}: type one of {', '.join(self.splits)}")
        if split not in self._opened:
            self._opened[split] = self._checked(self.load(split))
        return self._opened[split]

    def held_out(self, split: str | None = None) -> HeldOut:
        """Return what was not trained on and has a truth: of `split`, or of the one that there is.

        Raises ConfigError where there is none.
        """
        raise ConfigError(f"{self.title} has no images that should come of others: type metrics=none")

    def unpaired(self, reads: str, number: int | None, split: str) -> tuple[HeldOut, Any]:
        """Return images to translate that have no partners, and real ones of `split` that they should look like.

        `reads` and `number` are those of a model's direction. What is translated was held out, where such images are.
        Raises ConfigError where the data have no images of that kind.
        """
        raise ConfigError(f"{self.title} has no two kinds of images, to turn one into the other: type metrics=none")

    @property
    def size(self) -> int:
        """Number of training images."""
        return len(self.training())

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their labels; empty where there are none."""
        return self.training().class_names

    @property
    def class_counts(self) -> list[int]:
        """Training images of each class, in the order of their labels; empty where there are none."""
        labels = self.training().labels if "label" in self.provides else None
        return [] if labels is None else labels.bincount(minlength=self.classes).tolist()

    @property
    def title(self) -> str:
        """Name for messages."""
        return type(self).__name__

    @property
    def shapes(self) -> Shapes:
        """Shape of one item of each key of a batch; no file is looked at."""
        return item_shapes(self.provides, self.channels, self.resolution)

    def describe(self) -> str:
        """Return one line for the terminal."""
        images = self.training()
        line = f"{self.title}: {len(images):,} images {self.channels}x{self.resolution}x{self.resolution}"
        line += f", {self.classes} classes" if self.classes else ""
        return line + (f", {images.skipped:,} files left out" if images.skipped else "")

    def understood(self) -> list[str]:
        """Say what was understood of the files that are trained on, a line for each thing that there is to say."""
        images = self.training()
        return lines(len(images), self.counts(images), images.about, images.skipped)

    def counts(self, images: ImageArray) -> dict[str, int]:
        """Count the images of each class."""
        if images.labels is None:
            return {}
        counts = torch.bincount(images.labels, minlength=len(images.class_names)).tolist()
        return dict(zip(images.class_names, counts, strict=True))

    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        """Return the endless uint8 batches of one rank."""
        return BatchStream(self.training(), self.batch_size, self.seed, self.flip, rank=rank, world=world)

    def train_dataloader(self) -> DataLoader:
        """Return a loader that never ends; it goes on at the batch that the model's counter `batches` says."""
        rank, world, pin = 0, 1, False
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            pin = self.trainer.strategy.root_device.type not in ("cpu", "mps")  # where pinned memory helps
        return StreamLoader(self.stream(rank, world), self._position, self.workers, pin)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Turn uint8 "real" and bool "flip" into float "real" in [-1, 1], on the device where they are."""
        batch = dict(batch)
        if batch["real"].dtype == torch.uint8:
            batch["real"] = to_float(batch["real"], batch.pop("flip", None), self.channels_last)
        return batch

    def fixed(self, n: int) -> Batch:
        """Return the same `n` items each time, for sample sheets: labels 0, 1, 2, ... in turn, else evenly spread."""
        images = self.reference("train")
        if images.labels is None:
            return {"real": to_float(images.pixels[spread_rows(n, len(images))])}
        present = images.labels.unique()  # `limit` can leave a class without images
        return self.of_classes(present[torch.arange(n) % len(present)])

    def of_classes(self, labels: Tensor) -> Batch:
        """Return the same items each time, of these classes, int64 [n]."""
        images = self.reference("train")
        assert images.labels is not None
        rows = torch.empty_like(labels)
        for c in labels.unique():
            members = torch.nonzero(images.labels == c)[:, 0]
            places = torch.nonzero(labels == c)[:, 0]
            rows[places] = members[torch.arange(len(places)) % len(members)]
        return {"real": to_float(images.pixels[rows]), "label": images.labels[rows]}

    def _position(self) -> int:
        return 0 if self.trainer is None else int(getattr(self.trainer.lightning_module, "batches", 0))

    def _settings(self, crop: int | None = None, resolution: int | None = None) -> Settings:
        return Settings(resolution or self.resolution, self.channels, crop, self.max_pixels)

    def _checked(self, images: ImageArray) -> ImageArray:
        found, about = len(images.class_names), images.about
        names = f" ({', '.join(images.class_names[:5])}{', ...' if found > 5 else ''})" if found else ""
        if not self.classes:
            if found:
                about.notes = [*about.notes, f"{found:,} classes{names} are not used, as data.classes=0"]
            images.labels, images.class_names, about.empty = None, [], []
            return images
        if found != self.classes:
            empty = [f"no image in {', '.join(about.empty[:5])}"] if about.empty else []
            why = "".join(f"; {reason}" for reason in [*empty, *about.notes])
            raise ConfigError(
                f"data.classes={self.classes}, but {self.title} has {found} classes{names}{why}: "
                f"type data.classes={found}"
            )
        if images.labels is None or (images.labels < 0).any():
            raise ConfigError(
                f"data.classes={self.classes}, but some images of {self.title} lie in no class folder: "
                "move them into one or type data.classes=0"
            )
        return images


class CroppedData(ImageData):
    """Images that are trained on in random squares of `resolution` pixels, cut out of `load_resolution` (None: whole).

    Raises ConfigError where `load_resolution` is less than `resolution`.
    """

    def __init__(self, resolution: Width, load_resolution: Width | None = None, **settings: Any) -> None:
        super().__init__(resolution, **settings)
        if load_resolution is not None and load_resolution < resolution:
            raise ConfigError(
                f"data.load_resolution={load_resolution} is less than data.resolution={resolution}, which is cut out "
                f"of it: type data.load_resolution={resolution * 286 // 256} or null"
            )
        self.load_resolution = load_resolution
        self._training: ImageArray | None = None

    def load_at(self, split: str, resolution: int) -> ImageArray:
        """Build or open the images of one of `splits` at a resolution."""
        raise NotImplementedError

    def load(self, split: str) -> ImageArray:
        """Build or open the images of one of `splits` at `resolution`."""
        return self.load_at(split, self.resolution)

    def training(self) -> ImageArray:
        """Return the images to train on, at `load_resolution`."""
        if self.load_resolution is None:
            return ImageData.reference(self, "train")  # a subclass may give a part of it as the reference
        if self._training is None:
            self._training = self._checked(self.load_at("train", self.load_resolution))
        return self._training

    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        """Return the endless uint8 batches of one rank."""
        margin = (self.load_resolution or self.resolution) - self.resolution
        return BatchStream(self.training(), self.batch_size, self.seed, self.flip, margin, rank, world)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Cut "real" at "crop", then as every ImageData."""
        batch = dict(batch)
        corners = batch.pop("crop", None)
        if corners is not None:
            batch["real"] = cut(batch["real"], corners, self.resolution)
        return super().on_after_batch_transfer(batch, dataloader_idx)


class FromFiles(ImageData):
    """Images read from a person's own files, whatever these are.

    `range` is of files of more than 8 bits: the two values that become black and white, "auto" for the least and the
    greatest of those trained on, None for what their kind says. `frames` of animations and of files of several pages
    are "first" or "all". Raises ConfigError for others.
    """

    many_frames: ClassVar[bool] = True
    """Whether all frames can be taken."""
    root: Any
    test_root: str | None = None

    def __init__(
        self,
        resolution: int,
        range: str | Numbers | None = None,
        frames: str = "first",
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        self.range, self.frames = _checked_range(range), frames
        possible = FRAMES if self.many_frames else FRAMES[:1]
        if frames not in possible:
            raise ConfigError(f"data.frames={frames}: type data.frames={' or '.join(possible)}")

    def files(self, split: str) -> Files:
        """Find the files of a split: those of `root` or `test_root`, or of the folder in them that is so called.

        Raises ConfigError where there is no such split.
        """
        options: dict[str, Any] = {"limit": self.limit, "frames": self.frames}
        if split == "train":
            return Files(self.root, "data.root", splits=("train",), **options)
        if split == "test" and self.test_root is not None:
            return Files(self.test_root, "data.test_root", splits=("test", "val", "train"), **options)
        if not self.has(split):
            raise ConfigError(
                f"{type(self).__name__} has no split {split!r}: type data.test_root=<folder or zip archive>"
            )
        return Files(self.root, "data.root", splits=("test", "val") if split == "test" else (split,), **options)

    def has(self, split: str) -> bool:
        """Say whether there is such a split."""
        if split == "train" or (split == "test" and self.test_root is not None):
            return True
        return bool(splits_of(self.root) & ({"test", "val"} if split == "test" else {split}))

    def _range(self, split: str) -> Range:
        """Return `range`; what was held out has that of the training images."""
        return self.training().about.range if self.range == "auto" and split != "train" else self.range

    def _checked_crop(self, crop: str) -> str:
        """Check what was given as `data.crop`, "centre" or "random"; raises ConfigError for what is neither."""
        if crop not in CROPS:
            raise ConfigError(f"data.crop={crop}: type data.crop={' or '.join(CROPS)}")
        if crop == "random" and self.frames == "all":
            raise ConfigError(
                "data.frames=all with data.crop=random: squares are cut out of the first frame of each; "
                "type data.frames=first or data.crop=centre"
            )
        return crop

    def _settings(self, crop: int | None = None, resolution: int | None = None, split: str = "train") -> Settings:
        return replace(super()._settings(crop, resolution), range=self._range(split))


class Digits(ImageData):
    """5,000 real handwritten digits that come with the package (digits.txt says from where); 32x32 is 28x28 padded."""

    def __init__(self, resolution: Width = 32, channels: Width = 1, classes: Classes = 10, **settings: Any) -> None:
        super().__init__(resolution, channels, classes=classes, **settings)

    def load(self, split: str) -> ImageArray:
        """Decode the packed digits into memory: they are too few for a cache on disk."""
        source = Arrays("digits", self._read, 5000, [str(c) for c in range(10)], pad=2, limit=self.limit)
        return collect(source, self._settings(), split)

    @staticmethod
    def _read() -> tuple[Tensor, Tensor]:
        with np.load(Path(__file__).with_name("digits.npz")) as packed:
            return torch.from_numpy(packed["images"])[:, None], torch.from_numpy(packed["labels"])


class MNIST(ImageData):
    """60,000 and 10,000 handwritten digits 28x28 in torchvision's layout, `root`/MNIST/raw/; downloaded if missing."""

    splits = ("train", "test")
    names: ClassVar[Sequence[str]] = [str(c) for c in range(10)]
    fetcher: ClassVar[type] = datasets.MNIST

    def __init__(
        self, root: Place = "data", resolution: Width = 32, channels: Width = 1, classes: Classes = 10, **settings: Any
    ) -> None:
        super().__init__(resolution, channels, classes=classes, **settings)
        self.root = Path(root).expanduser()

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of "train" or "test"."""
        prefix = "train" if split == "train" else "t10k"
        files = [self._find(f"{prefix}-images-idx3-ubyte"), self._find(f"{prefix}-labels-idx1-ubyte")]
        number = len(read_idx(files[1]))
        source = Arrays(
            f"{self.title}-{split}",
            lambda: (read_idx(files[0])[:, None], read_idx(files[1])),
            number,
            self.names,
            files,
            pad=2,
            limit=self.limit,
        )
        return cached(source, self._settings(), self.cache, split)

    def _find(self, name: str) -> Path:
        folder = self.root / self.title / "raw"
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
        if path is not None:
            return path
        missing = f"{self.title} is not in data.root={self.root} (no {folder / name}[.gz])"
        download(
            self.root, partial(self.fetcher, self.root, download=True), missing, f"its four idx .gz files into {folder}"
        )
        return folder / name


class FashionMNIST(MNIST):
    """60,000 and 10,000 clothes 28x28 in torchvision's layout, `root`/FashionMNIST/raw/; downloaded if missing."""

    names = _CLOTHES
    fetcher = datasets.FashionMNIST


class CIFAR10(ImageData):
    """50,000 and 10,000 photographs 32x32, torchvision's `root`/cifar-10-batches-py/; downloaded if missing."""

    splits = ("train", "test")

    def __init__(self, root: Place = "data", resolution: Width = 32, classes: Classes = 10, **settings: Any) -> None:
        super().__init__(resolution, classes=classes, **settings)
        self.root = Path(root).expanduser()

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of "train" or "test"."""
        train = split == "train"
        folder = self.root / "cifar-10-batches-py"
        files = [folder / f"data_batch_{i}" for i in range(1, 6)] if train else [folder / "test_batch"]
        if not all(path.is_file() for path in [*files, folder / "batches.meta"]):
            missing = f"CIFAR10 is not in data.root={self.root} (no {folder})"
            fetch = partial(datasets.CIFAR10, self.root, download=True)
            download(self.root, fetch, missing, f"cifar-10-python.tar.gz and unpack it in {self.root}")

        def read() -> tuple[Tensor, Tensor]:
            try:
                packed = datasets.CIFAR10(self.root, train=train)  # checks the files before it unpickles them
            except RuntimeError as error:
                raise ConfigError(f"CIFAR10 in {folder} is damaged ({error}): delete it and start again") from None
            return torch.from_numpy(packed.data).permute(0, 3, 1, 2), torch.tensor(packed.targets)

        number = 50_000 if train else 10_000
        source = Arrays(f"CIFAR10-{split}", read, number, _CIFAR10, files, limit=self.limit)
        return cached(source, self._settings(), self.cache, split)


class CelebA(ImageData):
    """Aligned faces 178x218, centre crop of `crop` pixels, from `root`: a folder or zip archive img_align_celeba.

    It may lie in `root`, in `root`/celeba (torchvision's layout), or be `root` itself. Where list_eval_partition.txt
    lies beside it, "train", "valid" and "test" are its parts, else all is "train". `attribute`, such as Smiling, makes
    two classes (without, with) out of list_attr_celeba.txt. Raises ConfigError where they are missing.
    """

    splits = ("train", "valid", "test")

    def __init__(
        self,
        root: Place = "data",
        resolution: Width = 64,
        crop: Width | None = 178,
        attribute: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        if self.classes != (0 if attribute is None else 2):
            raise ConfigError(
                f"data.classes={self.classes} with data.attribute={attribute}: its classes come from an attribute, "
                "type data.classes=2 data.attribute=Smiling, or data.classes=0 data.attribute=null"
            )
        self.root, self.crop, self.attribute = Path(root).expanduser(), crop, attribute

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a part."""
        path = self._find()
        names, labels, class_names = self._names(path, split), None, []
        if self.attribute is not None:
            names, labels = self._attributes(path, names, [self.attribute], "data.attribute")
            class_names = [f"not {self.attribute}", self.attribute]
        source = Files(path, "data.root", names, labels, class_names, self.limit)
        source.name = f"CelebA-{split}"
        return cached(source, self._settings(self.crop), self.cache, split)

    def _find(self) -> Path:
        name = "img_align_celeba"
        if self.root.name in (name, f"{name}.zip") and self.root.exists():
            return self.root
        places = [folder / name for folder in (self.root / "celeba", self.root)]
        for place in places:
            for path in (place, place.with_suffix(".zip")):
                if path.exists():
                    return path
        raise ConfigError(
            f"CelebA is not in data.root={self.root}: fetch img_align_celeba.zip from the CelebA project's page "
            f"and put it into {self.root / 'celeba'}, or type data.root=<the folder that holds it>"
        )

    def _names(self, path: Path, split: str) -> list[str] | None:
        """List the files of a part; None where there is no partition, and all are "train"."""
        partition = self._table(path, "list_eval_partition.txt")
        if partition:
            wanted = str(self.splits.index(split))
            return [name for name, part in partition.items() if part[0] == wanted]
        if split != "train":
            raise ConfigError(
                f"CelebA has no split {split!r} without list_eval_partition.txt: put it into {path.parent}"
            )
        return None

    @staticmethod
    def _table(path: Path, name: str) -> dict[str, list[str]]:
        file = path.parent / name
        rows = [line.split() for line in file.read_text().splitlines()] if file.is_file() else []
        return {row[0]: row[1:] for row in rows if len(row) > 1}

    def _attributes(
        self, path: Path, names: list[str] | None, attributes: Sequence[str], key: str
    ) -> tuple[list[str], list[int]]:
        """Read which of `names` (None: all) the list has, and the attributes of each as bits, the first the lowest."""
        file = path.parent / "list_attr_celeba.txt"
        if not file.is_file():
            raise ConfigError(f"{key} needs {file}: put it there or choose another data=")
        head = file.read_text().split("\n", 2)[1].split()  # the first line is the number of images
        unknown = next((name for name in attributes if name not in head), None)
        if unknown is not None:
            raise ConfigError(f"{key}={unknown} is not one of CelebA's: {', '.join(head)}")
        columns = [head.index(name) for name in attributes]
        values = {
            name: sum(int(row[column] == "1") << place for place, column in enumerate(columns))
            for name, row in self._table(path, file.name).items()
            if len(row) == len(head)
        }
        names = [name for name in names or values if name in values]
        return names, [values[name] for name in names]


class Folder(FromFiles):
    """Any images below `root`, a folder or zip archive; with `classes` > 0 its subfolders are the classes.

    `test_root` is the like for the split "test"; without it, folders train, val, test in `root` are the splits. `crop`
    is in pixels (None: the short side). Files that are not images are left out and named, as subfolders without any
    are. Raises ConfigError where no image is left, or the subfolders are not `classes`.
    """

    splits = ("train", "val", "test")

    def __init__(
        self,
        root: Place = "data",
        resolution: Width = 64,
        test_root: Place | None = None,
        crop: Width | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        self.root, self.test_root, self.crop = root, test_root, crop

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split."""
        return cached(self.files(split), self._settings(self.crop, split=split), self.cache, split)

    @property
    def title(self) -> str:
        """Name for messages."""
        return f"Folder {self.root}"


def _checked_range(given: Any) -> Range:
    """Check what was given as `data.range`; raises ConfigError for what is no range."""
    if given is None or given == "auto":
        return given
    numbers = list(given) if isinstance(given, (list, tuple)) else []
    if (
        len(numbers) == 2
        and all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
        and numbers[0] < numbers[1]
    ):
        return float(numbers[0]), float(numbers[1])
    raise ConfigError(
        f"data.range={given}: type the values that become black and white, as data.range=[0,4095], or data.range=auto"
    )


def spread_rows(number: int, of: int) -> Tensor:
    """Choose `number` of `of` rows, evenly spread, or in turn where there are fewer: int64 [number]."""
    return torch.arange(number) * of // number if number <= of else torch.arange(number) % of


def read_idx(path: Path) -> Tensor:
    """Read an idx file, gzipped or not, to uint8 of its shape; raises ConfigError where it is damaged."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST_IDX)
        kind, dimensions = raw[2], raw[3]
        shape = np.frombuffer(raw, ">i4", dimensions, offset=4).tolist()
        data = raw[4 + 4 * dimensions :]
        if raw[:2] == b"\0\0" and kind == 8 and len(data) == math.prod(shape):
            return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(shape)
    except (OSError, EOFError, ValueError, IndexError):
        pass
    raise ConfigError(f"{path} is damaged: delete it and start again, or put the right file there")


def fetch_public(root: str | Path) -> None:
    """Download the public set that `root` is named after, where PUBLIC has it and `root` does not exist."""
    root = Path(root).expanduser()
    url = PUBLIC.get(root.name)
    if url is None or root.exists():
        return
    fetch = partial(download_and_extract_archive, url, str(root.parent), remove_finished=True)
    download(root.parent, fetch, f"data.root={root} does not exist", f"{url} and unpack it in {root.parent}")


class NotDownloadedError(ConfigError):
    """The data are not here and could be downloaded, in a place where nothing is to be."""


_DOWNLOADS = ContextVar("_DOWNLOADS", default=True)


@contextmanager
def without_downloads() -> Iterator[None]:
    """Have NotDownloadedError raised in place of any download."""
    before = _DOWNLOADS.set(False)
    try:
        yield
    finally:
        _DOWNLOADS.reset(before)


def download(root: Path, fetch: Callable[[], object], missing: str, what: str) -> None:
    """Call torchvision's `fetch` once among processes; without a network raises ConfigError soon, in one line."""
    if not _DOWNLOADS.get():
        raise NotDownloadedError(f"{missing}: it is downloaded when the run begins")
    before = {root, *root.rglob("*")} if root.exists() else set()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".download.lock"), _impatient():
            log.info("%s: downloading", missing)
            fetch()
    except (OSError, RuntimeError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(":")
        (root / ".download.lock").unlink(missing_ok=True)
        for folder in sorted({root, *root.rglob("*")} - before, reverse=True):  # leave no empty folders behind
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise ConfigError(
            f"{missing} and cannot be downloaded ({why}): fetch {what}, or type data.root=<the folder that holds it>"
        ) from None


@contextmanager
def _impatient(seconds: float = 10) -> Iterator[None]:
    """Let connections that say nothing fail: torchvision itself sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
