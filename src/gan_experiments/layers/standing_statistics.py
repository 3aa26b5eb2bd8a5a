"""Batch norm statistics recomputed for the current weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def take_standing_statistics(network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> int:
    """Replace the running statistics of every batch norm by their means over `batches` of the network's inputs.

    The running averages of the training belong to older weights, and not to an averaged generator's weights. Brock et
    al. 2019, arXiv:1809.11096, section 3.2, "standing statistics". Returns the number of batch norms.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, with equal weights
        norm.train()
    try:
        for inputs in batches if norms else ():
            network(*inputs)
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)
    return len(norms)
