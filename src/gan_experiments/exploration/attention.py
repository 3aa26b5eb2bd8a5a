"""Where a generator looks at the words of a caption: Xu et al. 2017, arXiv:1711.10485, figure 4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.bounds import Cells
from gan_experiments.captions import PADDING
from gan_experiments.conditions import Captions
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration import sheets
from gan_experiments.exploration.latent_space import LatentSpace

PALE = 0.3
"""How much of the image is left under a map of attention."""


class Attention:
    """A sheet of images of one caption, a row for each z, each beside what the last scale reads of each word.

    A map is the word's weight at each place, over its greatest in that image: bright is where the word is read most.
    """

    def __init__(self, rows: Cells = 4) -> None:
        self.rows = rows

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return ("attention.png",)

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write attention.png; return 0. Raises ConfigError for a generator that does not attend to words."""
        if not hasattr(generator.network, "attended") or not isinstance(generator.conditions, Captions):
            raise ConfigError("what=attention needs a generator that attends to words, as model=attngan has it")
        tokens = generator.labels(1)
        assert tokens is not None
        (caption,) = generator.conditions.vocabulary.decode(tokens.cpu())
        with torch.no_grad():
            text = generator.told(tokens.expand(self.rows, -1))
            images, weights = generator.network.attended(generator.latents(self.rows), *text)
        if not weights:
            raise ConfigError(
                "what=attention: a generator of one scale attends to no words; type model.generator.scales=2"
            )
        image, words = images[-1], int((tokens != PADDING).sum())
        rows = list(torch.stack([image, *(laid_over(image, weights[-1][:, i]) for i in range(words))], dim=1).cpu())
        sheets.write(rows, out / "attention.png", generator.mark, ["", *caption.split()])
        return 0


def laid_over(images: Tensor, weights: Tensor) -> Tensor:
    """Return pale images [n, C, H, W] in [-1, 1] under maps [n, h, w] of at least 0, brightest at their greatest."""
    heat = F.interpolate((weights / weights.amax((1, 2), keepdim=True))[:, None], images.shape[2:], mode="bilinear")
    return PALE * images + (1 - PALE) * (2 * heat - 1)
