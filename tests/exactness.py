"""One truth: what a run must give on any number of ranks and after any stop, and how far apart two runs are.

Used by tests/test_exactness.py, which holds the limits, and by benchmarks/exactness.py, which prints the table. A new
file in conf/model/ is in both at once.
"""

from __future__ import annotations

import math
import os
import socket
import tempfile
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.multiprocessing
from support import MODELS, KeepSome, difference, small, train
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_experiments.assembly import build
from gan_experiments.callbacks.ranks import RankGuard
from gan_experiments.contracts import TrainingFailure
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.layers.minibatch import MinibatchStandardDeviation
from gan_experiments.runs import resolvers

BATCH = 4
STOPS = {1: "in the middle of an epoch", 2: "at an epoch's end", 5: "in a later epoch"}  # after so many batches
FEATURES: dict[str, tuple[str, ...]] = {  # what the two ranks do that the one process does not
    "plain": (),
    "accumulation, clipping, augmentation": ("trainer.accumulate=2",),
    "synchronised batch norm": ("trainer.sync_batchnorm=true",),
    "own batch norm": (),
    "techniques": (),
}
TECHNIQUES = {
    "cyclegan": (
        "technique=[r1_lazy,gradient_penalty,lecam,instance_noise,top_k,spectral_norm]",
        *("technique.lecam.start=4", "technique.top_k.every=4", "technique.top_k.decay=0.5"),
    ),
    "eg3d": ("model.generator.upsampled_from=16", "model.discriminator.dual=true"),
}
"""What joins a variant of two discriminators, or of two images, under the feature of that name; others have it anyway.
"""
ONE_OF_EACH = (
    "biggan",
    "cyclegan",
    "dcgan",
    "improved_gan",
    "pggan",
    "r3gan",
    "stargan",
    "unrolled_gan_dcgan",
    "wgan_gp",
)
"""A variant of each class in models/ and of each kind of norm."""


@dataclass(frozen=True)
class Case:
    """A variant under one feature, for six batches in three epochs, or for fewer."""

    model: str
    feature: str
    batches: int = 6

    @property
    def compares_samples(self) -> bool:
        """Whether a loss looks at the batch as a whole: of parts of a batch it is another one."""
        return self.model in ("damsm", "improved_gan")

    @property
    def keeps_batch_norm(self) -> bool:
        """Whether batch norm stays in the networks: over parts of a batch it is another function."""
        return self.feature.endswith("batch norm")

    def config(self, folder: Path, ranks: int = 1) -> Any:
        """A small run in float64; one of six batches has five steps of a critic for one of its generator."""
        words = [*FEATURES[self.feature], "trainer=ddp_cpu"] if ranks > 1 else []
        words += TECHNIQUES[self.model] if self.feature == "techniques" else []
        if self.feature.startswith("accumulation"):
            words += ["model.clip_grad_norm=0.1"]
            model = small(folder, self.model).model
            words += ["augment=diffaugment"] if "augment" in model else []
            if "unrolling_steps" in model:  # each is on the whole batch
                words = [word for word in words if "accumulate" not in word]
        cfg = small(folder, self.model, *words, "trainer.precision=64-true", f"data.batch_size={BATCH}")
        cfg.images = self.batches * BATCH
        if "limit" in cfg.data:  # points are drawn without end
            cfg.data.limit = 8
        if self.model == "improved_gan" and not self.keeps_batch_norm:
            cfg.model.discriminator.batch_norm = False  # its historical averages know each weight
        if "n_critic" in cfg.model and self.batches == 6:
            cfg.model.n_critic = 5
        for technique in cfg.technique.values():
            if technique.get("every", 1) > 1:  # a lazy one comes in a short run too
                technique.every = 2
        return cfg

    def train(self, folder: Path, ranks: int = 1, **how: Any) -> AdversarialModule:
        """Train it from the beginning, or from `checkpoint`."""
        change = None if self.keeps_batch_norm else alike_on_ranks
        return train(self.config(folder, ranks), change=change, **how)


