"""Differentiable rendering of scenes: where rays are sampled, and what they gather there.

As in NeRF (Mildenhall, Srinivasan, Tancik, Barron, Ramamoorthi, Ng, 2020, arXiv:2003.08934, sections 4 and 5.2), and of
features on three planes as in EG3D (Chan et al. 2022, arXiv:2112.07945, section 4.1): a point's features are looked up
in three planes through the origin and averaged; a decoder turns them into a density and colours, and these are gathered
along each ray.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Decoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Features [n, m, C] -> colours [n, m, K] and densities [n, m, 1]."""
Draw = Callable[..., Tensor]
"""Draws uniform numbers in [0, 1) of a shape: `torch.rand`, or a model's own."""
LAST = 1e10
"""The length of a ray's last interval, in which all that is left of it ends."""
EPSILON = 1e-5
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
    along = (points * (2 / box)).unbind(-1)
    places = torch.stack([torch.stack([along[x], along[y]], dim=-1) for x, y in axes], dim=1)  # [n, 3, m, 2]
    found = F.grid_sample(planes.flatten(0, 1), places.flatten(0, 1)[:, None], align_corners=False)
    return found[:, :, 0].transpose(1, 2).unflatten(0, (n, number))


def limits_of(origins: Tensor, directions: Tensor, box: float) -> tuple[Tensor, Tensor]:
    """Return where rays [n, rays, 3] enter and leave the cube of side `box` around the origin, each [n, rays, 1].

    Those that miss it get the nearest and the farthest entrance of their image, as nothing is on them.
    """
    ends = torch.stack([(side * box / 2 - origins) / directions for side in (-1, 1)])
    near, far = ends.amin(0).amax(-1, keepdim=True), ends.amax(0).amin(-1, keepdim=True)
    meets = far > near
    first = near.where(meets, torch.inf).amin(1, keepdim=True)
    last = near.where(meets, -torch.inf).amax(1, keepdim=True)
    return near.where(meets, first).nan_to_num(0.0, 0.0, 0.0), far.where(meets, last).nan_to_num(1.0, 1.0, 1.0)


def stratified(
    near: float | Tensor, far: float | Tensor, number: int, rays: Tensor, draw: Draw | None = None
) -> Tensor:
    """Return depths [n, rays, number, 1] evenly spaced from `near` to `far`, each moved on by a part of a step.

    `rays` [n, rays, 3] are counted alone; `near` and `far` are numbers or [n, rays, 1]. Without `draw` depths are not
    moved.
    """
    shape = (*rays.shape[:2], number)
    evenly = partial(torch.linspace, steps=number, dtype=rays.dtype, device=rays.device)
    if isinstance(near, Tensor) or isinstance(far, Tensor):
        depths = near + evenly(0, 1) * (far - near)
    else:
        depths = evenly(near, far)
    depths = depths.expand(shape)
    if draw is not None:
        depths = depths + draw(*shape).to(depths) * ((far - near) / max(number - 1, 1))
    return depths[..., None]


def positive(density: Tensor) -> Tensor:
    """Return the densities by which light is lost of raw ones: softplus(density - 1)."""
    return F.softplus(density - 1)


def march(colours: Tensor, densities: Tensor, depths: Tensor, white: bool = False) -> Marched:
    """Gather colours [n, rays, samples, K] along rays, by their densities and depths [n, rays, samples, 1].

    Between two samples both are the means of these, and a density is softplus(density - 1). What passes through is
    black, or with `white` white.
    """
    steps = depths.diff(dim=2)
    colour, density, depth = ((x[:, :, 1:] + x[:, :, :-1]) / 2 for x in (colours, densities, depths))
    opaque = 1 - torch.exp(-positive(density) * steps)
    passed = running_product(F.pad(1 - opaque + 1e-10, (0, 0, 1, 0), value=1.0), 2)[:, :, :-1]
    weights = opaque * passed
    total = weights.sum(2)
    gathered = (weights * colour).sum(2)
    if white:
        gathered = gathered + 1 - total
    far = ((weights * depth).sum(2) / total).nan_to_num(torch.inf).clamp(depths.min(), depths.max())
    return Marched(2 * gathered - 1, far, weights)


