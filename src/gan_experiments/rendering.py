"""Shaded pictures of volumes: rays, the first surface that each meets, light from the upper left."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

VIEWS = ((35.0, 20.0), (215.0, 20.0))
"""The angles that a sheet shows, in degrees: yaw, how far the eye has gone to the right around the volume, and pitch,
how far it has risen above it. Yaw 0 looks at the front."""
SIDE = 72
"""The side of a view in pixels."""
REACH = 1.5
"""The side of the square that a view shows, in sides of the volume: less than √3, so that shapes are not tiny."""
LIGHT = (-0.45, -0.65, -0.6)
"""The direction from the surface to the light, seen by the eye: left, up and towards it."""
CLAY = (0.80, 0.66, 0.52)
"""The colour of the surface in RGB, of 1."""
AMBIENT = 0.35
TOGETHER = 16
"""Volumes whose rays are sampled at once."""


def turned(yaw: float, pitch: float) -> Tensor:
    """Return the rotation [3, 3] that maps right, down and forwards as an eye sees them to the volume's (x, y, z).

    x is to the right, y down and z to the back of a volume [D, H, W], whose indices are (z, y, x). Angles are degrees.
    """
    a, b = math.radians(yaw), math.radians(pitch)
    around = torch.tensor([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
    above = torch.tensor([[1, 0, 0], [0, math.cos(b), math.sin(b)], [0, -math.sin(b), math.cos(b)]])
    return around @ above


def rendered(volumes: Tensor, yaw: float, pitch: float, side: int = SIDE, level: float = 0.0) -> Tensor:
    """Render volumes [n, 1, D, H, W] from one angle, uint8 [n, 3, side, side], on white, by parallel rays.

    The surface is where the values, which lie in [-1, 1], cross `level`; what lies beyond the volume is empty. Values
    that are not finite are empty too.
    """
    eye, length = turned(yaw, pitch), REACH * 1.15
    across = ((torch.arange(side) + 0.5) / side - 0.5) * REACH
    down, right = torch.meshgrid(across, across, indexing="ij")
    origins = torch.stack([right, down, torch.full_like(right, -length / 2)], -1) @ eye.T
    return seen_along(volumes, origins, eye[:, 2].expand_as(origins), length, eye, level)


@torch.no_grad()
def seen_along(
    volumes: Tensor,
    origins: Tensor,
    directions: Tensor,
    length: float,
    eye: Tensor | None = None,
    level: float = 0.0,
    paint: Sequence[Sequence[float]] | None = None,
) -> Tensor:
    """Render volumes [n, 1, D, H, W] along rays of a length, uint8 [n, 3, height, width], on white.

    `origins` and unit `directions` [height, width, 3] are in the volume's (x, y, z), in its longest sides from its
    centre. The light moves with the `eye`, a rotation as of `turned`, and what is far is darker; without it the light
    stands still, in front of the volume, so that a place looks alike from everywhere. `paint` are the colours in RGB,
    of 1, of the bottom and of the top of the volume, in place of clay; the light is then soft, and reaches the back.
    """
    field = F.pad(volumes.float().cpu().nan_to_num(-1, -1, -1) - level, [1] * 6, value=-1.0 - level)
    soft = F.avg_pool3d(F.pad(field, [1] * 6, mode="replicate"), 3, stride=1)  # for the normals
    n, _, deep, high, wide = field.shape
    longest = max(deep, high, wide) - 2
    steps = math.ceil(length * longest)
    scale = 2 / torch.tensor([wide, high, deep], dtype=torch.float32)
    along = (torch.arange(steps) + 0.5) / steps * length
    places = (origins + along[:, None, None, None] * directions) * longest * scale
    rays = (places.abs() <= 1 + scale).all(-1).any(0)  # those that meet the volume
    rows, columns = rays.nonzero().T
    places, step = places[:, rays], (directions * (length / steps * longest) * scale)[rays]
    pictures = torch.full((n, 3, *origins.shape[:2]), 255, dtype=torch.uint8)
    light = torch.tensor(LIGHT) / torch.tensor(LIGHT).norm()
    nudges = torch.eye(3) * scale
    for index in range(n):
        if index % TOGETHER == 0:  # as the channels of one, in a third of the time
            some = field[index : index + TOGETHER].transpose(0, 1)
            seen = F.grid_sample(some, places[None, None], align_corners=False)[0, :, 0]
        values = seen[index % TOGETHER]  # [steps, rays]
        solid = values > 0
        first = solid.to(torch.uint8).argmax(0)
        hit = solid.gather(0, first[None])[0].nonzero()[:, 0]
        if not len(hit):
            continue
        first = first[hit]
        inside, outside = values[first, hit], values[(first - 1).clamp_min(0), hit].clamp_max(0)
        back = (inside / (inside - outside).clamp_min(1e-6))[:, None]
        at = places[first, hit] - back * step[hit]
        around = (at[:, None] + torch.stack([nudges, -nudges])[:, None]).permute(0, 2, 1, 3)[None]  # [1, 2, 3, m, 3]
        found = F.grid_sample(soft[index : index + 1], around, align_corners=False)[0, 0]
        normal = F.normalize((found[1] - found[0]).T, dim=1)  # out of the surface
        lit = (normal if eye is None else normal @ eye) @ light
        shade = AMBIENT + (1 - AMBIENT) * (lit.clamp_min(0) if paint is None else (1 + lit) / 2)
        if eye is not None:
            shade = shade * (1.05 - 0.35 * along[first] / length)
        colours = torch.tensor(CLAY)[:, None]
        if paint is not None:
            height = (1 - at[:, 1] * high / (high - 2)) / 2
            bottom, top = (torch.tensor(colour)[:, None] for colour in paint)
            colours = bottom + (top - bottom) * height.clamp(0, 1)
        colour = (colours * shade * 255).round().clamp(0, 255).to(torch.uint8)
        pictures[index, :, rows[hit], columns[hit]] = colour
    return pictures


def views(volumes: Tensor, angles: Sequence[tuple[float, float]] = VIEWS, side: int = SIDE) -> Tensor:
    """Render volumes [n, 1, D, H, W] from several angles, side by side: uint8 [n, 3, side, side * angles]."""
    return torch.cat([rendered(volumes, yaw, pitch, side) for yaw, pitch in angles], dim=-1)
