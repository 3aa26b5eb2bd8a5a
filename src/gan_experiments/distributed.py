"""Ranks that train as one: parameters broadcast once, gradients averaged once per optimizer step."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor, nn

from gan_experiments import processes
from gan_experiments.runs import quoting

PATIENCE = 10.0  # seconds that a rank has to find out by itself that another one died


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
        """Give every rank the parameters and buffers of rank 0, in place of wrapping the module."""
        assert self.model is not None
        with torch.no_grad():
            for tensor in [*self.model.parameters(), *self.model.buffers()]:
                dist.broadcast(tensor.data, src=0)


class Launcher(_SubprocessScriptLauncher):
    """Starts the other ranks of this machine by the same command, and ends the run where one of them dies.

    Lightning's own would kill this process, so that nobody says what happened, and knows one kind of quotes.
    """

    on_death: Callable[[str], None] | None = None
    """What is done before this process ends because of a rank that died while it waits for it."""

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the ranks, and do the function with them."""
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
        """Wait for the death of a rank that this one has started, or of the one that has started this one."""
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
        os._exit(1)  # the thread that trains waits where no exception reaches it


def _command(rank: int) -> tuple[list[str], str | None]:
    """The command of another rank and the folder to start it in."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    start = ["-m", module.name.removesuffix(".__main__")] if module else [os.path.abspath(sys.argv[0])]
    if not HydraConfig.initialized():
        return [sys.executable, *start, *sys.argv[1:]], None
    config = HydraConfig.get()
    own = [f"hydra.run.dir={quoting.quoted(config.run.dir)}", f"hydra.job.name=rank_{rank}", "hydra.output_subdir=null"]
    return [sys.executable, *start, *sys.argv[1:], *own], config.runtime.cwd


def how(status: int) -> str:
    """Say how a process ended."""
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
