"""Weights kept as float16, in half the space. They are widened to float32 when they are used."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.contracts import ConfigError


def is_halved(tensor: Tensor) -> bool:
    """Return True for a tensor that is kept as float16: weights, but neither biases nor statistics, which are small."""
    return tensor.dtype == torch.float32 and tensor.ndim > 1


@torch.no_grad()
def round_(module: nn.Module) -> None:
    """Round the weights of a module to values that float16 has. Raises ConfigError if one is too large for float16."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_halved(tensor):
            rounded = tensor.half().float()
            if not torch.equal(rounded.isfinite(), tensor.isfinite()):
                raise ConfigError(f"half=true: {name} has values beyond 65,504, float16's largest; leave it out")
            tensor.copy_(rounded)


class HalfStored(nn.Module):
    """A module whose weights are kept as float16; its results are those of the module with rounded weights."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(module)
        self.names = [name for name, tensor in self._tensors().items() if is_halved(tensor)]
        tensors = self._tensors()
        for name in self.names:
            tensors[name].data = tensors[name].data.half()

    @override
    def forward(self, *inputs: Tensor) -> Tensor:
        tensors = self._tensors()
        wide = {name: tensors[name].float() for name in self.names}
        return torch.func.functional_call(self.inner, wide, inputs)

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.inner.named_parameters()), **dict(self.inner.named_buffers())}
