"""Every technique on every variant at its smallest: a cell trains two batches, or is refused with a reason.

Used by tests/test_techniques.py, and by benchmarks/techniques.py, which prints docs/techniques.md. A new file in
conf/technique/, conf/loss/, conf/augment/ or conf/model/ is in both at once.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import yaml
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from support import GENERATIVE, MODELS, REPOSITORY, SMALL, model_class, small
from torch import Tensor
from torch.optim import Optimizer

from gan_experiments.assembly import build, check
from gan_experiments.assembly.check import on_meta
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.models.technique import Technique

GROUPS = ("technique", "loss", "augment")
VARIANTS = [model for model in MODELS if issubclass(model_class(model), NoiseToImage)]
TRANSLATORS = [
    model for model in GENERATIVE if model not in (*VARIANTS, "context_encoder_random", "rrdb_psnr")
]  # these two are others with other networks
ALIKE = (
    *("least_squares_cyclegan", "least_squares_bicyclegan"),
    *("r1_auto", "r1_cifar", "r1_eg3d", "r1_paper256", "r1_pi_gan", "r1_volumes", "top_k_pi_gan"),
)
"""Choices that differ from others by constants alone."""
CHOICES = [
    (group, path.stem)
    for group in GROUPS
    for path in sorted((REPOSITORY / "conf" / group).glob("*.yaml"))
    if path.stem not in ("none", *ALIKE)
]


TECHNIQUES = [choice for group, choice in CHOICES if group == "technique"]
TELLING: dict[str, dict[str, Any]] = {
    "adaptive_balance": {"limit": 0.0},
    "critic_schedule": {"steps": 3},
    "freeze_d": {"layers": 1},
    "lecam": {"start": 0},
    "top_k": {"decay": 0.5, "every": 1},
}
"""Constants by which a technique shows in two batches."""
MARK = "✓"


@functools.cache
def file_of(group: str, choice: str) -> Any:
    """The contents of a config file."""
    return OmegaConf.to_container(OmegaConf.load(REPOSITORY / "conf" / group / f"{choice}.yaml"))


class Column:
    """A variant, and what all of its cells share: a small config without a fault, and two batches of its data.

    A choice changes neither the networks' own arguments nor the data, so that these fit together is looked at once.
    """

    def __init__(self, model: str, folder: Path, batch_size: int = 2) -> None:
        self.model = model
        self.cfg = small(folder, model, f"data.batch_size={batch_size}")
        self.cfg.model.ema = {}  # copies that no choice looks at, dear to make
        check.require(self.cfg)
        data = build.make(self.cfg.data)
        data.prepare_data()
        data.setup("fit")
        self.batches = list(batches_of(data, 2))
        OmegaConf.set_struct(self.cfg, False)
        self.saved = pickle.dumps(self.cfg)  # is opened in a tenth of the time that making a config takes
        self.networks: dict[str, Any] = {}

    def cells(self) -> dict[str, list[str]]:
        """Why each choice makes no sense on the variant; an empty list where it has trained two batches.

        Choices are trained together where one does not hide what another does.
        """
        found = {choice: self.reasons(group, choice) for group, choice in CHOICES}
        left = trials([(group, choice) for group, choice in CHOICES if not found[choice]])
        while left:
            trial = left.pop()
            try:
                self.train(*trial)
            except ConfigError as error:  # what only the weights themselves can tell, or two choices of each other
                if len(trial) > 1:
                    left += [[choice] for choice in trial]
                    continue
                ((group, choice),) = trial
                found[choice] = self.in_general(error.faults, group, choice)
        return found

    def alone(self, choice: str) -> list[str]:
        """Why a technique makes no sense on the variant, and a mark where it trains and changes what is learnt.

        What a reason says to type about the discriminators is typed: then there is both.
        """
        group = "technique"
        reasons = self.reasons(group, choice)
        words: tuple[str, ...] = ()
        if reasons and all(" has batch norm" in reason for reason in reasons):
            words = tuple(re.findall(r"type (model\.\S+)", " ".join(reasons)))
            assert not self.reasons(group, choice, words)
        elif reasons:
            return reasons
        after, before = self.train((group, choice), words=words), self.without(words)
        idle = [
            name for name, rows in after._history.items() if name.endswith(f"/{choice}") and not any(v for _, v in rows)
        ]
        later = any(node.get("interval", 1) > len(self.batches) for node in file_of(group, choice).values())
        assert (
            idle or later or any(not torch.equal(*pair) for pair in zip(weights(before), weights(after), strict=True))
        )
        return [*reasons, MARK]

    @functools.cache  # noqa: B019
    def without(self, words: tuple[str, ...]) -> AdversarialModule:
        """The variant after two batches without a further technique."""
        return self.train(words=words)

    @functools.cache  # noqa: B019
    def configured(self, *choices: tuple[str, str], words: tuple[str, ...] = ()) -> DictConfig:
        """The variant's config with some choices, techniques beside its own."""
        cfg = pickle.loads(self.saved)
        for group, choice in choices:
            node = copy.deepcopy(file_of(group, choice))
            if group == "technique":
                for name, technique in node.items():
                    cfg.technique[name] = {**cfg.technique.get(name, {}), **technique}
            else:
                cfg[group] = node
        for name, technique in cfg.technique.items():
            technique.update({key: min(technique[key], SMALL[key]) for key in SMALL if technique.get(key)})
            technique.update(TELLING.get(name, {}))
            if (technique.get("every") or 1) > 1:
                technique["every"] = 2  # a lazy one comes in two batches too
        for word in words:
            OmegaConf.update(cfg, word.partition("=")[0], yaml.safe_load(word.partition("=")[2]))
        OmegaConf.resolve(cfg)
        return cfg  # type: ignore[no-any-return]

    def reasons(self, group: str, choice: str, words: tuple[str, ...] = ()) -> list[str]:
        """What the check says of a choice, looking at what a choice can change alone."""
        cfg = self.configured((group, choice), words=words)
        nothing: Callable[..., tuple[str, ...]] = lambda *_: ()  # noqa: E731
        arguments, options = check._arguments, SimpleNamespace(**vars(check.options))
        options.faults = options.missing = nothing
        patches: dict[str, Any] = dict.fromkeys(SETTLED, nothing)
        patches["options"], patches["on_meta"] = options, self.on_meta
        patches["_choice"] = {"model": self.model, group: choice}.get
        patches["_arguments"] = lambda cfg, computed: arguments(OmegaConf.create({group: cfg[group]}), computed)
        with mock.patch.multiple(check, **patches):
            return self.in_general([*check.faults(cfg)], group, choice)

    def in_general(self, faults: Iterable[str], group: str, choice: str) -> list[str]:
        cfg = self.configured((group, choice), words=())
        return [in_general(fault, self.model, cfg) for fault in faults]

    def on_meta(self, node: DictConfig, **networks: Any) -> Any:
        """Networks of equal arguments are made once, and copied where a technique changes them."""
        if networks:
            changed = any("SpectralNorm" in technique._target_ for technique in node.techniques.values())
            own = {name: copy.deepcopy(network) if changed else network for name, network in networks.items()}
            return on_meta(node, **own)
        key = json.dumps(OmegaConf.to_container(node, resolve=True))
        if key not in self.networks:
            self.networks[key] = on_meta(node)
        return self.networks[key]

    def train(self, *choices: tuple[str, str], words: tuple[str, ...] = ()) -> AdversarialModule:
        """The variant after two batches, all of it finite."""
        module = build.build_model(self.configured(*choices, words=words))
        module.configure_model()
        drive(module, self.batches)
        module.require_finite()
        return module


