"""What lists beside images say of them: classes, attributes, and the names of classes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from gan_experiments.data.limits import UnreadableImageError

Read = Callable[[str], bytes]

LISTING = "dataset.json"  # of NVIDIA's dataset tool
CLASS_LISTS = ("classes.txt", "loc_synset_mapping.txt", "words.txt")  # by their names in lower case
VALUES = (".npy", ".dcm", ".nii", ".gz")  # see rasters.py
CLASS_KEYS = ("label", "class", "cls", "label_name", "class_name")  # in the json of a webdataset's sample
ATTRIBUTES = 62  # the greatest number of attributes, which are kept as the bits of an int64


@dataclass
class Labels:
    """The labels of files by name, and the names of classes, or of attributes: those are bits, the first the lowest."""

    of: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


def is_list(path: str) -> bool:
    """Return True if a file has the name of a list that says something of the files beside it."""
    return path.rpartition("/")[2].lower() in (LISTING, *CLASS_LISTS)


def is_image(path: str) -> bool:
    """Return True if a file has the suffix of an image, or of values that are read as one."""
    suffix = PurePosixPath(path).suffix.lower()
    return suffix in VALUES or Image.registered_extensions().get(suffix) in Image.OPEN


def numbered(texts: Mapping[str, str]) -> Labels:
    """Return the classes that texts are, the names in order; numbers in the order of numbers."""
    found = set(texts.values())
    names = sorted(found, key=int) if all(re.fullmatch(r"\d{1,18}", text) for text in found) else sorted(found)
    number = {name: i for i, name in enumerate(names)}
    return Labels({name: number[text] for name, text in texts.items()}, names)


def of_folders(paths: Mapping[str, str], folder: str | int) -> Labels:
    """Return the classes that folders are: the "first", the "last", all as a "path", or the one of a number from 1."""

    def class_of(path: str) -> str | None:
        above = path.split("/")[:-1]
        if folder == "path":
            return "/".join(above) or None
        place = {"first": 0, "last": -1}[folder] if isinstance(folder, str) else folder - 1
        return above[place] if place < len(above) and above else None

    classes = {name: class_of(path) for name, path in paths.items()}
    names = sorted({one for one in classes.values() if one is not None})
    number: dict[str | None, int] = {one: i for i, one in enumerate(names)}
    return Labels({name: number.get(one, -1) for name, one in classes.items()}, names)


def listed(paths: dict[str, str], read: Read, notes: list[str], attributes: bool = False) -> Labels | None:
    """Remove the lists of NVIDIA's dataset tool from `paths`, at any depth, and return what they say; None for nothing.

    Each lists the files below its own folder, or in one folder beside it. The classes are numbers or one-hot vectors.
    Other vectors of zeros and ones are attributes, which are returned in place of classes if `attributes` is True.
    Vectors of any numbers are not used.
    """
    found: dict[str, int] = {}
    number: int | None = None
    for name in [name for name, path in paths.items() if path.rpartition("/")[2] == LISTING]:
        path = paths[name]
        above = path[: -len(LISTING)]
        try:
            content = json.loads(read(name))["labels"]
            given = None if content is None else {str(file): label for file, label in content}
            values = {file: _label(label) for file, label in (given or {}).items()}
        except (UnreadableImageError, OSError, ValueError, KeyError, TypeError):
            notes.append(f"{path} is no list of NVIDIA's dataset tool")
            continue
        del paths[name]
        if given is None:
            notes.append(f"{path} names no classes")
            continue
        below = {other[len(above) :]: key for key, other in paths.items() if other.startswith(above)}
        if not any(file in below for file in values):
            below = {file.partition("/")[2]: key for file, key in below.items()}
        known = [file for file in values if file in below]
        of = f"of {len(known):,} of {len(below):,} files"
        vectors = [value for value in values.values() if isinstance(value, list)]
        width = max(map(len, vectors), default=0)
        are_bits = 0 < width <= ATTRIBUTES and all(
            isinstance(value, list) and len(value) == width and {*value} <= {0, 1} for value in values.values()
        )
        labels = {file: _bits(value) if attributes else _class(value) for file, value in values.items()}
        if are_bits and attributes:
            notes.append(f"{path} gives {width} attributes {of}")
            number = max(number or 0, width)
        elif not attributes and None not in labels.values():
            notes.append(f"{path} gives the classes {of}")
            number = max([number or 0, *(label + 1 for label in labels.values() if label is not None)])
        elif are_bits:
            notes.append(
                f"{path} gives {width} attributes {of}, which are no classes and are not used; data=domains with their "
                "names as data.attributes=[...] takes them"
            )
            continue
        else:
            kind = (
                f"vectors of {width} numbers, which are no classes" if vectors else "classes, which are no attributes"
            )
            notes.append(f"{path} holds {kind}, and are not used")
            continue
        found |= {key: label for file, key in below.items() if (label := labels.get(file)) is not None}
    return None if number is None else Labels(found, [str(one) for one in range(number)])


def _label(label: object) -> int | list[float]:
    """Return a label of dataset.json, a number or a vector, as it is; raise ValueError for anything else."""
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 10**6:
        return label
    if isinstance(label, list) and label and all(type(one) in (int, float) for one in label):
        return label
    raise ValueError(f"{label} is no label")


def _class(label: int | list[float]) -> int | None:
    """Return the class that a number or a one-hot vector is; None for other vectors."""
    if isinstance(label, int):
        return label
    return label.index(1) if sorted(label) == [0] * (len(label) - 1) + [1] else None


def _bits(label: int | list[float]) -> int | None:
    """Return a vector of zeros and ones as bits, the first the lowest; None for others."""
    if isinstance(label, int) or not {*label} <= {0, 1}:
        return None
    return sum(int(one) << place for place, one in enumerate(label))


def of_samples(paths: dict[str, str], is_sample: Callable[[str], bool], read: Read, notes: list[str]) -> Labels | None:
    """Remove what describes the images of webdataset archives from `paths`, and return their classes; None for none.

    A sample is all files of an archive with the same name up to the first dot. Its class is the number or the text in
    its .cls, or else the one in its .json.
    """
    keys = {name: key_of_sample(name) for name in paths if is_sample(name)}
    images = {name: key for name, key in keys.items() if is_image(name)}
    sampled = {*images.values()}
    beside: dict[str, dict[str, str]] = {}
    for name, key in keys.items():
        if key in sampled and name not in images and not is_list(name):
            beside.setdefault(name.rpartition(".")[2].lower(), {})[key] = name
            del paths[name]
    of_json = _texts(beside.get("json", {}), _class_in, read)
    of_cls = _texts(beside.get("cls", {}), lambda raw: raw.decode().strip(), read)
    texts, used = {**of_json, **of_cls}, [*[".json"] * bool(of_json), *[".cls"] * bool(of_cls)]
    others = [f"{len(files):,} .{suffix}" for suffix, files in beside.items() if f".{suffix}" not in used]
    if others:
        notes.append(f"{', '.join(others)} beside the images are not used")
    if not used:
        return None
    classes = {name: texts[key] for name, key in images.items() if key in texts}
    notes.append(f"{' and '.join(used)} give the classes of {len(classes):,} of {len(images):,} images")
    labels = numbered(classes)
    if all(name.isdigit() for name in labels.names):  # a set with other images of the same classes has the same numbers
        numbers = {name: int(text) for name, text in classes.items()}
        if max(numbers.values()) < 10**6:
            return Labels(numbers, [str(number) for number in range(max(numbers.values()) + 1)])
    return labels


def _texts(files: Mapping[str, str], text_of: Callable[[bytes], str], read: Read) -> dict[str, str]:
    """Return what `text_of` finds in files, by their samples; without those in which it finds nothing."""
    texts = {}
    for key, name in files.items():
        with suppress(UnreadableImageError, OSError, ValueError):
            texts[key] = text_of(read(name))
    return {key: text for key, text in texts.items() if text}


def key_of_sample(name: str) -> str:
    """Return what the files of a webdataset's sample have in common: the name up to the first dot."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _class_in(raw: bytes) -> str:
    content: Any = json.loads(raw)
    found = next((content[key] for key in CLASS_KEYS if key in content), None) if isinstance(content, dict) else None
    return "" if isinstance(found, (bool, list, dict)) or found is None else str(found)


