"""Every technique on every variant at its smallest: a cell trains two batches, or is refused with a reason.

Used by tests/test_techniques.py, and by benchmarks/techniques.py, which prints docs/techniques.md. A new file in
conf/technique/, conf/loss/, conf/augment/ or conf/model/ is in both at once.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from omegaconf import DictConfig, OmegaConf
from support import MODELS, REPOSITORY, model_class, shrink, small
from torch.optim import Optimizer

from gan_experiments.assembly import build, check
from gan_experiments.assembly.check import on_meta
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.models.noise_to_image import NoiseToImage

GROUPS = ("technique", "loss", "augment")
VARIANTS = [model for model in MODELS if issubclass(model_class(model), NoiseToImage)]
ALIKE = ("least_squares_cyclegan", "least_squares_bicyclegan", "r1_auto", "r1_cifar", "r1_paper256")
"""Choices that differ from others by constants alone."""
CHOICES = [
    (group, path.stem)
    for group in GROUPS
    for path in sorted((REPOSITORY / "conf" / group).glob("*.yaml"))
    if path.stem not in ("none", *ALIKE)
]


MARK = "✓"
HEAD = """# Techniques

`technique=[r1,lecam]` adds to any model of the noise-to-image family, in place of the techniques that the model brings
with it; `technique=none` takes those away. `technique.r1.gamma=1` sets a constant, `technique.r1.every=16` makes one
lazy. `loss=` and `augment=` are chosen like them.

Some techniques are choices elsewhere: two learning rates (TTUR) are `model.optimizers.generator.lr=` and
`model.optimizers.discriminator.lr=`, `model.n_critic=` says how often the generator has its turn, `model.ema=` has the
weight averages. For DCGAN's networks, minibatch discrimination and standard deviation are
`model.discriminator.minibatch=`, and virtual batch norm is `model.generator.reference_batch=`.

A technique is a short class in `src/gan_experiments/techniques/` and a file in `conf/technique/`. Printed by
`python benchmarks/techniques.py`: each ✓ was trained for two batches beside the model's own techniques, the numbers are
what the check, or the making of the model, says in place of a training.
"""


class Column:
    """A variant, and what all of its cells share: a small config without a fault, and two batches of its data.

    A choice changes neither the networks' own arguments nor the data, so that these fit together is looked at once.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.model = model
        self.cfg = small(folder, model, "data.batch_size=2")
        self.cfg.model.ema = {}  # copies that no choice looks at, dear to make
        check.require(self.cfg)
        data = build.make(self.cfg.data)
        data.prepare_data()
        data.setup("fit")
        self.batches = list(batches_of(data, 2))
        self.networks: dict[str, Any] = {}

    def cells(self) -> dict[str, list[str]]:
        """Why each choice makes no sense on the variant; an empty list where it has trained two batches."""
        return {choice: self.cell(group, choice) for group, choice in CHOICES}

    def cell(self, group: str, choice: str) -> list[str]:
        """The reasons of one choice."""
        cfg = copy.deepcopy(self.cfg)
        OmegaConf.set_struct(cfg, False)
        node: Any = OmegaConf.load(REPOSITORY / "conf" / group / f"{choice}.yaml")
        if group == "technique":  # beside the variant's own
            cfg.technique = OmegaConf.merge(cfg.technique, node)
        else:
            cfg[group] = node
        shrink(cfg)
        OmegaConf.resolve(cfg)  # once, for all that reads it
        typed = {"model": self.model, group: choice}
        with mock.patch.multiple(check, _choice=typed.get, _fit_together=lambda *_: (), on_meta=self.on_meta):
            reasons = [*check.faults(cfg)]
        if not reasons:
            try:
                self._train(build.build_model(cfg))
            except ConfigError as error:  # what only the weights themselves can tell
                reasons = [*error.faults]
        return [in_general(reason, self.model, cfg) for reason in reasons]

    def on_meta(self, node: DictConfig, **networks: Any) -> Any:
        """Networks of equal arguments are made once and copied."""
        if networks:
            return on_meta(node, **networks)
        key = OmegaConf.to_yaml(node)
        if key not in self.networks:
            self.networks[key] = on_meta(node)
        return copy.deepcopy(self.networks[key])

    def _train(self, module: AdversarialModule) -> None:
        drive(module, self.batches)
        module.require_finite()


def in_general(reason: str, model: str, cfg: DictConfig) -> str:
    """A reason without what its place in the matrix tells: the choice, the variant, the classes of its parts."""
    reason = re.sub(r"^(technique|augment)=\w+: ", "", reason).replace(f"model={model} ", "the model ")
    for part, node in (("loss", cfg.loss), ("discriminator", cfg.model.discriminator)):
        reason = re.sub(rf"^{node._target_.rpartition('.')[2]} ", f"the {part} ", reason)
    return reason


def batches_of(data: Any, n: int) -> Iterator[Batch]:
    """The first n batches of a module of data that is set up, as Lightning would hand them to a model."""
    for raw in islice(data.train_dataloader(), n):
        yield data.on_after_batch_transfer(raw, 0)


def drive(module: AdversarialModule, batches: Iterable[Batch]) -> None:
    """Carry out training steps without a Trainer, as on one device; the generator's is in each of them."""
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    if isinstance(module, NoiseToImage):
        module.n_critic = 1
    wrapped = [_Wrapped(optimizer) for optimizer in module.configure_optimizers()]
    module.optimizers = lambda: wrapped  # type: ignore[method-assign, assignment, misc]
    module.on_fit_start()
    module.train()
    for index, batch in enumerate(batches):
        module.training_step({key: rows for key, rows in batch.items() if key in module.needs}, index)


class _Wrapped:
    """An optimizer with as much of Lightning's wrapper as the engine asks for."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self, closure: Callable[[], Any]) -> None:
        closure()
        self.optimizer.step()


# ------------------------------------------------------------------------------------------ docs/techniques.md

PAGE = REPOSITORY / "docs" / "techniques.md"


def page(columns: Mapping[str, Mapping[str, list[str]]]) -> str:
    """The matrix as Markdown: `columns` are the cells of each variant by choice."""
    found = (reason for _, choice in CHOICES for cells in columns.values() for reason in cells[choice])
    numbers = {reason: number for number, reason in enumerate(dict.fromkeys(found), start=1)}
    lines = [HEAD, f"| | {' | '.join(f'`{model}`' for model in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for group, choice in CHOICES:
        marks = [", ".join(str(numbers[reason]) for reason in cells[choice]) or MARK for cells in columns.values()]
        typed = f"[{choice}]" if group == "technique" else choice
        lines.append(f"| `{group}={typed}` | {' | '.join(marks)} |")
    lines += ["", *(f"{number}. {reason}" for reason, number in numbers.items()), ""]
    return "\n".join(lines)


def read_page() -> dict[str, dict[str, list[str]]]:
    """The cells of each variant, as the page has them."""
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| |"))
    table = [[word.strip() for word in line.strip("|").split("|")] for line in lines[start:] if line.startswith("| ")]
    numbered = (line.partition(". ") for line in lines[start + len(table) + 1 :] if line)
    reasons = {number: reason for number, _, reason in numbered}
    choices = [row[0].strip("`").partition("=")[2].strip("[]") for row in table[1:]]
    marks = {choice: row[1:] for choice, row in zip(choices, table[1:], strict=True)}
    return {
        model.strip("`"): {
            choice: [reasons[number] for number in row[column].split(", ") if number != MARK]
            for choice, row in marks.items()
        }
        for column, model in enumerate(table[0][1:])
    }
