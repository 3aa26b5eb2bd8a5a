"""Where images come from: a folder, a zip archive, or arrays that a data set's own files hold."""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import torch
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.decode import decode, resize
from gan_experiments.data.limits import UnreadableImageError

Loaded = TypeVar("Loaded")

ENCRYPTED = 1  # the bit of an archive's entry
BLOCK = 512  # images decoded between two writes: bounds the memory
TASK = 16  # images that a thread takes at a time: one by one costs as much as decoding them


@dataclass(frozen=True)
class Settings:
    """What an image is made into: `resolution` and `crop` in pixels (crop None: the short side), `channels` 1 or 3.

    A file of more than `max_pixels` is left out, see `limits.at_most`.
    """

    resolution: int
    channels: int
    crop: int | None = None
    max_pixels: int | None = None

    def plain(self) -> dict[str, Any]:
        """Return what the pixels of an image depend on."""
        return {key: value for key, value in asdict(self).items() if key != "max_pixels"}


@dataclass
class Block:
    """Some images: pixels uint8 [n, C, R, R], labels int64 [n] (-1: in no class), and the files left out and why."""

    pixels: Tensor
    labels: Tensor
    skipped: list[tuple[str, str]]


class Source(ABC):
    """Images before they are decoded; `where` names them in messages, as the user would type it."""

    name: str
    where: str
    class_names: list[str]

    @abstractmethod
    def __len__(self) -> int:
        """Count the candidates; some may turn out not to be images."""

    @abstractmethod
    def identity(self) -> list[object]:
        """List what changes when the content changes, without decoding it (plain types)."""

    @abstractmethod
    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode everything, in order, a block at a time."""


class Files(Source):
    """Image files of a folder or a zip archive, at any depth; the uppermost folders are the classes.

    `names` picks files by name relative to the folder, in that order, with `labels` for them. At most `limit` are
    taken, evenly spread. Raises ConfigError where `path` is neither folder nor zip archive or holds no files.
    """

    def __init__(
        self,
        path: str | Path,
        key: str = "data.root",
        names: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
        class_names: Sequence[str] = (),
        limit: int | None = None,
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
        if names is None:
            names = sorted(stamps)
            tops = [PurePosixPath(name[len(prefix) :]).parts for name in names]
            class_names = sorted({parts[0] for parts in tops if len(parts) > 1})
            number = {name: i for i, name in enumerate(class_names)}
            labels = [number[parts[0]] if len(parts) > 1 else -1 for parts in tops]
        else:
            names = [prefix + name for name in names]
            missing = next((name for name in names if name not in stamps), None)
            if missing is not None:
                raise ConfigError(f"{self.where} lacks {missing}, which its list names: unpack the images again")
        labels = [-1] * len(names) if labels is None else labels
        rows = spread(len(names), limit)
        self.class_names = list(class_names)
        self._prefix = prefix
        self._names = [names[i] for i in rows]
        self._labels = [labels[i] for i in rows]
        self._stamps = [stamps[name] for name in self._names]

    def __len__(self) -> int:
        return len(self._names)

    def identity(self) -> list[object]:
        """List names, classes, sizes, and times of change (in a zip archive: checksums)."""
        return [self._names, self._labels, self._stamps, self.class_names]

    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode the files on `threads` threads: the decoders let go of Python's lock."""

        def load(row: int) -> Tensor:
            return decode(self._read(self._names[row]), settings.resolution, settings.channels, settings.crop)

        shape = (settings.channels, settings.resolution, settings.resolution)
        for start, results in load_blocks(load, len(self), threads):
            yield stacked(results, start, shape, self._labels, self._names)

    def file(self, row: int) -> str:
        """Return the name of a file, relative to the folder or to the folders that wrap everything in the archive."""
        return self._names[row].removeprefix(self._prefix)

    def label(self, row: int) -> int:
        """Return the number of a file's class, -1 where it is in none."""
        return self._labels[row]

    def read(self, row: int) -> bytes:
        """Return a file's bytes; raises UnreadableImageError where they cannot be read, or are too many."""
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
    """Images that a data set's own files hold packed: `load` gives uint8 [N, C, H, W] and labels [N].

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
            if self._pad and settings.resolution != pixels.shape[-1]:
                pixels = torch.nn.functional.pad(pixels, [self._pad] * 4)
            yield Block(resize(pixels, settings.resolution).contiguous(), labels[part].long(), [])


def load_blocks(
    load: Callable[[int], Loaded], number: int, threads: int = 1, block: int | None = None
) -> Iterator[tuple[int, list[Loaded | str]]]:
    """Yield `load(0)`, `load(1)`, ... in order, `block` (None: BLOCK) at a time with the number of the first.

    A text stands for what could not be read, and says why.
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


def stacked(
    results: Sequence[Tensor | str], start: int, shape: tuple[int, ...], labels: Sequence[int], names: Sequence[str]
) -> Block:
    """Make a block of what `load_blocks` yields; `labels` and `names` are those of all rows."""
    pixels = torch.empty(len(results), *shape, dtype=torch.uint8)
    kept: list[int] = []
    skipped: list[tuple[str, str]] = []
    for row, result in enumerate(results, start):
        if isinstance(result, Tensor):
            pixels[len(kept)] = result
            kept.append(labels[row])
        else:
            skipped.append((names[row], result))
    return Block(pixels[: len(kept)], torch.tensor(kept, dtype=torch.int64), skipped)


def spread(number: int, limit: int | None) -> list[int]:
    """Choose at most `limit` of `number` rows, evenly spread, so that files sorted by class keep every class."""
    if limit is None or limit >= number:
        return list(range(number))
    return [i * number // limit for i in range(limit)]


def match_channels(images: Tensor, channels: int) -> Tensor:
    """Bring uint8 [N, 1 or 3, H, W] to `channels`, 1 or 3."""
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
        folders[:] = sorted(name for name in folders if _is_visible(name))
        for name in filter(_is_visible, files):
            path = Path(folder, name)
            if path.is_file():  # not a broken link, a pipe or a socket
                relative = path.relative_to(root).as_posix()
                found[relative] = _stamp(relative, path.stat())
    return found


def _zip_files(archive: zipfile.ZipFile) -> dict[str, list[object]]:
    return {
        info.filename: [info.filename, info.file_size, info.CRC]
        for info in archive.infolist()
        if not info.is_dir() and all(_is_visible(part) for part in PurePosixPath(info.filename).parts)
    }


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _common_folder(names: list[str]) -> str:
    """Find the folders that wrap everything in an archive ("photos/"), which are no classes."""
    common = ""
    for part in names[0].split("/")[:-1] if names else []:
        if not all(name.startswith(f"{common}{part}/") for name in names):
            break
        common += part + "/"
    return common
