"""Writing of files: complete or not at all, overwriting nothing unless asked, under safe names.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from gan_experiments.contracts import ConfigError

EXISTING = ("refuse", "keep", "replace")
"""What a command does if files that it would write exist: stop, keep them and write the rest, or overwrite them."""
LONGEST = 100  # characters in a file name


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path` to write to, and move it to `path` at the end.

    It has the same suffix and a unique name. A failure leaves `path` as it was and removes the temporary file. A
    process killed at any moment leaves `path` as it was or complete. A symbolic link at `path` is replaced, not
    followed. An error of the operating system is raised as OSError with the file's name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem[:LONGEST]}.{os.getpid()}-{secrets.token_hex(4)}.unfinished{path.suffix}")
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        number = _of_the_disk(error)
        if number:  # raise it with the name of the file, which writers leave out
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def _of_the_disk(error: BaseException) -> int:
    """Return the number (errno) of the operating system's error behind a writer's error; 0 if there is none."""
    if isinstance(error, OSError):
        return error.errno or 0
    if isinstance(error, RuntimeError) and "inline_container" in str(error):  # torch's writer, which counts bytes
        return error.__context__.errno or 0 if isinstance(error.__context__, OSError) else errno.ENOSPC
    return 0


made: list[Path] = []
"""Folders that `make_folder` has made in this process."""


def make_folder(path: Path) -> None:
    """Make a new folder and its missing parents; raises FileExistsError if it exists."""
    path = Path(os.path.abspath(path))
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()
    made.extend(missing)


def remove_empty(folders: list[Path]) -> None:
    """Remove the folders that are empty, the innermost first, and clear the list."""
    for folder in sorted(folders, key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):  # it holds something by now, or is gone
            folder.rmdir()
    folders.clear()


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    with whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def require_existing(existing: object) -> None:
    """Raise ConfigError unless `existing` is one of EXISTING."""
    if existing not in EXISTING:
        raise ConfigError(f"existing={existing}: type existing= one of {', '.join(EXISTING)}")


def to_write(paths: Iterable[Path], existing: str, otherwise: str = "another out=") -> list[Path]:
    """Return those of a command's files that it should write.

    These are all with `existing` "replace", and the missing ones with "keep". Raises ConfigError if a file exists and
    `existing` is "refuse"; `otherwise` names what else the user can type.
    """
    require_existing(existing)
    paths = list(paths)
    there = [path for path in paths if os.path.lexists(path)]
    if existing == "refuse" and there:
        others = f", and {len(there) - 1} more" if len(there) > 1 else ""
        raise ConfigError(
            f"{_shown(there[0])} is there already{others}: type existing=keep to leave what is there and make the rest,"
            f" existing=replace to overwrite, or {otherwise}"
        )
    return paths if existing == "replace" else [path for path in paths if not os.path.lexists(path)]


def require_unpacked(path: Path | BinaryIO) -> None:
    """Raise RuntimeError, as torch does, if a file of tensors would unpack to more bytes than it has.

    torch writes its files uncompressed. A small compressed file could unpack to more than fits into memory.
    """
    unpacked = held = 0
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        held = path.stat().st_size if isinstance(path, Path) else path.seek(0, os.SEEK_END)
    if not isinstance(path, Path):
        path.seek(0)  # so that it is read from its start
    if unpacked > held:
        raise RuntimeError(f"{held / 1e6:,.1f} MB that unpack to {unpacked / 1e6:,.1f} MB, which torch does not write")


def clean_name(name: object) -> str:
    """Return a text from a file (the name of a class, a domain, a font or a run) as the name of one file or folder.

    Letters, digits, spaces and `-_.+()` stay; every other character becomes `_`. It never begins with a dot or a dash,
    never ends with a dot or a space, is never empty, and is at most LONGEST characters long.
    """
    text = "".join(c if c.isalnum() or c in "-_.+() " else "_" for c in str(name))[:LONGEST].rstrip(". ")
    if not text or text[0] in ".- ":
        text = f"_{text[1:]}"
    return text


def clean_names(names: Iterable[object]) -> list[str]:
    """Return the `clean_name` of each name; one that equals an earlier one, ignoring case, gets a number."""
    taken: set[str] = set()
    cleaned = []
    for name in names:
        clean, number = clean_name(name), 1
        while (distinct := clean if number == 1 else f"{clean}-{number}").casefold() in taken:
            number += 1
        taken.add(distinct.casefold())
        cleaned.append(distinct)
    return cleaned


def fresh(path: Path, is_taken: Callable[[Path], bool] = os.path.lexists, suffix: str = "") -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, ... that is not taken; the number comes before `suffix`."""
    number, found = 1, path
    while is_taken(found):
        number += 1
        found = path.with_name(f"{path.name.removesuffix(suffix)}-{number}{suffix}")
    return found


def place(
    given: object, usual: Path, existing: str, is_taken: Callable[[Path], bool] = os.path.lexists, suffix: str = ""
) -> Path:
    """Return the path typed as `out=` if there is one, else `usual`, or a `fresh` path beside it if that is taken.

    With `existing` "keep" or "replace" it is `usual` even if that is taken, because these are about what exists.
    """
    require_existing(existing)
    if given:
        return Path(str(given))
    return fresh(usual, is_taken, suffix) if existing == "refuse" else usual


def _shown(path: Path) -> str:
    absolute = Path(os.path.abspath(path))
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
