"""Score a generator: one pass over fake images, one (kept on disk) over real ones, every score from the two."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Protocol

import torch
from torch import Tensor

from gan_experiments import __version__
from gan_experiments.contracts import ConfigError, higher_is_better  # noqa: F401  (for those who look for it here)
from gan_experiments.data.cache import cache_root
from gan_experiments.images import to_uint8
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.ranks import Ranks, cpu_threads
from gan_experiments.metrics.real_statistics import RealStatistics
from gan_experiments.metrics.scores import frechet_distance, inception_score, kernel_distance, moments

SCORES = ("fid", "kid", "is")
KID_SUBSETS, KID_SUBSET_SIZE, IS_SPLITS = 100, 1000, 10
LIBRARIES = ("torch", "torchvision", "torchmetrics", "torch-fidelity")

Values = dict[str, tuple[float, float | None]]


class RealImages(Protocol):
    """What the evaluator asks of real images; `fingerprint` is another one whenever their content is."""

    @property
    def fingerprint(self) -> str:
        """A name of the content."""

    @property
    def split(self) -> str:
        """The name of the split: "train", ..."""

    def __len__(self) -> int: ...

    def images(self, start: int, stop: int) -> Tensor:
        """Return uint8 images [stop - start, C, H, W]."""


@dataclass(frozen=True)
class Score:
    """A number, its spread where it has one, and what a reader must know before comparing it."""

    name: str
    value: float
    std: float | None
    passport: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, for JSON."""
        return asdict(self)


