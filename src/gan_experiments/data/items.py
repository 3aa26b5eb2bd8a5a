"""The items of any torch Dataset, map-style or iterable, as a source of images."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset
from typing_extensions import override

from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Range, Reading, decode, fit, has_alpha
from gan_experiments.data.item import Form, array_of, said_of
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.met import Seen
from gan_experiments.data.sources import BLOCK, Block, Settings, Source, spread, stacked

PROBED = 32
"""The number of items whose content is part of a cache's key."""


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
        self._number = length_of(dataset)
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
                        f"{self.where}: item {row} cannot be read ({said_of(item)}), and an iterable ends there: mend"
                        f" it, or type data.limit={max(row, 1)}"
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


class _Tally(list):
    """A list of what was seen of a file, which stands in for `Met` in a process that only reads."""

    def add(self, seen: Seen) -> None:
        """Add one file."""
        self.append(seen)


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


def length_of(dataset: Any) -> int | None:
    """Return the number of a dataset's items; None for an iterable that does not know it."""
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
    array = array_of(value)
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


def _same(read: Any) -> Any:
    return read
