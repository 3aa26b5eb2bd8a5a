"""Which files of a root are used, and for what: patterns, and splits by folders, by lists or by a share."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from gan_experiments.bounds import Place, Text
from gan_experiments.contracts import ConfigError
from gan_experiments.data.archives import Store, named
from gan_experiments.data.labels import is_image, is_list, key_of_sample
from gan_experiments.data.met import counted

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of folders, in any case, and the splits that they are, provided that all folders beside them are splits too."""
FOLDERS = ("first", "last", "path", "archive")
PICKING = frozenset({"include", "exclude"})
SPLITTING = PICKING | {"test_fraction", "split_seed", "split_list"}
ALL = SPLITTING | {"classes_from"}
"""The fields of `Choice` for data whose files can be picked; that can be split as well; that can have classes too."""
DROPPED = 4  # how many leading folders of a file or of a list's line may be missing in the other
SUFFIX = re.compile(r"\.\w{1,5}$")
EXAMPLES = 3

Patterns: TypeAlias = Text | Sequence[Text] | None
Lists: TypeAlias = Place | Mapping[str, Place] | None


@dataclass(frozen=True)
class Choice:
    """Which files are used and what their classes and splits are, as a person chose it.

    `include` and `exclude` are patterns, see `matcher`. `classes_from` says which folder is a file's class: "first",
    "last", "path" for all of them, a number that counts from 1, or "archive" for the archive of several that it lies
    in; None takes the first, unless a list gives classes.
    `test_fraction` is about the share of the files that is held out as the split "test", drawn by `split_seed`, see
    `is_held_out`. `split_list` is a file that lists the files of splits, or such a file for each split, see `Listed`.
    With `attributes`, the names of the zeros and ones in a dataset.json, the labels are these, as bits, in place of
    classes. Raises ConfigError for impossible values.
    """

    include: Patterns = None
    exclude: Patterns = None
    classes_from: str | int | None = None
    test_fraction: float = 0.0
    split_seed: int = 0
    split_list: Lists = None
    attributes: Sequence[str] = ()

    def __post_init__(self) -> None:
        faults = []
        folder = self.classes_from
        if not (folder is None or folder in FOLDERS or (type(folder) is int and folder > 0)):
            faults.append(
                f"data.classes_from={folder}: type data.classes_from={', '.join(FOLDERS)}, or a number that counts the "
                "folders from 1"
            )
        if not 0 <= self.test_fraction < 1:
            faults.append(f"data.test_fraction={self.test_fraction}: a part is needed, type data.test_fraction=0.1")
        if self.test_fraction and self.split_list is not None:
            faults.append(
                f"data.test_fraction={self.test_fraction} with data.split_list={self.split_list}: a list or a share "
                "splits the files; type data.test_fraction=0 or data.split_list=null"
            )
        if isinstance(self.split_list, Mapping):
            unknown = [split for split in self.split_list if str(split).lower() not in SPLITS]
            if unknown or not self.split_list:
                faults.append(
                    f"data.split_list={{{','.join(unknown)}}}: a file for each split is needed, "
                    "type data.split_list={train:train.txt,test:test.txt}"
                )
        for key in ("include", "exclude"):
            given = getattr(self, key)
            if given is not None and not all(isinstance(one, str) and one for one in _listed(given)):
                faults.append(f"data.{key}={given}: a pattern is needed, type data.{key}='*.png' or data.{key}=[a,b]")
        if faults:
            raise ConfigError(*faults)

    def require_unsplit(self, key: str, root: str | Sequence[str]) -> None:
        """Raise ConfigError if files are to be split although the split "test" lies elsewhere."""
        if self.test_fraction or self.split_list is not None:
            splitter = "test_fraction" if self.test_fraction else "split_list"
            word = f"data.{splitter}={getattr(self, splitter)}"
            raise ConfigError(f"{word} with {named(key, root)}: one or the other splits the files, type one of them")

    def shared_out(self, names: Sequence[str], where: str) -> list[str]:
        """Return the split of each file, "train" or "test", by `test_fraction`; raise ConfigError if one has none."""

        def drawn(seed: int) -> list[str]:
            return ["test" if is_held_out(name, self.test_fraction, seed) else "train" for name in names]

        splits = drawn(self.split_seed)
        if len({*splits}) < 2:
            other = next((seed for seed in range(20) if len({*drawn(seed)}) > 1), None)
            typed = "another data.test_fraction" if other is None else f"data.split_seed={other}"
            raise ConfigError(
                f"data.test_fraction={self.test_fraction} with data.split_seed={self.split_seed} has all "
                f"{len(names):,} files of {where} in the split {splits[0]}: type {typed}"
            )
        return splits

    def picked(self, paths: Mapping[str, str], store: Store, where: str, notes: list[str]) -> dict[str, str]:
        """Return the files that `include` and `exclude` leave; files that describe others need not be included.

        `where` names the files for messages. Raises ConfigError if no file matches `include`, or none is left.
        """
        left = dict(paths)
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            if patterns is None:
                continue
            matches, word = matcher(patterns), named(f"data.{key}", patterns)
            matching = {name for name, path in left.items() if matches(path) or matches(store.shown(name))}
            examples = f"the {len(left):,} files of {where}, such as {', '.join(map(store.shown, [*left][:EXAMPLES]))}"
            if key == "include":
                if not matching:
                    raise ConfigError(f"{word} matches none of {examples}")
                sampled = {key_of_sample(name) for name in matching}
                kept = matching | {name for name, path in left.items() if is_list(path)}
                beside = (name for name, path in left.items() if store.is_sample(name) and not is_image(path))
                kept |= {name for name in beside if key_of_sample(name) in sampled}
            else:
                kept = left.keys() - matching
                if not kept:
                    raise ConfigError(f"{word} matches all of {examples}")
            notes.append(f"left out by {word}: {counted(len(left) - len(kept))}")
            left = {name: path for name, path in left.items() if name in kept}
        return left


