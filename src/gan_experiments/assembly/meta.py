"""Networks on torch's meta device, which have shapes and no memory, without the imports that torch makes for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


class Shapes(TorchFunctionMode):
    """Leaves weights undrawn, and answers 2-d convolutions by the shape of their result.

    For either on the meta device torch imports parts of its compiler, which takes longer than all else that is checked.
    What does not fit together is left to torch, for its message.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in DRAWS:
            return args[0]
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if function in (F.conv2d, F.conv_transpose2d) and args[0].is_meta and not kwargs:
            shape = convolved(*args) if function is F.conv2d else enlarged(*args)
            if shape is not None:
                return args[0].new_empty(shape)
        return function(*args, **kwargs)


@contextmanager
def without_memory() -> Iterator[None]:
    """Make networks on the meta device inside the `with`, and run them there; no random number is drawn."""
    with torch.device("meta"), Shapes(), torch.random.fork_rng(devices=[]):
        yield


def convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[int] | None:
    """Return the shape of `F.conv2d` of these arguments; None if there is none, or if it is not a matter of numbers."""
    if isinstance(padding, str) or x.ndim != 4 or x.shape[1] != weight.shape[1] * groups:
        return None
    sides = [
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, k, s, p, d in zip(
            x.shape[2:], weight.shape[2:], *map(_pair, (stride, padding, dilation)), strict=True
        )
    ]
    return [x.shape[0], weight.shape[0], *sides] if min(sides) > 0 else None


def enlarged(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> list[int] | None:
    """Return the shape of `F.conv_transpose2d` of these arguments; None if there is none."""
    if x.ndim != 4 or x.shape[1] != weight.shape[0]:
        return None
    settings = map(_pair, (stride, padding, output_padding, dilation))
    sides = [
        (side - 1) * s - 2 * p + d * (k - 1) + more + 1
        for side, k, s, p, more, d in zip(x.shape[2:], weight.shape[2:], *settings, strict=True)
    ]
    return [x.shape[0], weight.shape[1] * groups, *sides] if min(sides) > 0 else None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def told(network: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    """Return labels or numbers without memory of two samples, if a network is told some."""
    if numbers := int(getattr(network, "numbers", 0)):
        return (torch.zeros(2, numbers, device="meta"),)
    return (torch.zeros(2, dtype=torch.int64, device="meta"),) if getattr(network, "classes", 0) else ()
