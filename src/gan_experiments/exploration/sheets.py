"""Sheets of images with names of columns and rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from gan_experiments.assembly.report import shown
from gan_experiments.metrics import pictures
from gan_experiments.provenance import Mark

SMALLEST, LARGEST = 96, 256  # pixels of an image's width, and of its longer side, on a sheet


def write(
    rows: Sequence[Tensor], path: Path, mark: Mark | None, columns: Sequence[str] = (), names: Sequence[str] = ()
) -> None:
    """Write rows of images [n, C, H, W] in [-1, 1] with the names of columns and rows, and print the path."""
    factor = max(1, max(rows[0].shape[-2:]) // LARGEST)
    smaller = [F.avg_pool2d(row, factor) if factor > 1 else row for row in rows]
    print(shown(pictures.save_rows(smaller, names or [""] * len(rows), path, mark, SMALLEST, columns)))
