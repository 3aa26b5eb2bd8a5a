"""What every part of the package shares: the keys of a batch, the laws of conditions, and the errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

Batch: TypeAlias = "dict[str, Tensor]"

BATCH_KEYS: dict[str, str] = {
    "real": "real images, float [N, C, H, W] in [-1, 1]",
    "label": "class of each real image, int64 [N]",
    "real_a": "images of domain A, float [N, C, H, W] in [-1, 1]; not paired with real_b",
    "real_b": "images of domain B, float [N, C, H, W] in [-1, 1]; not paired with real_a",
    "input": "what a translator is given, float [N, C, H, W] in [-1, 1]; image i belongs to target i",
    "target": "what it should make of input, float [N, C, H, W] in [-1, 1]",
    "low": "images of low resolution, float [N, C, H / scale, W / scale] in [-1, 1]",
    "high": "the same of high resolution, float [N, C, H, W] in [-1, 1]",
    "domain": "float [N, domains]: 1 for each domain or attribute that an image of real has, else 0",
    "mask": "float [N, 1, H, W]: 1 where an image of real is to be filled in, else 0",
}
"""Every key that a batch may hold; a data module adds its own by `DataModule.keys`.

A data module names those that it `provides`, with the `shapes` of their items, and a model those that it `needs`.
"""

LAWS = ("data", "uniform")
"""How the conditions of generated samples are drawn: in the proportions of the data, or with equal probabilities."""
AS_THE_DATA, UNIFORM = "in the proportions of the data", "uniform"
"""The same two laws as the passport of a score names them.

The first is the default: scores with it are compared with those of unconditional generators.
"""


def register_keys(sentences: Mapping[str, str]) -> None:
    """Add keys to BATCH_KEYS, each with a sentence that describes its rows.

    Raises ValueError for a key that already has another sentence.
    """
    for key, sentence in sentences.items():
        if BATCH_KEYS.setdefault(key, sentence) != sentence:
            raise ValueError(f"batches have a key {key!r} already: {BATCH_KEYS[key]}")


class ConfigError(Exception):
    """A user's mistake: one line for each fault, with what was given, what is needed and what to type.

    The verbs print the lines without a traceback and end with exit status 2.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class TrainingFailure(Exception):
    """A failure of the training itself, with one line that says where and when."""


class RankDied(TrainingFailure):
    """Another process of the same run has died."""


class NotFinite(TrainingFailure):
    """A loss or a weight became infinite or NaN."""
