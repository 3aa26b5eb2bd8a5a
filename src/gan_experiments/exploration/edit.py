"""Images moved along directions that were found before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_experiments.bounds import Cells, Numbers, Place
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration.directions import STRENGTHS, Directions, load, write_sheets
from gan_experiments.exploration.explored import Explored, numbers


class Edit:
    """A sheet along each direction of a file, or along those `named`: rows of projected images, or of new ones.

    `directions` is a file of what=sefa or what=attributes, `latents` one of what=project; without it `rows` latents
    are drawn. `styles` moves others than the file says.
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

    def explore(self, generator: Explored, out: Path) -> int:
        """Write edit-<direction>.png."""
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

    def _projected(self, generator: Explored) -> tuple[Tensor, Tensor | None, list[dict[str, Tensor]] | None]:
        found = load(str(self.latents), "what.latents")
        latents, labels, noise = found.get("latents"), found.get("labels"), found.get("noise")
        if not isinstance(latents, Tensor) or latents.shape[1:] != generator.form or found["space"] != generator.space:
            raise ConfigError(
                f"what.latents={self.latents} is not of this generator: give projected.pt of what=project"
            )
        device = generator.device
        maps = [{name: values.to(device) for name, values in one.items()} for one in noise] if noise else None
        return latents.to(device, generator.dtype), None if labels is None else labels.to(device), maps


def _only(directions: Directions, names: list[str]) -> Directions:
    for name in names:
        if name not in directions.names:
            raise ConfigError(
                f"what.named={name}: there is no such direction; type some of {', '.join(directions.names)}"
            )
    rows = torch.tensor([directions.names.index(name) for name in names])
    return Directions(directions.space, directions.vectors[rows], directions.deviations[rows], names, directions.styles)
