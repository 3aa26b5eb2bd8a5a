"""The run folder: who is in it, what came of its run, and what of it can be removed or set aside.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from gan_experiments import world
from gan_experiments.contracts import ConfigError, TrainingFailure

OUTCOME = "outcome.json"
LOCK = ".lock"
HYDRAS = (".hydra", "run.log", LOCK)
"""What is in a run folder before the run begins."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "finished", "stopped" by a signal or "failed", after how many images, with which last words."""

    status: str
    images: int
    message: str


class Busy(ConfigError):
    """Another process runs in the same folder."""


def first_rank() -> bool:
    """Say whether this process speaks, tidies up and locks for all the ranks of its run."""
    return world.rank() == 0


@contextlib.contextmanager
def held(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep a run folder to the run that is in it; a kill gives it back, as the operating system holds the lock.

    Raises Busy where another run is in the folder and does not leave it within `patience` seconds.
    """
    if not first_rank():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise Busy(
            f"{shown(folder)}: another run is in this folder now; wait for its end, or type hydra.run.dir= another one"
        ) from None
    except NotImplementedError:  # a file system without locks
        pass
    try:
        yield
    finally:
        lock.release()


def begin(folder: Path) -> None:
    """Forget how an earlier run in the folder ended."""
    if first_rank():
        (folder / OUTCOME).unlink(missing_ok=True)


def record(folder: Path, outcome: Outcome) -> None:
    """Write how the run ended; the file is whole at any moment."""
    if not first_rank():
        return
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{OUTCOME}.tmp"
    unfinished.write_text(json.dumps(asdict(outcome)) + "\n")
    os.replace(unfinished, folder / OUTCOME)


def outcome(folder: Path) -> Outcome | None:
    """How the run of a folder ended; None where it has not, or was killed."""
    try:
        return Outcome(**json.loads((folder / OUTCOME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def attempt(work: Callable[[], int], folder: Path) -> tuple[int, str]:
    """Do the work of a sweep's job: its exit status, and one line where it failed.

    A failure is written as the outcome of the folder; the traceback of one that nobody foresaw goes to its `run.log`.
    """
    try:
        return work(), ""
    except Exception as error:
        known = mistake(error)
        if known is None:
            with (folder / "run.log").open("a") as log:
                traceback.print_exc(file=log)
        text = str(known or f"{type(error).__name__}: {error}")
        message = "; ".join(line.strip() for line in text.splitlines() if line.strip())
        if known is None:
            message = f"{message[:300]} (the traceback is in run.log)"
        if outcome(folder) is None:
            record(folder, Outcome("failed", 0, message))
        return 2 if isinstance(known, ConfigError) else 1, message


def mistake(error: BaseException) -> ConfigError | TrainingFailure | None:
    """The error that its lines alone explain; None for one of which the traceback is needed."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = error.filename2 or error.filename or "the run folder"
        return ConfigError(f"no space left on the device that holds {where}: free some and type the command again")
    return error if isinstance(error, (ConfigError, TrainingFailure)) else None


def set_aside(folder: Path) -> Path | None:
    """Move what an earlier run left into `earlier-1/` (2, 3, ...), so that nothing of it is taken for the next run's.

    Returns None where there is nothing.
    """
    left = [path for path in folder.iterdir() if path.name not in HYDRAS and not path.name.startswith("earlier-")]
    if not left:
        return None
    number = 1 + len(list(folder.glob("earlier-*")))
    place = folder / f"earlier-{number}"
    place.mkdir()
    for path in left:
        path.rename(place / path.name)
    return place


def forget(folder: Path) -> None:
    """Remove what a run that has not begun left in its folder, and the folder with it; nothing of anyone else's."""
    if not first_rank():
        return  # the first rank tidies up
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in files]
    if not all(name.startswith(".hydra/") or name in (*HYDRAS, "wandb/run-id") for name in names):
        return  # `hydra.run.dir=` can name any folder, and an earlier run's
    for path in files:
        path.unlink()
    for path in (folder / ".hydra", folder / "wandb", folder, *folder.parents[:2]):  # the day's folder, if now empty
        if path != Path.cwd() and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    resolved = path.resolve()
    return str(resolved.relative_to(Path.cwd())) if resolved.is_relative_to(Path.cwd()) else str(resolved)
