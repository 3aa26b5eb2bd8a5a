"""Normalisation of parts of an image by the statistics of the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def shared_statistics(network: nn.Module, show: Callable[[], object]) -> Iterator[None]:
    """Fix the statistics of instance norms, and of batch norms without running statistics, while the block runs.

    `show` applies the network once to a batch. Each norm then keeps its statistics over all images and positions of
    that batch. If the batch is a fair sample of a large image, each part of the image is normalised as it would be
    within the whole.
    """
    taken: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def take(layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        x = inputs[0]
        taken[layer] = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        return use(layer, inputs, output)

    def use(layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return F.batch_norm(inputs[0], *taken[layer], layer.weight, layer.bias, eps=layer.eps)

    norms = [layer for layer in network.modules() if takes_statistics(layer)]
    for hook in (take, use):
        handles = [layer.register_forward_hook(hook) for layer in norms]
        try:
            if hook is take:
                show()
            else:
                yield
        finally:
            for handle in handles:
                handle.remove()


def takes_statistics(layer: nn.Module) -> bool:
    """Return True if a layer is a norm that uses its input's statistics in evaluation mode too."""
    return isinstance(layer, nn.InstanceNorm2d | nn.BatchNorm2d) and layer.running_mean is None
