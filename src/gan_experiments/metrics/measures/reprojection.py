"""Reprojection error: whether two views of a scene agree, by the depths that the generator says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gan_experiments.cameras import parted, projected, rays
from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values

DEGREES = 15.0
BEHIND = 0.01
"""A point is hidden from a camera if it lies this part of its distance behind what the camera sees there, or more."""
SOLID = 0.5
"""A ray meets something if it is more opaque than this."""


class Seen(NamedTuple):
    """Views: images [n, C, h, w] in [-1, 1], depths along the rays and opacities [n, 1, h, w], cameras [n, 25]."""

    images: Tensor
    depth: Tensor
    opacity: Tensor
    cameras: Tensor


class Reprojection(GenerativeMetric):
    """The mean difference between the views of a scene from two cameras, one warped into the other ("reprojection").

    Each pixel that meets something is moved to where its depth has it and looked up in the other view, bilinearly,
    unless it is hidden there: from behind what that view has in front of it. Of the absolute differences, in parts of
    the range of values, the mean over pixels and channels is taken, and the mean over scenes. 0 is perfect.

    Args:
        degrees: how far apart the cameras are; for the estimator's text.
        scores: None.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("reprojection",)
    higher_is_better = False
    of = "scenes"
    keys = {"degrees": "degrees"}  # noqa: RUF012
    errors: list[Tensor]

    def __init__(self, degrees: float = DEGREES, scores: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(scores, **kwargs)
        self.degrees = degrees
        self.add_state("errors", [], dist_reduce_fx="cat")

    def update(self, here: Seen, there: Seen) -> None:
        """Add the views of n scenes from two cameras each."""
        self.errors.append(errors_of(here, there)[:, None])

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the mean over all scenes on all ranks. Raises ValueError where there are none."""
        errors = self._all("errors")
        if not len(errors):
            raise ValueError("no scenes: Reprojection needs one or more")
        return self._told(self.values(errors[:, 0]), self.device)

    def values(self, errors: Tensor) -> Values:
        """Compute mean and standard deviation of the errors [N] of scenes that show something; NaN if none does."""
        known = errors[~errors.isnan()].double()
        if not len(known):
            return {"reprojection": (torch.nan, None)}
        return {"reprojection": (known.mean().item(), known.std(correction=0).item())}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return (
            f"mean absolute difference in parts of the range, one view warped by its depth into that of a camera"
            f" {self.degrees:g} degrees further around; hidden points, {BEHIND:.0%} of the distance behind, left out;"
            " mean and std over scenes"
        )


def errors_of(here: Seen, there: Seen) -> Tensor:
    """Return the reprojection error [n] of n scenes; NaN where nothing is seen in both views."""
    (height, width), channels = here.images.shape[-2:], here.images.shape[1]
    origins, directions = rays(here.cameras, (height, width))
    points = origins + here.depth.flatten(1)[..., None] * directions
    places = projected(there.cameras, points)[0]
    away = (points - parted(there.cameras)[0][:, None, :3, 3]).norm(dim=2)
    inside = ((places > 0) & (places < 1)).all(2)
    grid = (2 * places - 1)[:, None].clamp(-2, 2)

    def found(rows: Tensor, mode: str = "bilinear") -> Tensor:
        return F.grid_sample(rows, grid, mode, padding_mode="border", align_corners=False)[:, :, 0]

    solid = found(there.opacity, "nearest")[:, 0] > SOLID
    hidden = solid & (away > (1 + BEHIND) * found(there.depth, "nearest")[:, 0])
    counted = (here.opacity.flatten(1) > SOLID) & inside & ~hidden
    apart = (found(there.images) - here.images.flatten(2)).abs().sum(1) / (2 * channels)
    return (apart * counted).sum(1) / counted.sum(1).where(counted.any(1), torch.nan)
