"""The bases of the scores: `torchmetrics.Metric`s that declare their names, their direction and what they are of.

A score is one class in one file of `measures/`. `names.py` finds it there, and whatever has to know of a score asks its
class: which scores there are, whether more of one is better, what its passport says.
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

from gan_experiments.metrics.likeness import luma
from gan_experiments.metrics.neighbours import SquaredDistances, blocks, nearest
from gan_experiments.metrics.real_statistics import RealStatistics

Values = dict[str, tuple[float, float | None]]
"""By the name of each score its value, and its standard deviation where it has one."""


@dataclass(frozen=True)
class Measurement:
    """What a score was computed of, as far as its passport depends on it.

    `num_fake` and `num_real` are the numbers of images, `available` that of real images in `split`, `width` the number
    of features.
    """

    num_fake: int
    num_real: int
    available: int
    split: str
    width: int


class GenerativeMetric(Metric):
    """A score, or several that are computed together.

    `compute` returns float64: a scalar where one score was asked for, which `self.log` takes, else a dict by name. The
    attribute `std` then holds the standard deviations by name, of those scores that have one. Values that are not
    finite score NaN.

    Ranks need not hold equally many images. Every rank gathers all of them, and `compute` brings them into an order
    that depends on their content alone, so that the value is the same to the last bit on any number of ranks.

    Class attributes:
        scores: short names, as in `metrics.scores=[fid,kid]`.
        higher_is_better: whether more is better, of each of them.
        of: what they are computed of: "features", "neighbours" (of features), "logits" or "pairs" (of images).
        published_with: the name of the extractor with which papers report them; there no suffix joins the names.
        keys: for each parameter of the constructor that a config sets, its key below `metrics`.

    Args:
        scores: those of the class's scores that are computed, in this order; None for all.
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
        """Say how `score` is estimated, with its constants: another text is another measurement."""
        raise NotImplementedError

    def doubts(self, score: str, measured: Measurement) -> list[str]:
        """Say what speaks against trusting `score`, a line each."""
        return []

    def halved(self) -> GenerativeMetric:
        """Return the metric that estimates the same of half as many fake images."""
        return self

    def _told(self, values: Values, device: torch.device) -> Tensor | dict[str, Tensor]:
        self.std = {name: std for name, (_, std) in values.items() if std is not None}
        dtype = torch.float32 if device.type == "mps" else torch.float64
        told = {name: torch.tensor(values[name][0], dtype=dtype, device=device) for name in self.chosen}
        return told if len(told) > 1 else told[self.chosen[0]]

    def _all(self, state: str) -> Tensor:
        """Return the rows that `update` was given, or [0, 0] without any; they are kept in one piece from now on."""
        kept = getattr(self, state)
        table = dim_zero_cat(kept) if len(kept) else torch.zeros(0, 0, device=self.device)
        if isinstance(kept, list) and len(kept) > 1:
            setattr(self, state, [table])
        return in_order(table if table.is_cuda else table.cpu())


class Samples:
    """Features of real [N, D] and fake images [M, D], N and M >= 2, and what several scores need of the real ones.

    `real` may be the features alone; the rest is then computed once it is asked for. `neighbours` is the largest number
    of each real image's neighbours that will be asked for.
    """

    def __init__(self, real: RealStatistics | Tensor, fake: Tensor, neighbours: int = 0) -> None:
        self.known = real if isinstance(real, RealStatistics) else None
        self.real = real.features if isinstance(real, RealStatistics) else real
        self.fake, self.neighbours = fake, min(neighbours, len(self.real) - 1)

    @cached_property
    def statistics(self) -> RealStatistics:
        """Mean, covariance and its root of the real features."""
        return self.known or RealStatistics.of(self.real)

    @cached_property
    def nearest_real(self) -> Tensor:
        """The squared distances [N, K], float64, ascending, from each real image to the K other ones nearest to it."""
        if self.known is not None and self.known.knows(self.neighbours):
            return self.known.nearest
        return nearest(self.real, self.neighbours)

    def reach(self, k: int) -> Tensor:
        """Return the squared distances [N] to the k-th nearest; to the last one where there are fewer."""
        return self.nearest_real[:, min(k, len(self.real) - 1) - 1]


class FeatureMetric(GenerativeMetric):
    """A score of an extractor's features of real and of fake images.

    All features are kept, in float32 (float64 where they were given so), and gathered on every rank.

    Args:
        scores: those of the class's scores that are computed; None for all.
        reset_real_features: False to keep the real features when `reset` is called.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    of = "features"
    neighbours = 0
    """How many neighbours of each real image the score looks at."""
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
        """Return the score of all images on all ranks; see the class. Raises ValueError for fewer than two."""
        return self._told(values_of([self], *self.tables()), self.device)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return all real and all fake features, in order. Raises ValueError for fewer than two of either."""
        real, fake = self._all("real_features"), self._all("fake_features")
        if min(len(real), len(fake)) < 2:
            raise ValueError(f"{len(real)} real and {len(fake)} fake images: {type(self).__name__} needs two of each")
        return real, fake

    def reset(self) -> None:
        """Forget the features; the real ones only with `reset_real_features`."""
        real = list(self.real_features)
        super().reset()
        if not self.reset_real_features:
            self.real_features = real

    def values(self, samples: Samples) -> Values:
        """Compute the scores of features that are finite."""
        raise NotImplementedError


