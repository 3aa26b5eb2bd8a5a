"""The run folder: which process holds it, how its run ended, and which files can be removed or set aside.

Nothing is written to a folder before the command is accepted (see `Withhold`). Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import logging
import os
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from gan_experiments import files, processes
from gan_experiments.contracts import ConfigError, RankDied, TrainingFailure

OUTCOME = "outcome.json"
LOCK = ".lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Error numbers (errno) of the operating system for a disk that is full, or refuses a file."""
HYDRAS = (".hydra", "run.log", LOCK)
"""Names that are in a run folder before the run begins."""
GONE = re.compile(
    r"Connection (closed|reset) by peer|Connection refused|Broken pipe|Socket Timeout|Timed out (waiting|after)"
    r"|NCCL (error|communicator)|remote process exited"
)
"""Texts in torch's errors when another rank does not answer."""
IN_A_RUN_FOLDER = ("", ".hydra", "checkpoints", "samples", "profile", "tensorboard", "wandb")
WRITTEN = re.compile(
    r"\.hydra/(config|hydra|overrides)\.yaml|(run|rank_\d+|train_ddp_process_\d+)\.log|config\.yaml|parameters\.json"
    r"|outcome\.json|metrics\.csv|report\.html|curves\.png|scores\.json|checkpoints/(last|best|good|\d{8,})\.ckpt"
    r"|profile/.*|samples/(\d{8,}\.png|training\.gif|real\.png)|tensorboard/(events\.out\.tfevents\..*|hparams\.yaml)"
    r"|wandb/(run-id|latest-run|debug.*\.log|(offline-)?run-\d{8}_.*)"
)
"""Paths, relative to the run folder, of the files that a run writes."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `status` "finished", "stopped" (by a signal) or "failed", the images seen, and a message."""

    status: str
    images: int
    message: str


class Busy(ConfigError):
    """Another process runs in the same folder."""


def first_rank() -> bool:
    """Return True if this process prints, cleans up and locks for all ranks of its run."""
    return processes.rank() == 0


