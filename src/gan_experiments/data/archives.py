"""Where files lie: a folder, a zip archive, a tar archive, or several of these that are read as one set.

A `Store` knows the names of all files, with a stamp of each that changes when the file does, and reads one by its name.
Nothing is ever unpacked into the file system.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
import tarfile
import tempfile
import threading
import unicodedata
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeAlias, cast

from typing_extensions import override

from gan_experiments.bounds import Place, shown
from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.labels import CLASS_LISTS
from gan_experiments.data.limits import UnreadableImageError

ENCRYPTED = 1  # the flag of a zip archive's entry
NOT_OURS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
NOTES = ("", ".txt", ".md", ".json", ".csv", ".tsv", ".idx", ".index")  # what may lie beside the archives of a folder
HEADER = 1 << 20  # the greatest size of a tar archive's long name or attributes, which are read whole
TOLD = 3
HERE = "."  # the label of lists of classes that lie beside archives
MOST = 100_000  # roots that one pattern may name

Places: TypeAlias = Place | Sequence[Place]
"""A folder or an archive, a pattern of several such as set-{000..004}.tar or set-*.tar, or a list of these."""


class Store(ABC):
    """Files by name.

    `stamps` has for each name plain values that change when the file does. `paths` has the path of each below the root:
    without the folders that wrap everything in an archive, and without the archive's own name.
    """

    stamps: dict[str, list[object]]
    paths: dict[str, str]
    notes: Sequence[str] = ()
    """How the root was interpreted, in words."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's bytes; raise UnreadableImageError if they cannot be read, or are too many."""

    def shown(self, name: str) -> str:
        """Return a file's path as a person would name it."""
        return self.paths[name]

    def lasting(self, name: str) -> str:
        """Return the part of a name that stays the same whatever other files or archives are added, without its suffix.

        Composed characters and decomposed ones, as macOS writes them, are the same.
        """
        return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix("")))

    def part(self, name: str) -> str:
        """Return the name of the archive that a file lies in, without its suffix, if there are several; else ""."""
        return ""

    def is_sample(self, name: str) -> bool:
        """Return True if files beside a file, with the same key, may describe it, as in webdataset's archives."""
        return False


class Folder(Store):
    """The files of a folder, at any depth, or `only` some of them."""

    def __init__(self, path: Path, only: Sequence[str] | None = None) -> None:
        self.path = path
        some = {name: stamp(name, (path / name).stat()) for name in only or ()}
        self.stamps = _folder_files(path) if only is None else some
        self.paths = {name: name for name in self.stamps}

    @override
    def read(self, name: str) -> bytes:
        return limits.read(self.path / name)


class Zip(Store):
    """The files of a zip archive."""

    def __init__(self, path: Path, where: str, wanted: str) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            raise ConfigError(f"{where} is no zip archive, nor a tar archive: {wanted}") from None
        self.stamps = {
            info.filename: [info.filename, info.file_size, info.CRC]
            for info in self._archive.infolist()
            if not info.is_dir() and all(is_visible(part) for part in PurePosixPath(info.filename).parts)
        }
        if self.stamps and all(self._archive.getinfo(name).flag_bits & ENCRYPTED for name in self.stamps):
            key = where.partition("=")[0]
            raise ConfigError(
                f"{where} is an encrypted archive: unpack it with its password, and type {key}=<the folder>"
            )
        self.paths = _unwrapped(list(self.stamps))

    @override
    def read(self, name: str) -> bytes:
        info = self._archive.getinfo(name)
        if info.flag_bits & ENCRYPTED:
            raise UnreadableImageError("is encrypted")
        limits.require_bytes(info.file_size)  # no more than that is read, whatever the archive holds
        try:
            return self._archive.read(info)
        except Exception as error:  # a broken entry makes its reader raise anything
            raise UnreadableImageError(" ".join(str(error).split()) or type(error).__name__) from None


