"""Phase shuffle: random shifts of a discriminator's maps along time."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Few, OneOf
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.dropout import Draw

PER = ("batch", "sample", "map")


class PhaseShuffle(nn.Module):
    """Shift maps [N, C, L] by a random integer from -radius to radius (Donahue et al. 2019, arXiv:1802.04208, §3.3).

    What a shift would leave empty is filled by reflection, and L stays as it is. A shift is shared `per` "batch", that
    is by all maps of all samples, as in the authors' code; by all maps of a "sample"; or it is drawn for each "map", as
    the paper's figure 3 says. Without `draw`, or with `radius` 0, maps are returned as they are. Raises ConfigError for
    another `per`, and for maps that are too short to be reflected.
    """

    def __init__(self, radius: Few = 2, per: Annotated[str, OneOf(*PER)] = "batch") -> None:
        super().__init__()
        if per not in PER:
            raise ConfigError(f"phase shuffle has no shuffle_per={per}: type shuffle_per= one of {', '.join(PER)}")
        self.radius, self.per = radius, per

    def forward(self, x: Tensor, draw: Draw | None = None) -> Tensor:
        """Shift maps [N, C, L]; `draw` draws this rank's rows, or the row that all ranks share."""
        if draw is None or not self.radius:
            return x
        if self.radius >= x.shape[2]:
            raise ConfigError(
                f"a phase shuffle of {self.radius} cannot reflect maps of {x.shape[2]} samples: type less"
            )
        if self.per == "batch":
            drawn = draw(torch.rand, 1, 1, shared=True)
        else:
            drawn = draw(torch.rand, len(x), x.shape[1] if self.per == "map" else 1)
        return shifted(x, (drawn * (2 * self.radius + 1)).floor().long() - self.radius)


def shifted(x: Tensor, shifts: Tensor) -> Tensor:
    """Shift maps [N, C, L] to the right by int64 `shifts` [N or 1, C or 1], filled by reflection.

    [1, 2, 3, 4, 5] becomes [2, 1, 2, 3, 4] by a shift of 1, and [2, 3, 4, 5, 4] by one of -1.
    """
    last = x.shape[2] - 1
    places = torch.arange(last + 1, device=x.device) - shifts[:, :, None].to(x.device)
    places = last - (last - places.abs()).abs()
    if shifts.numel() == 1:
        return x.index_select(2, places[0, 0])  # one copy of each row, in place of a place for each number
    return x.gather(2, places.expand(*x.shape))
