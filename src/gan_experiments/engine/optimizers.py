"""Optimizers that take one step for all parameters at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

FUSED = ("cpu", "cuda", "mps", "xpu")
"""The devices for which torch has optimizers in one kernel."""


def fuse(optimizer: Optimizer) -> None:
    """Have one kernel do the whole step, in a third of the time, where there is one and nothing else was asked for."""
    # Not by the argument of that name: mixed precision's gradients would be unscaled after they were clipped.
    if isinstance(optimizer, torch.optim.Adam | torch.optim.SGD) and not optimizer.defaults["differentiable"]:
        for group in optimizer.param_groups:
            supported = all(parameter.device.type in FUSED for parameter in group["params"])
            if supported and group["fused"] is None and group["foreach"] is None:
                group["fused"] = True


MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]


def corrected_for_lazy_steps(make: MakeOptimizer, share: float) -> MakeOptimizer:
    """An optimizer for a player of whose steps a `share` only is on its main loss."""

    def made(parameters: list[nn.Parameter]) -> Optimizer:
        optimizer = make(parameters)
        for group in optimizer.param_groups:
            group["lr"] *= share
            if "betas" in group:
                group["betas"] = tuple(beta**share for beta in group["betas"])
        return optimizer

    return made
