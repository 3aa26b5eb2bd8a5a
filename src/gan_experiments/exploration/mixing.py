"""Style mixing: Karras et al. 2019, arXiv:1812.04948, section 3.1 and figure 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_experiments.bounds import Cells
from gan_experiments.exploration import sheets
from gan_experiments.exploration.latent_space import RANGES, LatentSpace


class Mixing:
    """Style mixing: images of the left column with a range of styles of the images of the top row.

    There is a sheet for each range in `styles`. A range is "coarse" (4x4 to 8x8 pixels), "middle" (16x16 and 32x32),
    "fine" (from 64x64 on), or indices of styles as "2-5". None stands for those named ranges that the generator has.
    """

    def __init__(
        self, rows: Cells = 6, columns: Cells = 6, styles: Sequence[str | int] | str | int | None = None
    ) -> None:
        self.rows, self.columns = rows, columns
        self.ranges = [styles] if isinstance(styles, str | int) else styles

    def writes(self, generator: LatentSpace) -> Sequence[str]:
        """Return patterns of the names of the files that it writes."""
        return [f"mixing-{word}.png" for word in self.ranges or RANGES]

    def explore(self, generator: LatentSpace, out: Path) -> int:
        """Write mixing-coarse.png, ...; return 0. Raises ConfigError if the generator has no styles."""
        generator.require_styles("mixing")
        side = 2 ** (generator.form[0] // 2 + 1)
        ranges = self.ranges or [name for name, (low, _) in RANGES.items() if low <= side]
        chosen = {word: generator.styles(word) for word in ranges}
        left, top = generator.latents(self.rows), generator.latents(self.columns, stream=2)
        for word, (first, after) in chosen.items():
            grid = mixed(left[:, None], top[None], first, after)
            cells = generator.draw(torch.cat([top, left, grid.flatten(0, 1)]), None)
            sources, lefts, mixtures = cells.split([self.columns, self.rows, self.rows * self.columns])
            corner = torch.ones_like(sources[:1])
            rows = [torch.cat([corner, sources])]
            rows += [torch.cat(row) for row in zip(lefts[:, None], mixtures.chunk(self.rows), strict=True)]
            sheets.write(
                rows, out / f"mixing-{word}.png", generator.mark, names=[f"{word} of", *["the rest of"] * self.rows]
            )
        return 0


def mixed(left: Tensor, top: Tensor, first: int, after: int) -> Tensor:
    """Return ws [..., styles, w_dim] of `left`, with those of `top` in the styles from `first` to before `after`."""
    shape = torch.broadcast_shapes(left.shape, top.shape)
    ws = left.expand(shape).clone()
    ws[..., first:after, :] = top.expand(shape)[..., first:after, :]
    return ws
