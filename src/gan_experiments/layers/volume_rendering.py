"""Differentiable rendering of features on three planes, as EG3D does it (Chan et al. 2022, arXiv:2112.07945, §4.1).

A point's features are looked up in three planes through the origin and averaged; a decoder turns them into a density
and colours, and these are gathered along each ray.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Decoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Features [n, m, C] -> colours [n, m, K] and densities [n, m, 1]."""
Draw = Callable[..., Tensor]
"""Draws uniform numbers in [0, 1) of a shape: `torch.rand`, or a model's own."""
AXES = ((0, 1), (0, 2), (1, 2))
"""The two coordinates by which each plane is looked up: across it, and down."""
OFFICIAL_AXES = ((0, 1), (0, 2), (2, 0))
"""The same in the authors' code, in which no plane sees y and z together; the authors' weights depend on it."""


class Marched(NamedTuple):
    """What rays gather: colours [n, rays, K] in [-1, 1], depths [n, rays, 1] and weights [n, rays, samples - 1, 1]."""

    colours: Tensor
    depth: Tensor
    weights: Tensor


def at_planes(planes: Tensor, points: Tensor, box: float, axes: tuple[tuple[int, int], ...] = AXES) -> Tensor:
    """Return the features of points [n, m, 3] on each of planes [n, 3, C, H, W]: [n, 3, m, C].

    The planes reach over a cube of side `box` around the origin; beyond it features are 0.
    """
    n, number = planes.shape[:2]
    places = torch.stack([points[..., pair] for pair in map(list, axes)], dim=1) * (2 / box)  # [n, 3, m, 2]
    found = F.grid_sample(planes.flatten(0, 1), places.flatten(0, 1)[:, None], align_corners=False)
    return found[:, :, 0].transpose(1, 2).unflatten(0, (n, number))


def stratified(near: float, far: float, number: int, rays: Tensor, draw: Draw | None = None) -> Tensor:
    """Return depths [n, rays, number, 1] evenly spaced from `near` to `far`, each moved on by a part of a step.

    `rays` [n, rays, 3] are counted alone. Without `draw` they are not moved.
    """
    depths = torch.linspace(near, far, number).to(rays).expand(*rays.shape[:2], number)
    if draw is not None:
        depths = depths + draw(*depths.shape).to(depths) * ((far - near) / max(number - 1, 1))
    return depths[..., None]


def march(colours: Tensor, densities: Tensor, depths: Tensor, white: bool = False) -> Marched:
    """Gather colours [n, rays, samples, K] along rays, by their densities and depths [n, rays, samples, 1].

    Between two samples both are the means of these, and a density is softplus(density - 1). What passes through is
    black, or with `white` white.
    """
    steps = depths.diff(dim=2)
    colour, density, depth = ((x[:, :, 1:] + x[:, :, :-1]) / 2 for x in (colours, densities, depths))
    opaque = 1 - torch.exp(-F.softplus(density - 1) * steps)
    passed = torch.cumprod(F.pad(1 - opaque + 1e-10, (0, 0, 1, 0), value=1.0), dim=2)[:, :, :-1]
    weights = opaque * passed
    total = weights.sum(2)
    gathered = (weights * colour).sum(2)
    if white:
        gathered = gathered + 1 - total
    far = ((weights * depth).sum(2) / total).nan_to_num(torch.inf).clamp(depths.min(), depths.max())
    return Marched(2 * gathered - 1, far, weights)


@torch.no_grad()
def important(depths: Tensor, weights: Tensor, places: Tensor) -> Tensor:
    """Return further depths [n, rays, number, 1] where the weights [n, rays, samples - 1, 1] of depths are large.

    The weights are smoothed, by the maximum and then the mean of neighbours, and 0.01 is added. `places` in [0, 1),
    [n, rays, number], say where in the distribution over the midpoints of the depths they lie (NeRF, §5.2).
    """
    smooth = F.max_pool1d(weights[..., 0].flatten(0, 1)[:, None].float(), 2, stride=1, padding=1)
    smooth = F.avg_pool1d(smooth, 2, stride=1)[:, 0, 1:-1] + 0.01 + 1e-5
    middles = (depths[:, :, 1:, 0] + depths[:, :, :-1, 0]).flatten(0, 1) / 2
    below = F.pad((smooth / smooth.sum(1, keepdim=True)).cumsum(1), (1, 0))
    wanted = places.flatten(0, 1).contiguous()
    upper = torch.searchsorted(below, wanted, right=True)
    lower, upper = (upper - 1).clamp_min(0), upper.clamp_max(smooth.shape[1])
    low, high = below.gather(1, lower), below.gather(1, upper)
    width = torch.where(high - low < 1e-5, 1.0, high - low)
    left, right = middles.gather(1, lower), middles.gather(1, upper)
    return (left + (wanted - low) / width * (right - left)).view(*places.shape, 1)


def render(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    near: float,
    far: float,
    box: float,
    samples: int = 48,
    further: int = 48,
    white: bool = False,
    draw: Draw | None = None,
    axes: tuple[tuple[int, int], ...] = AXES,
) -> Marched:
    """Render planes [n, 3, C, H, W] along rays, whose origins and directions are [n, rays, 3].

    `samples` depths are evenly spaced between `near` and `far`; `further` ones are put where the first found something.
    All of them are gathered together.
    """

    def looked_up(depths: Tensor) -> tuple[Tensor, Tensor]:
        points = origins[:, :, None] + depths * directions[:, :, None]
        colours, densities = decoder(at_planes(planes, points.flatten(1, 2), box, axes).mean(1))
        return colours.unflatten(1, depths.shape[1:3]), densities.unflatten(1, depths.shape[1:3])

    depths = stratified(near, far, samples, origins, draw)
    colours, densities = looked_up(depths)
    if further:
        weights = march(colours, densities, depths).weights
        shape = (*depths.shape[:2], further)
        even = ((torch.arange(further) + 0.5) / further).expand(shape)
        fine = important(depths, weights, (even if draw is None else draw(*shape)).to(depths))
        more_colours, more_densities = looked_up(fine)
        depths, order = torch.cat([depths, fine], dim=2).sort(dim=2)
        colours = torch.cat([colours, more_colours], dim=2)
        colours = colours.gather(2, order.expand_as(colours))
        densities = torch.cat([densities, more_densities], dim=2).gather(2, order)
    return march(colours, densities, depths, white)
