"""Meshes of the scenes that a generator renders: where their density crosses a level (Lorensen and Cline 1987)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from gan_experiments import drawing
from gan_experiments.assembly.report import shown
from gan_experiments.bounds import Cells, OneOf, Positive
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.kinds import VOLUME
from gan_experiments.kinds.volume import save_mesh, surface_at
from gan_experiments.models import scenes

FORMATS = ("ply", "obj", "glb", "stl")
AT_A_TIME = 1 << 16
"""Points at a time."""


class Shape:
    """A mesh of each of `cells` scenes, and a picture of them.

    The density is looked up at `resolution` points a side of the box that holds the scene. The surface is where it
    crosses `level`; None is the density that takes half of the light between two samples of a ray, ln(2) over their
    distance. Meshes are in units of the world, their y axis upwards. A scene that is nowhere so dense is named and left
    out. Raises ConfigError for a generator that renders no scenes, and if that is true of all.
    """

    def __init__(
        self,
        cells: Cells = 4,
        resolution: Annotated[int, Field(ge=8, le=512)] = 64,
        level: Positive | None = None,
        format: Annotated[str, OneOf(*FORMATS)] = "ply",
    ) -> None:
        self.cells, self.resolution, self.level, self.format = cells, resolution, level, format
        if format not in FORMATS:
            raise ConfigError(f"what.format={format}: type what.format= one of {', '.join(FORMATS)}")

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return [f"shape-*.{self.format}", "shape.png"]

    @torch.no_grad()
    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write shape-00.ply, ..., and shape.png; return 0."""
        network = generator.network
        scenes.require(network, "what=shape")
        level = math.log(2) / network.step if self.level is None else self.level
        densities = torch.stack([self.sampled(network, one[None]) for one in generator.latents(self.cells)])
        if not (densities > level).any():
            raise ConfigError(
                f"what.level={level:.4g}: no scene is so dense; the greatest density is {densities.max():.4g}, type a"
                f" lower one, what.level={max(densities.max().item() / 2, 1e-9):.3g}"
            )
        paths = []
        for index, density in enumerate(densities):
            if density.max() <= level:
                print(
                    f"scene {index} is left out: its greatest density is {density.max():.4g}; type a lower what.level"
                )
                continue
            mesh = surface_at(density.numpy(), level, network.box)
            paths.append(out / f"shape-{index:02d}.{self.format}")
            save_mesh(mesh, paths[-1], generator.mark)
        # what is denser than the level is above 0, and as far from it as from nothing
        volumes = ((densities / level).clamp(0, 2) - 1)[:, None].flip(-3, -2)
        drawing.save_png(VOLUME.sheet(volumes[:, None]), out / "shape.png", generator.mark)
        print("\n".join([*(shown(path) for path in paths), shown(out / "shape.png")]))
        print(f"level {level:.4g}, above which {(densities > level).float().mean():.2%} of the boxes are")
        return 0

    def sampled(self, network: Any, latent: Tensor) -> Tensor:
        """Return the densities [R, R, R] of a scene in the middles of cells of the box, by z, y and x, on the CPU."""
        places = ((torch.arange(self.resolution) + 0.5) / self.resolution - 0.5) * network.box
        z, y, x = torch.meshgrid(places, places, places, indexing="ij")
        points = torch.stack([x, y, z], -1).flatten(0, 2)[None].to(latent)
        found = [network.densities(latent, some) for some in points.split(AT_A_TIME, dim=1)]
        return torch.cat(found, 1).float().cpu().view(z.shape)
