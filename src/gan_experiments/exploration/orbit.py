"""A turntable of scenes: the same z, seen from around, with how far away what is seen is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from gan_experiments import drawing
from gan_experiments.assembly.report import shown
from gan_experiments.bounds import Cells, NotNegative, Positive
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.latent_space import LatentSpace


class Orbit:
    """An animation of `cells` scenes, around each of which the camera moves once on an ellipse.

    The camera goes as far as `yaw` and `pitch` radians from the front, in `steps` frames. Below each image is its
    depth: near is bright. A sheet shows `views` of the frames. The animation shows `fps` frames a second.

    Raises ConfigError for a generator that renders no scenes.
    """

    def __init__(
        self,
        cells: Cells = 6,
        steps: Cells = 40,
        views: Cells = 5,
        yaw: NotNegative = 0.45,
        pitch: NotNegative = 0.2,
        fps: Positive = 20.0,
    ) -> None:
        self.cells, self.steps, self.views, self.yaw, self.pitch, self.fps = cells, steps, views, yaw, pitch, fps

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return the names of the files that it writes."""
        return ["orbit.gif", "orbit.png"]

    @torch.no_grad()
    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write orbit.gif and orbit.png, a row of views for each scene; return 0."""
        network = generator.network
        if not hasattr(network, "seen"):
            raise ConfigError(
                f"what=orbit: {type(network).__name__} draws images and no scenes to walk around; type what=walk, or a"
                " run of model=pi_gan"
            )
        z = generator.noise(self.cells)
        frames = []
        for step in range(self.steps):
            angle = 2 * math.pi * step / self.steps
            off = torch.tensor([self.pitch * math.sin(angle), self.yaw * math.cos(angle)])
            view = network.seen(z, (math.pi / 2 + off).to(z).expand(len(z), -1))
            near, far = view.depth.min(), view.depth.max()
            depth = 1 - 2 * (view.depth - near) / (far - near).clamp_min(1e-9)
            frames.append(torch.stack([view.images, depth.expand_as(view.images)], 1).clamp(-1, 1).cpu())
        pictures = [drawing.sheet(cells.transpose(0, 1).flatten(0, 1)[:, None], columns=len(z)) for cells in frames]
        drawing.save_gif(pictures, out / "orbit.gif", generator.mark, len(pictures) / self.fps, most=len(pictures))
        chosen = torch.linspace(0, self.steps // 2, min(self.views, self.steps)).round().long().tolist()
        cells = torch.stack([frames[step] for step in chosen], 1)  # [scenes, views, 2, C, H, W]
        picture = drawing.sheet(cells.flatten(0, 1), columns=len(chosen))
        drawing.save_png(picture, out / "orbit.png", generator.mark)
        print(f"{shown(out / 'orbit.gif')}  ({len(pictures)} frames)\n{shown(out / 'orbit.png')}")
        return 0
