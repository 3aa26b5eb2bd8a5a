"""The classic failures of adversarial training, recognised while they happen.

Each sign is a function of the numbers that the run records or of a few samples, and has its threshold beside it, with
the measurements on the digits from which it comes (benchmarks/README.md has them all).
"""

from __future__ import annotations

import copy
import logging
import math
import os
import shutil
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import lightning as L
import torch
from pydantic import Field
from torch import Tensor

from gan_experiments import files
from gan_experiments.bounds import Count, OneOf, PartOf, Whole
from gan_experiments.callbacks.callback import RunCallback, find
from gan_experiments.callbacks.checkpoints import Checkpoints
from gan_experiments.callbacks.record import Record, log_metrics
from gan_experiments.contracts import ConfigError, NotFinite, TrainingFailure
from gan_experiments.data.module import DataModule
from gan_experiments.engine.module import AdversarialModule

log = logging.getLogger(__name__)

SATURATED = 0.01
"""Of a discriminator's loss at chance; the losses are means over `log_every` batches."""
VANISHED = 0.02
"""Of the generator's usual gradient norm."""
EXPLODED = 30.0
"""Times an optimizer's gradient norm at the start: an explosion is often slow, and a median would grow with it."""
COLLAPSED = 0.5
"""Share of samples that have a twin. Healthy 0, of a collapsed generator 0.9 and more, of an untrained one 1."""
TWIN = 0.25
"""Two samples are twins that lie this much nearer than a real image and the next one usually do."""

USUAL_LOG_EVERY = 50
"""Batches to a look. Where they are fewer, more looks are needed: a dip over 15 batches is no failure."""
REMEMBERED = 100
"""Looks whose median is the usual gradient norm; or the first one, if that is more."""


# -------------------------------------------------------------------- the signs: what was seen, None where all is well


def discriminator_saturated(numbers: Mapping[str, float], chance: float) -> str | None:
    """A discriminator that is right about everything teaches nothing: its loss is a small part of that at chance."""
    for name, loss in _discriminator_losses(numbers):
        if 0 <= loss < SATURATED * chance:
            return f"the discriminator is saturated: {name} is {loss:.2g}, and {chance:.2g} at chance"
    return None


def gradient_vanished(norms: Mapping[str, float], usual: Mapping[str, float]) -> str | None:
    """The generator learns nothing: its gradient is a small part of what it used to be."""
    for name, norm in norms.items():
        if "generator" in name and norm < VANISHED * usual.get(name, 0.0):
            return f"the gradient of the {name} has vanished: its norm is {norm:.2g}, and was {usual[name]:.2g}"
    return None


def gradient_exploded(norms: Mapping[str, float], start: Mapping[str, float]) -> str | None:
    """A player is thrown about: its gradient is many times what it was at the start."""
    for name, norm in norms.items():
        if norm > EXPLODED * start.get(name, math.inf):
            return (
                f"the gradient of the {name} explodes: its norm is {norm:.2g}, and was {start[name]:.2g} at the start"
            )
    return None


def modes_collapsed(twins: float) -> str | None:
    """The generator makes few different images: most samples have a twin."""
    return f"the samples have collapsed: {twins:.0%} of them have a twin" if twins > COLLAPSED else None


def share_of_twins(samples: Tensor, real: Tensor) -> float:
    """The share of samples [n, d] that have a twin among them, by the distances within the real ones [m, d].

    Both are the small vectors of their kind, see `Kind.vectors`. Finds a generator that makes one image, and one that
    makes a dozen, whose samples are on average as far apart as they should be.
    """
    usual = _nearest(real).median()
    return (_nearest(samples) < TWIN * usual).float().mean().item()


def _nearest(vectors: Tensor) -> Tensor:
    """The distance of each vector [n, d] to the next one, [n]."""
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).min(dim=1).values


