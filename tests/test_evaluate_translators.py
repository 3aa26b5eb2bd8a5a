"""Scores of models that translate without pairs: held-out images of one kind against real ones of the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from support import compose, shrink, small, small_data, train, write_images
from test_translate import names

from gan_experiments.assembly import check, trained
from gan_experiments.callbacks.scores import Scores
from gan_experiments.contracts import ConfigError
from gan_experiments.data.domains import CelebAAttributes, Domains
from gan_experiments.data.unpaired import Unpaired
from gan_experiments.metrics.evaluator import Evaluator
from gan_experiments.metrics.extractors import DigitsExtractor
from gan_experiments.models.image_to_image import ImageToImage
from gan_experiments.runs import configs
from gan_experiments.verbs import evaluate


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CycleGAN with and a StarGAN without held-out images, each after a few batches."""
    folder = tmp_path_factory.mktemp("translators")
    found = {}
    for kind in ("cyclegan", "stargan"):
        cfg = small(folder / kind / "run", kind)
        if kind == "cyclegan":
            write_images(Path(cfg.data.root) / "testA", 5, seed=7)
        train(cfg, every=8)
        found[kind] = folder / kind / "run"
    return found


def verb(*words: str) -> int:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        scores = "metrics.scores=[fid]"
        return evaluate.evaluate(hydra.compose("evaluate", ["metrics=digits", scores, "device=cpu", *words]))


DIRECTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cyclegan": ("null", "", {"direction": "b", "source_split": "test_a", "num_fake": 5, "split": "train_b"}),
    "cyclegan back": ("a", "-toa", {"direction": "a", "source_split": "train_b", "num_fake": 6, "split": "train_a"}),
    "stargan": ("blond", "-toblond", {"direction": "blond", "source_split": "train", "num_fake": 6, "num_real": 3}),
}


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_a_translator_without_pairs_is_scored_against_its_target(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path / "cache"))
    to, tag, told = DIRECTIONS[kind]
    assert verb(f"run={runs[kind.split(maxsplit=1)[0]]}", f"to={to}", f"out={tmp_path}/out") == 0
    (name,) = names(tmp_path / "out")
    assert name == f"scores-00000008{tag}.json"
    score = json.loads((tmp_path / "out" / name).read_text())["scores"]["fid_digits"]
    assert told.items() <= score["passport"].items()
    assert score["value"] > 0


def test_the_images_that_are_scored_are_the_translations(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, whatever the size of a chunk; and the real ones are not among the translated."""
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path / "cache"))
    run = trained.open_run(str(runs["cyclegan"]), "cpu")
    model, data = run.model, Unpaired(run.cfg.data.root, 32, load_resolution=36)
    assert isinstance(model, ImageToImage)
    sample, real = model.translated(data, 0, False, "train", batch_size=2, most=100)
    wanted = [model.translate({"real_a": batch["real_a"]}, "b", False) for batch in map(sample.source.batch, range(5))]
    found = torch.cat([sample(0, 2), sample(1, 2), sample(2, 1)])
    assert torch.equal(found, torch.cat(wanted))
    assert len(real) == 6
    fewer, _ = model.translated(data, 0, False, "train", batch_size=2, most=2)
    assert torch.equal(fewer(0, 2), torch.cat([wanted[0], wanted[2]])), "evenly spread"


def test_domains_and_attributes_are_parted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path / "cache"))
    small(tmp_path / "a" / "run", "stargan")
    domains = Domains(str(tmp_path / "a" / "domains"), 32, classes=3)
    source, real = domains.unpaired("real", 1, "train")
    assert [int(source.batch(row)["label"]) for row in range(source.number)] == [0, 0, 0, 2, 2, 2]
    assert torch.equal(real.images(0, 3), domains.reference().pixels[3:6])
    other = domains.unpaired("real", 2, "train")
    assert {source.fingerprint, real.fingerprint}.isdisjoint({other[0].fingerprint, other[1].fingerprint})
    words = small_data(tmp_path / "c" / "run", "domains_celeba")
    faces = CelebAAttributes(words[0].partition("=")[2], 32, ["Male", "Young"], 2, crop=None)
    source, real = faces.unpaired("real", 1, "train")
    assert all(source.batch(row)["domain"][0, 1] == 0 for row in range(source.number))
    assert source.number + len(real) == 6


def test_what_does_not_go_together_is_refused(runs: dict[str, Path]) -> None:
    for words, said in {
        ("to=c",): "to=c: this model knows no such direction; type to=b or to=a",
        ("n=7",): "n=7: the split test_a holds 5 images to translate; type n=5 or leave it out",
        ("truncation=1",): "truncation=1: this model translates images into others; leave it out",
        ("by_class=true",): "by_class=True: this model translates images into others; leave it out",
    }.items():
        with pytest.raises(ConfigError) as refused:
            verb(f"run={runs['cyclegan']}", *words)
        assert refused.value.faults == (said,)


def test_scores_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path / "cache"))
    cfg = small(tmp_path / "run", "cyclegan", "metrics=digits")
    assert [*check.faults(cfg)] == []
    judge = Evaluator(DigitsExtractor(), scores=["fid"])
    train(cfg, extra=[Scores(str(tmp_path / "run"), judge, every=0)])
    told = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert [row["images"] for row in told["history"]] == [0, 8]
    passport = told["last"]["scores"]["fid_digits"]["passport"]
    assert (passport["direction"], passport["source_split"], passport["num_fake"]) == ("b", "train_a", 6)
    assert judge.num_fake == 10_000


def test_pairs_are_not_scored_where_there_are_none(tmp_path: Path) -> None:
    faults = [*check.faults(shrink(compose(tmp_path, "model=cyclegan", "metrics=paired")))]
    assert any("no image is known that should come of another" in fault for fault in faults)
