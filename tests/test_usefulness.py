"""What generated images are worth as training data, held against images whose worth is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from support import Variant, run, small, train

from gan_experiments import drawing
from gan_experiments.assembly import trained
from gan_experiments.contracts import ConfigError
from gan_experiments.data.images import Digits
from gan_experiments.metrics.usefulness import (
    PSEUDO,
    Classifier,
    Recipe,
    Subset,
    Training,
    Usefulness,
    _shifted,
    rows,
    scores,
    table,
    trainings,
)
from gan_experiments.runs import configs
from gan_experiments.verbs.usefulness import _drawn, usefulness

RECIPE = Recipe(steps=60, batch_size=32)
NAMES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def digits() -> Subset:
    found = Digits().reference()
    return Subset.all_of(found.pixels, found.labels)


@pytest.fixture(scope="module")
def thirds(digits: Subset) -> tuple[Subset, Subset, Subset]:
    """2,400 digits to train on, 2,400 others and 200 to test on."""
    half, other = digits.split(0.48, seed=0)
    half, test = half.split(200 / 2600, seed=0)
    assert [len(half), len(other), len(test)] == [2400, 2400, 200]
    return half, other, test


# -------------------------------------------------------------------- images whose worth is known


def test_new_real_images_are_worth_as_much_as_the_real_ones(thirds: tuple[Subset, Subset, Subset]) -> None:
    real, other, test = thirds
    measured = Usefulness(real, test, other, 10, RECIPE)
    alone, cas = (measured.accuracy(Training(on, 1.0, 0)) for on in ("real", "fake"))
    assert alone > 0.75
    assert cas == pytest.approx(alone, abs=0.07)


def test_images_with_shuffled_labels_are_worth_nothing(thirds: tuple[Subset, Subset, Subset]) -> None:
    real, other, test = thirds
    assert other.labels is not None
    shuffled = other.labels[torch.randperm(len(other), generator=torch.Generator().manual_seed(1))]
    measured = Usefulness(real, test, replace(other, labels=shuffled), 10, RECIPE)
    assert measured.accuracy(Training("fake", 1.0, 0)) == pytest.approx(0.1, abs=0.08)  # chance; std of 200 is 0.02


def test_new_real_images_add_much_to_one_percent(thirds: tuple[Subset, Subset, Subset]) -> None:
    real, other, test = thirds
    measured = Usefulness(real, test, other, 10, RECIPE)
    alone, both = (measured.accuracy(Training(on, 0.01, 0)) for on in ("real", "both"))
    assert both > alone + 0.2


def test_labels_for_one_percent_come_from_that_percent_alone(thirds: tuple[Subset, Subset, Subset]) -> None:
    """With all other real images blackened, the generated ones get the same labels."""
    real, other, test = thirds
    recipe, unlabelled = replace(RECIPE, steps=20), replace(other.take(torch.arange(0, 2400, 20)), labels=None)
    part = real.part(0.01, seed=3)
    black = torch.ones(len(real.pixels), dtype=torch.bool)
    black[part.rows] = False
    blackened = replace(real, pixels=real.pixels.masked_fill(black[:, None, None, None], 0))

    def given(images: Subset, share: float) -> torch.Tensor | None:
        return Usefulness(images, test, unlabelled, 10, recipe).labelled(share, 3).labels

    expected = recipe.predict(recipe.train([(part, 32)], 10, seed=3), unlabelled)
    assert len(expected.unique()) > 1
    assert torch.equal(given(blackened, 0.01), expected)
    assert not torch.equal(given(blackened, 1.0), given(real, 1.0))


def test_the_same_seed_trains_the_same_classifier(thirds: tuple[Subset, Subset, Subset]) -> None:
    recipe = replace(RECIPE, steps=5)
    before = torch.random.get_rng_state()
    first, again, other = (recipe.train([(thirds[0], 32)], 10, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


# -------------------------------------------------------------------- its parts


def test_parts_are_of_each_class_and_lie_in_each_other(digits: Subset) -> None:
    small, large = (digits.part(share, seed=5) for share in (0.01, 0.1))
    assert small.labels is not None
    assert large.labels is not None
    assert small.labels.bincount().tolist() == [5] * 10
    assert large.labels.bincount().tolist() == [50] * 10
    assert set(small.rows.tolist()) < set(large.rows.tolist())
    assert digits.part(1e-6, seed=5).labels.tolist() == list(range(10))  # type: ignore[union-attr]
    assert set(digits.part(0.1, seed=6).rows.tolist()) != set(large.rows.tolist())


def test_what_is_held_out_is_not_trained_on(digits: Subset) -> None:
    left, held = digits.split(0.2, seed=0)
    assert sorted([*left.rows.tolist(), *held.rows.tolist()]) == list(range(5000))
    assert held.labels is not None
    assert held.labels.bincount().tolist() == [100] * 10


@pytest.mark.parametrize(("channels", "resolution"), [(1, 28), (1, 32), (3, 64), (3, 100), (3, 256)])
def test_the_classifier_is_small_at_any_size(channels: int, resolution: int) -> None:
    with torch.device("meta"):
        net = Classifier(channels, resolution, 10)
        assert net(torch.empty(2, channels, resolution, resolution)).shape == (2, 10)
    assert 100_000 < sum(p.numel() for p in net.parameters()) < 300_000


def test_a_shift_moves_the_image_and_repeats_its_edge() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).expand(64, 1, 32, 32)
    shifted = _shifted(ramp, torch.Generator().manual_seed(0))
    by = shifted[:, 0, 16, 16].int() - 16
    assert sorted(set(by.tolist())) == [-2, -1, 0, 1, 2]  # a sixteenth of the side
    expected = (torch.arange(32) + by[:, None]).clamp(0, 31)
    assert torch.equal(shifted, expected[:, None, None].expand(-1, 1, 32, -1).to(torch.uint8))
    down = _shifted(ramp.mT, torch.Generator().manual_seed(0))
    assert len(down[:, 0, 16, 16].unique()) == 5


def test_means_and_gains_of_the_table(digits: Subset) -> None:
    accuracy = {
        **{"real 0.01 seed 0": 0.5, "real 0.01 seed 1": 0.6, "both 0.01 seed 0": 0.7, "both 0.01 seed 1": 0.9},
        **{"real 1 seed 0": 0.9, "real 1 seed 1": 0.9, "both 1 seed 0": 0.9, "both 1 seed 1": 0.8},
        **{"fake 1 seed 0": 0.4, "fake 1 seed 1": 0.6},
    }
    assert {training.key for training in trainings([0.01], [0, 1])} == set(accuracy)
    assert rows([1, 0.1, 0.1]) == [0.1, 1.0]
    found = scores(accuracy, digits, 77, [0.01], [0, 1], {"steps": 9}, 0.5)
    assert found["gain_0.01"].value == pytest.approx(0.25)
    assert found["gain_0.01"].std == pytest.approx(0.05 * 2**0.5)  # of 0.2 and 0.3
    assert found["cas"].value == pytest.approx(0.5)
    assert found["cas"].passport == {"steps": 9, "num_real": 0, "num_fake": 77, "seeds": [0, 1]}
    assert found["accuracy_real_0.01"].passport["num_real"] == 50
    lines = table(found).splitlines()
    assert " ".join(lines[1].split()) == "50 (1%) 55.0 ± 7.1 80.0 ± 14.1 +25.0 ± 7.1"
    assert lines[2].split()[-3:] == ["-5.0", "±", "7.1"]
    assert "77 generated images alone: 50.0 ± 14.1 (all 5,000 real ones: 90.0 ± 0.0)" in lines[3]
    one = scores(accuracy, digits, 77, [], [0], {}, 0.5)
    assert one["cas"].std is None


# -------------------------------------------------------------------- the command


def compose(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return hydra.compose("usefulness", overrides=["steps=2", "batch_size=8", "seeds=1", "parts=[0.5]", *overrides])


@pytest.fixture(scope="module")
def folders(digits: Subset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real, fake and test: 6 digits of each of three classes; flat: without subfolders."""
    root = tmp_path_factory.mktemp("folders")
    assert digits.labels is not None
    for digit in range(3):
        members = digits.rows[digits.labels == digit]
        for place, name in enumerate(["real", "fake", "test"]):
            for row in members[6 * place : 6 * place + 6].tolist():
                drawing.save_png(digits.pixels[row], root / name / str(digit) / f"{row}.png", None)
                if name == "fake":
                    drawing.save_png(digits.pixels[row], root / "flat" / f"{row}.png", None)
    return root


