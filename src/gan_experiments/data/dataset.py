"""Images from any torch Dataset: map-style or iterable, whose items have one of the forms that people use.

An item is an image, a pair (image, label) or a dict with the keys "image" and "label". An image is a PIL image, the
bytes of an image file, or an array or tensor: [H, W], [C, H, W] or [H, W, C]. Nothing is guessed about the values of
arrays: those that are not of 8 bits need `data.range`.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import logging
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset
from typing_extensions import override

from gan_experiments.bounds import Few, Resolution
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import BatchStream, Stream, flips
from gan_experiments.data.cache import FILTER, ImageArray, cached
from gan_experiments.data.decode import Range, Reading, _to_8_bit, decode, fit, has_alpha, match_channels, picture
from gan_experiments.data.image_module import FromFiles
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.met import About, Seen
from gan_experiments.data.sources import BLOCK, Block, Settings, Source, spread, stacked

log = logging.getLogger(__name__)

PROBED = 32
"""The number of items whose content is part of a cache's key."""
TRIES = 16  # broken items in a row that are passed over when items are read anew
LAYOUTS = ("chw", "hwc")
GREY_OR_COLOUR = (1, 3, 4)


class Read(NamedTuple):
    """What was read of an item: uint8 [C, H, W], or why not (ConfigError: nothing can be read so), and the label."""

    pixels: np.ndarray | str | ConfigError
    label: int | str | None
    seen: tuple[Seen, ...] = ()


