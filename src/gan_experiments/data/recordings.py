"""Recordings: sounds of any length, decoded once, of which windows of one length are trained on.

They are kept as 16 bits, one after another in one array, which comes from a package, or from a cache on disk that is
memory-mapped and verified as those of images are, see `cache.py`.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

from gan_experiments import sound
from gan_experiments.contracts import ConfigError
from gan_experiments.data.cache import (
    built_once,
    cache_root,
    cores,
    file_name,
    flush,
    last_bytes,
    read_facts,
    save,
    tell_skipped,
    write_facts,
)
from gan_experiments.data.limits import UnreadableImageError
from gan_experiments.data.met import About
from gan_experiments.data.sources import Files, load_blocks

log = logging.getLogger(__name__)

VERSION = 1  # raise it when the same files and settings would give other samples
WINDOWS = ("first", "random", "all")
SILENT = 1e-3
"""The greatest amplitude of a recording that is left out as silent: -60 dB."""
BLOCK = 256  # files decoded between two writes: bounds the memory
NAMED = 1000


@dataclass(frozen=True)
class Form:
    """The form that sounds get: `rate` in samples per second, `channels`, and what is kept of each file.

    Of a file the first `longest` samples are kept; one that has fewer than `shortest` is left out. With `normalise`
    its loudest sample becomes 1.
    """

    rate: int
    channels: int
    longest: int
    shortest: int = 1
    normalise: bool = False


class Recordings:
    """Real sounds: `samples` int16 [total, C], of which recording i is from `starts[i]` to `starts[i + 1]`.

    An item is a window of `length` samples, silent after the end of its recording. `window` says which: "first", the
    beginning of each recording; "random", a place that is drawn whenever it is read; "all", the windows one after
    another, each an item. `labels` is int64 [recordings] or None, `names` says where each comes from.
    """

    def __init__(
        self,
        samples: Tensor,
        starts: Tensor,
        labels: Tensor | None,
        length: int,
        window: str = "first",
        class_names: Sequence[str] = (),
        fingerprint: str = "",
        split: str = "train",
        skipped: int = 0,
        about: About | None = None,
        folder: Path | None = None,
    ) -> None:
        self.samples, self.starts, self.length, self.window = samples, starts, length, window
        self.of_recordings, self.class_names = labels, list(class_names)
        self.split, self.skipped, self.about, self.folder = split, skipped, about or About(), folder
        self.recording = torch.arange(len(starts) - 1)
        self.begin = torch.zeros_like(self.recording)
        sizes = starts.diff()
        if window == "all":
            counts = (sizes // length).clamp(min=1)
            self.recording = self.recording.repeat_interleave(counts)
            first = (counts.cumsum(0) - counts)[self.recording]
            self.begin = (torch.arange(len(self.recording)) - first) * length
        elif window == "random":
            self.begin = (sizes - length).clamp(min=0) // 2
        self.room = (sizes - length).clamp(min=0)[self.recording] if window == "random" else None
        self.fingerprint = hashlib.sha256(json.dumps([fingerprint, length, window]).encode()).hexdigest()
        self._of = fingerprint

    @property
    def labels(self) -> Tensor | None:
        """The class of each item, int64 [N]; None without classes."""
        return None if self.of_recordings is None else self.of_recordings[self.recording]

    def __len__(self) -> int:
        return len(self.recording)

    def __reduce__(self) -> Any:
        if self.folder is not None:
            return opened, (self.folder, self.length, self.window, self.split, self.of_recordings is not None)
        mine = self.samples, self.starts, self.of_recordings, self.length, self.window, self.class_names
        return Recordings, (*mine, self._of, self.split, self.skipped)

    def images(self, start: int, stop: int) -> Tensor:
        """Return the items from `start` to `stop`, int16 [n, C, length]; of random windows those in the middle."""
        return self.read(torch.arange(start, min(stop, len(self))))

    def read(self, rows: Tensor, share: Tensor | None = None) -> Tensor:
        """Return the items at `rows` int64 [n], int16 [n, C, length].

        `share` [n] in [0, 1) says where random windows begin, from the first possible place to the last.
        """
        begin = self.begin[rows]
        if share is not None and self.room is not None:
            begin = (share.double() * (self.room[rows] + 1)).long()
        recording = self.recording[rows]
        places = (self.starts[recording] + begin)[:, None] + torch.arange(self.length)
        inside = places < self.starts[recording + 1][:, None]
        found = self.samples[places.clamp(max=len(self.samples) - 1)]  # [n, length, C]
        return (found * inside[:, :, None]).transpose(1, 2).contiguous()


def packed(
    waves: Sequence[np.ndarray],
    labels: Sequence[int] | None,
    length: int,
    window: str,
    class_names: Sequence[str],
    split: str = "train",
) -> Recordings:
    """Return recordings int16 [L, C] that are in memory."""
    samples = torch.from_numpy(np.concatenate(waves))
    starts = torch.tensor([0, *np.cumsum([len(one) for one in waves])])
    known = None if labels is None else torch.tensor(labels)
    digest = _digest(samples.shape[1], starts)
    digest.update(samples.numpy().data)
    digest.update(b"" if known is None else known.numpy().data)
    return Recordings(samples, starts, known, length, window, class_names, digest.hexdigest(), split)


class SoundFiles(Files):
    """Files of sounds, in folders and archives as those of images; see `sources.Files`."""

    wanted = "give a folder or a zip archive of sounds, {key}=..."

    def decoded(self, form: Form, threads: int) -> Iterator[tuple[list[np.ndarray], list[int], list[tuple[str, str]]]]:
        """Yield recordings int16 [L, C], their labels, and the files left out and why, some at a time."""
        for start, results in load_blocks(lambda row: decode(self.read(row), form), len(self), threads, BLOCK):
            waves: list[np.ndarray] = []
            labels: list[int] = []
            skipped = []
            for row, found in enumerate(results, start):
                if isinstance(found, str):
                    skipped.append((self.file(row), found))
                else:
                    waves.append(found)
                    labels.append(self.label(row))
            yield waves, labels, skipped

    @override
    def _has_image(self, label: int) -> bool:
        form = Form(8000, 1, 8000)
        for name in (name for name, of in self._others if of == label):
            try:
                decode(self._read(name), form)
            except (UnreadableImageError, OSError, RuntimeError):
                continue
            return True
        return False


def decode(raw: bytes, form: Form, silent: bool = False) -> np.ndarray:
    """Decode a file's bytes (wav, flac, ogg, mp3, aiff, ...) to int16 [L, C].

    Stereo becomes mono by the mean of its channels, and mono stereo by doubling it. Raises UnreadableImageError if it
    is no sound, is too short or, unless `silent` ones are wanted, silent; and ConfigError without soundfile.
    """
    soundfile = require_soundfile()
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            rate = int(file.samplerate)
            needed = -(-form.longest * rate // form.rate) + rate // 50  # a little more, for the filter
            heard = file.read(needed, dtype="float32", always_2d=True)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        said = str(error).rpartition(": ")[2].rstrip(".") or type(error).__name__
        raise UnreadableImageError(f"no sound: {said}") from None
    if not np.isfinite(heard).all():
        raise UnreadableImageError("holds samples that are not finite")
    channels = heard.shape[1]
    if channels != form.channels:
        if form.channels == 1:
            heard = heard.mean(axis=1, keepdims=True)
        elif channels == 1:
            heard = heard.repeat(form.channels, axis=1)
        else:
            raise UnreadableImageError(f"has {channels} channels")
    heard = sound.resampled(torch.from_numpy(heard.T.copy()), sound.speed_of(rate, form.rate)).T.numpy()[: form.longest]
    if len(heard) < form.shortest:
        raise UnreadableImageError(f"too short, {len(heard) / form.rate:.3f} s")
    loudest = float(np.abs(heard).max())
    if loudest < SILENT and not silent:
        raise UnreadableImageError("silent")
    if form.normalise and loudest:
        heard = heard / loudest
    full = sound.FULL
    return np.ascontiguousarray(np.rint(heard * full).clip(-full, full - 1).astype(np.int16))


def require_soundfile() -> Any:
    """Return the module soundfile; raise ConfigError if it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise ConfigError(
            f"files of sounds are read by soundfile, which is not here ({error}): pip install"
            " 'gan-experiments[audio]', or type data=drums"
        ) from None
    return soundfile


