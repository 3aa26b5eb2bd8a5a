"""The run as one HTML page, written when its training ends."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning as L

from gan_experiments.bounds import Place
from gan_experiments.callbacks.callback import RunCallback, find
from gan_experiments.callbacks.early_stopping import EarlyStopping
from gan_experiments.comparison import report
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.runs import run_folder

log = logging.getLogger(__name__)


class Report(RunCallback):
    """The page `report.html`, written from the files of the run folder after the last batch, or after a failure.

    A run that is resumed writes it again. Must come after the callbacks that write what it shows. A page that cannot be
    written is a warning, because the training is done by then.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Place) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Write the page of a run that is complete, or was asked to stop."""
        early = find(trainer, EarlyStopping)
        why = early.why if early else ""
        status = "finished" if module.at_end() or why else "stopped"
        self._write(trainer, run_folder.Outcome(status, module.images_seen, why))

    def on_exception(self, trainer: L.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        """Write the page of a run that failed, with the reason."""
        if isinstance(exception, Exception):
            known = run_folder.mistake(exception) or repr(exception)
            self._write(trainer, run_folder.Outcome("failed", module.images_seen, " ".join(str(known).split())))

    def _write(self, trainer: L.Trainer, outcome: run_folder.Outcome) -> None:
        if not trainer.is_global_zero:
            return
        try:
            report.write(self.folder, outcome)
        except Exception as error:
            log.warning("report.html cannot be written (%s)", " ".join(f"{type(error).__name__}: {error}".split()))
