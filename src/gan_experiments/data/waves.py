"""Sounds of one length, with or without class labels: {"real", "label"}."""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments import sound
from gan_experiments.bounds import (
    BelowOne,
    Classes,
    Count,
    Depth,
    NotNegative,
    OneOf,
    Place,
    Positive,
    Seed,
    Width,
    Workers,
)
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.archives import Places
from gan_experiments.data.batches import CROP, ShuffledStream, Stream, generator
from gan_experiments.data.image_module import checked_classes, spread_rows
from gan_experiments.data.met import counted, lines
from gan_experiments.data.module import DataModule
from gan_experiments.data.recordings import WINDOWS, Form, Recordings, SoundFiles, cached, packed
from gan_experiments.data.sources import splits_of
from gan_experiments.data.splits import FOLDERS, Choice, Lists, Patterns
from gan_experiments.kinds import WAVE, Wave

DRUMS = Path(__file__).with_name("drums.npz")


class WaveStream(ShuffledStream):
    """Shuffled batches of recordings: "real" int16 [n, C, L] and, with classes, "label" int64 [n]."""

    def __init__(self, of: Recordings, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1) -> None:
        super().__init__(len(of), batch_size, seed, rank, world)
        self.data = of

    def batch(self, number: int) -> Batch:
        """Read this rank's rows of batch `number`; random windows begin where the seed and the number say."""
        rows, share = self.indices(number)[self._mine], None
        if self.data.window == "random":
            share = torch.rand(self.batch_size, generator=generator(self.seed, CROP, number))[self._mine]
        batch = {"real": self.data.read(rows, share)}
        if self.data.labels is not None:
            batch["label"] = self.data.labels[rows]
        return batch