def running_product(x: Tensor, dim: int) -> Tensor:
    """Return torch.cumprod(x, dim), in exported files factor by factor: ONNX has no such operator."""
    if not torch.compiler.is_exporting():
        return torch.cumprod(x, dim)
    return torch.stack([*itertools.accumulate(x.unbind(dim), torch.mul)], dim)


@torch.no_grad()
def important(depths: Tensor, weights: Tensor, places: Tensor) -> Tensor:
    """Return further depths [n, rays, number, 1] where the weights [n, rays, samples - 1, 1] of depths are large.

    The weights are smoothed, by the maximum and then the mean of neighbours, and 0.01 is added. `places` in [0, 1),
    [n, rays, number], say where in the distribution over the midpoints of the depths they lie.
    """
    smooth = F.max_pool1d(weights[..., 0].flatten(0, 1)[:, None], 2, stride=1, padding=1)
    smooth = F.avg_pool1d(smooth, 2, stride=1).view(*depths.shape[:2], -1)[..., 1:-1] + 0.01 + EPSILON
    return between(_middles(depths[..., 0]), smooth, places)[..., None]


def between(edges: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Return the places [..., M] between edges [..., E] at quantiles `uniform` [..., M] in [0, 1) (NeRF, §5.2).

    The density is constant from one edge to the next, in proportion to the weights; there can be fewer of these than
    spaces, and nothing lies beyond the last of them.
    """
    share = weights / weights.sum(-1, keepdim=True)
    reached = F.pad(share.cumsum(-1), (1, 0))
    above = (reached[..., None, :] < uniform[..., :, None]).sum(-1)  # torch.searchsorted, which ONNX lacks
    low, high = (above - 1).clamp_min(0), above.clamp_max(share.shape[-1])
    start, end = reached.gather(-1, low), reached.gather(-1, high)
    length = torch.where(end - start < EPSILON, 1.0, end - start)
    first, last = edges.gather(-1, low), edges.gather(-1, high)
    return first + (uniform - start) / length * (last - first)


def weights_of(density: Tensor, places: Tensor) -> Tensor:
    """Return the weight of each sample of a ray, [..., S], from densities of 0 or more at places [..., S].

    The last sample gets all that is left, if its density is above 0 (NeRF, eq. 3).
    """
    lengths = torch.cat([places[..., 1:] - places[..., :-1], torch.full_like(places[..., :1], LAST)], -1)
    opaque = 1 - torch.exp(-lengths * density)
    through = running_product(torch.cat([torch.ones_like(opaque[..., :1]), 1 - opaque + 1e-10], -1), -1)
    return opaque * through[..., :-1]


def where_it_counts(places: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Return further places [..., M] on rays, drawn in proportion to the weights of the first (NeRF, §5.2).

    `places` and `weights` are [..., S], in order; `uniform` numbers [..., M] in [0, 1) choose. The density of the draw
    is constant between the middles of neighbouring places.
    """
    return between(_middles(places), weights[..., 1:-1] + 2 * EPSILON, uniform)


def _middles(places: Tensor) -> Tensor:
    return (places[..., 1:] + places[..., :-1]) / 2


def render(
    planes: Tensor,
    decoder: Decoder,
    origins: Tensor,
    directions: Tensor,
    near: float | Tensor,
    far: float | Tensor,
    box: float,
    samples: int = 48,
    further: int = 48,
    white: bool = False,
    draw: Draw | None = None,
    axes: tuple[tuple[int, int], ...] = AXES,
) -> Marched:
    """Render planes [n, 3, C, H, W] along rays, whose origins and directions are [n, rays, 3].

    `samples` depths are evenly spaced between `near` and `far`, numbers or [n, rays, 1]; `further` ones are put where
    the first found something.
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
        even = (torch.arange(further, dtype=depths.dtype, device=depths.device) + 0.5) / further
        fine = important(depths, weights, even.expand(shape) if draw is None else draw(*shape).to(depths))
        more_colours, more_densities = looked_up(fine)
        depths, order = torch.cat([depths, fine], dim=2).sort(dim=2)
        colours = torch.cat([colours, more_colours], dim=2)
        colours = colours.gather(2, order.expand_as(colours))
        densities = torch.cat([densities, more_densities], dim=2).gather(2, order)
    return march(colours, densities, depths, white)
