"""Sweeps (`-m`): a folder that the same command finds again, jobs that do not stop each other, a list at the end.

A job may run in this process, in a worker (joblib) or on another machine (submitit). Its result is therefore read from
files: `outcome.json` in its folder, and a note to the start of the sweep that it belongs to. A job of several ranks
gets a process of its own, because Lightning starts the other ranks by the command line of the process, and kills that
process if one of them dies.

Nothing here imports torch, so that a sweep with nothing left to do says so at once.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from gan_experiments import files, processes, signals
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import resume, run_folder
from gan_experiments.runs.names import COMMAND, OF_THE_SWEEP, folder_of
from gan_experiments.runs.quoting import quoted
from gan_experiments.runs.run_folder import Outcome
from gan_experiments.signals import Stopped

# -------------------------------------------------------------------- names


# -------------------------------------------------------------------- the command


def is_one(words: Sequence[str]) -> bool:
    """Return True if a command line starts a sweep."""
    modes = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
    return not modes.isdisjoint(words) or any(
        resume.key_of(word) == "sweep" and word.partition("=")[2] not in ("", "null") for word in words
    )


@dataclass
class Note:
    """What a job reports to the start of the sweep that it belongs to."""

    words: str
    folder: str
    state: str = "running"  # finished, before (finished by an earlier start), elsewhere, stopped, failed
    message: str = ""
    status: int = 0
    host: str = ""
    pid: int = 0


@dataclass
class Sweep:
    """One start of a sweep. It is passed to its jobs, in whichever process they run."""

    script: str
    check: bool = False
    folder: Path | None = None  # None until Hydra has determined it
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    current: ClassVar[Sweep | None] = None
    _new: bool = False
    _temporary: str | None = None

    @classmethod
    def of(cls, argv: list[str]) -> tuple[Sweep, list[str]]:
        """Return the sweep that a command starts, and the words for Hydra, which name the sweep's folder.

        Raises ConfigError for options that apply to a single run.
        """
        words = argv[1:]
        resume.require_folders(words)
        values = {resume.key_of(word): word.partition("=")[2] for word in words}
        if values.get("ckpt", "null") not in ("", "null"):
            raise ConfigError("ckpt= goes on with one run and a sweep starts several: leave out one of ckpt= and -m")
        if "existing" in values:
            raise ConfigError(
                "existing= is about one run; a sweep keeps what is finished and goes on with the rest: leave it out, or"
                " type hydra.sweep.dir= another folder"
            )
        sweep = cls(argv[0], check=values.get("check", "").lower() == "true")
        if "-m" not in words and "--multirun" not in words:
            words = ["-m", *words]
        if sweep.check:  # in this process, with nothing left behind
            sweep._temporary = tempfile.mkdtemp(prefix="gan_experiments-check-")
            words = [word for word in words if not resume.key_of(word).startswith(OF_THE_SWEEP[2:4])]
            words = [word for word in words if resume.key_of(word) != "hydra.sweep.dir"]
            words.append(f"hydra.sweep.dir={quoted(Path(sweep._temporary) / Path(folder_of(argv[1:])).name)}")
        elif "hydra.sweep.dir" not in values:
            words.append(f"hydra.sweep.dir={folder_of(words)}")
        cls.current = sweep
        # Workers that do not share our sys.path must find the package where it is not installed.
        package = str(Path(__file__).resolve().parents[1])
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        os.environ["PYTHONPATH"] = os.pathsep.join([package, *(p for p in known if p and p != package)])
        return sweep, words

    def begin(self, config: DictConfig) -> None:
        """Make the folder; pass signals on to jobs in other processes."""
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self._new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / COMMAND).write_text(" ".join([self.script, *sys.argv[1:]]) + "\n")
        for left in (self.folder / ".jobs").glob(f"{self.host}-*"):  # left by a start that was killed
            if not _alive(int(left.name.rpartition("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
        if config.hydra.runtime.choices.get("hydra/launcher") not in (None, "basic"):
            _pass_signals_on(self._ask_to_stop)

    # ---------------------------------------------------------------- a job, in whichever process

    def job(self, verb: Callable[[DictConfig], int], cfg: DictConfig) -> float | None:
        """Run one job unless it is done; return the best value of its first score, None if it has none.

        Raises Stopped, in the sweep's own process, if a signal stopped the job. A failure of the job raises nothing.
        """
        folder = Path(HydraConfig.get().runtime.output_dir)
        if self.asked_to_stop():
            run_folder.forget(folder)
            return None
        self._settle_in()
        words = " ".join(word for word in HydraConfig.get().overrides.task if resume.key_of(word) not in resume.ONCE)
        note = Note(words or "as configured", str(folder), host=socket.gethostname(), pid=os.getpid())
        self._write(note)
        try:
            self._do(note, verb, cfg, folder)
        except Stopped as error:
            note.state, note.status = "stopped", 128 + error.number
            if not cfg.check and run_folder.outcome(folder) is None:
                run_folder.record(folder, Outcome("stopped", 0, "stopped before it had begun"))
        finally:
            self._write(note)
            _free_memory()
        if note.state == "stopped" and self._at_home():
            raise Stopped(note.status - 128)
        return value(folder) if note.state in ("finished", "before") else 0.0 if cfg.check else None

    def _do(self, note: Note, verb: Callable[[DictConfig], int], cfg: DictConfig, folder: Path) -> None:
        ranks = bool(cfg.trainer.strategy)
        said = False
        with signals.stopping():
            try:
                with contextlib.nullcontext() if cfg.check else run_folder.held(folder, patience=5):
                    if not cfg.check:
                        done, checkpoint = _earlier(cfg, folder)
                        if done:
                            note.state = "before"
                            print(f"{folder.name}: finished before, not run again", flush=True)
                            return
                        run_folder.begin(folder)
                        cfg.ckpt = str(checkpoint) if checkpoint else None
                    if not ranks:
                        note.status, note.message = run_folder.attempt(lambda: verb(cfg), folder)
            except run_folder.Busy:
                note.state = "elsewhere"
                print(f"{folder.name}: another process runs it now, left to that", flush=True)
                return
        if ranks:
            said = True
            note.status = _in_its_own_process(self.script, cfg, folder)
            ended = run_folder.outcome(folder)
            if note.status and note.status < 128:
                how = f"killed by signal {-note.status}" if note.status < 0 else f"ended with status {note.status}"
                note.message = ended.message if ended else f"{how}, and did not say why"
                if ended is None:
                    run_folder.record(folder, Outcome("failed", 0, note.message))
        note.state = "finished" if not note.status else "stopped" if note.status >= 128 else "failed"
        if note.state == "failed" and not said:
            print(f"{folder.name}: {note.message}", file=sys.stderr, flush=True)

    def _at_home(self) -> bool:
        return (socket.gethostname(), os.getpid()) == (self.host, self.pid)

    def _settle_in(self) -> None:
        """Prepare a worker: leave the terminal's process group, and end when the sweep's process ends.

        The sweep passes the terminal's signals on to it.
        """
        sys.argv[0] = self.script
        if not self._at_home() and os.getppid() == self.pid:
            with contextlib.suppress(OSError):
                os.setpgid(0, 0)
            follow(self.pid)

    # ---------------------------------------------------------------- notes

    @property
    def _notes(self) -> Path:
        assert self.folder is not None
        return self.folder / ".jobs" / f"{self.host}-{self.pid}"

    def _write(self, note: Note) -> None:
        self._notes.mkdir(parents=True, exist_ok=True)
        files.write_text(self._notes / f"{Path(note.folder).name}.json", json.dumps(asdict(note)))

    def _read(self) -> list[Note]:
        paths = sorted(self._notes.glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
        return [Note(**json.loads(path.read_text())) for path in paths]

    def _ask_to_stop(self, number: int) -> None:
        self._notes.mkdir(parents=True, exist_ok=True)
        (self._notes / "stop").write_text(str(number))
        for note in self._read():
            if note.state == "running" and note.host == self.host and note.pid != self.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(note.pid, number)

    def asked_to_stop(self) -> int:
        """Return the number of the signal that asked the jobs in other processes to stop; 0 if none did."""
        path = self._notes / "stop"
        return int(path.read_text()) if path.exists() else 0

    # ---------------------------------------------------------------- the end

    def broken_off(self, error: BaseException) -> int:
        """Print why the sweep ends early, and return the exit status."""
        if isinstance(error, Stopped):
            return 128 + error.number
        if isinstance(error, SystemExit):
            return error.code if isinstance(error.code, int) else 1
        if self.folder is None:
            raise error
        print(f"the sweep broke off ({type(error).__name__}: {' '.join(str(error).split())[:300]})", file=sys.stderr)
        return 1

    def close(self, status: int) -> int:
        """Print the results of the jobs; return `status` if it is not 0, else the exit status of the jobs."""
        if self.folder is not None:
            notes = self._read() if self._notes.exists() else []
            stopped = self.asked_to_stop()
            for note in notes:
                if note.state == "running":
                    note.state, note.message, note.status = "failed", "its process was killed", 1
            status = status or _status(notes, stopped)
            if notes and not self.check:
                self._say(notes, status)
            self._tidy(notes)
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)
        return status

    def _say(self, notes: list[Note], status: int) -> None:
        assert self.folder is not None
        counts = {state: sum(note.state == state for note in notes) for state in ("before", "elsewhere", "stopped")}
        finished = sum(note.state in ("finished", "before") for note in notes)
        failed = [note for note in notes if note.state == "failed"]
        parts = [f"{finished} finished" + (f" ({counts['before']} of them before)" if counts["before"] else "")]
        parts += [f"{n} {what}" for what, n in (("stopped", counts["stopped"]), ("failed", len(failed))) if n]
        parts += [f"{counts['elsewhere']} run by another process"] if counts["elsewhere"] else []
        print(f"\nsweep {run_folder.shown(self.folder)}: {', '.join(parts)}")
        said = [note.words.split() for note in notes]
        shared = set.intersection(*map(set, said)) if len(notes) > 1 else set()
        own = {
            note.folder: " ".join(w for w in words if w not in shared) for note, words in zip(notes, said, strict=True)
        }
        for note in notes:
            best = _best(Path(note.folder)) if note.state in ("finished", "before") else None
            if best:
                print(f"  {best[0]} {best[1]:<8.4g} {own[note.folder]}   ({Path(note.folder).name})")
        if status >= 128:
            print("  stopped; the same command goes on")
        sys.stdout.flush()
        for note in failed:
            where = run_folder.shown(Path(note.folder))
            print(f"  failed  {own[note.folder]}: {note.message}   ({where})", file=sys.stderr, flush=True)

    def _tidy(self, notes: list[Note]) -> None:
        assert self.folder is not None
        shutil.rmtree(self._notes, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._notes.parent.rmdir()
        if self._new and not notes:  # a mistake in the command: no job has begun
            for left in (COMMAND, "multirun.yaml", "study.db"):
                (self.folder / left).unlink(missing_ok=True)
            for path in (self.folder, *self.folder.parents[:2]):
                if path != Path.cwd() and path.is_dir() and not any(path.iterdir()):
                    path.rmdir()


class Announce(Callback):
    """A Hydra callback that gives the current sweep the folder that Hydra has chosen."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Begin the sweep. A ConfigError ends the process, because Hydra would turn it into a warning."""
        if Sweep.current is None:
            return
        try:
            Sweep.current.begin(config)
        except ConfigError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from error


