"""Images decoded once, kept on disk as memory-mapped uint8 [N, C, H, W].

Before a cache is used, its content is compared with its fingerprint. That is skipped if it was done within a day and
the files have not changed since (sizes, times, inodes), so all ranks of a run and all jobs of a sweep do it once.
SHA-256 does 1.1 GB a CPU-second (2026-11-28, AMD EPYC): 60,000 images 3x32x32 take 0.17 s, 200,000 of 3x64x64 take
2.2 s. A damaged cache is built again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.decode import FILTER
from gan_experiments.data.met import About
from gan_experiments.data.sources import Settings, Source
from gan_experiments.files import write_text

VERSION = 1  # raise it when the same files and settings would give other pixels
NAMED = 1000  # how many of the files left out are named in facts.json
VERIFIED = "verified.json"
DAY = 86_400.0  # seconds for which a verification counts: a disk can corrupt a file that nobody writes

T = TypeVar("T")

log = logging.getLogger(__name__)


class ImageArray:
    """Real images: uint8 [N, C, H, W], with a fingerprint of pixels and labels.

    `labels` is int64 [N] (-1: in no class) or None; `skipped` counts the files that were left out; `about` describes
    the others. If it comes from a cache `folder` it is memory-mapped, and a copy in another process opens the same
    file.
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
        about: About | None = None,
    ) -> None:
        self.pixels, self.labels, self.fingerprint, self.split = pixels, labels, fingerprint, split
        self.class_names, self.skipped, self.folder = class_names or [], skipped, folder
        self.about = about or About()

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
    digest = _begin_digest(pixels.shape[1:])
    for block in blocks:
        digest.update(block.pixels.numpy().data)
    digest.update(labels.numpy().data)
    return ImageArray(pixels, labels, digest.hexdigest(), split, source.class_names)


def cached(
    source: Source, settings: Settings, cache: str | None = None, split: str = "train", threads: int | None = None
) -> ImageArray:
    """Open the cache of a source with these settings; build it if there is none.

    Its key is the source's files (names, sizes, times) and the settings. Processes that start together build it once.
    `cache` is a folder (None: $GAN_EXPERIMENTS_CACHE, else ~/.cache/gan_experiments). Raises ConfigError if the folder
    cannot be written, the disk is full, or no file is an image.
    """
    with limits.at_most(settings.max_pixels):
        pixels = "x".join(map(str, dict.fromkeys(settings.shape[1:])))  # 64, or 64x256
        name = f"{file_name(source.name)}-{pixels}x{settings.channels}-{key_of(settings.plain(), source)}"
        folder = cache_root(cache) / name
        return _cached(source, settings, folder, split, threads or cores())


def _cached(source: Source, settings: Settings, folder: Path, split: str, threads: int) -> ImageArray:
    needed = len(source) * math.prod(settings.shape)

    def verify(images: ImageArray) -> None:
        left = images.about.empty
        if images.pixels.shape[1:] != settings.shape:
            raise ValueError("it is of other images")
        if source.classes_known and images.class_names != [name for name in source.class_names if name not in left]:
            raise ValueError("it is of other classes")
        if not images.about.met and images.labels is not None and source.without_empty(images.labels)[2]:
            raise ValueError("it is of a time when folders without an image were classes")
        digest = _begin_digest(settings.shape)
        for part in last_bytes(folder / "images.npy", images.pixels.numel()):
            digest.update(part)
        if images.labels is not None:
            digest.update(images.labels.numpy().data)
        if digest.hexdigest() != images.fingerprint:
            raise ValueError("its content is not what was written")

    what = f"the cache of {source.where}"
    images = built_once(
        folder,
        what,
        needed,
        lambda work: _build(source, settings, work, threads),
        lambda: _open(folder, split),
        verify,
    )
    images.about.notes = [*source.notes]
    return images


def key_of(settings: dict[str, Any], source: Source) -> str:
    """Return a hash of settings and files, which is part of a cache's name."""
    limit = [] if limits.pixels() == limits.PIXELS else [limits.pixels()]  # another one leaves out other files
    key = [VERSION, FILTER, settings, source.identity(), *limit]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]


