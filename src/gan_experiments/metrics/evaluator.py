"""Evaluation of a generator: all scores from one pass over fake images and one, cached on disk, over real images."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm

from gan_experiments.bounds import Batch, Depth, OneOf, Place, Rhythm, Scored, Seed, Threads
from gan_experiments.contracts import LAWS, ConfigError
from gan_experiments.data.cache import cache_root
from gan_experiments.data.module import DataModule
from gan_experiments.kinds import FRAME_OF_CLIP, IMAGE, Clip, Image, Kind
from gan_experiments.metrics import names
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values, values_of
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.ranks import Ranks, cpu_threads
from gan_experiments.metrics.real_statistics import RealStatistics, alone
from gan_experiments.metrics.request import Request

USUAL = ("fid", "kid", "is", "precision", "recall", "density", "coverage", "memorised")
SCORES = (*USUAL, *(name for name in names.of("features", "neighbours", "logits", "classes") if name not in USUAL))
"""All scores of an extractor's features or logits, the usual ones first."""
LIBRARIES = ("torch", "torchvision", "torchmetrics", "torch-fidelity")


class RealImages(Protocol):
    """The interface of the real images that the evaluator uses."""

    @property
    def fingerprint(self) -> str:
        """An identifier of the content, which changes when the content does."""

    @property
    def split(self) -> str:
        """The name of the split: "train", ..."""

    def __len__(self) -> int: ...

    def images(self, start: int, stop: int) -> Tensor | list[Tensor]:
        """Return uint8 images [stop - start, C, H, W], or a list of images if their sizes differ."""


Sample = Callable[[int, int], Tensor | list[Tensor]]


@runtime_checkable
class OfClasses(Protocol):
    """The interface of a `Sample` whose samples may be of classes that were asked for."""

    def asked(self, n: int, batch_size: int) -> tuple[Tensor, list[str]] | None:
        """Return the classes int64 [n] of the first n samples, and the names of all classes; None without classes."""


