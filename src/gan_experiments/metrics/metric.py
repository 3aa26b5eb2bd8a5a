"""Base classes of the scores: `torchmetrics.Metric`s that declare their names, direction and input.

A score is one class in one file of `measures/`, where `names.py` finds it. All facts about a score come from its class:
its name, whether higher is better, what its passport says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override

from gan_experiments.metrics.likeness import luma
from gan_experiments.metrics.neighbours import SquaredDistances, blocks, nearest
from gan_experiments.metrics.real_statistics import RealStatistics

Values = dict[str, tuple[float, float | None]]
"""Score name -> (value, standard deviation or None)."""


@dataclass(frozen=True)
class Measurement:
    """The data of one measurement, as far as a score's passport depends on it.

    `num_fake` and `num_real` are the numbers of images used, `available` is the number of real images in `split`, and
    `width` the number of features.
    """

    num_fake: int
    num_real: int
    available: int
    split: str
    width: int


class GenerativeMetric(Metric):
    """A score, or several that are computed together.

    `compute` returns float64: a scalar for a single score, which `self.log` accepts, else a dict by name. Afterwards
    the attribute `std` holds the standard deviations by name, of the scores that have one. Inputs that are not finite
    give NaN.

    Ranks may hold different numbers of images. Every rank gathers all of them, and `compute` sorts them by content, so
    that the value is the same to the last bit on any number of ranks.

    Class attributes:
        scores: the short names, as in `metrics.scores=[fid,kid]`.
        higher_is_better: whether higher is better, for all of them.
        of: their input: "features", "neighbours" (of features), "logits", "classes" (logits and the classes asked
            for), "pairs" (of images), "points" or "paths".
        published_with: the name of the extractor with which papers report them; with it the names have no suffix.
        keys: for each parameter of the constructor that a config sets, its key below `metrics`.

    Args:
        scores: which of the class's scores to compute, in this order; None for all.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    scores: ClassVar[tuple[str, ...]] = ()
    higher_is_better: bool | None = None
    of: ClassVar[str] = ""
    published_with: ClassVar[str] = ""
    keys: ClassVar[dict[str, str]] = {}

    def __init__(self, scores: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather, **kwargs})
        chosen = self.scores if scores is None else tuple(scores)
        if not chosen or set(chosen) - set(self.scores):
            raise ValueError(f"scores={list(chosen)}: give some of {list(self.scores)}")
        self.chosen = chosen
        self.std: dict[str, float] = {}

    def estimator(self, score: str, measured: Measurement) -> str:
        """Say how `score` is estimated, with its constants. Scores with different texts are not comparable."""
        raise NotImplementedError

    def doubts(self, score: str, measured: Measurement) -> list[str]:
        """Return warnings about `score`, a line each."""
        return []

    def halved(self) -> GenerativeMetric:
        """Return the metric that estimates the same score from half as many fake images."""
        return self

    def _told(self, values: Values, device: torch.device) -> Tensor | dict[str, Tensor]:
        self.std = {name: std for name, (_, std) in values.items() if std is not None}
        dtype = torch.float32 if device.type == "mps" else torch.float64
        told = {name: torch.tensor(values[name][0], dtype=dtype, device=device) for name in self.chosen}
        return told if len(told) > 1 else told[self.chosen[0]]

    def _all(self, state: str) -> Tensor:
        """Return all rows of a state in order, [0, 0] if there are none; afterwards the state is a single tensor."""
        kept = getattr(self, state)
        table = dim_zero_cat(kept) if len(kept) else torch.zeros(0, 0, device=self.device)
        if isinstance(kept, list) and len(kept) > 1:
            setattr(self, state, [table])
        return in_order(table if table.is_cuda else table.cpu())


class Samples:
    """Features of real [N, D] and fake images [M, D], N and M >= 2, with the statistics that several scores share.

    `real` may be the features alone; statistics are then computed on first access. `neighbours` is the largest number
    of nearest neighbours of each real image that a score needs.
    """

    def __init__(self, real: RealStatistics | Tensor, fake: Tensor, neighbours: int = 0) -> None:
        self.known = real if isinstance(real, RealStatistics) else None
        self.real = real.features if isinstance(real, RealStatistics) else real
        self.fake, self.neighbours = fake, min(neighbours, len(self.real) - 1)

    @cached_property
    def statistics(self) -> RealStatistics:
        """The mean of the real features, their covariance and its square root."""
        return self.known or RealStatistics.of(self.real)

    @cached_property
    def nearest_real(self) -> Tensor:
        """The squared distances [N, K], float64, ascending, from each real image to its K nearest other real images."""
        if self.known is not None and self.known.knows(self.neighbours):
            return self.known.nearest
        return nearest(self.real, self.neighbours)

    def reach(self, k: int) -> Tensor:
        """Return each real image's squared distance to its k-th nearest neighbour, [N]; to the last one if fewer."""
        return self.nearest_real[:, min(k, len(self.real) - 1) - 1]


