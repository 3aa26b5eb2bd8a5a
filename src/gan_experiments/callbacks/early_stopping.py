"""The end of a run whose score gets no better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning as L

from gan_experiments.bounds import NotNegative, Text, Whole
from gan_experiments.callbacks.callback import RunCallback, find
from gan_experiments.callbacks.scores import Scores
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.metrics.names import higher_is_better


class EarlyStopping(RunCallback):
    """A callback that ends the run when a score has not improved for `patience` images; the run is then finished.

    Must come after `Scores` and before `Checkpoints`. It reads the history of the scores, which a resumed run has too.

    Args:
        patience: images without an improvement; 0 for never.
        min_delta: the smallest change that counts as an improvement.
        score: the name of the score; None for the first one.
    """

    def __init__(self, patience: Whole = 0, min_delta: NotNegative = 0.0, score: Text | None = None) -> None:
        self.patience, self.min_delta, self.score = patience, min_delta, score
        self.why = ""  # the reason, once the run ends early

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Forget the end of an earlier training."""
        self.why = ""

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Tell Lightning to stop if a new score is no better; all ranks have the same scores."""
        scores = find(trainer, Scores)
        history = scores.history if scores else []
        new = module.images_seen > 0 and bool(history) and history[-1]["images"] == module.images_seen
        if not self.patience or not new or module.at_end():
            return
        name = self.name(history[-1])
        best = last_improvement(history, name, self.min_delta)
        if module.images_seen - best["images"] >= self.patience:
            self.why = f"{name} is no better than {best[name]:.4g} at {best['images']:,.0f} images"
            trainer.should_stop = True

    def name(self, row: dict[str, float]) -> str:
        """Return the reported name of the score in a row of the history: "fid_digits" for "fid"."""
        names = [name for name in row if name != "images"]
        own = [name for name in names if self.score in (None, name) or name.startswith(f"{self.score}_")]
        return (own or names)[0]


def last_improvement(history: Sequence[dict[str, float]], name: str, min_delta: float) -> dict[str, float]:
    """Return the row of the last score that was better than all before it by more than `min_delta`.

    The untrained generator counts as none; a score that is not a number is never better.
    """
    sign = -1 if higher_is_better(name) else 1
    rows = [row for row in history if row["images"] and name in row]
    best = rows[0]
    for row in rows[1:]:
        if sign * (best[name] - row[name]) > min_delta or (math.isnan(best[name]) and not math.isnan(row[name])):
            best = row
    return best
