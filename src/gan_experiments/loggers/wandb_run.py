"""Weights & Biases, with the images seen as the x-axis of everything."""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from gan_experiments.bounds import OneOf, Place, Text

os.environ.setdefault("WANDB_SILENT", "true")  # the run's own last lines say where W&B's files are

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from torch import Tensor
from yaml import YAMLError

from gan_experiments import files, processes
from gan_experiments.contracts import ConfigError
from gan_experiments.loggers.logged import MODES, logged_as
from gan_experiments.loggers.run_logger import RunLogger
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.metrics.passports import short_name
from gan_experiments.runs import names, resume

log = logging.getLogger(__name__)

ASK = "_detect_and_apply_job_inputs"
"""The method by which a run asks W&B's launcher for its settings."""
SUMMARY = Path("wandb") / "last-summary.json"
"""Where in a run folder the summary lies when a start of the run has ended."""
OFFLINE = "type logger.wandb.mode=offline to upload later with `wandb sync`"


class WandbRun(RunLogger, WandbLogger):
    """A W&B run with its files in the run folder; a training that is resumed there continues the same W&B run.

    Under a `wandb agent` it is the run that the agent has made for this start. Its summary holds the last value of each
    number, for each score also the best one, and the best checkpoint's as `best/...`.

    Args:
        folder: the run folder; W&B keeps its files in `wandb/` below it.
        project, entity, group, job_type, notes, tags, save_code: as in `wandb.init`.
        name: of the run; None for the words that were typed.
        mode: "offline", "online" or "disabled"; None for "offline", or "online" under an agent.
        checkpoints: which checkpoints become artifacts when the run ends: "all" that there are, "best" for the best and
            the last one, "none".
        init: any other arguments of `wandb.init`, by name.

    Raises ConfigError for another mode, for "online" if nobody has logged in, and for an argument that `wandb.init`
    does not have or that has a key here.
    """

    def __init__(
        self,
        folder: Place,
        project: Text,
        group: Text | None = None,
        tags: list[str] | None = None,
        mode: str | None = None,
        entity: Text | None = None,
        name: Text | None = None,
        job_type: Text | None = "train",
        notes: Text | None = None,
        save_code: bool = False,
        checkpoints: Annotated[str, OneOf("best", "all", "none")] = "best",
        init: dict[str, Any] | None = None,
    ) -> None:
        agent = "WANDB_SWEEP_ID" in os.environ
        mode = mode or ("online" if agent else "offline")
        if mode not in MODES:
            raise ConfigError(f"logger.wandb.mode={mode}: type one of {', '.join(MODES)}")
        if MODES[mode] == "online" and processes.rank() == 0:
            require_key(mode)
        others = _others(init or {})
        _lighten()
        self.folder, self.checkpoints = Path(folder), checkpoints
        known = self.folder / "wandb" / "run-id"
        if agent and "WANDB_RUN_ID" in os.environ:
            files.write_text(known, os.environ["WANDB_RUN_ID"])
        elif not known.exists():
            files.write_text(known, uuid.uuid4().hex[:8])
        settings = {"silent": True, "console": "off", **others.pop("settings", {})}
        super().__init__(
            save_dir=folder,
            project=project,
            name=name or names.spoken(resume.overrides()) or _default_name(self.folder),
            version=files.clean_name(known.read_text().strip()),  # W&B makes a path of it
            entity=entity,
            group=group,
            job_type=job_type,
            notes=notes,
            tags=tags,
            mode=MODES[mode],
            save_code=save_code,
            settings=wandb.Settings(**settings),
            **others,
        )
        self._wandb_init.pop("anonymous", None)  # Lightning hands it on and W&B warns of it
        self._defined: set[str] = set()
        self._histograms: set[str] = set()
        self._before: dict[str, Any] = {}  # the summary of the earlier starts
        self._last: dict[str, Any] = {}  # values of numbers; what is logged is not all in W&B's summary on disk

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at `step` images."""
        self._last |= metrics
        self._log(metrics, step or 0)

    @rank_zero_only
    def log_passports(self, passports: dict[str, dict[str, Any]]) -> None:
        """Put the passports into the run's config, each with a short name; only runs that share it are comparable.

        In W&B group or filter by `passport.fid`, ... before ranking runs by `fid.min`, the best value.
        """
        kept = {name: short_name(passport) for name, passport in passports.items()}
        self.experiment.config.update({"passport": kept, "passports": passports}, allow_val_change=True)
        for name in passports:
            self._define(name, f"{'max' if higher_is_better(name) else 'min'},last")

    @rank_zero_only
    def log_best(self, scores: Mapping[str, float], images: int) -> None:
        """Put the scores of the best checkpoint into the summary, which W&B sorts runs by."""
        self.experiment.summary.update(
            {f"best/{name}": value for name, value in scores.items()} | {"best/images": images}
        )

    @rank_zero_only
    def log_data(self, description: str, fingerprint: str) -> None:
        """Put the data's fingerprint into the config; online the run also uses an artifact of that name."""
        told = {"description": description, "fingerprint": fingerprint}
        self.experiment.config.update({"trained_on": told}, allow_val_change=True)
        if fingerprint and self._wandb_init["mode"] == "online":  # elsewhere W&B refuses it
            name = f"data-{files.clean_name(fingerprint)[:16]}"
            try:
                self.experiment.use_artifact(wandb.Artifact(name, "dataset", description, metadata=told))
            except (OSError, ValueError, wandb.errors.Error) as error:  # no reason to end a training
                log.warning("W&B does not know what the run is trained on: %s", line_of(error))

    @rank_zero_only
    def log_picture(self, name: str, path: Path, step: int, caption: str = "") -> None:
        """Log an image file, a film (GIF, MP4, WebM) or a sound (WAV) at `step` images."""
        films: dict[str, Literal["gif", "mp4", "webm"]] = {".gif": "gif", ".mp4": "mp4", ".webm": "webm"}
        if path.suffix in films:
            media: Any = wandb.Video(str(path), caption=caption or None, format=films[path.suffix])
        elif path.suffix == ".wav":
            media = wandb.Audio(str(path), caption=caption or None)
        else:
            media = wandb.Image(str(path), caption=caption or None)
        self._log({name: media}, step)

    @rank_zero_only
    def log_evaluation(
        self, verb: str, values: Mapping[str, float], images: int, pairs: Sequence[tuple[Any, Any, float]] = ()
    ) -> None:
        """Add what a verb has measured to the summary as `verb/...`.

        `pairs` are samples, the real images nearest to them, both uint8 [H, W, C], and distances: a Table of W&B.
        """
        measured = {f"{verb}/{name}": value for name, value in values.items()}
        self.experiment.summary.update({**measured, f"{verb}/images": images})
        if pairs:
            table = wandb.Table(["sample", "nearest real image", "distance"])
            for sample, real, distance in pairs:
                table.add_data(wandb.Image(sample), wandb.Image(real), distance)
            self._log({f"{verb}/nearest": table}, images)

    @rank_zero_only
    def log_histograms(self, histograms: dict[str, Tensor], step: int) -> None:
        """Log the distribution of each tensor at `step` images; the summary does not hold its bins."""
        self._histograms |= histograms.keys()
        pictures = {name: wandb.Histogram(values.float().flatten().tolist()) for name, values in histograms.items()}
        self._log(pictures, step)

    @rank_zero_only
    def alert(self, title: str, text: str) -> None:
        """Send a warning to whom W&B's settings name."""
        self.experiment.alert(title, text)

    @rank_zero_only
    def start(self, config: dict[str, Any]) -> None:
        """Open the run before the training, so that its errors come early, as ConfigError."""
        self.open().config.update(config, allow_val_change=True)
        self.experiment.define_metric("images", hidden=True)
        self.experiment.define_metric("*", step_metric="images")

    def open(self) -> Any:
        """Open the run, with the summary of its earlier starts; raise ConfigError if W&B cannot."""
        try:
            run = self.experiment
        except wandb.errors.Error as error:
            raise ConfigError(f"W&B cannot open the run ({line_of(error)}): {OFFLINE}") from error
        self._recall()
        return run

    def where(self) -> str:
        """Return where the run can be viewed: its address, or the command that uploads it.

        A run that was resumed has a folder for each start. W&B uploads them as one run, in their order.
        """
        if self.experiment.url:
            return str(self.experiment.url)
        started = Path(self.experiment.dir).parent
        parts = sorted(started.parent.glob(f"offline-run-*-{self.experiment.id}"))
        return f"wandb sync {' '.join(map(str, parts or [started]))}"

    @rank_zero_only
    def finish(self) -> None:
        """Log what lies in the run folder and close the run, so that the next one of this process is another."""
        if self._experiment is not None:
            self.experiment.log({}, commit=True)  # what was logged last, as further values could join its step
            for name in self._histograms:  # the summary would hold their bins, whatever `define_metric` says
                with suppress(KeyError):
                    del self.experiment.summary[name]
            self._keep_extremes()
            with suppress(OSError):  # a full disk: the run has ended all the same
                self._log_files()
                told = {**self._last, **dict(self.experiment.summary)}
                files.write_text(self.folder / SUMMARY, json.dumps(told, default=_plain))
        wandb.finish()

    def _log_files(self) -> None:
        """Log the pages of the run folder, and its checkpoints as artifacts with what they score."""
        for name in ("run.log", "report.html"):  # W&B writes a config.yaml itself: ours, if it were linked there
            if (self.folder / name).exists():
                self.experiment.save(str(self.folder / name), base_path=str(self.folder), policy="now")
        if self.checkpoints == "none":
            return
        found = {path.stem: path for path in (self.folder / "checkpoints").glob("*.ckpt")}
        scores = self._scores()
        for stem, path in sorted(found.items()):
            aliases = {"last": ["latest"], "best": ["best"]}.get(stem, [])
            if not aliases and self.checkpoints != "all":
                continue
            artifact = artifact_of(self.experiment.id, path, scores.get(stem))
            self.experiment.log_artifact(artifact, aliases=aliases or [stem])

    def _scores(self) -> dict[str, dict[str, float]]:
        """Return the images seen and the scores of the last and the best checkpoint, from `scores.json`."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            told = json.loads((self.folder / "scores.json").read_text())
            return {
                stem: {"images": of["images"], **{name: score["value"] for name, score in of["scores"].items()}}
                for stem, of in told.items()
                if stem in ("last", "best") and of
            }
        return {}

    def _log(self, values: Mapping[str, Any], images: int) -> None:
        """Log values at `images` images, which are W&B's step too unless the run has gone back."""
        self.experiment.log({**values, "images": images}, step=max(images, self.experiment.step))

    def _recall(self) -> None:
        """Begin with the summary of the earlier starts: `wandb sync` would replace it by that of the last one."""
        with suppress(OSError, ValueError):
            before = json.loads((self.folder / SUMMARY).read_text())
            self._last = {name: value for name, value in before.items() if name[:1] != "_"}
            self._before = dict(self._last)
            self.experiment.summary.update(self._last)

    def _keep_extremes(self) -> None:
        """Put the best value of the earlier starts beside the last one: W&B takes the minimum of one start on disk."""
        for name, before in self._before.items():
            now = _plain(self.experiment.summary.get(name))
            for better in (min, max):
                key = better.__name__
                if isinstance(before, dict) and isinstance(now, dict) and {key} <= before.keys() & now.keys():
                    self.experiment.summary.update({name: {**now, key: better(before[key], now[key])}})

    def _define(self, name: str, summary: str) -> None:
        """Say what the summary holds of a number, once."""
        if name not in self._defined:
            self._defined.add(name)
            self.experiment.define_metric(name, step_metric="images", summary=summary)