@dataclass(frozen=True)
class Score:
    """A score with its standard deviation, if it has one, and its passport: what must be equal to compare scores.

    `interval` is the 95% confidence interval, if requested.
    """

    name: str
    value: float
    std: float | None
    passport: dict[str, Any] = field(repr=False)
    interval: tuple[float, float] | None = None

    def __float__(self) -> float:
        return self.value

    def to_dict(self) -> dict[str, Any]:
        """Return the score as plain types, for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "interval" or value is not None}


@dataclass(frozen=True)
class Measured:
    """The result of an evaluation: scores by name, scores of each class if requested, and on rank 0 the features.

    `fake` [num_fake, D] and `real` hold the features, `rows` the indices of the real images used. `guesses`, int64
    [num_fake], are the classes that the extractor predicts, None if it is no classifier.
    """

    scores: dict[str, Score]
    by_class: dict[str, dict[str, float]]
    fake: Tensor | None
    real: RealStatistics | None
    rows: Sequence[int]
    guesses: Tensor | None


class Judge(Protocol):
    """The interface of an evaluator: `measure(model.sampler(seed, ema), judge.real(data), Request(device, ema))`."""

    def real(self, data: DataModule) -> Any:
        """Return the real data of a data module to compare with; raises ConfigError if it has none."""

    def against(self, real: Any) -> str:
        """Say in words what is compared with what."""

    def measure(self, sample: Any, real: Any, request: Request) -> Measured:
        """Compute the scores on all ranks together; see `Evaluator.measure`."""


class Evaluator:
    """Evaluator that computes all scores of a generator in one pass, the same to the last bit on any number of ranks.

    Args:
        extractor: the network that computes features and logits.
        scores: names among SCORES; their classes in `measures/` define them.
        num_fake: the number of generated images.
        num_real: the number of real images, drawn by `seed`; None for all of the split.
        split: the name of the split of real images, for which the caller asks the data module.
        batch_size: images that go through the extractor at a time, on each rank.
        cache: the folder for the features of real images, by default $GAN_EXPERIMENTS_CACHE, else
            ~/.cache/gan_experiments. Of jobs that start together one extracts them, and the others wait.
        seed: the seed of all random draws.
        threads: CPU threads of each rank, which the last bits of a score depend on; None for no change.
        kid_subsets, kid_subset_size: the number of KID's subsets and their size.
        is_splits: the number of the Inception Score's parts.
        manifold_k: the neighbour that precision and recall use.
        density_k: the neighbour that density and coverage use.
        labels: how the labels of a class-conditional generator are drawn: "data", in the proportions of the data, or
            "uniform".

    The defaults of the scores' constants are those of their papers; all constants are in the passports. Raises
    ConfigError for an unknown score, for one that the extractor cannot give, and for too few images.
    """

    def __init__(
        self,
        extractor: Extractor,
        scores: Sequence[str] = USUAL,
        num_fake: Scored = 10_000,
        num_real: Scored | None = None,
        split: str = "train",
        batch_size: Batch = 100,
        cache: Place | None = None,
        seed: Seed = 0,
        threads: Threads | None = 1,
        kid_subsets: Rhythm = 100,
        kid_subset_size: Scored = 1000,
        is_splits: Rhythm = 10,
        manifold_k: Depth = 3,
        density_k: Depth = 5,
        labels: Annotated[str, OneOf(*LAWS)] = "data",
    ) -> None:
        faults = []
        if not scores or set(scores) - set(SCORES):
            faults.append(f"metrics.scores=[{','.join(scores)}]: type some of [{','.join(SCORES)}], or metrics=none")
        for name in set(scores) & set(names.of("logits")):
            if not extractor.classes:
                why = f"needs a classifier's logits, and {extractor.name} gives none"
                faults.append(f"metrics.scores: '{name}' {why}; leave '{name}' out")
        for name in set(scores) & set(names.of("classes")):
            if not extractor.class_names:
                why = f"needs a classifier whose classes have names, and {extractor.name} is none"
                faults.append(f"metrics.scores: '{name}' {why}; leave '{name}' out")
        if labels not in LAWS:
            faults.append(f"metrics.labels={labels}: type metrics.labels={' or '.join(LAWS)}")
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
        self.labels = labels
        self.manifold_k = manifold_k
        constants = {
            "seed": seed,
            "kid_subsets": kid_subsets,
            "kid_subset_size": kid_subset_size,
            "is_splits": is_splits,
            "manifold_k": manifold_k,
            "density_k": density_k,
        }
        self.metrics = names.collection(scores, constants)
        self.kind: Kind = IMAGE
        self._channels = 3  # of the images that were looked at last

    def limited(self, number: int) -> Evaluator:
        """Return the same evaluator for at most `number` fake images."""
        other = copy.copy(self)
        other.num_fake = min(number, self.num_fake)
        return other

    def evaluate(self, sample: Sample, real: RealImages, device: torch.device | str, **how: Any) -> dict[str, Score]:
        """Return the scores of `measure` by name, on every rank; `how` are the other arguments of a `Request`."""
        return self.measure(sample, real, Request(device, **how)).scores

    def measure(self, sample: Sample, real: RealImages, request: Request) -> Measured:
        """Score the samples [n, ...] in [-1, 1], or uint8, that `sample(index, n)` returns.

        `sample` must be a function of its arguments alone. Chunk `index` holds the images from index * batch_size on;
        rank r makes the chunks r, r + world_size, ... . All ranks of the default process group call this together.
        Images that are not finite give NaN.

        With `request.labels` each class is also scored alone, against the real images of that class. The means over the
        classes are called intra_fid, ...: Miyato & Koyama 2018, arXiv:1802.05637, section 4. For `request.bootstrap`
        see `interval`.

        Raises ConfigError for fewer than two real images, and for fewer than two real or fake images of a class.
        """
        ranks = request.ranks
        rows = self._real_rows(real)
        classes = self._classes(request.labels, real, rows)
        asked = self._asked(sample)
        self.extractor.to(ranks.device)
        values: Values | Exception = {}
        by_class: dict[str, Values] = {}
        intervals: dict[str, tuple[float, float]] = {}
        guesses = None
        halves = self._halves(request.bootstrap) if ranks.rank == 0 else []
        with cpu_threads(self.threads):
            features, logits = self._pass(sample, self.num_fake, ranks, "fake", logits=self._needs_logits)
            try:
                if ranks.rank == 0:
                    guesses = logits.argmax(dim=1) if logits.shape[1] else None
                    values, intervals, by_class = self._of_predictions(logits, asked, classes, halves)
            except Exception as error:  # raised on all ranks below: the others are waiting
                values = error
            del logits  # frees memory for the real features
            statistics = self._real_statistics(real, rows, ranks)
            try:
                if statistics is not None and not isinstance(values, Exception):
                    found = self._of_features(features, statistics)
                    few = [self._of_features(features[half], statistics, half=True) for half in halves]
                    intervals |= interval(found, few)
                    values |= found
                    for name, (mine, theirs) in classes.items():
                        alike = RealStatistics.of(statistics.features[theirs]).with_neighbours(self._reach(theirs))
                        by_class[name] = self._of_features(features[mine], alike) | by_class.get(name, {})
            except Exception as error:
                values = error
        values, by_class, intervals = ranks.tell((values, by_class, intervals))
        if isinstance(values, Exception):
            raise values
        passport = self._passport(real, len(rows), request.ema) | dict(request.extra)
        scores = {}
        measured = Measurement(self.num_fake, len(rows), len(real), real.split, self.extractor.features)
        metric_of = {name: metric for metric in self._metrics for name in metric.chosen}
        for name, (value, std) in ((name, values[name]) for name in self.scores if name in values):
            known_as = self.extractor.names(name)
            notes = _notes(metric_of[name], name, value, measured)
            scores[known_as] = Score(known_as, value, std, passport | notes, intervals.get(name))
            if by_class and metric_of[name].of not in ("logits", "classes"):
                alone = torch.tensor([found[name][0] for found in by_class.values()], dtype=torch.float64)
                notes = {**notes, "estimator": f"mean and std over {len(alone)} classes of the {notes['estimator']}"}
                mean, spread = alone.mean().item(), alone.std(correction=0).item()
                scores[f"intra_{known_as}"] = Score(f"intra_{known_as}", mean, spread, passport | notes)
        of_class = {c: {self.extractor.names(n): value for n, (value, _) in f.items()} for c, f in by_class.items()}
        here = ranks.rank == 0
        return Measured(scores, of_class, features if here else None, statistics, rows, guesses)

    def _classes(
        self, labels: Tensor | None, real: RealImages, rows: Sequence[int]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return for each class, by name, the indices of its fake and of its real images."""
        if labels is None:
            return {}
        truth = getattr(real, "labels", None)
        assert truth is not None, "the caller asks for classes that the real images have not"
        truth, names = truth[torch.tensor(rows)], getattr(real, "class_names", [])
        found = {}
        for c in range(len(names)):
            mine, theirs = (labels == c).nonzero()[:, 0], (truth == c).nonzero()[:, 0]
            if min(len(mine), len(theirs)) < 2:
                raise ConfigError(
                    f"class {names[c]} has {len(mine)} fake and {len(theirs)} real images: two of each are needed to"
                    " score it alone; give it more, type labels=uniform or by_class=false"
                )
            found[names[c]] = mine, theirs
        return found

    def _asked(self, sample: Sample) -> tuple[Tensor, Tensor] | None:
        """Return the classes that samples were asked for, int64 [num_fake], and where the extractor has each class.

        None if there are no classes, and if the extractor does not know all of them: they are then not scored. Raises
        ConfigError if no other score is left.
        """
        if not self._class_metrics:
            return None
        found = sample.asked(self.num_fake, self.batch_size) if isinstance(sample, OfClasses) else None
        known = list(self.extractor.class_names)
        if found is None or set(found[1]) - set(known):
            if len(self._class_metrics) == len(self._metrics):
                raise ConfigError(
                    f"metrics.scores=[{','.join(self.scores)}]: these samples are of no classes that"
                    f" {self.extractor.name} knows; type another score"
                )
            return None
        return found[0], torch.tensor([known.index(name) for name in found[1]])

    def _halves(self, number: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        return [torch.randperm(self.num_fake, generator=generator)[: self.num_fake // 2] for _ in range(number)]

    def real(self, data: DataModule) -> RealImages:
        """Return the real images of a data module's split; raises ConfigError if there is no such split, or too few."""
        self.see_as(data.kind)
        found: RealImages = data.reference(self.split)
        self.number_of(found)
        return found

    def see_as(self, kind: Kind) -> None:
        """Score what this kind views of its samples, a frame of each clip if the extractor looks at images.

        Raises ConfigError if the extractor looks at samples of another kind.
        """
        if isinstance(kind, Clip) and self.extractor.reads is Image:
            kind = FRAME_OF_CLIP
        elif not isinstance(kind, self.extractor.reads):
            raise ConfigError(
                f"the scores of {self.extractor.name} are of {self.extractor.reads.name}, and these are {kind.name};"
                " type another metrics="
            )
        self.kind = kind
        self.extractor.see(kind)

    def number_of(self, real: RealImages) -> int:
        """Return how many of these real images are used; raises ConfigError if there are too few."""
        if self.num_real is not None and self.num_real > len(real):
            raise ConfigError(
                f"metrics.num_real={self.num_real}: the split {real.split} holds {len(real):,} images;"
                f" type metrics.num_real={len(real)}, or null for all"
            )
        if len(real) < 2:
            raise ConfigError(
                f"the split {real.split} holds 1 image, and scores need two: give it two or more, or type metrics=none"
            )
        return len(real) if self.num_real is None else self.num_real

    def against(self, real: RealImages) -> str:
        """Say in words what is compared with what."""
        return f"{self.num_fake:,} against {self.number_of(real):,} real images"

    def _real_rows(self, real: RealImages) -> Sequence[int]:
        number = self.number_of(real)
        if number == len(real):
            return range(number)
        generator = torch.Generator().manual_seed(self.seed)
        return sorted(torch.randperm(len(real), generator=generator)[:number].tolist())

    def _real_statistics(self, real: RealImages, rows: Sequence[int], ranks: Ranks) -> RealStatistics | None:
        """Load or compute the statistics of these real images, with all ranks; return them on rank 0 only."""
        which = len(rows) if isinstance(rows, range) else list(rows)
        key = [
            real.fingerprint,
            real.split,
            self.extractor.name,
            self.extractor.weights_hash,
            self.extractor.resize,
            which,
            *self.kind.views,
        ]
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        path = self.cache / f"{name}.pt"
        wanted = self._reach(rows)

        def on_disk() -> RealStatistics | None:
            return RealStatistics.load(path, ranks.scoring_place) if ranks.rank == 0 else None

        def chunk(index: int, n: int) -> Tensor | list[Tensor]:
            start = index * self.batch_size
            if isinstance(rows, range):
                return real.images(start, start + n)
            return [real.images(row, row + 1)[0] for row in rows[start : start + n]]

        statistics = on_disk()
        if ranks.tell(statistics is not None and statistics.knows(wanted)):
            return statistics
        with alone(self.cache.parent / f".features-{name}.lock", ranks):
            statistics = on_disk()  # another job may have been faster
            whole = statistics is not None and statistics.knows(wanted)
            if not ranks.tell(statistics is not None):
                features, _ = self._pass(chunk, len(rows), ranks, "real", logits=False)
                statistics = RealStatistics.of(features) if ranks.rank == 0 else None
            if statistics is not None and not whole:
                statistics = statistics if statistics.knows(wanted) else statistics.with_neighbours(wanted)
                statistics.save(path)
        return statistics

    @property
    def _metrics(self) -> list[Any]:
        return list(self.metrics.values(copy_state=False))

    @property
    def _logit_metrics(self) -> list[Any]:
        return [metric for metric in self._metrics if metric.of == "logits"]

    @property
    def _class_metrics(self) -> list[Any]:
        return [metric for metric in self._metrics if metric.of == "classes"]

    @property
    def _needs_logits(self) -> bool:
        return bool(self._logit_metrics or self._class_metrics)

    @property
    def _feature_metrics(self) -> list[Any]:
        return [metric for metric in self._metrics if metric.of not in ("logits", "classes")]

    def _reach(self, images: Sequence[int] | Tensor) -> int:
        """Return the number of nearest neighbours of each of these real images that the scores need."""
        return min(max((metric.neighbours for metric in self._feature_metrics), default=0), len(images) - 1)

    def _pass(self, chunk: Sample, total: int, ranks: Ranks, what: str, logits: bool) -> tuple[Tensor, Tensor]:
        """Return features [total, D] and logits [total, K or 0] in the order of the chunks, complete on rank 0 only."""
        widths = self.extractor.features, self.extractor.classes if logits else 0
        tables = [torch.zeros(total, width, device=ranks.meeting_place, dtype=torch.float32) for width in widths]
        starts = range(0, total, self.batch_size)
        mine = range(ranks.rank, len(starts), ranks.world_size)
        hidden = True if ranks.rank else None  # None shows it on a terminal only
        for index in tqdm(mine, f"{what} features", delay=5, leave=False, disable=hidden):
            place = range(starts[index], min(starts[index] + self.batch_size, total))  # the last one may be shorter
            with torch.no_grad():
                images = chunk(index, len(place))
            assert len(images) == len(place), f"chunk {index} holds {len(images)} images, not {len(place)}"
            for rows, alike in _by_size(images):
                whole = alike.isfinite().flatten(1).all(dim=1, keepdim=True)  # uint8 would hide NaN
                pixels, self._channels = self.kind.viewed(alike), alike.shape[1]
                for table, found in zip(tables, self.extractor.extract(pixels.to(ranks.device)), strict=True):
                    kept = found[:, : table.shape[1]].where(whole.to(ranks.device), torch.nan)
                    table[place.start + rows] = kept.to(table.device)
        features, found = (ranks.collect(table).to(ranks.scoring_place) for table in tables)
        return features, found

    def _of_logits(self, logits: Tensor, half: bool = False) -> Values:
        metrics = [metric.halved() if half else metric for metric in self._logit_metrics]
        return {name: value for metric in metrics for name, value in metric.values(logits).items()}

    def _of_predictions(
        self,
        logits: Tensor,
        asked: tuple[Tensor, Tensor] | None,
        classes: dict[str, tuple[Tensor, Tensor]],
        halves: Sequence[Tensor],
    ) -> tuple[Values, dict[str, tuple[float, float]], dict[str, Values]]:
        """Return the scores of logits [n, K], their intervals, and those of each class; see `_asked`, `_classes`."""
        values = self._of_logits(logits)
        intervals = interval(values, [self._of_logits(logits[half], half=True) for half in halves])
        if asked is None:
            return values, intervals, {}
        label, places = asked
        named = self.extractor.class_logits(logits)[:, places.to(logits.device)]
        right = self._of_classes(named, label)
        intervals |= interval(right, [self._of_classes(named[half], label[half]) for half in halves])
        by_class = {name: self._of_classes(named[mine], label[mine]) for name, (mine, _) in classes.items()}
        return values | right, intervals, by_class

    def _of_classes(self, logits: Tensor, label: Tensor) -> Values:
        """Score logits [n, classes] by the classes that were asked for, int64 [n]."""
        return {name: value for metric in self._class_metrics for name, value in metric.values(logits, label).items()}

    def _of_features(self, fake: Tensor, real: RealStatistics, half: bool = False) -> Values:
        return values_of((metric.halved() if half else metric for metric in self._feature_metrics), real, fake)

    def _passport(self, real: RealImages, num_real: int, ema: bool | None) -> dict[str, Any]:
        return {
            "extractor": self.extractor.name,
            "weights_hash": self.extractor.weights_hash,
            "resize": self.extractor.resize,
            **({"quantisation": self.kind.quantisation} if self.kind.quantisation else {}),
            "num_fake": self.num_fake,
            "num_real": num_real,
            "split": real.split,
            "real_fingerprint": real.fingerprint,
            "ema": ema,
            "seed": self.seed,
            **({"seen": seen} if (seen := self.kind.seen_as(self._channels)) else {}),
            "versions": versions(*LIBRARIES),
        }


class Automatic(Evaluator):
    """The evaluator of `metrics=auto`, until `scoring.settle` replaces its config by another one.

    It takes the same arguments as `Evaluator` and scores by its `extractor`.
    """


def _by_size(images: Tensor | list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images in stacks of equal size, each after their row indices."""
    if isinstance(images, Tensor):
        yield torch.arange(len(images)), images
        return
    for shape in dict.fromkeys(image.shape for image in images):
        rows = [row for row, image in enumerate(images) if image.shape == shape]
        yield torch.tensor(rows), torch.stack([images[row] for row in rows])


def interval(values: Values, halves: Sequence[Values]) -> dict[str, tuple[float, float]]:
    """Return the 95% confidence interval of each score from its values on random halves of the fake images.

    The halves are drawn without replacement, because a repeated image would be its own neighbour and would lower the
    rank of a covariance. The deviations of halves from their mean are as large as those of the full sample from its
    expectation (Shao & Wu 1989, "A general theory for jackknife variance estimation", the delete-half jackknife). The
    interval is for the expected score of that many fake images, given the real ones.
    """
    if not halves:
        return {}
    quantiles = torch.tensor([0.975, 0.025], dtype=torch.float64)
    found = {}
    for name, (value, _) in values.items():
        alone = torch.tensor([half[name][0] for half in halves], dtype=torch.float64)
        high, low = torch.quantile(alone - alone.mean(), quantiles).tolist()
        found[name] = value - high, value - low
    return found


def _notes(metric: GenerativeMetric, name: str, value: float, measured: Measurement) -> dict[str, Any]:
    """Return the passport entries that say how the score `name` was estimated, and its warnings."""
    doubts = metric.doubts(name, measured) + (["some fake images are not finite"] if math.isnan(value) else [])
    return {"estimator": metric.estimator(name, measured), "warnings": doubts}
