"""A sheet of what the network is shown, of any kind of data."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_experiments.contracts import Batch
from gan_experiments.drawing import captioned, scatter

CELLS = 64
PIXELS = 4_000_000  # about so many of the data's are on a sheet
POINTS = 512
_GREY = (90, 90, 90)


def real_sheet(data: Any) -> Tensor:
    """Draw the first batches of a data module as a model gets them, after crop and flip, to uint8 [3, h, w].

    Images of one item stand side by side, each above its key; below is the item's class or domains where it has some.
    A hole is grey. Points are drawn in their plane.
    """
    stream = data.stream()
    first = _batch(data, stream, 0)
    key, images = next((key, rows) for key, rows in first.items() if rows.ndim == 4)
    if images.shape[1:] == (2, 1, 1):
        return scatter([(_rows(data, stream, POINTS)[key].reshape(-1, 2), _GREY)], CELLS * 8)
    largest = max(rows[0].numel() for rows in first.values() if rows.ndim == 4)
    several = sum(rows.ndim == 4 for rows in first.values())
    batch = _rows(data, stream, max(4, min(CELLS, PIXELS // (largest * several))))
    classes = _classes(data, batch)
    mask = batch.pop("mask", None)
    shown = {key: rows.float() for key, rows in batch.items() if rows.ndim == 4}
    if mask is not None:
        shown |= {f"{key} and hole": rows * (1 - mask) for key, rows in shown.items()}
    side = max(rows.shape[-1] for rows in shown.values())
    cells = torch.stack(
        [F.interpolate(rows.expand(-1, 3, -1, -1), side, mode="nearest") for rows in shown.values()], dim=1
    )
    return captioned(cells, [*shown] if len(shown) > 1 else [""], classes)


def _batch(data: Any, stream: Any, number: int) -> Batch:
    return data.on_after_batch_transfer(stream.batch(number), 0)


def _rows(data: Any, stream: Any, n: int) -> Batch:
    """Join batches until there are `n` items."""
    batches: list[Batch] = []
    for number in itertools.count():
        batches.append({key: rows[:n] for key, rows in _batch(data, stream, number).items()})
        if sum(len(next(iter(batch.values()))) for batch in batches) >= n:
            return {key: torch.cat([batch[key] for batch in batches])[:n] for key in batches[0]}
    raise AssertionError


def _classes(data: Any, batch: Batch) -> list[str]:
    """Name the class, or the domains, of each item; nothing where it has none."""
    n = len(next(iter(batch.values())))
    if "domain" in batch:
        names = list(getattr(data, "attributes", None) or data.class_names)
        return [
            ", ".join(name for name, has in zip(names, row, strict=True) if has) for row in batch["domain"].tolist()
        ]
    if "label" in batch:
        names = list(data.class_names)
        return [names[label] for label in batch["label"].tolist()]
    return [""] * n