@contextmanager
def reopened(folder: Path) -> Iterator[WandbRun | None]:
    """Open the W&B run that a training in `folder` was logged to, to add to it; give None if there is no such run."""
    told = logged_as(folder)
    if told is None:
        yield None
        return
    del told["id"]  # which the logger reads itself
    try:
        logger = WandbRun(str(folder), **{"name": name_of(folder), **told}, checkpoints="none")
        logger.open()
    except ConfigError as error:  # what was measured is on disk all the same
        log.warning("not logged to W&B: %s", error)
        yield None
        return
    try:
        yield logger
    finally:
        logger.finish()


def artifact_of(run_id: str, checkpoint: Path, scores: Mapping[str, Any] | None = None) -> wandb.Artifact:
    """Return the artifact of a checkpoint. W&B knows a version by its content: the same file is the same version."""
    artifact = wandb.Artifact(f"checkpoint-{files.clean_name(run_id)}", "model", metadata=dict(scores or {}))
    artifact.add_file(str(checkpoint), policy="immutable")  # replaced by renaming, never written to: no copy is needed
    return artifact


def name_of(folder: Path) -> str:
    """Return the name of the run that was started in a folder, if none was typed."""
    return names.spoken(_words(folder)) or _default_name(folder)


def _default_name(folder: Path) -> str:
    return "/".join(folder.resolve().parts[-2:])


