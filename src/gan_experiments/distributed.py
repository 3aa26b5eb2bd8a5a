"""Ranks that train as one: parameters broadcast once, gradients averaged once per optimizer step."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from gan_experiments import world


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

    def setup_distributed(self) -> None:
        """Meet the other ranks; under torchrun in a part of its store that no earlier attempt has written to.

        torchrun keeps one store when it starts the processes again, and the addresses of dead ones stay in it.
        """
        if world.torchrun() and not dist.is_initialized():
            store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
            dist.init_process_group(
                self._get_process_group_backend(),
                store=dist.PrefixStore(f"gan_experiments/{os.environ['TORCHELASTIC_RESTART_COUNT']}", store),
                rank=int(os.environ["RANK"]),
                world_size=int(os.environ["WORLD_SIZE"]),
                device_id=None if self.root_device.type == "cpu" else self.root_device,
            )
        super().setup_distributed()

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
    for dtype in _dtypes(tensors):
        same = [tensor.detach() for tensor in tensors if tensor.dtype == dtype]
        for tensor, mean in zip(same, _mean(same), strict=True):
            tensor.copy_(mean)


def average_step_(parameters: Sequence[nn.Parameter], buffers: Sequence[Tensor], asked: bool) -> Tensor | None:
    """Average the gradients and the buffers over the ranks, in place, by one reduction (one per dtype).

    A parameter without a gradient on a rank counts as zero there; one that has none on any rank keeps none, so that its
    optimizer skips it as it would in one process. Returns the share of the ranks that `asked`, a number on the device,
    which rides along; None in one process.
    """
    if world_size() == 1:
        return None
    asking: Tensor | None = None
    for dtype in _dtypes([*parameters, *buffers]):
        trained = [p for p in parameters if p.dtype == dtype]
        # .data: a graph that a later phase still needs may hold them, and does not read them in training.
        running = [buffer.data for buffer in buffers if buffer.dtype == dtype]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flags = torch.tensor([asked, *(p.grad is not None for p in trained)], dtype=dtype)
        present, *means = _mean([flags.to((*trained, *running)[0].device), *gradients, *running])
        asking = present[0] if asking is None else asking
        missing = [p.grad is None for p in trained]
        # Reading a number waits for the device: only where a gradient is missing on this rank.
        used = [not lacking or bool(share) for lacking, share in zip(missing, present[1:], strict=True)]
        for p, gradient, mean, wanted in zip(trained, gradients, means, used, strict=False):
            if wanted:
                p.grad = gradient.copy_(mean)
        for buffer, mean in zip(running, means[len(trained) :], strict=True):
            buffer.copy_(mean)
    return asking


def _dtypes(tensors: Sequence[Tensor]) -> list[torch.dtype]:
    """The dtypes in the order of their first tensors, which is the same on every rank."""
    return list(dict.fromkeys(tensor.dtype for tensor in tensors))


def _mean(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean over the ranks of each of several tensors of one dtype."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


class _Mean(torch.autograd.Function):
    """The mean over the ranks; the derivative of every rank's loss by this rank's tensor comes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Mean.apply(gradient)


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of a tensor over the ranks, differentiable as often as needed.

    The gradients that reach the parameters are averaged over the ranks afterwards, so that they are those of the mean
    of all ranks' losses.
    """
    return tensor if world_size() == 1 else _Mean.apply(tensor)


def whole_batch(rows: Tensor) -> Tensor:
    """[n, ...] on each rank -> [world * n, ...] on every rank, in their order; differentiable as `mean_over_ranks`."""
    if world_size() == 1:
        return rows
    parts = [torch.zeros_like(rows)] * world_size()
    parts[rank()] = world_size() * rows
    return mean_over_ranks(torch.cat(parts))


def checksums(tensors: Iterable[Tensor]) -> Tensor:
    """int64 [n]: the sum of the bits of each tensor, equal for equal tensors whatever they hold (NaN too)."""
    bits = [tensor.detach().view(_BITS[tensor.element_size()]) for tensor in tensors]
    return torch.stack([numbers.sum(dtype=torch.int64) for numbers in bits])


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def gather_rows(rows: Tensor) -> Tensor:
    """[n, ...] on each rank -> [world * n, ...] on every rank, in the order of the ranks."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
