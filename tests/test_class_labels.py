"""The classes of fakes: in the proportions of the data wherever they are drawn, and said where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support import inherited, small, train
from torch import Tensor, nn

from gan_experiments.assembly import build, trained
from gan_experiments.comparison.read import Run, Scored
from gan_experiments.comparison.table import Setting, groups
from gan_experiments.conditions import Classes, Rows, classes_at
from gan_experiments.contracts import AS_THE_DATA, UNIFORM, ConfigError
from gan_experiments.data.cache import ImageArray
from gan_experiments.data.images import Digits
from gan_experiments.inference.run import Run as Drawing
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import DigitsExtractor
from gan_experiments.metrics.passports import unlike
from gan_experiments.models.dcgan import DCGAN
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.verbs import sample

LAW = {
    **dict.fromkeys(("pggan", "stylegan", "stylegan2", "cgan", "cdcgan"), "data"),
    **dict.fromkeys(("biggan", "biggan_deep", "sagan", "sngan_projection", "acgan"), "uniform"),
    **dict.fromkeys(("wgan_gp_conditional", "r3gan"), "batch"),
}
"""How each model's fakes get their classes in training, as its authors' code has it."""


class Perfect(nn.Module):
    """Draws digits that are real, of the class that it is asked for."""

    latent_dim = 1

    def __init__(self, images: ImageArray, rows: Tensor) -> None:
        super().__init__()
        assert images.labels is not None
        self.pixels = [images.pixels[rows[images.labels[rows] == c]] for c in (0, 1)]
        self.classes = 2
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        places = torch.special.ndtr(z[:, 0].double())
        drawn = [self.pixels[c][int(place * len(self.pixels[c]))] for c, place in zip(label, places, strict=True)]
        return torch.stack(drawn).float() / 127.5 - 1


def model_of(generator: nn.Module, counts: list[int]) -> NoiseToImage:
    model = DCGAN(loss=None, generator=generator, discriminator=nn.Identity(), optimizers={})  # type: ignore[arg-type]
    model.data_conditions = Classes(len(counts), tuple(counts))
    return model


def test_a_perfect_generator_of_uneven_classes_scores_near_zero(tmp_path: Path) -> None:
    digits = Digits().reference()
    assert digits.labels is not None
    zeros, ones = (torch.nonzero(digits.labels == c)[:, 0] for c in (0, 1))
    rows, others = torch.cat([zeros[:225], ones[:25]]), torch.cat([zeros[225:], ones[25:]])
    real = ImageArray(digits.pixels[rows], digits.labels[rows], "uneven", class_names=["0", "1"])
    model = model_of(Perfect(digits, others), [225, 25])
    judge = Evaluator(DigitsExtractor(), ["fid"], num_fake=500, batch_size=250, cache=str(tmp_path))
    found = {}
    for law in ("data", "uniform"):
        sampler = model.sampler(0, ema=False, law=law)
        found[law] = judge.evaluate(sampler, real, "cpu", ema=False, extra=sampler.passport)["fid_digits"]
    assert found["data"].value < 1.5
    assert found["uniform"].value > 8
    assert [score.passport["labels"] for score in found.values()] == [AS_THE_DATA, UNIFORM]
    assert unlike(found["data"].passport, found["uniform"].passport) == ["labels"]
    # With generators without classes only the rule is compared.
    unconditional = {key: value for key, value in found["data"].passport.items() if key != "labels"}
    assert not unlike(unconditional, found["data"].passport)
    with pytest.raises(ConfigError, match=r"metrics\.labels=batch: type metrics\.labels=data or uniform"):
        Evaluator(DigitsExtractor(), labels="batch")


def test_classes_are_as_wide_as_their_counts() -> None:
    places = torch.linspace(0, 1, 1001)[:-1]
    assert classes_at(places, 3, [700, 0, 300]).bincount().tolist() == [700, 0, 300]
    assert torch.equal(classes_at(places, 10, [500] * 10), (places * 10).long())
    assert classes_at(torch.tensor([1 - 2**-24]), 3, [5, 5, 0]).item() == 1  # of none there is never one


def test_equal_classes_are_drawn_as_ever() -> None:
    even, uneven, unknown = (model_of(Conditional(), counts) for counts in ([500] * 10, [900, *[100] * 9], []))
    expected = torch.randint(10, (500,), generator=torch.Generator().manual_seed(7))
    for model in (even, unknown):
        drawn = model.conditions(500, 7)
        assert drawn is not None
        assert torch.equal(drawn, expected)
    assert (even.sampler(0).passport, unknown.sampler(0).passport) == ({}, {"labels": UNIFORM})
    drawn, all_alike = uneven.conditions(2000, 7), uneven.conditions(2000, 7, "uniform")
    assert drawn is not None
    assert all_alike is not None
    assert drawn.bincount()[0] / 2000 == pytest.approx(0.5, abs=0.05)
    assert all_alike.bincount()[0] / 2000 == pytest.approx(0.1, abs=0.03)


def test_conditions_come_as_often_as_in_the_data() -> None:
    """Of one method, whoever draws: by a seed, or by numbers that ranks share."""
    conditions, data = Classes(3, (700, 0, 300)), Digits(limit=25)
    places = torch.linspace(0, 1, 1001)[:-1]
    assert torch.equal(conditions(1000, lambda n: places), classes_at(places, 3, [700, 0, 300]))
    assert (conditions(1000, 0).bincount() / 1000).tolist() == pytest.approx([0.7, 0, 0.3], abs=0.05)  # type: ignore[union-attr]
    assert (conditions(900, 0, "uniform").bincount() / 900).tolist() == pytest.approx([1 / 3] * 3, abs=0.06)  # type: ignore[union-attr]
    assert data.conditions == Classes(10, tuple(data.class_counts))
    assert Digits(classes=0).conditions(5, 0) is None
    rows = Rows(torch.arange(12).view(6, 2))
    drawn = rows(9, 1)
    assert drawn[:6].sort(0).values.tolist() == rows.rows.tolist()  # type: ignore[index]
    assert torch.equal(drawn[6:], drawn[:3])  # type: ignore[index]
    assert rows(3, lambda n: torch.tensor([0, 0.5, 0.999])).tolist() == [[0, 1], [6, 7], [10, 11]]  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="labels=uniform: these conditions are drawn as the data have them"):
        rows(3, 0, "uniform")


class Conditional(nn.Module):
    latent_dim, classes = 4, 10


def test_a_sheet_has_a_class_a_column_or_the_datas_classes() -> None:
    model = model_of(Conditional(), [900, *[100] * 9])
    roomy, narrow = model.sheet_inputs({}, 20)["label"], model.sheet_inputs({}, 8)["label"]
    assert roomy.tolist() == [*range(10)] * 2
    assert narrow.tolist() == model.conditions(8, 0).tolist()  # type: ignore[union-attr]


def test_single_images_are_drawn_as_the_data_have_them() -> None:
    uneven, even = (model_of(Conditional(), counts) for counts in ([900, *[100] * 9], [500] * 10))
    data = OmegaConf.create({"data": {"channels": 1, "resolution": 32}})
    many, few = (Drawing(model, data, Path()) for model in (uneven, even))
    asked: Any = OmegaConf.create(
        dict.fromkeys(("class", "caption", "labels", "camera", "cameras")) | {"n": 20, "seed": 3, "singles": False}
    )
    assert sample._labels(many, asked)[0].tolist() == [*range(10)] * 2  # type: ignore[union-attr]
    asked.singles = True
    assert sample._labels(few, asked)[0].tolist() == [*range(10)] * 2  # type: ignore[union-attr]
    assert torch.equal(sample._labels(many, asked)[0], uneven.conditions(20, 3))  # type: ignore[arg-type]
    asked.labels = "uniform"
    assert torch.equal(sample._labels(many, asked)[0], uneven.conditions(20, 3, "uniform"))  # type: ignore[arg-type]
    asked["class"] = 4
    with pytest.raises(ConfigError, match="labels=uniform: class= says all; leave one out"):
        sample._labels(many, asked)
    asked.labels = None
    assert sample._labels(many, asked)[0].tolist() == [4] * 20  # type: ignore[union-attr]


def test_an_ambiguous_class_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = model_of(Conditional(), [5] * 3)
    model.class_names = ["1", "10", "2"]
    run = Drawing(model, OmegaConf.create({"data": {"channels": 1, "resolution": 32}}), Path())
    for asked in (1, [1, np.int64(1), 1, torch.tensor(1)]):
        caplog.clear()
        assert run.labels(4, asked=asked).tolist() == [0] * 4  # type: ignore[union-attr]
        assert len(caplog.messages) == 1
    for wrong in ([0, 1, True, 0], [0, 1, [1], 0]):  # True is no 1, and a list no class
        with pytest.raises(ConfigError, match="type a number of 0 to 2"):
            run.labels(4, asked=wrong)


def test_the_health_of_uneven_classes_is_that_of_typical_samples() -> None:
    data = Digits(limit=25)
    counts = data.class_counts
    assert sum(counts) == 25
    assert len(set(counts)) > 1
    conditions = model_of(Conditional(), counts).conditions
    assert conditions == data.conditions
    labels = conditions(40, 0)
    assert not conditions.even
    assert labels is not None
    assert torch.equal(data.of_classes(labels)["label"], labels)
    assert model_of(Conditional(), [3] * 10).conditions.even


@pytest.mark.parametrize("model", LAW)
def test_training_draws_classes_as_the_authors_code(model: str) -> None:
    assert next(node.fake_labels for node in inherited(model) if "fake_labels" in node) == LAW[model]


def test_labels_in_training_and_in_the_checkpoint(tmp_path: Path) -> None:
    """Of uneven classes: the same on any number of ranks, known to the checkpoint; of an older one said not to be."""
    cfg = small(tmp_path / "run", "cdcgan", "data.limit=25", "model.fake_labels=data", "images=8")
    module: Any = train(cfg, every=8)
    counts = build.make(cfg.data).class_counts
    assert module.data_conditions == Classes(10, tuple(counts))
    module._seed_draws("generator")
    batch = {"real": torch.zeros(400, 1, 32, 32), "label": torch.zeros(400, dtype=torch.int64)}
    _, label = PlayerUpdate(module, batch).inputs(400)
    module._seed_draws("generator")
    _, places = module.noise(400), module.draw(torch.rand, 400)
    assert torch.equal(label, classes_at(places, 10, counts))
    module.fake_labels = "uniform"
    module._seed_draws("generator")
    assert torch.equal(PlayerUpdate(module, batch).inputs(400)[1], (places * 10).long())

    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    opened: Any = trained.open_run(str(path), "cpu").model
    assert opened.conditions == Classes(10, tuple(counts))
    assert opened.sampler(0).passport == {"labels": AS_THE_DATA}
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["gan_experiments"]["class_counts"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    older: Any = trained.open_run(str(tmp_path / "old.ckpt"), "cpu").model
    assert older.sampler(0).passport == {"labels": UNIFORM}


def test_scores_of_before_are_not_set_beside_those_of_the_datas_proportions(tmp_path: Path) -> None:
    """Of uneven data: passports of class-conditional generators that say nothing are of uniform labels."""

    def run(name: str, classes: int, fingerprint: str, **said: str) -> Run:
        passport = {"real_fingerprint": fingerprint, "estimator": "e", **said}
        config = {"model": {"generator": {"classes": classes}}, "images": 1}
        return Run(tmp_path / name, config, last=Scored(1, {"fid": {"value": 1.0, "std": None, "passport": passport}}))

    new, plain = run("new", 2, "a", labels=AS_THE_DATA), run("plain", 0, "a")
    old, alone = run("old", 2, "a"), run("alone", 2, "b")
    made = groups([Setting([one]) for one in (new, plain, old, alone)])
    together = [sorted(folder.name for folder in group.last) for group in made]
    assert together == [["new", "plain"], ["old"], ["alone"]]
