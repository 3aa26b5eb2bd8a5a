"""R-precision: whether the images made of held-out captions can be told apart by these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Batch, Place, Samples, Seed
from gan_experiments.contracts import ConfigError
from gan_experiments.data.captioned import Captioned
from gan_experiments.metrics.measures.r_precision import CANDIDATES, RPrecision, margins
from gan_experiments.metrics.of_captions import CaptionEvaluator, HeldOutCaptions
from gan_experiments.models.damsm import DAMSM, ENCODERS, Encoders

KEY = "metrics.encoders"


class RPrecisionEvaluator(CaptionEvaluator):
    """Evaluator of R-precision: one image is made of each of `num_fake` held-out captions.

    Each image is set against its own caption and 99 others that are drawn among those of other words. `encoders` is a
    run of model=damsm that judges; None for the encoders that the scored model has itself. `split` is the data's split
    of captions; None is test if there is one, else train. `batch_size` images are made at a time, on each rank. Of a
    model=damsm itself the real images are judged, which is about the best that generated ones can reach.

    Raises ConfigError for an unknown score, and for a run without encoders.
    """

    metric = RPrecision

    def __init__(
        self,
        scores: Sequence[str] = RPrecision.scores,
        encoders: Place | None = None,
        num_fake: Samples = 30_000,
        split: str | None = None,
        batch_size: Batch = 100,
        seed: Seed = 0,
    ) -> None:
        super().__init__(scores, num_fake, split, batch_size, seed)
        self.given = encoders
        self._encoders = Encoders.of_run(encoders, KEY) if encoders else None
        self._judge = self._encoders.made() if self._encoders else None

    @override
    def require(self, data: Captioned) -> None:
        if self._encoders:
            self._encoders.require_words(data.conditions, str(self.given), KEY)

    @override
    def judge(self, model: Any, device: torch.device | str) -> DAMSM:
        return (self._judge or own_encoders(model)).to(device)

    @override
    def features(self, judge: DAMSM) -> int:
        return judge.text_encoder.features

    @override
    def facts(self, judge: DAMSM, real: HeldOutCaptions) -> dict[str, Any]:
        from gan_experiments.metrics.module_extractors import content_hash  # imports torch-fidelity

        return {"encoders_hash": content_hash(torch.nn.ModuleList(getattr(judge, name) for name in ENCODERS))}

    @override
    def doubts(self, real: HeldOutCaptions) -> list[str]:
        few = []
        if (number := len(real.tokens.unique(dim=0))) < CANDIDATES:
            few = [f"the split {real.split} has {number} different captions, and {CANDIDATES} are compared"]
        return few + super().doubts(real)

    @override
    def against(self, real: HeldOutCaptions) -> str:
        return f"{super().against(real)}, 1 of {CANDIDATES}"

    @override
    def _of_all(self, sample: Any, real: HeldOutCaptions, judge: DAMSM, ranks: Any) -> Tensor:
        self._different, self._which = torch.unique(real.tokens, dim=0, return_inverse=True)
        if len(self._different) < 2:
            raise ConfigError(
                f"metrics=r_precision: the split {real.split} has one caption and two are needed: give it more, or type"
                " metrics=none"
            )
        self._codes = torch.cat([judge.read(rows).sentence for rows in self._different.split(1000)])
        return super()._of_all(sample, real, judge, ranks)

    @override
    def judged(self, judge: DAMSM, images: Tensor, rows: Tensor, real: HeldOutCaptions, start: int) -> Tensor:
        candidates = self._candidates(self._which[rows], len(self._different), start)
        return margins(judge.look(images)[1], self._codes[candidates.to(self._codes.device)])

    def _candidates(self, own: Tensor, number: int, start: int) -> Tensor:
        """Draw the captions int64 [n, CANDIDATES] of images from `start` on, their own first, of so many."""
        rows = []
        for place, caption in enumerate(own.tolist(), start):
            others = min(number, CANDIDATES) - 1
            drawn = np.random.default_rng([self.seed, place]).choice(number - 1, others, replace=False)
            rows.append([caption, *np.where(drawn >= caption, drawn + 1, drawn)])
        return torch.tensor(np.array(rows))


def own_encoders(model: Any) -> DAMSM:
    """Return the encoders that a model has itself; raises ConfigError if it has none."""
    if not all(hasattr(model, name) for name in ENCODERS):
        raise ConfigError(f"metrics=r_precision needs encoders to judge by: type {KEY}= a run of model=damsm")
    return model if isinstance(model, DAMSM) else DAMSM(model.text_encoder, model.image_encoder, optimizers={})
