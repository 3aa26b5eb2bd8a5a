"""Phases: which networks minimise which loss, and at which batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gan_experiments.contracts import Batch

Networks = nn.Module | tuple[nn.Module, ...]


@dataclass(frozen=True)
class Phase:
    """One loss, minimised over the parameters of some networks by one optimizer.

    `loss` maps a batch to weighted scalar terms by name; their sum is minimised and each is logged. If no term requires
    gradients the optimizer takes no step: a step with zero gradients would still move the weights by its momentum.
    `every` counts batches: the phase is carried out at each `every`-th one (n_critic, lazy regularisation).
    `keeps` are networks that this phase does not train, but whose gradients a later phase of the same batch needs:
    their parameters keep requires_grad, so that their outputs can be shared (see `AdversarialModule.once`).
    `optimizer` names the optimizer (default: the phase's name); phases that name the same one share it and its state.
    """

    name: str
    loss: Callable[[Batch], Mapping[str, Tensor]]
    networks: Networks
    every: int = 1
    keeps: Networks = ()
    optimizer: str = ""

    @property
    def player(self) -> str:
        """The name of its optimizer, by which a player's phases are one."""
        return self.optimizer or self.name

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of its networks, of which it trains those that are not frozen."""
        return _parameters(self.networks)


def _parameters(networks: Networks) -> list[nn.Parameter]:
    modules = networks if isinstance(networks, tuple) else (networks,)
    return [parameter for module in modules for parameter in module.parameters()]


@dataclass(frozen=True)
class _Step:
    """A phase with its parameters looked up once: to collect them at each batch would slow small networks down."""

    phase: Phase
    optimizer: str
    trained: list[nn.Parameter]
    asking: list[nn.Parameter]  # those that require gradients: trained here, or kept for a later phase
    idle: list[nn.Parameter]  # all other trainable ones
