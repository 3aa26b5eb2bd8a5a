"""Images from any torch Dataset: map-style or iterable, whose items have one of the forms that people use.

An item is an image, a pair (image, label) or a dict with the keys "image" and "label". An image is a PIL image, the
bytes of an image file, or an array or tensor: [H, W], [C, H, W] or [H, W, C]. Nothing is guessed about the values of
arrays: those that are not of 8 bits need `data.range`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from gan_experiments.bounds import Few, Resolution
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import BatchStream, Stream, flips
from gan_experiments.data.cache import FILTER, ImageArray, cached
from gan_experiments.data.image_module import FromFiles
from gan_experiments.data.item import LAYOUTS
from gan_experiments.data.items import Items, length_of
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.met import About
from gan_experiments.data.sources import Settings

log = logging.getLogger(__name__)

TRIES = 16  # broken items in a row that are passed over when items are read anew


class FromItems(FromFiles):
    """Images from the items of a dataset, read once into the cache, or with `cached` False anew whenever they are used.

    What is read anew is drawn anew by the dataset, if it draws: from the seed and the place in the batch, so that a
    resumed run and one on several ranks read the same. Its labels have to be known before, as an attribute `targets`.
    `image`, `label` and `layout` are those of `Items`; `range` is needed by arrays that are not of 8 bits.
    """

    many_frames: ClassVar[bool] = False
    chosen: ClassVar[frozenset[str]] = frozenset()
    splits = ("train", "test")

    def __init__(
        self,
        resolution: Resolution = 64,
        image: str | Few | None = None,
        label: str | Few | None = None,
        layout: str | None = None,
        cached: bool = True,
        crop: Resolution | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, **settings)
        if layout not in (None, *LAYOUTS):
            raise ConfigError(f"data.layout={layout}: type data.layout={' or '.join(LAYOUTS)}")
        self.image, self.label, self.layout, self.cached, self.crop = image, label, layout, cached, crop

    @abstractmethod
    def source(self, split: str, **options: Any) -> Items:
        """Return the items of one of the splits that there are; `options` are arguments of `Items`."""

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split, or prepare to read its items anew."""
        if not self.has(split):
            raise ConfigError(f"{self.title} has no split {split!r}: {self.without_test}")
        source = self.source(
            split,
            image=self.image,
            label=self.label,
            layout=self.layout,
            labelled=self.classes > 0,
            known=() if split == "train" else self.training().class_names,
            limit=self.limit,
            workers=self.workers,
            view=self.view,
        )
        settings = self._settings(self.crop, split=split)
        if self.cached:
            return cached(source, settings, self.cache, split)
        return Anew(source, settings, split)

    without_test = "type data.test_dataset._target_=..."
    """What to type to have a test split."""

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        images = self.training()
        if isinstance(images, Anew):
            return AnewStream(images, self.batch_size, self.seed, self.flip, rank=rank, world=world)
        return super().stream(rank, world)