def cached(
    source: SoundFiles, form: Form, length: int, window: str, cache: str | None = None, split: str = "train"
) -> Recordings:
    """Open the cache of a source in this form; build it if there is none, see `cache.built_once`."""
    require_soundfile()
    key = hashlib.sha256(json.dumps([VERSION, asdict(form), source.identity()]).encode()).hexdigest()[:16]
    folder = cache_root(cache) / f"{file_name(source.name)}-{form.rate}hz-{key}"

    def verify(found: Recordings) -> None:
        facts = read_facts(folder)
        digest = _digest(found.samples.shape[1], found.starts)
        for part in last_bytes(folder / "samples.npy", 2 * found.samples.numel()):
            digest.update(part)
        digest.update(found.of_recordings.numpy().data if found.of_recordings is not None else b"")
        if digest.hexdigest() != facts["fingerprint"]:
            raise ValueError("its content is not what was written")

    found = built_once(
        folder,
        f"the cache of {source.where}",
        0,
        lambda work: _build(source, form, work),
        lambda: opened(folder, length, window, split),
        verify,
    )
    found.about.notes = [*source.notes]
    return found


def _build(source: SoundFiles, form: Form, work: Path) -> None:
    began = time.monotonic()
    labels: list[int] = []
    sizes: list[int] = []
    skipped: list[tuple[str, str]] = []
    bar = tqdm(total=len(source), desc=f"decoding {source.where}", unit=" sounds", delay=2, leave=False)
    with open(work / "samples.npy", "wb") as file, bar:
        _write_header(file, 0, form.channels)
        for waves, of, left_out in source.decoded(form, cores()):
            for one in waves:
                file.write(one.data)
            sizes += map(len, waves)
            labels += of
            skipped += left_out
            bar.update(len(waves) + len(left_out))
        file.seek(0)
        _write_header(file, sum(sizes), form.channels)
        flush(file)
    if not sizes:
        first = "; ".join(f"{name}: {why}" for name, why in skipped[:1])
        key = source.where.partition("=")[0]
        raise ConfigError(
            f"none of the {len(source)} files of {source.where} is a sound ({first}): {source.wanted.format(key=key)}"
        )
    kept, class_names, empty = source.without_empty(torch.tensor(labels))
    starts = torch.tensor([0, *np.cumsum(sizes)])
    digest = _digest(form.channels, starts)
    for part in last_bytes(work / "samples.npy", 2 * sum(sizes) * form.channels):
        digest.update(part)
    digest.update(kept.numpy().data)
    save(work / "labels.npy", kept.numpy())
    save(work / "starts.npy", starts.numpy())
    facts = {
        "source": source.where,
        "form": {**asdict(form), "version": VERSION},
        "number": len(sizes),
        "class_names": class_names,
        "empty_classes": empty,
        "skipped": len(skipped),
        "skipped_files": dict(skipped[:NAMED]),
        "fingerprint": digest.hexdigest(),
    }
    write_facts(work, facts)
    log.info("cached %d sounds of %s in %.1f s: %s", len(sizes), source.where, time.monotonic() - began, work.parent)
    tell_skipped(source, skipped)


def opened(folder: Path, length: int, window: str, split: str, labelled: bool = True) -> Recordings:
    """Open a cache; raise ValueError if it does not hold what it says."""
    facts = read_facts(folder)
    samples = torch.from_numpy(np.load(folder / "samples.npy", mmap_mode="c"))  # torch takes no read-only arrays
    starts, labels = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("starts", "labels"))
    if (len(starts), len(labels)) != (facts["number"] + 1, facts["number"]) or int(starts[-1]) != len(samples):
        raise ValueError(f"samples.npy does not hold {facts['number']} recordings")
    kept = labels if labelled else None
    about, names = About.of(facts), facts["class_names"]
    return Recordings(
        samples, starts, kept, length, window, names, facts["fingerprint"], split, facts["skipped"], about, folder
    )


def _digest(channels: int, starts: Tensor) -> Any:
    return hashlib.sha256(json.dumps([channels, starts.tolist()]).encode())


def _write_header(file: Any, number: int, channels: int) -> None:
    head = {"descr": "<i2", "fortran_order": False, "shape": (number, channels)}
    np.lib.format.write_array_header_1_0(file, head)
