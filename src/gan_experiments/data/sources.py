"""Sources of images: a person's files, or the arrays in a data set's own files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import settled, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.archives import ARCHIVES, expanded, is_visible, named, open_store, stamp, words
from gan_experiments.data.decode import Range, Reading, Shape, decode, fit, frames_of, match_channels, values_of
from gan_experiments.data.labels import (
    CLASS_LISTS,
    Labels,
    listed,
    named_classes,
    numbered,
    of_folders,
    of_samples,
)
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.splits import SPLITS, Choice, Listed, are_splits, kinds

Loaded = TypeVar("Loaded")

BLOCK = 512  # images decoded between two writes: bounds the memory
TASK = 16  # images that a thread takes at a time: one by one costs as much as decoding them
FRAMES = ("first", "all")
NO_CHOICE = Choice()


@dataclass(frozen=True)
class Settings:
    """The form that images get: `resolution` in pixels, a side or height and width, and `channels`.

    `crop` and `fit` say what is done with images of another shape, see `decode.fit`. A file of more than `max_pixels`
    is left out, see `limits.at_most`. `range` scales files of more than 8 bits, see `decode.Range`.
    """

    resolution: Shape
    channels: int
    crop: Shape | None = None
    max_pixels: int | None = None
    range: Range = None
    fit: str = "crop"

    def __post_init__(self) -> None:
        """Let [64,64] be the same as 64."""
        object.__setattr__(self, "resolution", settled(self.resolution))
        object.__setattr__(self, "crop", None if self.crop is None else settled(self.crop))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: (channels, height, width)."""
        return self.channels, *sides(self.resolution)

    def plain(self) -> dict[str, Any]:
        """Return what pixels depend on, in plain types; without what older caches do not know if it is the default."""
        plain = asdict(self)
        del plain["max_pixels"]
        for key, default in (("range", None), ("fit", "crop")):
            if plain[key] == default:
                del plain[key]
        return plain


@dataclass
class Block:
    """Some images: pixels uint8 [n, C, H, W], labels int64 [n] (-1: in no class), and the files left out and why."""

    pixels: Tensor
    labels: Tensor
    skipped: list[tuple[str, str]]


