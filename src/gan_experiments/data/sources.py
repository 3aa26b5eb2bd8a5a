"""Sources of images: a folder, a zip archive, or the arrays in a data set's own files."""

from __future__ import annotations

import json
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import settled, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.decode import Range, Reading, Shape, decode, fit, frames_of, values_of
from gan_experiments.data.limits import UnreadableImageError

Loaded = TypeVar("Loaded")

ENCRYPTED = 1  # the flag of an archive's entry
BLOCK = 512  # images decoded between two writes: bounds the memory
NOT_OURS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")
TASK = 16  # images that a thread takes at a time: one by one costs as much as decoding them
FRAMES = ("first", "all")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders, in any case, and the splits that they are, provided that all folders beside them are splits too."""
LISTING = "dataset.json"  # of NVIDIA's dataset tool


@dataclass(frozen=True)
class Settings:
    """The form that images get: `resolution` in pixels, a side or height and width, and `channels`, 1 or 3.

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
        if bounds is not None and (isinstance(bounds, str) or bounds[0] >= bounds[1]):
            bounds = None  # all of one value
        self.reading = Reading(bounds)
        return self.reading

    def facts(self, frames: str | None = None) -> dict[str, Any]:
        """Return the tally of the last decoding, in plain types.

        `frames` are those taken of each file, None if there is no choice.
        """
        return {} if self.reading is None else self.reading.met.facts(frames, self.reading.bounds)

    def without_empty(self, labels: Tensor) -> tuple[Tensor, list[str], list[str]]:
        """Remove classes without images: return the new labels, the names of the classes left, and of those removed."""
        return labels, self.class_names, []


