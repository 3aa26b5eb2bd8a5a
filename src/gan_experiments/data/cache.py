"""Images decoded once, kept on disk as memory-mapped uint8 [N, C, H, W]."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

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

T = TypeVar("T")

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
    name = f"{file_name(source.name)}-{settings.resolution}x{settings.channels}-{key_of(asdict(settings), source)}"
    folder = cache_root(cache) / name
    needed = len(source) * settings.channels * settings.resolution**2

    def build(work: Path) -> None:
        _build(source, settings, work, threads or cores())

    return built_once(folder, f"the cache of {source.where}", needed, build, lambda: _open(folder, split))


def key_of(settings: dict[str, Any], source: Source) -> str:
    """Return what a cache's name tells settings and files apart by."""
    return hashlib.sha256(json.dumps([VERSION, FILTER, settings, source.identity()]).encode()).hexdigest()[:16]


def file_name(name: str) -> str:
    """Return a name with what a file's name may not hold replaced."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def built_once(folder: Path, what: str, needed: int, build: Callable[[Path], None], open_it: Callable[[], T]) -> T:
    """Open what lies in `folder`, after `build(work)` wrote it where there is none, or a damaged one.

    Processes that start together build it once. It is written into a folder beside, then renamed: it is whole or not
    there. `needed` is its size in bytes, 0 where that is not known. Raises ConfigError where the folder cannot be
    written or the disk is full.
    """
    found = _try_open(open_it)
    if found is not None:
        return found
    root = folder.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_process(root / f".{folder.name}.lock", what):
            found = _try_open(open_it)
            if found is None:
                _write(folder, needed, build)
                found = open_it()
            return found
    except OSError as error:
        raise ConfigError(
            f"{what} {f'needs {_megabytes(needed)}' if needed else 'cannot lie'} in {root}: {error.strerror or error}; "
            "free some space there or type data.cache=<another folder>"
        ) from None


def cache_root(cache: str | None) -> Path:
    """Return the folder that holds all caches."""
    return Path(cache or os.environ.get("GAN_EXPERIMENTS_CACHE") or "~/.cache/gan_experiments").expanduser()


def _write(folder: Path, needed: int, build: Callable[[Path], None]) -> None:
    """Build in a folder beside, then rename it. Holds the lock."""
    for stale in folder.parent.glob(f"{folder.name}.tmp-*"):  # of a process that was killed: none but we hold the lock
        shutil.rmtree(stale, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise OSError(0, f"{_megabytes(free)} are free")
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        build(work)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one, or _try_open had opened it
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build(source: Source, settings: Settings, work: Path, threads: int) -> None:
    """Write images.npy, labels.npy and facts.json."""
    began = time.monotonic()
    skipped: list[tuple[str, str]] = []
    labels: list[Tensor] = []
    digest = hashlib.sha256(str((settings.channels, settings.resolution, settings.resolution)).encode())
    with open(work / "images.npy", "wb") as file, progress(source) as bar:
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
        flush(file)
    require_images(source, number, skipped)
    all_labels = torch.cat(labels).numpy()
    digest.update(all_labels.data)
    save(work / "labels.npy", all_labels)
    facts = {
        "source": source.where,
        "settings": {**asdict(settings), "filter": FILTER, "version": VERSION},
        "number": number,
        "class_names": source.class_names,
        "skipped": len(skipped),
        "skipped_files": dict(skipped[:NAMED]),
        "fingerprint": digest.hexdigest(),
    }
    write_facts(work, facts)
    log.info("cached %d images of %s in %.1f s: %s", number, source.where, time.monotonic() - began, work.parent)
    tell_skipped(source, skipped)


def progress(source: Source) -> Any:
    """Return a bar over a source's images."""
    return tqdm(total=len(source), desc=f"decoding {source.where}", unit=" images", delay=2, leave=False)


def require_images(source: Source, number: int, skipped: list[tuple[str, str]]) -> None:
    """Raise ConfigError where a source gave no image."""
    if number == 0:
        first = "; ".join(f"{name}: {why}" for name, why in skipped[:1])
        key = source.where.partition("=")[0]
        raise ConfigError(
            f"none of the {len(source)} files of {source.where} is an image ({first}): "
            f"give a folder or a zip of images, {key}=..."
        )


def tell_skipped(source: Source, skipped: list[tuple[str, str]]) -> None:
    """Name the files that were left out."""
    if skipped:
        named = ", ".join(f"{name} ({why})" for name, why in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        log.warning("left out %d of the %d files of %s: %s", len(skipped), len(source), source.where, named)


def save(path: Path, array: np.ndarray) -> None:
    """Write an array so that it is on the disk."""
    with open(path, "wb") as file:
        np.save(file, array)
        flush(file)


def write_facts(work: Path, facts: dict[str, Any]) -> None:
    """Write facts.json so that it is on the disk."""
    with open(work / "facts.json", "wb") as file:
        file.write(json.dumps(facts, indent=1).encode())
        flush(file)


def _try_open(open_it: Callable[[], T]) -> T | None:
    """Open a cache, or return None where there is none or it is damaged."""
    try:
        return open_it()
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


def flush(file: BinaryIO) -> None:
    """Have what was written on the disk."""
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


def cores() -> int:
    """Count the processors that this process may use, at most 32."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, 32)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
