"""The run's numbers, gathered every few batches and passed to every logger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.loggers import other_loggers
from gan_experiments.loggers.run_logger import RunLogger, run_loggers


def log_metrics(trainer: L.Trainer, metrics: dict[str, float], images: int) -> None:
    """Log scalars with every logger, at `images` images seen."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step=images)


def log_passports(trainer: L.Trainer, passports: dict[str, dict[str, Any]]) -> None:
    """Log the passports of the scores, by name, with every logger that keeps them."""
    for logger in run_loggers(trainer):
        logger.log_passports(passports)


def log_best(trainer: L.Trainer, scores: dict[str, float], images: int) -> None:
    """Log the scores of the best checkpoint with every logger that keeps them."""
    for logger in run_loggers(trainer):
        logger.log_best(scores, images)


def log_picture(trainer: L.Trainer, name: str, path: Path, images: int, caption: str = "") -> None:
    """Log an image file, a film or a sound with every logger that takes pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_picture(name, path, images, caption)
        else:
            other_loggers.log_picture(logger, name, path, images)


def alert(trainer: L.Trainer, title: str, text: str) -> None:
    """Warn whoever watches the run, through every logger that can."""
    for logger in run_loggers(trainer):
        logger.alert(title, text)


def log_histograms(trainer: L.Trainer, histograms: dict[str, Tensor], images: int) -> None:
    """Log distributions with every logger that takes them."""
    for logger in run_loggers(trainer):
        logger.log_histograms(histograms, images)


class Record(RunCallback):
    """The numbers of a run, logged every `log_every` batches.

    They are each term of each loss, D(real) and D(fake), gradient norms, learning rates, images per second, and those
    of the model, its augmentation and its techniques (see `AdversarialModule.numbers`). `latest` holds the last value
    of each, for the progress bar; `fresh` holds those of this batch, for `Health`. A loss that is not finite stops the
    run (see `flush`).
    """

    records = True
    """It passes the model's numbers to the loggers, so that the model does not."""

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        self.fresh: dict[str, float] = {}
        self.phases: set[str] = set()  # those whose terms are recorded
        self._since: tuple[float, int] = (0.0, 0)

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Start the clock; after a resume, forget what was recorded beyond the checkpoint."""
        self.phases = {phase.name for phase in module.phases()}
        for logger in run_loggers(trainer) if trainer.is_global_zero else ():
            logger.forget_after(module.images_seen if module.batches else -1)
        self._restart(module)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Record at each `log_every`-th batch and after the last one."""
        self.fresh = {}
        if module.batches % module.run.log_every and not module.at_end():
            return
        start, before = self._since
        seconds = time.perf_counter() - module.paused_seconds - start
        metrics = module.flush()
        metrics |= {f"learning_rate/{name}": rate for name, rate in module.learning_rates().items()}
        metrics |= module.numbers()
        metrics["images_per_second"] = (module.images_seen - before) / max(seconds, 1e-9)
        self.fresh = metrics
        self.latest.update(metrics)
        with module.paused():
            log_metrics(trainer, metrics, module.images_seen)
            log_histograms(trainer, module.histograms(), module.images_seen)
        self._restart(module)

    def _restart(self, module: AdversarialModule) -> None:
        self._since = (time.perf_counter() - module.paused_seconds, module.images_seen)