class Source(ABC):
    """Images before they are decoded; `where` names them in messages, as the user would type it."""

    name: str
    where: str
    class_names: list[str]
    notes: Sequence[str] = ()
    """How folders and lists were interpreted, in words."""
    frames: str | None = None
    """Which frames of a file `blocks` takes, of FRAMES; None if there is no choice."""
    reading: Reading | None = None
    """The range and the tally of the last decoding; None before it."""
    across = 1
    """How many images lie side by side in a file."""
    items = "files"
    """What messages call the candidates."""
    wanted = "give a folder or a zip of images, {key}=..."
    """What is needed, for a message that nothing is an image; `{key}` stands for the key of `where`."""
    classes_known = True
    """Whether `class_names` are known before anything is read; otherwise `without_empty` names the classes."""
    view: Mapping[str, Any] = {}
    """Arguments of `Reading` that files are read with, where these are not the usual ones."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the candidates; some may turn out not to be images."""

    @abstractmethod
    def identity(self) -> list[object]:
        """Return plain values that change when the content does, without decoding it."""

    @abstractmethod
    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode everything, in order, a block at a time."""

    def values(self, threads: int = 1) -> tuple[float, float] | None:
        """Return the least and the greatest value of all files of more than 8 bits; None if there are none."""
        return None

    def begin(self, range: Range, threads: int = 1) -> Reading:
        """Begin to decode: return a new `Reading`. For the range "auto", all files are read once to find its bounds."""
        bounds = self.values(threads) if range == "auto" else range
        if isinstance(bounds, tuple) and bounds[0] >= bounds[1]:
            bounds = None  # all of one value
        self.reading = Reading(bounds, **self.view)
        return self.reading

    def facts(self, frames: str | None = None) -> dict[str, Any]:
        """Return the tally of the last decoding, in plain types.

        `frames` are those taken of each file, None if there is no choice.
        """
        return {} if self.reading is None else self.reading.met.facts(frames, self.reading.bounds, self.reading.window)

    def without_empty(self, labels: Tensor) -> tuple[Tensor, list[str], list[str]]:
        """Remove classes without images: return the new labels, the names of the classes left, and of those removed."""
        return labels, self.class_names, []


class Files(Source):
    """Image files of a folder, a zip or tar archive, or several of these, at any depth; see `archives.open_store`.

    - If the top-level folders are splits (see `splits.SPLITS`), the first of `splits` that exists is taken, or all
      without `splits`. `choice` may split the files by a list or by a share instead.
    - The classes are those of a list beside the files, see `labels`, or else the top-level folders. Folders of five
      digits, as NVIDIA's dataset tool makes them, are no classes. `choice` may name other folders.

    `names` picks files by name relative to the folder, in that order, with `labels` for them. At most `limit` images
    are taken, evenly spread. `frames` is "first" or "all" of each file, `view` as in `Source`. Raises ConfigError if
    `path` cannot be opened, holds no files, or has splits but none that is asked for.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str],
        key: str = "data.root",
        names: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
        class_names: Sequence[str] = (),
        limit: int | None = None,
        splits: Sequence[str] = (),
        frames: str = "first",
        choice: Choice = NO_CHOICE,
        view: Mapping[str, Any] | None = None,
    ) -> None:
        self.view = view or {}
        places = expanded(path)
        self.name = places[0].stem + (f"-and-{len(places) - 1}" if len(places) > 1 else "") if places else ""
        self.where = named(key, path)
        self._store = open_store(path, key)
        self.notes: list[str] = [*self._store.notes]
        self.frames, self._limit, self._choice = frames, limit, choice
        self._classes_are_folders = False
        others: list[tuple[str, int]] = []
        if names is None:
            found, taken = self._understand(splits)
            class_names = found.names
            others = [(name, found.of.get(name, -1)) for name, is_taken in taken.items() if not is_taken]
            names = [name for name, is_taken in taken.items() if is_taken]
            labels = [found.of.get(name, -1) for name in names]
        else:
            by_path = {path: name for name, path in self._store.paths.items()}
            missing = next((name for name in names if name not in by_path), None)
            if missing is not None:
                raise ConfigError(f"{self.where} lacks {missing}, which its list names: unpack the images again")
            names = [by_path[name] for name in names]
        labels = [-1] * len(names) if labels is None else labels
        rows = spread(len(names), limit if frames == "first" else None)
        self.class_names = list(class_names)
        left = sorted({*range(len(names))} - {*rows}) if limit else []
        self._others = [*((names[i], labels[i]) for i in left), *others]
        self._names = [names[i] for i in rows]
        self._labels = [labels[i] for i in rows]
        self._stamps = [self._store.stamps[name] for name in self._names]

    def _understand(self, wanted: Sequence[str]) -> tuple[Labels, dict[str, bool]]:
        """Return the labels of the files, and all files in order, each with whether it is in one of `wanted` splits."""
        choice, store, notes = self._choice, self._store, self.notes
        every = {name: store.paths[name] for name in sorted(store.paths)}
        picked = choice.picked(every, store, self.where, notes)
        lists = None if choice.split_list is None else Listed(choice.split_list, picked, self.where)
        notes += lists.notes if lists is not None else []
        base = self._of_splits(picked, wanted)
        labels = of_samples(base, store.is_sample, store.read, notes)
        found = listed(base, store.read, notes, bool(choice.attributes))
        if choice.attributes:
            if found is None or len(found.names) != len(choice.attributes):
                has = "no list of zeros and ones" if found is None else f"lists of {len(found.names)} zeros and ones"
                raise ConfigError(
                    f"data.attributes={words(choice.attributes)}, but {self.where} has {has} for its files in a "
                    "dataset.json: type the names of all in their order, or data.attributes=[] to take its subfolders"
                )
            found.names = list(choice.attributes)
        labels = labels if found is None else found
        if lists is not None and lists.labels:
            labels = numbered(lists.labels)
        if labels is None or choice.classes_from is not None:
            beside = {name: path for name, path in picked.items() if "/" not in path}
            labels = self._of_folders(base, beside)
        if not base:
            key = self.where.partition("=")[0]
            raise ConfigError(f"{self.where} holds no files: give a folder or a zip archive of images, {key}=...")
        return labels, self._in_split(base, wanted, lists)

    def _of_splits(self, base: dict[str, str], wanted: Sequence[str]) -> dict[str, str]:
        """Return the files of the folders that are one of `wanted` splits, with their paths in these."""
        folders = sorted({path.partition("/")[0] for path in base.values() if "/" in path})
        if not are_splits(folders):
            return dict(base)
        choice, taken = self._choice, folders
        if choice.test_fraction and kinds(folders) != {"train"} and wanted:
            raise ConfigError(
                f"data.test_fraction={choice.test_fraction}, but {self.where} has the folders {', '.join(folders)}, "
                "which are splits: type data.test_fraction=0"
            )
        if wanted and choice.split_list is None and not choice.test_fraction:
            kind = next((kind for kind in wanted if kind in kinds(folders)), None)
            if kind is None:
                raise ConfigError(
                    f"{self.where} has the folders {', '.join(folders)}, which are splits, and none to train on: "
                    f"call one of them {wanted[0]}"
                )
            taken = [folder for folder in folders if SPLITS[folder.lower()] == kind]
        beside = [path for path in base.values() if "/" not in path and path.lower() not in CLASS_LISTS]
        held_out = [folder for folder in folders if folder not in taken]
        self.notes.append(
            f"{', '.join(folders)} are splits, not classes: {', '.join(taken)} is taken"
            + (f", {', '.join(held_out)} held out" if held_out else "")
        )
        if beside and wanted:
            self.notes.append(f"{', '.join(beside[:3])} beside them is left out")
        return {
            name: path.partition("/")[2] if path.partition("/")[0] in taken else path
            for name, path in base.items()
            if path.partition("/")[0] in taken or ("/" not in path and not wanted)
        }

    def _of_folders(self, base: dict[str, str], beside: Mapping[str, str]) -> Labels:
        """Return the classes that the folders are; `beside` are the files in the root, among them lists of names."""
        folder = self._choice.classes_from
        if folder == "archive":
            found = numbered({name: part for name in base if (part := self._store.part(name))})
        else:
            found = of_folders(base, "first" if folder is None else folder)
        if folder is None and found.names and all(len(name) == 5 and name.isdigit() for name in found.names):
            names = found.names
            some = f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]
            self.notes.append(f"{some} are parts of one set, not classes, as NVIDIA's dataset tool makes them")
            found = Labels(names=[])
        elif folder is not None:
            ways = {"first": "the first folder", "last": "the last folder", "path": "all folders"}
            which = ways.get(str(folder), f"folder {folder}") + " of its path" if folder != "archive" else "its archive"
            self.notes.append(f"the class of a file is {which}, by data.classes_from={folder}")
        self._classes_are_folders = True
        beside = {**beside, **{name: path for name, path in base.items() if "/" not in path}}
        found.names, used = named_classes(beside, found.names, self._store.read, self.notes)
        base.pop(used, None)
        return found

    def _in_split(self, base: Mapping[str, str], wanted: Sequence[str], lists: Listed | None) -> dict[str, bool]:
        """Return for each file whether a list or a share has it in the first of the `wanted` splits that has any."""
        choice = self._choice
        if not wanted or (lists is None and not choice.test_fraction):
            return dict.fromkeys(base, True)
        if lists is not None:
            split = {name: lists.splits.get(name, "") for name in base}
        else:
            names = [self._store.lasting(name) for name in base]
            split = dict(zip(base, choice.shared_out(names, self.where), strict=True))
            number = list(split.values()).count("test")
            self.notes.append(
                f"{number:,} of {len(base):,} files are held out by data.test_fraction={choice.test_fraction}, "
                f"drawn by data.split_seed={choice.split_seed}"
            )
        kind = next((kind for kind in wanted if kind in split.values()), None)
        if kind is None:
            raise ConfigError(
                f"data.split_list={choice.split_list} leaves no file of {self.where} in the split {wanted[0]}: "
                "write some with that split, or type data.split_list=null"
            )
        return {name: one == kind for name, one in split.items()}

    def __len__(self) -> int:
        return len(self._names)

    def identity(self) -> list[object]:
        """List names, classes, sizes, and times of change (in a zip archive: checksums)."""
        all_frames = [] if self.frames == "first" else [self.frames, self._limit]
        view = [dict(self.view)] if self.view else []
        return [self._names, self._labels, self._stamps, self.class_names, *all_frames, *view]

    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode the files on `threads` threads, as the decoders release Python's lock."""
        reading = self.begin(settings.range, threads)
        items = self._items(threads)

        def load(index: int) -> Tensor:
            row, frames = items[index]
            raw = self._read(self._names[row])
            return decode(raw, settings.resolution, settings.channels, settings.crop, reading, frames, settings.fit)

        labels, names = [self._labels[row] for row, _ in items], [self._names[row] for row, _ in items]
        for start, results in load_blocks(load, len(items), threads):
            block = stacked(results, start, settings.shape, labels, names)
            reading.met.add_pixels(block.pixels)
            yield block

    def _items(self, threads: int) -> list[tuple[int, tuple[int, ...] | None]]:
        """Return what is decoded at a time, in order: the row of a file, and some of its frames (None: the first)."""
        if self.frames == "first":
            return [(row, None) for row in range(len(self))]
        counts = self._of_each(partial(frames_of, **self.view), threads)
        every = [(row, frame) for row, n in enumerate(counts) for frame in range(n if isinstance(n, int) else 1)]
        items: list[tuple[int, tuple[int, ...]]] = []
        for row, frame in (every[i] for i in spread(len(every), self._limit)):
            if items and items[-1][0] == row and len(items[-1][1]) < TASK:
                items[-1] = (row, (*items[-1][1], frame))
            else:
                items.append((row, (frame,)))
        return [*items]

    @override
    def values(self, threads: int = 1) -> tuple[float, float] | None:
        return joined_values(self._of_each(partial(values_of, every=self.frames == "all", **self.view), threads))

    def _of_each(self, look: Callable[[bytes], Loaded], threads: int) -> list[Loaded | str]:
        return [
            found
            for _, results in load_blocks(lambda row: look(self._read(self._names[row])), len(self), threads)
            for found in results
        ]

    def without_empty(self, labels: Tensor) -> tuple[Tensor, list[str], list[str]]:
        """Remove subfolders without images; with a `limit`, the files that were not taken are checked too."""
        if not self._classes_are_folders:  # labels may be the bits of attributes
            return labels, self.class_names, []
        counts = torch.bincount(labels[labels >= 0], minlength=len(self.class_names))
        without = [c for c in range(len(self.class_names)) if not counts[c]]
        empty = [c for c in without if not self._has_image(c)]
        if not empty:
            return labels, self.class_names, []
        left = [c for c in range(len(self.class_names)) if c not in empty]
        number = torch.full((len(self.class_names) + 1,), -1)  # the last: of those in no class
        number[left] = torch.arange(len(left))
        return number[labels], [self.class_names[c] for c in left], [self.class_names[c] for c in empty]

    def _has_image(self, label: int) -> bool:
        """Return True if one of the files of a class that `limit` left out is an image."""
        for name in (name for name, of in self._others if of == label):
            try:
                decode(self._read(name), 1, self.view.get("bands", 1), reading=Reading(**self.view))
            except (UnreadableImageError, OSError, RuntimeError):
                continue
            return True
        return False

    def file(self, row: int) -> str:
        """Return the path of a file below the root, or in which of several roots it lies and where."""
        return self._store.shown(self._names[row])

    def label(self, row: int) -> int:
        """Return a file's label, -1 if it is in no class."""
        return self._labels[row]

    def read(self, row: int) -> bytes:
        """Return a file's bytes; raise UnreadableImageError if they cannot be read, or are too many."""
        return self._read(self._names[row])

    def _read(self, name: str) -> bytes:
        return self._store.read(name)