class Files(Source):
    """Image files of a folder or a zip archive, at any depth; the top-level folders are the classes.

    - If these folders are splits (see SPLITS), the first of `splits` that exists is taken, or all without `splits`.
      The folders in it are then the classes.
    - If NVIDIA's dataset tool wrote its list, dataset.json, with labels, these are the classes. Folders of five digits,
      as the tool makes them, are no classes.

    `names` picks files by name relative to the folder, in that order, with `labels` for them. At most `limit` images
    are taken, evenly spread. `frames` is "first" or "all" of each file. Raises ConfigError if `path` is neither folder
    nor zip archive, holds no files, or has splits but none that is asked for.
    """

    def __init__(
        self,
        path: str | Path,
        key: str = "data.root",
        names: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
        class_names: Sequence[str] = (),
        limit: int | None = None,
        splits: Sequence[str] = (),
        frames: str = "first",
    ) -> None:
        self.path = Path(path).expanduser()
        self.name = self.path.stem
        self.where = f"{key}={path}"
        wanted = f"give a folder or a zip archive of images, {key}=..."
        self._archive: zipfile.ZipFile | None = None
        if self.path.is_dir():
            stamps = _folder_files(self.path)
            prefix = ""
        elif self.path.is_file():
            try:
                self._archive = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, NotImplementedError, ValueError):
                raise ConfigError(f"{self.where} is no zip archive: {wanted}") from None
            stamps = _zip_files(self._archive)
            if stamps and all(self._archive.getinfo(name).flag_bits & ENCRYPTED for name in stamps):
                raise ConfigError(
                    f"{self.where} is an encrypted archive: unpack it with its password, and type {key}=<the folder>"
                )
            prefix = _common_folder(list(stamps))
        else:
            raise ConfigError(f"{self.where} does not exist: {wanted}")
        if not stamps:
            raise ConfigError(f"{self.where} holds no files: {wanted}")
        self.notes: list[str] = []
        self.frames, self._limit, self._prefix = frames, limit, prefix
        self._classes_are_folders = False
        if names is None:
            names, labels, class_names = self._understand(sorted(stamps), splits)
            if not names:
                raise ConfigError(f"{self.where} holds no files: {wanted}")
        else:
            names = [prefix + name for name in names]
            missing = next((name for name in names if name not in stamps), None)
            if missing is not None:
                raise ConfigError(f"{self.where} lacks {missing}, which its list names: unpack the images again")
        labels = [-1] * len(names) if labels is None else labels
        rows = spread(len(names), limit if frames == "first" else None)
        self.class_names = list(class_names)
        self._others = [(names[i], labels[i]) for i in sorted({*range(len(names))} - {*rows})] if limit else []
        self._names = [names[i] for i in rows]
        self._labels = [labels[i] for i in rows]
        self._stamps = [stamps[name] for name in self._names]

    def _understand(
        self, names: list[str], splits: Sequence[str]
    ) -> tuple[Sequence[str], Sequence[int], Sequence[str]]:
        """Choose files out of all names; return their names, their labels and the names of the classes."""
        base = {name: name[len(self._prefix) :] for name in names}  # the path below the folder, or below the split's
        folders = sorted({path.partition("/")[0] for path in base.values() if "/" in path})
        roots = [self._prefix]
        if _are_splits(folders):
            taken = folders
            if splits:
                kind = next((kind for kind in splits if kind in _kinds(folders)), None)
                if kind is None:
                    raise ConfigError(
                        f"{self.where} has the folders {', '.join(folders)}, which are splits, and none to train on: "
                        f"call one of them {splits[0]}"
                    )
                taken = [folder for folder in folders if SPLITS[folder.lower()] == kind]
            beside = [path for path in base.values() if "/" not in path]
            held_out = [folder for folder in folders if folder not in taken]
            self.notes = [
                f"{', '.join(folders)} are splits, not classes: {', '.join(taken)} is taken"
                + (f", {', '.join(held_out)} held out" if held_out else "")
            ]
            if beside and splits:
                self.notes.append(f"{', '.join(beside[:3])} beside them is left out")
            base = {
                name: path.partition("/")[2] if path.partition("/")[0] in taken else path
                for name, path in base.items()
                if path.partition("/")[0] in taken or ("/" not in path and not splits)
            }
            roots = [f"{self._prefix}{folder}/" for folder in taken]
        listed = self._listed(base, roots)
        if listed is not None:
            labels = [listed.get(name, -1) for name in base]
            class_names = [str(number) for number in range(max(listed.values(), default=-1) + 1)]
            return list(base), labels, class_names
        folders = sorted({path.partition("/")[0] for path in base.values() if "/" in path})
        if folders and all(len(name) == 5 and name.isdigit() for name in folders):
            some = f"{folders[0]} to {folders[-1]}" if len(folders) > 1 else folders[0]
            self.notes.append(f"{some} are parts of one set, not classes, as NVIDIA's dataset tool makes them")
            folders = []
        self._classes_are_folders = True
        number = {name: i for i, name in enumerate(folders)}
        labels = [number.get(path.partition("/")[0], -1) if "/" in path else -1 for path in base.values()]
        return list(base), labels, folders

    def _listed(self, base: dict[str, str], roots: Sequence[str]) -> dict[str, int] | None:
        """Remove the lists of NVIDIA's dataset tool from `base`; return their labels by file, or None without any."""
        found: dict[str, int] | None = None
        for root in roots:
            name = root + LISTING
            if name not in base:
                continue
            try:
                content = json.loads(self._read(name))
                labels = content["labels"]
                if labels is not None:
                    labels = {root + file: _class_number(label) for file, label in labels}
            except (UnreadableImageError, OSError, ValueError, KeyError, TypeError):
                self.notes.append(f"{base[name]} is no list of NVIDIA's dataset tool")
                continue
            del base[name]
            if labels is None:
                self.notes.append(f"{LISTING} names no classes")
            else:
                known = sum(file in base for file in labels)
                self.notes.append(f"{LISTING} gives the classes of {known:,} of {len(base):,} files")
                found = {**(found or {}), **labels}
        return found

    def __len__(self) -> int:
        return len(self._names)

    def identity(self) -> list[object]:
        """List names, classes, sizes, and times of change (in a zip archive: checksums)."""
        all_frames = [] if self.frames == "first" else [self.frames, self._limit]
        return [self._names, self._labels, self._stamps, self.class_names, *all_frames]

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

    def _items(self, threads: int) -> list[tuple[int, tuple[int, ...]]]:
        """Return what is decoded at a time, in order: the row of a file, and some of its frames."""
        if self.frames == "first":
            return [(row, (0,)) for row in range(len(self))]
        counts = self._of_each(frames_of, threads)
        every = [(row, frame) for row, n in enumerate(counts) for frame in range(n if isinstance(n, int) else 1)]
        items: list[tuple[int, tuple[int, ...]]] = []
        for row, frame in (every[i] for i in spread(len(every), self._limit)):
            if items and items[-1][0] == row and len(items[-1][1]) < TASK:
                items[-1] = (row, (*items[-1][1], frame))
            else:
                items.append((row, (frame,)))
        return items

    @override
    def values(self, threads: int = 1) -> tuple[float, float] | None:
        def look(raw: bytes) -> tuple[float, float] | None:
            return values_of(raw, range(1 if self.frames == "first" else frames_of(raw)))

        return joined_values(self._of_each(look, threads))

    def _of_each(self, look: Callable[[bytes], Loaded], threads: int) -> list[Loaded | str]:
        return [
            found
            for _, results in load_blocks(lambda row: look(self._read(self._names[row])), len(self), threads)
            for found in results
        ]

    def without_empty(self, labels: Tensor) -> tuple[Tensor, list[str], list[str]]:
        """Remove subfolders without images; with a `limit`, the files that were not taken are checked too."""
        counts = torch.bincount(labels[labels >= 0], minlength=len(self.class_names))
        without = [c for c in range(len(self.class_names)) if not counts[c]] if self._classes_are_folders else []
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
                decode(self._read(name), 1, 1)
            except (UnreadableImageError, OSError, RuntimeError):
                continue
            return True
        return False

    def file(self, row: int) -> str:
        """Return the name of a file, relative to the folder or to the folders that wrap everything in the archive."""
        return self._names[row].removeprefix(self._prefix)

    def label(self, row: int) -> int:
        """Return a file's label, -1 if it is in no class."""
        return self._labels[row]

    def read(self, row: int) -> bytes:
        """Return a file's bytes; raise UnreadableImageError if they cannot be read, or are too many."""
        return self._read(self._names[row])

    def _read(self, name: str) -> bytes:
        if self._archive is None:
            return limits.read(self.path / name)
        info = self._archive.getinfo(name)
        if info.flag_bits & ENCRYPTED:
            raise UnreadableImageError("is encrypted")
        limits.require_bytes(info.file_size)  # no more than that is read, whatever the archive holds
        try:
            return self._archive.read(info)
        except Exception as error:  # a broken entry makes its reader raise anything
            raise UnreadableImageError(" ".join(str(error).split()) or type(error).__name__) from None


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
        return [[_stamp(path.name, path.stat()) for path in self._files], len(self), self._pad]

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


