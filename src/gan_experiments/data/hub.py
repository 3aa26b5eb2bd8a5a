"""Data sets of the Hugging Face hub, and local ones in its library's forms, by the package `datasets`.

No code of a data set is run: the package reads files alone (from version 4 on).
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset
from typing_extensions import override

from gan_experiments.bounds import Place
from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.dataset import FromItems
from gan_experiments.data.download import NotDownloadedError, may_download
from gan_experiments.data.items import Items

SECONDS = 5.0  # for the hub to answer, before its cache alone is looked at
LOCAL = "a folder of images, or one that save_to_disk wrote"


class Hub(FromItems):
    """A data set of the hub, `name`, or a local folder: of images, of parquet files, or what save_to_disk wrote.

    `subset` is a name of its configurations, `split` and `test_split` are names of its splits as the library reads them
    ("train[:10%]"), `revision` a commit or a branch. `image` and `label` are columns: without them the only one of
    images and the only one of class labels. With `streaming` the images are read as they come, and only the cache of
    this package keeps them. Raises ConfigError in one line where something is missing, also the network.
    """

    without_test = "type data.test_split= the name of one"

    def __init__(
        self,
        name: Place,
        subset: str | None = None,
        split: str = "train",
        test_split: str | None = None,
        revision: str | None = None,
        image: str | None = None,
        label: str | None = None,
        streaming: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(image="image", label="label", **settings)
        self.set, self.subset, self.revision, self.streaming = name, subset, revision, streaming
        self.parts = {"train": split, "test": test_split}
        self.columns = {"image": image, "label": label}

    @property
    @override
    def title(self) -> str:
        return f"Hub {self.set}"

    @override
    def has(self, split: str) -> bool:
        return self.parts.get(split) is not None

    @override
    def source(self, split: str, **options: Any) -> Items:
        part = str(self.parts[split])
        rows = self._opened_rows(part)
        image, label = self._columns(rows)
        content = [str(self.set), self.subset, part, self.revision, getattr(rows, "_fingerprint", None)]
        rows, names = _as_files(rows, image, label)
        kind = Streamed if self.streaming else Rows
        dataset = kind(rows, image, label, names, content)
        source = Items(dataset, where=f"data.name={self.set}", **options)
        source.notes = [f"column {image} has the images" + (f", {label} the labels" if label and self.classes else "")]
        return source

    def _opened_rows(self, part: str) -> Any:
        """Return the rows of a split, by the library."""
        library = _library()
        place = Path(self.set).expanduser()
        local = place.is_dir()
        if not local and (self.set.startswith((".", "/", "~")) or self.set.count("/") > 1):
            raise ConfigError(f"data.name={self.set}: there is no such folder; type data.name=owner/set, or {LOCAL}")
        saved = local and any((place / name).is_file() for name in ("dataset_dict.json", "state.json"))
        offline = not local and not (may_download() and _answers())
        try:
            with _quietly(offline):
                if saved:
                    found = library.load_from_disk(str(place))
                    return self._part(found, part) if isinstance(found, dict) else found
                return library.load_dataset(
                    str(place) if local else self.set,
                    self.subset,
                    split=part,
                    streaming=self.streaming,
                    revision=self.revision,
                )
        except ConfigError:
            raise
        except Exception as error:  # the library's, of many kinds
            why = " ".join(str(error).split())[:240]
            if not local and not may_download():
                raise NotDownloadedError(f"data.name={self.set}: it is downloaded when the run begins") from None
            if offline:
                raise ConfigError(
                    f"data.name={self.set} is not in the cache of datasets ($HF_HOME) and the hub cannot be reached"
                    f" ({why}): fetch it where there is a network, or type data.name={LOCAL}"
                ) from None
            raise ConfigError(
                f"data.name={self.set} cannot be opened ({why}): look at data.subset={self.subset or 'null'} and"
                f" data.split={part}, or type another data.name="
            ) from None

    def _part(self, found: Any, part: str) -> Any:
        if part not in found:
            raise ConfigError(f"data.name={self.set} has no split {part}: type data.split= one of {', '.join(found)}")
        return found[part]

    def _columns(self, rows: Any) -> tuple[str, str | None]:
        """Return the columns of images and labels, typed or the only ones of their types."""
        library = _library()
        features = rows.features if rows.features is not None else rows._resolve_features().features
        every = ", ".join(f"{name} ({_type_of(feature)})" for name, feature in features.items())
        found: dict[str, str | None] = {}
        for key, kind, needed in (("image", library.Image, True), ("label", library.ClassLabel, self.classes > 0)):
            typed = self.columns[key]
            if typed is not None and typed not in features:
                raise ConfigError(
                    f"data.{key}={typed}: data.name={self.set} has the columns {every}; type one of these"
                )
            fitting = [typed] if typed else [name for name, feature in features.items() if isinstance(feature, kind)]
            if len(fitting) != 1 and needed:
                raise ConfigError(
                    f"data.name={self.set}: which column is the {key} is not clear; type data.{key}= one of {every}"
                )
            found[key] = fitting[0] if len(fitting) == 1 else None
        assert found["image"] is not None, "it is needed"
        return found["image"], found["label"]


class Rows:
    """The rows of a set, as items: a file's bytes or an image, and a label. `content` tells sets apart."""

    def __init__(self, rows: Any, image: str, label: str | None, classes: list[str], content: list[Any]) -> None:
        self.rows, self.image, self.label, self.classes, self.content = rows, image, label, classes, content

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.item(self.rows[row])

    def item(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as an item."""
        return {"image": _image(row[self.image]), "label": row[self.label] if self.label else None}

    @property
    def targets(self) -> Any:
        """The labels of all items, which `data.cached=false` needs."""
        if self.label is None:
            raise AttributeError("targets")
        return self.rows[self.label]


class Streamed(Rows, IterableDataset):
    """The same one after the other."""

    def __len__(self) -> int:
        raise TypeError("a stream has no length")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.item, self.rows)


def _image(value: Any) -> Any:
    """Return the bytes of an image that the library has not decoded; other values as they are."""
    if not isinstance(value, dict):
        return value
    if value.get("bytes") is not None:
        limits.require_bytes(len(value["bytes"]))
        return value["bytes"]
    path = value.get("path")
    if path is None:
        return None
    if Path(path).is_file():
        return limits.read(Path(path))
    return _library().Image().decode_example(value)  # from where it lies, for a stream


def _as_files(rows: Any, image: str, label: str | None) -> tuple[Any, list[str]]:
    """Return rows of these columns alone, with images as the bytes of their files; and the names of the classes."""
    library = _library()
    features = rows.features if rows.features is not None else rows._resolve_features().features
    names = list(features[label].names) if label and isinstance(features[label], library.ClassLabel) else []
    rows = rows.select_columns([image, *([label] if label else [])])
    if isinstance(features[image], library.Image):
        rows = rows.cast_column(image, library.Image(decode=False))
    return rows, names


def _type_of(feature: Any) -> str:
    name = type(feature).__name__
    return str(feature.dtype) if name == "Value" else name


def _library() -> Any:
    try:
        import datasets
    except ModuleNotFoundError:
        raise ConfigError("data=hub needs what is not installed: type pip install datasets") from None
    if int(datasets.__version__.partition(".")[0]) < 4:
        raise ConfigError(
            f"data=hub needs datasets of version 4 or later, which runs no code of others, and {datasets.__version__}"
            " is installed: type pip install --upgrade datasets"
        )
    return datasets


def _answers() -> bool:
    """Return True if the hub can be reached; it is not asked if the library is told to be offline."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError:  # it has answered
        return True
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _quietly(offline: bool) -> Iterator[None]:
    """Let the library print nothing and, if it is `offline`, look into its cache alone instead of trying for long."""
    from datasets import config
    from datasets.utils import logging
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE, logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    if offline:
        config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before[:2]
        logging.set_verbosity(before[2])
        if bars:
            logging.enable_progress_bar()
