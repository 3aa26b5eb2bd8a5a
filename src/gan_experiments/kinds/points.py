"""Points of the plane, as the toy data have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gan_experiments.contracts import Batch
from gan_experiments.kinds.kind import Kind


@dataclass(frozen=True)
class Points(Kind):
    """Points of the plane, [n, 2, 1, 1], unbounded. Real ones lie roughly within [-1, 1]²."""

    name = "points of the plane"
    dims = 4
    behind = 1000
    on_data_sheet: ClassVar[int] = 512
    grey: ClassVar[tuple[int, int, int]] = (90, 90, 90)
    real_colour: ClassVar[tuple[int, int, int]] = (200, 200, 200)
    fake_colour: ClassVar[tuple[int, int, int]] = (31, 119, 180)

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (2, 1, 1) for any data."""
        return 2, 1, 1

    def bounded(self, samples: Tensor) -> Tensor:
        """Return the points as they are."""
        return samples

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the coordinates, float [n, 2]."""
        return samples.float().flatten(1)

    def array(self, samples: Tensor) -> np.ndarray:
        """Return the coordinates [n, 2]."""
        return samples.flatten(1).cpu().numpy()

    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Draw all points in one plane of `smallest` x `smallest` pixels, over the `real` ones."""
        below = [] if real is None else [(real.reshape(-1, 2), self.real_colour)]
        return scatter([*below, (cells.reshape(-1, 2), self.fake_colour)], smallest)

    def fitting(self, batch: Batch) -> int:
        """Return 512."""
        return self.on_data_sheet

    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Draw the points of all keys in one plane, without their titles."""
        return scatter([(rows.reshape(-1, 2), self.grey) for rows in self.samples(batch).values()], 512)


POINTS = Points()


def scatter(layers: Sequence[tuple[Tensor, tuple[int, int, int]]], side: int, edge: float = 1.5) -> Tensor:
    """Draw layers of points [n, 2], each in its colour and over those before, on a uint8 picture [3, side, side].

    The picture shows [-edge, edge]². Points beyond are drawn on its border, NaN in its middle.
    """
    picture = torch.full((3, side, side), 255, dtype=torch.uint8)
    for points, colour in layers:
        places = ((points.float().cpu() / edge).clamp(-1, 1).nan_to_num() + 1) / 2 * (side - 3)  # each 3 pixels wide
        x, y = places.round().long().T
        for right in range(3):
            for up in range(3):
                picture[:, side - 1 - y - up, x + right] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    return picture