def file_name(name: str) -> str:
    """Return a name in which characters that a file's name may not have are replaced."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def built_once(
    folder: Path,
    what: str,
    needed: int,
    build: Callable[[Path], None],
    open_it: Callable[[], T],
    verify: Callable[[T], None],
) -> T:
    """Open the cache in `folder` by `open_it()`; if there is none or it is damaged, first write it by `build(work)`.

    `verify` raises an error if the content is not what was written. Of processes that start together one builds, and
    one verifies. The cache is written into a folder beside, then renamed: it is complete or not there. `needed` is its
    size in bytes, 0 if that is not known. Raises ConfigError if the folder cannot be written or the disk is full.
    """
    if _is_verified(folder):
        found = _try_open(folder, open_it)[0]
        if found is not None:
            return found
    root = folder.parent
    try:
        if folder.is_dir() and not os.access(root, os.W_OK):  # nobody can lock, mark or build anything there
            attempt = _try_open(folder, open_it, verify)
            if attempt[0] is None:
                raise OSError(errno.EROFS, f"it is damaged ({attempt[1]}), and nothing can be written there")
            return attempt[0]
        root.mkdir(parents=True, exist_ok=True)
        with _only_process(root / f".{folder.name}.lock", what):
            now = _try_open(folder, open_it, (lambda _: None) if _is_verified(folder) else verify)  # by others by now
            found = now[0]
            if found is None:
                if now[1]:
                    log.warning("%s is damaged (%s) and is built again", what, now[1])
                _write(folder, needed, build)
                found = open_it()
            _mark_verified(folder)
            return found
    except OSError as error:
        raise ConfigError(
            f"{what} {f'needs {_megabytes(needed)}' if needed else 'cannot lie'} in {root}: {error.strerror or error}; "
            "free some space there or type data.cache=<another folder>"
        ) from None


def _try_open(
    folder: Path, open_it: Callable[[], T], verify: Callable[[T], None] = lambda found: None
) -> tuple[T | None, str]:
    """Return an opened cache and ""; None and "" if there is none; None and the reason if it is damaged."""
    if not folder.is_dir():
        return None, ""
    try:
        found = open_it()
        verify(found)
    except Exception as error:  # a damaged file makes its reader raise anything
        return None, " ".join(str(error).split())[:120] or type(error).__name__
    return found, ""


def _state(folder: Path) -> dict[str, list[int]]:
    """Return by name what changes when a file of a cache is written: size, times and inode."""
    found = {}
    for path in folder.iterdir():
        if path.name != VERIFIED and not path.name.startswith("."):
            status = path.stat()
            found[path.name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return found


def _is_verified(folder: Path) -> bool:
    """Return True if a cache was verified within a DAY and has not changed since."""
    mark = folder / VERIFIED
    try:
        recent = abs(time.time() - mark.stat().st_mtime) < DAY
        return recent and json.loads(mark.read_text()) == _state(folder)
    except (OSError, ValueError):
        return False


def _mark_verified(folder: Path) -> None:
    """Record that a cache was verified; if the disk is full, it will be verified again the next time."""
    if not _is_verified(folder):
        with suppress(OSError):
            write_text(folder / VERIFIED, json.dumps(_state(folder)))


def verifying(folder: Path, number: int) -> Any:
    """Return a progress bar over the bytes of a cache."""
    return tqdm(total=number, desc=f"verifying {folder.name}", unit="B", unit_scale=True, delay=2, leave=False)


def last_bytes(path: Path, number: int) -> Iterator[bytes]:
    """Yield the last `number` bytes of a file, some at a time."""
    with open(path, "rb") as file, verifying(path.parent, number) as bar:
        file.seek(-number, os.SEEK_END)
        while part := file.read(1 << 20):
            yield part
            bar.update(len(part))


def cache_root(cache: str | None) -> Path:
    """Return the folder that holds all caches."""
    return Path(cache or os.environ.get("GAN_EXPERIMENTS_CACHE") or "~/.cache/gan_experiments").expanduser()


def _write(folder: Path, needed: int, build: Callable[[Path], None]) -> None:
    """Build in a folder beside, then rename it. The caller must hold the lock."""
    for stale in folder.parent.glob(f"{folder.name}.tmp-*"):  # of a process that was killed: only we hold the lock
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
    digest = _begin_digest(settings.shape)
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
    kept, class_names, empty = source.without_empty(torch.cat(labels))
    all_labels = kept.numpy()
    digest.update(all_labels.data)
    save(work / "labels.npy", all_labels)
    met = source.facts(source.frames)
    if source.reading is not None and settings.crop is None:
        met |= source.reading.met.fitted(settings.resolution, settings.fit, source.across)
    facts = {
        "source": source.where,
        "settings": {**settings.plain(), "filter": FILTER, "version": VERSION},
        "number": number,
        "class_names": class_names,
        "empty_classes": empty,
        "met": met,
        "skipped": len(skipped),
        "skipped_files": dict(skipped[:NAMED]),
        "fingerprint": digest.hexdigest(),
    }
    write_facts(work, facts)
    log.info("cached %d images of %s in %.1f s: %s", number, source.where, time.monotonic() - began, work.parent)
    tell_skipped(source, skipped)


def progress(source: Source) -> Any:
    """Return a progress bar over a source's images."""
    return tqdm(total=len(source) or None, desc=f"decoding {source.where}", unit=" images", delay=2, leave=False)


