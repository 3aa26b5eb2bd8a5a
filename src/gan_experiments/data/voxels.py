"""Volumes of voxels out of files: arrays, binvox, and meshes of triangles."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.data.limits import UnreadableImageError, why

ARRAYS = (".npy", ".npz")
MESHES = (".obj", ".stl", ".ply", ".off", ".glb")
SUFFIXES = (*ARRAYS, ".binvox", *MESHES)
UP = ("y", "z")
MARGIN = 1
"""Empty voxels around a mesh, on each side."""
LONGEST = 1024
"""The greatest side of a grid that is read: a small file can unpack to more than any memory holds."""
_SPACING = 0.35  # voxels between points on a triangle, so that none that it passes through is missed by much
_POINTS = 2_000_000  # drawn at a time: bounds the memory


def grid_of(raw: bytes, name: str, resolution: int, up: str = "y") -> tuple[Tensor, str]:
    """Read a file to voxels uint8 [1, D, H, W], 0 or 255, with D = H = W = `resolution`; and what was seen of it.

    The first index counts from the front to the back, the second from the top down, the third from left to right. The
    suffix of `name` says what the file is. Arrays [D, H, W] are occupied where they are more than half of their
    greatest value; of an npz the first array is taken. `up` is the axis of a mesh that points upwards. Raises
    UnreadableImageError for what is broken, empty or no volume.
    """
    suffix = PurePosixPath(name).suffix.lower()
    try:
        if suffix in ARRAYS:
            found, seen = _array(raw, suffix), ""
        elif suffix == ".binvox":
            found, seen = _binvox(raw), ""
        elif suffix in MESHES:
            vertices, faces, closed = mesh_of(raw, suffix)
            return _packed(voxelised(vertices, faces, resolution, closed, up)), "" if closed else "not watertight"
        else:
            raise UnreadableImageError(f"no volume: {', '.join(SUFFIXES)} are")
    except UnreadableImageError:
        raise
    except Exception as error:  # readers raise nearly everything on broken files, and one file must not end the run
        raise UnreadableImageError(why(error)) from None
    if not found.any():
        raise UnreadableImageError("empty: no voxel is occupied")
    return _packed(resized(found, resolution)), seen


def _packed(grid: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(grid)).to(torch.uint8)[None] * 255


def _array(raw: bytes, suffix: str) -> np.ndarray:
    if suffix == ".npz":
        with np.load(io.BytesIO(raw)) as packed:
            array = packed[packed.files[0]]
    else:
        array = np.load(io.BytesIO(raw))
    array = array.squeeze()
    if array.ndim != 3 or array.dtype.kind not in "biuf" or max(array.shape) > LONGEST:
        shape = "x".join(map(str, array.shape))
        raise UnreadableImageError(f"{array.dtype} {shape}: one volume of three sides to {LONGEST} is needed")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UnreadableImageError("some of its values are not finite")
    return array > 0.5 * array.max() if array.max() > 0 else np.zeros(array.shape, bool)


def _binvox(raw: bytes) -> np.ndarray:
    """Read what Patrick Min's binvox writes: a header, then pairs of a value and how often it comes.

    Its voxels are in the order x, z, y, with y upwards.
    """
    head, _, body = raw.partition(b"data\n")
    words = head.split()
    if words[:1] != [b"#binvox"] or b"dim" not in words:
        raise UnreadableImageError("no header of binvox")
    sides = [int(word) for word in words[words.index(b"dim") + 1 :][:3]]
    if len(sides) != 3 or not all(0 < side <= LONGEST for side in sides):
        raise UnreadableImageError(f"sides of {sides}: 1 to {LONGEST} are needed")
    pairs = np.frombuffer(body[: len(body) // 2 * 2], dtype=np.uint8).reshape(-1, 2)
    number = int(pairs[:, 1].sum(dtype=np.int64))
    if number != int(np.prod(sides)):
        raise UnreadableImageError(f"{number} voxels, and its header says {int(np.prod(sides))}")
    x_z_y = np.repeat(pairs[:, 0] != 0, pairs[:, 1]).reshape(sides)
    return x_z_y.transpose(1, 2, 0)[::-1, ::-1]


def resized(grid: np.ndarray, resolution: int) -> np.ndarray:
    """Bring voxels bool [D, H, W] to a cube of `resolution`: padded to a cube, then occupied where any of its are."""
    longest = max(grid.shape)
    margins = [((longest - side) // 2, longest - side - (longest - side) // 2) for side in grid.shape]
    cube = torch.from_numpy(np.pad(grid, margins)).float()[None, None]
    if longest > resolution:
        cube = F.adaptive_max_pool3d(cube, resolution)
    elif longest < resolution:
        cube = F.interpolate(cube, (resolution,) * 3, mode="nearest")
    return cube[0, 0].numpy() > 0


def mesh_of(raw: bytes, suffix: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Read a mesh: vertices float64 [V, 3], triangles int64 [F, 3], and whether it is watertight.

    Raises UnreadableImageError for a mesh that is broken or without triangles, and if trimesh is not installed.
    """
    try:
        import trimesh
    except ImportError:
        raise UnreadableImageError("meshes need trimesh: pip install 'gan-experiments[mesh]'") from None
    options: dict[str, Any] = {"skip_materials": True} if suffix == ".obj" else {}
    found: Any = trimesh.load(io.BytesIO(raw), file_type=suffix[1:], force="mesh", **options)
    vertices, faces = np.asarray(found.vertices, dtype=np.float64), np.asarray(getattr(found, "faces", []))
    if not len(faces):
        raise UnreadableImageError("empty: no triangle in it")
    if not np.isfinite(vertices).all() or faces.min() < 0 or faces.max() >= len(vertices):
        raise UnreadableImageError("broken: its triangles have corners that are nowhere")
    return vertices, faces.astype(np.int64), bool(found.is_watertight)


