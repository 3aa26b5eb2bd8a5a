"""Images decoded once, kept on disk as memory-mapped uint8 [N, C, H, W]."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import FILTER
from gan_experiments.data.sources import Settings, Source

VERSION = 1  # raise it when the same files and settings would give other pixels
NAMED = 1000  # so many of the files left out are named in facts.json

log = logging.getLogger(__name__)


class ImageArray:
    """Real images: uint8 [N, C, H, W], with a fingerprint of pixels and labels.

    `labels` is int64 [N] (-1: in no class) or None; `skipped` counts the files that were left out. Memory-mapped where
    it comes from a cache `folder`, and then a copy in another process opens the same file.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor | None,
        fingerprint: str,
        split: str = "train",
        class_names: list[str] | None = None,
        skipped: int = 0,
        folder: Path | None = None,
    ) -> None:
        self.pixels, self.labels, self.fingerprint, self.split = pixels, labels, fingerprint, split
        self.class_names, self.skipped, self.folder = class_names or [], skipped, folder

    def __len__(self) -> int:
        return len(self.pixels)

    def __reduce__(self) -> Any:
        if self.folder is not None:
            return _open, (self.folder, self.split, self.labels is not None)
        return ImageArray, (self.pixels, self.labels, self.fingerprint, self.split, self.class_names, self.skipped)

    def images(self, start: int, stop: int) -> Tensor:
        """Return the images from `start` to `stop`, uint8 [n, C, H, W]."""
        return self.pixels[start:stop]


def collect(source: Source, settings: Settings, split: str = "train") -> ImageArray:
    """Decode a small source into memory, without a cache on disk."""
    blocks = list(source.blocks(settings))
    pixels, labels = torch.cat([block.pixels for block in blocks]), torch.cat([block.labels for block in blocks])
    digest = hashlib.sha256(str(tuple(pixels.shape[1:])).encode())
    for block in blocks:
        digest.update(block.pixels.numpy().data)
    digest.update(labels.numpy().data)
    return ImageArray(pixels, labels, digest.hexdigest(), split, source.class_names)


def cached(
    source: Source, settings: Settings, cache: str | None = None, split: str = "train", threads: int | None = None
) -> ImageArray:
    """Open the cache of a source under these settings, after building it where there is none.

    Keyed by the source's files (names, sizes, times) and the settings. Processes that start together build it once.
    `cache` is a folder (None: $GAN_EXPERIMENTS_CACHE, else ~/.cache/gan_experiments). Raises ConfigError where the
    folder cannot be written, the disk is full, or no file is an image.
    """
    root = cache_root(cache)
    key = hashlib.sha256(json.dumps([VERSION, FILTER, asdict(settings), source.identity()]).encode()).hexdigest()[:16]
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in source.name)
    folder = root / f"{name}-{settings.resolution}x{settings.channels}-{key}"
    found = _try_open(folder, split)
    if found is not None:
        return found
    needed = len(source) * settings.channels * settings.resolution**2
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_process(root / f".{folder.name}.lock", f"the cache of {source.where}"):
            found = _try_open(folder, split)
            if found is None:
                _build(source, settings, folder, needed, threads or _cores())
                found = _open(folder, split)
            return found
    except OSError as error:
        raise ConfigError(
            f"the cache of {source.where} needs {_megabytes(needed)} in {root}: {error.strerror or error}; "
            "free some space there or type data.cache=<another folder>"
        ) from None


def cache_root(cache: str | None) -> Path:
    """Return the folder that holds all caches."""
    return Path(cache or os.environ.get("GAN_EXPERIMENTS_CACHE") or "~/.cache/gan_experiments").expanduser()


def _build(source: Source, settings: Settings, folder: Path, needed: int, threads: int) -> None:
    """Write everything into a folder beside, then rename it: a cache is whole or not there. Holds the lock."""
    for stale in folder.parent.glob(f"{folder.name}.tmp-*"):  # of a process that was killed: none but we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise OSError(0, f"{_megabytes(free)} are free")
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        began = time.monotonic()
        skipped: list[tuple[str, str]] = []
        labels: list[Tensor] = []
        digest = hashlib.sha256(str((settings.channels, settings.resolution, settings.resolution)).encode())
        with (
            open(work / "images.npy", "wb") as file,
            tqdm(total=len(source), desc=f"decoding {source.where}", unit=" images", delay=2, leave=False) as bar,
        ):
            _write_header(file, 0, settings)
            for block in source.blocks(settings, threads):
                pixels = block.pixels.numpy()
                file.write(pixels.data)
                digest.update(pixels.data)
                labels.append(block.labels)
                skipped += block.skipped
                bar.update(len(pixels) + len(block.skipped))
            number = sum(map(len, labels))
            file.seek(0)
            _write_header(file, number, settings)  # as long as before: numpy leaves room for any number
            _flush(file)
        if number == 0:
            first = "; ".join(f"{name}: {why}" for name, why in skipped[:1])
            key = source.where.partition("=")[0]
            raise ConfigError(
                f"none of the {len(source)} files of {source.where} is an image ({first}): "
                f"give a folder or a zip of images, {key}=..."
            )
        all_labels = torch.cat(labels).numpy()
        digest.update(all_labels.data)
        with open(work / "labels.npy", "wb") as file:
            np.save(file, all_labels)
            _flush(file)
        facts = {
            "source": source.where,
            "settings": {**asdict(settings), "filter": FILTER, "version": VERSION},
            "number": number,
            "class_names": source.class_names,
            "skipped": len(skipped),
            "skipped_files": dict(skipped[:NAMED]),
            "fingerprint": digest.hexdigest(),
        }
        with open(work / "facts.json", "wb") as file:
            file.write(json.dumps(facts, indent=1).encode())
            _flush(file)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one, or _try_open had opened it
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.info("cached %d images of %s in %.1f s: %s", number, source.where, time.monotonic() - began, folder)
    if skipped:
        named = ", ".join(f"{name} ({why})" for name, why in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        log.warning("left out %d of the %d files of %s: %s", len(skipped), len(source), source.where, named)


def _try_open(folder: Path, split: str) -> ImageArray | None:
    """Open a cache, or return None where there is none or it is damaged."""
    try:
        return _open(folder, split)
    except (OSError, ValueError, KeyError):
        return None


def _open(folder: Path, split: str, labelled: bool = True) -> ImageArray:
    facts = json.loads((folder / "facts.json").read_text())
    # Copy-on-write: torch takes no read-only arrays.
    pixels = torch.from_numpy(np.load(folder / "images.npy", mmap_mode="c"))
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    if len(pixels) != facts["number"] or len(labels) != facts["number"]:
        raise ValueError(f"{folder} is damaged")
    kept = labels if labelled else None
    return ImageArray(pixels, kept, facts["fingerprint"], split, facts["class_names"], facts["skipped"], folder)


def _write_header(file: BinaryIO, number: int, settings: Settings) -> None:
    shape = (number, settings.channels, settings.resolution, settings.resolution)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _only_process(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; a process that was killed holds it no longer."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that builds %s", what)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 32)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