@pytest.fixture(scope="module")
def odd_folders(folders: Path) -> Path:
    pixels = torch.zeros(1, 28, 28, dtype=torch.uint8)
    for name in ("other/0/a", "other/two/a", "part/0/a", "part/1/a", "mixed/0/a", "mixed/1/a", "mixed/a"):
        drawing.save_png(pixels, folders / f"{name}.png", None)
    return folders


@pytest.fixture
def words(folders: Path, tmp_path: Path) -> list[str]:
    given = [f"{name}={folders / name}" for name in ("fake", "real", "test")]
    return [*given, f"out={tmp_path}", "data.resolution=28", "data.channels=1"]


def measured(folder: Path) -> dict[str, Any]:
    (one,) = json.loads((folder / "usefulness.json").read_text()).values()
    return one


def test_folders(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert usefulness(compose(*words)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "real  18 images of 3 classes, a folder"
    assert said[2] == "fake  18 images, a folder; labels by the subfolders"
    assert [line.split("%  ")[1] for line in said[3:8]] == [
        "50% of the real images, seed 0",
        "50% of the real images + generated, seed 0",
        "100% of the real images, seed 0",
        "100% of the real images + generated, seed 0",
        "generated alone, seed 0",
    ]
    assert "18 generated images alone" in said[-2]
    found = measured(tmp_path)["scores"]
    assert set(found) == {
        "cas",
        *(f"{n}_{p}" for n in ("accuracy_real", "accuracy_both", "gain") for p in ("0.5", "1")),
    }
    passport = found["gain_0.5"]["passport"]
    expected = {"steps": 2, "batch_size": 8, "seeds": [0], "num_real": 9, "num_fake": 18, "num_test": 18}
    assert expected.items() <= passport.items()
    assert passport["fake_share"] == 0.5
    assert {"classifier", "real_fingerprint", "test_fingerprint", "fake_fingerprint", "labels"} <= set(passport)


def test_the_same_command_trains_nothing_twice(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped by Ctrl-C in the third of five trainings, it trains the other three, and comes to the same numbers."""
    words = [word.replace("/fake", "/flat") for word in words]  # and so needs the labels from before
    assert usefulness(compose(*words, f"out={tmp_path / 'whole'}")) == 0
    train, done = Recipe.train, []

    def stopping(*given: Any) -> Classifier:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(given)
        return train(*given)

    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "train", stopping)
        assert usefulness(compose(*words)) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "stopped; the same command goes on"
    assert len(measured(tmp_path)["accuracy"]) == 2
    assert usefulness(compose(*words)) == 0
    assert "2 of 5 classifiers were trained before" in capsys.readouterr().out
    assert measured(tmp_path) == measured(tmp_path / "whole")

    monkeypatch.setattr(Recipe, "train", None)
    assert usefulness(compose(*words)) == 0
    with pytest.raises(TypeError):
        usefulness(compose(*words, "steps=3"))


def test_images_without_subfolders_are_labelled(folders: Path, words: list[str], tmp_path: Path) -> None:
    assert usefulness(compose(*words, f"fake={folders / 'flat'}", "n=10")) == 0
    passport = measured(tmp_path)["scores"]["cas"]["passport"]
    assert passport["labels"] == PSEUDO
    assert passport["num_fake"] == 10


def test_a_fifth_is_held_out_where_there_is_no_test(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usefulness(compose(*words, "test=null")) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("real  15 images")
    assert said[1] == "test  3 images, a fifth of the real ones (seed 0); the generator may have seen them"


def test_a_class_that_was_never_generated_is_named(
    odd_folders: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert usefulness(compose(*words, f"fake={odd_folders / 'part'}")) == 0
    assert capsys.readouterr().out.splitlines()[2] == "fake  2 images, a folder; none of 2; labels by the subfolders"


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> trained.TrainedRun:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(small(folder, "dcgan", "data=digits", "data.limit=60", "data.batch_size=8", "images=16"), every=16)
    return trained.open_run(str(folder), "cpu")


def test_a_run(a_run: trained.TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert usefulness(compose(f"run={a_run.folder / 'last.ckpt'}", f"out={tmp_path}", "device=cpu")) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "real  50 images of 10 classes, the run's data"
    assert said[1] == "test  10 images, a fifth of the real ones (seed 0); the generator has seen them"
    assert said[2].endswith(f"; labels {PSEUDO}")
    one = measured(tmp_path)
    assert one["images"] == 16
    assert one["scores"]["cas"]["passport"]["ema"] is True
    assert one["scores"]["cas"]["passport"]["num_fake"] == 50


def test_the_split_test_of_the_data_is_used(
    a_run: trained.TrainedRun,
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"resolution": 32, "channels": 1, "classes": 0, "root": str(folders / "real")}
    cfg = OmegaConf.create({"data": {"_target_": "gan_experiments.data.images.Folder", "test_root": None, **settings}})
    monkeypatch.setattr(trained, "open_run", lambda *_: replace(a_run, cfg=cfg))
    words = [f"run={a_run.folder / 'last.ckpt'}", f"out={tmp_path}", "data.classes=3"]
    assert usefulness(compose(*words)) == 0
    assert "a fifth of the real ones" in capsys.readouterr().out
    cfg.data.test_root = str(folders / "test")
    assert usefulness(compose(*words)) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "real  18 images of 3 classes, the run's data",
        "test  18 images, the split test",
    ]
    assert len(json.loads((tmp_path / "usefulness.json").read_text())) == 2


def test_a_conditional_model_is_asked_for_the_real_classes(
    a_run: trained.TrainedRun, digits: Subset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that paints its label: the images bear the labels that they were asked for, as often as the real ones."""

    def sample(z: torch.Tensor, ema: bool, labels: torch.Tensor) -> torch.Tensor:
        assert ema
        assert z.shape == (len(labels), 8)
        return (labels / 127.5 - 1)[:, None, None, None].expand(-1, 1, 32, 32)

    monkeypatch.setattr(type(a_run.model), "classes", 10)
    monkeypatch.setattr(a_run.model, "sample", sample)
    real = digits.take(torch.arange(0, 5000, 7))
    fake, passport = _drawn(compose(f"run={a_run.folder / 'last.ckpt'}"), a_run, real, NAMES)
    assert fake.labels is not None
    assert real.labels is not None
    assert torch.equal(fake.labels.bincount(), real.labels.bincount())
    assert torch.equal(fake.pixels[:, 0, 0, 0].long(), fake.labels)
    assert passport["labels"] == "those that the model was asked for"
    with pytest.raises(ConfigError, match="its 10 classes are not the 3 of the real images"):
        _drawn(compose(f"run={a_run.folder / 'last.ckpt'}"), a_run, real, NAMES[:3])


# -------------------------------------------------------------------- mistakes


MISTAKES: list[tuple[list[str], str]] = [
    (["real=null"], r"fake=\S+ needs real images: type real="),
    (["fake=null"], r"type one of run=outputs/\.\.\. and fake=FOLDER"),
    (["run=outputs/x"], r"type one of run="),
    (["real={0}/flat"], r"real=\S+/flat: no two labelled classes; type real="),
    (["fake={0}/other"], r"fake=\S+/other has two, and the real images have the classes 0, 1, 2: name its"),
    (["test={0}/flat"], r"test=\S+/flat has no subfolders, and the real"),
    (["test={0}/part"], r"too few images, of 2 none to test on"),
    (["real={0}/mixed"], r"real=\S+/mixed: some images lie in no subfolder"),
    (["real={0}/nowhere"], r"real=\S+/nowhere does not exist"),
    (["n=19"], r"n=19: fake=\S+ holds 18 images; type n=18"),
    (["n=0"], r"n=0: a whole number from 1"),
    (["steps=0", "seeds=a"], r"steps=0: .*\nseeds=a: "),
    (
        ["parts=[0.1,2]"],
        r"parts=\[0\.1,2\]: a list, each a number above 0 .* type for example parts=\[",
    ),
    (["parts=0.1"], r"parts=0\.1: a list"),
    (["fake_share=1"], r"fake_share=1: a batch of 8 must hold generated and real images"),
    (["data.classes=3"], r"data\.classes=3: the subfolders are the classes; leave it out"),
]


@pytest.mark.parametrize(("given", "answer"), MISTAKES, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_mistakes_get_one_line(given: list[str], answer: str, words: list[str], odd_folders: Path) -> None:
    with pytest.raises(ConfigError, match=answer) as error:
        usefulness(compose(*words, *(word.format(odd_folders) for word in given)))
    assert all(len(fault.splitlines()) == 1 for fault in error.value.faults)


def test_data_without_labels(a_run: trained.TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "open_run", lambda *_: replace(a_run, cfg=unlabelled))
    unlabelled = a_run.cfg.copy()
    unlabelled.data.classes = 0
    with pytest.raises(ConfigError, match=r"the data of run=\S+: no two labelled classes; type data\.classes= their"):
        usefulness(compose(f"run={a_run.folder / 'last.ckpt'}"))


def test_as_typed(words: list[str], tmp_path: Path) -> None:
    done = run(*words, "steps=1", "seeds=1", "parts=[]", "batch_size=4", verb="usefulness", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "usefulness.json"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("wgan_gp_toy", "learn of images, and this model makes points of the plane"),
        ("context_encoder", "does not draw images from noise"),
    ],
)
def test_a_model_that_draws_no_images_is_refused_first(
    model: str, said: str, variants: Callable[[str], Variant]
) -> None:
    with pytest.raises(ConfigError, match=said):
        usefulness(compose(f"run={variants(model).folder}"))