def _status(notes: list[Note], stopped: int) -> int:
    statuses = [note.status for note in notes if note.state == "stopped"]
    if stopped or statuses:
        return 128 + stopped if stopped else statuses[0]
    failed = [note.status for note in notes if note.state == "failed"]
    return 0 if not failed else 2 if all(status == 2 for status in failed) else 1


# -------------------------------------------------------------------- what was done before


def _earlier(cfg: DictConfig, folder: Path) -> tuple[bool, Path | None]:
    """Return whether a job is done already, and the checkpoint to resume it from.

    Files of another config are set aside, and so are those of a run that was killed before its first checkpoint.
    """
    past = folder / "config.yaml"
    if not past.is_file():
        return False, None
    now, then = _comparable(resume.plain(cfg)), _comparable(OmegaConf.load(past))
    changed = resume.changed(now, then)
    last = folder / "checkpoints" / "last.ckpt"
    if not changed:
        ended = run_folder.outcome(folder)
        if ended is not None and ended.status == "finished":
            return True, None
        if last.is_file():
            seen = resume.load(last)["gan_experiments"]["images_seen"]
            if seen < cfg.images:
                return False, last
            run_folder.record(folder, Outcome("finished", seen, f"{seen:,} images"))  # killed at its end
            return True, None
    place = run_folder.set_aside(folder)
    if changed and place:
        key = changed[0]
        print(
            f"{folder.name}: {key} is {now.get(key)} now and was {then.get(key)}: run again from its start;"
            f" what it had is in {run_folder.shown(place)}",
            flush=True,
        )
    return False, None


