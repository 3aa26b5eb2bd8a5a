"""A turntable of scenes: the same z, seen from around, with how far away what is seen is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from gan_experiments import drawing, films
from gan_experiments.assembly.report import shown
from gan_experiments.bounds import Cells, NotNegative, OneOf, Positive
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.models import scenes

FORMATS = ("gif", "mp4")


class Orbit:
    """An animation of `cells` scenes, around each of which the camera moves once.

    A scene that is seen from all sides in the data is walked around, at their middle height. Others are seen from an
    ellipse around the front, as far as `yaw` and `pitch` radians away; None is as far as the data go, and half of that.
    There are `steps` frames. Below each image is its depth: near is bright. A sheet shows `views` of the frames. The
    animation shows `fps` frames a second; it is a GIF, or with the `format` "mp4" a film.

    Raises ConfigError for a generator that renders no scenes, and for an MP4 without PyAV.
    """

    def __init__(
        self,
        cells: Cells = 6,
        steps: Cells = 40,
        views: Cells = 5,
        yaw: NotNegative | None = None,
        pitch: NotNegative | None = None,
        fps: Positive = 20.0,
        format: Annotated[str, OneOf(*FORMATS)] = "gif",
    ) -> None:
        self.cells, self.steps, self.views, self.yaw, self.pitch, self.fps = cells, steps, views, yaw, pitch, fps
        self.format = format
        if format not in FORMATS:
            raise ConfigError(f"what.format={format}: type what.format={' or '.join(FORMATS)}")

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return the names of the files that it writes."""
        return [f"orbit.{self.format}", "orbit.png"]

    def path(self, generator: LatentSpace) -> Tensor:
        """Return yaw and pitch of the camera in each frame, [steps, 2] in radians."""
        angle = 2 * math.pi * torch.arange(self.steps) / self.steps
        far, height = scenes.usual_angles(generator.network, generator.conditions)
        if far is None and self.yaw is None:
            up = 0.0 if self.pitch is None else self.pitch
            return torch.stack([angle, height + up * angle.sin()], 1)
        far = self.yaw if self.yaw is not None else far or 0.0
        up = far / 2 if self.pitch is None else self.pitch
        return torch.stack([far * angle.cos(), (height + up * angle.sin()).clamp(-1.5, 1.5)], 1)

    @torch.no_grad()
    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write orbit.gif and orbit.png, a row of views for each scene; return 0."""
        scenes.require(generator.network, "what=orbit")
        if self.format == "mp4":
            films.require("what.format=mp4 needs")
        latents = generator.latents(self.cells)
        views = []
        for yaw, pitch in self.path(generator):
            cameras = scenes.cameras_at(generator.network, generator.conditions, yaw[None], pitch[None])
            view = generator.network.seen(latents, cameras.to(latents).expand(len(latents), -1))
            views.append((view.images.clamp(-1, 1).float().cpu(), _near(view.depth, view.opacity)))
        depths = torch.stack([depth for _, depth in views])
        known = depths[depths.isfinite()]
        low, high = (known.quantile(torch.tensor([0.01, 0.99]))).tolist() if len(known) else (0.0, 1.0)
        frames = []
        for images, depth in views:
            bright = (1 - 2 * (depth - low) / max(high - low, 1e-9)).clamp(-1, 1).nan_to_num(-1.0)
            bright = torch.nn.functional.interpolate(bright, images.shape[-2:])
            frames.append(torch.stack([images, bright.expand_as(images)], 1))
        pictures = [drawing.sheet(cells.transpose(0, 1).flatten(0, 1)[:, None], columns=self.cells) for cells in frames]
        path = out / f"orbit.{self.format}"
        if self.format == "mp4":
            films.save_mp4(torch.stack(pictures), path, self.fps, generator.mark)
        else:
            drawing.save_gif(pictures, path, generator.mark, len(pictures) / self.fps, most=len(pictures))
        chosen = (torch.arange(min(self.views, self.steps)) * self.steps // min(self.views, self.steps)).tolist()
        cells = torch.stack([frames[step] for step in chosen], 1)  # [scenes, views, 2, C, H, W]
        drawing.save_png(drawing.sheet(cells.flatten(0, 1), columns=len(chosen)), out / "orbit.png", generator.mark)
        print(f"{shown(path)}  ({len(pictures)} frames)\n{shown(out / 'orbit.png')}")
        return 0


def _near(depth: Tensor, opacity: Tensor) -> Tensor:
    """Return depths [n, 1, h, w] on the CPU, NaN where a ray meets nothing."""
    return depth.where(opacity > 0.5, torch.nan).float().cpu()