def weights(module: AdversarialModule) -> list[Tensor]:
    """The parameters of all networks."""
    return [parameter for name in module.network_names for parameter in getattr(module, name).parameters()]


SETTLED = ("_groups", "_unknown_keys", "_names", "_numbers", "_kind_of_data", "_optimizers", "_fit_together")
"""What the check says of a variant whatever the choice."""
APART = ("spectral_norm", "feature_matching")
"""Techniques that change what the others look at."""


def trials(accepted: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """What is trained together: techniques that leave the players, the losses and the layers; one of all other groups.

    Of those other groups, and of techniques of one name, a trial has one each.
    """
    together: dict[str, tuple[str, str]] = {}
    resting, others = [], []
    alone: dict[str, list[tuple[str, str]]] = {"technique": [], "loss": [], "augment": []}
    for group, choice in accepted:
        if group != "technique" or choice in APART:
            alone[group].append((group, choice))
            continue
        ((name, node),) = file_of(group, choice).items()
        kind: Any = get_class(node["_target_"])
        if kind.due is not Technique.due or kind.rests is not Technique.rests:
            resting.append((group, choice))
        elif name in together:
            others.append([(group, choice)])
        else:
            together[str(name)] = (group, choice)
    mixed = [[choice for choice in row if choice] for row in itertools.zip_longest(*alone.values())]
    return [trial for trial in ([*together.values()], resting, *others, *mixed) if trial]


def in_general(reason: str, model: str, cfg: DictConfig) -> str:
    """A reason without what its place in the matrix tells: the choice, the variant, the classes of its parts."""
    reason = re.sub(r"^(technique|augment)=\w+: ", "", reason).replace(f"model={model} ", "the model ")
    discriminators = [("discriminator", cfg.model[name]) for name in cfg.model if name.startswith("discriminator")]
    for part, node in (("loss", cfg.loss), *discriminators):
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
    """The page with both tables made anew: `columns` are the cells of each model by choice."""
    parts = re.split(r"(?m)^(?=\| \| )", PAGE.read_text())
    assert len(parts) == 3, "a text, a table, a text, a table"
    of_noise = {model: cells for model, cells in columns.items() if model in VARIANTS}
    of_images = {model: cells for model, cells in columns.items() if model in TRANSLATORS}
    between = "## " + parts[1].partition("\n## ")[2]
    return parts[0] + table(of_noise) + "\n" + between + table(of_images)


def table(columns: Mapping[str, Mapping[str, list[str]]]) -> str:
    """One table as Markdown, and the reasons by their numbers."""
    choices = [(group, choice) for group, choice in CHOICES if choice in next(iter(columns.values()))]
    said = [said for _, choice in choices for cells in columns.values() for said in cells[choice]]
    numbers = {reason: str(number) for number, reason in enumerate(dict.fromkeys(r for r in said if r != MARK), 1)}
    lines = [f"| | {' | '.join(f'`{model}`' for model in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for group, choice in choices:
        marks = [", ".join(numbers.get(said, MARK) for said in cells[choice]) or MARK for cells in columns.values()]
        typed = f"[{choice}]" if group == "technique" else choice
        lines.append(f"| `{group}={typed}` | {' | '.join(marks)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in numbers.items()), ""])


def read_page() -> dict[str, dict[str, list[str]]]:
    """The cells of each model, as the page has them."""
    found: dict[str, dict[str, list[str]]] = {}
    for part in re.split(r"(?m)^(?=\| \| )", PAGE.read_text())[1:]:
        lines = part.partition("\n## ")[0].splitlines()
        rows = [[word.strip() for word in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
        reasons = {number: reason for number, dot, reason in (line.partition(". ") for line in lines) if dot}
        for column, model in enumerate(rows[0][1:], start=1):
            cells = {row[0].strip("`").partition("=")[2].strip("[]"): row[column].split(", ") for row in rows[1:]}
            found[model.strip("`")] = {
                choice: [reasons.get(mark, mark) for mark in marks if mark != MARK or model.strip("`") in TRANSLATORS]
                for choice, marks in cells.items()
            }
    return found
