"""Cameras on the unit sphere and the rays of their pixels, as pi-GAN's code has them; other cameras are in cameras.py.

Chan et al. 2021, arXiv:2012.00926. Places on rays and what rays gather there are in layers/volume_rendering.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