class FeatureMetric(GenerativeMetric):
    """A score of an extractor's features of real and of fake images.

    All features are stored, in float32 (float64 features stay float64), and gathered on every rank.

    Args:
        scores: which of the class's scores to compute; None for all.
        reset_real_features: False to keep the real features when `reset` is called.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    of = "features"
    neighbours = 0
    """The number of nearest neighbours of each real image that the score needs."""
    real_features: list[Tensor]
    fake_features: list[Tensor]

    def __init__(self, scores: Sequence[str] | None = None, reset_real_features: bool = True, **kwargs: Any) -> None:
        super().__init__(scores, **kwargs)
        self.reset_real_features = reset_real_features
        self.add_state("real_features", [], dist_reduce_fx="cat")
        self.add_state("fake_features", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Add the features [n, D] of real images, or of fake ones."""
        (self.real_features if real else self.fake_features).append(kept(features))

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the score of all images on all ranks. Raises ValueError for fewer than two real or two fake images."""
        return self._told(values_of([self], *self.tables()), self.device)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return all real and all fake features, sorted by content. Raises ValueError for fewer than two of either."""
        real, fake = self._all("real_features"), self._all("fake_features")
        if min(len(real), len(fake)) < 2:
            raise ValueError(f"{len(real)} real and {len(fake)} fake images: {type(self).__name__} needs two of each")
        return real, fake

    def reset(self) -> None:
        """Remove the features; the real ones only with `reset_real_features`."""
        real = list(self.real_features)
        super().reset()
        if not self.reset_real_features:
            self.real_features = real

    def values(self, samples: Samples) -> Values:
        """Compute the scores; all features are finite."""
        raise NotImplementedError


class NeighbourMetric(FeatureMetric):
    """A score of the distances between real and fake features, computed from one block of distances at a time.

    Several such scores share one pass over the distances, see `values_of`: `begin`, `look` at each block, `end`.
    """

    of = "neighbours"

    def begin(self, samples: Samples) -> dict[str, Tensor]:
        """Return the initial state, which `look` updates in place."""
        raise NotImplementedError

    def look(self, seen: dict[str, Tensor], rows: slice, columns: slice, distances: Tensor) -> None:
        """Update the state `seen` by the squared distances [n, m], float64, of the real `rows` and fake `columns`."""
        raise NotImplementedError

    def end(self, seen: dict[str, Tensor], samples: Samples) -> Values:
        """Compute the scores from the state."""
        raise NotImplementedError


class Together(MetricCollection):
    """A collection whose `FeatureMetric`s are computed together: one gathering of features, one pass over distances."""

    def compute(self) -> dict[str, Any]:
        """Return all scores by name."""
        metrics: list[Any] = [m for m in self.values(copy_state=False) if isinstance(m, FeatureMetric)]
        if len(metrics) > 1 and any(metric._computed is None for metric in metrics):
            with metrics[0].sync_context(dist_sync_fn=metrics[0].dist_sync_fn):
                tables = metrics[0].tables()
            values = values_of(metrics, *tables)
            for metric in metrics:
                metric._computed = metric._told(values, metric.device)  # cached: `compute` returns it
        return super().compute()


