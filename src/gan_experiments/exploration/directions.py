"""Directions in a latent space: where they are kept, and sheets of images moved along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_experiments import files
from gan_experiments.assembly.report import shown
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration import sheets
from gan_experiments.exploration.explored import Explored
from gan_experiments.runs import saved

STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


@dataclass
class Directions:
    """Unit vectors [k, dim] of `space` "w" or "z", each a name and the standard deviation [k] that it is measured in.

    `styles` are the first style that they are of and that after the last, of a generator with styles.
    """

    space: str
    vectors: Tensor
    deviations: Tensor
    names: list[str]
    styles: list[int] | None

    @classmethod
    def of(
        cls,
        generator: Explored,
        vectors: Tensor,
        names: Sequence[str],
        styles: tuple[int, int] | None = None,
        along: bool = True,
    ) -> Directions:
        """Directions [k, dim] of any length, measured in standard deviations of w (or z) `along` them.

        Else in those of its components: where w hardly varies along a direction, these go further.
        """
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        covariance = generator.spread()[1].to(vectors)
        of_components = (covariance.trace() / generator.dim).expand(len(vectors))
        variances = torch.einsum("kd,de,ke->k", vectors, covariance, vectors) if along else of_components
        within = list(styles or generator.styles("all")) if generator.styled else None
        return cls(generator.space, vectors.cpu().float(), variances.sqrt().cpu().float(), list(names), within)

    @classmethod
    def read(cls, path: str) -> Directions:
        """Those of a file; raises ConfigError where it holds none."""
        found = load(path, "what.directions")
        try:
            directions = cls(**found)
        except TypeError:
            directions = None
        if directions is None or not directions.whole():
            raise ConfigError(f"what.directions={path} holds no directions: give a file of what=sefa")
        return directions

    def whole(self) -> bool:
        """Whether all parts are of their kinds and fit each other, as a file might not have it."""
        names, styles = self.names, self.styles
        if not isinstance(self.space, str) or not isinstance(names, list) or not _floats(self.vectors, self.deviations):
            return False
        return (
            all(isinstance(name, str) for name in names)
            and self.vectors.ndim == 2
            and self.deviations.shape == self.vectors.shape[:1] == (len(names),)
            and (styles is None or (_whole_numbers(styles) and len(styles) == 2 and 0 <= styles[0] < styles[1]))
        )

    def write(self, path: Path) -> None:
        """Keep them as plain tensors and types, and say where."""
        save(asdict(self), path)

    def require_fit(self, generator: Explored, path: str) -> None:
        """Raise ConfigError unless they are of such a generator's latent space."""
        given, needed = (self.space, self.vectors.shape[1]), (generator.space, generator.dim)
        if given != needed or (self.styles and not (generator.styled and self.styles[1] <= generator.form[0])):
            raise ConfigError(
                f"what.directions={path} is of another generator: of {given[0]} of {given[1]} components, and this one"
                f" has {needed[0]} of {needed[1]}"
            )

    def moved(self, latents: Tensor, index: int, strength: float) -> Tensor:
        """Latents [n, ...] moved by `strength` standard deviations along a direction, in their styles alone."""
        shift = strength * self.deviations[index] * self.vectors[index]
        moved = latents.clone()
        if self.styles is None:
            return moved + shift.to(moved)
        moved[:, slice(*self.styles)] += shift.to(moved)
        return moved


def _floats(*values: Any) -> bool:
    return all(isinstance(value, Tensor) and value.is_floating_point() and value.isfinite().all() for value in values)


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is int for value in values)


def write_sheets(
    generator: Explored,
    directions: Directions,
    latents: Tensor,
    labels: Tensor | None,
    strengths: Sequence[float],
    stem: Path,
    noise: Sequence[dict[str, Tensor]] | None = None,
) -> None:
    """Write a sheet for each direction, rows of latents [n, ...], columns of strengths: <stem>-<name>.png.

    `noise` are the noise maps of each row, where they are not the generator's own.
    """
    columns = [f"{strength:+g} sd" if strength else "0" for strength in strengths]
    for index, name in enumerate(files.clean_names(directions.names)):
        cells = []
        for row in range(len(latents)):
            one = slice(row, row + 1)
            places = torch.cat([directions.moved(latents[one], index, strength) for strength in strengths])
            kept = None if labels is None else labels[one].expand(len(places))
            cells.append(generator.draw(places, kept, noise[row] if noise else None))
        sheets.write(cells, stem.with_name(f"{stem.name}-{name}.png"), columns)


def save(found: dict[str, Any], path: Path) -> None:
    """Write plain tensors and types, a file that appears whole or not at all, and say where."""
    with files.whole(path) as unfinished:
        torch.save(found, unfinished)
    print(shown(path))


def load(path: str, key: str) -> dict[str, Any]:
    """What `save` wrote; raises ConfigError where that is not in it."""
    try:
        found = saved.tensors(Path(path).expanduser())
    except FileNotFoundError:
        raise ConfigError(f"{key}={path}: there is no such file") from None
    except Exception as error:  # whatever a broken file makes a reader say
        reason = " ".join(str(error).split())[:80]
        raise ConfigError(f"{key}={path} cannot be read ({reason}): give a file that explore wrote") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{key}={path} holds something else: give a file that explore wrote")
    return found