def require_images(source: Source, number: int, skipped: list[tuple[str, str]]) -> None:
    """Raise ConfigError if a source gave no image, or images as `Met.require_shown` refuses them."""
    if number == 0:
        first = "; ".join(f"{name}: {why}" for name, why in skipped[:1])
        key = source.where.partition("=")[0]
        some = f"{len(source)} {source.items}" if len(source) else source.items
        reason = f" ({first})" if first else ""
        raise ConfigError(f"none of the {some} of {source.where} is an image{reason}: {source.wanted.format(key=key)}")
    if source.reading is not None and source.reading.bounds is None and source.reading.window is None:
        source.reading.met.require_shown(source.where)


def tell_skipped(source: Source, skipped: list[tuple[str, str]]) -> None:
    """Warn of the files that were left out, by name."""
    if skipped:
        named = ", ".join(f"{name} ({why})" for name, why in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        log.warning("left out %d of the %d %s of %s: %s", len(skipped), len(source), source.items, source.where, named)


def save(path: Path, array: np.ndarray) -> None:
    """Write an array and flush it to the disk."""
    with open(path, "wb") as file:
        np.save(file, array)
        flush(file)


def write_facts(work: Path, facts: dict[str, Any]) -> None:
    """Write facts.json with a checksum of its content, and flush it to the disk."""
    with open(work / "facts.json", "wb") as file:
        file.write(json.dumps({**facts, "checksum": _checksum(facts)}, indent=1).encode())
        flush(file)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read facts.json; raise ValueError if it is not what was written."""
    facts = json.loads((folder / "facts.json").read_text())
    if not isinstance(facts, dict):
        raise ValueError("facts.json holds something else")
    checksum = facts.pop("checksum", None)  # caches of before 2026-11-28 have none
    if checksum not in (None, _checksum(facts)):
        raise ValueError("facts.json is not what was written")
    return facts


def _checksum(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _open(folder: Path, split: str, labelled: bool = True) -> ImageArray:
    facts = read_facts(folder)
    # Copy-on-write: torch takes no read-only arrays.
    images, labels = np.load(folder / "images.npy", mmap_mode="c"), np.load(folder / "labels.npy")
    number = facts["number"]
    if (images.dtype, len(images)) != (np.uint8, number) or images.ndim not in (4, 5):
        raise ValueError(f"images.npy does not hold {number} images")
    if (labels.dtype, labels.shape) != (np.int64, (number,)):
        raise ValueError(f"labels.npy does not hold {number} labels")
    kept = torch.from_numpy(labels) if labelled else None
    pixels = torch.from_numpy(images)
    names, skipped = facts["class_names"], facts["skipped"]
    return ImageArray(pixels, kept, facts["fingerprint"], split, names, skipped, folder, About.of(facts))


def _begin_digest(shape: Sequence[int]) -> Any:
    """Begin a fingerprint of images of one shape, to be updated with their pixels and then their labels."""
    return hashlib.sha256(str(tuple(shape)).encode())


def _write_header(file: BinaryIO, number: int, settings: Settings) -> None:
    shape = (number, *settings.shape)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def flush(file: BinaryIO) -> None:
    """Flush what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _only_process(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; it is released even if the process is killed."""
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
