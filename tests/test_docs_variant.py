"""docs/new_variant.md: its variant trains to the weights of its loop by hand; its excerpt is of the source."""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from support import REPOSITORY, difference, run, small, train
from torch import Tensor

from gan_experiments.assembly import build
from gan_experiments.models import wgan_gp

PAGE = (REPOSITORY / "docs" / "new_variant.md").read_text()
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]


def test_the_variant_trains_as_the_loop_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (config,) = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
    module = ModuleType(config["_target_"].rpartition(".")[0])
    exec(next(text for text in PYTHON if "class PlainGAN" in text), vars(module))
    monkeypatch.setitem(sys.modules, "mine", ModuleType("mine"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    cfg = small(tmp_path, config.pop("defaults")[0], "images=8")
    OmegaConf.set_struct(cfg, False)
    cfg.model.update(config)
    ours, hand = train(cfg), build.build_model(cfg)
    data = build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    rows = [data.on_after_batch_transfer(raw, 0)["real"] for raw, _ in zip(data.train_dataloader(), "ab", strict=False)]
    loop: dict[str, Any] = {}
    exec(next(text for text in PYTHON if "def train" in text), loop)

    def drawn(*shape: int) -> Tensor:
        """The engine's noise of a batch, in place of the script's."""
        hand._seed_draws("discriminator")
        hand.batches += 1
        return torch.randn(*shape, generator=hand._rng)

    loop["torch"] = SimpleNamespace(optim=torch.optim, ones=torch.ones, zeros=torch.zeros, randn=drawn)
    loop["train"](hand.generator, hand.discriminator, rows, hand.latent_dim)
    for name in ("generator", "discriminator"):
        off = difference(dict(getattr(ours, name).state_dict()), dict(getattr(hand, name).state_dict()))
        assert max(off.values(), default=0) < 1e-6


def test_the_files_of_the_page_are_a_model_of_a_persons_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command of the page, in a folder that is on Python's path."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (code,), (config,) = ([text for _, text in BLOCKS if word in text] for word in ("class PlainGAN", "PlainGAN\n"))
    (tmp_path / "mine" / "losses.py").write_text(code)
    (tmp_path / "mine" / "model" / "plain_gan.yaml").write_text(config)
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = re.findall(r"^PYTHONPATH=. gan-experiments (.*)$", PAGE, re.MULTILINE)
    words = ["images=8", "data.batch_size=4", "data.limit=64", "metrics=none", "logger=csv", "hydra.run.dir=r"]
    done = run(*shlex.split(line), *words, "model.generator.width=4", "model.discriminator.width=4", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = run("run=r", "n=4", "trust=mine.losses", verb="sample", folder=tmp_path)
    assert drawn.returncode == 0, drawn.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/new_variant.md"])
def test_the_excerpt_is_of_the_source(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
    (excerpt,) = [text for text in blocks if "class WGANGP" in text]
    source = inspect.getsource(wgan_gp).replace("update: PlayerUpdate", "update").replace(" -> dict[str, Tensor]", "")
    assert {line.strip() for line in excerpt.splitlines()} <= {line.strip() for line in source.splitlines()}
