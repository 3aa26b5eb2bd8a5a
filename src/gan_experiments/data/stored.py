"""Images of a folder or zip archive at the size that they have, neither cropped nor resized, to be scored."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import UnreadableImageError, pixels_of
from gan_experiments.data.limits import why
from gan_experiments.data.sources import Files

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
        digest = hashlib.sha256()
        self._rows: list[int] = []
        skipped = []
        labels = []
        for row in tqdm(range(len(self.source)), desc=f"reading {self.source.where}", delay=2, leave=False):
            label = self.source.label(row)
            try:
                raw = self.source.read(row)
                Image.open(io.BytesIO(raw)).close()  # the header alone
            except Exception as error:  # as in `decode`
                skipped.append(f"{self.source.file(row)} ({why(error)})")
                continue
            digest.update(hashlib.sha256(raw).digest() + label.to_bytes(8, "big", signed=True))
            self._rows.append(row)
            labels.append(label)
        if not self._rows:
            raise ConfigError(
                f"none of the {len(self.source)} files of {self.source.where} is an image ({skipped[0]}): "
                f"give a folder or a zip of images, {key}=..."
            )
        if skipped:
            log.warning("left out %d files of %s: %s", len(skipped), self.source.where, ", ".join(skipped[:5]))
        self.fingerprint = digest.hexdigest()
        kept, names, _ = self.source.without_empty(torch.tensor(labels))
        self.labels = kept if min(labels) >= 0 else None
        self.class_names = names if self.labels is not None else []

    def __len__(self) -> int:
        return len(self._rows)

    def images(self, start: int, stop: int) -> Tensor | list[Tensor]:
        """Return uint8 [n, C, H, W], or a list of [C, H, W] if they differ in size or number of channels.

        Raises ConfigError if one cannot be decoded.
        """
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            found = list(pool.map(self._decode, self._rows[start:stop]))
        return torch.stack(found) if len({image.shape for image in found}) == 1 else found

    def _decode(self, row: int) -> Tensor:
        return pixels_in(self.source, row)


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
        found = [*self._images[start:stop]]
        return torch.stack(found) if len({image.shape for image in found}) == 1 else found


def pixels_in(files: Files, row: int) -> Tensor:
    """Return an image of a folder or archive, uint8 [C, H, W]; raise ConfigError, with its name, for a broken one."""
    try:
        return pixels_of(files.read(row))
    except (UnreadableImageError, OSError) as error:
        raise ConfigError(
            f"{files.where}: {files.file(row)} cannot be decoded ({why(error)}); mend or remove it"
        ) from None
