"""Dropout that takes its random numbers from whoever calls it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Draw = Callable[..., Tensor]
"""`draw(torch.rand, n, *shape)` gives this rank's n rows of the numbers drawn for the whole batch.

With `shared=True` every rank gets the same n rows: numbers that all samples of the batch have in common.
"""


class DrawnDropout(nn.Module):
    """Zero each element with probability `p` and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    With a `draw` (`AdversarialModule.draw`) it drops in training and in evaluation mode alike, and a batch loses the
    same elements on any number of ranks: a generator's noise, as in pix2pix. Without one it is `nn.Dropout`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, draw: Draw | None = None) -> Tensor:
        """[N, ...] -> [N, ...]."""
        if draw is None:
            return F.dropout(x, self.p, self.training)
        kept = draw(torch.rand, *x.shape).to(x.device) >= self.p
        return x * kept / (1 - self.p)
