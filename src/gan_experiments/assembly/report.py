"""What a run reports: the forecast before it starts (`check=true`) and the closing lines when it ends."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from gan_experiments import processes, signals
from gan_experiments.assembly import build, check, scoring
from gan_experiments.assembly.stopwatch import Stopwatch, cycle_of, train_on_noise
from gan_experiments.callbacks.callback import find
from gan_experiments.callbacks.checkpoints import Checkpoints
from gan_experiments.callbacks.early_stopping import EarlyStopping
from gan_experiments.callbacks.memorisation import Memorisation
from gan_experiments.callbacks.samples import SampleSheets
from gan_experiments.callbacks.scores import Scores
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.contracts import ConfigError
from gan_experiments.data.download import NotDownloadedError, without_downloads
from gan_experiments.data.module import DataModule
from gan_experiments.loggers.run_logger import run_loggers
from gan_experiments.metrics.passports import doubts
from gan_experiments.runs import quoting, resume, run_folder
from gan_experiments.runs.run_folder import shown

NOT_AGAIN = ("resume", "existing", "hydra.run.dir", "hydra.job.name", "hydra.output_subdir")
"""Keys that are left out, or given new values, when a command is suggested for typing again."""


def tell_forecast(cfg: DictConfig) -> None:
    """Print the forecast. Raises ConfigError after it if the data do not exist, or are not as the config asks for.

    Images are decoded for it, and the run then uses these. Nothing is downloaded.
    """
    fault: ConfigError | None = None
    data: DataModule | None = None
    try:
        with without_downloads():
            data = build.open_data(cfg.data)
        first, *rest = build.understood(data)
        if data.size == 1 and cfg.get("metrics") and "scores" in cfg.callbacks and not scoring.automatic(cfg):
            build.make(cfg.metrics).real(data)  # says that scores need two
        said = [first, *(f"  {line}" for line in rest)]
    except NotDownloadedError as error:
        said = [f"data: {error}"]
    except ConfigError as error:
        said, fault = ["data: not as asked for, see the last line"], error
    print(forecast(cfg, said, data))
    if fault is not None:
        raise fault


def forecast(cfg: DictConfig, said: Sequence[str] = (), data: DataModule | None = None) -> str:
    """Return the forecast: parameter counts, images per step, scores; memory and time from a few batches of noise.

    If these would take longer than a minute, parts of batches are measured and the time is scaled up. `said` are lines
    about the data, to begin with.
    """
    build.quieten()
    model = build.build_model(cfg)
    lines = [*said, ""] if said else []
    lines += build.begin_with(cfg, model, data)
    lines += [f"{name + ' parameters':30}{count:>14,}" for name, count in build.parameters(model).items()]
    stopwatch = Stopwatch(cfg.data.batch_size, cfg.trainer.accumulate, cycle_of(model))
    with processes.said("measuring a few batches"):
        memory = train_on_noise(cfg, model, stopwatch)
    seconds, measured = stopwatch.seconds, stopwatch.measured
    batch, steps = cfg.data.batch_size, -(-cfg.images // cfg.data.batch_size)
    rate = batch / seconds
    here, missing = scoring.settled(cfg, fetch=False)
    scores = ", ".join(here.metrics.scores) if here.metrics and "scores" in cfg.callbacks else "none"
    part = "" if measured == batch else f", measured on {measured} of the {batch} images"
    lines += [
        f"{'images per step':30}{batch:>14,}",
        f"{'steps':30}{steps:>14,}  ({cfg.images:,} images)",
        f"{'time of a step':30}{1000 * seconds:>14,.0f}  ms ({rate:,.{0 if rate >= 10 else 2}f} images/s){part}",
        f"{'time of the run':30}{_duration(steps * seconds):>14}  without sheets and scores",
        f"{'precision':30}{cfg.trainer.precision:>14}  {build.arithmetic(cfg).partition(', ')[2]}",
        f"{'memory':30}{memory / 2**20:>14,.0f}  MiB, the highest so far{part}",
        f"{'scores':30}{_extractor(here):>14}  {scores}",
    ]
    if missing:
        lines.append(missing)
    return "\n".join([*lines, *check.remarks(here, model)])


def closing(run: build.Run, at_once: signals.Stopped | None = None) -> tuple[str, int]:
    """Return the closing lines (results, how to continue) and the exit status (128 + n if signal n ended the run).

    `at_once` is the signal that broke the training off. A signal that came after all images had been seen is ignored.
    """
    model, stopping = run.model, find(run.trainer, Stopping)
    sheets, scores = find(run.trainer, SampleSheets), find(run.trainer, Scores)
    checkpoints = find(run.trainer, Checkpoints)
    number = int(at_once.number if at_once else (stopping and stopping.signal) or 0)
    if model.at_end() and (at_once is None or (checkpoints is not None and checkpoints.saved_at == model.images_seen)):
        number = 0
    if not run.trainer.is_global_zero:
        return "", 128 + number if at_once and number else 0
    lines = ["", _ended(run, number)]
    if scores is not None and scores.history:
        lines += ["  scores   in scores.json", *_table(scores.history[0], scores.history[-1])]
        told = {name: score["passport"] for name, score in scores.last["scores"].items()}
        lines += [f"           {doubt}" for doubt in doubts(told)]
    memorisation = find(run.trainer, Memorisation)
    if memorisation is not None and memorisation.found is not None:
        lines.append(f"  copies   {memorisation.found}")
        lines.append(
            f"           {shown(memorisation.path)} shows samples beside the nearest training {memorisation.found.kind}"
        )
    if (curves := run.folder / "curves.png").exists():
        lines.append(f"  curves   {shown(curves)}")
    if (page := run.folder / "report.html").exists():
        lines.append(f"  report   {shown(page)}   all of these on one page")
    if run.missing:
        lines.append(f"  missing  {run.missing}")
    if (profile := run.folder / "profile").is_dir():
        lines.append(f"  profile  {shown(profile)}")
    if sheets is not None and sheets.latest is not None:
        film = "   training.gif beside it shows how they came about"
        joined = sheets.latest.with_name("training.gif").exists()  # of one sheet there is none
        lines.append(f"  samples  {shown(sheets.latest)}{film if joined else ''}")
    lines.append(f"  run      {shown(run.folder)}")
    lines += [f"  W&B      {logger.where()}" for logger in run_loggers(run.trainer) if logger.where()]
    if (wandb := run.folder / "wandb").is_dir():
        lines.append(f"  view     wandb leet {shlex.quote(shown(wandb))}   in this terminal, without an account")
    if checkpoints is not None and checkpoints.last.exists():
        ended = not number and model.at_end()
        lines.append(f"  go on    {go_on(run.folder, 2 * model.images_seen if ended else 0)}")
    return "\n".join(lines), 128 + number if number else 0


def _ended(run: build.Run, number: int) -> str:
    """Return the first of the closing lines: how the run ended, where the signal `number` may have stopped it."""
    seen, stopping, early = run.model.images_seen, find(run.trainer, Stopping), find(run.trainer, EarlyStopping)
    if early is not None and early.why:
        return f"done: {seen:,} images, {early.why}"
    if stopping is not None and stopping.time_is_up and not number and not run.model.at_end():
        return f"stopped at {seen:,} images, as trainer.max_time={stopping.max_time} is over"
    return f"{'stopped at' if number else 'done:'} {seen:,} images"


def _extractor(cfg: DictConfig) -> str:
    """Return the name of the extractor of the scores, or its class, or the evaluator's class; empty without scores."""
    if not cfg.metrics:
        return ""
    of = cfg.metrics.get("extractor") or {}
    return str(of.get("name") or (of or cfg.metrics)["_target_"].rpartition(".")[2])


