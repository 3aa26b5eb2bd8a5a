"""Batches of a person's own loader: tensors, pairs and dicts, as a plain DataLoader gives them, made into ours.

`L.Trainer(...).fit(model, loader)` needs no data module. Images are uint8, or floats in [-1, 1].
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from gan_experiments.contracts import BATCH_KEYS, Batch, ConfigError

log = logging.getLogger(__name__)

AS_OURS = {"image": "real", "images": "real", "labels": "label"}
"""Keys that loaders often use, and those that a model reads."""
SLACK = 1e-3  # how far beyond [-1, 1] rounding may lie


def understood(batch: Any, needs: Iterable[str], model: str) -> Batch:
    """Return a batch of a plain loader by the keys that a model reads.

    A tensor holds images, "real". Of a pair, the second part is "label". A dict keeps its keys, but "image" is "real".
    uint8 becomes float in [-1, 1], and a label int64 [n]. Raises ConfigError if a key of `needs` is missing, or if what
    is there is no tensor.
    """
    if isinstance(batch, Mapping):
        named = {AS_OURS.get(key, key) if AS_OURS.get(key) not in batch else key: rows for key, rows in batch.items()}
        form = f"dicts of {', '.join(map(str, batch)) or 'nothing'}"
    elif isinstance(batch, (tuple, list)):
        named, form = dict(zip(("real", "label"), batch, strict=False)), f"batches of {len(batch)} parts"
        if len(batch) not in (1, 2):
            raise ConfigError(f"the loader gives {form}: (image, label) is understood, or a dict; {_dict_of(needs)}")
    else:
        named, form = {"real": batch}, "tensors" if isinstance(batch, Tensor) else type(batch).__name__
    missing = sorted(set(needs) - set(named))
    if missing:
        raise ConfigError(f"{model} needs {', '.join(missing)}, and the loader gives {form}: {_dict_of(needs)}")
    for key in needs:
        if not isinstance(named[key], Tensor):
            raise ConfigError(
                f"the loader gives a {type(named[key]).__name__} for {key!r}: a tensor is needed, {BATCH_KEYS[key]}"
            )
    return {str(key): _ready(key, rows) for key, rows in named.items() if isinstance(rows, Tensor)}


def require(batch: Batch, classes: int = 0) -> None:
    """Raise ConfigError if images of a first batch lie beyond [-1, 1], or labels beyond the classes of the model.

    Values of [0, 1] cannot be told from bright images in [-1, 1]; a warning says what they are taken for.
    """
    for key, rows in batch.items():
        if key == "label" and classes and (int(rows.min()) < 0 or int(rows.max()) >= classes):
            raise ConfigError(
                f"the loader gives the labels {int(rows.min())} to {int(rows.max())}, and the model has {classes}"
                f" classes: give 0 to {classes - 1}"
            )
        if rows.ndim != 4 or not rows.is_floating_point() or key == "mask":
            continue
        low, high = (float(value) for value in torch.aminmax(rows))
        found = f"the loader's {key!r} has the values {low:.4g}..{high:.4g}"
        if not (low >= -1 - SLACK and high <= 1 + SLACK):  # also of NaN
            scaled = "uint8, or x / 127.5 - 1" if low >= 0 and high > 2 else "uint8, or floats by Normalize(0.5, 0.5)"
            raise ConfigError(f"{found}, and [-1, 1] is needed: give {scaled}")
        if low >= 0:
            log.warning(
                "%s: they are taken as [-1, 1]; if they are meant as [0, 1], as ToTensor makes them, give 2 * x - 1",
                found,
            )


def _ready(key: object, rows: Tensor) -> Tensor:
    if key == "label":
        rows = rows.flatten() if rows.ndim == 2 and rows.shape[1] == 1 else rows
        return rows.long()
    if rows.dtype == torch.uint8 and rows.ndim == 4:
        return rows.to(torch.get_default_dtype()).sub_(127.5).div_(127.5)
    return rows


def _dict_of(needs: Iterable[str]) -> str:
    wanted = "; ".join(f"{key!r}, {BATCH_KEYS[key]}" for key in sorted(needs))
    return f"give dicts with {wanted}"
