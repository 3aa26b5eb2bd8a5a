"""Volumes: cubes of voxels, shown as shaded surfaces."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import drawing, files, provenance
from gan_experiments.bounds import sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.kinds.kind import Kind
from gan_experiments.provenance import Mark
from gan_experiments.rendering import SIDE, VIEWS, rendered, views

TWIN_SIDE = 8
"""Side in voxels to which volumes are reduced to be compared."""
MESHES = (".obj", ".ply", ".stl", ".glb")


@dataclass(frozen=True)
class Volume(Kind):
    """Volumes [n, 1, D, H, W] in [-1, 1], 1 where there is something: from front to back, top down, left to right."""

    name = "volumes"
    dims = 5
    suffix = ".npz"
    others = MESHES
    plays = (".gif",)
    recognised = True
    quantisation = "uint8, to the nearest level"
    shown: ClassVar[int] = 36
    """The number of volumes of a sheet of the data."""
    turning: ClassVar[int] = 12
    """The number of volumes that a turntable shows at most, and half the number of its frames."""

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (1, depth, height, width)."""
        return 1, *[sides(data.resolution)[0]] * 3

    def bounded(self, samples: Tensor) -> Tensor:
        """Clip volumes to [-1, 1]."""
        return samples.clamp(-1, 1)

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the occupancy of each volume at 8x8x8."""
        return F.adaptive_avg_pool3d(samples.float(), TWIN_SIDE).flatten(1)

    def traits(self, samples: Tensor) -> Tensor:
        """Return the voxels, 1 for those that are occupied and 0 for the others, float [n, D H W]."""
        return (samples > 0).float().flatten(1)

    def apart(self, traits: Tensor, others: Tensor) -> Tensor:
        """Return 1 - intersection over union, float64 [n, m]; two empty volumes are 1 apart."""
        both = (traits @ others.T).double()
        either = traits.double().sum(1)[:, None] + others.double().sum(1) - both
        return 1 - both / either.clamp_min(1)

    def viewed(self, samples: Tensor) -> Tensor:
        """Return volumes [n, 1, D, H, W] as uint8."""
        return drawing.to_uint8(samples)

    def pictures(self, samples: Tensor) -> Tensor:
        """Render volumes from the front and from behind, side by side: uint8 [n, 3, height, width]."""
        return views(samples if samples.is_floating_point() else samples.float() / 127.5 - 1)

    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Lay pictures of the volumes out in rows, each from two sides: from the front and from behind."""
        pictures = _of_cells(cells)
        if titles and columns:
            return drawing.titled(pictures, columns, titles, smallest)
        return drawing.sheet(pictures, columns, smallest)

    def play(self, cells: Tensor, path: Path, mark: Mark | None) -> None:
        """Write a GIF in which the first volumes turn about their vertical axis."""
        first, columns = cells[: self.turning], min(4, len(cells))
        angles = [360 * frame / (2 * self.turning) for frame in range(2 * self.turning)]
        pictures = [rendered(first.flatten(0, 1), angle, VIEWS[0][1]) for angle in angles]
        turned = [picture.unflatten(0, first.shape[:2]) for picture in pictures]
        frames = [drawing.sheet(picture, columns, smallest=SIDE) for picture in turned]
        drawing.save_gif(frames, path, mark, seconds=3.0)

    def fitting(self, batch: Batch) -> int:
        """Return 36."""
        return self.shown

    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Lay pictures of the volumes of each item side by side, each above its key."""
        volumes = self.samples(batch)
        cells = torch.stack([views(rows) for rows in volumes.values()], dim=1)
        return drawing.captioned(cells, [*volumes] if len(volumes) > 1 else [""], titles)

    def array(self, samples: Tensor) -> np.ndarray:
        """Return volumes [n, D, H, W]."""
        return samples[:, 0].cpu().numpy()

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write an npz, of `voxels` uint8 [D, H, W] and the `mark`; or a mesh of their surface, by the suffix.

        A voxel of 128 or more is occupied. Meshes have their y axis upwards and sides of 1.
        """
        voxels = drawing.to_uint8(sample)[0].cpu().numpy()
        if path.suffix == self.suffix:
            told = {} if mark is None else {"made": np.array(json.dumps(asdict(mark)))}
            with files.whole(path) as unfinished, open(unfinished, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, voxels=voxels, **told)
            return
        save_mesh(surface_of(voxels), path, mark)


VOLUME = Volume()


def surface_of(voxels: np.ndarray) -> Any:
    """Return the surface of voxels uint8 [D, H, W] as a `trimesh.Trimesh`, by marching cubes; empty if there is none.

    Its x axis is to the right, y upwards and z to the front, and the volume is a cube of side 1 around the origin.
    Raises ConfigError if the libraries of the extra `mesh` are not installed.
    """
    return surface_at(voxels[::-1, ::-1].astype(np.float32), 127.5, 1.0)


def surface_at(field: np.ndarray, level: float, side: float) -> Any:
    """Return where a field [Z, Y, X] crosses a level, as a `trimesh.Trimesh`, by marching cubes; empty if nowhere.

    The field is that of the middles of the cells of a cube of this side around the origin, and 0 beyond it. Raises
    ConfigError if the libraries of the extra `mesh` are not installed.
    """
    try:
        import trimesh
        from skimage.measure import marching_cubes
    except ImportError:
        raise ConfigError("meshes need trimesh and scikit-image: pip install 'gan-experiments[mesh]'") from None
    padded = np.pad(field, 1)
    if padded.max() <= level:
        return trimesh.Trimesh()
    vertices, faces, _, _ = marching_cubes(padded, level)
    vertices = ((vertices - 0.5) / np.array(field.shape) - 0.5)[:, ::-1] * side
    return trimesh.Trimesh(vertices, faces, process=False)


def save_mesh(mesh: Any, path: Path, mark: Mark | None) -> None:
    """Write a `trimesh.Trimesh` as its suffix says, obj, ply, stl or glb; the `mark` says how it was made."""
    if mark is not None:
        mesh.metadata["gan_experiments"] = json.dumps(asdict(mark))
    with files.whole(path) as unfinished:
        unfinished.write_bytes(_exported(mesh, path.suffix[1:], mark))


def _exported(mesh: Any, suffix: str, mark: Mark | None) -> bytes:
    if suffix == "obj":
        told = "" if mark is None else f"# {provenance.TEXT} {json.dumps(asdict(mark))}\n"
        found = mesh.export(file_type="obj", include_normals=False) if len(mesh.faces) else ""
        return (told + found).encode()
    found = mesh.export(file_type=suffix) if len(mesh.faces) or suffix == "glb" else b""
    return found if isinstance(found, bytes) else found.encode()


def _of_cells(cells: Tensor) -> Tensor:
    """Render cells [n, k, 1, D, H, W] as uint8 [n, k, 3, height, width], less large if they are many."""
    side = SIDE if len(cells) <= 64 else max(32, int(SIDE * math.sqrt(64 / len(cells))))
    return views(cells.flatten(0, 1), side=side).unflatten(0, cells.shape[:2])
