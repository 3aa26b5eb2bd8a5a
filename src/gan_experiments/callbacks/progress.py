"""The progress of a run on the terminal: images seen, images per second, losses, scores."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

import lightning as L
from tqdm import tqdm

from gan_experiments.bounds import Positive
from gan_experiments.callbacks.callback import RunCallback, find
from gan_experiments.callbacks.record import Record
from gan_experiments.callbacks.scores import Scores
from gan_experiments.engine.module import AdversarialModule

log = logging.getLogger(__name__)

WIDTH = 80  # columns of a terminal
SHORT = {"generator": "G", "discriminator": "D"}


class Progress(RunCallback):
    """A bar that counts images on a terminal, elsewhere a line of text now and then; scores as the rows of a table.

    Args:
        seconds: from one line to the next, if there is no terminal.
    """

    def __init__(self, seconds: Positive = 20.0) -> None:
        self.seconds = seconds
        self._bar: tqdm | None = None
        self._next = 0.0
        self._columns: list[str] = []
        self._told = -1
        self._goal = 0

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Open the bar at the images already seen; print the scores of the untrained generator."""
        self._next = time.monotonic() + self.seconds
        self._told = module.images_seen if module.batches else -1  # a run that goes on has told these
        batch: int = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        self._goal = -(-module.run.images // batch) * batch  # all batches are whole
        if trainer.is_global_zero and sys.stderr.isatty():
            columns, rows = shutil.get_terminal_size((WIDTH, 24))  # of one that does not tell, these
            self._bar = tqdm(
                total=self._goal,
                initial=module.images_seen,
                unit="img",
                unit_scale=True,
                bar_format="{percentage:3.0f}% |{bar:12}| {n_fmt}/{total_fmt}, {remaining} left, {rate_fmt}{postfix}",
                ncols=min(WIDTH, columns),
                nrows=rows,
                smoothing=0.05,
            )
        if trainer.is_global_zero:
            self._tell_scores(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Move the bar; update the numbers beside it when there are new ones."""
        if not trainer.is_global_zero:
            return
        self._tell_scores(trainer, module)
        if self._bar is not None:
            self._bar.update(module.images_seen - self._bar.n)
            if module.batches % module.run.log_every == 0:
                self._bar.set_postfix_str(self._numbers(trainer), refresh=False)
        elif time.monotonic() >= self._next or module.at_end():
            self._next = time.monotonic() + self.seconds
            log.info("%*s / %s images  %s", 9, f"{module.images_seen:,}", f"{self._goal:,}", self._numbers(trainer))

    def on_train_end(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Leave the finished bar on the screen."""
        self._close()

    def on_exception(self, trainer: L.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        """Leave the bar as it is."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _numbers(self, trainer: L.Trainer) -> str:
        """Return images/s, and the loss of each phase (the sum of its terms; metrics.csv has them separately)."""
        record = find(trainer, Record)
        if record is None:
            return ""
        losses: dict[str, float] = {}
        for name, value in record.latest.items():
            phase, _, term = name.partition("/")
            if term and phase in record.phases:
                losses[phase] = losses.get(phase, 0.0) + value
        if self._bar is not None:  # it shows the rate itself
            return " ".join(f"{SHORT.get(phase, phase)} {loss:.3g}" for phase, loss in losses.items())
        rate = [f"{record.latest['images_per_second']:,.0f} images/s"] if "images_per_second" in record.latest else []
        return "  ".join([*rate, *(f"{phase} {loss:.3g}" for phase, loss in losses.items())])

    def _tell_scores(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Print a row of the scores once they have been measured, below their names if these are new."""
        scores = find(trainer, Scores)
        row = scores.history[-1] if scores and scores.history else {}
        if row.get("images") != module.images_seen or self._told == module.images_seen:
            return
        self._told = module.images_seen
        names = columns([name for name in row if name != "images"])
        if names != self._columns:
            self._columns = names
            self._print(f"{'images':>10}" + "".join(f"{name:>{len(name) + 2}}" for name in names))
        values = "".join(f"{row[name]:>{len(name) + 2}.4g}" for name in names)
        self._print(f"{module.images_seen:>10,}{values}")

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            log.info("%s", line)


def columns(names: Sequence[str]) -> list[str]:
    """Return as many of the scores' names, from the first on, as fit beside the images in a line."""
    kept: list[str] = []
    for name in names:
        if 10 + sum(len(other) + 2 for other in (*kept, name)) <= WIDTH:
            kept.append(name)
    return kept
