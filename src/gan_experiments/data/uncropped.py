"""Images of any size, neither cropped nor resized, decoded once and kept on disk in one memory-mapped file."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_experiments.bounds import sides
from gan_experiments.contracts import Batch
from gan_experiments.data import limits
from gan_experiments.data.batches import CROP, ShuffledStream, flips, generator
from gan_experiments.data.cache import (
    NAMED,
    built_once,
    cache_root,
    cores,
    file_name,
    flush,
    key_of,
    progress,
    read_facts,
    require_images,
    save,
    tell_skipped,
    verifying,
    write_facts,
)
from gan_experiments.data.decode import Range, Reading, Shape
from gan_experiments.data.met import About
from gan_experiments.data.sources import TASK, Source, load_blocks

log = logging.getLogger(__name__)


class WholeImages:
    """Groups of images, for example pairs, in a memory-mapped file.

    `image(row, part)` is uint8 [C, H, W], a view of the file. `sizes` is int64 [N, parts, 2], heights and widths. On
    disk pixels.bin holds all images one after the other, index.npy, int64 [N, parts, 3], where each begins, its height
    and its width, and facts.json the rest. A copy in another process opens the same files. Raises ValueError if the
    files do not fit together.
    """

    def __init__(self, folder: Path, split: str = "train") -> None:
        self.folder, self.split = folder, split
        facts = read_facts(folder)
        self._index = np.load(folder / "index.npy")
        # Copy-on-write: torch takes no read-only arrays.
        self._pixels = torch.from_numpy(np.memmap(folder / "pixels.bin", np.uint8, "c"))
        index = self._index
        if (index.dtype, index.ndim, index.shape[2:], len(index)) != (np.int64, 3, (3,), facts["number"]):
            raise ValueError(f"index.npy does not hold {facts['number']} places")
        if len(self._pixels) != facts["bytes"]:
            raise ValueError(f"pixels.bin does not hold {facts['bytes']} bytes")
        self.channels, self.fingerprint, self.skipped = facts["channels"], facts["fingerprint"], facts["skipped"]
        self.about = About.of(facts)
        self.sizes = torch.from_numpy(self._index[:, :, 1:])
        self.labels, self.class_names = None, list[str]()

    def __len__(self) -> int:
        return len(self._index)

    def __reduce__(self) -> Any:
        return WholeImages, (self.folder, self.split)

    def image(self, row: int, part: int = 0) -> Tensor:
        """Return one image, uint8 [C, H, W]."""
        start, height, width = self._index[row, part].tolist()
        shape = (self.channels, height, width)
        return self._pixels[start : start + self.channels * height * width].view(shape)

    def verify(self) -> None:
        """Raise ValueError if the content is not that of the fingerprint."""
        digest = hashlib.sha256()
        end = 0
        with open(self.folder / "pixels.bin", "rb") as file, verifying(self.folder, len(self._pixels)) as bar:
            for start, height, width in self._index.reshape(-1, 3).tolist():
                shape = (self.channels, height, width)
                end += self.channels * height * width
                if start != file.tell() or min(shape) < 1 or end > len(self._pixels):
                    raise ValueError("index.npy is not what was written")
                digest.update(str(shape).encode() + file.read(end - start))
                bar.update(end - start)
        if end != len(self._pixels) or digest.hexdigest() != self.fingerprint:
            raise ValueError("its content is not what was written")


class PieceStream(ShuffledStream):
    """Batches of random pieces: "real" uint8 [n, parts * C, H, W] and, if asked for, "flip" bool [n].

    `size` is their side, or height and width. The parts of a group are cut at the same place. Each image must be as
    large or larger.
    """

    def __init__(
        self,
        images: WholeImages,
        batch_size: int,
        seed: int,
        flip: bool,
        size: Shape,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(len(images), batch_size, seed, rank, world)
        self.images, self.flip, self.size = images, flip, sides(size)

    def batch(self, number: int) -> Batch:
        """Cut this rank's pieces of batch `number`."""
        drawn = torch.rand(self.batch_size, 2, dtype=torch.float64, generator=generator(self.seed, CROP, number))
        rows = self.indices(number)[self._mine].tolist()
        pieces = [self._piece(row, place) for row, place in zip(rows, drawn[self._mine].tolist(), strict=True)]
        batch = {"real": torch.stack(pieces)}
        if self.flip:
            batch["flip"] = flips(self.seed, number, self.batch_size)[self._mine]
        return batch

    def _piece(self, row: int, place: list[float]) -> Tensor:
        parts = [self.images.image(row, part) for part in range(self.images.sizes.shape[1])]
        room = zip(place, parts[0].shape[1:], self.size, strict=True)
        top, left = (int(share * (length - side + 1)) for share, length, side in room)
        height, width = self.size
        return torch.cat([part[:, top : top + height, left : left + width] for part in parts])


def cached_whole(
    source: Source,
    load: Callable[[Reading, int], list[Tensor]],
    names: list[str],
    settings: dict[str, Any],
    cache: str | None = None,
    split: str = "train",
    max_pixels: int | None = None,
    range: Range = None,
) -> WholeImages:
    """Open the cache of the images that `load(reading, row)` makes of a source; build it if there is none.

    `load` returns the images [C, H, W] of a group, in all groups the same number of images and of channels. `settings`
    and `range` are what the images depend on beside the files. `names` are those of the groups, for messages. Files of
    more than `max_pixels` are left out. Raises the errors of `cache.cached`.
    """
    if range is not None:
        settings = {**settings, "range": range}
    with limits.at_most(max_pixels):
        return _cached_whole(source, load, names, settings, cache, split, range)


def _cached_whole(
    source: Source,
    load: Callable[[Reading, int], list[Tensor]],
    names: list[str],
    settings: dict[str, Any],
    cache: str | None,
    split: str,
    range: Range,
) -> WholeImages:
    folder = cache_root(cache) / f"{file_name(source.name)}-whole-{key_of(settings, source)}"

    def build(work: Path) -> None:
        began = time.monotonic()
        skipped: list[tuple[str, str]] = []
        index: list[list[list[int]]] = []
        digest = hashlib.sha256()
        size = channels = 0
        with open(work / "pixels.bin", "wb") as file, progress(source) as bar:
            read = partial(load, source.begin(range, cores()))
            for start, results in load_blocks(read, len(names), cores(), TASK):
                for row, images in enumerate(results, start):
                    bar.update()
                    if isinstance(images, str):
                        skipped.append((names[row], images))
                        continue
                    places = []
                    for image in images:
                        channels = len(image)
                        places.append([size, *image.shape[1:]])
                        pixels = image.contiguous().numpy()
                        digest.update(str(pixels.shape).encode() + pixels.tobytes())
                        size += file.write(pixels.data)
                    index.append(places)
            flush(file)
        require_images(source, len(index), skipped)
        save(work / "index.npy", np.array(index, np.int64))
        facts = {
            "source": source.where,
            "settings": settings,
            "number": len(index),
            "bytes": size,
            "channels": channels,
            "met": source.facts(),
            "skipped": len(skipped),
            "skipped_files": dict(skipped[:NAMED]),
            "fingerprint": digest.hexdigest(),
        }
        write_facts(work, facts)
        log.info("cached %d images of %s in %.1f s", len(index), source.where, time.monotonic() - began)
        tell_skipped(source, skipped)

    what = f"the cache of {source.where}"
    images = built_once(folder, what, 0, build, lambda: WholeImages(folder, split), WholeImages.verify)
    images.about.notes = [*source.notes]
    return images
