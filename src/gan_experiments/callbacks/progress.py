"""What a person watches: images seen, images per second, losses, scores."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import lightning as L
from tqdm import tqdm

from gan_experiments.bounds import Positive
from gan_experiments.callbacks.callback import RunCallback, find
from gan_experiments.callbacks.record import Record
from gan_experiments.callbacks.scores import Scores
from gan_experiments.engine.module import AdversarialModule

log = logging.getLogger(__name__)


class Progress(RunCallback):
    """A bar that counts images on a terminal; elsewhere a line of text now and then.

    Args:
        seconds: from one line to the next where there is no terminal.
    """

    def __init__(self, seconds: Positive = 20.0) -> None:
        self.seconds = seconds
        self._bar: tqdm | None = None
        self._next = 0.0
        self._began = (0.0, 0)

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Open the bar where the run stands."""
        self._next = time.monotonic() + self.seconds
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(
                total=module.run.images,
                initial=module.images_seen,
                unit="img",
                unit_scale=True,
                bar_format="{percentage:3.0f}% |{bar:12}| {n_fmt}/{total_fmt}, {remaining} left, {rate_fmt}{postfix}",
                dynamic_ncols=True,
                smoothing=0.05,
            )

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Move the bar; renew the numbers beside it when there are new ones."""
        if not trainer.is_global_zero:
            return
        if self._bar is not None:
            self._bar.update(module.images_seen - self._bar.n)
            if module.batches % module.run.log_every == 0:
                self._bar.set_postfix_str(self._numbers(trainer), refresh=False)
        elif time.monotonic() >= self._next or module.at_end():
            self._next = time.monotonic() + self.seconds
            log.info(
                "%*s / %s images  %s", 9, f"{module.images_seen:,}", f"{module.run.images:,}", self._numbers(trainer)
            )

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
        """Images/s, the loss of each phase (the sum of its terms; metrics.csv has them apart) and the last scores."""
        parts: list[str] = []
        if record := find(trainer, Record):
            if "images_per_second" in record.latest and self._bar is None:
                parts.append(f"{record.latest['images_per_second']:,.0f} images/s")
            losses: dict[str, float] = {}
            for name, value in record.latest.items():
                phase, _, term = name.partition("/")
                if term and phase in record.phases:
                    losses[phase] = losses.get(phase, 0.0) + value
            parts += [f"{phase} {loss:.3g}" for phase, loss in losses.items()]
        scores = find(trainer, Scores)
        if scores and scores.history:
            parts += [f"{name} {value:.3g}" for name, value in scores.history[-1].items() if name != "images"]
        return "  ".join(parts)