def voxelised(
    vertices: np.ndarray, faces: np.ndarray, resolution: int, closed: bool = False, up: str = "y"
) -> np.ndarray:
    """Return the voxels bool [D, H, W] of a mesh, vertices [V, 3] and triangles [F, 3], its longest side in the middle.

    The inside of a `closed` mesh is filled exactly. Of others the visual hull is: all that cannot be seen from outside
    along one of the six directions of the axes, as their triangles may leave gaps. `up` says which axis points upwards,
    "y" or "z". Raises UnreadableImageError for a mesh of no extent.
    """
    from scipy import ndimage

    corners = vertices[faces]  # [F, 3, 3]
    if up == "z":
        corners = corners[..., [0, 2, 1]] * np.array([1, 1, -1])
    low, high = corners.min((0, 1)), corners.max((0, 1))
    if not (high - low).max() > 0:
        raise UnreadableImageError("empty: all of its corners are in one place")
    scale = (resolution - 2 * MARGIN) / (high - low).max() * (1 - 1e-6)  # the far end lies in the last voxel
    corners = (corners - (low + high) / 2) * scale + resolution / 2
    shell = np.zeros((resolution,) * 3, dtype=bool)  # x, y, z
    edges = np.linalg.norm(corners - corners[:, [1, 2, 0]], axis=2).max(1)
    counts = np.maximum(1, np.ceil(edges / _SPACING)).astype(np.int64)
    for count in np.unique(counts):
        a, b = np.divmod(np.arange((count + 1) ** 2), count + 1)
        inside = a + b <= count
        weights = np.stack([a, b, count - a - b], 1)[inside] / count  # [P, 3]
        alike = corners[counts == count]
        for part in np.array_split(alike, max(1, len(alike) * len(weights) // _POINTS)):
            points = np.einsum("pc,fcx->fpx", weights, part).reshape(-1, 3)
            cells = np.floor(points).astype(np.int64).clip(0, resolution - 1)
            shell[tuple(cells.T)] = True
    grid = ndimage.binary_fill_holes(shell) if closed else hull(shell)
    return grid[:, ::-1, ::-1].transpose(2, 1, 0)  # x, y, z -> front to back, top down, left to right


def hull(shell: np.ndarray) -> np.ndarray:
    """Return the visual hull of voxels bool [A, B, C]: without those that see a side of the grid along an axis."""
    seen = np.zeros_like(shell)
    for axis in range(3):
        for flip in (False, True):
            along = np.flip(shell, axis) if flip else shell
            free = ~np.maximum.accumulate(along, axis=axis)
            seen |= np.flip(free, axis) if flip else free
    return ~seen
