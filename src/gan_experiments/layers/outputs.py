"""Outputs of the submodules of any network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from gan_experiments.contracts import ConfigError


@contextmanager
def outputs_of(net: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Collect the last output of each submodule in `layers`, by name, while the block runs.

    A tensor is cloned with its gradient graph, because later layers may change it in place. The hooks are removed at
    the end of the block.
    """
    found: dict[str, Any] = {}

    def keeper(layer: str) -> Any:
        def keep(_module: nn.Module, _given: Any, output: Any) -> None:
            found[layer] = output.clone() if isinstance(output, Tensor) else output

        return keep

    hooks = [net.get_submodule(layer).register_forward_hook(keeper(layer)) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def require_layers(net: nn.Module, layers: Sequence[str], given: str, name: str) -> None:
    """Raise ConfigError if `net` has no submodule of one of these names.

    The message begins with `given`, the option as typed, and calls the network `name`.
    """
    modules = dict(net.named_modules())
    for layer in layers:
        if layer not in modules:
            parent = layer.rpartition(".")[0]
            within = f"{parent}." if parent in modules and parent else ""
            some = ", ".join(within + child for child, _ in modules[within.removesuffix(".")].named_children())
            raise ConfigError(f"{given}: {name} has no such layer, but {some}, ...")