class NeighbourMetric(FeatureMetric):
    """A score of the distances between real and fake features, of which it is shown a block at a time.

    Several of them are computed from one pass over the distances: see `values_of`.
    """

    of = "neighbours"

    def begin(self, samples: Samples) -> dict[str, Tensor]:
        """Return what `look` fills in."""
        raise NotImplementedError

    def look(self, seen: dict[str, Tensor], rows: slice, columns: slice, distances: Tensor) -> None:
        """Look at the squared distances [n, m], float64, between the real `rows` and the fake `columns`."""
        raise NotImplementedError

    def end(self, seen: dict[str, Tensor], samples: Samples) -> Values:
        """Compute the scores of what was seen."""
        raise NotImplementedError


class Together(MetricCollection):
    """A collection whose metrics of features are computed together: gathered once, with one pass over the distances."""

    def compute(self) -> dict[str, Any]:
        """Return every score by its name."""
        metrics: list[Any] = [m for m in self.values(copy_state=False) if isinstance(m, FeatureMetric)]
        if len(metrics) > 1 and any(metric._computed is None for metric in metrics):
            with metrics[0].sync_context(dist_sync_fn=metrics[0].dist_sync_fn):
                tables = metrics[0].tables()
            values = values_of(metrics, *tables)
            for metric in metrics:
                metric._computed = metric._told(values, metric.device)  # which its `compute` returns
        return super().compute()


class PairMetric(GenerativeMetric):
    """A score of each fake image beside the real one that it should be: the mean over all pairs.

    Class attributes, which an object may have otherwise:
        data_range: how far apart the extremes of the values are that are compared.
        smallest: the shortest side, in pixels, of images that can be compared.
        colour: which values of a colour image are compared.
        how: what is computed of a pair, in words.

    Args:
        crop_border: pixels on each side that are left out.
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
        """The name of the score with what else is to be known of it."""
        return self.scores[0]

    @property
    def facts(self) -> dict[str, Any]:
        """What else its passport says."""
        return {}

    def estimator(self, score: str, measured: Measurement) -> str:
        """Say what is computed of a pair."""
        return f"{self.how}; mean and std over images"

    def doubts_of(self, values: Sequence[float]) -> list[str]:
        """Say what speaks against trusting the mean of these values, a line each."""
        return []

    def update(self, fake: Tensor, real: Tensor) -> None:
        """Add pairs of images, each uint8 [n, C, H, W] with C 1 or 3. Raises ValueError for others."""
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
        """Compare two images uint8 [C, H, W], without their border."""
        inside = slice(self.crop_border, -self.crop_border or None)
        return self.likeness(fake[:, inside, inside], real[:, inside, inside])

    def likeness(self, fake: Tensor, real: Tensor) -> float:
        """Compare two images uint8 [C, H, W]."""
        raise NotImplementedError


class LumaMetric(PairMetric):
    """A score of pairs that may be of the luma of colour images, as super-resolution is published.

    Args:
        y_channel: True for the luma.
        crop_border: pixels on each side that are left out.
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
        """The name, and `_y` of the luma."""
        return f"{self.scores[0]}_y" if self.y_channel else self.scores[0]

    def seen(self, image: Tensor) -> Tensor:
        """Return what is compared of an image [C, H, W], in float64."""
        return luma(image.double()) if self.y_channel and len(image) == 3 else image.double()


def values_of(metrics: Iterable[Any], real: RealStatistics | Tensor, fake: Tensor) -> Values:
    """Compute several `FeatureMetric`s of the same features, what they have in common once.

    Needs two real and two fake images or more. Features that are not finite score NaN.
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
    """Say whether all of a table [N, D] is finite, without a copy of it."""
    return bool(table.sum(dim=1).isfinite().all())


def kept(table: Tensor) -> Tensor:
    """Return what `update` keeps of a table [n, D]: float64 as it is, else float32. Raises ValueError for no table."""
    if table.ndim != 2:
        raise ValueError(f"{list(table.shape)}: give a table [images, features]")
    return table.detach() if table.dtype == torch.float64 else table.detach().float()


def in_order(table: Tensor) -> Tensor:
    """Return the rows of a table [N, D] in the order of their bytes: the same however they were spread over ranks."""
    if not table.numel():
        return table
    rows = table.cpu().contiguous().numpy()
    order = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0].argsort(kind="stable")
    return table[torch.from_numpy(order).to(table.device)]


def gather(table: Tensor, group: Any = None) -> list[Tensor]:
    """Return every rank's table [n, D], in their order and without padding; n may differ, and be 0."""
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
