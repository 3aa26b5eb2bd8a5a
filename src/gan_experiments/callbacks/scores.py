"""Scores of the generator while it trains, with their passports."""

from __future__ import annotations

import copy
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from gan_experiments import distributed, files
from gan_experiments.bounds import Place, Scored, Whole
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.callbacks.record import log_best, log_metrics, log_passports
from gan_experiments.data.module import DataModule
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.metrics.evaluator import Evaluator, Judge
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.metrics.passports import unlike
from gan_experiments.metrics.request import Request
from gan_experiments.models.image_to_image import ImageToImage
from gan_experiments.models.latents import Sampler

log = logging.getLogger(__name__)


class Scores(RunCallback):
    """The scores of a run: before the first image, every `every` images and after the last.

    The first score listed decides which is best. `scores.json` holds under "history" the values at each number of
    images seen, and under "last" and "best" the scores with the passports that say how they were measured. If a run is
    resumed with other metrics, the best and the history start from scratch, because unlike scores are not compared;
    what was measured before is kept under "earlier".

    Args:
        folder: the run folder.
        evaluator: computes the scores; empty (`metrics=none`) for no scores.
        every: images from one evaluation to the next; 0 for the end alone.
        at_start: score the untrained generator too.
        ema: score the averaged generator, if there is one.
        n: the largest number of samples to score, and of real ones to score them against; None for the evaluator's.
    """

    def __init__(
        self,
        folder: Place,
        evaluator: Judge | None,
        every: Whole,
        at_start: bool = True,
        ema: bool = True,
        n: Scored | None = None,
    ) -> None:
        self.path = Path(folder) / "scores.json"
        self.evaluator = copy.copy(evaluator) if evaluator else None
        for name in ("num_fake", "num_real"):
            if n is not None and hasattr(self.evaluator, name):
                setattr(self.evaluator, name, min(n, getattr(self.evaluator, name) or n))
        self.every, self.at_start, self.ema = every, at_start, ema
        self.history: list[dict[str, float]] = []
        self.last: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        self.earlier: list[dict[str, Any]] = []
        self.memorisation: dict[str, Any] = {}  # what the callback of that name found at the end of the run

    @property
    def best_at(self) -> int:
        """The images seen when the best score was measured; -1 before any."""
        return int(self.best.get("images", -1))

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Score the untrained generator."""
        if self.at_start and module.images_seen == 0:
            self._score(trainer, module)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Score if it is due."""
        if module.passed(self.every) or module.at_end():
            self._score(trainer, module)

    def _score(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        if self.evaluator is None:
            return
        with module.paused():
            ema = self.ema and bool(module.averages)
            judge, sample, real, extra = self._asked(trainer.datamodule, module, ema)  # type: ignore[attr-defined]
            request = Request(module.device, ema, distributed.rank(), distributed.world_size(), extra)
            scores = judge.measure(sample, real, request).scores
            values = {name: score.value for name, score in scores.items()}
            told = {name: score.to_dict() for name, score in scores.items()}
            images = module.images_seen
            self._set_aside_unlike(told)
            self.history = [row for row in self.history if row["images"] < images] + [{"images": images, **values}]
            self.last = {"images": images, "scores": told}
            first, value = next(iter(values.items()))
            old = self.best["scores"][first]["value"] if self.best else None
            # The untrained generator is measured, but never counts as best; nor do images that are not finite.
            if (
                images
                and not math.isnan(value)
                and (old is None or (value > old if higher_is_better(first) else value < old))
            ):
                self.best = self.last
            if trainer.is_global_zero:
                self.write()
                log_passports(trainer, {name: score["passport"] for name, score in told.items()})
            log_metrics(trainer, values, images)
            if trainer.is_global_zero and self.best:
                best = {name: score["value"] for name, score in self.best["scores"].items()}
                log_best(trainer, best, self.best_at)

    def _asked(self, data: DataModule, module: AdversarialModule, ema: bool) -> tuple[Judge, Any, Any, dict[str, Any]]:
        """Return the evaluator, the generated samples, the real ones, and further entries of the passports."""
        judge, seed = self.evaluator, module.run.seed
        assert judge is not None, "there is one"
        if not (isinstance(module, ImageToImage) and isinstance(judge, Evaluator)):
            sampler, real = module.sampler(seed, ema), judge.real(data)  # type: ignore[operator]
            if isinstance(sampler, Sampler):
                sampler = replace(sampler, law=getattr(judge, "labels", "data")).against(data, real.split)
            return judge, sampler, real, getattr(sampler, "passport", {})
        judge.see_as(data.kind)
        sample, real = module.translated(data, seed, ema, judge.split, judge.batch_size, judge.num_fake)
        return judge.limited(sample.number), sample, real, sample.facts

    def _set_aside_unlike(self, scores: dict[str, dict[str, Any]]) -> None:
        """Start from scratch if `scores` cannot be compared with those so far, which move to `earlier`."""
        before = self.last.get("scores")
        if not before:
            return
        both = [name for name in scores if name in before]
        pairs = [(before[name]["passport"], scores[name]["passport"]) for name in both]
        fields = dict.fromkeys(f for pair in pairs for f in unlike(*pair))
        # Passports from before labels were drawn in the data's proportions have no entry for labels.
        if any(old.get("labels") != new.get("labels") for old, new in pairs):
            fields["labels"] = None
        first = next(iter(scores))
        if fields or first not in both:
            why = f"another {', '.join(fields)}" if fields else f"without {first}"
            log.warning("the scores before were measured otherwise (%s): the best begins anew", why)
            self.earlier.append({"last": self.last, "best": self.best, "history": self.history})
            self.last, self.best, self.history = {}, {}, []

    def write(self) -> None:
        """Write `scores.json`."""
        found = {"memorisation": self.memorisation} if self.memorisation else {}
        files.write_text(self.path, json.dumps(self.state_dict() | found, indent=1))

    def state_dict(self) -> dict[str, Any]:
        """Return what `scores.json` holds of the scores."""
        told = {"last": self.last, "best": self.best, "history": self.history}
        return told | ({"earlier": self.earlier} if self.earlier else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the history of the run that is resumed."""
        self.last, self.best, self.history = state["last"], state["best"], state["history"]
        self.earlier = state.get("earlier", [])