def _discriminator_losses(numbers: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for name, loss in numbers.items():
        phase, _, term = name.partition("/")
        if "discriminator" in phase and term.startswith("adversarial"):
            yield name, loss


def _gradients(numbers: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    for name, norm in numbers.items():
        kind, _, optimizer = name.partition("/")
        if kind == "gradient_norm":
            yield optimizer, norm


# -------------------------------------------------------------------- what usually helps


def advice(sign: str, module: AdversarialModule, outwitted: bool = False) -> str:
    """What usually helps against a sign, as words to type; `outwitted` where the discriminator believes the fakes."""
    model = module.run.config.get("model", {})
    loss = str(module.run.config.get("loss", {}).get("_target_", ""))
    calmer = _slower(module, "discriminator") + _slower(module, "generator")
    augment = ["augment=diffaugment"] if "augment" in model and not model["augment"] else []
    clip = ["model.clip_grad_norm=1"] if model.get("clip_grad_norm", 1) is None else []
    others = ["loss=non_saturating"] if loss.endswith("Minimax") else []
    words = {
        "saturated": [*_slower(module, "discriminator"), *augment],
        "vanished": [*others, *_slower(module, "generator" if outwitted else "discriminator")],
        "collapsed": [*others, *_slower(module, "generator"), *augment],
        "exploded": [*clip, *calmer],
        "not_finite": [*clip, *calmer],
    }[sign]
    return f"what usually helps: {' or '.join(words)}"


def _slower(module: AdversarialModule, player: str) -> list[str]:
    """Half the learning rate of a player's optimizers."""
    optimizers = module.run.config.get("model", {}).get("optimizers", {})
    return [
        f"model.optimizers.{name}.lr={node['lr'] * module.rate_factor / 2:g}"
        for name, node in optimizers.items()
        if player in name and "lr" in node
    ]


class Unwell(TrainingFailure):
    """A sign of failure that the config does not let pass."""


class Health(RunCallback):
    """Says in one line what fails and what usually helps; by `action` also stops there, or goes back and tries again.

    A sign counts once `patience` looks in a row have shown it, and is gone once as many have not: the recorded numbers
    are looked at whenever `Record` has new ones, the samples every `every` images. `health/<sign>` is logged as 0 or 1.
    Must come after `Record` and before `Checkpoints`, which then writes nothing of a run that is stopped.

    `checkpoints/good.ckpt` is the last checkpoint that was written, and followed by `patience` looks, without a trace
    of any sign. Going back means: from there, with all learning rates times `back_rate`, and other draws.

    Args:
        action: "warn", "stop" (TrainingFailure) or "back".
        every: images from one look at the samples to the next; 0 for none.
        patience: looks in a row.
        n: samples looked at.
        warm_up: images by which samples should differ; before, they only count where they have already done so.
        back_rate: factor of the learning rates each time that the run goes back, 1 for none.
        back_seed: whether it goes back to other draws.
        tries: how often it goes back before it stops.
    """

    SIGNS = ("saturated", "vanished", "exploded", "collapsed")

    def __init__(
        self,
        action: Annotated[str, OneOf("warn", "stop", "back")] = "warn",
        every: Whole = 5_000,
        patience: Count = 3,
        n: Annotated[int, Field(ge=2, le=4096)] = 64,
        warm_up: Whole = 50_000,
        back_rate: PartOf = 0.5,
        back_seed: bool = True,
        tries: Whole = 3,
    ) -> None:
        if action not in ("warn", "stop", "back"):
            raise ConfigError(f"callbacks.health.action={action}: type warn, stop or back")
        if not 0 < back_rate <= 1:
            raise ConfigError(f"callbacks.health.back_rate={back_rate}: a factor above 0, and 1 at most, is needed")
        if patience < 1 or n < 2:
            raise ConfigError(f"callbacks.health: patience={patience} must be 1 or more and n={n} 2 or more")
        self.action, self.every, self.patience, self.n, self.warm_up = action, every, patience, n, warm_up
        self.back_rate, self.back_seed, self.tries = back_rate, back_seed, tries
        self.on = dict.fromkeys(self.SIGNS, False)
        self.count = dict.fromkeys(self.SIGNS, 0)  # looks in a row that speak against `on`
        self.norms: dict[str, list[float]] = {}
        self.stage = 0  # of the module, in which they were seen
        self.diverse = False  # the samples once differed
        self.candidate = -1  # images seen at a checkpoint that may prove good
        self.quiet = dict.fromkeys(self.SIGNS, 0)  # looks since
        self.gone_back = 0
        self._inputs: dict[str, Tensor] = {}
        self._real = torch.empty(0)
        self._chance = 0.0
        self._looks = patience

    def looks_needed(self, log_every: int) -> int:
        """How many looks in a row at the recorded numbers, each over `log_every` batches, count as a failure."""
        return max(self.patience, math.ceil(self.patience * USUAL_LOG_EVERY / log_every))

    # ---------------------------------------------------------------- looking

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Choose what the samples are made from and compared with."""
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        labels = None if module.conditions.even else module.conditions(self.n, module.run.seed)
        fixed = data.fixed(self.n) if labels is None else data.of_classes(labels)
        real = [rows for key, rows in sorted(fixed.items()) if key.startswith(("real", "target", "high"))]
        distinct = min(len(rows.unique(dim=0)) for rows in real)  # of few images some come twice
        n = min(self.n, distinct * len(real))
        self._real = module.kind.vectors(torch.cat([rows[: n // len(real)] for rows in real]))
        self._inputs = module.sheet_inputs(fixed, n) | ({} if labels is None else {"label": labels[:n]})
        self._chance = loss_at_chance(module)
        self._looks = self.looks_needed(module.run.log_every)
        if self.action == "back" and module.images_seen == 0:
            self._checkpoints(trainer).save(trainer, module, self._good(trainer))

    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Lay a checkpoint aside that has just been written and may prove good."""
        if self.candidate == module.images_seen and trainer.is_global_zero:
            _link(self._checkpoints(trainer).last, self._aside(trainer))

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Look at what is new."""
        record = find(trainer, Record)
        numbers = record.fresh if record else {}
        if numbers:
            self._look(trainer, module, self._read(numbers, module.stage), self._outwitted(numbers))
        if module.passed(self.every):
            with module.paused():
                twins = self._twins(trainer, module)
            seen = modes_collapsed(twins) if self.diverse or module.images_seen >= self.warm_up else None
            self.diverse = self.diverse or twins <= COLLAPSED / 2
            self._look(trainer, module, {"collapsed": seen})
            state = {f"health/{sign}": float(on) for sign, on in self.on.items()}
            log_metrics(trainer, {"health/twins": twins, **state}, module.images_seen)
        checkpoints = self._checkpoints(trainer)
        if checkpoints and self.candidate < 0 and self._well() and module.passed(checkpoints.every):
            self.candidate, self.quiet = module.images_seen, dict.fromkeys(self.SIGNS, 0)

    def on_train_end(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Tidy up after a run that is complete; one that was asked to stop goes on with what was laid aside."""
        if trainer.is_global_zero and module.at_end() and self._checkpoints(trainer):
            self._aside(trainer).unlink(missing_ok=True)

    def on_exception(self, trainer: L.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        """Add what usually helps to what the engine says of a number that is not finite."""
        if isinstance(exception, NotFinite):
            exception.args = (f"{exception}; {advice('not_finite', module)}",)
            self._say(trainer, str(exception))
            log_metrics(trainer, {"health/not_finite": 1.0}, module.images_seen)

    def _read(self, numbers: Mapping[str, float], stage: int) -> dict[str, str | None]:
        """What the recorded numbers show, for each sign of which they tell."""
        if stage != self.stage:
            self.stage, self.norms = stage, {}
        usual = {name: max(past[0], statistics.median(past)) for name, past in self.norms.items()}
        norms = {name: norm for name, norm in _gradients(numbers) if math.isfinite(norm)}  # fp16 skips an overflow
        seen: dict[str, str | None] = {}
        if self._chance:
            seen["saturated"] = discriminator_saturated(numbers, self._chance)
        if norms:
            seen["exploded"] = gradient_exploded(norms, {name: past[0] for name, past in self.norms.items()})
        if any("generator" in name for name in norms):
            seen["vanished"] = gradient_vanished(norms, usual)
        if not (seen.get("vanished") or seen.get("exploded")):  # what is wrong does not become usual
            for name, norm in norms.items():
                past = self.norms.setdefault(name, [norm])
                past.append(norm)
                del past[1:-REMEMBERED]
        return seen

    def _outwitted(self, numbers: Mapping[str, float]) -> bool:
        return bool(self._chance) and any(loss > self._chance for _, loss in _discriminator_losses(numbers))

    def _twins(self, trainer: L.Trainer, module: AdversarialModule) -> float:
        """The share of twins among what the generator in training makes; the same number on every rank."""
        twins = 0.0
        if trainer.is_global_zero:
            with torch.random.fork_rng(devices=[]):
                cells = module.sheet(self._inputs, ema=False)
            samples = module.kind.vectors(cells[:, min(1, cells.shape[1] - 1)].cpu())
            twins = share_of_twins(samples, self._real)
        return trainer.strategy.broadcast(twins)

    # ---------------------------------------------------------------- judging and acting

    def _look(
        self, trainer: L.Trainer, module: AdversarialModule, seen: Mapping[str, str | None], outwitted: bool = False
    ) -> None:
        lines = []
        for sign, what in seen.items():
            if self._turns(sign, bool(what)):
                log_metrics(trainer, {f"health/{sign}": float(self.on[sign])}, module.images_seen)
                after = f"after {module.images_seen:,} images"
                if what:
                    lines.append(f"{what}, {after}; {advice(sign, module, outwitted)}")
                else:
                    self._say(trainer, f"no longer {sign} {after}")
        self._keep(trainer, seen)
        for line in lines:
            self._say(trainer, line)
        if lines and self.action != "warn":
            raise Unwell(lines[0])

    def _turns(self, sign: str, ill: bool) -> bool:
        """Count a look; whether it is the one by which the sign comes or goes."""
        self.count[sign] = self.count[sign] + 1 if ill != self.on[sign] else 0
        if self.count[sign] < (self.patience if sign == "collapsed" else self._looks):
            return False
        self.on[sign], self.count[sign] = ill, 0
        return True

    def _well(self) -> bool:
        return not any(self.on.values()) and not any(self.count.values())

    def _keep(self, trainer: L.Trainer, seen: Mapping[str, str | None]) -> None:
        """Count the looks since a checkpoint was laid aside; it is good after enough of them, or given up."""
        if self.candidate < 0:
            return
        self.quiet = {sign: looks + (sign in seen) for sign, looks in self.quiet.items()}
        aside = self._aside(trainer)
        if not self._well():
            self.candidate = -1
            if trainer.is_global_zero:
                aside.unlink(missing_ok=True)
        elif all(looks >= self.patience for sign, looks in self.quiet.items() if self._looks_for(sign)):
            self.candidate = -1
            if trainer.is_global_zero and aside.exists():
                os.replace(aside, self._good(trainer))
                aside.unlink(missing_ok=True)  # still there where both are names of one file

    def _looks_for(self, sign: str) -> bool:
        return bool({"saturated": self._chance, "collapsed": self.every}.get(sign, True))

    def _say(self, trainer: L.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            log.warning("health: %s", line)

    def way_back(self, trainer: L.Trainer, module: AdversarialModule, failure: TrainingFailure) -> Path | None:
        """The checkpoint to go back to after a failure, with what the module is to do otherwise; None to stop."""
        if self.action != "back" or self.gone_back >= self.tries or not isinstance(failure, (NotFinite, Unwell)):
            return None
        good = self._good(trainer)
        if not good.exists():
            return None
        self.gone_back += 1
        module.rate_factor *= self.back_rate
        module.reseeded += self.back_seed
        if trainer.is_global_zero:
            _link(good, self._checkpoints(trainer).last)
        seed = f", draws of another seed ({module.reseeded})" if self.back_seed else ""
        rates = f"learning rates times {module.rate_factor:g}"
        self._say(trainer, f"back to {good.name}, try {self.gone_back} of {self.tries}: {rates}{seed}")
        return good

    # ---------------------------------------------------------------- state and files

    def state_dict(self) -> dict[str, Any]:
        """All that the next looks depend on."""
        names = ("on", "count", "norms", "stage", "diverse", "candidate", "quiet", "gone_back")
        return copy.deepcopy({name: getattr(self, name) for name in names})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up; a run that goes back still knows how often it has."""
        gone_back = max(self.gone_back, state["gone_back"])
        vars(self).update(copy.deepcopy(state), gone_back=gone_back)

    @staticmethod
    def _checkpoints(trainer: L.Trainer) -> Any:
        return find(trainer, Checkpoints)

    def _good(self, trainer: L.Trainer) -> Path:
        return self._checkpoints(trainer).folder / "good.ckpt"

    def _aside(self, trainer: L.Trainer) -> Path:
        return self._good(trainer).with_suffix(".candidate")


def loss_at_chance(module: AdversarialModule) -> float:
    """The discriminator's loss while it says 0 to everything; 0 where a loss is not bounded below."""
    loss = getattr(module, "loss", None)
    if loss is None or loss.needs_lipschitz:
        return 0.0
    logits = torch.zeros(2, device=module.device)  # where the ranks' means are taken
    return float(loss.discriminator(logits, logits))


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, whatever had it before; a copy where the disk knows no links."""
    if not source.exists() or (target.exists() and os.path.samefile(source, target)):
        return
    with files.whole(target) as unfinished:
        unfinished.unlink()
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