def alike_on_ranks(module: nn.Module) -> None:
    """Put nothing in the place of every batch norm, and let no sample be compared with others of its rank."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, nn.Identity())
        elif isinstance(child, MinibatchStandardDeviation):
            child.group = 1
        else:
            alike_on_ranks(child)


def all_cases(further: Container[str] = MODELS) -> list[Case]:
    """Every file in conf/model/ for four batches, and those that are `further` for six with each feature they have."""
    some = {model: _features(model) if model in further else ["plain"] for model in MODELS}
    some |= {model: [*some[model], "techniques"] for model in TECHNIQUES if "techniques" not in some[model]}
    return [Case(model, name, 6 if model in further else 4) for model, names in some.items() for name in names]


def _features(model: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        module = build.build_model(small(Path(folder) / "none", model))
    normalised = any(isinstance(layer, _BatchNorm) for layer in module.modules())
    found = [Case(model, name) for name in FEATURES if normalised or not name.endswith("batch norm")]
    found = [case for case in found if case.feature != "techniques" or model in TECHNIQUES]
    return [c.feature for c in found if not (c.compares_samples and c.feature.startswith("accumulation"))]


def straight(
    case: Case, folder: Path, ranks: int = 1, stops: Container[int] | None = (), **how: Any
) -> AdversarialModule:
    """An unbroken run, which leaves checkpoints of its end and after some numbers of batches; without `stops` none."""
    return case.train(folder, ranks, extra=[] if stops is None else [KeepSome(folder, stops)], **how)


def resumed(case: Case, folder: Path, stop: int, ranks: int = 1, source: Path | None = None, **how: Any) -> Path:
    """Go on from the checkpoint after `stop` batches of the run in `source`, in a folder beside it; its last one."""
    source = source or folder
    goal = folder.with_name(f"{folder.name}-from-{stop}-on-{ranks}")
    case.train(goal, ranks, every=10**9, checkpoint=source / "checkpoints" / f"{stop}.ckpt", **how)
    return goal / "checkpoints" / "last.ckpt"


def tensors(module: AdversarialModule) -> dict[str, torch.Tensor]:
    """Every parameter, average and buffer."""
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}


def gap(module: AdversarialModule, other: dict[str, torch.Tensor]) -> float:
    """The largest difference between a trained model and the tensors of another one.

    A bias that a normalisation takes out again has a gradient of rounding alone, and Adam makes a step of it all the
    same; it changes nothing that the network computes, and is left out here (see `cancelled`).
    """
    mine, left_out = tensors(module), cancelled(module)
    for name, value in mine.items():
        original = name.removeprefix("averages.").replace(".network.", ".", 1) if "averages." in name else name
        if original in left_out:
            value[left_out[original]] = other[name][left_out[original]]
    return largest(difference(mine, other))


def largest(gaps: dict[str, float]) -> float:
    """The largest of what `difference` found, 0 for none."""
    assert not any(map(math.isnan, gaps.values())), gaps
    return max(gaps.values(), default=0.0)


def cancelled(module: AdversarialModule) -> dict[str, torch.Tensor]:
    """Where, in each parameter that has such numbers, the gradient stayed at rounding (below 1e-11) in every step."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found = {}
    for optimizer in module.trainer.optimizers:
        for parameter, state in optimizer.state.items():
            squares = [state[key] for key in ("exp_avg_sq", "square_avg") if key in state]
            if squares and (squares[0] < 1e-24).any():
                found[names[id(parameter)]] = squares[0] < 1e-24
    return found


# ------------------------------------------------------------------------------------------ two ranks


def on_two_ranks(folder: Path, some: list[Case], resume: Container[str] = MODELS, others: bool = True) -> None:
    """Train each case on two ranks, to `rank-<rank>.pt` in its place; those of some models from a checkpoint too.

    `others` are further trainings, of ranks that do not agree.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for case in some:  # composed here, once for both
        case.config(place(folder, case) / "two", 2)
    start = torch.multiprocessing.start_processes  # by forks, which have imported everything
    start(_rank, (port, str(folder), some, resume, others), nprocs=2, start_method="fork")


def resumes(case: Case, models: Container[str]) -> bool:
    """Whether a case of two ranks is also stopped and resumed, if its model is one of these."""
    return case.feature in ("plain", "own batch norm") and case.model in models


def place(folder: Path, case: Case) -> Path:
    """Where a case's runs lie."""
    return folder / f"{case.model}-{case.feature.replace(', ', '_').replace(' ', '_')}"


def _rank(rank: int, port: int, where: str, some: list[Case], resume: Container[str], others: bool) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    resolvers.register_resolvers()
    for case in some:
        folder = place(Path(where), case)
        reductions = count_reductions()
        module = straight(case, folder / "two", 2, (2,) if resumes(case, resume) else None)
        made = {"tensors": tensors(module), "reductions": reductions(), "steps": module.trainer.global_step}
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(made, folder / f"rank-{rank}.pt")
        if resumes(case, resume):
            resumed(case, folder / "two", 2, 2)
    if others:
        _ranks_that_part(rank, Path(where))
        _one_rank_asks_to_stop(rank, Path(where))


class _Disturb(L.Callback):
    """Does something to the model on rank 1 alone, after two batches."""

    def __init__(self, what: Callable[[AdversarialModule], None]) -> None:
        self.what = what

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:  # type: ignore[override]
        if module.batches == 2 and not trainer.is_global_zero:
            self.what(module)


def _ranks_that_part(rank: int, where: Path) -> None:
    def nudge(module: AdversarialModule) -> None:
        with torch.no_grad():
            module.generator.layers[-2].weight[0, 0, 0, 0] += 1e-9  # type: ignore[union-attr, index]

    try:
        Case("dcgan", "plain").train(where / "parted", 2, extra=[_Disturb(nudge), RankGuard(every=1)])
    except TrainingFailure as failure:
        (where / f"parted-{rank}").write_text(str(failure))


def _one_rank_asks_to_stop(rank: int, where: Path) -> None:
    def ask(module: AdversarialModule) -> None:
        module.stop_asked = True

    module = Case("dcgan", "plain").train(where / "stopped", 2, extra=[_Disturb(ask)])
    (where / f"stopped-{rank}").write_text(str(module.batches))


def count_reductions() -> Any:
    """Count the all-reduces from here on; what is returned gives their number and stops counting."""
    import torch.distributed as dist

    seen, original = [0], dist.all_reduce

    def counting(*args: Any, **kwargs: Any) -> Any:
        seen[0] += 1
        return original(*args, **kwargs)

    dist.all_reduce = counting

    def stop() -> int:
        dist.all_reduce = original
        return seen[0]

    return stop
