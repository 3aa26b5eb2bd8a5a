"""An animation of closed walks through a latent space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from gan_experiments import drawing
from gan_experiments.assembly.report import shown
from gan_experiments.bounds import Cells, Positive
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.models.latents import closed_walk


class Walk:
    """An animation of `cells` images, each on a closed walk through `places` points of a latent space.

    There are `steps` frames from one point to the next, along arcs in the `space` "z" and along straight lines in "w";
    None is "w" if there are styles, else "z". The animation shows `fps` frames a second, at most 50. With `frames` each
    frame is also a PNG. Raises ConfigError for another `space` or `fps`.
    """

    def __init__(
        self,
        places: Annotated[int, Field(ge=2, le=1000)] = 6,
        cells: Cells = 9,
        steps: Cells = 30,
        space: str | None = None,
        fps: Positive = 25.0,
        frames: bool = False,
    ) -> None:
        self.places, self.cells, self.steps, self.space, self.fps, self.frames = (
            places,
            cells,
            steps,
            space,
            fps,
            frames,
        )
        if space not in (None, "z", "w"):
            raise ConfigError(f"what.space={space}: type what.space=z or what.space=w")
        if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 50:
            raise ConfigError(f"what.fps={fps}: a GIF shows up to 50 frames a second; type for example what.fps=25")

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return [f"walk-{self.space or generator.space}{end}" for end in (".gif", *([""] if self.frames else []))]

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write walk-w.gif or walk-z.gif, and with `frames` a folder of frames beside it; return 0."""
        space = self.space or generator.space
        if space == "w":
            generator.require_styles("walk what.space=w")
        labels = generator.labels(self.cells)
        stations = generator.noise(self.places * self.cells).unflatten(0, (self.places, self.cells))
        if space == "w":
            stations = torch.stack([generator.mapped(z, labels) for z in stations])
        pictures = []
        for number, at in enumerate(closed_walk(stations, self.steps, arcs=space == "z")):
            w = generator.mapped(at, labels) if space == "z" else at
            pictures.append(drawing.sheet(generator.draw(generator.placed(w), labels)[:, None]))
            if self.frames:
                drawing.save_png(pictures[-1], out / f"walk-{space}" / f"{number:05d}.png", generator.mark)
        path = out / f"walk-{space}.gif"
        drawing.save_gif(pictures, path, generator.mark, seconds=len(pictures) / self.fps, most=len(pictures))
        print(f"{shown(path)}  ({len(pictures)} frames)")
        if self.frames:
            print(shown(path.with_suffix("")))
        return 0