class _Header(tarfile.TarInfo):
    """An entry's header; one that claims an enormous name, which would be read into memory, is refused."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        found = super().frombuf(buf, encoding, errors)
        if not found.isreg() and found.size > HEADER:
            raise tarfile.ReadError(f"an entry that is no file of {found.size:,} bytes")
        return found


class Tar(Store):
    """The regular files of a tar archive, compressed or not; links and devices are ignored.

    A tar archive has no list of its files, so all headers are read when it is opened. Of a compressed one this
    decompresses all of it; when the first file is read, it is decompressed once more into a temporary file without a
    name. Of two entries with the same name the later one counts, as for `tar`.
    """

    def __init__(self, path: Path, where: str) -> None:
        self._lock = threading.Lock()
        self._path, self._where = path, where
        self._places: dict[str, tuple[int, int]] = {}
        self.stamps = {}
        changed = path.stat().st_mtime_ns
        try:
            with tarfile.open(path, "r:*", tarinfo=_Header) as archive:
                opened, headers = cast("IO[bytes]", archive.fileobj), cast("Any", archive)
                self._compressed = not isinstance(opened, io.BufferedReader)
                for entry in archive:
                    self._end = entry.offset_data + entry.size
                    if self._compressed:
                        self._require_room()  # now, before the entry's data are decompressed
                    name = "/".join(part for part in entry.name.split("/") if part not in ("", ".", ".."))
                    if entry.isreg() and name and all(map(is_visible, name.split("/"))):
                        self._places[name] = (-1 if entry.issparse() else entry.offset_data), entry.size
                        self.stamps[name] = [name, entry.size, entry.mtime, entry.offset_data, changed]
                    headers.members = []  # else all of them stay in memory
                opened.seek(archive.offset)
                if opened.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    raise tarfile.ReadError("what follows is no entry")
        except ConfigError:
            raise
        except Exception as error:  # damaged archives make their readers raise anything
            why = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"{where} is damaged after {len(self.stamps):,} files ({why}): fetch it again, or unpack what can be "
                f"read and type {where.partition('=')[0]}=<the folder>"
            ) from None
        self._file: IO[bytes] | None = None
        self.paths = _unwrapped(list(self.stamps))

    @override
    def read(self, name: str) -> bytes:
        offset, size = self._places[name]
        if offset < 0:
            raise UnreadableImageError("is a sparse file")
        limits.require_bytes(size)
        with self._lock:
            file = self._opened()
            file.seek(offset)
            raw = file.read(size)
        if len(raw) != size:
            raise UnreadableImageError("the archive has changed since it was opened")
        return raw

    @override
    def is_sample(self, name: str) -> bool:
        return True

    def _opened(self) -> IO[bytes]:
        """Open the archive, or a temporary copy of it without compression."""
        if self._file is None and not self._compressed:
            self._file = open(self._path, "rb")  # noqa: SIM115
        elif self._file is None:
            self._require_room()
            copy = tempfile.TemporaryFile(prefix="gan_experiments-")  # noqa: SIM115
            try:
                with tarfile.open(self._path, "r:*") as archive:
                    opened = cast("IO[bytes]", archive.fileobj)
                    opened.seek(0)
                    shutil.copyfileobj(opened, copy, 1 << 20)
                copy.flush()
            except OSError as error:
                copy.close()
                raise self._no_room(error.strerror or str(error)) from None
            self._file = copy
        return self._file

    def _require_room(self) -> None:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if self._end > free:
            raise self._no_room(f"{free / 1e6:,.1f} MB are free")

    def _no_room(self, why: str) -> ConfigError:
        place = tempfile.gettempdir()
        return ConfigError(
            f"{self._where} needs {self._end / 1e6:,.1f} MB or more in {place} while it is read ({why}): "
            f"unpack it and type {self._where.partition('=')[0]}=<the folder>, or set TMPDIR to a folder with more room"
        )


class Several(Store):
    """Folders and archives that are read as one set, each under a label that begins the names of its files.

    `parts` has for each label the folder that its archive lies in, below the root, and the store.
    """

    def __init__(self, parts: Mapping[str, tuple[str, Store]]) -> None:
        self._parts: dict[str, tuple[Store, str, str]] = {}
        self.stamps, self.paths = {}, {}
        for label, (above, store) in parts.items():
            for inner, stamp in store.stamps.items():
                name = f"{label}/{inner}"
                self._parts[name] = store, inner, above
                self.stamps[name] = [name, *stamp[1:]]
                self.paths[name] = above + store.paths[inner]
        labels = [label for label in parts if label != HERE]
        named = ", ".join(labels) if len(labels) <= TOLD else f"{', '.join(labels[:2])}, ..., {labels[-1]}"
        self.notes = [f"{len(labels):,} are read as one set: {named}"] if len(labels) > 1 else []

    @override
    def read(self, name: str) -> bytes:
        store, inner, _ = self._parts[name]
        return store.read(inner)

    @override
    def shown(self, name: str) -> str:
        return name

    @override
    def part(self, name: str) -> str:
        label = name.removesuffix("/" + self._parts[name][1])
        suffix = next((suffix for suffix in ARCHIVES if label.lower().endswith(suffix)), "")
        return "" if label == HERE else label[: len(label) - len(suffix)]

    @override
    def lasting(self, name: str) -> str:
        store, inner, above = self._parts[name]
        return above + store.lasting(inner)

    @override
    def is_sample(self, name: str) -> bool:
        store, inner, _ = self._parts[name]
        return store.is_sample(inner)


def open_store(root: str | Path | Sequence[str], key: str) -> Store:
    """Open a folder, an archive, or several; `key` is the option that names them, for messages.

    A folder of nothing but archives, and perhaps notes beside them, is the set of these. Raises ConfigError if
    something is neither folder nor archive, is missing, damaged or encrypted, or if there are no files.
    """
    where, wanted = named(key, root), f"give a folder or a zip archive of images, {key}=..."
    places = expanded(root)
    if not places:
        raise ConfigError(f"{where} names nothing: {wanted}")
    stores = [_open(path, where if len(places) == 1 else f"{key}={path}", wanted) for path in places]
    labelled = zip(_labels(places), stores, strict=True)
    store = stores[0] if len(stores) == 1 else Several({label: ("", one) for label, one in labelled})
    if not store.stamps:
        raise ConfigError(f"{where} holds no files: {wanted}")
    return store


def named(key: str, root: str | Path | Sequence[str]) -> str:
    """Return the word that a person typed to name the files."""
    return f"{key}={words(root)}"


def words(root: str | Path | Sequence[str]) -> str:
    """Return a root as a person typed it."""
    return str(root) if isinstance(root, (str, Path)) else shown([str(one) for one in root])


def expanded(root: str | Path | Sequence[str]) -> list[Path]:
    """Return the folders and archives that a root names, in order, each once."""
    words = [root] if isinstance(root, (str, Path)) else root
    return list(dict.fromkeys(path for word in words for path in _expanded(str(word))))


def _expanded(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.exists():
        return [path]
    found = [Path(one).expanduser() for one in itertools.islice(_braces(word), MOST + 1)]
    if len(found) > MOST:
        raise ConfigError(
            f"{word} names more than {MOST:,} archives: type a folder of them, or a pattern such as set-*.tar"
        )
    every = [[Path(p) for p in sorted(glob(str(one)))] if has_magic(str(one)) else [one] for one in found]
    return [one for some in every for one in some] or [path]


def _braces(word: str) -> Iterator[str]:
    """Yield what a shell makes of set-{000..004}.tar and set-{a,b}.tar."""
    part = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", word)
    if part is None:
        yield word
        return
    first, last, words = part.groups()
    middle = words.split(",") if words else (f"{i:0{len(first)}}" for i in range(int(first), int(last) + 1))
    for one in middle:
        yield from _braces(word[: part.start()] + one + word[part.end() :])


def _labels(places: Sequence[Path]) -> list[str]:
    """Name each place by the end of its path, with as many folders as it takes to tell all of them apart."""
    parts = [Path(os.path.abspath(path)).parts for path in places]
    for length in range(1, max(map(len, parts))):
        labels = ["/".join(part[-length:]) for part in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [str(i) for i in range(len(places))]


def _open(path: Path, where: str, wanted: str) -> Store:
    if path.is_dir():
        folder = Folder(path)
        inside = [name for name in sorted(folder.stamps) if name.lower().endswith(ARCHIVES)]
        beside = (name for name in folder.stamps if not name.lower().endswith(ARCHIVES))
        if not inside or any(PurePosixPath(name).suffix.lower() not in NOTES for name in beside):
            return folder
        parts: dict[str, tuple[str, Store]] = {
            name: (name[: name.rfind("/") + 1], _open(path / name, f"{where}/{name}", wanted)) for name in inside
        }
        lists = [name for name in sorted(folder.stamps) if name.lower() in CLASS_LISTS]
        return Several(parts | ({HERE: ("", Folder(path, lists))} if lists else {}))
    if not path.is_file():
        raise ConfigError(f"{where} does not exist: {wanted}")
    return Tar(path, where) if _is_tar(path) else Zip(path, where, wanted)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)  # not the other way round: what ends with a zip archive passes for one
    except Exception:  # as in `Tar`; then it is opened as a zip archive, and refused
        return False


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
                found[relative] = stamp(relative, path.stat())
    return found


def stamp(name: str, status: os.stat_result) -> list[object]:
    """Return what changes when a file does."""
    return [name, status.st_size, status.st_mtime_ns]


def is_visible(name: str) -> bool:
    """Return True if a file or folder is a person's own: neither hidden, nor one that systems make for themselves."""
    return not name.startswith(".") and name not in NOT_OURS


def _unwrapped(names: list[str]) -> dict[str, str]:
    """Return the paths of an archive's files without the folders that wrap everything ("photos/"): no classes."""
    common = ""
    for part in names[0].split("/")[:-1] if names else []:
        if not all(name.startswith(f"{common}{part}/") for name in names):
            break
        common += part + "/"
    return {name: name[len(common) :] for name in names}
