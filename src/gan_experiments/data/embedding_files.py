"""Embeddings of captions that another program made: an .npy for each image, [features] or [captions, features]."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from gan_experiments.bounds import Place
from gan_experiments.contracts import ConfigError
from gan_experiments.data.archives import Store, open_store
from gan_experiments.data.limits import UnreadableImageError

KEY = "data.embeddings"
WANTED = "give an .npy for each image, cat.npy for cat.jpg, of the shape [features] or [captions, features]"


class Embeddings:
    """The arrays of a folder, a zip archive or an .npz, by the paths of images without suffix.

    `features` is the length of an embedding. Raises ConfigError if there is no array.
    """

    def __init__(self, place: Place) -> None:
        self.where = f"{KEY}={place}"
        if str(place).lower().endswith(".npy"):
            raise ConfigError(f"{self.where} is one array, and which row is of which image is not known: {WANTED}")
        self._store: Store = open_store(place, KEY)
        self._files = {path[: -len(".npy")]: name for name, path in self._store.paths.items() if path.endswith(".npy")}
        stems: dict[str, list[str]] = {}
        for path in self._files:
            stems.setdefault(PurePosixPath(path).name, []).append(path)
        self._stems = {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1}
        if not self._files:
            raise ConfigError(f"{self.where} holds no .npy: {WANTED}")
        self.features = 0
        self.features = self._read(next(iter(self._files))).shape[1]

    def of(self, image: str) -> np.ndarray | None:
        """Return the embeddings of an image, float32 [captions, features], by its path; None if it has none.

        Raises ConfigError for a file that is none.
        """
        path = str(PurePosixPath(image).with_suffix(""))
        found = path if path in self._files else self._stems.get(PurePosixPath(path).name)
        return None if found is None else self._read(found)

    def _read(self, path: str) -> np.ndarray:
        where = f"{self.where}: {path}.npy"
        try:
            content = self._store.read(self._files[path])
        except UnreadableImageError as error:
            raise ConfigError(f"{where} {error}") from None
        return _array(io.BytesIO(content), where, self.features)


def read(path: Path, where: str, features: int) -> Tensor:
    """Read embeddings float32 [n, features] from an .npy; raises ConfigError, which begins with `where`, otherwise."""
    return torch.from_numpy(_array(path, where, features))


def _array(file: Path | io.BytesIO, where: str, features: int) -> np.ndarray:
    """Return the embeddings of a file, float32 [n, features]; `features` is 0 if any number will do."""
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ConfigError(f"{where} cannot be read ({' '.join(str(error).split())[:100]}): {WANTED}") from None
    if not isinstance(array, np.ndarray):
        raise ConfigError(f"{where} holds several arrays: {WANTED}")
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or not array.size:
        raise ConfigError(f"{where} is {array.dtype} of the shape {list(array.shape)}: {WANTED}")
    array = np.atleast_2d(array).astype(np.float32)
    if not np.isfinite(array).all():
        raise ConfigError(f"{where} has values that are not finite; make it anew")
    if features and array.shape[1] != features:
        raise ConfigError(f"{where} has {array.shape[1]} features, and {features} are needed, as the others have")
    return array
