"""Evaluation of rendered scenes: each is seen from two cameras, and the views are compared."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from gan_experiments.bounds import Batch, Samples, Seed
from gan_experiments.cameras import turned_around
from gan_experiments.contracts import ConfigError
from gan_experiments.data.module import DataModule
from gan_experiments.metrics.evaluator import Measured, Score
from gan_experiments.metrics.measures.reprojection import Reprojection, Seen, errors_of
from gan_experiments.metrics.metric import Measurement
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.request import Request
from gan_experiments.models import scenes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NoRealScenes:
    """In place of real samples, of which these scores look at none."""

    fingerprint: str
    split: str
    class_names: Sequence[str] = ()

    def __len__(self) -> int:
        return 0


class SceneEvaluator:
    """Evaluator of the reprojection error of `num_fake` scenes.

    A scene is seen as its own sample is, by the camera of its condition or of its noise, and by another one `degrees`
    further around. `batch_size` scenes are rendered at a time, on each rank. Raises ConfigError for an unknown score.
    """

    def __init__(
        self,
        scores: Sequence[str] = Reprojection.scores,
        degrees: Annotated[float, Field(gt=0, le=180)] = 15.0,
        num_fake: Samples = 256,
        batch_size: Batch = 32,
        seed: Seed = 0,
    ) -> None:
        if [*scores] != [*Reprojection.scores]:
            raise ConfigError(f"metrics.scores=[{','.join(scores)}]: type metrics.scores=[reprojection]")
        self.degrees, self.num_fake, self.batch_size, self.seed = degrees, num_fake, batch_size, seed

    def real(self, data: DataModule) -> NoRealScenes:
        """Return what tells which data the scenes' cameras are of."""
        return NoRealScenes(data.fingerprint, "train", tuple(data.class_names))

    def against(self, real: NoRealScenes) -> str:
        """Say in words what is compared with what."""
        return f"{self.num_fake:,} scenes from two cameras, {self.degrees:g} degrees apart"

    def measure(self, sample: Any, real: NoRealScenes, request: Request) -> Measured:
        """Score the scenes of a `Sampler`; see `Evaluator.measure`.

        Raises ConfigError for a generator that renders none, and for a request of `labels` or `bootstrap`.
        """
        request.require_scores_only("metrics=reprojection looks at scenes one by one")
        ranks = request.ranks
        table = torch.zeros(self.num_fake, dtype=torch.float64, device=ranks.meeting_place)
        for index in range(ranks.rank, math.ceil(self.num_fake / self.batch_size), ranks.world_size):
            start = index * self.batch_size
            n = min(self.batch_size, self.num_fake - start)
            table[start : start + n] = errors_of(*self.views(sample, index, n)).to(table)
        found = ranks.tell(ranks.collect(table).cpu())
        metric = Reprojection(self.degrees)
        value, std = metric.values(found)["reprojection"]
        measured = Measurement(self.num_fake, 0, 0, real.split, 0)
        blank = int(found.isnan().sum())
        warned = [f"{blank:,} of the {self.num_fake:,} scenes show nothing that both cameras see"] if blank else []
        passport = {
            "num_fake": self.num_fake,
            "real_fingerprint": real.fingerprint,
            **sample.passport,
            "seed": self.seed,
            "ema": request.ema,
            **request.extra,
            "versions": versions("torch"),
            "estimator": metric.estimator("reprojection", measured),
            "warnings": warned,
        }
        return Measured({"reprojection": Score("reprojection", value, std, passport)}, {}, None, None, (), None)

    @torch.no_grad()
    def views(self, sample: Any, index: int, n: int) -> tuple[Seen, Seen]:
        """Return what the two cameras see of the n scenes of chunk `index` of a `Sampler`."""
        model = sample.model
        generator: Any = model.network("generator", sample.ema).eval()
        scenes.require(generator, "metrics=reprojection")
        z = model.fixed_noise(n, sample.chunk_seed(index), sample.truncation)
        z = z.to(model.device, dtype=next(generator.parameters()).dtype)
        told = sample.labels(index, n)
        here = generator.own_cameras(z) if told is None else told.to(z)
        latents = z
        if model.styled:
            latents = generator.truncate(generator.mapping(z, here), sample.truncation)
        both = here, turned_around(here, math.radians(self.degrees))
        first, second = (_seen(generator.seen(latents, cameras), cameras) for cameras in both)
        return first, second


def _seen(view: Any, cameras: Tensor) -> Seen:
    """Return a view of the size at which it was rendered."""
    images = getattr(view, "raw", view.images)
    return Seen(images.clamp(-1, 1).float(), view.depth.float(), view.opacity.float(), cameras.float())
