"""The classic failures of adversarial training, recognised while they happen.

Each symptom is a function of the numbers that the run records, or of a few samples. The thresholds come from
measurements on the digits (benchmarks/README.md has them all).
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
from gan_experiments.callbacks.record import Record, alert, log_metrics
from gan_experiments.contracts import ConfigError, NotFinite, TrainingFailure
from gan_experiments.data.module import DataModule
from gan_experiments.engine.module import AdversarialModule

log = logging.getLogger(__name__)

SATURATED = 0.01
"""A discriminator is saturated if its loss, a mean over `log_every` batches, is below this share of that at chance."""
VANISHED = 0.02
"""A generator's gradient has vanished if its norm is below this share of the usual one."""
EXPLODED = 30.0
"""A gradient explodes if its norm is above this multiple of that at the start.

An explosion is often slow, and a median would grow with it.
"""
COLLAPSED = 0.5
"""Samples have collapsed if more than this share has a twin: 0 is healthy, a collapsed generator has 0.9 and more.

An untrained generator has 1.
"""
TWIN = 0.25
"""Two samples are twins if their distance is below this share of the usual one between nearest real images."""

USUAL_LOG_EVERY = 50
"""Batches of one check. With fewer, more checks in a row are needed: a dip over 15 batches is no failure."""
REMEMBERED = 100
"""Number of checks whose median is the usual gradient norm; the first norm is taken if it is larger."""


# ------------------------------------------------------------ the symptoms: each returns a warning, None if all is well


def discriminator_saturated(numbers: Mapping[str, float], chance: float) -> str | None:
    """Return a warning if a discriminator's loss is a small part of that at chance.

    A discriminator that is right about everything teaches the generator nothing.
    """
    for name, loss in _discriminator_losses(numbers):
        if 0 <= loss < SATURATED * chance:
            return f"the discriminator is saturated: {name} is {loss:.2g}, and {chance:.2g} at chance"
    return None


def gradient_vanished(norms: Mapping[str, float], usual: Mapping[str, float]) -> str | None:
    """Return a warning if a generator's gradient is a small part of what it used to be: it learns nothing."""
    for name, norm in norms.items():
        if "generator" in name and norm < VANISHED * usual.get(name, 0.0):
            return f"the gradient of the {name} has vanished: its norm is {norm:.2g}, and was {usual[name]:.2g}"
    return None


def gradient_exploded(norms: Mapping[str, float], start: Mapping[str, float]) -> str | None:
    """Return a warning if a player's gradient is many times what it was at the start."""
    for name, norm in norms.items():
        if norm > EXPLODED * start.get(name, math.inf):
            return (
                f"the gradient of the {name} explodes: its norm is {norm:.2g}, and was {start[name]:.2g} at the start"
            )
    return None


def modes_collapsed(twins: float) -> str | None:
    """Return a warning if most samples have a twin: the generator makes few different images."""
    return f"the samples have collapsed: {twins:.0%} of them have a twin" if twins > COLLAPSED else None


def share_of_twins(samples: Tensor, real: Tensor) -> float:
    """Return the share of samples [n, d] that have a twin among them, by the distances within the real ones [m, d].

    Both are the small vectors of their kind, see `Kind.vectors`. The share is high for a generator that makes only one
    image. It is also high for one that makes a dozen, whose samples are on average as far apart as they should be.
    """
    usual = _nearest(real).median()
    return (_nearest(samples) < TWIN * usual).float().mean().item()


def _nearest(vectors: Tensor) -> Tensor:
    """Return the distance of each vector [n, d] to its nearest neighbour, [n]."""
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).min(dim=1).values


def _distinct(rows: Tensor) -> Tensor:
    """Return the rows [n, ...] without those that repeat an earlier one, as rows of small data do."""
    _, which = rows.unique(dim=0, return_inverse=True)
    firsts = torch.full_like(which, len(rows)).scatter_reduce(0, which, torch.arange(len(rows)).to(which), "amin")
    return rows[firsts[firsts < len(rows)].sort().values]


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


def advice(sign: str, module: AdversarialModule, discriminator_fooled: bool = False) -> str:
    """Return what usually helps against a symptom, as options to type.

    `discriminator_fooled` is True if the fakes fool the discriminator.
    """
    model = module.run.config.get("model", {})
    loss = str(module.run.config.get("loss", {}).get("_target_", ""))
    calmer = _slower(module, "discriminator") + _slower(module, "generator")
    augment = ["augment=diffaugment"] if "augment" in model and not model["augment"] else []
    clip = ["model.clip_grad_norm=1"] if model.get("clip_grad_norm", 1) is None else []
    others = ["loss=non_saturating"] if loss.endswith("Minimax") else []
    words = {
        "saturated": [*_slower(module, "discriminator"), *augment],
        "vanished": [*others, *_slower(module, "generator" if discriminator_fooled else "discriminator")],
        "collapsed": [*others, *_slower(module, "generator"), *augment],
        "exploded": [*clip, *calmer],
        "not_finite": [*clip, *calmer],
    }[sign]
    return f"what usually helps: {' or '.join(words)}"