class PairMetric(GenerativeMetric):
    """A score of fake images against their ground truth: the mean over all pairs.

    Class attributes, which an instance may override:
        data_range: the difference between the largest and the smallest possible value.
        smallest: the shortest side, in pixels, of images that can be compared.
        colour: which values of a colour image are compared, in words.
        how: what is computed for a pair, in words.

    Args:
        crop_border: the number of pixels left out on each side.
        scores: None.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    of = "pairs"
    data_range: ClassVar[int] = 255
    smallest = 1
    colour = "RGB"
    how: ClassVar[str] = ""
    keys: ClassVar[dict[str, str]] = {"crop_border": "crop_border"}
    found: list[Tensor]

    def __init__(self, crop_border: int = 0, scores: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(scores, **kwargs)
        self.crop_border = crop_border
        self.add_state("found", [], dist_reduce_fx="cat")

    @property
    def known_as(self) -> str:
        """The name under which the score is reported, with its variant."""
        return self.scores[0]

    @property
    def facts(self) -> dict[str, Any]:
        """Further entries of the score's passport."""
        return {}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return f"{self.how}; mean and std over images"

    def doubts_of(self, values: Sequence[float]) -> list[str]:
        """Return warnings about the mean of these values, a line each."""
        return []

    def update(self, fake: Tensor, real: Tensor) -> None:
        """Add pairs of images, each uint8 [n, C, H, W] with C 1 or 3.

        Raises ValueError for other dtypes, for unequal shapes and for images too small.
        """
        if fake.shape != real.shape or fake.ndim != 4 or {fake.dtype, real.dtype} != {torch.uint8}:
            given = " and ".join(f"{image.dtype} {list(image.shape)}" for image in (fake, real))
            raise ValueError(f"{given}: give pairs of images of equal size, uint8 [n, C, H, W]")
        if min(fake.shape[2:]) - 2 * self.crop_border < self.smallest:
            raise ValueError(
                f"{list(fake.shape)}: {self.known_as} needs {self.smallest} pixels a side within the border"
            )
        values = [[self.value(*pair)] for pair in zip(fake, real, strict=True)]
        self.found.append(torch.tensor(values, dtype=torch.float64).reshape(-1, 1).to(fake.device))

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the mean over all pairs on all ranks. Raises ValueError where there are none."""
        found = self._all("found")
        if not len(found):
            raise ValueError(f"no pairs of images: {type(self).__name__} needs one or more")
        return self._told({self.scores[0]: (found.mean().item(), found.std(correction=0).item())}, self.device)

    def value(self, fake: Tensor, real: Tensor) -> float:
        """Return the score of two images uint8 [C, H, W] without their border."""
        inside = slice(self.crop_border, -self.crop_border or None)
        return self.likeness(fake[:, inside, inside], real[:, inside, inside])

    def likeness(self, fake: Tensor, real: Tensor) -> float:
        """Return the score of two images uint8 [C, H, W]."""
        raise NotImplementedError


class LumaMetric(PairMetric):
    """A score of pairs that can be computed on the luma of colour images, as papers on super-resolution do.

    Args:
        y_channel: True for the luma.
        crop_border: the number of pixels left out on each side.
        scores: None.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    keys: ClassVar[dict[str, str]] = {"y_channel": "y_channel", **PairMetric.keys}

    def __init__(
        self, y_channel: bool = False, crop_border: int = 0, scores: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(crop_border, scores, **kwargs)
        self.y_channel = y_channel
        if y_channel:
            self.colour = "Y of BT.601, 16..235, not rounded"

    @property
    def known_as(self) -> str:
        """The short name, with the suffix `_y` for the luma."""
        return f"{self.scores[0]}_y" if self.y_channel else self.scores[0]

    def seen(self, image: Tensor) -> Tensor:
        """Return the values to compare of an image [C, H, W], in float64: its luma, or all channels."""
        return luma(image.double()) if self.y_channel and len(image) == 3 else image.double()


def values_of(metrics: Iterable[Any], real: RealStatistics | Tensor, fake: Tensor) -> Values:
    """Compute several `FeatureMetric`s of the same features; shared statistics and distances are computed once.

    Needs at least two real and two fake images. Features that are not finite give NaN.
    """
    metrics = list(metrics)
    if not finite(fake) or (isinstance(real, Tensor) and not finite(real)):
        return {name: (math.nan, None) for metric in metrics for name in metric.chosen}
    samples = Samples(real, fake, max((metric.neighbours for metric in metrics), default=0))
    found: Values = {}
    for metric in metrics:
        if not isinstance(metric, NeighbourMetric):
            found |= metric.values(samples)
    looking = [metric for metric in metrics if isinstance(metric, NeighbourMetric)]
    seen = [metric.begin(samples) for metric in looking]
    if looking:
        between = SquaredDistances(samples.real, fake)
        for rows in blocks(len(samples.real)):
            for columns in blocks(len(fake)):
                distances = between(rows, columns)
                for metric, noted in zip(looking, seen, strict=True):
                    metric.look(noted, rows, columns, distances)
    for metric, noted in zip(looking, seen, strict=True):
        found |= metric.end(noted, samples)
    return found


def finite(table: Tensor) -> bool:
    """Return True if all values of a table [N, D] are finite, without copying it."""
    return bool(table.sum(dim=1).isfinite().all())


def kept(table: Tensor) -> Tensor:
    """Return a table [n, D] as `update` stores it, float64 unchanged, else float32; ValueError for other shapes."""
    if table.ndim != 2:
        raise ValueError(f"{list(table.shape)}: give a table [images, features]")
    return table.detach() if table.dtype == torch.float64 else table.detach().float()


def in_order(table: Tensor) -> Tensor:
    """Sort the rows of a table [N, D] by their bytes, so that the order is the same on any number of ranks."""
    if not table.numel():
        return table
    rows = table.cpu().contiguous().numpy()
    order = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0].argsort(kind="stable")
    return table[torch.from_numpy(order).to(table.device)]


def gather(table: Tensor, group: Any = None) -> list[Tensor]:
    """Return every rank's table [n, D] in the order of the ranks, without padding; n may differ, and be 0."""
    shapes: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(shapes, (tuple(table.shape), table.dtype), group=group)
    filled = [(shape[1:], dtype) for shape, dtype in shapes if math.prod(shape)]
    if not filled:
        return [table]
    rest, dtype = filled[0]
    found = []
    for rank, (shape, _) in enumerate(shapes):
        number = shape[0] if math.prod(shape) else 0
        mine = rank == dist.get_rank(group) and number
        place = table.contiguous() if mine else torch.empty(number, *rest, dtype=dtype, device=table.device)
        if number:
            dist.broadcast(place, src=dist.get_global_rank(group, rank) if group else rank, group=group)
        found.append(place)
    return found
