"""A sheet of training samples as the networks get them, for any kind of data."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gan_experiments.contracts import Batch
from gan_experiments.data.batches import Stream
from gan_experiments.data.module import DataModule


def real_sheet(data: DataModule) -> Tensor:
    """Draw the first items of a data module as a model gets them, after crop and flip, on a sheet uint8 [3, h, w].

    The layout is that of the data's kind, see `Kind.data_sheet`. An item's title is its caption, its camera, its class
    or its domains, if any.
    """
    stream = data.stream()
    batch = _rows(data, stream, data.kind.fitting(_batch(data, stream, 0)))
    return data.kind.data_sheet(batch, _titles(data, batch))


def _batch(data: DataModule, stream: Stream, number: int) -> Batch:
    return data.on_after_batch_transfer(stream.batch(number), 0)


def _rows(data: DataModule, stream: Stream, n: int) -> Batch:
    """Join batches until there are `n` items."""
    batches: list[Batch] = []
    for number in itertools.count():
        batches.append({key: rows[:n] for key, rows in _batch(data, stream, number).items()})
        if sum(len(next(iter(batch.values()))) for batch in batches) >= n:
            return {key: torch.cat([batch[key] for batch in batches])[:n] for key in batches[0]}
    raise AssertionError


def _titles(data: DataModule, batch: Batch) -> list[str]:
    """Return each item's caption or camera, or the name of its class, or of its domains; "" if it has none of these."""
    for key in ("caption", "camera"):
        if key in batch:
            return data.conditions.titles(batch[key], 1)
    n = len(next(iter(batch.values())))
    names = list(getattr(data, "attributes", None) or data.class_names)
    if "domain" in batch:
        return [
            ", ".join(name for name, has in zip(names, row, strict=True) if has) for row in batch["domain"].tolist()
        ]
    if "label" in batch and names:
        return [names[label] for label in batch["label"].tolist()]
    return [""] * n
