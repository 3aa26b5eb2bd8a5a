"""Maxout Networks: Ian J. Goodfellow, David Warde-Farley, Mehdi Mirza, Aaron Courville, Yoshua Bengio, 2013.

arXiv:1302.4389
"""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override


class Maxout(nn.Linear):
    """Maxout layer `[N, features]` -> `[N, units]`: each unit is the maximum of its `pieces` affine functions (§2).

    Row `u * pieces + j` of the weights is piece j of unit u.
    """

    def __init__(self, features: int, units: int, pieces: int) -> None:
        super().__init__(features, units * pieces)
        self.pieces = pieces

    @override
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(1, (-1, self.pieces)).amax(2)
