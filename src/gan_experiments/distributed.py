"""Ranks that train as one: parameters broadcast once, gradients averaged once per optimizer step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn


def world_size() -> int:
    """The number of ranks that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this rank, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class FlatDDPStrategy(DDPStrategy):
    """Data parallelism without the wrapper of `DistributedDataParallel`.

    The wrapper expects one forward and one backward of every parameter per step, which alternating players never do.
    Here the module stays itself, and the engine averages the gradients of the optimizer that is about to step.
    """

    def configure_ddp(self) -> None:
        """Give every rank the parameters and buffers of rank 0, in place of wrapping the module."""
        assert self.model is not None
        with torch.no_grad():
            for tensor in [*self.model.parameters(), *self.model.buffers()]:
                dist.broadcast(tensor.data, src=0)


def average_(tensors: Sequence[Tensor]) -> None:
    """Average each tensor over the ranks, in place, by one reduction per dtype."""
    if world_size() == 1:
        return
    for dtype in {tensor.dtype for tensor in tensors}:
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in same])
        dist.all_reduce(flat)
        flat /= world_size()
        for tensor, mean in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))


def average_gradients_(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over the ranks, in place; a parameter without one on a rank counts as zero there.

    A parameter that has no gradient on any rank keeps none, so that its optimizer skips it as it would in one process.
    """
    if world_size() == 1:
        return
    parameters = list(parameters)
    present = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    dist.all_reduce(present)
    used = [p for p, ranks in zip(parameters, present.tolist(), strict=True) if ranks]
    for p in used:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    average_([p.grad for p in used if p.grad is not None])


def average_buffers_(module: nn.Module) -> None:
    """Average the floating-point buffers (the running statistics of batch norm) over the ranks, in place."""
    average_([buffer for buffer in module.buffers() if buffer.is_floating_point()])


def gather_rows(rows: Tensor) -> Tensor:
    """[n, ...] on each rank -> [world * n, ...] on every rank, in the order of the ranks."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
