"""Sets of single images, with or without class labels: {"real", "label"}."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Classes, Place, Resolution, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.data.archives import Places, words
from gan_experiments.data.cache import ImageArray, cached, collect
from gan_experiments.data.download import download
from gan_experiments.data.image_module import FromFiles, ImageData
from gan_experiments.data.sources import Arrays, Files
from gan_experiments.data.splits import ALL

_CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
_CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
LARGEST_IDX = 1 << 28
"""The greatest number of bytes of an idx file, five times MNIST's, because a gzipped one can unpack to any size."""


class Digits(ImageData):
    """5,000 real handwritten digits that come with the package (digits.txt says from where); 32x32 is 28x28 padded."""

    def __init__(
        self, resolution: Resolution = 32, channels: Width = 1, classes: Classes = 10, **settings: Any
    ) -> None:
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
    """60,000 handwritten digits 28x28 for training and 10,000 for testing; downloaded if missing.

    They lie in torchvision's layout, `root`/MNIST/raw/.
    """

    splits = ("train", "test")
    names: ClassVar[Sequence[str]] = [str(c) for c in range(10)]

    @staticmethod
    def fetcher(root: Path, download: bool) -> None:
        """Download the files into `root`."""
        from torchvision import datasets

        datasets.MNIST(root, download=download)

    def __init__(
        self,
        root: Place = "data",
        resolution: Resolution = 32,
        channels: Width = 1,
        classes: Classes = 10,
        **settings: Any,
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
    """60,000 images of clothes 28x28 for training and 10,000 for testing; downloaded if missing.

    They lie in torchvision's layout, `root`/FashionMNIST/raw/.
    """

    names = _CLOTHES

    @staticmethod
    def fetcher(root: Path, download: bool) -> None:
        """Download the files into `root`."""
        from torchvision import datasets

        datasets.FashionMNIST(root, download=download)


def _cifar10(*args: Any, **kwargs: Any) -> Any:
    from torchvision import datasets

    return datasets.CIFAR10(*args, **kwargs)


class CIFAR10(ImageData):
    """50,000 photographs 32x32 for training and 10,000 for testing; downloaded if missing.

    They lie in torchvision's layout, `root`/cifar-10-batches-py/.
    """

    splits = ("train", "test")

    def __init__(
        self, root: Place = "data", resolution: Resolution = 32, classes: Classes = 10, **settings: Any
    ) -> None:
        super().__init__(resolution, classes=classes, **settings)
        self.root = Path(root).expanduser()

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of "train" or "test"."""
        train = split == "train"
        folder = self.root / "cifar-10-batches-py"
        files = [folder / f"data_batch_{i}" for i in range(1, 6)] if train else [folder / "test_batch"]
        if not all(path.is_file() for path in [*files, folder / "batches.meta"]):
            missing = f"CIFAR10 is not in data.root={self.root} (no {folder})"
            fetch = partial(_cifar10, self.root, download=True)
            download(self.root, fetch, missing, f"cifar-10-python.tar.gz and unpack it in {self.root}")

        def read() -> tuple[Tensor, Tensor]:
            try:
                packed = _cifar10(self.root, train=train)  # checks the files before it unpickles them
            except RuntimeError as error:
                raise ConfigError(f"CIFAR10 in {folder} is damaged ({error}): delete it and start again") from None
            return torch.from_numpy(packed.data).permute(0, 3, 1, 2), torch.tensor(packed.targets)

        number = 50_000 if train else 10_000
        source = Arrays(f"CIFAR10-{split}", read, number, _CIFAR10, files, limit=self.limit)
        return cached(source, self._settings(), self.cache, split)


class CelebA(ImageData):
    """Aligned faces 178x218, of which the middle of `crop` pixels is used.

    The folder or zip archive img_align_celeba lies in `root`, in `root`/celeba (torchvision's layout), or is `root`
    itself. If list_eval_partition.txt lies beside it, that file gives the splits "train", "valid" and "test"; otherwise
    all images are "train". `attribute`, such as Smiling, makes two classes (without, with) out of list_attr_celeba.txt.
    Raises ConfigError if a file that is needed is missing.
    """

    splits = ("train", "valid", "test")

    def __init__(
        self,
        root: Place = "data",
        resolution: Resolution = 64,
        crop: Resolution | None = 178,
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
        """Build or open the cache of a split."""
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
        """Return the names of a split's files; None if there is no partition, and all are "train"."""
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
        """Return those of `names` (None: all) that the list has, and their attributes as bits, the first the lowest."""
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
    """Any images below `root`, a folder, a zip or tar archive, or several; with `classes` > 0 it has classes.

    `test_root` is the folder or archive of the split "test"; without it, folders train, val, test in `root` are the
    splits. `crop`, a side or height and width in pixels, is the middle of each that is used (None: all). Files that are
    not images, and subfolders without images, are left out and named. Raises ConfigError if no image is left, or if the
    number of subfolders is not `classes`.
    """

    splits = ("train", "val", "test")
    chosen = ALL

    def __init__(
        self,
        root: Places = "data",
        resolution: Resolution = 64,
        test_root: Places | None = None,
        crop: Resolution | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        self.root, self.test_root, self.crop = root, test_root, crop

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split."""
        return cached(self.files(split), self._settings(self.crop, split=split), self.cache, split)

    @property
    @override
    def title(self) -> str:
        return f"Folder {words(self.root)}"


def read_idx(path: Path) -> Tensor:
    """Read an idx file, gzipped or not, to uint8 of its shape; raise ConfigError if it is damaged."""
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
