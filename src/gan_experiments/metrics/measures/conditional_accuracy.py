"""The classification accuracy of conditional samples: whether they look like the class that was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values, finite, kept


class ConditionalAccuracy(GenerativeMetric):
    """The share of fake samples that a classifier of real ones takes for the class that was asked for.

    It is called GAN-test by Shmelkov et al., "How good is my GAN?", 2018, arXiv:1807.09499, section 3. It never looks
    at real samples, and one perfect sample of each class gives 1: read it beside a score of variety, such as recall.

    Args:
        scores: None.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("accuracy",)
    higher_is_better = True
    of = "classes"
    right: list[Tensor]

    def __init__(self, scores: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(scores, **kwargs)
        self.add_state("right", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add the logits [n, K] of fake samples, and the classes int64 [n] that they were asked for."""
        self.right.append(_right(kept(logits), label)[:, None])

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the share of all fake samples on all ranks. Raises ValueError where there are none."""
        right = self._all("right")
        if not len(right):
            raise ValueError("no fake samples: ConditionalAccuracy needs one or more")
        return self._told({"accuracy": (right.mean().item(), None)}, self.device)

    def values(self, logits: Tensor, label: Tensor) -> Values:
        """Compute the share of logits [N, K] that are largest at `label`, int64 [N]."""
        if not finite(logits):
            return {"accuracy": (math.nan, None)}
        return {"accuracy": (_right(logits, label).mean().item(), None)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return f"share of {measured.num_fake} whose most probable class, of those that are asked for, is the one asked"


def _right(logits: Tensor, label: Tensor) -> Tensor:
    """Return 1 for each of n samples whose largest logit is that of its class, else 0; NaN without a logit."""
    right = (logits.argmax(dim=1) == label.to(logits.device)).double()
    return right.where(logits.isfinite().all(dim=1), torch.nan)
