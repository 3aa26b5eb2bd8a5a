"""Ranks that train as one: parameters broadcast once, gradients averaged once per optimizer step."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor, nn

from gan_experiments import processes
from gan_experiments.bounds import OneOf
from gan_experiments.runs import quoting

PATIENCE = 10.0  # seconds for a rank to notice by itself that another one died


def world_size() -> int:
    """Return the number of ranks that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the index of this rank, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class FlatDDPStrategy(DDPStrategy):
    """Data parallelism without the wrapper of `DistributedDataParallel`.

    The wrapper expects one forward and one backward pass of every parameter per step, which alternating updates of
    generator and discriminator never do. Here the module is not wrapped, and the engine averages the gradients of the
    optimizer that is about to step. `process_group_backend` is that of torch.distributed; None for NCCL on GPUs and
    Gloo on the CPU.
    """

    def __init__(
        self, process_group_backend: Annotated[str, OneOf("gloo", "nccl", "mpi")] | None = None, **options: Any
    ) -> None:
        super().__init__(process_group_backend=process_group_backend, **options)

    def setup_distributed(self) -> None:
        """Initialise the process group; under torchrun, in a part of its store that no earlier attempt has written to.

        When torchrun restarts the processes it keeps its store, with the addresses of the dead processes in it.
        """
        if processes.torchrun() and not dist.is_initialized():
            store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
            dist.init_process_group(
                self._get_process_group_backend(),
                store=dist.PrefixStore(f"gan_experiments/{os.environ['TORCHELASTIC_RESTART_COUNT']}", store),
                rank=int(os.environ["RANK"]),
                world_size=int(os.environ["WORLD_SIZE"]),
                device_id=None if self.root_device.type == "cpu" else self.root_device,
            )
        super().setup_distributed()

    def _configure_launcher(self) -> None:
        """Start the other ranks by our own launcher."""
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def configure_ddp(self) -> None:
        """Broadcast the parameters and buffers of rank 0 instead of wrapping the module."""
        assert self.model is not None
        with torch.no_grad():
            for tensor in [*self.model.parameters(), *self.model.buffers()]:
                dist.broadcast(tensor.data, src=0)


class Launcher(_SubprocessScriptLauncher):
    """A launcher that starts the other ranks of this machine with the same command, and ends the run if one dies.

    Lightning's launcher would kill this process before it can say what happened, and handles only one kind of quotes.
    """

    on_death: Callable[[str], None] | None = None
    """Called with a line about the rank that died, before this process, which waits for that rank, is ended."""

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the other ranks, then call `function` on this one."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        over = threading.Event()
        if not self.cluster_environment.creates_processes_externally and not self.procs:
            self._call_children_scripts()
        if self.procs or processes.started_by_rank_0():
            threading.Thread(target=self._watch, args=(over,), daemon=True, name="ranks").start()
        try:
            return function(*args, **kwargs)
        finally:
            over.set()

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        environment = self.cluster_environment
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
        os.environ["NODE_RANK"], os.environ["LOCAL_RANK"] = str(environment.node_rank()), str(environment.local_rank())
        os.environ["WORLD_SIZE"] = str(self.num_processes * self.num_nodes)
        for rank in range(1, self.num_processes):
            command, folder = _command(rank)
            variables = {**os.environ, "LOCAL_RANK": str(rank)}
            self.procs.append(subprocess.Popen(command, env=variables, cwd=folder))

    def _watch(self, over: threading.Event) -> None:
        """End this process if a rank that it started dies, or the rank that started it; return once `over` is set."""
        died = ""
        while not died:
            if over.wait(0.5):
                return
            dead = [(rank, process) for rank, process in enumerate(self.procs, 1) if process.poll()]
            died = f"rank {dead[0][0]} of this run has died ({how(dead[0][1].returncode)})" if dead else ""
            if processes.orphaned():
                died = "rank 0 of this run has died"
        if over.wait(PATIENCE):
            return
        for other in self.procs:
            other.kill()
        if self.on_death is not None:
            self.on_death(died)
        os._exit(1)  # the training thread is blocked where no exception reaches it