@contextlib.contextmanager
def held(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Lock a run folder inside the `with`. If the process is killed, the operating system releases the lock.

    Raises Busy if another run holds the folder and does not release it within `patience` seconds.
    """
    if not first_rank():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    _note_new(folder, LOCK)
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


# -------------------------------------------------------------------- before a run begins


def written(folder: Path) -> list[Path]:
    """Return the files in a folder that have the names of files that a run writes."""
    found = []
    for name in IN_A_RUN_FOLDER:
        inside = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
        found += [path for path in inside if WRITTEN.fullmatch(path.relative_to(folder).as_posix())]
    return found


def stays(folder: Path, existing: Any) -> bool:
    """Return True if the folder's files are to be kept, so that no run begins there.

    Raises ConfigError if it holds files that a run writes and `existing` is "refuse".
    """
    files.require_existing(existing)
    there = written(folder)
    if not there or existing == "replace":
        return False
    ended = outcome(folder)
    if existing == "keep":
        print(f"{shown(folder)} {_holds(folder, there)} and stays as it is (existing=keep)", flush=True)
        return True
    begun = _is_a_run(folder) and (ended is None or ended.status != "finished")
    on = "resume=true to go on with it, " if begun else ""
    raise ConfigError(
        f"{shown(folder)} {_holds(folder, there)}: type hydra.run.dir= another folder, {on}existing=replace to remove"
        " it and begin anew, or existing=keep to leave it"
    )


def _is_a_run(folder: Path) -> bool:
    return (folder / ".hydra").is_dir() or (folder / "checkpoints").is_dir()


def _holds(folder: Path, there: list[Path]) -> str:
    """Return in words what a folder holds: a run and how it ended, or files that a run would overwrite."""
    if not _is_a_run(folder):
        others = f" and {len(there) - 1} more" if len(there) > 1 else ""
        return f"has {there[0].relative_to(folder).as_posix()}{others} already, which a run writes"
    ended = outcome(folder)
    return f"holds a run already ({f'{ended.status}, {ended.images:,} images' if ended else 'not finished'})"


class Withhold(Callback):
    """A Hydra callback that lets Hydra make only an empty folder until the command is accepted."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the folder; hold back Hydra's notes on the command, and the log (see `LogFile`)."""
        _command.waiting = True
        if config.hydra.output_subdir is not None:
            _command.notes_folder = str(config.hydra.output_subdir)
            with read_write(config.hydra):
                config.hydra.output_subdir = None
        with contextlib.suppress(FileExistsError):
            files.make_folder(Path(config.hydra.run.dir))


@dataclass
class _Command:
    """The command of this process: whether it waits to be accepted, Hydra's notes on it, and the new files it wrote."""

    waiting: bool = False
    notes_folder: str = ""
    notes: dict[str, str] = field(default_factory=dict)
    new: list[Path] = field(default_factory=list)


_command = _Command()


class LogFile(logging.FileHandler):
    """The log in the run folder, written from when the command is accepted, with the records kept until then."""

    def __init__(self, filename: str) -> None:
        super().__init__(filename, delay=True)
        self.waiting: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it until the command is accepted."""
        if _command.waiting:
            self.waiting.append(record)
        else:
            super().emit(record)


def take_note(cfg: DictConfig) -> None:
    """Keep the files that Hydra would write about a command, to write them when it is accepted."""
    _note_new(Path(HydraConfig.get().runtime.output_dir), "wandb", "wandb/run-id")
    if _command.notes_folder:
        hydra: Any = copy.deepcopy(HydraConfig.instance().cfg)
        with read_write(hydra.hydra):
            hydra.hydra.output_subdir = _command.notes_folder
        texts = {"config": cfg, "hydra": hydra, "overrides": HydraConfig.get().overrides.task}
        _command.notes = {f"{name}.yaml": OmegaConf.to_yaml(config) for name, config in texts.items()}


def accept(folder: Path, replace: bool = False) -> None:
    """Mark the command as accepted and write its notes and log; with `replace`, remove an earlier run's files first."""
    if first_rank():
        for path in written(folder) if replace else []:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        _note_new(folder, ".hydra", "run.log", "wandb", "wandb/run-id")
        for name, text in _command.notes.items():
            _note_new(folder, f"{_command.notes_folder}/{name}")
            files.write_text(folder / _command.notes_folder / name, text)
    _command.waiting = False
    for handler in logging.root.handlers:
        if isinstance(handler, LogFile):
            while handler.waiting:
                handler.emit(handler.waiting.pop(0))


def accepted() -> bool:
    """Return True if the command is accepted, so that it may write to its run folder."""
    return not _command.waiting


def begin(folder: Path) -> None:
    """Delete the outcome of an earlier run in the folder; from now on `undo` removes nothing."""
    _command.new.clear()
    files.made.clear()
    if first_rank():
        (folder / OUTCOME).unlink(missing_ok=True)


def _note_new(folder: Path, *names: str) -> None:
    _command.new.extend(folder / name for name in names if not os.path.lexists(folder / name))


def undo() -> None:
    """Remove the new files of a command that has not begun a run; files from before are left as they were."""
    if first_rank():
        folders = [path for path in _command.new if path.is_dir() and not path.is_symlink()]
        for path in _command.new:
            if path not in folders:
                with contextlib.suppress(OSError):  # a disk that refuses writes refuses this too
                    path.unlink(missing_ok=True)
        files.remove_empty([*folders, *files.made])
    _command.new.clear()
    files.made.clear()


# -------------------------------------------------------------------- how it ended


def record(folder: Path, outcome: Outcome, by_any: bool = False) -> None:
    """Write how the run ended, on the first rank, or on any with `by_any`; the file is complete at any moment."""
    if not first_rank() and not by_any:
        return
    files.write_text(folder / OUTCOME, json.dumps(asdict(outcome)) + "\n")


def outcome(folder: Path) -> Outcome | None:
    """Return how the run of a folder ended; None if it has not ended, or was killed."""
    try:
        return Outcome(**json.loads((folder / OUTCOME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def running(folder: Path, images: Callable[[], int]) -> Iterator[None]:
    """Record an error inside the `with` as the folder's outcome: failed, after `images()` images.

    An error that says that another rank has died is raised as RankDied; the outcome is then left to others.
    """
    try:
        yield
    except Exception as error:
        known = mistake(error)
        if isinstance(known, RankDied):
            raise known from error
        record(folder, Outcome("failed", images(), " ".join(str(known or repr(error)).split())))
        raise


def attempt(work: Callable[[], int], folder: Path) -> tuple[int, str]:
    """Do the work of a sweep's job; return its exit status, and one line if it failed.

    A failure is recorded as the outcome of the folder. The traceback of an unexpected error goes to `run.log` there.
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
    """Return an error whose message is enough for the user; None if the traceback is needed."""
    if isinstance(error, (ConfigError, TrainingFailure)):
        return error
    if isinstance(error, RuntimeError) and GONE.search(str(error)):
        return RankDied("another rank of this run has died")
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    return None if cause is None else _of_the_disk(cause)


def _of_the_disk(error: OSError) -> ConfigError | None:
    """Return an error about a full or refusing disk that says what to type instead; None for other errors."""
    trains = not HydraConfig.initialized() or HydraConfig.get().job.config_name == "run"
    where = error.filename2 or error.filename or ("the run folder" if trains else "the results")
    otherwise = f"type {'hydra.run.dir' if trains else 'out'}=<a folder elsewhere>"
    if error.errno in FULL:
        return ConfigError(
            f"no space left on the device that holds {where}: free some and type the command again, or {otherwise}"
        )
    if error.errno in REFUSED:
        how = "written" if error.errno in (errno.EROFS, errno.EFBIG) else "read or written"
        return ConfigError(f"{where} cannot be {how} ({os.strerror(error.errno)}): {otherwise}")
    return None


def set_aside(folder: Path) -> Path | None:
    """Move an earlier run's files to `earlier-1/` (2, 3, ...), so that they are not mistaken for those of the next run.

    Returns that folder; None if there was nothing to move.
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
    """Remove the folder of a sweep's job that has not begun, unless it holds other files than Hydra's."""
    if not first_rank():
        return  # the first rank cleans up
    left = [path for path in folder.rglob("*") if not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in left]
    if not all(name.startswith(".hydra/") or name in (*HYDRAS, "wandb/run-id") for name in names):
        return  # `hydra.run.dir=` may name any folder, also of a run
    for path in left:
        path.unlink()
    for path in (folder / ".hydra", folder / "wandb", folder, *folder.parents[:2]):  # the day's folder, if now empty
        if path != Path.cwd() and path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def shown(path: Path) -> str:
    """Return a path relative to the current folder if it is inside, else absolute."""
    resolved = path.resolve()
    return str(resolved.relative_to(Path.cwd())) if resolved.is_relative_to(Path.cwd()) else str(resolved)
