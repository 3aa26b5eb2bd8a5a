"""Images, clips and sounds of a folder at the size that they have, neither cropped nor resized, to be scored."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image as PILImage
from torch import Tensor
from tqdm import tqdm

from gan_experiments.contracts import ConfigError
from gan_experiments.data.clips import ClipFiles, whole_film
from gan_experiments.data.decode import UnreadableImageError, pixels_of
from gan_experiments.data.limits import why
from gan_experiments.data.recordings import Form, SoundFiles, decode, require_soundfile
from gan_experiments.data.sources import Files
from gan_experiments.kinds import Clip, Image, Kind, Wave

log = logging.getLogger(__name__)


class StoredImages:
    """The images of a folder or zip archive, decoded when they are asked for; `key` is its option, for messages.

    `fingerprint` depends on their bytes and classes alone, so a copy elsewhere has the same one. `labels` int64 [N] are
    the top-level folders, whose names are `class_names`; None if some image lies in no folder. Files that are not
    images are left out, and named in a warning. Raises ConfigError if there is no such folder or no image in it.
    """

    split = "folder"

    def __init__(self, path: str, key: str) -> None:
        self.source = Files(path, key)
        self.fingerprint, self._rows, self.labels, self.class_names = _known(self.source, self._bytes, key, "an image")

    def _bytes(self, row: int) -> bytes:
        raw = self.source.read(row)
        PILImage.open(io.BytesIO(raw)).close()  # the header alone
        return raw

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, start: int, stop: int) -> Tensor | list[Tensor]:
        """Return uint8 [n, C, H, W], or a list of [C, H, W] if they differ in size or number of channels.

        Raises ConfigError if one cannot be decoded.
        """
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            return _together(list(pool.map(self._decode, self._rows[start:stop])))

    def _decode(self, row: int) -> Tensor:
        return pixels_in(self.source, row)


class StoredClips:
    """The films of a folder as clips, decoded when they are asked for; as `StoredImages`."""

    split = "folder"

    def __init__(self, path: str, key: str) -> None:
        self.source = ClipFiles(Path(path).expanduser(), "train", None, key)
        self.fingerprint, rows, self.labels, self.class_names = _known(self.source, self._bytes, key, "a film")
        self._paths = [self.source.paths[row] for row in rows]

    def _bytes(self, row: int) -> bytes:
        path = self.source.paths[row]
        whole_film(path)
        files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
        return b"".join(file.read_bytes() for file in files)

    def __len__(self) -> int:
        return len(self._paths)

    def images(self, start: int, stop: int) -> Tensor | list[Tensor]:
        """Return uint8 [n, 3, T, H, W], or a list of [3, T, H, W] if they differ in length or size."""
        return _together([whole_film(path).transpose(0, 1) for path in self._paths[start:stop]])


class StoredWaves:
    """The sounds of a folder or zip archive, mono, a minute of each at most; as `StoredImages`.

    They are heard at `rate` samples per second, or at the rate of the first of them. Silent ones are sounds too.
    """

    split = "folder"

    def __init__(self, path: str, key: str, rate: int | None = None) -> None:
        self.source = SoundFiles(path, key)
        self.rate, self._held = rate, dict[int, Tensor]()
        self.fingerprint, self._rows, self.labels, self.class_names = _known(self.source, self._bytes, key, "a sound")

    def _bytes(self, row: int) -> bytes:
        raw = self.source.read(row)
        if self.rate is None:
            with require_soundfile().SoundFile(io.BytesIO(raw)) as file:
                self.rate = int(file.samplerate)
        self._held[row] = torch.from_numpy(decode(raw, Form(self.rate, 1, 60 * self.rate), silent=True)).T
        return raw

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, start: int, stop: int) -> Tensor | list[Tensor]:
        """Return int16 [n, 1, L], or a list of [1, L] if they differ in length."""
        return _together([self._held[row] for row in self._rows[start:stop]])


def _known(
    source: Files | ClipFiles, read: Callable[[int], bytes], key: str, what: str
) -> tuple[str, list[int], Tensor | None, list[str]]:
    """Return the fingerprint of the files that `read` decodes, their rows, their labels if all have one, and the names.

    Files that it cannot decode are left out, and named in a warning. Raises ConfigError if no file is `what`.
    """
    digest, rows, labels, skipped = hashlib.sha256(), [], [], []
    for row in tqdm(range(len(source)), desc=f"reading {source.where}", delay=2, leave=False):
        label = source.label(row)
        try:
            raw = read(row)
        except ConfigError:
            raise
        except Exception as error:  # as in `decode`
            skipped.append(f"{source.file(row)} ({why(error)})")
            continue
        digest.update(hashlib.sha256(raw).digest() + label.to_bytes(8, "big", signed=True))
        rows.append(row)
        labels.append(label)
    if not rows:
        raise ConfigError(
            f"none of the {len(source)} files of {source.where} is {what} ({skipped[0]}): "
            f"{source.wanted.format(key=key)}"
        )
    if skipped:
        log.warning("left out %d files of %s: %s", len(skipped), source.where, ", ".join(skipped[:5]))
    kept, names, _ = source.without_empty(torch.tensor(labels))
    return (digest.hexdigest(), rows, kept, names) if min(labels) >= 0 else (digest.hexdigest(), rows, None, [])


def _together(found: list[Tensor]) -> Tensor | list[Tensor]:
    return torch.stack(found) if len({one.shape for one in found}) == 1 else found


def stored(
    path: str, key: str, kind: Kind | type[Kind], rate: int | None = None
) -> StoredImages | StoredClips | StoredWaves:
    """Return the samples of a folder as those of a kind; of waves at `rate`, or at that of the first.

    Raises ConfigError if there are none, and for kinds that are read from no folder.
    """
    of = kind if isinstance(kind, type) else type(kind)
    if issubclass(of, Wave):
        return StoredWaves(path, key, rate or round(getattr(kind, "rate", 0)) or None)
    if issubclass(of, Clip):
        return StoredClips(path, key)
    if not issubclass(of, Image):
        raise ConfigError(f"{key}={path}: {of.name} are scored by run= alone; leave it out")
    return StoredImages(path, key)


class HeldImages:
    """Images uint8 [C, H, W] in memory, to be scored; they may differ in size and number of channels.

    `fingerprint` depends on their pixels alone.
    """

    split = "given"
    labels: Tensor | None = None

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._images = images
        self.class_names: list[str] = []
        digest = hashlib.sha256()
        for image in images:
            digest.update(f"{tuple(image.shape)}".encode() + image.contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._images)

    def images(self, start: int, stop: int) -> Tensor | list[Tensor]:
        """Return uint8 [n, C, H, W], or a list of [C, H, W] if they differ in size or number of channels."""
        return _together([*self._images[start:stop]])


def pixels_in(files: Files, row: int) -> Tensor:
    """Return an image of a folder or archive, uint8 [C, H, W]; raise ConfigError, with its name, for a broken one."""
    try:
        return pixels_of(files.read(row))
    except (UnreadableImageError, OSError) as error:
        raise ConfigError(
            f"{files.where}: {files.file(row)} cannot be decoded ({why(error)}); mend or remove it"
        ) from None