class Evaluator:
    """Compute FID, KID and the Inception Score of a generator, the same to the last bit on any number of ranks.

    `scores` are among "fid", "kid" and "is". `num_fake` images are compared with all real ones of the split named
    `split` (or `num_real` of them, drawn by `seed`), for which the caller asks the data module. `batch_size` images go
    through the extractor at a time, on each rank. The real features are kept under `cache`, by default
    $GAN_EXPERIMENTS_CACHE, else ~/.cache/gan_experiments. `threads` is the number that each rank computes with on a
    CPU, where the last bits depend on it; None leaves it alone. Raises ConfigError for an unknown score or too few
    images.
    """

    def __init__(
        self,
        extractor: Extractor,
        scores: Sequence[str] = SCORES,
        num_fake: int = 10_000,
        num_real: int | None = None,
        split: str = "train",
        batch_size: int = 100,
        cache: str | None = None,
        seed: int = 0,
        threads: int | None = 1,
    ) -> None:
        faults = []
        if not scores or set(scores) - set(SCORES):
            faults.append(f"metrics.scores=[{','.join(scores)}]: type some of [{','.join(SCORES)}], or metrics=none")
        least = {
            "num_fake": (num_fake, 2),
            "num_real": (num_real, 2),
            "batch_size": (batch_size, 1),
            "threads": (threads, 1),
        }
        for key, (given, needed) in least.items():
            if given is not None and given < needed:
                faults.append(f"metrics.{key}={given} is too few: type metrics.{key}={needed} or more")
        if faults:
            raise ConfigError(*faults)
        self.extractor = extractor
        self.scores = tuple(scores)
        self.num_fake = num_fake
        self.num_real = num_real
        self.split = split
        self.batch_size = batch_size
        self.cache = cache_root(cache) / "features"
        self.seed = seed
        self.threads = threads

    def evaluate(
        self,
        sample: Callable[[int, int], Tensor],
        real: RealImages,
        device: torch.device | str,
        *,
        rank: int = 0,
        world_size: int = 1,
        ema: bool,
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Score]:
        """Return by name, on every rank, the scores of the images [n, C, H, W] in [-1, 1] made by `sample(index, n)`.

        `sample` must depend on nothing but its arguments: chunk `index` holds the images from index * batch_size on,
        and rank r makes the chunks r, r + world_size, ... . `ema` says whether the generator is the averaged one,
        `extra` joins the passport. All ranks of the default process group call this together. Images that are not
        finite score NaN. Raises ConfigError where there are fewer than two real images.
        """
        ranks = Ranks(rank, world_size, torch.device(device))
        rows = self._real_rows(real)
        self.extractor.to(ranks.device)
        values: Values | Exception = {}
        with cpu_threads(self.threads):
            statistics = self._real_statistics(real, rows, ranks)
            table = self._pass(sample, self.num_fake, ranks)
            if statistics is not None:
                try:
                    values = self._values(table, statistics)
                except Exception as error:  # the other ranks wait for an answer
                    values = error
        values = ranks.tell(values)
        if isinstance(values, Exception):
            raise values
        passport = self._passport(real, len(rows), ema) | dict(extra or {})
        return {
            name + self.extractor.suffix: Score(
                name + self.extractor.suffix, value, std, passport | self._notes(name, value, len(rows))
            )
            for name, (value, std) in values.items()
        }

    def _real_rows(self, real: RealImages) -> Sequence[int]:
        number = len(real) if self.num_real is None else min(self.num_real, len(real))
        if number < 2:
            raise ConfigError(
                f"the split {real.split} holds {number} images: give it two or more, or type metrics=none"
            )
        if number == len(real):
            return range(number)
        generator = torch.Generator().manual_seed(self.seed)
        return sorted(torch.randperm(len(real), generator=generator)[:number].tolist())

    def _real_statistics(self, real: RealImages, rows: Sequence[int], ranks: Ranks) -> RealStatistics | None:
        """Load or compute them, together; rank 0 alone has them in the end."""
        which = len(rows) if isinstance(rows, range) else list(rows)
        key = [
            real.fingerprint,
            real.split,
            self.extractor.name,
            self.extractor.weights_hash,
            self.extractor.resize,
            which,
        ]
        path = self.cache / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.pt"
        statistics = RealStatistics.load(path, ranks.scoring_place) if ranks.rank == 0 else None
        if ranks.tell(statistics is not None):
            return statistics

        def chunk(index: int, n: int) -> Tensor:
            start = index * self.batch_size
            if isinstance(rows, range):
                return real.images(start, start + n)
            return torch.cat([real.images(row, row + 1) for row in rows[start : start + n]])

        table = self._pass(chunk, len(rows), ranks)
        if ranks.rank != 0:
            return None
        statistics = RealStatistics.of(table[:, : self.extractor.features].clone())
        statistics.save(path)
        return statistics

    def _pass(self, chunk: Callable[[int, int], Tensor], total: int, ranks: Ranks) -> Tensor:
        """Return features and logits [total, D + K] in the order of the chunks; complete on rank 0 alone."""
        width = self.extractor.features + self.extractor.classes
        table = torch.zeros(total, width, dtype=torch.float32, device=ranks.meeting_place)
        starts = range(0, total, self.batch_size)
        for index in range(ranks.rank, len(starts), ranks.world_size):
            part = table[starts[index] : starts[index] + self.batch_size]  # the last one may be shorter
            with torch.no_grad():
                images = chunk(index, len(part))
            assert len(images) == len(part), f"chunk {index} holds {len(images)} images, not {len(part)}"
            finite = images.isfinite().flatten(1).all(dim=1, keepdim=True)  # uint8 would hide it
            pixels = to_uint8(images) if images.is_floating_point() else images
            found = torch.cat(self.extractor.extract(pixels.to(ranks.device)), dim=1)
            part.copy_(found.where(finite.to(ranks.device), torch.nan))
        return ranks.collect(table).to(ranks.scoring_place)

    def _values(self, table: Tensor, real: RealStatistics) -> Values:
        fake, logits = table.split([self.extractor.features, self.extractor.classes], dim=1)
        if not table.isfinite().all():
            return dict.fromkeys(self.scores, (math.nan, None))
        values: Values = {}
        for name in self.scores:
            generator = torch.Generator().manual_seed(self.seed)
            if name == "fid":
                values[name] = frechet_distance(real.mean, real.cov, *moments(fake)), None
            elif name == "kid":
                values[name] = kernel_distance(real.features, fake, KID_SUBSETS, KID_SUBSET_SIZE, generator)
            else:
                values[name] = inception_score(logits, IS_SPLITS, generator)
        return values

    def _passport(self, real: RealImages, num_real: int, ema: bool) -> dict[str, Any]:
        return {
            "extractor": self.extractor.name,
            "weights_hash": self.extractor.weights_hash,
            "resize": self.extractor.resize,
            "num_fake": self.num_fake,
            "num_real": num_real,
            "split": real.split,
            "real_fingerprint": real.fingerprint,
            "ema": ema,
            "seed": self.seed,
            "versions": {**{library: version(library) for library in LIBRARIES}, "gan-experiments": __version__},
        }

    def _notes(self, name: str, value: float, num_real: int) -> dict[str, Any]:
        """Say how the score `name` was estimated, and what speaks against trusting it."""
        size = min(KID_SUBSET_SIZE, self.num_fake, num_real)
        estimator = {
            "fid": "squared Frechet distance of Gaussians, unbiased covariances",
            "kid": f"unbiased MMD^2, kernel (x.y/D+1)^3, mean and std over {KID_SUBSETS} subsets of {size}",
            "is": f"mean and std over {min(IS_SPLITS, self.num_fake)} parts of the shuffled fake images",
        }[name]
        doubts = []
        if name == "fid" and min(self.num_fake, num_real) < self.extractor.features:
            doubts.append(f"fewer images than feature dimensions ({self.extractor.features})")
        if math.isnan(value):
            doubts.append("some fake images are not finite")
        return {"estimator": estimator, "warnings": doubts}
