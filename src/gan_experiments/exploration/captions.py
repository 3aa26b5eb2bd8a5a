"""A sheet between captions: Reed et al. 2016, arXiv:1605.05396, figure 8, left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from gan_experiments.bounds import Cells
from gan_experiments.conditions import Captions
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration import sheets
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.networks.text import Text


class Captioned:
    """A sheet with one z in each row, whose columns lead from each of some captions to the next.

    The captions' codes are interpolated along straight lines, in `steps` columns from one caption to the next. Raises
    ConfigError for fewer than two captions.
    """

    def __init__(self, captions: Sequence[str], rows: Cells = 4, steps: Cells = 6) -> None:
        if isinstance(captions, str) or len(captions) < 2:
            raise ConfigError(f"what.captions={captions}: two or more are needed; type what.captions='[a one,a two]'")
        self.captions, self.rows, self.steps = [str(caption) for caption in captions], rows, steps

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return ("captions.png",)

    @torch.no_grad()
    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write captions.png; return 0. Raises ConfigError for a generator that reads no captions."""
        if not isinstance(generator.conditions, Captions):
            raise ConfigError("what=captions: this generator reads no captions; type what=walk")
        tokens = generator.conditions.of_words(self.captions, "what.captions")
        (text,) = generator.told(tokens.to(generator.device))
        z = generator.placed(generator.noise(self.rows))
        columns, names = [], []
        for column in range(self.steps * (len(tokens) - 1) + 1):
            first, step = divmod(column, self.steps)
            columns.append(generator.images(z, _between(text, first, step / self.steps, self.rows)))
            names.append("" if step else self.captions[first])
        cells = torch.stack(columns, dim=1).clamp(-1, 1).float().cpu()
        sheets.write(list(cells), out / "captions.png", generator.mark, names)
        return 0


def _between(text: Text, first: int, share: float, n: int) -> Text:
    """Return n times what lies between two neighbouring captions, `share` of the way from the first to the next.

    Of captions of different lengths the words that only one has come from, or go to, the padding's code.
    """
    second = first + 1 if share else first

    def mixed(codes: torch.Tensor) -> torch.Tensor:
        return codes[first].lerp(codes[second], share).expand(n, *codes.shape[1:])

    words = None if text.words is None else mixed(text.words)
    mask = None if text.mask is None else (text.mask[first] | text.mask[second]).expand(n, -1)
    return Text(mixed(text.sentence), words, mask)