def line_of(error: Exception) -> str:
    """Return the message of an error as one line."""
    return " ".join(str(error).split())


def _plain(value: Any) -> Any:
    """Return a part of W&B's summary as JSON can hold it."""
    return dict(value) if hasattr(value, "keys") else str(value)


def _words(folder: Path) -> list[str]:
    """Return the words that the run in a folder was started with."""
    with suppress(OSError, ValueError, TypeError, YAMLError):
        return [str(word) for word in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
    return []


def _lighten() -> None:
    """Keep W&B from importing what no run needs: together three seconds of CPU time in each.

    It would import pandas, where that is installed, to ask of each picture whether it is a table; without pandas it
    asks by the name of the type. It would also import its launcher, to ask for settings that nobody has given it.
    """
    if "pandas" not in sys.modules:
        wandb.util.pd_available = False
    if hasattr(wandb.Run, ASK) and "wandb.sdk.launch" not in sys.modules:
        setattr(wandb.Run, ASK, lambda _: None)


def _others(init: Mapping[str, Any]) -> dict[str, Any]:
    """Return further arguments of `wandb.init`; raise ConfigError for what it does not have or what has its own key."""
    known = {*inspect.signature(wandb.init).parameters} - {"config", "dir", "id", "resume", "reinit", "anonymous"}
    own = {*inspect.signature(WandbRun).parameters} - {"init", "folder"}
    for key in init:
        if key in own:
            raise ConfigError(f"logger.wandb.init.{key}: it has its own key, type logger.wandb.{key}=...")
        if key not in known:
            takes = ", ".join(sorted(known - own))
            raise ConfigError(f"logger.wandb.init.{key}: type one of {takes}; the others are set by the run")
    return dict(init)


def require_key(mode: str) -> None:
    """Raise ConfigError if no account's key is known, as W&B would ask for one on the terminal, again and again."""
    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:  # of a key that cannot be one
        raise ConfigError(f"logger.wandb.mode={mode}: {line_of(error)}; {OFFLINE}") from error
    if not known:
        raise ConfigError(
            f"logger.wandb.mode={mode} needs the key of a W&B account: type wandb login once, or set WANDB_API_KEY, or "
            f"{OFFLINE}"
        )
