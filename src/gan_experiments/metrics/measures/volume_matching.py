"""Scores of generated volumes against real ones, voxel by voxel: how near the nearest are, how many are reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values

ROWS = 64
"""ShapePairs whose distances are computed at a time: bounds the memory."""


class VolumeMetric(GenerativeMetric):
    """A score of shapes, volumes that are occupied or not, bool [n, D, H, W].

    All shapes are stored and, on several ranks, gathered by `metrics.volumes`; a shape may be empty.
    """

    of = "volumes"
    fake_shapes: list[Tensor]
    real_shapes: list[Tensor]

    def __init__(self, scores: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(scores, **kwargs)
        self.add_state("fake_shapes", [], dist_reduce_fx="cat")
        self.add_state("real_shapes", [], dist_reduce_fx="cat")

    def update(self, shapes: Tensor, real: bool) -> None:
        """Add real shapes bool [n, D, H, W], or fake ones."""
        (self.real_shapes if real else self.fake_shapes).append(shapes)

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the scores. Raises ValueError without a real and a fake shape."""
        if not (self.fake_shapes and self.real_shapes):
            raise ValueError(f"no shapes: {type(self).__name__} needs real and fake ones")
        return self._told(
            self.values(ShapePairs(torch.cat(self.fake_shapes), torch.cat(self.real_shapes))), self.device
        )

    def values(self, shapes: ShapePairs) -> Values:
        """Compute the scores."""
        raise NotImplementedError


class MinimumMatchingDistance(VolumeMetric):
    """The distance from a real shape to the nearest fake one, averaged over the real ones.

    Achlioptas et al. 2018, arXiv:1707.02392, section 3: how well fakes stand for what there is. "mmd_chamfer" is by the
    Chamfer distance of all surface voxels, "mmd_iou" by 1 - intersection over union, see `ShapePairs`.
    """

    scores = ("mmd_chamfer", "mmd_iou")
    higher_is_better = False

    @override
    def values(self, shapes: ShapePairs) -> Values:
        return {name: (shapes.distances(name)[0].mean().item(), None) for name in self.chosen}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return f"mean over real shapes of the least {SAID[score.partition('_')[2]]} to a fake one"


class ShapeCoverage(VolumeMetric):
    """The share of real shapes that are the nearest one to some fake shape.

    Achlioptas et al. 2018, arXiv:1707.02392, section 3: how much of what there is fakes reach, however roughly. It
    depends on how many fakes there are. "cov_chamfer" and "cov_iou" are by the distances of `MinimumMatchingDistance`.
    """

    scores = ("cov_chamfer", "cov_iou")
    higher_is_better = True

    @override
    def values(self, shapes: ShapePairs) -> Values:
        reals = len(shapes.real)
        return {name: (len(shapes.distances(name)[1].unique()) / reals, None) for name in self.chosen}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return f"share of real shapes with the least {SAID[score.partition('_')[2]]} to one of the fakes"


class OnePiece(VolumeMetric):
    """The share of fake shapes that are one piece: all voxels touch, by corners at least. Empty ones are none."""

    scores = ("one_piece",)
    higher_is_better = True

    @override
    def values(self, shapes: ShapePairs) -> Values:
        return {"one_piece": (float(np.mean([pieces(shape) == 1 for shape in shapes.fake])), None)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return "share of fake shapes whose occupied voxels are connected, by faces, edges or corners"


SAID: dict[str, str] = {
    "chamfer": "Chamfer distance (mean squared, of surface voxels, in cubes of side 1, both ways added)",
    "iou": "1 - intersection over union",
}


class ShapePairs:
    """Fake and real shapes, bool [M, D, H, W] and [N, D, H, W], and their distances, computed on first access.

    The Chamfer distance of two shapes is the mean over the surface voxels of each of the squared distance to the
    nearest surface voxel of the other, both ways added, in units of the volume's longest side. An empty shape is at the
    distance 6 from all, as far as two corners of a cube. Two empty ones have the intersection over union 0.
    """

    EMPTY: ClassVar[float] = 6.0

    def __init__(self, fake: Tensor, real: Tensor) -> None:
        self.fake, self.real = fake.cpu().bool(), real.cpu().bool()
        self._known: dict[str, tuple[Tensor, Tensor]] = {}

    def distances(self, score: str) -> tuple[Tensor, Tensor]:
        """Return each real shape's least distance to a fake, float64 [N], and the number of each fake's nearest real.

        The numbers are int64 [M]. `score` ends in the distance, "_chamfer" or "_iou".
        """
        how = score.partition("_")[2]
        if how not in self._known:
            between = self._chamfer() if how == "chamfer" else self._iou()
            self._known[how] = between.amin(dim=1), between.argmin(dim=0)
        return self._known[how]

    def _iou(self) -> Tensor:
        fake, real = (shapes.flatten(1).float() for shapes in (self.fake, self.real))
        both = (real @ fake.T).double()
        either = real.sum(1, dtype=torch.float64)[:, None] + fake.sum(1, dtype=torch.float64) - both
        return 1 - both / either.clamp_min(1)

    def _chamfer(self) -> Tensor:
        longest = max(self.real.shape[1:])
        fake = [(surface(part), far_from(surface(part))) for part in self.fake.split(ROWS)]
        rows = []
        for part in self.real.split(ROWS):
            here = surface(part)
            away = far_from(here)
            row = [_mean_at(away, there) + _mean_at(to_fake, here).T for there, to_fake in fake]
            rows.append(torch.cat(row, dim=1))
        found = torch.cat(rows).double() / longest**2
        empty = ~self.real.flatten(1).any(1)[:, None] | ~self.fake.flatten(1).any(1)
        return found.masked_fill(empty, self.EMPTY)


def _mean_at(squares: Tensor, surfaces: Tensor) -> Tensor:
    """Return the mean of each of some squared distances [n, D, H, W] over each of some surfaces: [n, m]."""
    at = surfaces.flatten(1).float()
    return squares.flatten(1) @ (at / at.sum(1, keepdim=True).clamp_min(1)).T


def surface(shapes: Tensor) -> Tensor:
    """Return the occupied voxels of bool [n, D, H, W] that have a free one, or the border, beside a face."""
    inner = torch.nn.functional.pad(shapes, [1] * 6)
    middle = slice(1, -1)
    covered = shapes.clone()
    for axis in (1, 2, 3):
        for step in (slice(None, -2), slice(2, None)):
            place = [slice(None), middle, middle, middle]
            place[axis] = step
            covered &= inner[tuple(place)]
    return shapes & ~covered


def far_from(shapes: Tensor) -> Tensor:
    """Return the squared distance of each voxel to the nearest of a shape, float32 [n, D, H, W]; 0 for an empty one."""
    from scipy import ndimage

    found = [
        ndimage.distance_transform_edt(~shape) ** 2 if shape.any() else np.zeros(shape.shape)
        for shape in shapes.numpy()
    ]
    return torch.from_numpy(np.stack(found)).float()


def pieces(shape: Tensor) -> int:
    """Count the pieces of a shape bool [D, H, W]; voxels that touch by a face, an edge or a corner are of one."""
    from scipy import ndimage

    return int(ndimage.label(shape.numpy(), np.ones((3, 3, 3)))[1])