def _table(first: dict[str, float], last: dict[str, float]) -> list[str]:
    """Return the lines of a table of the scores, with columns for the first and the last measurement."""
    rows = [first, last] if first is not last else [last]
    heads = [f"{row['images']:,} images" for row in rows]
    names = [name for name in last if name != "images"]
    width = max([20, *map(len, names)])
    lines = ["    " + " " * width + "".join(f"{head:>18}" for head in heads)]
    shown = {name: [f"{row[name]:.4g}" if name in row else "-" for row in rows] for name in names}
    return [
        *lines,
        *(f"    {name:{width}}" + "".join(f"{value:>18}" for value in values) for name, values in shown.items()),
    ]


def close(run: build.Run, at_once: signals.Stopped | None = None) -> int:
    """Record how a training ended, print its last lines, and return the exit status; see `closing`."""
    with signals.waiting():
        lines, status = closing(run, at_once)
        said = lines.strip().partition("\n")[0]
        state = "stopped" if status or said.startswith("stopped") else "finished"
        run_folder.record(run.folder, run_folder.Outcome(state, run.model.images_seen, said))
        if lines:
            print(lines, flush=True)
    return status


def broken_off(run: build.Run, why: str) -> None:
    """Record and print that a run ended because another rank died, and how to continue; the lowest living rank does."""
    message = f"{why}, after {run.model.images_seen:,} images; to go on type {go_on(run.folder)}"
    if processes.lowest_alive():
        run_folder.record(run.folder, run_folder.Outcome("failed", run.model.images_seen, message), by_any=True)
        print(message, file=sys.stderr, flush=True)


def go_on(folder: Path, images: int = 0) -> str:
    """Return the command that continues a run from its last checkpoint, or restarts it if it has none."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists():
        words = [word for word in sys.argv[1:] if resume.key_of(word) not in NOT_AGAIN]
        return quoting.command(*words, quoting.word("hydra.run.dir", shown(folder)), "resume=true")
    return quoting.command(quoting.word("ckpt", shown(last)), *([quoting.word("images", images)] if images else []))


class Stopped(BaseException):
    """A signal that asks the process to end."""


@contextlib.contextmanager
def stoppable() -> Iterator[list[int]]:
    """End the work inside the `with` when a signal asks for it; yields a list that then holds the signal's number.

    The work ends by an exception, so that unfinished files are removed.
    """
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    asking = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    here = threading.current_thread() is threading.main_thread()  # only this thread gets signals
    before = {number: signal.signal(number, stop) for number in asking} if here else {}
    try:
        yield stopped
    except Stopped as error:
        stopped.append(int(error.args[0]))
    except KeyboardInterrupt:
        stopped.append(int(signal.SIGINT))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02} h" if hours else f"{rest // 60}:{rest % 60:02} min"