def _slower(module: AdversarialModule, player: str) -> list[str]:
    """Return the options that halve the learning rates of a player's optimizers."""
    optimizers = module.run.config.get("model", {}).get("optimizers", {})
    return [
        f"model.optimizers.{name}.lr={node['lr'] * module.rate_factor / 2:g}"
        for name, node in optimizers.items()
        if player in name and "lr" in node
    ]


class TrainingUnhealthy(TrainingFailure):
    """A symptom of failure at which the config asks to stop or to go back."""


class Health(RunCallback):
    """Warnings of failing training, one line each with what usually helps; `action` can also stop the run or go back.

    A symptom counts once `patience` checks in a row have shown it, and is over once as many have not. The recorded
    numbers are checked whenever `Record` has new ones, the samples every `every` images. `health/<symptom>` is logged
    as 0 or 1. Must come after `Record` and before `Checkpoints`, so that no checkpoint is written of a run that is
    stopped.

    `checkpoints/good.ckpt` is the last checkpoint that was written while there was no symptom at all, and followed by
    `patience` checks without any. To go back is to continue from it, with all learning rates times `back_rate` and with
    other random numbers.

    Args:
        action: "warn", "stop" (TrainingFailure) or "back".
        every: images from one check of the samples to the next; 0 for none.
        patience: checks in a row.
        n: samples of one check.
        warm_up: images by which samples should differ. Before, a collapse counts only if they have differed already.
        back_rate: factor of the learning rates each time that the run goes back, 1 for none.
        back_seed: whether the run gets other random numbers each time that it goes back.
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
        self.count = dict.fromkeys(self.SIGNS, 0)  # checks in a row that contradict `on`
        self.norms: dict[str, list[float]] = {}
        self.stage = 0  # the module's, in which `norms` were seen
        self.diverse = False  # the samples have differed at least once
        self.candidate = -1  # images seen at a checkpoint that may prove good; -1 without one
        self.quiet = dict.fromkeys(self.SIGNS, 0)  # checks since then
        self.gone_back = 0
        self._inputs: dict[str, Tensor] = {}
        self._real = torch.empty(0)
        self._chance = 0.0
        self._looks = patience

    def looks_needed(self, log_every: int) -> int:
        """Return how many checks in a row of the recorded numbers, each over `log_every` batches, make a failure."""
        return max(self.patience, math.ceil(self.patience * USUAL_LOG_EVERY / log_every))

    # ---------------------------------------------------------------- checks

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Choose the inputs of the samples, and the real images that they are compared with."""
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        labels = None if module.conditions.even else module.conditions(self.n, module.run.seed)
        fixed = data.fixed(self.n) if labels is None else data.of_classes(labels)
        keys = sorted(key for key in fixed if key.startswith(("real", "target", "high")))
        real = [_distinct(fixed[key]) for key in keys]
        n = min(self.n, min(map(len, real)) * len(real))
        self._real = module.kind.vectors(torch.cat([rows[: n // len(real)] for rows in real]))
        self._inputs = module.sheet_inputs(fixed, n) | ({} if labels is None else {"label": labels[:n]})
        self._chance = loss_at_chance(module)
        self._looks = self.looks_needed(module.run.log_every)
        if self.action == "back" and module.images_seen == 0:
            self._checkpoints(trainer).save(trainer, module, self._good(trainer))

    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Keep a checkpoint that has just been written as a candidate, which may prove good."""
        if self.candidate == module.images_seen and trainer.is_global_zero:
            _link(self._checkpoints(trainer).last, self._aside(trainer))

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Check what is new: the recorded numbers, and the samples every `every` images."""
        record = find(trainer, Record)
        numbers = record.fresh if record else {}
        if numbers:
            self._look(trainer, module, self._read(numbers, module.stage), self._discriminator_fooled(numbers))
        if module.passed(self.every) and module.makes_images:
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
        """Remove the candidate of a run that is complete; a run that was asked to stop needs it when it is resumed."""
        if trainer.is_global_zero and module.at_end() and self._checkpoints(trainer):
            self._aside(trainer).unlink(missing_ok=True)

    def on_exception(self, trainer: L.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        """Add what usually helps to the engine's message about a number that is not finite."""
        if isinstance(exception, NotFinite):
            exception.args = (f"{exception}; {advice('not_finite', module)}",)
            self._say(trainer, str(exception))
            log_metrics(trainer, {"health/not_finite": 1.0}, module.images_seen)

    def _read(self, numbers: Mapping[str, float], stage: int) -> dict[str, str | None]:
        """Return a warning or None for each symptom that the recorded numbers can show."""
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
        if not (seen.get("vanished") or seen.get("exploded")):  # norms of a failure must not become the usual ones
            for name, norm in norms.items():
                past = self.norms.setdefault(name, [norm])
                past.append(norm)
                del past[1:-REMEMBERED]
        return seen

    def _discriminator_fooled(self, numbers: Mapping[str, float]) -> bool:
        return bool(self._chance) and any(loss > self._chance for _, loss in _discriminator_losses(numbers))

    def _twins(self, trainer: L.Trainer, module: AdversarialModule) -> float:
        """Return the share of twins among samples of the generator in training; the same number on every rank."""
        twins = 0.0
        if trainer.is_global_zero:
            with torch.random.fork_rng(devices=[]):
                cells = module.sheet(self._inputs, ema=False)
            samples = module.kind.vectors(cells[:, min(1, cells.shape[1] - 1)].cpu())
            twins = share_of_twins(samples, self._real)
        return trainer.strategy.broadcast(twins)

    # ---------------------------------------------------------------- reactions

    def _look(
        self,
        trainer: L.Trainer,
        module: AdversarialModule,
        seen: Mapping[str, str | None],
        discriminator_fooled: bool = False,
    ) -> None:
        lines = []
        for sign, what in seen.items():
            if self._turns(sign, bool(what)):
                log_metrics(trainer, {f"health/{sign}": float(self.on[sign])}, module.images_seen)
                after = f"after {module.images_seen:,} images"
                if what:
                    lines.append(f"{what}, {after}; {advice(sign, module, discriminator_fooled)}")
                else:
                    self._say(trainer, f"no longer {sign} {after}")
        self._keep(trainer, seen)
        for line in lines:
            self._say(trainer, line)
        if lines and self.action != "warn":
            raise TrainingUnhealthy(lines[0])

    def _turns(self, sign: str, ill: bool) -> bool:
        """Count a check; return True if the symptom begins or ends with it."""
        self.count[sign] = self.count[sign] + 1 if ill != self.on[sign] else 0
        if self.count[sign] < (self.patience if sign == "collapsed" else self._looks):
            return False
        self.on[sign], self.count[sign] = ill, 0
        return True

    def _well(self) -> bool:
        return not any(self.on.values()) and not any(self.count.values())

    def _keep(self, trainer: L.Trainer, seen: Mapping[str, str | None]) -> None:
        """Count the checks since there is a candidate. After enough of them it is good; at a symptom it is dropped."""
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
                aside.unlink(missing_ok=True)  # still there if both were links to one file

    def _looks_for(self, sign: str) -> bool:
        return bool({"saturated": self._chance, "collapsed": self.every}.get(sign, True))

    def _say(self, trainer: L.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            log.warning("health: %s", line)
            alert(trainer, "health", line)

    def way_back(self, trainer: L.Trainer, module: AdversarialModule, failure: TrainingFailure) -> Path | None:
        """Return the checkpoint to go back to after a failure, or None to stop.

        The module's learning rates are lowered, and its random numbers changed, as the config asks for.
        """
        if (
            self.action != "back"
            or self.gone_back >= self.tries
            or not isinstance(failure, (NotFinite, TrainingUnhealthy))
        ):
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
        """Return all that the next checks depend on."""
        names = ("on", "count", "norms", "stage", "diverse", "candidate", "quiet", "gone_back")
        return copy.deepcopy({name: getattr(self, name) for name in names})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore that state, but not the number of times that the run went back if it is larger now."""
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
    """Return the discriminator's loss when all its logits are 0; 0 if the loss is not bounded below."""
    loss = getattr(module, "loss", None)
    if loss is None or loss.needs_lipschitz:
        return 0.0
    logits = torch.zeros(2, device=module.device)  # some losses average over ranks, on this device
    return float(loss.discriminator(logits, logits))


def _link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the disk has no links; replace what was there before."""
    if not source.exists() or (target.exists() and os.path.samefile(source, target)):
        return
    with files.whole(target) as unfinished:
        unfinished.unlink()
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
