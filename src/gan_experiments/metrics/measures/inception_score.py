"""IS: how confident and how varied a classifier's predictions are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values, finite, kept
from gan_experiments.metrics.scores import inception_score


class InceptionScore(GenerativeMetric):
    """The Inception Score: exp(E KL(p(y|x) || p(y))) of a classifier's predictions on fake images alone.

    Salimans et al. 2016, arXiv:1606.03498, section 4: the mean and standard deviation over parts of the shuffled
    images.

    Args:
        splits: the number of parts, limited to the number of images.
        seed: the seed of the shuffling.
        scores: None.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("is",)
    higher_is_better = True
    of = "logits"
    published_with = "inception"
    keys: ClassVar[dict[str, str]] = {"splits": "is_splits", "seed": "seed"}
    fake_logits: list[Tensor]

    def __init__(self, splits: int = 10, seed: int = 0, scores: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(scores, **kwargs)
        self.splits, self.seed = splits, seed
        self.add_state("fake_logits", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor | None = None, real: bool = False) -> None:
        """Add the logits [n, K] of fake images; real images are ignored."""
        if not real:
            if logits is None:
                raise ValueError("the logits of fake images are missing")
            self.fake_logits.append(kept(logits))

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the score of all fake images on all ranks. Raises ValueError where there are none."""
        logits = self._all("fake_logits")
        if not len(logits):
            raise ValueError("no fake images: InceptionScore needs one or more")
        return self._told(self.values(logits), self.device)

    def values(self, logits: Tensor) -> Values:
        """Compute mean and standard deviation over the parts of logits [N, K]."""
        if not finite(logits):
            return {"is": (math.nan, None)}
        return {"is": inception_score(logits, self.splits, torch.Generator().manual_seed(self.seed))}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return f"mean and std over {min(self.splits, measured.num_fake)} parts of the shuffled fake images"

    def halved(self) -> InceptionScore:
        """Return the metric with half as many parts, so that the parts have the size of those of all images."""
        return InceptionScore(max(1, self.splits // 2), self.seed)
