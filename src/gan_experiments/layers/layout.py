"""The order of weights in memory."""

from __future__ import annotations

import itertools

import torch
from torch import nn


def lay_out(module: nn.Module, channels_last: bool = True) -> None:
    """Lay the weights of images out as `channels_last`, or contiguously; those of clips and volumes stay as they are.

    `module.to(memory_format=...)` cannot: it asks all weights of more than three dimensions to have four.
    """
    order = torch.channels_last if channels_last else torch.contiguous_format
    for tensor in itertools.chain(module.parameters(), module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=order)
