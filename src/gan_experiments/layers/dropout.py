"""Dropout whose random numbers come from the caller."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Draw = Callable[..., Tensor]
"""A function `draw(torch.rand, n, *shape)` that returns this rank's n rows of the numbers drawn for all ranks' batches.

With `shared=True` every rank gets the same n rows, for numbers that all samples of the batch share.
"""


class DrawnDropout(nn.Module):
    """Dropout with probability `p`; the other elements are scaled by 1 / (1 - p) (Srivastava et al. 2014).

    With a `draw` (`AdversarialModule.draw`) it drops in training and in evaluation mode alike, and the dropped elements
    of a batch are the same on any number of ranks. This is the generator's noise in pix2pix. Without `draw` it is
    `nn.Dropout`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, draw: Draw | None = None) -> Tensor:
        """Apply dropout, [N, ...] -> [N, ...]."""
        if draw is None:
            return F.dropout(x, self.p, self.training)
        kept = draw(torch.rand, *x.shape).to(x.device) >= self.p
        return x * kept / (1 - self.p)
