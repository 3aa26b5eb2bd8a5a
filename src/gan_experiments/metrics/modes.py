"""Evaluation of points of the plane: how many known modes a generator covers, and how close its points are to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gan_experiments.bounds import Batch, Samples
from gan_experiments.contracts import ConfigError
from gan_experiments.data.module import DataModule
from gan_experiments.data.toy import Modes
from gan_experiments.kinds import Points
from gan_experiments.metrics import names
from gan_experiments.metrics.evaluator import Measured, Sample, Score
from gan_experiments.metrics.measures.mode_coverage import ModeCoverage
from gan_experiments.metrics.metric import Measurement, Values
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.request import Request

SCORES = tuple(names.of("points"))


class Split(Protocol):
    """The interface that evaluators require of any data."""

    @property
    def split(self) -> str:
        """The name of the split: "train", ..."""


class ModeEvaluator:
    """Evaluator of the modes that `num_fake` points cover and of the share of high-quality points, see `data.toy`.

    `scores` are among SCORES; the first one decides which checkpoint is the best. `batch_size` points are made at a
    time, on each rank. The default of 2,500 points is VEEGAN's (Srivastava et al. 2017, arXiv:1705.07761, section 4.1).
    Raises ConfigError for an unknown score and for too few points.
    """

    split = "train"
    reads = Points

    def __init__(self, scores: Sequence[str] = SCORES, num_fake: Samples = 2500, batch_size: Batch = 500) -> None:
        faults = []
        if not scores or set(scores) - set(SCORES):
            faults.append(f"metrics.scores=[{','.join(scores)}]: type some of [{','.join(SCORES)}]")
        for key, given in (("num_fake", num_fake), ("batch_size", batch_size)):
            if given < 1:
                faults.append(f"metrics.{key}={given} is too few: type metrics.{key}=1 or more")
        if faults:
            raise ConfigError(*faults)
        self.scores, self.num_fake, self.batch_size = tuple(scores), num_fake, batch_size

    def real(self, data: DataModule) -> Modes:
        """Return the modes of a data module; raises ConfigError for data without known modes."""
        return _modes(data.reference(self.split))

    def against(self, real: Split) -> str:
        """Say in words what is compared with what."""
        return f"{self.num_fake:,} against the {len(_modes(real).centres)} modes"

    def measure(self, sample: Sample, real: Split, request: Request) -> Measured:
        """Score the points [n, 2, 1, 1] made by `sample(index, n)`; see `Evaluator.measure`.

        Raises ConfigError for data without known modes, and for a request of `labels` or `bootstrap`, which these
        scores do not support.
        """
        request.require_scores_only("metrics=modes counts over all points at once")
        modes, ranks = _modes(real), request.ranks
        points = torch.zeros(self.num_fake, 2, device=ranks.meeting_place)
        for index in range(ranks.rank, math.ceil(self.num_fake / self.batch_size), ranks.world_size):
            start = index * self.batch_size
            made = sample(index, min(self.batch_size, self.num_fake - start))
            assert isinstance(made, Tensor), "points are of one size"
            points[start : start + len(made)] = made.flatten(1).to(points)
        points = ranks.collect(points).cpu()
        metric = ModeCoverage(modes.centres, modes.std, self.scores)
        found: Values = ranks.tell(metric.values(points))
        passport = {
            "num_fake": self.num_fake,
            "split": modes.split,
            "real_fingerprint": modes.fingerprint,
            "ema": request.ema,
            **request.extra,
            "versions": versions("torch"),
        }
        whole = bool(ranks.tell(points.isfinite().all().item()))
        doubts = [] if whole else ["some points are not finite"]
        measured = Measurement(self.num_fake, len(modes.centres), len(modes.centres), modes.split, 2)
        scores = {}
        for name in self.scores:
            notes = {"estimator": metric.estimator(name, measured), "warnings": doubts}
            scores[name] = Score(name, *found[name], passport | notes)
        return Measured(scores, {}, points if ranks.rank == 0 else None, None, (), None)


def _modes(real: Split) -> Modes:
    if not isinstance(real, Modes):
        raise ConfigError("metrics=modes counts known modes, and images have none: type metrics=digits, or data=ring")
    return real
