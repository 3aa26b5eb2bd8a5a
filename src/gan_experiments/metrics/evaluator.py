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
from gan_experiments.metrics.neighbours import RARE, neighbour_scores
from gan_experiments.metrics.ranks import Ranks, cpu_threads
from gan_experiments.metrics.real_statistics import RealStatistics, alone
from gan_experiments.metrics.scores import frechet_distance, inception_score, kernel_distance, moments

OF_NEIGHBOURS = ("precision", "recall", "density", "coverage", "memorised")
SCORES = ("fid", "kid", "is", *OF_NEIGHBOURS)
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
    """Compute the scores of a generator from one pass, the same to the last bit on any number of ranks.

    `scores` are among SCORES; what each of them is, `scores.py` and `neighbours.py` say. `num_fake` images are compared
    with all real ones of the split named `split` (or `num_real` of them, drawn by `seed`), for which the caller asks
    the data module. `batch_size` images go through the extractor at a time, on each rank. The real features are kept
    under `cache`, by default $GAN_EXPERIMENTS_CACHE, else ~/.cache/gan_experiments; of jobs that start together one
    extracts them, and the others wait. `threads` is the number that each rank computes with on a CPU, where the last
    bits depend on it; None leaves it alone.

    `kid_subsets` of `kid_subset_size` images, `is_splits` parts, and the neighbours `manifold_k` of precision and
    recall and `density_k` of density and coverage are the papers'; other ones join the passport as these do. Raises
    ConfigError for an unknown score, one that the extractor cannot give, or too few images.
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
        kid_subsets: int = 100,
        kid_subset_size: int = 1000,
        is_splits: int = 10,
        manifold_k: int = 3,
        density_k: int = 5,
    ) -> None:
        faults = []
        if not scores or set(scores) - set(SCORES):
            faults.append(f"metrics.scores=[{','.join(scores)}]: type some of [{','.join(SCORES)}], or metrics=none")
        if "is" in scores and not extractor.classes:
            faults.append(
                f"metrics.scores: 'is' needs a classifier's logits, and {extractor.name} gives none; leave 'is' out"
            )
        least = {
            "num_fake": (num_fake, 2),
            "num_real": (num_real, 2),
            "batch_size": (batch_size, 1),
            "threads": (threads, 1),
            "kid_subsets": (kid_subsets, 1),
            "kid_subset_size": (kid_subset_size, 2),
            "is_splits": (is_splits, 1),
            "manifold_k": (manifold_k, 1),
            "density_k": (density_k, 1),
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
        self.kid_subsets, self.kid_subset_size, self.is_splits = kid_subsets, kid_subset_size, is_splits
        self.manifold_k, self.density_k = manifold_k, density_k

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
            features, logits = self._pass(sample, self.num_fake, ranks, logits="is" in self.scores)
            try:
                if ranks.rank == 0:
                    values = self._of_logits(logits)
            except Exception as error:  # the other ranks wait for an answer
                values = error
            del logits  # with the real features there would not be room for it
            statistics = self._real_statistics(real, rows, ranks)
            try:
                if statistics is not None and not isinstance(values, Exception):
                    values |= self._of_features(features, statistics)
            except Exception as error:
                values = error
        values = ranks.tell(values)
        if isinstance(values, Exception):
            raise values
        passport = self._passport(real, len(rows), ema) | dict(extra or {})
        found = {}
        for name in self.scores:
            value, std = values[name]
            known_as = self.extractor.names(name)
            found[known_as] = Score(known_as, value, std, passport | self._notes(name, value, real, len(rows)))
        return found

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
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        path = self.cache / f"{name}.pt"
        wanted = min(max(self.manifold_k, self.density_k), len(rows) - 1) if self._neighbours else 0

        def on_disk() -> RealStatistics | None:
            return RealStatistics.load(path, ranks.scoring_place) if ranks.rank == 0 else None

        def chunk(index: int, n: int) -> Tensor:
            start = index * self.batch_size
            if isinstance(rows, range):
                return real.images(start, start + n)
            return torch.cat([real.images(row, row + 1) for row in rows[start : start + n]])

        statistics = on_disk()
        if ranks.tell(statistics is not None and statistics.knows(wanted)):
            return statistics
        with alone(self.cache.parent / f".features-{name}.lock", ranks):
            statistics = on_disk()  # another job may have been faster
            whole = statistics is not None and statistics.knows(wanted)
            if not ranks.tell(statistics is not None):
                features, _ = self._pass(chunk, len(rows), ranks, logits=False)
                statistics = RealStatistics.of(features) if ranks.rank == 0 else None
            if statistics is not None and not whole:
                statistics = statistics if statistics.knows(wanted) else statistics.with_neighbours(wanted)
                statistics.save(path)
        return statistics

    @property
    def _neighbours(self) -> list[str]:
        return [name for name in self.scores if name in OF_NEIGHBOURS]

    def _pass(
        self, chunk: Callable[[int, int], Tensor], total: int, ranks: Ranks, logits: bool
    ) -> tuple[Tensor, Tensor]:
        """Return features [total, D] and logits [total, K or 0], ordered as the chunks; complete on rank 0 alone."""
        widths = self.extractor.features, self.extractor.classes if logits else 0
        tables = [torch.zeros(total, width, device=ranks.meeting_place, dtype=torch.float32) for width in widths]
        starts = range(0, total, self.batch_size)
        for index in range(ranks.rank, len(starts), ranks.world_size):
            place = slice(starts[index], min(starts[index] + self.batch_size, total))  # the last one may be shorter
            n = place.stop - place.start
            with torch.no_grad():
                images = chunk(index, n)
            assert len(images) == n, f"chunk {index} holds {len(images)} images, not {n}"
            whole = images.isfinite().flatten(1).all(dim=1, keepdim=True)  # uint8 would hide it
            pixels = to_uint8(images) if images.is_floating_point() else images
            for table, found in zip(tables, self.extractor.extract(pixels.to(ranks.device)), strict=True):
                table[place] = found[:, : table.shape[1]].where(whole.to(ranks.device), torch.nan)
        features, found = (ranks.collect(table).to(ranks.scoring_place) for table in tables)
        return features, found

    def _of_logits(self, logits: Tensor) -> Values:
        if "is" not in self.scores:
            return {}
        if not finite(logits):
            return {"is": (math.nan, None)}
        return {"is": inception_score(logits, self.is_splits, torch.Generator().manual_seed(self.seed))}

    def _of_features(self, fake: Tensor, real: RealStatistics) -> Values:
        if not finite(fake):
            return {name: (math.nan, None) for name in self.scores if name != "is"}
        values: Values = {}
        if "fid" in self.scores:
            values["fid"] = frechet_distance(real.mean, real.cov, *moments(fake), real.root), None
        if "kid" in self.scores:
            generator = torch.Generator().manual_seed(self.seed)
            values["kid"] = kernel_distance(real.features, fake, self.kid_subsets, self.kid_subset_size, generator)
        if names := self._neighbours:
            near = neighbour_scores(real.features, fake, names, self.manifold_k, self.density_k, real.nearest)
            values |= {name: (value, None) for name, value in near.items()}
        return values

    def _passport(self, real: RealImages, num_real: int, ema: bool) -> dict[str, Any]:
        return {
            "extractor": self.extractor.name,
            "weights_hash": self.extractor.weights_hash,
            "resize": self.extractor.resize,
            "quantisation": "uint8, to the nearest level",
            "num_fake": self.num_fake,
            "num_real": num_real,
            "split": real.split,
            "real_fingerprint": real.fingerprint,
            "ema": ema,
            "seed": self.seed,
            "versions": {**{library: version(library) for library in LIBRARIES}, "gan-experiments": __version__},
        }

    def _notes(self, name: str, value: float, real: RealImages, num_real: int) -> dict[str, Any]:
        """Say how the score `name` was estimated, and what speaks against trusting it."""
        size = min(self.kid_subset_size, self.num_fake, num_real)
        estimator = {
            "fid": "squared Frechet distance of Gaussians, unbiased covariances",
            "kid": f"unbiased MMD^2, kernel (x.y/D+1)^3, mean and std over {self.kid_subsets} subsets of {size}",
            "is": f"mean and std over {min(self.is_splits, self.num_fake)} parts of the shuffled fake images",
            "precision": f"share of fake images in a real ball, k={min(self.manifold_k, num_real - 1)}",
            "recall": f"share of real images in a fake ball, k={min(self.manifold_k, self.num_fake - 1)}",
            "density": f"real balls around a fake image over k, k={min(self.density_k, num_real - 1)}",
            "coverage": f"share of real balls with a fake image, k={min(self.density_k, num_real - 1)}",
            "memorised": f"share of fake images as near to a real one as only {RARE:.0%} of the real ones are",
        }[name]
        doubts = []
        if name == "fid" and min(self.num_fake, num_real) < self.extractor.features:
            doubts.append(f"fewer images than feature dimensions ({self.extractor.features})")
        if name == "memorised" and not real.split.startswith("train"):
            doubts.append(f"the images of the split {real.split} are not those that were trained on")
        elif name == "memorised" and num_real < len(real):
            doubts.append(f"only {num_real} of {len(real)} training images were looked at")
        if math.isnan(value):
            doubts.append("some fake images are not finite")
        return {"estimator": estimator, "warnings": doubts}


def finite(table: Tensor) -> bool:
    """Say whether all of a table [N, D] is finite, without a copy of it."""
    return bool(table.sum(dim=1).isfinite().all())
