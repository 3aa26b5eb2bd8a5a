"""The truncation sheet: Karras et al. 2019, arXiv:1812.04948, figure 8; Brock et al. 2019, 1809.11096, figure 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from gan_experiments.bounds import Cells, Numbers, Whole
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration import sheets
from gan_experiments.exploration.latent_space import LatentSpace, numbers

PSI = (-1.0, -0.7, -0.5, 0.0, 0.5, 0.7, 1.0)
LARGEST = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


class Truncation:
    """A sheet with one z in each row and one truncation in each column: ψ, or the largest |z| without styles.

    `values` None stands for PSI or LARGEST. Only the first `cutoff` styles are truncated; all if it is None.
    """

    def __init__(
        self,
        rows: Cells = 6,
        values: Numbers | None = None,
        cutoff: Whole | None = None,
    ) -> None:
        self.rows, self.cutoff = rows, cutoff
        self.values = None if values is None else numbers("what.values", values)

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return ("truncation.png",)

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write truncation.png; return 0. Raises ConfigError if the options do not suit the generator."""
        values = self.values or (PSI if generator.styled else LARGEST)
        if not generator.styled and (self.cutoff is not None or min(values) <= 0):
            raise ConfigError(
                "what.cutoff: this generator has no styles; leave it out"
                if self.cutoff is not None
                else f"what.values={list(values)}: the largest |z| is above 0; type for example what.values=[0.5,1,2]"
            )
        if generator.truncation is not None:
            raise ConfigError(f"truncation={generator.truncation}: the sheet has its own, what.values; leave it out")
        labels = generator.labels(self.rows)
        w = generator.mapped(generator.noise(self.rows), labels)
        columns = [generator.draw(generator.placed(w, value, self.cutoff), labels) for value in values]
        names = [f"{'psi =' if generator.styled else '|z| <'} {value:g}" for value in values]
        sheets.write(list(torch.stack(columns, dim=1)), out / "truncation.png", generator.mark, names)
        return 0
