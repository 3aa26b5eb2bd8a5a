"""What trains when: a phase of a variant's step, and the networks that it moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from gan_experiments.contracts import Batch

Networks = nn.Module | tuple[nn.Module, ...]


@dataclass(frozen=True)
class Phase:
    """One loss, minimised over the parameters of some networks by one optimizer.

    `loss` maps a batch to weighted scalar terms by name; their sum is minimised and each is logged. Where none has a
    gradient nothing is minimised: zero gradients would not do, as an optimizer with momentum goes on by itself.
    `every` counts batches: the phase is carried out at each `every`-th one (n_critic, lazy regularisation).
    `keeps` are networks whose gradients a later phase of the same batch still needs: they stay trainable here, so that
    what they made (see `AdversarialModule.once`) can be used again.
    `optimizer` names the optimizer; phases that name the same one share it and its state.
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
        """The parameters of its networks; it trains those that are not frozen."""
        return _parameters(self.networks)


def _parameters(networks: Networks) -> list[nn.Parameter]:
    modules = networks if isinstance(networks, tuple) else (networks,)
    return [parameter for module in modules for parameter in module.parameters()]


@dataclass(frozen=True)
class _Step:
    """A phase with all that it needs looked up: a walk through the modules at each batch is dear to a small network."""

    phase: Phase
    optimizer: str
    trained: list[nn.Parameter]
    asking: list[nn.Parameter]  # for gradients: those trained, and those kept for a later phase
    idle: list[nn.Parameter]