class Items(Source):
    """The items of a dataset.

    Args:
        dataset: with `__len__` and `__getitem__`, or only iterable; one that is only iterable is read from its
            beginning to its end.
        key: the option that the user types to name the dataset, for messages.
        image: the key or place of the image in an item; None as the module says.
        label: the same of the label.
        layout: "chw" or "hwc", for arrays whose shape does not tell.
        labelled: whether labels are read. They are numbers from 0, or names.
        known: the names of the classes, if the items' labels are to be numbered by them, as those of a test split are.
        limit: the greatest number of items: evenly spread, or the first ones of an iterable.
        workers: the number of processes that read items ahead.
        view: as in `Source`.
        where: the dataset as the user typed it, if not by its class.
    """

    items = "items"
    wanted = "an item is an image, a pair (image, label) or a dict with image and label"

    def __init__(
        self,
        dataset: Any,
        key: str = "data.dataset",
        image: str | int | None = None,
        label: str | int | None = None,
        layout: str | None = None,
        labelled: bool = False,
        known: Sequence[str] = (),
        limit: int | None = None,
        workers: int = 0,
        view: Mapping[str, Any] | None = None,
        where: str = "",
    ) -> None:
        self.view = view or {}
        self.dataset, self.name = dataset, type(dataset).__name__
        self.where = where or f"{key}={type(dataset).__module__}.{type(dataset).__qualname__}"
        self.form = Form(self.where, image, label, layout, labelled)
        self.own = _names_of(dataset)
        self.known, self.workers, self._limit = list(known), workers, limit
        self.class_names = (self.known or self.own) if labelled else []
        self.classes_known = bool(self.class_names) or not labelled
        self.iterable = isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
        )
        if self.iterable and not hasattr(dataset, "__iter__"):
            raise ConfigError(f"{self.where} has neither __getitem__ and __len__ nor __iter__: give a torch Dataset")
        self._number = _length(dataset)
        self.rows = [] if self.iterable else spread(self._number or 0, limit)
        self._found: list[str] = []  # labels that are names, as they were met
        self._begun: tuple[list[Any], Iterator[Any]] | None = None
        self.notes: list[str] = []

    def __len__(self) -> int:
        number = len(self.rows) if not self.iterable else self._number or 0
        return min(number, self._limit or number)

    def identity(self) -> list[object]:
        """List the class of the dataset, its arguments, its length, and hashes of some items evenly spread."""
        kept = self._limit, self.form.plain(), self.known, self.own, dict(self.view)
        return [self.where, _arguments(self.dataset), self._number, *kept, self._probe()]

    def _probe(self) -> list[str]:
        """Hash some items: evenly spread, or the first of an iterable, which are kept to be read no second time."""
        if self.iterable:
            iterator = _iterated(self.dataset)
            first = list(itertools.islice(iterator, min(PROBED, self._limit or PROBED)))
            self._begun = first, iterator
            return [_hash(item) for item in first]
        probed = [self.rows[i] for i in spread(len(self.rows), PROBED)]
        hashes = [_hash(self.get(row)) for row in probed]
        if any(_hash(self.get(row, again=1)) != found for row, found in zip(probed[:2], hashes, strict=False)):
            self.notes.append(
                "an item is another each time it is read: one of each is kept; data.cached=false reads anew"
            )
        return hashes

    def get(self, row: int, *place: int, again: int = 0) -> Any:
        """Return an item, or the error of reading it; what it draws at random is a function of row and place."""
        try:
            with drawn(*(place or (row, again))):
                return self.dataset[row]
        except Exception as error:  # a person's own code raises anything, and one item must not end the run
            return error

    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Read and convert the items in order, on `workers` processes; `threads` is not needed."""
        reading = self.begin(settings.range)
        results = self._results(settings, reading.window or reading.bounds)
        self._found, start = [], 0
        while some := list(itertools.islice(results, BLOCK)):
            names = [f"item {row}" for row, _ in some]
            labels, made = [], []
            for row, read in some:
                if isinstance(read.pixels, ConfigError):
                    raise read.pixels
                for seen in read.seen:
                    reading.met.add(seen)
                pixels: Tensor | str = read.pixels if isinstance(read.pixels, str) else torch.from_numpy(read.pixels)
                try:
                    labels.append(self.number(read.label, row) if isinstance(pixels, Tensor) else -1)
                except UnreadableImageError as error:
                    labels.append(-1)
                    pixels = str(error)
                made.append(pixels)
            block = stacked(made, 0, settings.shape, labels, names)
            reading.met.add_pixels(block.pixels)
            start += len(some)
            yield block
        if self.iterable:
            self._number = start

    def converted(self, item: Any, row: int, settings: Settings, range: Range, labelled: bool = True) -> Read:
        """Convert an item to an image as `settings` have it, by `range`, and to a label if it is needed."""
        reading = Reading(range, **self.view)
        reading.met = tally = _Tally()  # type: ignore[assignment]
        try:
            image, label = self.form.parts(item)
            label = self.form.numbered(label) if self.form.labelled and labelled else None
            shape = settings.resolution, settings.channels, settings.crop
            if isinstance(image, (bytes, bytearray)):
                pixels = decode(bytes(image), *shape, reading, how=settings.fit)
            else:
                pixels, seen = self.form.pixels(image, settings.channels, reading)
                pixels = fit(
                    pixels,
                    settings.resolution,
                    settings.crop,
                    settings.fit,
                    has_alpha(settings.channels, reading.bands),
                )
                tally.add(seen)
        except UnreadableImageError as error:
            return Read(str(error), None)
        except ConfigError as error:
            return Read(ConfigError(f"{self.where}: item {row} {error}"), None)
        return Read(pixels.numpy(), label, tuple(tally))

    def _results(self, settings: Settings, range: Range) -> Iterator[tuple[int, Read]]:
        if self.iterable:
            first, rest = self._begun or ([], _iterated(self.dataset))
            self._begun = None
            for row, item in enumerate(itertools.islice(itertools.chain(first, rest), self._limit)):
                if isinstance(item, Exception):
                    raise ConfigError(
                        f"{self.where}: item {row} cannot be read ({_said(item)}), and an iterable ends there: mend it,"
                        f" or type data.limit={max(row, 1)}"
                    ) from item
                yield row, self.converted(item, row, settings, range)
            return
        work = _Work(self, settings, range)
        loader: Any = work
        if self.workers:
            loader = DataLoader(work, batch_size=None, num_workers=self.workers, collate_fn=_same)
        yield from zip(self.rows, loader, strict=False)

    def number(self, label: int | str | None, row: int) -> int:
        """Return the number of a label as the items give it, -1 for None; new names get the next numbers.

        Raises UnreadableImageError for one that is none of the classes.
        """
        if label is None:
            return -1
        if isinstance(label, int) and self.own:
            if not 0 <= label < len(self.own):
                raise UnreadableImageError(f"its label is {label} and the dataset names {len(self.own)} classes")
            if not self.known:
                return label
            label = self.own[label]
        if isinstance(label, str):
            names = self.class_names or self._found
            if label not in names:
                if self.class_names:
                    raise UnreadableImageError(f"its label is {label}, which is none of the classes")
                self._found.append(label)
            return names.index(label)
        if label < 0 or (self.known and label >= len(self.known)):
            raise UnreadableImageError(f"its label is {label}: numbers from 0 are needed, or names")
        if self._found:
            raise ConfigError(f"{self.where}: the label of item {row} is {label}, and those of others are names")
        return label

    def without_empty(self, labels: Tensor) -> tuple[Tensor, list[str], list[str]]:
        """Name the classes if the dataset does not: names are sorted, and classes of numbers are called as these."""
        if self.classes_known:
            return labels, self.class_names, []
        if not self._found:
            return labels, [str(number) for number in range(int(labels.max()) + 1)], []
        names = sorted(self._found)
        place = torch.tensor([*(names.index(name) for name in self._found), -1])  # the last: of those in no class
        return place[labels], names, []

    @override
    def values(self, threads: int = 1) -> tuple[float, float] | None:
        """Return the least and the greatest value of all items that are not of 8 bits."""
        if self.iterable:
            raise ConfigError(
                f"data.range=auto reads {self.where} twice, which is only iterable: type data.range=[black,white]"
            )
        found = [self.form.values(self.get(row)) for row in self.rows]
        known = [values for values in found if values is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None


class _Work(Dataset):
    """The items as they are read, for the processes of a DataLoader too."""

    def __init__(self, items: Items, settings: Settings, range: Range) -> None:
        self.items, self.settings, self.range = items, settings, range

    def __len__(self) -> int:
        return len(self.items.rows)

    def __getitem__(self, index: int) -> Read:
        if index >= len(self):
            raise IndexError
        row = self.items.rows[index]
        return self.items.converted(self.items.get(row), row, self.settings, self.range)


class Form:
    """The form of items: where an item has its image and its label, and how an image lies in an array."""

    def __init__(
        self, where: str, image: str | int | None, label: str | int | None, layout: str | None, labelled: bool
    ) -> None:
        self.where, self.image, self.label, self.layout, self.labelled = where, image, label, layout, labelled

    def plain(self) -> list[object]:
        """Return it in plain values, for a cache's key."""
        return [self.image, self.label, self.layout, self.labelled]

    def parts(self, item: Any) -> tuple[Any, Any]:
        """Return the image and the label of an item; None for no label.

        Raises UnreadableImageError if there is none, ConfigError if it has another form.
        """
        if isinstance(item, Exception):
            raise UnreadableImageError(_said(item)) from None
        if item is None:
            raise UnreadableImageError("is None")
        if isinstance(item, Mapping):
            return self._keyed(item)
        if isinstance(item, (tuple, list)):
            return self._placed(item)
        if self.image is not None or (self.label is not None and self.labelled):
            raise ConfigError(
                f"is {described(item)}, and neither tuple nor dict: leave out data.image= and data.label="
            )
        return item, None

    def _keyed(self, item: Mapping[Any, Any]) -> tuple[Any, Any]:
        image, label = "image" if self.image is None else self.image, "label" if self.label is None else self.label
        keys = ", ".join(map(str, item))
        if image not in item:
            raise ConfigError(f"has no key {image!r}: type data.image= one of its keys, {keys}")
        if self.labelled and label not in item:
            raise ConfigError(f"has no key {label!r}: type data.label= one of its keys, {keys}, or data.classes=0")
        return self._there(item[image], image), item.get(label)

    def _placed(self, item: Sequence[Any]) -> tuple[Any, Any]:
        if self.image is None and len(item) not in (1, 2):
            raise ConfigError(
                f"{_parted(item)}, and one or two were expected: type"
                " data.image=0 data.label=1, the places of image and label in it"
            )
        image = 0 if self.image is None else self.image
        label = self.label if self.label is not None else 1 if self.image is None and len(item) == 2 else None
        for key, place in (("image", image), ("label", label if self.labelled else None)):
            if place is not None and not (isinstance(place, int) and 0 <= place < len(item)):
                raise ConfigError(f"{_parted(item)}: type data.{key}= a place in it, from 0")
        parts = dict(enumerate(item))
        return self._there(parts[image], image), None if label is None else parts.get(label)  # type: ignore[index, arg-type]

    @staticmethod
    def _there(image: Any, key: object) -> Any:
        if image is None:
            raise UnreadableImageError(f"has None at {key!r}")
        return image

    def numbered(self, label: Any) -> int | str:
        """Return a label as a plain number or name.

        Raises ConfigError if there is none, UnreadableImageError if it is neither.
        """
        if isinstance(label, (Tensor, np.ndarray, np.generic)) and getattr(label, "size", 0) != 0:
            values = label.tolist()
            while isinstance(values, list) and len(values) == 1:
                values = values[0]
            label = values
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if isinstance(label, (str, int)) and label != "":
            return label if isinstance(label, str) else int(label)
        if label is None:
            raise ConfigError("has no label: type data.classes=0, or give (image, label)")
        raise UnreadableImageError(f"has the label {described(label)}: a whole number or a name is needed")

    def pixels(self, image: Any, channels: int, reading: Reading) -> tuple[Tensor, Seen]:
        """Convert a PIL image, an array or a tensor to uint8 [channels, H, W] at its own size."""
        if isinstance(image, Image.Image):
            return picture(image, channels, reading)
        array = _array(image)
        if array is None:
            raise ConfigError(
                f"has {described(image)} for an image: a PIL image, an array, a tensor or the bytes of a file is needed"
            )
        array = self._channels_first(array, image, channels)
        values, kind, bounds = None, _kind(array), reading.bounds
        if array.dtype == bool:
            array = array.astype(np.uint8) * 255
        elif array.dtype != np.uint8:
            values = float(array.min()), float(array.max())
            if not np.isfinite(values).all():
                raise UnreadableImageError("holds values that are no numbers")
            if bounds is None:
                raise ConfigError(f"has {described(image)}: {_range_to_type(values)}")
            array = _to_8_bit(array, bounds)
        pixels = torch.from_numpy(np.ascontiguousarray(array))
        if len(pixels) != channels and (reading.bands or not {len(pixels), channels} <= {*GREY_OR_COLOUR}):
            asked = "1 (grey), 3 (RGB) or 4 (RGB and transparency)" if channels in GREY_OR_COLOUR else channels
            raise UnreadableImageError(f"has {len(pixels)} channels: {asked} are needed")
        opaque = has_alpha(channels, reading.bands) and len(pixels) != 4
        full = None if bounds is None else bounds[1]
        seen = Seen((array.shape[2], array.shape[1]), kind, 1, values, full, opaque)
        return match_channels(pixels[None], channels)[0], seen

    def values(self, item: Any) -> tuple[float, float] | None:
        """Return the least and the greatest value of an item that is not of 8 bits; None for others and for broken."""
        try:
            image = self.parts(item)[0]
        except (UnreadableImageError, ConfigError):  # reported when it is read
            return None
        deep = isinstance(image, Image.Image) and (image.mode[0] == "I" or image.mode == "F")
        array = np.asarray(image) if deep else _array(image)
        if array is None or array.dtype in (np.uint8, bool) or not array.size or not np.isfinite(array).all():
            return None
        return float(array.min()), float(array.max())

    def _channels_first(self, array: np.ndarray, image: Any, channels: int) -> np.ndarray:
        if array.ndim == 2:
            return array[None]
        if array.ndim != 3 or not array.size:
            raise UnreadableImageError(f"has {described(image)} for an image: [C, H, W], [H, W, C] or [H, W] is needed")
        layout = self.layout
        if layout is None:
            possible = {*GREY_OR_COLOUR, channels}
            first, last = array.shape[0] in possible, array.shape[2] in possible
            if first and last:
                raise ConfigError(
                    f"has {described(image)}, whose channels may be the first or the last: type data.layout=chw or"
                    " data.layout=hwc"
                )
            layout = "hwc" if last or (not first and array.shape[2] < array.shape[0]) else "chw"
        return array.transpose(2, 0, 1) if layout == "hwc" else array


