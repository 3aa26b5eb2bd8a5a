"""Maxout Networks: Ian J. Goodfellow, David Warde-Farley, Mehdi Mirza, Aaron Courville, Yoshua Bengio, 2013.

arXiv:1302.4389
"""

from __future__ import annotations

from torch import Tensor, nn


class Maxout(nn.Linear):
    """`units` outputs, each the greatest of its own `pieces` affine functions: `[N, features]` -> `[N, units]` (§2).

    Row `u * pieces + j` of the weights is piece j of unit u.
    """

    def __init__(self, features: int, units: int, pieces: int) -> None:
        super().__init__(features, units * pieces)
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return super().forward(x).unflatten(1, (-1, self.pieces)).amax(2)
