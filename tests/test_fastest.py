"""Precision and layout: what "auto" stands for, on this machine and for this model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from support import MODELS, run, small, train
from torch import nn

from gan_experiments.assembly import fastest
from gan_experiments.assembly.fastest import Setting
from gan_experiments.runs import configs, resume

AUTO = ["trainer.precision=auto", "trainer.channels_last=auto"]
LONG = "images=1_000_000"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without answers of other tests."""
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fastest"


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is no faster in bfloat16, so that what is chosen is the same on every machine."""
    monkeypatch.setattr(fastest, "computes_bfloat16", lambda _: False)


def chosen(times: dict[tuple[str, bool], float], monkeypatch: pytest.MonkeyPatch) -> tuple[str, bool]:
    """What is chosen of settings that take so long."""
    settings = [Setting(*setting, ms) for setting, ms in times.items()]
    monkeypatch.setattr(fastest, "_times", lambda *_: (settings, ""))
    found = fastest._measured(OmegaConf.create({"data": {"batch_size": 8}, "trainer": {"accumulate": 1}}), [])["found"]
    return found["precision"], found["channels_last"]


def test_the_fastest_is_chosen_if_it_is_so_by_more_than_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, last, half, both = (("32-true", False), ("32-true", True), ("bf16-mixed", False), ("bf16-mixed", True))
    for times, answer in (
        ({plain: 100, last: 90}, last),
        ({plain: 100, last: 98}, plain),
        ({plain: 100, last: 120, half: 95, both: 92}, plain),  # too little for another precision
        ({plain: 100, last: 90, half: 60, both: 50}, both),
        ({plain: 100, last: 120, half: 60, both: 70}, half),
        ({plain: 100, last: 80, half: 75, both: 78}, last),
        ({plain: 0.0}, plain),
        ({half: 100, both: 50}, both),
    ):
        assert chosen(times, monkeypatch) == answer, times


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("float32")
def test_every_model_is_asked(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layout is tried by real steps in every phase, and what was asked is remembered."""
    cfg = small(tmp_path / "run", model, *AUTO)
    steps: list[tuple[str, bool]] = []
    rounds = 2 if model == "dcgan" else 1
    monkeypatch.setattr(fastest, "REPEATS", 1)
    monkeypatch.setattr(fastest, "ROUNDS", rounds)
    monkeypatch.setattr(fastest, "ENOUGH", 1)
    trains = fastest.train_on_noise

    def counted(cfg: Any, *rest: Any) -> Any:
        steps.append((cfg.trainer.precision, cfg.trainer.channels_last))
        return trains(cfg, *rest)

    monkeypatch.setattr(fastest, "train_on_noise", counted)
    before = torch.random.get_rng_state()
    found = fastest.settled(cfg)
    assert torch.equal(before, torch.random.get_rng_state())
    convolutional = steps != []
    assert steps == ([("32-true", False), ("32-true", True)] * rounds if convolutional else [])
    assert found.trainer.precision == "32-true"
    assert isinstance(found.trainer.channels_last, bool)
    assert cfg.trainer.precision == "auto"
    again = fastest.settled(cfg)
    assert again.trainer == found.trainer
    assert len(steps) == (2 * rounds if convolutional else 0)
    (kept,) = (tmp_path / "cache" / "fastest").glob("*.json")
    assert found.trainer.chosen == json.loads(kept.read_text())["why"]


def test_bfloat16_is_tried_where_it_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "computes_bfloat16", lambda _: True)
    found = fastest.settled(small(tmp_path / "run", "dcgan", *AUTO, LONG))
    assert all(f"{setting} " in found.trainer.chosen for setting in ("32-true contiguous", "bf16-mixed channels last"))


def test_a_processor_is_asked_whether_it_computes_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 1, 0, 1, 0, 1, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0, 1, 0, 1, 0, 1])
    monkeypatch.setattr(fastest.time, "process_time", lambda: next(clock))
    assert not fastest.computes_bfloat16("cpu")
    assert fastest.computes_bfloat16("cpu")


