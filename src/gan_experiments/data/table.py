"""Images that a table lists: a column of paths, and columns of labels, attributes and splits."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Classes, Place, Resolution
from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.decode import decode, values_of
from gan_experiments.data.domains import InDomains, require_number
from gan_experiments.data.image_module import FromFiles
from gan_experiments.data.sources import SPLITS, Block, Settings, Source, joined_values, load_blocks, spread, stacked

PATHS = ("image", "path", "file", "filename", "file_name", "filepath", "image_path")
"""Names of a column of paths, one of which is taken if none is typed."""
YES, NO = ("1", "true", "yes", "y"), ("0", "-1", "false", "no", "n")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
DELIMITERS = (",", ";", "\t")


@dataclass
class Rows:
    """The rows of a table file; `places` say where each is ("line 4"), and `where` names the file as it is typed."""

    where: str
    columns: list[str]
    rows: Sequence[Mapping[str, Any]]
    places: list[str]
    notes: list[str] = field(default_factory=list)

    def require(self, column: str, key: str) -> str:
        """Return the name of a column; raise ConfigError, which lists all columns, if there is no such one."""
        if column not in self.columns:
            raise ConfigError(
                f"{key}={column}: {self.where} has no such column; type {key}= one of {', '.join(self.columns)}"
            )
        return column

    def text(self, row: int, column: str) -> str:
        """Return a value as text; raise ConfigError if it is empty or no plain value."""
        value = self.rows[row].get(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool):
            return str(value).lower()
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise self.fault(row, column, "is empty")
        if not isinstance(value, (str, int, float)):
            raise self.fault(row, column, f"is a {type(value).__name__}, and text or a number is needed")
        return str(value).strip()

    def fault(self, row: int, column: str, why: str) -> ConfigError:
        """Return the error about one value."""
        return ConfigError(f"{self.where}: {self.places[row]}, column {column} {why}")


def read(path: Path, where: str) -> Rows:
    """Read a table: .csv (with commas, semicolons or tabs), .tsv, .jsonl or .parquet.

    Raises ConfigError in one line if there is no such file or it is damaged.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ConfigError(f"{where}: a table is needed, a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ConfigError(f"{where}: there is no such file; type a table that ends in {', '.join(SUFFIXES)}")
    try:
        found = _parquet(path, where) if kind == ".parquet" else _text(path, where, kind)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not written in UTF-8 (byte {error.start}): save it so") from None
    twice = next((name for name in found.columns if found.columns.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{where}: the column {twice} is there twice; call one of them otherwise")
    if not found.rows:
        raise ConfigError(f"{where} has no rows: one for each image is needed, below a header of column names")
    return found


def _text(path: Path, where: str, kind: str) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if kind in (".jsonl", ".ndjson"):
            return _json_lines(file, where)
        head = file.readline()
        file.seek(0)
        delimiter = "\t" if kind == ".tsv" else max(DELIMITERS, key=head.count)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            columns = [name.strip() for name in next(reader, [])]
            rows, places = [], []
            for values in reader:
                if not values:
                    continue  # an empty line
                place = f"line {reader.line_num}"
                if len(values) != len(columns):
                    raise ConfigError(
                        f"{where}: {place} has {len(values)} values, and the header has {len(columns)} columns"
                        f" ({', '.join(columns)})"
                    )
                rows.append(dict(zip(columns, values, strict=True)))
                places.append(place)
        except csv.Error as error:
            raise ConfigError(f"{where}: line {reader.line_num} cannot be read ({error})") from None
    return Rows(where, columns, rows, places)


def _json_lines(lines: Iterable[str], where: str) -> Rows:
    columns: dict[str, None] = {}
    rows, places = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where}: line {number} is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{where}: line {number} is no object {{...}} with the columns by name")
        columns |= dict.fromkeys(map(str, row))
        rows.append(row)
        places.append(f"line {number}")
    return Rows(where, list(columns), rows, places)


def _parquet(path: Path, where: str) -> Rows:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise ConfigError(f"{where}: parquet needs what is not installed; type pip install pyarrow") from None
    try:
        table = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise ConfigError(f"{where} is no whole parquet file ({' '.join(str(error).split())[:120]})") from None
    rows = table.to_pylist()
    return Rows(where, list(table.column_names), rows, [f"row {number}" for number in range(1, len(rows) + 1)])


# -------------------------------------------------------------------- the images


class Listed(Source):
    """Image files at paths, with a label for each; the first frame of each file is taken."""

    frames = "first"

    def __init__(
        self,
        where: str,
        names: Sequence[str],
        paths: Sequence[Path],
        labels: Sequence[int],
        class_names: Sequence[str],
        limit: int | None = None,
        view: Mapping[str, Any] | None = None,
    ) -> None:
        rows, self.view = spread(len(names), limit), view or {}
        self.where, self.name, self.class_names = where, Path(where.partition("=")[2]).stem, list(class_names)
        self._names = [names[row] for row in rows]
        self._paths = [paths[row] for row in rows]
        self._labels = [labels[row] for row in rows]

    def __len__(self) -> int:
        return len(self._names)

    @override
    def identity(self) -> list[object]:
        """List names, classes, sizes and times of change."""
        stamps = [[status.st_size, status.st_mtime_ns] for status in (path.stat() for path in self._paths)]
        return [self._names, self._labels, stamps, self.class_names, dict(self.view)]

    @override
    def blocks(self, settings: Settings, threads: int = 1) -> Iterator[Block]:
        """Decode the files on `threads` threads, as the decoders release Python's lock."""
        reading = self.begin(settings.range, threads)

        def load(row: int) -> Tensor:
            shape = settings.resolution, settings.channels, settings.crop
            return decode(limits.read(self._paths[row]), *shape, reading, how=settings.fit)

        for start, results in load_blocks(load, len(self), threads):
            block = stacked(results, start, settings.shape, self._labels, self._names)
            reading.met.add_pixels(block.pixels)
            yield block

    @override
    def values(self, threads: int = 1) -> tuple[float, float] | None:
        """Return the least and the greatest value of all files of more than 8 bits; None if there are none."""
        found = load_blocks(lambda row: values_of(limits.read(self._paths[row]), **self.view), len(self), threads)
        return joined_values(values for _, some in found for values in some)


class Table(InDomains, FromFiles):
    """The images that the table `file` lists: .csv, .tsv, .jsonl or .parquet with a row for each.

    Args:
        file: the table. Paths in it are relative to `root`, by default to the folder of the table.
        image: the column of paths; None for one of PATHS.
        label: the column of labels, names or numbers; None for "label" if there are to be classes. Its values are the
            names of the classes.
        attributes: columns of yes and no (1 and 0, true and false), for models of several domains: then the batch has
            "domain" and no label. `classes` is their number.
        split: the column of the splits: train, val and test.
        test_file: a table of the split "test".
        crop: as of a folder.

    Raises ConfigError, which names the line and the column, for a value that is none, and for files that are missing.
    """

    provides = frozenset({"real", "label", "domain"})
    to_provide = "type data.label= a column and data.classes=N, or data.attributes=[...] of columns and their number"
    many_frames: ClassVar[bool] = False
    chosen: ClassVar[frozenset[str]] = frozenset()
    splits = ("train", "val", "test")

    def __init__(
        self,
        file: Place,
        resolution: Resolution = 64,
        root: Place | None = None,
        image: str | None = None,
        label: str | None = None,
        attributes: Sequence[str] = (),
        split: str | None = None,
        test_file: Place | None = None,
        classes: Classes = 0,
        crop: Resolution | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, classes=classes, **settings)
        if attributes:
            require_number(classes, attributes)
            if label is not None:
                raise ConfigError("data.label and data.attributes: the columns of one of them are taken; leave out one")
        self.file, self.test_file, self.root = Path(file).expanduser(), test_file, root
        self.image, self.label, self.split, self.crop = image, label, split, crop
        self.attributes = list(attributes)
        gone = {"label"} if attributes else set() if classes else {"label", "domain"}
        self.provides = self.provides - gone
        self._read: dict[str, Rows] = {}

    @property
    @override
    def title(self) -> str:
        return f"Table {self.file}"

    @override
    def has(self, split: str) -> bool:
        if split == "train" or (split == "test" and self.test_file is not None):
            return True
        return self.split is not None and bool(self._chosen(split, self.rows("file")))

    @override
    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split."""
        if not self.has(split):
            raise ConfigError(f"{self.title} has no split {split!r}: type data.split= a column, or data.test_file=...")
        return cached(self.source(split), self._settings(self.crop, split=split), self.cache, split)

    def rows(self, key: str) -> Rows:
        """Read the table `file` or `test_file`, once."""
        if key not in self._read:
            path = getattr(self, key)
            self._read[key] = read(Path(path).expanduser(), f"data.{key}={path}")
        return self._read[key]

    def source(self, split: str) -> Listed:
        """Return the files of a split that there is, with their labels."""
        key = "test_file" if split == "test" and self.test_file is not None else "file"
        rows, notes = self.rows(key), list[str]()
        image = self._image(rows, notes)
        chosen = self._chosen(split, rows) if key == "file" else list(range(len(rows.rows)))
        if not chosen:
            raise ConfigError(f"{rows.where}: no row of its column {self.split} is {split}; call some so")
        if len(chosen) < len(rows.rows):
            notes.append(f"column {self.split}: {len(chosen):,} of {len(rows.rows):,} rows are {split}")
        names = [rows.text(row, image) for row in chosen]
        root = Path(self.root).expanduser() if self.root is not None else Path(str(getattr(self, key))).parent
        paths = [root / name for name in names]
        missing = [i for i, path in enumerate(paths) if not path.is_file()]
        if missing:
            raise rows.fault(
                chosen[missing[0]],
                image,
                f"is {names[missing[0]]}: there is no file {paths[missing[0]]} ({len(missing):,} of {len(paths):,} are"
                " missing); paths are relative to data.root=, by default to the folder of the table",
            )
        labels, class_names = self._labels(split, rows, chosen, notes)
        source = Listed(rows.where, names, paths, labels, class_names, self.limit, self.view)
        source.notes = notes
        return source

    def _image(self, rows: Rows, notes: list[str]) -> str:
        if self.image is not None:
            return rows.require(self.image, "data.image")
        found = [name for name in rows.columns if name.lower() in PATHS]
        if len(found) != 1:
            raise ConfigError(
                f"{rows.where}: which column has the paths of the images is not clear; type data.image= one of"
                f" {', '.join(rows.columns)}"
            )
        notes.append(f"column {found[0]} has the paths; of the columns {', '.join(rows.columns)}")
        return found[0]

    def _chosen(self, split: str, rows: Rows) -> list[int]:
        """Return the rows of a split; "test" are those of val if none is called test."""
        if self.split is None:
            return list(range(len(rows.rows)))
        column = rows.require(self.split, "data.split")
        of: dict[str, list[int]] = {}
        for row in range(len(rows.rows)):
            text = rows.text(row, column)
            if text.lower() not in SPLITS:
                raise rows.fault(row, column, f"is {text}: one of {', '.join(dict.fromkeys(SPLITS))} is needed")
            of.setdefault(SPLITS[text.lower()], []).append(row)
        return of.get(split) or (of.get("val", []) if split == "test" else [])

    def _labels(
        self, split: str, rows: Rows, chosen: Sequence[int], notes: list[str]
    ) -> tuple[list[int], Sequence[str]]:
        if self.attributes:
            for name in self.attributes:
                rows.require(name, "data.attributes")
            bits = [sum(_yes(rows, row, name) << place for place, name in enumerate(self.attributes)) for row in chosen]
            return bits, self.attributes
        label = self.label
        if label is None:
            if not self.classes:
                return [-1] * len(chosen), []
            if "label" not in rows.columns:
                raise ConfigError(
                    f"{rows.where}: data.classes={self.classes} needs a column of labels; type data.label= one of"
                    f" {', '.join(rows.columns)}"
                )
            label = "label"
        rows.require(label, "data.label")
        texts = [rows.text(row, label) for row in chosen]
        names = sorted(set(texts), key=_in_order) if split == "train" else self.training().class_names
        number = {name: place for place, name in enumerate(names)}
        if not self.classes and split != "train":
            return [-1] * len(chosen), []
        for row, text in zip(chosen, texts, strict=True):
            if text not in number:
                raise rows.fault(row, label, f"is {text}, which is none of the training's classes ({', '.join(names)})")
        return [number[text] for text in texts], names


def _yes(rows: Rows, row: int, column: str) -> bool:
    text = rows.text(row, column)
    if text.lower() not in (*YES, *NO):
        raise rows.fault(row, column, f"is {text}: yes or no is needed, as 1 or 0, true or false")
    return text.lower() in YES


def _in_order(name: str) -> tuple[bool, int, str]:
    """Sort whole numbers by their value, before names."""
    return (False, int(name), name) if name.lstrip("-").isdecimal() else (True, 0, name)
