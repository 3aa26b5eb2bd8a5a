"""The forms of a discriminator's logits of n images: [n], patches [n, 1, h, w], or a list of these, one for a scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Logits = Tensor | Sequence[Tensor]


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape; one by itself stays what it is."""
    return terms[0] if len(terms) == 1 else torch.stack([*terms]).sum(dim=0)


def scales(logits: Logits) -> Sequence[Tensor]:
    """The logits of each scale; one where the discriminator has no others."""
    return [logits] if isinstance(logits, Tensor) else logits


def per_image(logits: Logits) -> Tensor:
    """One logit for each image, [n]: the mean over its patches, summed over the scales as the losses are."""
    return sum_of([one if one.ndim == 1 else one.flatten(1).mean(dim=1) for one in scales(logits)])


def per_patch(logits: Logits) -> Tensor:
    """Every logit of an image, [n, patches of all scales]; [n] where there is one for each image."""
    if isinstance(logits, Tensor):
        return logits if logits.ndim == 1 else logits.flatten(1)
    return torch.cat([one.reshape(len(one), -1) for one in logits], dim=1)