def named_classes(
    lists: Mapping[str, str], folders: Sequence[str], read: Read, notes: list[str]
) -> tuple[list[str], str]:
    """Return the names that one of `lists` gives to classes, and the name of that file; else the folders, and "".

    The list's lines begin with the folders, as "n01440764 tench, Tinca tinca", and the first name is taken; or they are
    the names alone, as many as folders, in their order. Equal names get their folder too.
    """
    by_name = {path.lower(): name for name, path in lists.items()}
    for file in CLASS_LISTS:
        if not folders or file not in by_name:
            continue
        name = by_name[file]
        try:
            lines = [line.strip() for line in read(name).decode("utf-8-sig").splitlines() if line.strip()]
        except (UnreadableImageError, OSError, ValueError):
            continue
        pairs = dict(line.split(maxsplit=1) for line in lines if len(line.split()) > 1)
        if all(folder in pairs for folder in folders):
            names = [pairs[folder].split(",")[0].strip() for folder in folders]
        elif file == CLASS_LISTS[0] and len(lines) == len(folders) and not {*lines, *pairs.values()} & {*folders}:
            names = [line.split(",")[0].strip() for line in lines]
        else:
            continue
        counts = Counter(names)
        names = [n if counts[n] == 1 else f"{n} ({folder})" for n, folder in zip(names, folders, strict=True)]
        notes.append(f"{lists[name]} names the classes: {folders[0]} is {names[0]}")
        return names, name
    return list(folders), ""