class WaveData(DataModule):
    """A set of real sounds: "real" float [N, C, L] in [-1, 1] and, if `classes` > 0, "label" int64 [N].

    `length` is in samples, `rate` in samples per second; `channels` is 1 for mono and 2 for stereo. `batch_size` is the
    whole batch of one discriminator step over all ranks and accumulation steps. Raises ConfigError for impossible
    values.
    """

    provides: frozenset[str] = frozenset({"real", "label"})
    kind = WAVE

    def __init__(
        self,
        length: Width,
        rate: Count,
        channels: Annotated[int, OneOf(1, 2)] = 1,
        batch_size: Count = 64,
        classes: Classes = 0,
        workers: Workers = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if channels not in (1, 2):
            raise ConfigError(f"data.channels={channels}: sounds are mono or stereo, type data.channels=1 or 2")
        if length < 16:
            raise ConfigError(f"data.length={length}: a sound has 16 samples at least, type data.length=4096")
        if not 100 <= rate <= 192_000:
            raise ConfigError(f"data.rate={rate}: type samples per second from 100 to 192000, as data.rate=16000")
        self.length, self.rate, self.channels = length, rate, channels
        self.batch_size, self.classes, self.workers, self.seed = batch_size, classes, workers, seed
        self.kind = Wave(rate=float(rate))
        if not classes:
            self.provides = self.provides - {"label"}
        self._opened: dict[str, Recordings] = {}

    @abstractmethod
    def load(self, split: str) -> Recordings:
        """Build or open the sounds of one of `splits`."""

    def prepare_data(self) -> None:
        """Build the cache of the sounds to train on; Lightning calls it once a node."""
        self.training()

    def setup(self, stage: str | None = None) -> None:
        """Open the sounds to train on; raise ConfigError if they do not have `classes` classes."""
        self.training()

    def training(self) -> Recordings:
        """Return the sounds to train on."""
        return self.reference("train")

    def reference(self, split: str = "train") -> Recordings:
        """Return the real sounds of a split; raise ConfigError for an unknown split."""
        if split not in self.splits:
            raise ConfigError(f"{self.title} has no split {split!r}: type one of {', '.join(self.splits)}")
        if split not in self._opened:
            found = self.load(split)
            found.of_recordings = checked_classes(found, found.of_recordings, self.classes, self.title, "sound")
            self._opened[split] = found
        return self._opened[split]

    @property
    @override
    def fingerprint(self) -> str:
        return self.training().fingerprint

    @property
    def size(self) -> int:
        """The number of training items."""
        return len(self.training())

    @property
    @override
    def class_names(self) -> list[str]:
        return self.training().class_names

    @property
    @override
    def class_counts(self) -> list[int]:
        labels = self.training().labels
        return [] if labels is None else labels.bincount(minlength=self.classes).tolist()

    @override
    def describe(self) -> str:
        found = self.training()
        line = f"{self.title}: {len(found):,} sounds of {self.length:,} samples at {self.rate:,} Hz"
        line += f" ({self.length / self.rate:.2f} s), {'stereo' if self.channels == 2 else 'mono'}"
        line += f", {self.classes} classes" if self.classes else ""
        return line + (f", {counted(found.skipped)} left out" if found.skipped else "")

    @override
    def understood(self) -> list[str]:
        found = self.training()
        sizes = found.starts.diff()
        seconds = [float(value) / self.rate for value in (sizes.min(), sizes.double().median(), sizes.max())]
        least, middle, most = (f"{value:.2f}" for value in seconds)
        said = [f"{'lengths':10}{least} to {most} s, median {middle} s"]
        short = int((sizes < self.length).sum())
        said += [f"{'padded':10}{short:,} are shorter than {self.length:,} samples and end in silence"] if short else []
        counts = dict(zip(self.class_names, self.class_counts, strict=True)) if self.classes else {}
        return said + lines(len(found), counts, found.about, found.skipped)

    @override
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        return WaveStream(self.training(), self.batch_size, self.seed, rank, world)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Convert int16 "real" to float in [-1, 1], on the device where it is."""
        return {**batch, "real": sound.to_float(batch["real"])}

    def fixed(self, n: int) -> Batch:
        """Return `n` items, the same at each call: of labels 0, 1, 2, ... in turn, or without labels evenly spread."""
        found = self.training()
        if found.labels is None:
            return {"real": sound.to_float(found.read(spread_rows(n, len(found))))}
        present = found.labels.unique()
        return self.of_classes(present[torch.arange(n) % len(present)])

    @override
    def of_classes(self, labels: Tensor) -> Batch:
        found = self.training()
        assert found.labels is not None
        rows = torch.empty_like(labels)
        for c in labels.unique():
            members, places = (torch.nonzero(of == c)[:, 0] for of in (found.labels, labels))
            rows[places] = members[torch.arange(len(places)) % len(members)]
        return {"real": sound.to_float(found.read(rows)), "label": found.labels[rows]}


class Drums(WaveData):
    """105 drum hits of six classes that come with the package (drums.txt says from where), each at several speeds.

    Each hit is there `speeds` times, played slower and faster by up to `semitones` half tones, as samplers do. The
    packed hits have 11,025 samples a second, so that at 8,000 and fewer slower ones reach up to half the rate too.
    """

    def __init__(
        self,
        length: Width = 4096,
        rate: Count = 8000,
        classes: Classes = 6,
        speeds: Depth = 9,
        semitones: NotNegative = 4.0,
        **settings: Any,
    ) -> None:
        super().__init__(length, rate, classes=classes, **settings)
        if semitones > 24:
            raise ConfigError(f"data.semitones={semitones}: two octaves are the most, type data.semitones=4")
        self.speeds, self.semitones = speeds, semitones

    def load(self, split: str) -> Recordings:
        """Play the packed hits at all speeds, in memory: they are too few for a cache on disk."""
        with np.load(DRUMS) as file:
            steps, sizes, labels, names = (file[key] for key in ("steps", "sizes", "labels", "names"))
            packed_rate = int(file["rate"])
        hits = np.split(steps.astype(np.int16), np.cumsum(sizes)[:-1])
        hits = [np.cumsum(hit, dtype=np.int16) for hit in hits]  # differences pack better
        tones = [0.0] if self.speeds == 1 else np.linspace(-self.semitones, self.semitones, self.speeds).tolist()
        waves = [
            played(hit, sound.speed_of(packed_rate, self.rate, 2 ** (tone / 12)), self.length, self.channels)
            for hit in hits
            for tone in tones
        ]
        return packed(waves, labels.repeat(len(tones)).tolist(), self.length, "first", names.tolist(), split)


def played(hit: np.ndarray, speed: Fraction, length: int, channels: int) -> np.ndarray:
    """Return a recording int16 [L] played `speed` times as fast: int16 [at most `length`, channels]."""
    heard = sound.resampled(torch.from_numpy(hit).float()[None], speed)[:, :length]
    full = sound.FULL
    return heard.round().clamp(-full, full - 1).to(torch.int16).expand(channels, -1).T.contiguous().numpy()


class Waves(WaveData):
    """Sounds from a person's own files: wav, flac, ogg, mp3, aiff and whatever else libsndfile reads.

    Args:
        root: a folder or an archive, or several of these. Subfolders are classes, unless they are splits.
        length: samples of a window.
        rate: samples per second, to which files are resampled.
        window: which part of a file: "first", its beginning, for sounds that are one event; "random", a place drawn
            anew each time; "all", its windows one after another, each an item. What is shorter ends in silence.
        normalise: whether the loudest sample of each file becomes 1.
        shortest: seconds; a shorter file is left out.
        longest: seconds that are read of each file.
        limit: the greatest number of files used (None: all).
        cache: the folder of the decoded sounds (None: $GAN_EXPERIMENTS_CACHE, else ~/.cache/gan_experiments).
        include, exclude, classes_from, test_fraction, split_seed, split_list: as in `splits.Choice`.
        settings: the other arguments of `WaveData`.

    Raises ConfigError for impossible values.
    """

    splits = ("train", "test", "val")

    def __init__(
        self,
        root: Places,
        length: Width = 16384,
        rate: Count = 16000,
        window: Annotated[str, OneOf(*WINDOWS)] = "first",
        normalise: bool = False,
        shortest: Positive = 0.02,
        longest: Positive = 60.0,
        limit: Count | None = None,
        cache: Place | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        classes_from: Annotated[str, OneOf(*FOLDERS)] | Depth | None = None,
        test_fraction: BelowOne = 0.0,
        split_seed: Seed = 0,
        split_list: Lists = None,
        **settings: Any,
    ) -> None:
        super().__init__(length, rate, **settings)
        if window not in WINDOWS:
            raise ConfigError(f"data.window={window}: type data.window={' or '.join(WINDOWS)}")
        self.root, self.window, self.limit, self.cache = root, window, limit, cache
        kept = length if window == "first" else max(length, round(longest * rate))
        self.form = Form(rate, self.channels, kept, max(1, round(shortest * rate)), normalise)
        self.choice = Choice(include, exclude, classes_from, test_fraction, split_seed, split_list)

    def load(self, split: str) -> Recordings:
        """Build or open the cache of a split."""
        if split != "train" and split not in splits_of(self.root, self.choice):
            raise ConfigError(
                f"Waves has no split {split!r}: type data.test_fraction=0.1, or put its files into a folder {split}"
            )
        source = SoundFiles(self.root, "data.root", splits=(split,), limit=self.limit, choice=self.choice)
        return cached(source, self.form, self.length, self.window, self.cache, split)