def _comparable(config: Any) -> dict[str, Any]:
    """Return the flat config without its loggers, on which no result depends, as it would be read from a file."""
    read = OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(config))))
    return {key: value for key, value in resume.flat(read).items() if not key.startswith("logger.") and key != "logger"}


def value(folder: Path) -> float | None:
    """Return the best value of a run's first score; None if it has none."""
    best = _best(folder)
    return best[1] if best else None


def _best(folder: Path) -> tuple[str, float] | None:
    try:
        scores = json.loads((folder / "scores.json").read_text())["best"]["scores"]
        return next((str(name), float(score["value"])) for name, score in scores.items())
    except (OSError, ValueError, KeyError, StopIteration):
        return None


# -------------------------------------------------------------------- processes and signals


def _in_its_own_process(script: str, cfg: DictConfig, folder: Path) -> int:
    """Run a job in a new process, as a single run with its own words and folder; return its exit status.

    The status is 128 + n if the signal n stopped it, and -n if another signal n killed it.
    """
    hydra = HydraConfig.get()
    words = [word for word in hydra.overrides.task if resume.key_of(word) not in resume.ONCE]
    words += [word for word in hydra.overrides.hydra if not resume.key_of(word).startswith(OF_THE_SWEEP)]
    words += [f"hydra.run.dir={quoted(folder)}", f"check={str(bool(cfg.check)).lower()}"]
    words += [f"ckpt={quoted(cfg.ckpt)}"] if cfg.ckpt else []
    process = subprocess.Popen(
        [sys.executable, os.path.join(hydra.runtime.cwd, script), *words],
        cwd=hydra.runtime.cwd,
        env={**os.environ, processes.JOB_OF: str(os.getpid())},
        start_new_session=True,  # so that a signal reaches it only once
    )
    with _passing_signals_on(process.send_signal) as asked:
        try:
            status = process.wait()
        except Stopped:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return 128 + asked[0] if asked else 128 - status if -status in signals.numbers() else status


@contextlib.contextmanager
def _passing_signals_on(to: Callable[[int], None]) -> Iterator[list[int]]:
    """Pass the first signal to `to` inside the `with`; a second one raises Stopped. Yields the list of signals."""
    came, before = _pass_signals_on(to)
    try:
        yield came
    finally:
        signals.give_back(before)


def _pass_signals_on(to: Callable[[int], None]) -> tuple[list[int], dict[signal.Signals, Any]]:
    came: list[int] = []

    def pass_on(number: int) -> None:
        if came:
            raise Stopped(number)
        came.append(number)
        signals.say(f"\n{signal.Signals(number).name}: the jobs that run save; once more to stop at once")
        to(number)

    return came, signals.handle(pass_on)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def follow(parent: int) -> None:
    """Send this process SIGTERM when the process that started it has ended."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    if not any(thread.name == "follow" for thread in threading.enumerate()):
        threading.Thread(target=wait, name="follow", daemon=True).start()


def _free_memory() -> None:
    """Free a finished job's memory on the device for the next one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
