"""Captions in the layouts that people have, and the image files that they belong to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gan_experiments.captions import words_of
from gan_experiments.contracts import ConfigError
from gan_experiments.data import table
from gan_experiments.data.archives import Folder
from gan_experiments.data.embedding_files import Embeddings
from gan_experiments.data.sources import Files, spread
from gan_experiments.data.texts import decoded

COLUMNS = ("caption", "captions", "text", "texts", "description", "sentence", "title")
"""Names of columns of captions; of a table all of them are taken if no others are typed."""
LISTS = (*table.SUFFIXES, ".json")
NAME = "captions"

Said = dict[str, list[str]]
"""Captions by the path of an image, by its path without suffix, or by its name alone."""


class CaptionedFiles(Files):
    """Image files with captions: the label of each is its place in `captions`, its class that in `classes` (-1: none).

    With `embedded`, `codes` has at the same place the embeddings of its captions, float32 [captions, features]; images
    without one are left out too, and those without a caption are called by their names.

    `given` says where the captions are: None for a list called captions in the root, else a text beside each image,
    cat.txt beside cat.jpg, with a caption a line; a folder of such texts; a list, see `listed`. Images without a
    caption of a word are left out and counted. At most `most` images are taken, evenly spread.
    """

    def __init__(
        self,
        *arguments: Any,
        given: str | Path | None,
        columns: Sequence[str],
        most: int | None,
        embedded: Embeddings | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        said = self._said(given, columns)
        paths = {row: self._store.paths[name] for row, name in enumerate(self._names)}
        images = {row: path for row, path in paths.items() if not path.lower().endswith((".txt", *LISTS))}
        once = Counter(PurePosixPath(path).stem for path in images.values())
        rows, captions, silent = list[int](), list[list[str]](), list[str]()
        codes: list[np.ndarray] = []
        for row, path in images.items():
            image = PurePosixPath(path)
            short = [image.name, image.stem] if once[image.stem] == 1 else []
            names = (name for name in (path, str(image.with_suffix("")), *short) if name in said)
            spoken = [caption for caption in said.get(next(names, ""), []) if words_of(caption)]
            code = None if embedded is None else embedded.of(path)
            if code is not None:
                spoken = spoken or [image.stem] * len(code)
                codes.append(self._fitting(code, spoken, path))
            if spoken and (embedded is None or code is not None):
                rows.append(row)
                captions.append(spoken)
            else:
                silent.append(path)
        if not rows and embedded is not None:
            raise ConfigError(
                f"{self.where}: none of its {len(images):,} files has an embedding in {embedded.where}; name them"
                " cat.npy for cat.jpg"
            )
        if not rows:
            raise ConfigError(
                f"{self.where}: none of its {len(images):,} files has a caption; write a text beside each (cat.txt for"
                " cat.jpg, a caption a line), or type data.captions=<a folder of such texts, or a csv, jsonl or json>"
            )
        if silent:
            some = ", ".join(silent[:3]) + (", ..." if len(silent) > 3 else "")
            what = "a caption" if embedded is None else "an embedding"
            self.notes.append(f"{len(silent):,} without {what} left out: {some}")
        kept = spread(len(rows), most)
        rows, self.captions = [rows[place] for place in kept], [captions[place] for place in kept]
        self.codes = [codes[place] for place in kept] if codes else []
        self.names_of_classes, self.classes = self.class_names, [self._labels[row] for row in rows]
        self._names, self._stamps = [self._names[row] for row in rows], [self._stamps[row] for row in rows]
        self._labels, self.class_names, self._classes_are_folders = list(range(len(rows))), [], False

    def _fitting(self, code: np.ndarray, captions: Sequence[str], path: str) -> np.ndarray:
        """Return an embedding for each caption of an image: its own, or the one that all of them share."""
        if len(code) not in (1, len(captions)):
            raise ConfigError(
                f"{self.where}: {path} has {len(captions)} captions and {len(code)} embeddings; give one for each, or"
                " one for all of them"
            )
        return np.broadcast_to(code, (len(captions), code.shape[1]))

    def _said(self, given: str | Path | None, columns: Sequence[str]) -> Said:
        store = self._store
        if given is not None:
            path = Path(given).expanduser()
            if path.is_dir():
                texts = Folder(path)
                return _texts({texts.paths[name]: name for name in texts.paths}, texts.read, f"data.captions={given}")
            return listed(path, f"data.captions={given}", columns)
        by_path = {path: name for name, path in store.paths.items()}
        for name in (f"{NAME}{suffix}" for suffix in LISTS):
            if name in by_path and isinstance(store, Folder):
                return listed(store.path / name, f"{self.where}: {name}", columns)
        return _texts(by_path, store.read, self.where)


def _texts(by_path: Mapping[str, str], read: Any, where: str) -> Said:
    """Read the texts among files, a caption a line, by their paths without suffix and by their names alone."""
    said: Said = {}
    for path, name in by_path.items():
        if path.lower().endswith(".txt"):
            lines = decoded(read(name), f"{where}: {path}").splitlines()
            said[path[: -len(".txt")]] = [line.strip() for line in lines]
    return _with_short_names(said)


def listed(path: Path, where: str, columns: Sequence[str] = ()) -> Said:
    """Read a list of captions: COCO's json, {name: caption or captions}, or a table with a row for each caption.

    A table is a csv, tsv, jsonl or parquet file with a column of paths, and one or more of captions (`columns`, by
    default those of COLUMNS). Raises ConfigError if it is none of these.
    """
    if path.suffix.lower() == ".json":
        return _with_short_names(_json(path, where))
    rows = table.read(path, where)
    paths = [name for name in rows.columns if name.lower() in table.PATHS]
    told = [rows.require(column, "data.caption_columns") for column in columns]
    told = told or [name for name in rows.columns if name.lower() in COLUMNS]
    if len(paths) != 1 or not told:
        raise ConfigError(
            f"{where}: a column of paths, such as image, and one of captions are needed; it has"
            f" {', '.join(rows.columns)}; type data.caption_columns=[...] for the captions"
        )
    said: Said = {}
    for row in range(len(rows.rows)):
        spoken = said.setdefault(rows.text(row, paths[0]), [])
        for column in told:
            value = rows.rows[row].get(column)
            spoken += [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
    return _with_short_names(said)


def _json(path: Path, where: str) -> Said:
    try:
        content = json.loads(decoded(path.read_bytes(), where))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where} cannot be read ({error})") from None
    try:
        if isinstance(content, dict) and "annotations" in content:  # COCO's captions_train2014.json
            names = {one["id"]: str(one["file_name"]) for one in content["images"]}
            said: Said = {name: [] for name in names.values()}
            for one in content["annotations"]:
                said[names[one["image_id"]]].append(str(one["caption"]))
            return said
        return {str(name): _strings(value) for name, value in content.items()}
    except (AttributeError, KeyError, TypeError):
        raise ConfigError(
            f'{where}: a json of captions is COCO\'s, or {{"cat.jpg": "a cat", "dog.jpg": ["a dog", "a brown dog"]}}'
        ) from None


def _strings(value: Any) -> list[str]:
    """Return a caption, or several."""
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        raise TypeError
    return several


def _with_short_names(said: Said) -> Said:
    """Add the last part of each path, if only one path has it."""
    short: dict[str, list[str]] = {}
    for path in said:
        short.setdefault(PurePosixPath(path).name, []).append(path)
    return {name: said[paths[0]] for name, paths in short.items() if len(paths) == 1} | said