def _command(rank: int) -> tuple[list[str], str | None]:
    """Return the command of another rank and the folder to start it in."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["-m", module.name.removesuffix(".__main__")] if module else [os.path.abspath(sys.argv[0])]
    if not HydraConfig.initialized():
        return [sys.executable, *start, *sys.argv[1:]], None
    config = HydraConfig.get()
    own = [f"hydra.run.dir={quoting.quoted(config.run.dir)}", f"hydra.job.name=rank_{rank}", "hydra.output_subdir=null"]
    return [sys.executable, *start, *sys.argv[1:], *own], config.runtime.cwd


def how(status: int) -> str:
    """Return in words how a process with this exit status ended."""
    return f"killed by signal {-status}" if status < 0 else f"it ended with status {status}"


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

    A gradient that is missing on a rank counts as zero there. A parameter that has no gradient on any rank keeps none,
    so that its optimizer skips it as it would in a single process. Returns the share of the ranks that `asked`, a
    scalar on the device, which is part of the same reduction; None in a single process.
    """
    if world_size() == 1:
        return None
    asking: Tensor | None = None
    for dtype in _dtypes([*parameters, *buffers]):
        trained = [p for p in parameters if p.dtype == dtype]
        # .data: the autograd graph of a later phase may hold these buffers; in training it does not read their values.
        running = [buffer.data for buffer in buffers if buffer.dtype == dtype]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flags = torch.tensor([asked, *(p.grad is not None for p in trained)], dtype=dtype)
        present, *means = _mean([flags.to((*trained, *running)[0].device), *gradients, *running])
        asking = present[0] if asking is None else asking
        missing = [p.grad is None for p in trained]
        # bool() waits for the device, so it is called only where a gradient is missing on this rank.
        used = [not lacking or bool(share) for lacking, share in zip(missing, present[1:], strict=True)]
        for p, gradient, mean, wanted in zip(trained, gradients, means, used, strict=False):
            if wanted:
                p.grad = gradient.copy_(mean)
        for buffer, mean in zip(running, means[len(trained) :], strict=True):
            buffer.copy_(mean)
    return asking


def _dtypes(tensors: Sequence[Tensor]) -> list[torch.dtype]:
    """Return the dtypes in the order of their first tensors, which is the same on every rank."""
    return list(dict.fromkeys(tensor.dtype for tensor in tensors))


def _mean(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the mean of each tensor over the ranks; all tensors have one dtype."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


class _Mean(torch.autograd.Function):
    """The mean over the ranks. Its gradient is that of the sum of all ranks' losses, by this rank's tensor."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Mean.apply(gradient)


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over the ranks, differentiable any number of times.

    The parameters' gradients are averaged over the ranks afterwards, which makes them the gradients of the mean of all
    ranks' losses.
    """
    return tensor if world_size() == 1 else _Mean.apply(tensor)


def whole_batch(rows: Tensor) -> Tensor:
    """Gather rows [n, ...] of each rank to [world_size * n, ...], by rank; differentiable like `mean_over_ranks`."""
    if world_size() == 1:
        return rows
    parts = [torch.zeros_like(rows)] * world_size()
    parts[rank()] = world_size() * rows
    return mean_over_ranks(torch.cat(parts))


def checksums(tensors: Iterable[Tensor]) -> Tensor:
    """Return the sum of the bits of each tensor, int64 [n]; equal for equal tensors, also with NaN in them."""
    bits = [tensor.detach().view(_BITS[tensor.element_size()]) for tensor in tensors]
    return torch.stack([numbers.sum(dtype=torch.int64) for numbers in bits])


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def gather_rows(rows: Tensor) -> Tensor:
    """Gather rows [n, ...] of each rank to [world_size * n, ...], by rank; not differentiable."""
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
