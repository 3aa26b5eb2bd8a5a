"""Evaluation of what a caption does: whether the images made of held-out captions can be told apart by these."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_experiments.bounds import Batch, Place, Samples, Seed
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.captioned import Captioned
from gan_experiments.data.module import DataModule
from gan_experiments.metrics import names
from gan_experiments.metrics.evaluator import Measured, Score
from gan_experiments.metrics.measures.r_precision import CANDIDATES, RPrecision, margins
from gan_experiments.metrics.metric import Measurement
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.ranks import Ranks
from gan_experiments.models.damsm import DAMSM, ENCODERS, Encoders

SCORES = tuple(names.of("captions"))
KEY = "metrics.encoders"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutCaptions:
    """Captions as tokens int64 [M, length], the image that each belongs to, int64 [M], and the `images`."""

    tokens: Tensor
    image: Tensor
    images: Any
    conditions: Any
    fingerprint: str
    split: str
    class_names: Sequence[str] = ()


class RPrecisionEvaluator:
    """Evaluator of R-precision: one image is made of each of `num_fake` held-out captions.

    Each image is set against its own caption and 99 others that are drawn among those of other words. `encoders` is a
    run of model=damsm that judges; None for the encoders that the scored model has itself. `split` is the data's split
    of captions; None is test if there is one, else train. `batch_size` images are made at a time, on each rank. Of a
    model=damsm itself the real images are judged, which is about the best that generated ones can reach.

    Raises ConfigError for an unknown score, and for a run without encoders.
    """

    def __init__(
        self,
        scores: Sequence[str] = SCORES,
        encoders: Place | None = None,
        num_fake: Samples = 30_000,
        split: str | None = None,
        batch_size: Batch = 100,
        seed: Seed = 0,
    ) -> None:
        if not scores or set(scores) - set(SCORES):
            raise ConfigError(f"metrics.scores=[{','.join(scores)}]: type metrics.scores=[{','.join(SCORES)}]")
        self.given = encoders
        self._encoders = Encoders.of_run(encoders, KEY) if encoders else None
        self._judge = self._encoders.made() if self._encoders else None
        self.num_fake, self.split, self.batch_size, self.seed = num_fake, split, batch_size, seed
        self._told = False

    def real(self, data: DataModule) -> HeldOutCaptions:
        """Return the held-out captions of a data module; raises ConfigError for data without captions."""
        if not isinstance(data, Captioned):
            raise ConfigError("metrics=r_precision is of captions, and these data have none: type data=captioned")
        if self._encoders:
            self._encoders.require_words(data.conditions, str(self.given), KEY)
        split = self.split or ("test" if "test" in data.splits else "train")
        images, told = data.reference(split), data.told(split)
        image = torch.repeat_interleave(torch.arange(len(told.counts)), told.counts)
        return HeldOutCaptions(told.tokens, image, images, data.conditions, images.fingerprint, split)

    def against(self, real: HeldOutCaptions) -> str:
        """Say in words what is compared with what."""
        return f"{self.num_fake:,} of the {len(real.tokens):,} captions of the split {real.split}, 1 of {CANDIDATES}"

    def measure(
        self,
        sample: Any,
        real: HeldOutCaptions,
        device: torch.device | str,
        *,
        rank: int = 0,
        world_size: int = 1,
        ema: bool | None,
        extra: dict[str, Any] | None = None,
        labels: Tensor | None = None,
        bootstrap: int = 0,
    ) -> Measured:
        """Score the images that a `Sampler` makes of the captions; the arguments are those of `Evaluator.measure`.

        The first call also logs the R-precision of the real images. Raises ConfigError without encoders, for a single
        caption, and for `labels` or `bootstrap`, which this score does not support.
        """
        from gan_experiments.metrics.module_extractors import content_hash  # imports torch-fidelity

        for word, asked in (("by_class", labels is not None), ("bootstrap", bootstrap > 0)):
            if asked:
                raise ConfigError(f"{word}: metrics=r_precision looks at captions one by one; leave it out")
        require_same_words(sample.model.conditions, real.conditions)
        judge = (self._judge or own_encoders(sample.model)).to(device)
        ranks = Ranks(rank, world_size, torch.device(device))
        if not self._told and sample.model.makes_images:
            found = self._margins(None, real, judge, ranks)
            log.info("the real images: R-precision %.4g (%s)", _share(found), self.against(real))
        self._told = True
        found = self._margins(sample if sample.model.makes_images else None, real, judge, ranks)
        measured = Measurement(self.num_fake, self.num_fake, len(real.tokens), real.split, judge.text_encoder.features)
        doubts = ["some images are not finite"] if found.isnan().any() else []
        if (number := len(real.tokens.unique(dim=0))) < CANDIDATES:
            doubts.append(f"the split {real.split} has {number} different captions, and {CANDIDATES} are compared")
        if real.split == "train":
            doubts.append("the captions were trained on; give data of the split test")
        passport = {
            "num_fake": self.num_fake,
            "split": real.split,
            "real_fingerprint": real.fingerprint,
            "encoders_hash": content_hash(torch.nn.ModuleList(getattr(judge, name) for name in ENCODERS)),
            "seed": self.seed,
            "ema": ema,
            **(extra or {}),
            "versions": versions("torch"),
            "estimator": RPrecision().estimator("r_precision", measured),
            "warnings": doubts,
        }
        score = Score("r_precision", _share(found), None, passport)
        return Measured({"r_precision": score}, {}, None, None, (), None)

    def _margins(self, sample: Any, real: HeldOutCaptions, judge: DAMSM, ranks: Ranks) -> Tensor:
        """Return the margin of each image, float64 [num_fake], on every rank; of real images without a `sample`."""
        different, which = torch.unique(real.tokens, dim=0, return_inverse=True)
        if len(different) < 2:
            raise ConfigError(
                f"metrics=r_precision: the split {real.split} has one caption and two are needed: give it more, or type"
                " metrics=none"
            )
        codes = torch.cat([judge.read(rows).sentence for rows in different.split(1000)])
        captions = torch.arange(self.num_fake) * len(real.tokens) // self.num_fake
        table = torch.zeros(self.num_fake, dtype=torch.float64, device=ranks.meeting_place)
        for index in range(ranks.rank, math.ceil(self.num_fake / self.batch_size), ranks.world_size):
            rows = captions[index * self.batch_size : (index + 1) * self.batch_size]
            if sample is None:
                images = to_float(real.images.pixels[real.image[rows]])
            else:
                images = sample.told(index, real.tokens[rows])
            start = index * self.batch_size
            candidates = self._candidates(which[rows], len(different), start)
            found = margins(judge.look(images)[1], codes[candidates.to(codes.device)])
            table[start : start + len(rows)] = found.to(table)
        return ranks.tell(ranks.collect(table).cpu())

    def _candidates(self, own: Tensor, number: int, start: int) -> Tensor:
        """Draw the captions int64 [n, CANDIDATES] of images from `start` on, their own first, of so many."""
        rows = []
        for place, caption in enumerate(own.tolist(), start):
            others = min(number, CANDIDATES) - 1
            drawn = np.random.default_rng([self.seed, place]).choice(number - 1, others, replace=False)
            rows.append([caption, *np.where(drawn >= caption, drawn + 1, drawn)])
        return torch.tensor(np.array(rows))


def _share(margins: Tensor) -> float:
    return RPrecision().values(margins)["r_precision"][0]


def require_same_words(model: Any, data: Any) -> None:
    """Raise ConfigError if a model's captions have another vocabulary than those of the data."""
    words, others = ((known.vocabulary.words if hasattr(known, "vocabulary") else ()) for known in (model, data))
    if words != others:
        raise ConfigError(
            f"the model reads {len(words)} words, first {', '.join(words[:3])}, and the data have {len(others)}, first"
            f" {', '.join(others[:3])}: leave out data=, or give those that it was trained on"
        )


def own_encoders(model: Any) -> DAMSM:
    """Return the encoders that a model has itself; raises ConfigError if it has none."""
    if not all(hasattr(model, name) for name in ENCODERS):
        raise ConfigError(f"metrics=r_precision needs encoders to judge by: type {KEY}= a run of model=damsm")
    return model if isinstance(model, DAMSM) else DAMSM(model.text_encoder, model.image_encoder, optimizers={})
