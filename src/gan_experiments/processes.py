"""How this process was started: alone, by torchrun, by SLURM's srun, or by the first process of its run.

Nothing here imports torch at the top, because the command line is read before torch is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import functools
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gan_experiments import files
from gan_experiments.contracts import ConfigError

Item = TypeVar("Item")

PORTS_ABOVE = 10_000  # added to the port where the ranks of a SLURM job meet, for our own store
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
JOB_OF = "GAN_EXPERIMENTS_JOB_OF"
"""The environment variable with the id of the sweep's process, in a process that it started for one of its jobs."""


def torchrun() -> bool:
    """Return True if torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def slurm() -> bool:
    """Return True if srun started this process as one of one or more tasks; an interactive shell does not count."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ and not interactive


def rank() -> int:
    """Return the index of this process among those of its run, from 0."""
    names = ("SLURM_PROCID",) if slurm() else ("RANK",) if torchrun() else ("NODE_RANK", "LOCAL_RANK")
    return max(int(os.environ.get(name, "0")) for name in names)


@contextlib.contextmanager
def said(what: str) -> Iterator[None]:
    """Show `what` on the first rank's terminal while the work inside the `with` lasts."""
    shown = sys.stderr.isatty() and not rank()
    if shown:
        print(f"{what} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def watched(items: Sequence[Item], what: str) -> Iterable[Item]:
    """Return the items with a progress bar on the first rank's terminal, which appears after two seconds."""
    from tqdm import tqdm

    return tqdm(items, what, delay=2, leave=False, disable=True if rank() else None)


_parent = os.getppid()


def started_by_rank_0() -> bool:
    """Return True if rank 0 has started this process as another rank of its run."""
    return not torchrun() and not slurm() and rank() > 0


def orphaned() -> bool:
    """Return True if rank 0 started this process and has ended."""
    return started_by_rank_0() and os.getppid() != _parent


def lowest_alive() -> bool:
    """Return True if this process speaks for its run: it is rank 0, or rank 1 after rank 0 has ended."""
    return rank() == 0 or (rank() == 1 and orphaned())


def restarted() -> bool:
    """Return True if torchrun or SLURM has restarted this run, after a failure or a requeue."""
    return any(int(os.environ.get(name) or 0) > 0 for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))


def several() -> bool:
    """Return True if torchrun, or srun with several tasks, started this process."""
    return torchrun() or (slurm() and int(os.environ["SLURM_NTASKS"]) > 1)


@functools.cache
def run_name() -> str:
    """Return the path of the run folder below `outputs/`, the same in all processes of the run and after a restart.

    It is `<date>/<time>` of the start, with `-2`, `-3`, ... if another run began in the same second; the folder is made
    at once, to reserve the name. Under SLURM, whose processes start at different moments, it is `slurm/<job>-<step>`.
    """
    if slurm():
        return f"slurm/{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_STEP_ID', '0')}"
    return agreed("run_name", free_place)


def free_place() -> str:
    """Make a new folder below `outputs/`, named by the time, and return its path there."""
    now = f"{datetime.datetime.now():%Y-%m-%d/%H-%M-%S}"
    for number in itertools.count(1):
        place = now if number == 1 else f"{now}-{number}"
        try:
            files.make_folder(Path("outputs") / place)
        except FileExistsError:
            continue
        except OSError:  # reported by whatever writes to the folder first
            pass
        return place
    raise AssertionError


_own_folders = itertools.count()


def own_folder() -> str:
    """Make a folder for the next run of this program and return its path, the same in all processes of the run."""
    return f"outputs/{agreed(f'folder_{next(_own_folders)}', free_place)}"


