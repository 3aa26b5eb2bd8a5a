"""Nearest neighbours among features: exact, in float64, one block of distances at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_experiments import processes

BLOCK = 1024  # rows and columns: 8 MB of distances
SAME = 1e-12  # of the squared lengths: features nearer than this are equal as float32


def blocks(total: int) -> list[slice]:
    """Return consecutive slices of at most BLOCK that cover range(total)."""
    return [slice(start, min(start + BLOCK, total)) for start in range(0, total, BLOCK)]


class SquaredDistances:
    """The squared distances of rows x [N, D] and y [M, D], one block at a time, in float64; exactly 0 for equal rows.

    All blocks share one buffer, which avoids memory fragmentation. So each call overwrites the result of the last one.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        n, m = min(len(x), BLOCK), min(len(y), BLOCK)
        wide = x.new_empty(n + m + max(n, m), x.shape[1], dtype=torch.float64)
        self._x, self._y, self._squares = wide.split([n, m, max(n, m)])
        self._sizes, self._distances = x.new_empty(2, n * m, dtype=torch.float64)

    def __call__(self, rows: slice, columns: slice) -> Tensor:
        """Return the distances [n, m] of a block of rows and one of columns, each BLOCK at most."""
        x, y = self.x[rows], self.y[columns]
        x, y = self._x[: len(x)].copy_(x), self._y[: len(y)].copy_(y)
        shape = len(x), len(y)
        sizes, distances = (place[: shape[0] * shape[1]].view(shape) for place in (self._sizes, self._distances))
        of_x = torch.mul(x, x, out=self._squares[: len(x)]).sum(dim=1, keepdim=True)
        of_y = torch.mul(y, y, out=self._squares[: len(y)]).sum(dim=1)
        torch.add(of_x, of_y, out=sizes)
        distances.copy_(sizes).addmm_(x, y.T, alpha=-2)
        return distances.masked_fill_(distances <= sizes.mul_(SAME), 0)


def nearest(x: Tensor, k: int) -> Tensor:
    """Return the squared distances [N, k], float64, ascending, from each row of x [N, D] to its k nearest other rows.

    A copy of a row counts as another row. Needs k < N.
    """
    assert k < len(x), f"{len(x)} images have no {k} neighbours"
    parts = blocks(len(x))
    found = torch.full((len(x), k), torch.inf, dtype=torch.float64, device=x.device)  # filled in place: see `moments`

    def meet(rows: slice, distances: Tensor) -> None:
        new = distances.topk(min(k, distances.shape[1]), largest=False).values
        found[rows] = torch.cat([found[rows], new], dim=1).topk(k, largest=False).values

    between = SquaredDistances(x, x)
    for i, rows in enumerate(processes.watched(parts, "neighbours")):
        for columns in parts[i:]:  # distances are symmetric
            distances = between(rows, columns)
            if rows == columns:
                distances.fill_diagonal_(torch.inf)
            else:
                meet(columns, distances.T)
            meet(rows, distances)
    return found


def nearest_real(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row of fake [M, D]'s distance to the nearest row of real [N, D], float64 [M], and its index [M]."""
    found = torch.full((len(fake),), torch.inf, dtype=torch.float64, device=fake.device)
    which = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    between = SquaredDistances(real, fake)
    for column in processes.watched(blocks(len(fake)), "neighbours"):
        for row in blocks(len(real)):
            distances, rows = between(row, column).min(dim=0)
            closer = distances < found[column]
            found[column] = distances.where(closer, found[column])
            which[column] = (rows + row.start).where(closer, which[column])
    return found.sqrt(), which


def realism(real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
    """Return the realism score [M], float64, of each row of fake [M, D] among real [N, D]; it is >= 1 in a real ball.

    It is the largest quotient of a real ball's radius and the distance to the ball's centre. Balls larger than the
    median are left out. `reach` [N] are the squared radii. Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 3.
    """
    small = reach <= reach.median()
    real, reach = real[small], reach[small]
    found = torch.zeros(len(fake), dtype=torch.float64, device=fake.device)
    between = SquaredDistances(real, fake)
    for column in processes.watched(blocks(len(fake)), "neighbours"):
        for row in blocks(len(real)):
            quotients = reach[row, None] / between(row, column)
            torch.maximum(found[column], quotients.nan_to_num(1.0).amax(dim=0), out=found[column])
    return found.sqrt()
