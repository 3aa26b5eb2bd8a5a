"""The alternating training of all variants: a variant lists its phases, the engine carries them out.

A variant decides which networks minimise which loss, with which optimizer and how often. The engine does the rest:
which parameters require gradients, backward, averaging over ranks, accumulation, clipping, the optimizer step, learning
rates, weight averages and logging.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_experiments import distributed, kinds, provenance
from gan_experiments.bounds import Place, Positive
from gan_experiments.conditions import Conditions, restored
from gan_experiments.contracts import Batch, ConfigError, NotFinite
from gan_experiments.engine import plain
from gan_experiments.engine.averages import WeightAverage
from gan_experiments.engine.optimizers import fuse
from gan_experiments.engine.phases import Phase, _parameters, _Step
from gan_experiments.kinds import IMAGE, Kind
from gan_experiments.provenance import Mark

if TYPE_CHECKING:
    from gan_experiments.data.module import DataModule

log = logging.getLogger(__name__)

UNLOGGED = 10_000  # batches whose numbers are kept at most where nobody takes them


@dataclass
class RunSettings:
    """The settings that belong to the run and not to the algorithm; set by `build.py`."""

    images: int = 0
    seed: int = 0
    accumulate: int = 1
    log_every: int = 50
    config: dict[str, Any] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    name: str = ""  # of the run
    provenance: str = provenance.USUAL  # what pictures say of how they were made, see `provenance.KINDS`


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Put networks into evaluation mode; afterwards, return each of their modules to the mode that it was in."""
    training = [module for network in networks for module in network.modules() if module.training]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class AdversarialModule(L.LightningModule):
    """A LightningModule whose training is a list of phases.

    A variant passes its networks by name to `__init__` (they become attributes) and returns its `phases()`.

    Args:
        networks: every network of the variant, by name.
        optimizers: a callable `parameters -> Optimizer` for each optimizer that the phases name.
        schedules: for some of the optimizers, a callable `images seen -> factor of the learning rate`.
        ema: for some of the networks, the arguments of their `WeightAverage`.
        clip_grad_norm: largest norm of the gradient of one optimizer step; None for no clipping.
        pretrained: a run folder or checkpoint. Networks start from those of the same names in it, see `pretrained.py`.

    A parameter that does not require gradients when the training begins is frozen. It is neither trained, nor averaged,
    nor reduced over ranks, and a module whose parameters are all frozen stays in evaluation mode.

    All random numbers of a step derive from (seed, batch, phase), so a resumed run draws the same ones as an
    uninterrupted run. They are drawn for the batch of all ranks and each rank takes its rows, so the result is the same
    on any number of ranks.
    """

    needs: frozenset[str] = frozenset({"real"})
    """The keys that a batch must hold, see `contracts.BATCH_KEYS`."""
    lipschitz: bool = False
    """Whether the variant keeps its discriminator Lipschitz, as the Wasserstein loss needs."""
    makes_images: bool = True
    """Whether there is a generator: without one, no verb can draw samples of a run, and health does not look at any."""
    shows_inputs: bool = False
    """Whether its pictures are made of images that are given, as translations are."""
    per_sample_penalty: bool = False
    """Whether a penalty needs each sample's own gradient, which batch norm mixes with those of the others."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        optimizers: Mapping[str, Callable[[list[nn.Parameter]], Optimizer]],
        schedules: Mapping[str, Callable[[int], float] | None] | None = None,
        ema: Mapping[str, Mapping[str, Any]] | None = None,
        clip_grad_norm: Positive | None = None,
        pretrained: Place | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network_names = tuple(networks)
        for name, network in networks.items():
            setattr(self, name, network)
        self.averages = nn.ModuleDict(
            {name: WeightAverage(networks[name], **settings) for name, settings in (ema or {}).items()}
        )
        self.make_optimizer = dict(optimizers)
        self.schedules = {name: factor for name, factor in (schedules or {}).items() if factor}
        self.clip_grad_norm = clip_grad_norm
        self.pretrained = pretrained
        self.run = RunSettings()

        self.class_names: list[str] = []  # of the training data; saved
        self.data_kind: Kind | None = None  # of the training data, if it is not the usual one; saved
        self.values: tuple[float, float] | None = None  # that are -1 and 1 in the data's files of over 8 bits; saved
        self.data_conditions = Conditions()  # of the training data; saved, of captions some
        self.epoch: int | None = None  # images of an epoch; None before a training, and for endless data
        self.batches = 0  # batches done; saved, and unlike Lightning's batch_idx never reset
        self.images_seen = 0  # real images shown, all ranks together
        self.rate_factor = 1.0  # of every learning rate; below 1 once a failing run went back to a checkpoint
        self.reseeded = 0  # how often a failing run went back to a checkpoint with other random numbers
        self._images_before = 0
        self._averaged_at: dict[str, int] = dict.fromkeys(self.averages, 0)
        self._history: dict[str, list[tuple[int, Tensor]]] = {}
        self._histograms: dict[str, Tensor] = {}
        self._once: dict[tuple[str, int], Any] = {}
        self._batch: Batch = {}
        self._micro = 0
        self._rng: torch.Generator | None = None
        self._frozen: frozenset[int] | None = None  # ids of parameters; None before the first training
        self._asking: Tensor | None = None
        self._plain = self._looked = False  # whether batches are of a plain loader, and one was looked at
        self._unrecorded = False  # whether no callback passes the numbers to the loggers
        self.stop_asked = False  # this rank wants to end the run
        self.stop_agreed = False  # all ranks know that one of them wants to
        self.paused_seconds = 0.0

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning's note of its current hook, thirty times a batch, without torch's look at it."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # ---------------------------------------------------------------- what a variant writes

    def phases(self) -> list[Phase]:
        """Return the phases of one batch, in the order in which they are carried out."""
        raise NotImplementedError(f"{type(self).__name__} lists no phases")

    def due(self, phase: Phase) -> bool:
        """Return True if a phase is carried out on this batch. A variant may override it; all ranks must agree."""
        return (self.batches + 1) % phase.every == 0

    @property
    def stage(self) -> int:
        """A counter that changes when earlier gradient norms no longer apply, as when a progressive GAN grows."""
        return 0

    def before_batch(self) -> None:
        """Prepare for a batch what depends on the images seen so far, as the resolution of a progressive GAN."""

    def after_step(self, phase: Phase) -> None:
        """Act after a phase was carried out and its optimizer stepped."""

    def after_batch(self) -> None:
        """Act after a batch, once the counters include it; before any callback, so that checkpoints hold the result."""

    def sheet_inputs(self, fixed: Mapping[str, Tensor], n: int) -> Batch:
        """Return the inputs of the n cells of a sample sheet; all sheets of a run share them.

        `fixed` holds rows of the data, by key.
        """
        raise NotImplementedError(f"{type(self).__name__} draws no sheets")

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return the cells of a sample sheet, images [n, k, C, H, W] in [-1, 1], k side by side."""
        raise NotImplementedError(f"{type(self).__name__} draws no sheets")

    @property
    def kind(self) -> Kind:
        """The kind of data that a sample is."""
        return self.data_kind or IMAGE

    @property
    def model_name(self) -> str:
        """What was trained, in a word."""
        return type(self).__name__

    def mark(
        self, kind: str | None = None, seed: int | None = None, label: str = "", composite: bool = False
    ) -> Mark | None:
        """Return what a picture made by these networks says of that; None if `kind`, a word of `provenance`, is "none".

        `kind` and `seed` are by default those of the training, and `label` is the class asked for. `composite` is
        whether given images are part of the picture.
        """
        if (kind or self.run.provenance) == "none":
            return None
        return Mark(
            model=self.model_name,
            run=self.run.name,
            images_seen=self.images_seen,
            seed=self.run.seed if seed is None else seed,
            label=label,
            composite=composite or self.shows_inputs,
        )

    @property
    def conditions(self) -> Conditions:
        """What samples are conditioned on; nothing by default (unconditional)."""
        return Conditions()

    def name_classes(self, names: list[str]) -> None:
        """Store the data's class names, indexed by label; empty without classes."""
        self.class_names = names

    def class_name(self, label: int) -> str:
        """Return the name of a class given its label; the label itself, as text, if the data have no names."""
        return self.class_names[label] if self.class_names else str(label)

    # ---------------------------------------------------------------- what a variant may use

    def draw(self, sampler: Callable[..., Tensor], n: int, *shape: int, shared: bool = False) -> Tensor:
        """Draw by `sampler` (torch.randn, torch.rand) for the batch of all ranks; return this part's [n, *shape].

        A part is what one rank computes in one accumulation step. With `shared` every part gets the same [n, *shape]:
        numbers that all samples of the batch have in common.
        """
        assert self._rng is not None, "draw() is for the losses of a phase"
        if shared:
            return sampler((n, *shape), generator=self._rng, device=self.device)
        parts = distributed.world_size() * self.run.accumulate
        whole = sampler((n * parts, *shape), generator=self._rng, device=self.device)
        part = distributed.rank() * self.run.accumulate + self._micro
        return whole[part * n : (part + 1) * n]

    def gathered(self, key: str) -> Tensor:
        """Return the rows [N, ...] under a key of the batch of all ranks, in the order of the rows of `draw`."""
        return distributed.gather_rows(self._batch[key])

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Call `make` when a batch first asks for `name`, and return that result to all later phases of the batch."""
        key = (name, self._micro)
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]

    def observe(self, **values: Tensor) -> None:
        """Log the discriminator's logits of `real`, `fake`, ...: their mean as D(real), and a histogram."""
        for name, logits in values.items():
            self._remember(f"D({name})", logits.detach().float().mean())
            self._histograms[f"histogram/D({name})"] = logits.detach()

    def network(self, name: str, ema: bool = True) -> nn.Module:
        """Return a network by name: its weight average if it has one and `ema` is True, else the one in training."""
        return self.averages[name].network if ema and name in self.averages else getattr(self, name)  # type: ignore[return-value]

    def optimizer_of(self, name: str) -> Optimizer:
        """Return an optimizer by the name that the phases use; only during a training."""
        return self._optimizers[name].optimizer

    def learning_rate(self, name: str) -> float:
        """Return the learning rate of an optimizer's first group at its next step, with schedule and `rate_factor`."""
        return self._base_rates[name][0] * self._rate_factor_of(name)

    def trained_parameters(self, network: nn.Module) -> list[nn.Parameter]:
        """Return the parameters of a network that are not frozen."""
        frozen = self._frozen
        return [p for p in network.parameters() if (p.requires_grad if frozen is None else id(p) not in frozen)]

    def numbers(self) -> dict[str, float]:
        """Return the numbers to record beside the losses, by name; called at every `log_every`-th batch."""
        return {}

    def passed(self, interval: int) -> bool:
        """Return True if the last batch reached or crossed a multiple of `interval` images; never for interval 0."""
        return interval > 0 and self.images_seen // interval > self._images_before // interval

    def at_end(self) -> bool:
        """Return True if the run's images have all been seen."""
        return self.images_seen >= self.run.images

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep work that is not training (sheets, scores, checkpoints) out of the images per second."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.paused_seconds += time.perf_counter() - start

    # ---------------------------------------------------------------- one batch

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Carry out the phases that are due on a batch of [n, ...] rows per key, n on each rank.

        Of a loader without a data module, batches may also be tensors or pairs, see `engine/plain.py`.
        """
        if self._plain:
            batch = self._understood(batch)
        n = len(next(iter(batch.values())))
        batch = {key: rows.to(self.dtype) if rows.is_floating_point() else rows for key, rows in batch.items()}
        self._batch = batch
        self._once.clear()
        self._histograms.clear()
        self.before_batch()
        self._seed_layers()
        asked = self._asking
        stepped = set()
        for step in self._steps:
            if self.due(step.phase):
                self._minimise(step, batch, n)
                self.after_step(step.phase)
                stepped.add(step.phase.name)
        self._batch = {}
        self._once.clear()
        self.batches += 1
        self._images_before = self.images_seen
        self.images_seen += n * distributed.world_size()
        self._update_averages(stepped)
        # A request to stop travels with the gradients of one batch and is read after the next: no wait for the device.
        self.stop_agreed = self.stop_asked if self._asking is None else bool(asked)
        self.after_batch()
        if self._unrecorded:
            self._tell_loggers()

    def _tell_loggers(self) -> None:
        loggers = self.trainer.loggers
        if self.batches % (self.run.log_every if loggers else UNLOGGED) == 0:
            numbers = self.flush()
            for logger in loggers:
                logger.log_metrics(numbers, step=self.images_seen)

    def _understood(self, batch: Any) -> Batch:
        batch = plain.understood(batch, self.needs, type(self).__name__)
        if not self._looked:
            plain.require(batch, int(getattr(self, "classes", 0)))
            self._looked = True
        return batch

    def _minimise(self, step: _Step, batch: Batch, n: int) -> None:
        for parameter in step.idle:
            parameter.requires_grad = False
        for parameter in step.asking:
            parameter.requires_grad = True

        phase, accumulate = step.phase, self.run.accumulate
        history: dict[str, list[Tensor]] = {}
        for micro, part in enumerate(self._parts(batch, n // accumulate)):
            self._micro = micro
            self._seed_draws(phase.name)
            terms = phase.loss(part)
            total = torch.stack(list(terms.values())).sum() if len(terms) > 1 else next(iter(terms.values()))
            if total.requires_grad:
                self.manual_backward(total if accumulate == 1 else total / accumulate)
            for name, term in terms.items():
                history.setdefault(name, []).append(term.detach())
        self._micro = 0
        for name, parts in history.items():
            self._remember(f"{phase.name}/{name}", parts[0] if accumulate == 1 else torch.stack(parts).mean())

        if total.requires_grad:
            self._optimize(step)

    def _optimize(self, step: _Step) -> None:
        name = step.optimizer
        optimizer = self._optimizers[name]
        factor = self._rate_factor_of(name)
        for group, base in zip(optimizer.param_groups, self._base_rates[name], strict=True):
            group["lr"] = base * factor
        # Gradients are averaged over ranks inside the closure: before mixed precision checks for overflow, and before
        # clipping.
        optimizer.step(closure=lambda: self._average_step(step))
        # A fused step does not count as a change in place. Without this, autograd would take a backward through the old
        # weights for one through the new ones, and not complain.
        torch.autograd.graph.increment_version(step.trained)
        for parameter in step.asking:
            parameter.grad = None

    def _rate_factor_of(self, optimizer: str) -> float:
        return self.rate_factor * (self.schedules[optimizer](self.images_seen) if optimizer in self.schedules else 1.0)

    def _average_step(self, step: _Step) -> None:
        self._asking = distributed.average_step_(step.trained, self._running, self.stop_asked)

    def _parts(self, batch: Batch, size: int) -> Iterator[Batch]:
        if self.run.accumulate == 1:
            yield batch
            return
        for part in range(self.run.accumulate):
            yield {key: rows[part * size : (part + 1) * size] for key, rows in batch.items()}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the averaged and unscaled gradients, and log their norm."""
        # The first norms are the baseline of `callbacks/health.py`.
        rarest = max(step.phase.every for step in self._steps)
        logged = self.batches < 20 or (self.batches + 1) % self.run.log_every < rarest
        if self.clip_grad_norm is None and not logged:
            return
        name = next(name for name, own in self._optimizers.items() if own.optimizer is optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.clip_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_grad_norm, norm)
        self._remember(f"gradient_norm/{name}", norm, must_be_finite=False)

    def _update_averages(self, stepped: set[str]) -> None:
        for name, phases in self._stepped_by.items():
            if phases & stepped:
                images = self.images_seen - self._averaged_at[name]
                self.averages[name].update(getattr(self, name), images, self.images_seen)  # type: ignore[operator]
                self._averaged_at[name] = self.images_seen

    # ---------------------------------------------------------------- randomness

    def _seed(self, *words: object) -> int:
        text = repr((self.run.seed, self.batches, *words, *([self.reseeded] if self.reseeded else [])))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    def _seed_layers(self) -> None:
        # What layers draw by themselves (dropout) must differ between ranks, and be the same after a resume.
        # torch.manual_seed would search for every kind of accelerator each time.
        seed = self._seed("layers", distributed.rank())
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def _seed_draws(self, phase: str) -> None:
        if self._rng is None or self._rng.device != self.device:
            self._rng = torch.Generator(self.device)
        self._rng.manual_seed(self._seed("draws", phase))

    # ---------------------------------------------------------------- what is logged

    def _remember(self, name: str, scalar: Tensor, must_be_finite: bool = True) -> None:
        # Kept as tensors on the device: reading a number here would wait for the device at every step.
        self._history.setdefault(name if must_be_finite else f"?{name}", []).append((self.images_seen, scalar.detach()))

    def flush(self) -> dict[str, float]:
        """Return the mean of everything logged, over ranks and over the batches since the last flush.

        Raises:
            NotFinite: a term of a loss was not finite. The message has the phase, the term and the images seen by then.
        """
        numbers = self._read_history()
        self._history.clear()
        return {name.lstrip("?"): sum(value for _, value in rows) / len(rows) for name, rows in numbers.items()}

    def require_finite(self) -> None:
        """Raise NotFinite if a loss since the last flush, or a parameter, is not finite; the message names it."""
        self._read_history()
        total = torch.stack([parameter.detach().float().sum() for parameter in self.parameters()])
        if not torch.isfinite(total).all():
            names = [name for name, p in self.named_parameters() if not torch.isfinite(p).all()]
            if names:
                raise NotFinite(f"the weights {names[0]!r} are not finite after {self.images_seen:,} images")

    def _read_history(self) -> dict[str, list[tuple[int, float]]]:
        if not self._history:
            return {}
        values = torch.stack([s.float().to(self.device) for rows in self._history.values() for _, s in rows])
        distributed.average_([values])
        flat = iter(values.tolist())
        numbers = {name: [(images, next(flat)) for images, _ in rows] for name, rows in self._history.items()}
        broken = [
            (images, name, value)
            for name, rows in numbers.items()
            for images, value in rows
            if not name.startswith("?") and not math.isfinite(value)
        ]
        if broken:
            images, name, value = min(broken)
            phase, _, term = name.partition("/")
            what = f"the term {term!r} of the phase {phase!r}" if term else name
            raise NotFinite(f"{what} became {value} after {images:,} images")
        return numbers

    def histograms(self) -> dict[str, Tensor]:
        """Return the last values of everything observed, by name."""
        return dict(self._histograms)

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rate of each optimizer's first group at its last step."""
        return {name: optimizer.param_groups[0]["lr"] for name, optimizer in self._optimizers.items()}

    # ---------------------------------------------------------------- Lightning's hooks

    def setup(self, stage: str) -> None:
        """Store what a checkpoint holds of the data for use without them, and their epoch."""
        data: DataModule | None = self.trainer.datamodule  # type: ignore[attr-defined]
        self._plain, self._looked = data is None, False
        self._unrecorded = data is None and not any(getattr(one, "records", False) for one in self.trainer.callbacks)  # type: ignore[attr-defined]
        if data is None:  # a person's own loader
            return
        self.name_classes(list(data.class_names))
        self.data_conditions = data.conditions
        self.data_kind = data.kind
        self.values = data.values
        self.epoch = data.size

    def configure_optimizers(self) -> list[Optimizer]:
        """Return one optimizer for each name that the phases use, over all parameters of its phases.

        Raises ValueError if these names are not those of `optimizers`, ConfigError if a phase has nothing to train.
        """
        networks = [getattr(self, name) for name in self.network_names]
        if self._frozen is None:  # later, phases may have switched requires_grad off for what they do not train
            self._frozen = frozenset(id(p) for network in networks for p in network.parameters() if not p.requires_grad)
        self._trainable = [parameter for network in networks for parameter in self.trained_parameters(network)]
        for average in self.averages.values():
            average.frozen = self._frozen  # type: ignore[assignment]
        self._steps = [self._prepare(phase) for phase in self.phases()]
        self._stepped_by = {}
        for name in self.averages:
            own = {id(parameter) for parameter in getattr(self, name).parameters()}
            steps = [step for step in self._steps if own & {id(parameter) for parameter in step.trained}]
            self._stepped_by[name] = {step.phase.name for step in steps}
        parameters: dict[str, dict[int, nn.Parameter]] = {}
        for step in self._steps:
            shared = parameters.setdefault(step.optimizer, {})
            shared.update({id(parameter): parameter for parameter in step.trained})
        missing = sorted(set(parameters) ^ set(self.make_optimizer))
        if missing:
            raise ValueError(f"phases and optimizers do not match: {', '.join(missing)}")
        optimizers = {name: self.make_optimizer[name](list(own.values())) for name, own in parameters.items()}
        for optimizer in optimizers.values():
            fuse(optimizer)
        self._base_rates = {name: [g["lr"] for g in optimizer.param_groups] for name, optimizer in optimizers.items()}
        self._optimizer_names = tuple(optimizers)
        return list(optimizers.values())

    def _prepare(self, phase: Phase) -> _Step:
        assert self._frozen is not None
        trained, kept = (
            [p for p in parameters if id(p) not in self._frozen]
            for parameters in (phase.parameters(), _parameters(phase.keeps))
        )
        if not trained:
            raise ConfigError(
                f"the phase {phase.name!r} has nothing to train: every parameter of its networks is frozen"
            )
        asking = list({id(parameter): parameter for parameter in (*trained, *kept)}.values())
        known = {id(parameter) for parameter in asking}
        idle = [parameter for parameter in self._trainable if id(parameter) not in known]
        return _Step(phase, phase.player, trained, asking, idle)

    def on_fit_start(self) -> None:
        """Put frozen modules into evaluation mode, and look Lightning's optimizers up by name, once.

        Lightning's own look-up builds a list at each call.
        """
        wrapped = self.optimizers()
        wrapped = wrapped if isinstance(wrapped, list) else [wrapped]
        self._optimizers = dict(zip(self._optimizer_names, wrapped, strict=True))
        still = {id(buffer) for module in self._frozen_modules() for buffer in module.eval().buffers()}
        buffers = [buffer for name in self.network_names for buffer in getattr(self, name).buffers()]
        self._running = [buffer for buffer in buffers if buffer.is_floating_point() and id(buffer) not in still]
        self._asking = None
        self.stop_asked = self.stop_agreed = False

    def _frozen_modules(self) -> Iterator[nn.Module]:
        """Yield the modules of the networks that have parameters, all of them frozen."""
        for name in self.network_names:
            for module in getattr(self, name).modules():
                if any(True for _ in module.parameters()) and not self.trained_parameters(module):
                    yield module

    def on_fit_end(self) -> None:
        """Make every parameter that was trainable before the training so again."""
        for parameter in self._trainable:
            parameter.requires_grad_(True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counters, the class names and sizes, the run's config and its overrides, in plain types."""
        checkpoint["gan_experiments"] = {
            "batches": self.batches,
            "images_seen": self.images_seen,
            "averaged_at": dict(self._averaged_at),
            "rate_factor": self.rate_factor,
            "reseeded": self.reseeded,
            "unlogged": self._read_history(),
            "class_names": self.class_names,
            **kinds.state(self.kind),
            **({"values": list(self.values)} if self.values else {}),
            **self.data_conditions.state(),
            "config": self.run.config,
            "overrides": self.run.overrides,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counters, and the names and sizes of the classes unless the data have already told them."""
        saved = checkpoint["gan_experiments"]
        if not self.class_names:
            self.name_classes(saved.get("class_names", []))
        if not self.data_conditions.known:
            self.data_conditions = restored(saved)
        self.data_kind = kinds.restored(self.kind, saved)
        if self.values is None and (values := saved.get("values")):
            self.values = values[0], values[1]
        self.batches = saved["batches"]
        self.images_seen = self._images_before = saved["images_seen"]
        self._averaged_at = dict(saved["averaged_at"])
        # A run that goes back to an earlier checkpoint keeps the learning rates and draws that it goes back with.
        self.rate_factor = min(self.rate_factor, saved.get("rate_factor", 1.0))
        self.reseeded = max(self.reseeded, saved.get("reseeded", 0))
        unlogged = saved.get("unlogged", {})
        self._history = {k: [(n, torch.tensor(value)) for n, value in rows] for k, rows in unlogged.items()}