def agreed(key: str, decide: Callable[[], str]) -> str:
    """Return on every process of the run what `decide` returns on rank 0, before torch.distributed is initialised.

    It goes through torchrun's store, or our own store under SLURM. Processes that Lightning starts inherit it in their
    environment. When torchrun restarts the processes, the first result still holds.
    """
    name = f"GAN_EXPERIMENTS_{key.upper()}"
    if several():
        place = f"gan_experiments/{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{key}"
        if rank() == 0 and not _store().check([place]):
            _store().set(place, decide())
        return str(_store().get(place).decode())
    if rank() == 0 or name not in os.environ:
        os.environ[name] = decide()
    return os.environ[name]


@functools.cache
def _store() -> Any:
    """Return a store that all processes of the run can reach; it is kept until the process ends."""
    from torch.distributed import TCPStore

    if torchrun():
        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    met = SLURMEnvironment()  # the ranks need its main port themselves
    return TCPStore(met.main_address, met.main_port + PORTS_ABOVE, int(os.environ["SLURM_NTASKS"]), rank() == 0)


@functools.cache
def sweep() -> int:
    """Return the id of the sweep's process that started this one for one of its jobs; 0 if none did."""
    return int(os.environ.pop(JOB_OF, "0"))  # so that ranks started here do not inherit it


def require_alone() -> None:
    """Raise ConfigError if several processes were started for one sweep."""
    if several():
        raise ConfigError(
            "-m: a sweep is started once and each of its jobs starts its own processes; type python instead of torchrun"
            " or srun, and trainer=ddp or hydra/launcher=submitit_slurm"
        )


def words() -> list[str]:
    """Return what every process but the first adds to its command: its own log file, and no copy of the config."""
    return [f"hydra.job.name=rank_{rank()}", "hydra.output_subdir=null"] if several() and rank() else []


def adopt(trainer: Any, chosen: str = "", typed: bool = False) -> None:
    """Set the devices, machines and strategy of a trainer's config to the processes that were started.

    `chosen` is the name of that config; `typed` is True if `trainer.devices=` was typed. Raises ConfigError if the
    config contradicts the processes, or if `trainer=slurm` was chosen and srun did not start this process.
    """
    if chosen == "slurm" and not slurm():
        raise ConfigError(
            "trainer=slurm: srun has to start the processes, one for each GPU; type srun --nodes=2 --ntasks-per-node=8"
            " python ... trainer=slurm, or trainer=ddp on one machine"
        )
    if not several():
        if trainer.num_nodes != 1:
            raise ConfigError(
                f"trainer.num_nodes={trainer.num_nodes}: something has to start the processes of the other machines;"
                " leave it out and type torchrun --nnodes=... or srun --nodes=..."
            )
        return
    everyone = int(os.environ["SLURM_NTASKS" if slurm() else "WORLD_SIZE"])
    by, machines = "srun", int(os.environ.get("SLURM_NNODES", "1"))
    if not slurm():
        by, machines = "torchrun", everyone // int(os.environ["LOCAL_WORLD_SIZE"])
    here = everyone // machines
    if everyone != here * machines:
        raise ConfigError(f"{by} started {everyone} processes on {machines} machines: give each machine as many")
    if typed and trainer.devices not in (-1, "auto", here):
        raise ConfigError(
            f"trainer.devices={trainer.devices}, and {by} started {here} processes on this machine: leave it out"
        )
    trainer.devices, trainer.num_nodes = here, machines
    if not trainer.strategy:
        trainer.strategy = {"_target_": "gan_experiments.distributed.FlatDDPStrategy"}


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors for the next ones, where it is glibc.

    By default it gives large ones back at once, and each step of a training on a CPU gets new pages, which the kernel
    has to clear: that can be more than half of a step's time (docs/speed.md). glibc's own environment variables win.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        if not libc.mallopt(M_MMAP_THRESHOLD, 1 << 30):
            libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the limit of older ones


def memory() -> float:
    """Return this machine's memory in bytes, or that of its largest GPU if that is more; infinity if unknown."""
    try:
        found = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not on every system
        return float("inf")
    import torch

    if torch.cuda.is_available():
        found = max(found, *(torch.cuda.mem_get_info(index)[1] for index in range(torch.cuda.device_count())))
    return found