def _listed(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def matcher(patterns: str | Sequence[str]) -> Callable[[str], bool]:
    """Return a function that tells whether a path matches one of some patterns, upper and lower case alike.

    `*` stands for anything, `?` for a character, `[ab]` for one of some. A pattern with a slash is that of the whole
    path from the root; one without is that of a file's name or of the name of any folder above it.
    """
    whole, parts = [], []
    for pattern in _listed(patterns):
        clean = pattern.lower().removeprefix("./").lstrip("/")
        if "/" in clean.rstrip("/"):
            whole.append(clean + "*" if clean.endswith("/") else clean)
        else:
            parts.append(clean.rstrip("/"))
    of_path, of_part = (
        re.compile("|".join(map(fnmatch.translate, some)) if some else r"(?!)") for some in (whole, parts)
    )

    def matches(path: str) -> bool:
        path = path.lower()
        return bool(of_path.match(path)) or any(map(of_part.match, path.split("/")))

    return matches


def are_splits(folders: Sequence[str]) -> bool:
    """Return True if folders are splits rather than classes."""
    return bool(folders) and all(name.lower() in SPLITS for name in folders)


def kinds(folders: Sequence[str]) -> set[str]:
    """Return the splits that folders are."""
    return {SPLITS[name.lower()] for name in folders}


def is_held_out(name: str, fraction: float, seed: int) -> bool:
    """Return True if a file is in the split "test".

    That depends on the file's name and the seed alone, so other files, their order and the machine change nothing.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


class Listed:
    """The splits, and perhaps the classes, of the files that lists name, by the names of the files.

    A list is a text file of paths, one a line, or a table (csv, tsv, or columns between spaces) whose first column they
    are. Another column of the words train, val and test is the split; the next other one is the class. A head names
    columns in place of that. Paths may begin farther up or farther down than the root, and may lack the suffix. Lists
    of numbers, "1 0", are those of the lines of images.txt beside them: 1 is in training (CUB's train_test_split.txt).

    A list that is given for a split names the files of it; without one for "train", files in no list are trained on.
    `labels` are the classes as they are written; {} if the lists have none. Raises ConfigError if a list cannot be
    read, or names no file.
    """

    def __init__(self, lists: str | Mapping[str, str], paths: Mapping[str, str], where: str) -> None:
        self.splits: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.notes: list[str] = []
        files = {None: lists} if isinstance(lists, str) else {SPLITS[k.lower()]: file for k, file in lists.items()}
        for kind, file in files.items():
            self._add(kind, file, paths, where)
        rest = "train" not in self.splits.values()
        if rest:
            self.splits |= dict.fromkeys(paths.keys() - self.splits.keys(), "train")
        left = len(paths) - len(self.splits)
        if left:
            self.notes.append(f"{counted(left)} left out, as no list names them")

    def _add(self, kind: str | None, file: str, paths: Mapping[str, str], where: str) -> None:
        word = "data.split_list=" + (file if kind is None else f"{{{kind}:{file}}}")
        tables = read_tables(Path(file).expanduser(), word)
        lines = sum(1 for row in tables[0])
        found: dict[int, str] = {}
        for table in tables:
            found = located([row[0] for row in table], paths)
            if found:
                break
        if not found:
            raise ConfigError(
                f"{word}: none of its {lines:,} lines ({', '.join(row[0] for row in tables[0][:EXAMPLES])}) is a file "
                f"of {where} ({', '.join([*paths.values()][:EXAMPLES])}): write a path below the root in each line"
            )
        splits, labels = _columns(table, sorted(found))
        if kind is None and splits is None:
            kind = "train"
        for i, name in found.items():
            split = kind or (splits or {})[i]
            if self.splits.setdefault(name, split) != split:
                raise ConfigError(f"{word} has {paths[name]} in {split} and in {self.splits[name]}: leave one of them")
            if labels is not None:
                self.labels[name] = labels[i]
        missing = len(table) - len(found) - (1 if 0 not in found and len(table) > 1 and _is_head(table[0]) else 0)
        counts = {one: [*self.splits.values()].count(one) for one in dict.fromkeys(self.splits.values())}
        said = ", ".join(f"{one} {n:,}" for one, n in counts.items())
        self.notes.append(
            f"{Path(file).name} lists {said}"
            + (f"; {missing:,} of its lines name no file" if missing else "")
            + ("; it gives the classes" if labels is not None else "")
        )


HEADS = {
    **dict.fromkeys(("split", "subset", "set", "fold", "partition"), "split"),
    **dict.fromkeys(("class", "label", "classes", "labels", "category", "target", "class_name"), "label"),
}


def _is_head(row: Sequence[str]) -> bool:
    return any(cell.lower() in HEADS for cell in row) or row[0].lower() in ("path", "file", "filename", "image", "name")


def _columns(table: list[list[str]], rows: list[int]) -> tuple[dict[int, str] | None, dict[int, str] | None]:
    """Return by row the splits and the classes that a table gives; None for what it does not."""
    width = min(len(table[i]) for i in rows)
    head = [HEADS.get(cell.lower()) for cell in table[0]] if 0 not in rows and _is_head(table[0]) else []
    columns: dict[str, dict[int, str]] = {}
    for place in range(1, width):
        cells = {i: table[i][place].strip() for i in rows}
        is_split = all(cell.lower() in SPLITS for cell in cells.values())
        what = head[place] if place < len(head) else "split" if is_split else "label"
        if what == "split" and not is_split:
            odd = next(cell for cell in cells.values() if cell.lower() not in SPLITS)
            raise ConfigError(
                f"data.split_list: the column of splits has {odd!r}, which is none: write train, val or test there"
            )
        if what is not None:
            columns.setdefault(what, cells)
    splits = columns.get("split")
    return splits and {i: SPLITS[cell.lower()] for i, cell in splits.items()}, columns.get("label")


def read_tables(path: Path, word: str) -> list[list[list[str]]]:
    """Return the rows of a list, with a path first in each, in the ways in which it can be read; the first way wins."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise ConfigError(f"{word} {why}: give a text or csv file with a path in each line") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"{word} is empty: write a path below the root in each line")
    spaced = [line.split() for line in lines]
    flags = {row[0]: row[1] for row in spaced if len(row) == 2 and row[1] in ("0", "1")}
    names = path.with_name("images.txt")
    if len(flags) == len(lines) and names.is_file():
        rows = [line.split(maxsplit=1) for line in names.read_text(encoding="utf-8").splitlines()]
        joined = [[row[1], "train" if flags[row[0]] == "1" else "test"] for row in rows if row and row[0] in flags]
        if joined and all(len(row) == 2 for row in rows if row):
            return [joined]
    ways = [[[line] for line in lines]]
    for delimiter in (",", "\t", ";"):
        if delimiter in lines[-1]:
            ways.append([row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter) if row])
    return [*ways, spaced]


def located(listed: Sequence[str], paths: Mapping[str, str]) -> dict[int, str]:
    """Return by number the names of the files that the paths of a list mean, of the files by name and path.

    Either may have folders in front that the other lacks, and the list may lack suffixes. A path that would mean
    several files means none. Of all ways to read the list, the one with the most files is taken.
    """
    best: dict[int, str] = {}
    for bare in (False, True):
        for below in range(DROPPED):
            known: dict[str, str | None] = {}
            for name, path in paths.items():
                end = _end(SUFFIX.sub("", path) if bare else path, below)
                if end is not None:
                    known[end] = None if end in known else name
            for dropped in range(DROPPED if known else 0):
                ends = (_end(_clean(path), dropped) for path in listed)
                found = {i: one for i, end in enumerate(ends) if end is not None and (one := known.get(end))}
                if len(found) > len(best):
                    best = found
                if len(best) >= len(listed) - (0 not in best) > 0:  # the first may be a head
                    return best
    return best


def _clean(path: str) -> str:
    return str(PurePosixPath(path.strip().replace("\\", "/"))).lstrip("/")


def _end(path: str, below: int) -> str | None:
    parts = path.split("/", below)
    return parts[below] if len(parts) > below else None
