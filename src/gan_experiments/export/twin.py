"""Copies of what a trained model samples with, without what only a training needs. The model stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from typing_extensions import override

from gan_experiments.engine.module import AdversarialModule


def used_by(model: AdversarialModule, ema: bool, call: Callable[[], Any]) -> list[str]:
    """Return the names of the networks that a call uses: those of which any part computes something."""
    found: dict[str, None] = {}

    def note(name: str, *_: Any) -> None:
        found[name] = None

    hooks = []
    for name in model.network_names:
        parts = list(model.network(name, ema).modules())
        hooks += [part.register_forward_hook(partial(note, name)) for part in parts]
    try:
        with torch.no_grad():
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)


def twin_of(model: AdversarialModule, ema: bool, names: list[str]) -> AdversarialModule:
    """Return a model like this one, on the CPU, that holds `folded` copies of the named networks and no others.

    Its networks have no averages: with `ema` they are the averaged ones.
    """
    twin = copy.copy(model)
    twin.__dict__ = dict(model.__dict__)
    twin._modules = {name: folded(model.network(name, ema)).cpu() for name in names}
    twin._modules["averages"] = nn.ModuleDict()
    twin.network_names = tuple(names)
    return twin.eval()


def folded(network: nn.Module) -> nn.Module:
    """Return a copy of a network, float32 and in evaluation mode, whose layers have plain weights.

    Spectral norm is computed once and becomes part of the weights. Layers that would compute in half precision use
    float32.
    """
    plain = _without_parametrizations(copy.deepcopy(network).eval().float().requires_grad_(False))
    for module in _in_half(plain):
        module.half_dtype = None
    for tensor in (*plain.parameters(), *plain.buffers()):
        tensor.data = tensor.data.contiguous()  # of a run in channels_last
    return plain


def _in_half(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if getattr(module, "half_dtype", None) is not None]


def widened(model: AdversarialModule, names: Sequence[str]) -> bool:
    """Return True if some layers of the named networks compute in half precision, which their copies do not."""
    return any(_in_half(model.network(name)) for name in names)


def separate_(module: nn.Module) -> None:
    """Replace batch norm that uses its batch's statistics in evaluation mode too, as pix2pix's, by `EachImageNorm`."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.BatchNorm2d) and child.running_mean is None:
                setattr(part, name, EachImageNorm(child))


class EachImageNorm(nn.Module):
    """Batch norm of each image as if it were alone in its batch, [N, C, H, W] -> the same shape.

    So an image's translation does not depend on what else is in the batch.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    @override
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((2, 3), keepdim=True)
        x = centred * (centred.square().mean((2, 3), keepdim=True) + self.eps).rsqrt()
        return x if self.weight is None else x * self.weight[:, None, None] + self.bias[:, None, None]


def _without_parametrizations(module: nn.Module) -> nn.Module:
    """Return a module whose parametrized layers are replaced by plain ones with the weights that they compute.

    torch's own `remove_parametrizations` changes the class of a layer, which the copies of that layer share.
    """
    for name, child in module.named_children():
        setattr(module, name, _without_parametrizations(child))
    if not is_parametrized(module):
        return module
    plain: Any = object.__new__(type(module).__mro__[1])
    plain.__dict__ = dict(module.__dict__)
    plain._modules = {name: child for name, child in module._modules.items() if name != "parametrizations"}
    plain._parameters = dict(module._parameters)
    with torch.no_grad():
        for name in module.parametrizations:  # type: ignore[union-attr]
            plain._parameters[name] = nn.Parameter(getattr(module, name).clone(), requires_grad=False)
    return plain
