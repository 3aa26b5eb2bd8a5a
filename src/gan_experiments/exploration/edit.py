"""Images edited along directions that were found before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_experiments import files
from gan_experiments.bounds import Cells, Numbers, Place
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.directions import STRENGTHS, Directions, load, write_sheets
from gan_experiments.exploration.latent_space import LatentSpace, numbers


class Edit:
    """A sheet along each direction of a file, or along those `named`, with rows of projected images or of new ones.

    `directions` is a file of what=sefa or what=attributes, and `latents` one of what=project; without it `rows` latents
    are drawn. `styles` chooses other styles to move than those in the file.
    """

    def __init__(
        self,
        directions: Place,
        latents: Place | None = None,
        named: Sequence[str | int] | str | int | None = None,
        rows: Cells = 5,
        strengths: Numbers = STRENGTHS,
        styles: str | int | None = None,
    ) -> None:
        self.path, self.latents, self.rows, self.styles = directions, latents, rows, styles
        self.named = [named] if isinstance(named, str | int) else named
        self.strengths = numbers("what.strengths", strengths)

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return [f"edit-{name}.png" for name in files.clean_names(self.named)] if self.named else ["edit-*.png"]

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write edit-<direction>.png for each direction; return 0. Raises ConfigError if a file does not fit."""
        directions = Directions.read(self.path)
        directions.require_fit(generator, self.path)
        if self.styles is not None:
            generator.require_styles("edit what.styles=...")
            directions.styles = list(generator.styles(self.styles))
        if self.named is not None:
            directions = _only(directions, [str(name) for name in self.named])
        labels, noise = generator.labels(self.rows), None
        latents = generator.latents(self.rows, stream=2)
        if self.latents is not None:
            latents, labels, noise = self._projected(generator)
        write_sheets(generator, directions, latents, labels, self.strengths, out / "edit", noise)
        return 0

    def _projected(self, generator: LatentSpace) -> tuple[Tensor, Tensor | None, list[dict[str, Tensor]] | None]:
        found: dict[str, Any] = load(str(self.latents), "what.latents")
        latents, labels, noise = found.get("latents"), found.get("labels"), found.get("noise")
        if (
            found.get("space") != generator.space
            or not isinstance(latents, Tensor)
            or latents.shape[1:] != generator.form
            or not generator.fit(labels, len(latents))
            or not _are_noise(noise, len(latents), generator)
        ):
            raise ConfigError(
                f"what.latents={self.latents} is not of this generator: give projected.pt of what=project"
            )
        device = generator.device
        maps = [{name: values.to(device) for name, values in one.items()} for one in noise] if noise else None
        return latents.to(device, generator.dtype), None if labels is None else labels.to(device), maps


def _are_noise(noise: Any, n: int, generator: LatentSpace) -> bool:
    """Return True if noise from a file is a list of the generator's noise maps for n images, or None."""
    if noise is None:
        return True
    if not generator.styled or not isinstance(noise, list) or len(noise) != n:
        return False
    buffers = generator.network.synthesis.named_buffers()
    shapes = {name: values.shape for name, values in buffers if name.rpartition(".")[2] == "noise"}
    return all(
        isinstance(maps, dict) and {name: getattr(values, "shape", None) for name, values in maps.items()} == shapes
        for maps in noise
    )


def _only(directions: Directions, names: list[str]) -> Directions:
    for name in names:
        if name not in directions.names:
            raise ConfigError(
                f"what.named={name}: there is no such direction; type some of {', '.join(directions.names)}"
            )
    rows = torch.tensor([directions.names.index(name) for name in names])
    return Directions(directions.space, directions.vectors[rows], directions.deviations[rows], names, directions.styles)
