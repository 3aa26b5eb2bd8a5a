"""Rays through a scene: where they go, where they are sampled, and what they see (Mildenhall et al. 2020, NeRF).

Mildenhall, Srinivasan, Tancik, Barron, Ramamoorthi, Ng, 2020, arXiv:2003.08934, sections 4 and 5.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LAST = 1e10
"""The length of a ray's last interval, in which all that is left of it ends."""
EPSILON = 1e-5


def camera_on_sphere(yaw: Tensor, pitch: Tensor) -> Tensor:
    """Return cameras `[N, 4, 4]` on the unit sphere that look at its centre; columns are right, up, backward, place.

    `yaw` and `pitch` `[N]` in radians are the azimuth, π/2 in front, and the angle from the vertical axis, π/2 on its
    equator.
    """
    place = torch.stack([pitch.sin() * yaw.cos(), pitch.cos(), pitch.sin() * yaw.sin()], 1)
    vertical = torch.zeros_like(place)
    vertical[:, 1] = 1
    forward = -place
    left = torch.linalg.cross(vertical, forward)
    left = left / left.norm(dim=1, keepdim=True)
    up = torch.linalg.cross(forward, left)
    rows = torch.stack([-left, up, -forward, place], 2)  # [N, 3, 4]
    below = torch.zeros_like(rows[:, :1])
    below[:, :, 3] = 1
    return torch.cat([rows, below], 1)


def pixel_rays(height: int, width: int, view: float, like: Tensor) -> Tensor:
    """Return the unit directions `[H · W, 3]` of the pixels, in rows from the top, of a camera that looks along -z.

    `view` is the angle in degrees that the longer side takes up, from the centre of its first pixel to that of its
    last. The dtype and the device are those of `like`.
    """
    longer = max(height, width)
    across = torch.linspace(-width / longer, width / longer, width, dtype=like.dtype, device=like.device)
    down = torch.linspace(height / longer, -height / longer, height, dtype=like.dtype, device=like.device)
    y, x = torch.meshgrid(down, across, indexing="ij")
    depth = torch.full_like(x, -1 / math.tan(math.radians(view) / 2))
    rays = torch.stack([x, y, depth], -1).flatten(0, 1)
    return rays / rays.norm(dim=-1, keepdim=True)


def weights_of(density: Tensor, places: Tensor) -> Tensor:
    """Return the weight of each sample of a ray, `[..., S]`, from densities of 0 or more at places `[..., S]` (eq. 3).

    The last sample gets all that is left, if its density is above 0.
    """
    lengths = torch.cat([places[..., 1:] - places[..., :-1], torch.full_like(places[..., :1], LAST)], -1)
    opaque = 1 - torch.exp(-lengths * density)
    through = torch.cat([torch.ones_like(opaque[..., :1]), 1 - opaque + 1e-10], -1).cumprod(-1)
    return opaque * through[..., :-1]


def where_it_counts(places: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Return further places `[..., M]` on rays, drawn in proportion to the weights of the first (section 5.2).

    `places` and `weights` are `[..., S]`, in order; `uniform` numbers `[..., M]` in [0, 1) choose. The density of the
    draw is constant between the middles of neighbouring places.
    """
    bins = (places[..., 1:] + places[..., :-1]) / 2  # [..., S - 1]
    inner = weights[..., 1:-1] + 2 * EPSILON
    share = inner / inner.sum(-1, keepdim=True)
    reached = torch.cat([torch.zeros_like(share[..., :1]), share.cumsum(-1)], -1)  # [..., S - 1]
    above = (reached[..., None, :] < uniform[..., :, None]).sum(-1)  # torch.searchsorted, which ONNX lacks
    low, high = (above - 1).clamp_min(0), above.clamp_max(share.shape[-1])
    start, end = reached.gather(-1, low), reached.gather(-1, high)
    length = torch.where(end - start < EPSILON, 1.0, end - start)
    first, last = bins.gather(-1, low), bins.gather(-1, high)
    return first + (uniform - start) / length * (last - first)
