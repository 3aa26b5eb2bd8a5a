"""What every verb does around its work: find the configs, compose them, and report a mistake in one line.

Nothing here imports torch, so that `--help` and the message about a misspelt name appear at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gan_experiments import processes, signals
from gan_experiments.contracts import ConfigError, TrainingFailure
from gan_experiments.launch import sweeps
from gan_experiments.launch.mistakes import explain, no_choice
from gan_experiments.runs import resume, run_folder
from gan_experiments.runs.configs import conf_dir, keys_gone
from gan_experiments.runs.resolvers import output_dir, register_resolvers


def main(verb: Callable[[DictConfig], int], config: str) -> None:
    """Compose the config `config` from the command line, do the verb's work with it, and exit with its status.

    Exit status: 0 done, 1 the training failed, 2 the user made a mistake (reported in one line, nothing left behind),
    128 + n stopped by signal n. A sweep ends with the status of its jobs (see `sweeps`).
    """
    before = signals.handle(signals.stop)
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # waiting threads soon free their cores; read when torch loads
    processes.keep_freed_memory()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here as exceptions
    logging.raiseExceptions = False  # or on a full disk each line of each log, also W&B's, would print a traceback
    if processes.sweep():
        sweeps.follow(processes.sweep())
    try:
        code = _sweep(verb, config) if config == "run" and sweeps.is_one(sys.argv[1:]) else _command(verb, config)
    except signals.Stopped as error:
        signals.requeue(error.number)
        signals.say(f"{signal.Signals(error.number).name}: stopped")
        code = 128 + error.number
    finally:
        run_folder.undo()
        signals.give_back(before)
    sys.exit(code)


def _command(verb: Callable[[DictConfig], int], config: str) -> int:
    """Run one command and return its exit status."""
    trains = config == "run"
    status: list[int] = []

    def job(cfg: DictConfig) -> None:
        try:
            status.append(single(verb, cfg, config))
        except (ConfigError, TrainingFailure, OSError) as error:  # Hydra would add a line
            known = run_folder.mistake(error)
            if known is None or HydraConfig.get().mode == RunMode.MULTIRUN:  # multirun of a verb that does not train
                raise
            raise SystemExit(_answer(known)) from error

    try:
        if trains:
            sys.argv[1:] = [*resume.command_line(sys.argv[1:]), *processes.words()]
        _through_hydra(job, config)
        return max(status, default=0)
    except BrokenPipeError:  # `| head` has read enough; in a training a worker may have died
        if trains:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except _MISTAKES as error:
        return _mistaken(error, config)
    except (OSError, ValueError) as error:  # from Hydra, if its folder or log cannot be written
        return _not_written(error)


def _sweep(verb: Callable[[DictConfig], int], config: str) -> int:
    """Run the jobs of a sweep and return its exit status."""
    sweep: sweeps.Sweep | None = None
    try:
        processes.require_alone()
        sweep, sys.argv[1:] = sweeps.Sweep.of(sys.argv)
        started = sweep
        _through_hydra(lambda cfg: started.job(verb, cfg), config)
        code = 0
    except _MISTAKES as error:
        code = _mistaken(error, config)
    except OSError as error:
        if sweep is None or sweep.folder is not None:  # not because Hydra could not make the folder
            raise
        code = _not_written(error)
    except BaseException as error:
        if sweep is None:
            raise
        code = sweep.broken_off(error)
    return sweep.close(code) if sweep is not None else code


_MISTAKES = (ConfigError, TrainingFailure, HydraException, OmegaConfBaseException)


def _through_hydra(job: Callable[[DictConfig], Any], config: str) -> None:
    try:
        with _composed_once():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config)(job)()
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):
            raise
        raise ConfigError(no_choice(config)) from error


@contextlib.contextmanager
def _composed_once() -> Iterator[None]:
    """Spare Hydra the composition of the whole config that only looks for `hydra.mode`.

    No config here sets it, so only words that name a person's own files or a key of Hydra can.
    """
    own = ("experiment", "hydra", "--config", "-c", "-m")
    if any(word.lstrip("+~").startswith(own) and not word.startswith("hydra.run.dir=") for word in sys.argv[1:]):
        yield
        return
    usual = Hydra.get_mode
    Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = usual  # type: ignore[method-assign]


def _mistaken(error: Exception, config: str) -> int:
    """Print the line about a mistake and return the exit status."""
    if isinstance(error, (ConfigError, TrainingFailure)):
        return _answer(error)
    print(explain(error, config), file=sys.stderr)
    return 2


def _not_written(error: Exception) -> int:
    """Print the line about a disk that is full or refuses a file, and return the exit status; raise any other error."""
    known = run_folder.mistake(error)
    if known is None:
        raise error
    return _answer(known)


def _stays(cfg: DictConfig, folder: Path) -> bool:
    """Return True if the run in a folder is kept as it is; all ranks get what the first one has found.

    Raises ConfigError if there is a run and `existing=` does not say what to do with it.
    """

    def decide() -> str:
        try:
            kept = not resume.goes_on(cfg) and run_folder.stays(folder, cfg.existing)
        except ConfigError as error:
            return str(error)
        return "kept" if kept else "begin"

    found = processes.agreed("existing", decide)
    if found not in ("kept", "begin"):
        raise ConfigError(found)
    return found == "kept"


def _load() -> None:
    """Import torch, which takes seconds, with a message meanwhile; only if standard error is a terminal."""
    if "torch" not in sys.modules and sys.stderr.isatty():
        with processes.said("loading torch"):
            import lightning  # noqa: F401


def single(verb: Callable[[DictConfig], int], cfg: DictConfig, config: str) -> int:
    """Run the single job of a command and return its exit status.

    In a process that a sweep has started for one of its jobs, an error is recorded in the job's folder.
    """
    if gone := [*keys_gone(cfg, config)]:
        raise ConfigError(*gone)
    if config not in ("run", "explore"):  # explore's groups come from its run
        from gan_experiments.assembly import options

        options.require(cfg, config)
    _load()
    trains, folder = config == "run" and not cfg.check, Path(output_dir())
    run_folder.take_note(cfg)
    if trains and _stays(cfg, folder):
        return 0
    with run_folder.held(folder) if trains else contextlib.nullcontext():
        if processes.sweep():
            status, message = run_folder.attempt(lambda: verb(cfg), folder)
            if message and run_folder.first_rank():
                print(f"{folder.name}: {message}", file=sys.stderr, flush=True)
            return status
        try:
            return verb(cfg)
        except Exception as error:
            known = run_folder.mistake(error)
            if known is None:
                raise
            raise known from error


def _answer(error: ConfigError | TrainingFailure) -> int:
    """Print an error's lines on the first rank and return the exit status."""
    if run_folder.first_rank():
        print(error, file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


register_resolvers()  # on import, so that a sweep's workers have them too
