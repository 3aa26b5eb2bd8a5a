"""Evaluation of what captions do: images are made of held-out captions, and each is judged with its own caption."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gan_experiments.conditions import require_same_words
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.captioned import Captioned
from gan_experiments.data.module import DataModule
from gan_experiments.metrics.evaluator import Measured, Score
from gan_experiments.metrics.metric import GenerativeMetric, Measurement
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.ranks import Ranks
from gan_experiments.metrics.request import Request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutCaptions:
    """Captions as tokens int64 [M, length] and as `said`, the image of each, int64 [M], and the `images`."""

    tokens: Tensor
    image: Tensor
    images: Any
    conditions: Any
    fingerprint: str
    split: str
    said: Sequence[str] = ()
    class_names: Sequence[str] = ()


class CaptionEvaluator(ABC):
    """Evaluator of one score of images, one of which is made of each of `num_fake` held-out captions.

    `split` is the data's split of captions; None is test if there is one, else train. `batch_size` images are made at a
    time, on each rank. A subclass has `judged`. Raises ConfigError for an unknown score.
    """

    metric: ClassVar[type[GenerativeMetric]]
    """The score; its `values` summarise what `judged` returns of all images."""

    def __init__(self, scores: Sequence[str], num_fake: int, split: str | None, batch_size: int, seed: int) -> None:
        if not scores or set(scores) - set(self.metric.scores):
            known = ",".join(self.metric.scores)
            raise ConfigError(f"metrics.scores=[{','.join(scores)}]: type metrics.scores=[{known}]")
        self.num_fake, self.split, self.batch_size, self.seed = num_fake, split, batch_size, seed
        self._told = False

    @property
    def name(self) -> str:
        """The name of the score."""
        return self.metric.scores[0]

    @abstractmethod
    def judge(self, model: Any, device: torch.device | str) -> Any:
        """Return what judges the images of a model, on a device. Raises ConfigError if there is none."""

    @abstractmethod
    def judged(self, judge: Any, images: Tensor, rows: Tensor, real: HeldOutCaptions, start: int) -> Tensor:
        """Return a number for each image float [n, C, H, W] in [-1, 1] of the captions `rows` int64 [n], float [n].

        `start` is the place of the first of them among all images.
        """

    @abstractmethod
    def facts(self, judge: Any, real: HeldOutCaptions) -> dict[str, Any]:
        """Return the passport's entries on the judge."""

    def doubts(self, real: HeldOutCaptions) -> list[str]:
        """Return warnings on these captions."""
        return ["the captions were trained on; give data of the split test"] if real.split == "train" else []

    def require(self, data: Captioned) -> None:
        """Raise ConfigError if the judge does not read the captions of a data module."""
        return None

    def features(self, judge: Any) -> int:
        """Return the number of features that the judge compares."""
        return 0

    def real(self, data: DataModule) -> HeldOutCaptions:
        """Return the held-out captions of a data module; raises ConfigError for data without captions."""
        if not isinstance(data, Captioned):
            raise ConfigError(f"metrics={self.name} is of captions, and these data have none: type data=captioned")
        self.require(data)
        split = self.split or ("test" if "test" in data.splits else "train")
        images, told = data.reference(split), data.told(split)
        image = torch.repeat_interleave(torch.arange(len(told.counts)), told.counts)
        said = [caption for some in data.captions_of(split) for caption in some]
        return HeldOutCaptions(told.tokens, image, images, data.conditions, images.fingerprint, split, said)

    def against(self, real: HeldOutCaptions) -> str:
        """Say in words what is compared with what."""
        return f"{self.num_fake:,} of the {len(real.tokens):,} captions of the split {real.split}"

    def measure(self, sample: Any, real: HeldOutCaptions, request: Request) -> Measured:
        """Score the images that a `Sampler` makes of the captions; see `Evaluator.measure`.

        The first call also logs the score of the real images. Raises ConfigError without a judge, for other words than
        the model's, and for a request of `labels` or `bootstrap`, which these scores do not support.
        """
        request.require_scores_only(f"metrics={self.name} looks at captions one by one")
        require_same_words(sample.model.conditions, real.conditions)
        judge, ranks = self.judge(sample.model, request.device), request.ranks
        if not self._told and sample.model.makes_images:
            found = self._of_all(None, real, judge, ranks)
            log.info("the real images: %s %.4g (%s)", self.name, self._value(found), self.against(real))
        self._told = True
        found = self._of_all(sample if sample.model.makes_images else None, real, judge, ranks)
        measured = Measurement(self.num_fake, self.num_fake, len(real.tokens), real.split, self.features(judge))
        passport = {
            "num_fake": self.num_fake,
            "split": real.split,
            "real_fingerprint": real.fingerprint,
            **self.facts(judge, real),
            "seed": self.seed,
            "ema": request.ema,
            **request.extra,
            "versions": versions("torch"),
            "estimator": self.metric().estimator(self.name, measured),
            "warnings": (["some images are not finite"] if found.isnan().any() else []) + self.doubts(real),
        }
        score = Score(self.name, self._value(found), None, passport)
        return Measured({self.name: score}, {}, None, None, (), None)

    def _value(self, found: Tensor) -> float:
        metric: Any = self.metric()
        value: float = metric.values(found)[self.name][0]
        return value

    def _of_all(self, sample: Any, real: HeldOutCaptions, judge: Any, ranks: Ranks) -> Tensor:
        """Return `judged` of each image, float64 [num_fake], on every rank; of real images without a `sample`."""
        captions = torch.arange(self.num_fake) * len(real.tokens) // self.num_fake
        table = torch.zeros(self.num_fake, dtype=torch.float64, device=ranks.meeting_place)
        for index in range(ranks.rank, math.ceil(self.num_fake / self.batch_size), ranks.world_size):
            rows = captions[index * self.batch_size : (index + 1) * self.batch_size]
            if sample is None:
                images = to_float(real.images.pixels[real.image[rows]])
            else:
                images = sample.told(index, real.tokens[rows])
            start = index * self.batch_size
            table[start : start + len(rows)] = self.judged(judge, images, rows, real, start).to(table)
        return ranks.tell(ranks.collect(table).cpu())
