"""Every technique on every variant at its smallest: a cell trains two batches, or is refused with a reason.

Used by tests/test_techniques.py, and by benchmarks/techniques.py, which prints docs/techniques.md. A new file in
conf/technique/, conf/loss/, conf/augment/ or conf/model/ is in both at once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from support import MODELS, REPOSITORY, shrink, small
from torch.optim import Optimizer

from gan_experiments import build, check
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine import AdversarialModule
from gan_experiments.models.noise_to_image import NoiseToImage

GROUPS = {"technique": "techniques", "loss": "loss", "augment": "augment"}  # each with the model's key that reads it
VARIANTS = [model for model in MODELS if model != "cyclegan"]
CHOICES = [
    (group, path.stem)
    for group in GROUPS
    for path in sorted((REPOSITORY / "conf" / group).glob("*.yaml"))
    if path.stem not in ("none", "least_squares_cyclegan")
]


MARK = "✓"
HEAD = """# Techniques

`technique=[r1,lecam]` adds to any model of the noise-to-image family, whichever it is, and in place of the techniques
that the model brings with it; `technique=none` takes those away. Their constants: `technique.r1.gamma=1`. So do `loss=`
and `augment=`. Some techniques are choices elsewhere: two learning rates (TTUR) are `model.optimizers.generator.lr=` and
`model.optimizers.discriminator.lr=`, `model.n_critic=` says how often the generator has its turn, `model.ema=` has the
weight averages; minibatch discrimination and standard deviation are `model.discriminator.minibatch=` of DCGAN's networks,
virtual batch norm `model.generator.reference_batch=`. `technique.r1.every=16` is lazy regularisation.

A technique is a short class in `src/gan_experiments/techniques/` and a file in `conf/technique/`. Printed by
`python benchmarks/techniques.py`: each ✓ was trained for two batches beside the model's own techniques, each number is
what the check says in place of a training.
"""


def variant(model: str, folder: Path) -> DictConfig:
    """The small config that all cells of a column are made from."""
    return small(folder, model, "data.batch_size=4")


def cell(base: DictConfig, group: str, choice: str) -> str | None:
    """Why the choice makes no sense on a variant; None where it has trained two batches."""
    cfg = copy.deepcopy(base)
    OmegaConf.set_struct(cfg, False)
    node: Any = OmegaConf.load(REPOSITORY / "conf" / group / f"{choice}.yaml")
    if group == "technique":  # beside the variant's own
        cfg.technique = OmegaConf.merge(cfg.technique, node)
    else:
        cfg[group] = node
    shrink(cfg)
    OmegaConf.resolve(cfg)  # once, for all that reads it
    reasons = [*check.faults(cfg)]
    if reasons:
        return "; ".join(reasons)
    two_batches(cfg)
    return None


def two_batches(cfg: DictConfig) -> AdversarialModule:
    """Train without a Trainer, and see that what is logged and all weights are finite."""
    module, data = build.build_model(cfg), build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    drive(module, data)
    module.require_finite()
    return module


def drive(module: AdversarialModule, data: Any, batches: int = 2) -> None:
    """Carry out training steps, as Lightning would on one device; the generator's is in each of them."""
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    if isinstance(module, NoiseToImage):
        module.n_critic = 1
    wrapped = [_Wrapped(optimizer) for optimizer in module.configure_optimizers()]
    module.optimizers = lambda: wrapped  # type: ignore[method-assign, assignment, misc]
    module.on_fit_start()
    module.train()
    for index, raw in zip(range(batches), data.train_dataloader(), strict=False):
        batch: Batch = data.on_after_batch_transfer(raw, 0)
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


def page(columns: Mapping[str, Mapping[str, str | None]]) -> str:
    """The matrix as Markdown: `columns` are the cells of each variant by choice."""
    reasons = list(dict.fromkeys(reason for cells in columns.values() for reason in cells.values() if reason))
    lines = [HEAD, f"| | {' | '.join(f'`{model}`' for model in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for group, choice in CHOICES:
        marks = [
            MARK if (reason := cells[choice]) is None else str(reasons.index(reason) + 1) for cells in columns.values()
        ]
        typed = f"[{choice}]" if group == "technique" else choice
        lines.append(f"| `{group}={typed}` | {' | '.join(marks)} |")
    lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)), ""]
    return "\n".join(lines)


def read_page() -> dict[str, dict[str, str | None]]:
    """The cells of each variant, as the page has them."""
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| |"))
    table = [[word.strip() for word in line.strip("|").split("|")] for line in lines[start:] if line.startswith("| ")]
    numbered = (line.partition(". ") for line in lines[start + len(table) + 1 :] if line)
    reasons: dict[str, str | None] = {MARK: None} | {number: reason for number, _, reason in numbered}
    choices = [row[0].strip("`").partition("=")[2].strip("[]") for row in table[1:]]
    return {
        model.strip("`"): {choice: reasons[row[column]] for choice, row in zip(choices, table[1:], strict=True)}
        for column, model in enumerate(table[0][1:], start=1)
    }
