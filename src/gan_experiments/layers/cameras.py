"""Cameras as EG3D has them: poses, intrinsics, their 25 numbers, and the rays of their pixels.

Chan et al. 2022, arXiv:2112.07945. The world has x to the right, y upwards and z towards the viewer of the front. A
camera has x to the right, y down and z forwards (OpenCV's axes).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NUMBERS = 25
"""A camera's pose, 4x4 row by row, and its intrinsics, 3x3."""


def on_sphere(yaw: Tensor, pitch: Tensor, radius: float) -> Tensor:
    """Return the poses [n, 4, 4] of cameras that look at the origin from a distance; they map camera to world.

    `yaw` [n] is the angle around the vertical axis in radians, 0 in front and positive to the right; `pitch` [n] is the
    angle above the horizon, less than a right one.
    """
    place = radius * torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], dim=1)
    return looking(place, -place)


def looking(place: Tensor, direction: Tensor) -> Tensor:
    """Return the poses [n, 4, 4] of cameras at `place` [n, 3] that look in a direction [n, 3], upright."""
    forwards = F.normalize(direction, dim=1)
    above = torch.tensor([0.0, 1.0, 0.0]).to(place).expand_as(place)
    right = F.normalize(torch.linalg.cross(forwards, above), dim=1)
    down = torch.linalg.cross(forwards, right)
    pose = torch.eye(4).to(place).repeat(len(place), 1, 1)
    pose[:, :3, :3] = torch.stack([right, down, forwards], dim=2)
    pose[:, :3, 3] = place
    return pose


def intrinsics_of(field_of_view: float) -> Tensor:
    """Return the intrinsics [3, 3], in parts of the image's side, of a field of view in degrees across its diagonal."""
    focal = 1 / (math.tan(math.radians(field_of_view) / 2) * math.sqrt(2))
    return torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


def joined(poses: Tensor, intrinsics: Tensor) -> Tensor:
    """Return cameras [n, 25] of poses [n, 4, 4] and intrinsics [3, 3] or [n, 3, 3]."""
    return torch.cat([poses.flatten(1), intrinsics.expand(len(poses), 3, 3).flatten(1)], dim=1)


def parted(cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Return the poses [n, 4, 4] and the intrinsics [n, 3, 3] of cameras [n, 25]."""
    return cameras[:, :16].unflatten(1, (4, 4)), cameras[:, 16:].unflatten(1, (3, 3))


def rays(cameras: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Return the origins and unit directions, each [n, R², 3], of the rays through all pixels, row by row from the top.

    `cameras` are [n, 25], and R is the `resolution`.
    """
    poses, intrinsics = parted(cameras)
    centres = (torch.arange(resolution).to(cameras) + 0.5) / resolution
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten(), torch.ones_like(x.flatten())])  # [3, R²]
    seen = torch.linalg.solve(intrinsics, pixels)  # where they lie at depth 1, [n, 3, R²]
    directions = F.normalize((poses[:, :3, :3] @ seen).transpose(1, 2), dim=2)
    return poses[:, None, :3, 3].expand_as(directions), directions
