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
RADIUS, FIELD = 2.7, 18.837
"""How far from the middle EG3D's cameras are, and the field of view in degrees across the diagonal of its images."""
OPENGL = (1.0, -1.0, -1.0)
"""Signs that turn the axes of a camera of OpenGL or Blender, y up and z backwards, into those of OpenCV, and back."""


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


def rays(cameras: Tensor, size: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the origins and unit directions, each [n, H · W, 3], of the rays through all pixels, rows from the top.

    `cameras` are [n, 25], whose intrinsics are in parts of the image's sides; `size` is H and W, or the side of a
    square.
    """
    height, width = (size, size) if isinstance(size, int) else size
    poses, intrinsics = parted(cameras)
    across, down = ((torch.arange(number).to(cameras) + 0.5) / number for number in (width, height))
    v, u = (places.flatten() for places in torch.meshgrid(down, across, indexing="ij"))
    focal_x, skew, x0, _, focal_y, y0 = (each[:, None] for each in intrinsics[:, :2].flatten(1).unbind(1))
    y = (v - y0) / focal_y  # at depth 1, [n, H · W]
    x = (u - x0 - skew * y) / focal_x
    seen = torch.stack([x, y, torch.ones_like(x)], 2)
    directions = F.normalize(seen @ poses[:, :3, :3].mT, dim=2)
    return poses[:, None, :3, 3].expand_as(directions), directions


def angles_of(cameras: Tensor) -> tuple[Tensor, Tensor]:
    """Return yaw and pitch, each [n] in radians, of the places of cameras [n, 25], see `on_sphere`."""
    x, y, z = cameras[:, 3], cameras[:, 7], cameras[:, 11]
    return torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))


def titled(cameras: Tensor) -> list[str]:
    """Return where cameras [n, 25] are in words: yaw and pitch in whole degrees."""
    degrees = torch.stack(angles_of(cameras), 1).rad2deg().round().int().tolist()
    return [f"yaw {yaw}° pitch {pitch}°" for yaw, pitch in degrees]


def turned_to(cameras: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Return cameras [m, 25] at angles [m] in radians that look at the origin, in other things typical of `cameras`.

    Their distance from the origin and their intrinsics are the medians of those of `cameras` [n, 25].
    """
    known = cameras.double().cpu()
    radius = known[:, [3, 7, 11]].norm(dim=1).median().item()
    intrinsics = known[:, 16:].median(0).values.view(3, 3)
    return joined(on_sphere(yaw.double(), pitch.double(), radius), intrinsics).float()


def turned_around(cameras: Tensor, angle: float) -> Tensor:
    """Return cameras [n, 25] that were moved by an angle in radians around the vertical axis, to the right."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, 0, sine, 0], [0, 1, 0, 0], [-sine, 0, cosine, 0], [0, 0, 0, 1.0]]).to(cameras)
    poses, intrinsics = parted(cameras)
    return joined(turn @ poses, intrinsics)


def mirrored(cameras: Tensor) -> Tensor:
    """Return the cameras [n, 25] that see the mirrored world as cameras [n, 25] see the world, mirrored left to right.

    The world is mirrored at its plane x = 0.
    """
    poses, intrinsics = parted(cameras)
    signs = torch.tensor([-1.0, 1.0, 1.0, 1.0]).to(cameras)
    other = intrinsics.clone()
    other[:, 0, 2] = 1 - intrinsics[:, 0, 2]
    other[:, 0, 1] = -intrinsics[:, 0, 1]
    return joined(signs[:, None] * poses * signs, other)


def projected(cameras: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Project points [n, P, 3] of the world: return where cameras [n, 25] see them, [n, P, 2], and how deep, [n, P].

    Places are x from the left and y from the top in parts of the image's sides; depths are along the camera's axis.
    """
    poses, intrinsics = parted(cameras)
    seen = (points - poses[:, None, :3, 3]) @ poses[:, :3, :3]  # the transpose of a rotation is its inverse
    flat = seen @ intrinsics.mT
    return flat[..., :2] / flat[..., 2:], seen[..., 2]


def faults_of(cameras: Tensor) -> tuple[int, str] | None:
    """Return the row of the first of `cameras` [n, 25] that is none, and why; None if all are cameras."""
    poses, intrinsics = parted(cameras.double())
    turns = poses[:, :3, :3]
    skewed = (turns.mT @ turns - torch.eye(3).to(turns)).abs().amax((1, 2))
    corner = torch.tensor([0.0, 0, 0, 1]).to(poses)
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], 1)
    checks = (
        (~cameras.isfinite().all(1), "some of its numbers are not finite"),
        (((poses[:, 3] - corner).abs() > 1e-3).any(1), "the last row of its 4x4 pose is not 0 0 0 1"),
        ((skewed > 1e-2) | (torch.linalg.det(turns.nan_to_num()) < 0), "the 3x3 in its pose is no rotation"),
        (
            (focal <= 0).any(1) | (focal > 50).any(1) | (intrinsics[:, 2, 2] != 1),
            "its 3x3 intrinsics are not in parts of the image's sides: divide its first row by the width in pixels and"
            " the second by the height",
        ),
    )
    for wrong, why in checks:
        if wrong.any():
            return int(wrong.int().argmax()), why
    return None
