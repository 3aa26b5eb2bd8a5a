"""Directions in a latent space: their files, and sheets of images moved along them."""

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
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.runs import saved

STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


@dataclass
class Directions:
    """Unit vectors [k, dim] of the space "w" or "z", each with a name and the standard deviation that is its unit.

    `deviations` [k] are these standard deviations. `styles` are the first style to move and the one after the last, for
    a generator with styles.
    """

    space: str
    vectors: Tensor
    deviations: Tensor
    names: list[str]
    styles: list[int] | None

    @classmethod
    def of(
        cls,
        generator: LatentSpace,
        vectors: Tensor,
        names: Sequence[str],
        styles: tuple[int, int] | None = None,
        along: bool = True,
    ) -> Directions:
        """Make directions from vectors [k, dim] of any length.

        Their unit is the standard deviation of w (or z) `along` each, else that of a component of w, which goes further
        if w hardly varies along a direction.
        """
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        covariance = generator.spread()[1].to(vectors)
        of_components = (covariance.trace() / generator.dim).expand(len(vectors))
        variances = torch.einsum("kd,de,ke->k", vectors, covariance, vectors) if along else of_components
        within = list(styles or generator.styles("all")) if generator.styled else None
        return cls(generator.space, vectors.cpu().float(), variances.sqrt().cpu().float(), list(names), within)

    @classmethod
    def read(cls, path: str) -> Directions:
        """Read the directions in a file. Raises ConfigError if it holds none."""
        found = load(path, "what.directions")
        try:
            directions = cls(**found)
        except TypeError:
            directions = None
        if directions is None or not directions.whole():
            raise ConfigError(f"what.directions={path} holds no directions: give a file of what=sefa")
        return directions

    def whole(self) -> bool:
        """Return True if all parts have the right types and fit each other, which a file cannot guarantee."""
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
        """Write them to a file as plain tensors and types, and print the path."""
        save(asdict(self), path)

    def require_fit(self, generator: LatentSpace, path: str) -> None:
        """Raise ConfigError unless they fit this generator's latent space."""
        given, needed = (self.space, self.vectors.shape[1]), (generator.space, generator.dim)
        if given != needed or (self.styles and not (generator.styled and self.styles[1] <= generator.form[0])):
            raise ConfigError(
                f"what.directions={path} is of another generator: of {given[0]} of {given[1]} components, and this one"
                f" has {needed[0]} of {needed[1]}"
            )

    def moved(self, latents: Tensor, index: int, strength: float) -> Tensor:
        """Return latents [n, ...] moved by `strength` standard deviations along a direction, only in `styles`."""
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
    generator: LatentSpace,
    directions: Directions,
    latents: Tensor,
    labels: Tensor | None,
    strengths: Sequence[float],
    stem: Path,
    noise: Sequence[dict[str, Tensor]] | None = None,
) -> None:
    """Write a sheet <stem>-<name>.png for each direction, with rows of latents [n, ...] and columns of strengths.

    `noise` are the noise maps of each row; None for the generator's own.
    """
    columns = [f"{strength:+g} sd" if strength else "0" for strength in strengths]
    for index, name in enumerate(files.clean_names(directions.names)):
        cells = []
        for row in range(len(latents)):
            one = slice(row, row + 1)
            places = torch.cat([directions.moved(latents[one], index, strength) for strength in strengths])
            kept = None if labels is None else labels[one].expand(len(places), *labels.shape[1:])
            cells.append(generator.draw(places, kept, noise[row] if noise else None))
        sheets.write(cells, stem.with_name(f"{stem.name}-{name}.png"), generator.mark, columns)


def save(found: dict[str, Any], path: Path) -> None:
    """Write plain tensors and types to a file, which appears complete or not at all, and print the path."""
    with files.whole(path) as unfinished:
        torch.save(found, unfinished)
    print(shown(path))


def load(path: str, key: str) -> dict[str, Any]:
    """Return what `save` wrote. Raises ConfigError, which names the option `key`, if the file holds something else."""
    try:
        found = saved.tensors(Path(path).expanduser())
    except FileNotFoundError:
        raise ConfigError(f"{key}={path}: there is no such file") from None
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:80]
        raise ConfigError(f"{key}={path} cannot be read ({reason}): give a file that explore wrote") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{key}={path} holds something else: give a file that explore wrote")
    return found
