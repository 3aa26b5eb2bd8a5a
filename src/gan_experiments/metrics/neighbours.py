"""Scores from nearest neighbours among features: exact, in float64, one block of distances at a time."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

BLOCK = 1024  # rows and columns: 8 MB of distances
SAME = 1e-12  # of the squared lengths: features nearer than this are equal as float32
RARE = 0.01  # of the real images are as near to another one as what counts as memorised


def blocks(total: int) -> list[slice]:
    """Return the slices of at most BLOCK that make up `total`."""
    return [slice(start, min(start + BLOCK, total)) for start in range(0, total, BLOCK)]


class SquaredDistances:
    """The squared distances of rows x [N, D] and y [M, D], a block at a time, in float64; of equal rows exactly 0.

    Every block is computed in the same place, lest each leaves a hole in memory: it is gone when the next is asked for.
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
    """Return the squared distances [N, k], float64, ascending, from each row of x [N, D] to the k rows nearest to it.

    The row itself is not one of them, a copy of it is. Needs k < N.
    """
    assert k < len(x), f"{len(x)} images have no {k} neighbours"
    parts = blocks(len(x))
    found = torch.full((len(x), k), torch.inf, dtype=torch.float64, device=x.device)  # filled in place: see `moments`

    def meet(rows: slice, distances: Tensor) -> None:
        new = distances.topk(min(k, distances.shape[1]), largest=False).values
        found[rows] = torch.cat([found[rows], new], dim=1).topk(k, largest=False).values

    between = SquaredDistances(x, x)
    for i, rows in enumerate(parts):
        for columns in parts[i:]:  # the other half is the same
            distances = between(rows, columns)
            if rows == columns:
                distances.fill_diagonal_(torch.inf)
            else:
                meet(columns, distances.T)
            meet(rows, distances)
    return found


def nearest_real(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each row of fake [M, D] the distance [M], float64, to the nearest row of real [N, D], and which [M]."""
    found = torch.full((len(fake),), torch.inf, dtype=torch.float64, device=fake.device)
    which = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
    between = SquaredDistances(real, fake)
    for column in blocks(len(fake)):
        for row in blocks(len(real)):
            distances, rows = between(row, column).min(dim=0)
            closer = distances < found[column]
            found[column] = distances.where(closer, found[column])
            which[column] = (rows + row.start).where(closer, which[column])
    return found.sqrt(), which


def realism(real: Tensor, fake: Tensor, reach: Tensor) -> Tensor:
    """Return the realism score [M], float64, of each row of fake [M, D] among real [N, D]; in a real ball 1 and more.

    The largest quotient of a real ball's radius and the distance to its centre, the balls larger than the median left
    out; `reach` [N] are the squared radii. Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 3.
    """
    small = reach <= reach.median()
    real, reach = real[small], reach[small]
    found = torch.zeros(len(fake), dtype=torch.float64, device=fake.device)
    between = SquaredDistances(real, fake)
    for column in blocks(len(fake)):
        for row in blocks(len(real)):
            quotients = reach[row, None] / between(row, column)
            torch.maximum(found[column], quotients.nan_to_num(1.0).amax(dim=0), out=found[column])
    return found.sqrt()


def neighbour_scores(
    real: Tensor,
    fake: Tensor,
    names: Collection[str],
    manifold_k: int = 3,
    density_k: int = 5,
    real_nearest: Tensor | None = None,
) -> dict[str, float]:
    """Return the scores `names` of features real [N, D] and fake [M, D], N and M >= 2.

    A ball reaches from an image to the k-th of its nearest neighbours among its own kind, its surface included:

    - "precision", "recall": of the fake images in any real ball, of the real ones in any fake ball, k `manifold_k`.
      Kynkäänniemi et al. 2019, arXiv:1904.06991, eqs. 1 and 2.
    - "density", "coverage": the real balls that a fake image lies in, over k, on average; the share of the real balls
      with a fake image in them, k `density_k`. Naeem et al. 2020, arXiv:2002.09797, eqs. 3 and 4.
    - "memorised": the share of fake images that are as near to a real one as only 1 in 100 real images is to another.
      A perfect generator scores 0.01, one that repeats a tenth of its training images at least 0.1. The distance to the
      nearest training image held against that of real images is the test of Meehan et al. 2020, arXiv:2004.05675,
      section 3; the share found at a low rate of false alarms instead of the average, which bad images would lower, is
      how Carlini et al. 2022, arXiv:2112.03570, section IV, have memorisation reported.

    Where there are k images or fewer, k is one less than there are. `real_nearest` is `nearest(real, k)` for a k that
    is large enough, where it is known.
    """

    def reach(found: Tensor, k: int) -> Tensor:
        return found[:, min(k, found.shape[1]) - 1]

    if real_nearest is None:
        real_nearest = nearest(real, min(max(manifold_k, density_k), len(real) - 1))
    real_manifold, real_density = reach(real_nearest, manifold_k), reach(real_nearest, density_k)
    fake_manifold = real.new_zeros(len(fake), dtype=torch.float64)
    if "recall" in names:
        fake_manifold = reach(nearest(fake, min(manifold_k, len(fake) - 1)), manifold_k)
    fake_inside = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    real_inside = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    to_real = torch.full((len(fake),), torch.inf, dtype=torch.float64, device=fake.device)
    to_fake = torch.full((len(real),), torch.inf, dtype=torch.float64, device=real.device)
    memberships = 0
    between = SquaredDistances(real, fake)
    for row in blocks(len(real)):
        for column in blocks(len(fake)):
            distances = between(row, column)
            torch.minimum(to_real[column], distances.amin(dim=0), out=to_real[column])
            torch.minimum(to_fake[row], distances.amin(dim=1), out=to_fake[row])
            if "precision" in names:
                fake_inside[column] |= (distances <= real_manifold[row, None]).any(dim=0)
            if "recall" in names:
                real_inside[row] |= (distances <= fake_manifold[column]).any(dim=1)
            if "density" in names:
                memberships += int((distances <= real_density[row, None]).sum())
    k = min(density_k, len(real) - 1)
    rare = real_nearest[:, 0].sort().values[math.ceil(RARE * len(real)) - 1]
    values = {
        "precision": fake_inside.double().mean().item(),
        "recall": real_inside.double().mean().item(),
        "density": memberships / (k * len(fake)),
        "coverage": (to_fake <= real_density).double().mean().item(),
        "memorised": (to_real <= rare).double().mean().item(),
    }
    return {name: values[name] for name in names}