class _Tally(list):
    """A list of what was seen of a file, which stands in for `Met` in a process that only reads."""

    def add(self, seen: Seen) -> None:
        """Add one file."""
        self.append(seen)


# -------------------------------------------------------------------- data modules


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
    number = _length(dataset)
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


@contextmanager
def drawn(*place: int) -> Iterator[None]:
    """Let all that is drawn inside, by Python, NumPy and torch on the CPU, be a function of `place`."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seeds = np.random.SeedSequence([len(place), *place]).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]))
    torch.default_generator.manual_seed(int(seeds[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


# -------------------------------------------------------------------- what an item is


def described(value: Any) -> str:
    """Return in words what a value is: "a float32 tensor 3x32x32 with the values -1..1", "'cat'", "a list"."""
    array = _array(value)
    if array is not None:
        shape = "x".join(map(str, array.shape)) or "of one value"
        kind = "tensor" if isinstance(value, Tensor) else "array"
        values = f" with the values {array.min():.4g}..{array.max():.4g}" if array.size else ""
        return f"a {array.dtype} {kind} {shape}{values}"
    if isinstance(value, Image.Image):
        return f"a PIL image of mode {value.mode}"
    if value is None or isinstance(value, (str, int, float)):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    return f"a {type(value).__name__}"


def _parted(item: Sequence[Any]) -> str:
    return f"is a {type(item).__name__} of {len(item)} ({', '.join(map(described, item))})"


def _array(value: Any) -> np.ndarray | None:
    """Return an array or a tensor of numbers as an array; None for anything else."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else None