class Arrays(Source):
    """Images from the arrays in a data set's own files: `load` returns uint8 [N, C, H, W] and labels [N].

    `pad` pixels of background are added on each side, unless the stored size is asked for. `files` are those that
    `load` reads. At most `limit` images are taken, evenly spread.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], tuple[Tensor, Tensor]],
        number: int,
        class_names: Sequence[str],
        files: Sequence[Path] = (),
        pad: int = 0,
        limit: int | None = None,
    ) -> None:
        self.name = self.where = name
        self.class_names = list(class_names)
        self._load, self._files, self._pad = load, files, pad
        self._rows = spread(number, limit)

    def __len__(self) -> int:
        return len(self._rows)

    def identity(self) -> list[object]:
        """List the files' names, sizes and times of change, and the rows taken."""
        return [[stamp(path.name, path.stat()) for path in self._files], len(self), self._pad]

    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Convert the arrays; `threads` is not needed."""
        images, labels = self._load()
        rows = torch.tensor(self._rows)
        for part in rows.split(16 * BLOCK):
            pixels = match_channels(images[part], settings.channels)
            if self._pad and settings.shape != pixels.shape[1:]:
                pixels = torch.nn.functional.pad(pixels, [self._pad] * 4)
            fitted = fit(pixels, settings.resolution, settings.crop, settings.fit)
            yield Block(fitted.contiguous(), labels[part].long(), [])


def load_blocks(
    load: Callable[[int], Loaded], number: int, threads: int = 1, block: int | None = None
) -> Iterator[tuple[int, list[Loaded | str]]]:
    """Yield `load(0)`, `load(1)`, ... in order, `block` (None: BLOCK) at a time, with the row of the first.

    If a row cannot be read, its result is a text that says why.
    """
    block = block or BLOCK

    def attempt(row: int) -> Loaded | str:
        try:
            return load(row)
        except UnreadableImageError as error:
            return str(error)
        except (OSError, RuntimeError) as error:
            return str(error)

    def attempt_some(rows: range) -> list[Loaded | str]:
        return [attempt(row) for row in rows]

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, number, block):
            rows = range(start, min(start + block, number))
            tasks = [rows[i : i + TASK] for i in range(0, len(rows), TASK)]
            yield start, [result for some in pool.map(attempt_some, tasks) for result in some]


def joined_values(found: Iterable[tuple[float, float] | str | None]) -> tuple[float, float] | None:
    """Return the least and the greatest of all values; texts, which stand for what could not be read, are ignored."""
    known = [values for values in found if isinstance(values, tuple)]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None


def splits_of(root: str | Path | Sequence[str], choice: Choice = NO_CHOICE) -> set[str]:
    """Return the splits of a root: those of a list or a share, or its folders, see SPLITS; empty if they are none."""
    if choice.test_fraction:
        return {"train", "test"}
    if isinstance(choice.split_list, Mapping):
        return {SPLITS[split.lower()] for split in choice.split_list}
    try:
        if choice.split_list is None and choice.include is choice.exclude is None:
            names = _split_folders(root)
            if names is not None:
                return kinds(names) if are_splits(names) else set()
        store = open_store(root, "data.root")
    except (OSError, ConfigError):
        return set()
    paths = choice.picked(store.paths, store, str(root), [])
    if choice.split_list is not None:
        return {*Listed(choice.split_list, paths, str(root)).splits.values()}
    names = sorted({path.partition("/")[0] for path in paths.values() if "/" in path})
    return kinds(names) if are_splits(names) else set()


def _split_folders(root: str | Path | Sequence[str]) -> list[str] | None:
    """Return the folders in a folder, without a look at all files; None if it is none, or has archives in it."""
    places = expanded(root)
    if len(places) != 1 or not places[0].is_dir():
        return None
    entries = [entry for entry in places[0].iterdir() if is_visible(entry.name)]
    if any(entry.name.lower().endswith(ARCHIVES) for entry in entries):
        return None
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if any(name.lower() in SPLITS for name in names):  # else nothing has to be looked at
        names = [name for name in names if _has_file(places[0] / name)]
    return names


def _has_file(folder: Path) -> bool:
    for _, folders, files in os.walk(folder):
        folders[:] = filter(is_visible, folders)
        if any(map(is_visible, files)):
            return True
    return False


def stacked(
    results: Sequence[Tensor | str], start: int, shape: tuple[int, ...], labels: Sequence[int], names: Sequence[str]
) -> Block:
    """Make a block of what `load_blocks` yields, results from row `start` on; `labels` and `names` are of all rows.

    A result with one dimension more than `shape` holds several images of its row.
    """
    several = [result for result in results if isinstance(result, Tensor) and result.ndim > len(shape)]
    pixels = torch.empty(len(results) + sum(len(result) - 1 for result in several), *shape, dtype=torch.uint8)
    kept: list[int] = []
    skipped: list[tuple[str, str]] = []
    for row, result in enumerate(results, start):
        if isinstance(result, Tensor):
            images = result if result.ndim > len(shape) else result[None]
            pixels[len(kept) : len(kept) + len(images)] = images
            kept += [labels[row]] * len(images)
        else:
            skipped.append((names[row], result))
    return Block(pixels[: len(kept)], torch.tensor(kept, dtype=torch.int64), skipped)


def spread(number: int, limit: int | None) -> list[int]:
    """Choose at most `limit` of `number` rows, evenly spread, so that files sorted by class keep every class."""
    if limit is None or limit >= number:
        return list(range(number))
    return [i * number // limit for i in range(limit)]
