"""Fused optimizers, and optimizers corrected for lazy regularisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

FUSED = ("cpu", "cuda", "mps", "xpu")
"""The devices for which torch has fused optimizers."""


def fuse(optimizer: Optimizer) -> None:
    """Make an optimizer take its step in one fused kernel, in a third of the time.

    Nothing changes if there is no such kernel for the device, or if the optimizer was given `fused` or `foreach`.
    """
    # Not by the argument `fused`: mixed precision's gradients would be unscaled after they were clipped.
    if isinstance(optimizer, torch.optim.Adam | torch.optim.SGD) and not optimizer.defaults["differentiable"]:
        for group in optimizer.param_groups:
            supported = all(parameter.device.type in FUSED for parameter in group["params"])
            if supported and group["fused"] is None and group["foreach"] is None:
                group["fused"] = True


MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]


def corrected_for_lazy_steps(make: MakeOptimizer, share: float) -> MakeOptimizer:
    """Wrap `make` for a player with a lazy regulariser: only a `share` of its steps are on its main loss.

    The learning rate is multiplied by `share`, and the betas are raised to its power (Karras et al. 2020,
    arXiv:1912.04958, appendix B).
    """

    def made(parameters: list[nn.Parameter]) -> Optimizer:
        optimizer = make(parameters)
        for group in optimizer.param_groups:
            group["lr"] *= share
            if "betas" in group:
                group["betas"] = tuple(beta**share for beta in group["betas"])
        return optimizer

    return made
