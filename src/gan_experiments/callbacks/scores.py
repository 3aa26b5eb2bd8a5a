"""Scores of the averaged generator while it trains, with their passports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import lightning as L

from gan_experiments import distributed
from gan_experiments.callbacks.record import log_metrics
from gan_experiments.engine import AdversarialModule
from gan_experiments.metrics.evaluator import Evaluator, higher_is_better


class Scores(L.Callback):
    """Scores every `every` images, before the first image and after the last; the first score listed decides the best.

    Writes `scores.json`: under "history" the values at each number of images seen, under "last" and "best" the scores
    with the passport that says how they were measured.

    Args:
        folder: the run folder.
        evaluator: computes the scores; nothing (`metrics=none`) for no scores.
        every: images from one evaluation to the next; 0 for the end alone.
        at_start: score the untrained generator too.
        ema: score the averaged generator, where there is one.
    """

    def __init__(
        self, folder: str, evaluator: Evaluator | None, every: int, at_start: bool = True, ema: bool = True
    ) -> None:
        self.path = Path(folder) / "scores.json"
        self.evaluator = evaluator or None
        self.every, self.at_start, self.ema = every, at_start, ema
        self.history: list[dict[str, float]] = []
        self.last: dict[str, Any] = {}
        self.best: dict[str, Any] = {}

    @property
    def best_at(self) -> int:
        """The images seen when the best score was measured; -1 before any."""
        return int(self.best.get("images", -1))

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:  # type: ignore[override]
        """Score the untrained generator."""
        if self.at_start and module.images_seen == 0:
            self._score(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:  # type: ignore[override]
        """Score where it is due."""
        if module.passed(self.every) or module.at_end():
            self._score(trainer, module)

    def _score(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        if self.evaluator is None:
            return
        with module.paused():
            ema = self.ema and "generator" in module.averages
            scores = self.evaluator.evaluate(
                module.sampler(module.run.seed, ema),  # type: ignore[operator]
                trainer.datamodule.reference(self.evaluator.split),  # type: ignore[attr-defined]
                module.device,
                rank=distributed.rank(),
                world_size=distributed.world_size(),
                ema=ema,
            )
            values = {name: score.value for name, score in scores.items()}
            images = module.images_seen
            self.history = [row for row in self.history if row["images"] < images] + [{"images": images, **values}]
            self.last = {"images": images, "scores": {name: score.to_dict() for name, score in scores.items()}}
            first, value = next(iter(values.items()))
            old = self.best["scores"][first]["value"] if self.best else None
            # The untrained generator is measured, but is nobody's best.
            if images and (old is None or (value > old if higher_is_better(first) else value < old)):
                self.best = self.last
            if trainer.is_global_zero:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = self.path.with_suffix(".tmp")
                unfinished.write_text(json.dumps(self.state_dict(), indent=1))
                os.replace(unfinished, self.path)
            log_metrics(trainer, values, images)

    def state_dict(self) -> dict[str, Any]:
        """What `scores.json` holds."""
        return {"last": self.last, "best": self.best, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the history of the run that goes on."""
        self.last, self.best, self.history = state["last"], state["best"], state["history"]
