"""The signs by numbers made by hand; what a run does that shows one."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from support import GENERATIVE, Grey, Variant, compose, difference, run, shrink, small, train

from gan_experiments.assembly import build, check
from gan_experiments.callbacks import health
from gan_experiments.callbacks.health import Health, TrainingUnhealthy
from gan_experiments.contracts import ConfigError, NotFinite
from gan_experiments.kinds import IMAGE
from gan_experiments.runs import resume

CHANCE = 2 * math.log(2)
LOSS, NORM = "discriminator/adversarial", "gradient_norm/generator"


# ------------------------------------------------------------------------------------------ the signs


def test_saturated() -> None:
    assert health.discriminator_saturated({LOSS: 0.02}, CHANCE) is None
    said = health.discriminator_saturated({LOSS: 0.01}, CHANCE)
    assert said == "the discriminator is saturated: discriminator/adversarial is 0.01, and 1.4 at chance"
    two = {"discriminator/adversarial_a": 0.3, "discriminator/adversarial_b": 0.0, "generator/adversarial_ab": 0.0}
    assert "adversarial_b is 0" in str(health.discriminator_saturated(two, 0.5))
    assert health.discriminator_saturated({"discriminator/gradient_penalty": 0.0}, CHANCE) is None


def test_vanished_and_exploded() -> None:
    usual = {"generator": 10.0, "discriminator": 1.0}
    assert health.gradient_vanished({"generator": 0.5, "discriminator": 0.0}, usual) is None
    assert "generator has vanished: its norm is 0.01, and was 10" in str(
        health.gradient_vanished({"generator": 0.01}, usual)
    )
    assert health.gradient_exploded({"generator": 200.0, "discriminator": 20.0}, usual) is None
    assert "discriminator explodes: its norm is 60, and was 1 at the start" in str(
        health.gradient_exploded({"generator": 1.0, "discriminator": 60.0}, usual)
    )
    assert health.gradient_vanished({"generator": 0.0}, {}) is None
    assert health.gradient_exploded({"generator": 1e9}, {}) is None


def test_twins() -> None:
    share = lambda samples, of: health.share_of_twins(IMAGE.vectors(samples), IMAGE.vectors(of))  # noqa: E731
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(64, 1, 16, 16, generator=generator)
    assert share(torch.rand(64, 1, 16, 16, generator=generator), real) == 0
    one, eight = real[:1].expand(64, -1, -1, -1), real[:8].repeat(8, 1, 1, 1)
    noise = 0.01 * torch.randn(real.shape, generator=generator)
    assert share(one + noise, real) == 1
    assert share(eight + noise, real) == 1
    assert torch.equal(health._distinct(torch.cat([eight, real])), real)
    half = torch.cat([one[:24], real[24:]])
    assert share(half, real) == pytest.approx(24 / 64)
    assert health.modes_collapsed(24 / 64) is None
    assert health.modes_collapsed(0.9) == "the samples have collapsed: 90% of them have a twin"


@pytest.mark.parametrize(
    ("model", "chance"),
    [
        ("dcgan", CHANCE),
        ("dcgan loss=hinge", 2.0),
        ("dcgan loss=least_squares", 0.5),
        ("cyclegan", 0.5),
        ("wgan_gp", 0),
    ],
)
def test_the_loss_at_chance(model: str, chance: float, tmp_path: Path) -> None:
    module = build.build_model(small(tmp_path / "run", *model.split()))
    assert health.loss_at_chance(module) == pytest.approx(chance)


# ------------------------------------------------------------------------------------------ patience


class Looks:
    """A Health that is shown numbers, without a training."""

    def __init__(self, **settings: Any) -> None:
        self.health = Health(every=0, **settings)
        self.health._chance = CHANCE
        self.module: Any = SimpleNamespace(
            images_seen=0,
            stage=0,
            rate_factor=1.0,
            run=SimpleNamespace(
                config={
                    "loss": {"_target_": "losses.Minimax"},
                    "model": {
                        "augment": {},
                        "clip_grad_norm": None,
                        "optimizers": {"generator": {"lr": 2e-4}, "discriminator": {"lr": 1e-4}},
                    },
                }
            ),
        )
        self.trainer: Any = SimpleNamespace(is_global_zero=True, loggers=[self], callbacks=[])
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def __call__(self, **numbers: float) -> None:
        self.module.images_seen += 100
        named = {{"loss": LOSS, "norm": NORM}[name]: value for name, value in numbers.items()}
        seen = self.health._read(named, self.module.stage)
        self.health._look(self.trainer, self.module, seen, self.health._discriminator_fooled(named))


def test_said_once_after_patience_and_again_after_it_was_gone(caplog: pytest.LogCaptureFixture) -> None:
    look = Looks(patience=3)
    for loss in (0.001, 0.001, 0.5, 0.001, 0.001):  # a dip is no alarm
        look(loss=loss)
    assert caplog.messages == []
    look(loss=0.001)
    line = (
        "health: the discriminator is saturated: discriminator/adversarial is 0.001, and 1.4 at chance,"
        " after 600 images; what usually helps: model.optimizers.discriminator.lr=5e-05 or augment=diffaugment"
    )
    assert caplog.messages == [line]
    for loss in (0.001, 0.001, 0.5, 0.001, 0.5, 0.5):
        look(loss=loss)
    assert caplog.messages == [line]
    look(loss=0.5)
    assert caplog.messages[1:] == ["health: no longer saturated after 1,300 images"]
    for _ in range(3):
        look(loss=0.001)
    assert len(caplog.messages) == 3
    assert look.logged == [(n, {"health/saturated": on}) for n, on in ((600, 1.0), (1300, 0.0), (1600, 1.0))]


def test_looks_over_few_batches_must_be_many() -> None:
    assert [Health(patience=3).looks_needed(log_every) for log_every in (1, 5, 20, 50, 500)] == [150, 30, 8, 3, 3]


def test_a_gradient_is_compared_with_what_was_usual(caplog: pytest.LogCaptureFixture) -> None:
    look = Looks(patience=2)
    for norm in (10.0, 1.0, 0.5, 0.4, 0.4, 0.4, math.inf, 0.4, 0.4):  # an overflow of fp16 is no explosion
        look(norm=norm)
    assert caplog.messages == []
    look(norm=0.02)
    look(norm=0.02, loss=1.0)
    assert "generator has vanished: its norm is 0.02, and was 10" in caplog.messages[0]
    assert caplog.messages[0].endswith("loss=non_saturating or model.optimizers.discriminator.lr=5e-05")
    for _ in range(150):  # what is wrong does not become usual
        look(norm=0.02)
    assert look.health.on["vanished"]
    look(norm=900.0)
    look(norm=900.0)
    assert "explodes: its norm is 9e+02, and was 10 at the start" in caplog.messages[2]
    assert "model.clip_grad_norm=1" in caplog.messages[2]


def test_networks_that_have_grown_are_compared_with_themselves(caplog: pytest.LogCaptureFixture) -> None:
    look = Looks(patience=1)
    look(norm=600.0)
    look.module.stage = 1
    for norm in (4.0, 3.0):
        look(norm=norm)
    assert caplog.messages == []
    look(norm=0.01)
    assert "generator has vanished: its norm is 0.01, and was 4," in caplog.messages[0]


def test_a_discriminator_that_believes_the_fakes_is_not_slowed_down(caplog: pytest.LogCaptureFixture) -> None:
    look = Looks(patience=1)
    look(norm=1.0, loss=1.0)
    look(norm=0.001, loss=3.0)
    assert "or model.optimizers.generator.lr=0.0001" in caplog.messages[0]


def test_stop() -> None:
    look = Looks(patience=2, action="stop")
    look(loss=0.001)
    with pytest.raises(TrainingUnhealthy, match=r"saturated.* after 200 images; what usually helps"):
        look(loss=0.001)


def test_what_a_resumed_run_needs_is_in_the_state() -> None:
    one, two = Looks(), Looks()
    for norm in (1.0, 2.0, 0.001):
        one(norm=norm)
    two.health.load_state_dict(one.health.state_dict())
    assert two.health.state_dict() == one.health.state_dict()
    assert two.health.count["vanished"] == 1
    two.health.gone_back = 2
    two.health.load_state_dict(one.health.state_dict())
    assert two.health.gone_back == 2


@pytest.mark.parametrize("settings", [{"action": "bakc"}, {"back_rate": 0.0}, {"back_rate": 2.0}, {"patience": 0}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"callbacks\.health"):
        Health(**settings)


def test_going_back_needs_checkpoints(tmp_path: Path) -> None:
    cfg = _config(tmp_path, "callbacks.health.action=back", "~callbacks.checkpoints")
    with pytest.raises(ConfigError, match=r"needs callbacks\.checkpoints"):
        build.build(cfg)


# ------------------------------------------------------------------------------------------ in a run

HOPELESS = ("model.optimizers.discriminator.lr=1e30", "callbacks.health.action=back")
WORDS = ("callbacks.checkpoints.every=256", "callbacks.health.every=128", "callbacks.health.patience=2")


def _config(folder: Path, *overrides: str) -> Any:
    words = ["callbacks=default", "metrics=none", "logger=csv", "trainer.log_every=2", *WORDS, *overrides]
    cfg = shrink(compose(folder, "images=1280", *words))
    check.require(cfg)
    return cfg


class Fault(L.Callback):
    """Fails at 896 images with whatever failure, unless the run has gone back; asks to stop at `stop` images."""

    def __init__(self, failure: type[Exception], stop: int = 0) -> None:
        self.failure, self.stop = failure, stop

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
        if module.images_seen == 896 and module.rate_factor == 1:
            raise self.failure("a fault made on purpose")
        if module.images_seen == self.stop and module.rate_factor < 1:
            trainer.should_stop = True


def _train(cfg: Any, fault: Fault, checkpoint: Path | None = None) -> dict[str, Any]:
    cfg.ckpt = str(checkpoint) if checkpoint else None
    parts = build.build(cfg)
    parts.trainer.callbacks.insert(2, fault)  # type: ignore[attr-defined]
    with parts.opened():
        parts.train(checkpoint)
    return resume.load(Path(cfg.output) / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize("failure", [TrainingUnhealthy, NotFinite])
def test_a_run_that_went_back_and_was_killed_ends_like_one_that_was_not(
    failure: type[Exception], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["callbacks.health.action=back"]
    whole = _train(_config(tmp_path / "whole", *words), Fault(failure))
    assert whole["gan_experiments"]["images_seen"] == 1280
    assert whole["gan_experiments"]["rate_factor"] == 0.5
    assert whole["gan_experiments"]["reseeded"] == 1
    assert (
        "health: back to good.ckpt, try 1 of 3: learning rates times 0.5, draws of another seed (1)" in caplog.messages
    )
    stopped = _train(_config(tmp_path / "cut", *words), Fault(failure, stop=1088))
    assert stopped["gan_experiments"]["images_seen"] == 1088
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    ends = [whole, _train(_config(tmp_path / "cut", *words), Fault(failure), last)]
    for end in ends:
        end["gan_experiments"].pop("config")
    assert difference(*ends) == {}
    for folder in ("whole", "cut"):
        with (tmp_path / folder / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["D(real)"]]
        assert [int(row["images"]) for row in rows] == list(range(128, 1281, 128))
        rates = [float(row["learning_rate/generator"]) for row in rows]
        assert rates == [2e-4] * 4 + [1e-4] * 6  # from the checkpoint at 512 images on
        assert not list((tmp_path / folder / "checkpoints").glob("*.tmp"))


@pytest.mark.parametrize("model", GENERATIVE)
def test_the_samples_of_every_variant_are_looked_at(model: str, variants: Callable[[str], Variant]) -> None:
    """Said once where all samples are alike, whatever they are."""
    variant = variants(model)
    assert len([line for line in variant.said if "the samples have collapsed: 100%" in line]) == 1, variant.said
    assert variant.health.on["collapsed"]


def test_samples_that_are_alike_in_the_beginning_are_no_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = small(tmp_path / "early", "dcgan")
    looking = Health(every=cfg.data.batch_size, warm_up=1_000_000, patience=2)
    train(cfg, extra=[Grey(), looking])
    assert not any("collapsed" in line for line in caplog.messages)
    assert not looking.on["collapsed"]


def test_good_is_the_checkpoint_that_was_followed_by_looks_without_a_trace(tmp_path: Path) -> None:
    cfg = _config(tmp_path / "run")
    build.build(cfg).train(None)
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", "good.ckpt"}
    good = resume.load(folder / "good.ckpt")["gan_experiments"]["images_seen"]
    assert good == 1024


def test_a_run_that_stops_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    cfg = _config(tmp_path / "run", "callbacks.health.action=stop")
    with pytest.raises(TrainingUnhealthy, match="on purpose"):
        _train(cfg, Fault(TrainingUnhealthy))
    assert resume.load(tmp_path / "run" / "checkpoints" / "last.ckpt")["gan_experiments"]["images_seen"] == 768


def test_another_failure_is_no_reason_to_go_back(tmp_path: Path) -> None:
    cfg = _config(tmp_path / "run", "callbacks.health.action=back")
    with pytest.raises(OSError, match="on purpose"):
        _train(cfg, Fault(OSError))


def test_two_ranks_go_back_to_the_start_together_and_give_up_together(tmp_path: Path) -> None:
    """A learning rate that explodes at once: by the start's checkpoint and a rate that helps; and one that does not."""
    words = ["model.generator.width=4", "model.discriminator.width=4", "metrics.num_fake=200", "metrics=none"]
    words = [word for word in words if "num_fake" not in word]
    words += ["trainer=ddp_cpu", "logger=csv", "trainer.log_every=2", "images=640", *HOPELESS]
    done = run(*words, "callbacks.health.back_rate=1e-33", "hydra.run.dir=r", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "r" / "run.log").read_text()
    assert said.count("health: the term 'adversarial'") == 1
    assert "what usually helps: model.clip_grad_norm=1 or model.optimizers.discriminator.lr=5e+29" in said
    assert said.count("back to good.ckpt, try 1 of 3") == 1
    state = resume.load(tmp_path / "r" / "checkpoints" / "last.ckpt")["gan_experiments"]
    assert (state["images_seen"], state["reseeded"]) == (640, 1)
    broken = run(*words, "callbacks.health.tries=1", "hydra.run.dir=s", folder=tmp_path)
    assert broken.returncode == 1
    assert broken.stderr.strip().splitlines()[-1].startswith("the term 'adversarial' of the phase ")
    assert "Traceback" not in broken.stderr