def _kind(array: np.ndarray) -> str:
    """Return in words what kind of pixels an array [C, H, W] has, as files are described."""
    colours = {1: "grey", 3: "RGB", 4: "RGB and transparency"}.get(len(array), f"{len(array)} channels")
    if array.dtype == bool:
        return f"1-bit {colours}"
    return f"8-bit {colours}" if array.dtype == np.uint8 else f"{array.dtype} {colours}"


def _range_to_type(values: tuple[float, float]) -> str:
    low, high = values
    if low < 0:
        likely = "[-1,1]" if low >= -1 and high <= 1 else f"[{low:.4g},{high:.4g}]"
    else:
        likely = "[0,1] or data.range=[-1,1]" if high <= 1 else f"[0,{255 if high <= 255 else f'{high:.4g}'}]"
    return f"type the values that are black and white, as data.range={likely}"


def _iterated(dataset: Any) -> Iterator[Any]:
    """Yield the items of an iterable; if one cannot be read the error, which is the last."""
    try:
        yield from dataset
    except Exception as error:  # as in `Items.get`
        yield error


def _names_of(dataset: Any) -> list[str]:
    """Return the names of the classes that a dataset, or that of which it is a subset, has as `classes`."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)):
        return []
    return [str(name[0] if isinstance(name, (list, tuple)) and name else name) for name in names]


def _length(dataset: Any) -> int | None:
    try:
        return len(dataset)
    except TypeError:  # an iterable
        return None


def _arguments(dataset: Any) -> dict[str, Any]:
    """Return those arguments of a dataset's class that it keeps under their names and that are plain values."""
    try:
        names = list(inspect.signature(type(dataset).__init__).parameters)[1:]
    except (TypeError, ValueError):
        return {}
    found = {name: getattr(dataset, name, None) for name in names}
    return {name: _plain(value) for name, value in found.items() if _plain(value) is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in value]
        return None if None in parts else parts
    return value if isinstance(value, (str, int, float, bool)) else None


def _hash(item: Any) -> str:
    """Return a hash of an item's content; objects of other kinds count by their type."""
    digest = hashlib.sha256()
    _update(digest, item)
    return digest.hexdigest()[:16]


def _update(digest: Any, value: Any) -> None:
    array = _array(value)
    if array is not None:
        digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    elif isinstance(value, Image.Image):
        digest.update(f"{value.mode}{value.size}".encode() + value.tobytes())
    elif isinstance(value, (bytes, bytearray)):
        digest.update(value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _update(digest, part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            digest.update(str(key).encode())
            _update(digest, part)
    else:
        digest.update(repr(value if isinstance(value, (str, int, float, type(None))) else type(value)).encode())


def _said(error: Exception) -> str:
    return f"raises {type(error).__name__}: {' '.join(str(error).split())[:160]}".rstrip(": ")


def _same(read: Any) -> Any:
    return read