class TorchDataset(FromItems):
    """The items of any torch Dataset; `test_dataset` is that of the split "test"."""

    def __init__(self, dataset: Dataset, test_dataset: Dataset | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.datasets: dict[str, Any] = {"train": dataset, "test": test_dataset}

    def source(self, split: str, **options: Any) -> Items:
        """Return the items of "train" or "test"."""
        return Items(self.datasets[split], "data.dataset" if split == "train" else "data.test_dataset", **options)

    @override
    def has(self, split: str) -> bool:
        return self.datasets.get(split) is not None

    @property
    @override
    def title(self) -> str:
        return type(self.datasets["train"]).__name__


# -------------------------------------------------------------------- datasets that are objects

_given: ContextVar[Mapping[str, Any]] = ContextVar("_given", default={})  # noqa: B039  # never changed


class Given:
    """Stands in a config for a dataset that was given from Python; making it returns that dataset.

    `what` describes it. Raises ConfigError where it is not at hand: in a later command, or a resumed run.
    """

    def __new__(cls, what: str = "", split: str = "train") -> Any:
        """Return the dataset of a split."""
        found = _given.get().get(split)
        if found is None:
            name = "data" if split == "train" else "test_data"
            raise ConfigError(
                f"the data of this run were an object in Python ({what}), which no file holds: give it again,"
                f" gx.train([...], {name}=..., resume=...), or type another data="
            )
        return found


@contextmanager
def giving(datasets: Mapping[str, Any]) -> Iterator[None]:
    """Let `Given` make these datasets, by split, inside the `with`."""
    before = _given.set(datasets)
    try:
        yield
    finally:
        _given.reset(before)


def described_dataset(dataset: Any) -> str:
    """Return the class and the length of a dataset."""
    number = length_of(dataset)
    return type(dataset).__qualname__ + ("" if number is None else f" of {number:,} items")


# -------------------------------------------------------------------- items that are read anew


class Anew(ImageArray):
    """The images of a map-style dataset, read whenever they are asked for. Raises ConfigError without their labels."""

    def __init__(self, source: Items, settings: Settings, split: str) -> None:
        if source.iterable:
            raise ConfigError(f"data.cached=false needs items by number, and {source.where} is only iterable")
        if settings.range == "auto":
            raise ConfigError("data.range=auto reads all items before: with data.cached=false type numbers")
        key = json.dumps([FILTER, settings.plain(), source.identity()])
        self.source, self.settings, self.split = source, settings, split
        self.fingerprint = hashlib.sha256(key.encode()).hexdigest()
        self.labels, self.class_names = self._targets()
        self.skipped, self.folder, self.pixels = 0, None, _Pixels(self)  # type: ignore[assignment]
        self.about = About(["all items are read anew whenever they are used (data.cached=false)"])
        self.warned: set[int] = set()

    def __reduce__(self) -> Any:
        return Anew, (self.source, self.settings, self.split)

    def __len__(self) -> int:
        return len(self.source)

    def images(self, start: int, stop: int) -> Tensor:
        """Return the images from `start` to `stop`, uint8 [n, C, H, W]; the same at each call."""
        return self.pixels[torch.arange(start, min(stop, len(self)))]

    def read(self, row: int, *place: int) -> Tensor:
        """Read one image, uint8 [C, H, W]; in place of one that cannot be read the next of its class, with a warning.

        What is drawn is a function of `place`. Raises ConfigError for another form, or if the next are broken too.
        """
        rows = ((row + step) % len(self) for step in range(len(self)))
        same = (other for other in rows if self.labels is None or self.labels[other] == self.labels[row])
        for other in itertools.islice(same, TRIES):
            item = self.source.rows[other]
            got = self.source.get(item, *place)
            found = self.source.converted(got, item, self.settings, self.settings.range, labelled=False)
            if isinstance(found.pixels, ConfigError):
                raise found.pixels
            if not isinstance(found.pixels, str):
                return torch.from_numpy(found.pixels)
            if item not in self.warned:
                self.warned.add(item)
                log.warning(
                    "%s: item %d is left out (%s), and the next is taken", self.source.where, item, found.pixels
                )
        raise ConfigError(f"{self.source.where}: item {item} and those before it are no images ({found.pixels})")

    def _targets(self) -> tuple[Tensor | None, list[str]]:
        source = self.source
        if not source.form.labelled:
            return None, []
        targets = getattr(source.dataset, "targets", None)
        if targets is None or len(targets) != len(source.dataset):
            raise ConfigError(
                f"{source.where} has no `targets`, the label of each item, which data.cached=false needs before:"
                " give it that attribute, or type data.cached=true"
            )
        try:
            numbers = [source.number(source.form.numbered(targets[row]), row) for row in source.rows]
        except UnreadableImageError as error:
            raise ConfigError(f"{source.where}: in its `targets`, an item {error}") from None
        labels, names, _ = source.without_empty(torch.tensor(numbers))
        return labels, names


class _Pixels:
    """As much of the pixels [N, C, H, W] as is asked of them: `pixels[rows]`, `shape` and `len`."""

    def __init__(self, of: Anew) -> None:
        self.of = of

    def __len__(self) -> int:
        return len(self.of)

    @property
    def shape(self) -> torch.Size:
        """[N, C, H, W]."""
        return torch.Size([len(self.of), *self.of.read(0).shape])

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        chosen = torch.arange(len(self.of))[rows]
        return torch.stack([self.of.read(row) for row in chosen.tolist()])


class AnewStream(BatchStream):
    """Shuffled batches of items that are read for each batch."""

    def batch(self, number: int) -> Batch:
        """Read this rank's rows of batch `number`."""
        rows, images = self.indices(number), self.data
        assert isinstance(images, Anew)
        mine = range(self.batch_size)[self._mine]
        places = ((int(rows[i]), (abs(self.seed), number, i)) for i in mine)
        batch = {"real": torch.stack([images.read(row, *place) for row, place in places])}
        if images.labels is not None:
            batch["label"] = images.labels.index_select(0, rows[self._mine])
        if self.flip:
            batch["flip"] = flips(self.seed, number, self.batch_size)[self._mine]
        return batch
