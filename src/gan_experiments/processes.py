"""How this process was started: alone, by torchrun, by SLURM's srun, or by the first process of its run.

Nothing here imports torch at the top: the command line is read before that.
"""

from __future__ import annotations

import contextlib
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

PORTS_ABOVE = 10_000  # from the port where the ranks of a SLURM job meet to that of our own store
JOB_OF = "GAN_EXPERIMENTS_JOB_OF"
"""The process that started this one for a job of its sweep."""


def torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def slurm() -> bool:
    """Whether srun started this process as one of several tasks, or of one."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_NTASKS" in os.environ and "SLURM_PROCID" in os.environ and not interactive


def rank() -> int:
    """The number of this process among all of its run, from 0."""
    names = ("SLURM_PROCID",) if slurm() else ("RANK",) if torchrun() else ("NODE_RANK", "LOCAL_RANK")
    return max(int(os.environ.get(name, "0")) for name in names)


@contextlib.contextmanager
def said(what: str) -> Iterator[None]:
    """Show a word on the first rank's terminal for as long as the work inside takes."""
    shown = sys.stderr.isatty() and not rank()
    if shown:
        print(f"{what} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def watched(items: Sequence[Item], what: str) -> Iterable[Item]:
    """Return items that show on the first rank's terminal how many of them are done, once they take two seconds."""
    from tqdm import tqdm

    return tqdm(items, what, delay=2, leave=False, disable=True if rank() else None)


_parent = os.getppid()


def started_by_rank_0() -> bool:
    """Whether rank 0 has started this process, as another rank of its run."""
    return not torchrun() and not slurm() and rank() > 0


def orphaned() -> bool:
    """Whether rank 0, which had started this process, is gone."""
    return started_by_rank_0() and os.getppid() != _parent


def lowest_alive() -> bool:
    """Whether this process speaks for its run: rank 0, or rank 1 where rank 0 is gone."""
    return rank() == 0 or (rank() == 1 and orphaned())


def restarted() -> bool:
    """Whether torchrun or SLURM starts this run anew, after a failure or a requeue."""
    return any(int(os.environ.get(name) or 0) > 0 for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))


def several() -> bool:
    """Whether other processes of the same run were started beside this one."""
    return torchrun() or (slurm() and int(os.environ["SLURM_NTASKS"]) > 1)


@functools.cache
def run_name() -> str:
    """The place of this run's folder below `outputs/`, the same for all of its processes and when it is restarted.

    `<date>/<time>` of the start, with `-2`, `-3`, ... where another run began in the same second: the folder is made to
    hold the place. Under SLURM, whose processes start at different moments, `slurm/<job>-<step>`.
    """
    if slurm():
        return f"slurm/{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_STEP_ID', '0')}"
    return agreed("run_name", free_place)


def free_place() -> str:
    """Make a folder below `outputs/` that nobody else has, named by the time; return its place there."""
    now = f"{datetime.datetime.now():%Y-%m-%d/%H-%M-%S}"
    for number in itertools.count(1):
        place = now if number == 1 else f"{now}-{number}"
        try:
            files.make_folder(Path("outputs") / place)
        except FileExistsError:
            continue
        except OSError:  # said by whoever writes to it
            pass
        return place
    raise AssertionError


_own_folders = itertools.count()


def own_folder() -> str:
    """Make a folder below `outputs/` for the next run of this program, the same for all of the run's processes."""
    return f"outputs/{agreed(f'folder_{next(_own_folders)}', free_place)}"


def agreed(key: str, decide: Callable[[], str]) -> str:
    """What `decide` says on rank 0, on every process of the run; told before the ranks have met.

    Through torchrun's store, or one of our own under SLURM; Lightning starts its processes with this one's environment.
    When torchrun starts the processes again, the first word holds.
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
    """A store that all processes of the run can reach; kept until the process ends."""
    from torch.distributed import TCPStore

    if torchrun():
        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    met = SLURMEnvironment()  # in its port's neighbourhood, which the ranks need themselves
    return TCPStore(met.main_address, met.main_port + PORTS_ABOVE, int(os.environ["SLURM_NTASKS"]), rank() == 0)


@functools.cache
def sweep() -> int:
    """The process of the sweep that started this one for one of its jobs; 0 for none."""
    return int(os.environ.pop(JOB_OF, "0"))  # not for the ranks that this process starts


def require_alone() -> None:
    """Raise ConfigError where several processes were started for one sweep."""
    if several():
        raise ConfigError(
            "-m: a sweep is started once and each of its jobs starts its own processes; type python instead of torchrun"
            " or srun, and trainer=ddp or hydra/launcher=submitit_slurm"
        )


def words() -> list[str]:
    """What a process beside the first one adds to its command: a log of its own, and no copy of the config."""
    return [f"hydra.job.name=rank_{rank()}", "hydra.output_subdir=null"] if several() and rank() else []


def adopt(trainer: Any, chosen: str = "", typed: bool = False) -> None:
    """Set the devices, machines and strategy of a trainer's config to the processes that were started.

    `chosen` is the name of that config, `typed` says whether `trainer.devices=` was typed. Raises ConfigError where the
    processes contradict it, or where `trainer=slurm` was chosen and srun did not start this process.
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


def memory() -> float:
    """The bytes of this machine's memory, and of its accelerator's where that is more; infinite where nobody says."""
    try:
        found = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not on every system
        return float("inf")
    import torch

    if torch.cuda.is_available():
        found = max(found, *(torch.cuda.mem_get_info(index)[1] for index in range(torch.cuda.device_count())))
    return found