def splits_of(path: str | Path) -> set[str]:
    """Return the splits that the folders of a folder or zip archive are, see SPLITS; empty if they are no splits."""
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and is_visible(entry.name))
            if any(name.lower() in SPLITS for name in names):  # else nothing has to be looked at
                names = [name for name in names if _has_file(path / name)]
        else:
            with zipfile.ZipFile(path) as archive:
                found = list(_zip_files(archive))
            paths = [name[len(_common_folder(found)) :] for name in found]
            names = sorted({name.partition("/")[0] for name in paths if "/" in name})
    except (OSError, zipfile.BadZipFile):
        return set()
    return _kinds(names) if _are_splits(names) else set()


def _are_splits(folders: Sequence[str]) -> bool:
    return bool(folders) and all(name.lower() in SPLITS for name in folders)


def _kinds(folders: Sequence[str]) -> set[str]:
    return {SPLITS[name.lower()] for name in folders}


def _class_number(label: object) -> int:
    """Return a label of dataset.json, a number or a one-hot list, as a number; raise ValueError for others."""
    if isinstance(label, int) and not isinstance(label, bool) and label >= 0:
        return label
    if isinstance(label, list) and sorted(label) == [0] * (len(label) - 1) + [1]:
        return label.index(1)
    raise ValueError(f"{label} is no class")


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


def match_channels(images: Tensor, channels: int) -> Tensor:
    """Convert uint8 [N, 1 or 3, H, W] to `channels`, 1 or 3."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    red, green, blue = images.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[:, None]  # as PIL's "L"


def _stamp(name: str, status: os.stat_result) -> list[object]:
    return [name, status.st_size, status.st_mtime_ns]


def _folder_files(root: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads in a circle
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if is_visible(name))
        for name in filter(is_visible, files):
            path = Path(folder, name)
            if path.is_file():  # not a broken link, a pipe or a socket
                relative = path.relative_to(root).as_posix()
                found[relative] = _stamp(relative, path.stat())
    return found


def _has_file(folder: Path) -> bool:
    for _, folders, files in os.walk(folder):
        folders[:] = filter(is_visible, folders)
        if any(map(is_visible, files)):
            return True
    return False


def _zip_files(archive: zipfile.ZipFile) -> dict[str, list[object]]:
    return {
        info.filename: [info.filename, info.file_size, info.CRC]
        for info in archive.infolist()
        if not info.is_dir() and all(is_visible(part) for part in PurePosixPath(info.filename).parts)
    }


def is_visible(name: str) -> bool:
    """Return True if a file or folder is a person's own: neither hidden, nor one that systems make for themselves."""
    return not name.startswith(".") and name not in NOT_OURS


def _common_folder(names: list[str]) -> str:
    """Return the folders that wrap everything in an archive ("photos/"), which are no classes; "" without any."""
    common = ""
    for part in names[0].split("/")[:-1] if names else []:
        if not all(name.startswith(f"{common}{part}/") for name in names):
            break
        common += part + "/"
    return common