class Flat(nn.Module):
    """A discriminator that does not take channels last, as many are written."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(1, 4, 4, 4), nn.Linear(4 * 8 * 8, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.convolution(images)
        return self.linear(maps.view(len(maps), -1)).squeeze(1)


@pytest.mark.usefixtures("float32")
def test_a_setting_that_fails_is_left_out(tmp_path: Path) -> None:
    """And if all do, the training itself says why."""
    cfg = small(tmp_path / "run", "dcgan", *AUTO, LONG)
    cfg.model.discriminator = {"_target_": f"{__name__}.Flat"}
    found = fastest.settled(cfg).trainer
    assert (found.precision, found.channels_last) == ("32-true", False)
    assert "; 32-true channels last fails (view size is not compatible" in found.chosen
    cfg = small(tmp_path / "run", "dcgan", *AUTO, LONG)
    cfg.model.discriminator = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 32}
    found = fastest.settled(cfg).trainer
    assert (found.precision, found.channels_last) == ("32-true", False)
    assert "32-true contiguous fails (" in found.chosen


def test_what_is_typed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small(tmp_path / "run", "dcgan", "trainer.precision=32-true", "trainer.channels_last=true", LONG)
    assert fastest.settled(cfg) is cfg
    cfg = small(tmp_path / "run", "dcgan", "trainer.precision=64-true", "trainer.channels_last=auto", LONG)
    found = fastest.settled(cfg)
    assert found.trainer.precision == "64-true"
    assert "64-true contiguous" in found.trainer.chosen
    assert "32-true" not in found.trainer.chosen


def test_exact_is_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And "auto" is TF32 and cuDNN's search on an NVIDIA GPU alone."""
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        exact, usual, cpu = (
            hydra.compose("run", [f"trainer={name}", "images=1"]) for name in ("exact", "default", "cpu")
        )
    assert fastest.settled(exact) is exact
    assert [exact.trainer[key] for key in resume.SETTLED] == ["32-true", False, False, False]
    assert [fastest.settled(usual).trainer[key] for key in resume.SETTLED[2:]] == [torch.cuda.is_available()] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [fastest.settled(usual).trainer[key] for key in resume.SETTLED[2:]] == [True, True]
    assert [fastest.settled(cpu).trainer[key] for key in resume.SETTLED[2:]] == [False, False]


@pytest.mark.usefixtures("float32")
def test_a_damaged_or_foreign_answer_is_asked_again(tmp_path: Path, cache: Path) -> None:
    cfg = small(tmp_path / "run", "dcgan", *AUTO, LONG)
    found = fastest.settled(cfg)
    (kept,) = cache.glob("*.json")
    for text in ("", "[]", '{"found": {"precision": "banana", "channels_last": true}, "why": ""}'):
        kept.write_text(text)
        assert fastest.settled(cfg).trainer.precision == "32-true"
        assert json.loads(kept.read_text())["why"]
    kept.write_text('{"found": {"precision": "bf16-mixed", "channels_last": true}, "why": "so"}')
    again = fastest.settled(cfg).trainer
    assert (again.precision, again.channels_last, again.chosen) == ("bf16-mixed", True, "so")
    rates = [f"model.optimizers.{player}.lr=0.5" for player in ("generator", "discriminator")]
    same = small(tmp_path / "run", "dcgan", *AUTO, "images=2_000_000", *rates, "data.limit=100", "seed=3")
    assert fastest.settled(same).trainer == again
    other = small(tmp_path / "run", "dcgan", *AUTO, LONG, "model.generator.width=3")
    assert fastest.settled(other).trainer.precision == found.trainer.precision  # another question


def test_a_run_goes_on_as_it_began(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine on which it goes on would choose."""
    cfg = small(tmp_path / "run", "dcgan", "trainer.channels_last=true", "images=8")
    cfg.trainer.chosen = "measured there"
    train(cfg, every=8)
    on = small(tmp_path / "run", "dcgan", *AUTO, LONG)
    on.ckpt = str(tmp_path / "run")
    found = fastest.settled(on).trainer
    assert (found.precision, found.channels_last, found.chosen) == ("32-true", True, "measured there")
    assert not cache.exists()


def test_a_run_of_an_earlier_version_has_not_changed() -> None:
    """It lacks the keys of later ones; what these are set to is a change only if it says something."""
    then = {"trainer.precision": "32-true", "trainer.channels_last": True}
    later = {"trainer.compile": [], "trainer.tf32": False, "trainer.chosen": "as the run began"}
    auto = {"trainer.precision": "auto", "trainer.channels_last": "auto", "trainer.tf32": "auto"}
    assert resume.changed(then | later, then) == []
    assert resume.changed(later | auto, then) == []
    now = then | {"trainer.compile": ["generator"], "trainer.channels_last": False}
    assert resume.changed(now, then) == ["trainer.channels_last", "trainer.compile"]


def test_a_run_says_what_was_chosen(tmp_path: Path) -> None:
    """At its start, in check=true and in its config."""
    narrow = ["model=dcgan", "model.generator.width=4", "model.discriminator.width=4", "trainer=cpu", "metrics=none"]
    narrow += ["callbacks=none", "logger=none", "data=digits", "data.batch_size=4", "images=400"]
    done = run(*narrow, "hydra.run.dir=here", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    saved = yaml.safe_load((tmp_path / "here" / "config.yaml").read_text())["trainer"]
    assert saved["precision"] in ("32-true", "bf16-mixed")
    assert saved["chosen"].startswith("measured here: 32-true contiguous ")
    assert f"{saved['precision']}, " in done.stdout + done.stderr
    assert saved["chosen"][:60] in (tmp_path / "here" / "run.log").read_text()
    done = run(*narrow, "check=true", folder=tmp_path)
    assert f"{saved['chosen']}" in done.stdout
    short = run(*narrow, "images=8", "hydra.run.dir=short", folder=tmp_path)
    assert "not measured for less than 100 steps" in short.stdout + short.stderr
