"""Scores of points: by hand, on any number of ranks, in a run, and where they make no sense."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from PIL import Image
from support import REPOSITORY, compose, train
from torch import Tensor

from gan_experiments.assembly import build, check
from gan_experiments.callbacks.samples import SampleSheets
from gan_experiments.callbacks.scores import Scores
from gan_experiments.contracts import ConfigError
from gan_experiments.data.images import Digits
from gan_experiments.data.toy import Grid, Ring
from gan_experiments.kinds import POINTS, scatter
from gan_experiments.metrics.modes import ModeEvaluator
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.metrics.passports import unlike
from gan_experiments.metrics.request import Request
from gan_experiments.runs import configs
from gan_experiments.verbs.evaluate import evaluate
from gan_experiments.verbs.sample import sample

sys.path.append(str(REPOSITORY / "benchmarks"))

import modes as benchmark


def points(index: int, n: int) -> Tensor:
    """Of five chunks of two: the first four on the first four modes, the last far from all."""
    data = Ring()
    return (data.centres[index] if index < 4 else torch.tensor([9.0, 9.0])).expand(n, 2)[:, :, None, None]


def measured(sample: Any = points, data: Any = None, **settings: Any) -> dict[str, Any]:
    evaluator = ModeEvaluator(**{"num_fake": 10, "batch_size": 2, **settings})
    return evaluator.measure(sample, (data or Ring()).reference(), Request("cpu", ema=False)).scores


def test_by_hand() -> None:
    found = measured()
    assert {name: score.value for name, score in found.items()} == {"modes": 4, "high_quality": 0.8}
    assert list(measured(scores=["high_quality"])) == ["high_quality"]
    assert measured(num_fake=9)["high_quality"].value == pytest.approx(8 / 9)  # the last chunk is not whole


@pytest.mark.parametrize("data", [Ring(), Grid()], ids=["ring", "grid"])
def test_real_points_find_every_mode(data: Any) -> None:
    found = measured(lambda index, n: data.samples(n, seed=index), data, num_fake=2500, batch_size=500)
    assert found["modes"].value == len(data.centres)
    assert found["high_quality"].value == pytest.approx(0.9889, abs=0.007)


def test_more_is_better() -> None:
    assert higher_is_better("modes")
    assert higher_is_better("high_quality")


def test_the_passport_tells_one_ring_from_another() -> None:
    one, same, other, fewer = measured(), measured(), measured(data=Ring(std=0.03)), measured(num_fake=8)
    assert unlike(one["modes"].passport, same["modes"].passport) == []
    assert unlike(one["modes"].passport, other["modes"].passport) == ["real_fingerprint"]
    assert unlike(one["modes"].passport, fewer["modes"].passport) == ["num_fake"]


def test_points_that_are_not_finite_are_none_and_are_named() -> None:
    found = measured(lambda index, n: torch.full((n, 2, 1, 1), torch.nan))
    assert [score.value for score in found.values()] == [0, 0]
    assert found["modes"].passport["warnings"] == ["some points are not finite"]


def test_what_makes_no_sense_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match=r"metrics\.scores=\[fid\]: type some of \[modes,high_quality\]"):
        ModeEvaluator(scores=["fid"])
    with pytest.raises(ConfigError, match=r"metrics\.num_fake=0 is too few: type metrics\.num_fake=1"):
        ModeEvaluator(num_fake=0)
    with pytest.raises(ConfigError, match=r"images have none: type metrics=digits, or data=ring"):
        ModeEvaluator().against(Digits(resolution=32, channels=1, batch_size=4).reference("train"))
    with pytest.raises(ConfigError, match=r"bootstrap: metrics=modes counts .*leave it out"):
        ModeEvaluator().measure(points, Ring().reference(), Request("cpu", ema=False, bootstrap=10))


# The pictures


def test_fakes_are_drawn_over_real_points() -> None:
    cells, behind = torch.zeros(1, 1, 2, 1, 1), torch.tensor([[0.0, 0.0], [0.75, 0.75]])[:, :, None, None]
    picture = POINTS.sheet(cells, smallest=101, real=behind)
    assert picture.shape == (3, 101, 101)

    def at(x: float, y: float) -> tuple[int, ...]:
        column, row = round((x / 1.5 + 1) / 2 * 98) + 1, 99 - round((y / 1.5 + 1) / 2 * 98)
        return tuple(picture[:, row, column].tolist())

    assert at(0, 0) == POINTS.fake_colour
    assert at(0.75, 0.75) == POINTS.real_colour
    assert at(0.75, -0.75) == at(-0.75, 0.75) == (255, 255, 255)
    beyond = scatter([(torch.tensor([[1e9, -1e9], [torch.nan, 0]]), POINTS.fake_colour)], 101)
    assert tuple(beyond[:, 99, 99].tolist()) == POINTS.fake_colour


# In a run


@pytest.mark.parametrize("experiment", ["ring_gan", "ring_unrolled", "grid_wgan_gp"])
def test_a_run_keeps_its_scores_and_pictures(experiment: str, tmp_path: Path) -> None:
    cfg = compose(tmp_path, f"experiment={experiment}", "data.batch_size=8", "images=32")
    check.require(cfg)
    scores, sheets = Scores(str(tmp_path), build.make(cfg.metrics), every=16), SampleSheets(str(tmp_path), 16, n=50)
    train(cfg, before=[scores, sheets])
    told = json.loads((tmp_path / "scores.json").read_text())
    assert [row["images"] for row in told["history"]] == [0, 16, 32]
    assert {"modes", "high_quality"} <= set(told["history"][-1])
    assert len(list((tmp_path / "samples").glob("[0-9]*.png"))) == 3


def test_the_verbs_know_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Score again, and draw."""
    cfg = compose(tmp_path, "experiment=ring_gan", "data.batch_size=8", "images=16")
    train(cfg, every=16)
    where = [f"run={tmp_path}/checkpoints/last.ckpt", "device=cpu"]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        evaluate(hydra.compose("evaluate", where))
        assert "16 images: 2,500 against the 8 modes" in capsys.readouterr().out
        sample(hydra.compose("sample", [*where, "interpolation=2", f"out={tmp_path}/drawn"]))
        with pytest.raises(ConfigError, match="singles=true: points of the plane are not saved one by one"):
            sample(hydra.compose("sample", [*where, "singles=true", f"out={tmp_path}/singles"]))
    assert (tmp_path / "drawn" / "interpolation.gif").exists()
    assert not (tmp_path / "singles").exists()


# The benchmark


def test_a_row_of_the_table_has_a_number_a_seed_and_the_later_half(tmp_path: Path) -> None:
    found = [[(0, 1, 0.0), (10, 2, 0.1), (20, 4, 0.5)], [(0, 1, 0.0), (10, 3, 0.2), (20, 8, 0.7)]]
    for seed, rows in enumerate(found):
        history = [dict(zip(("images", "modes", "high_quality"), row, strict=True)) for row in rows]
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "scores.json").write_text(json.dumps({"history": history}))
    line = benchmark.row("GAN", [tmp_path / "0", tmp_path / "1"], 8)
    assert line == "| GAN | 20 | 4, 8 of 8 | 50, 70 | 6.0 | 60 |"


@pytest.mark.parametrize("model", benchmark.MODELS)
def test_the_benchmark_trains_once_and_draws(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, experiment, words = benchmark.MODELS[model]
    words = [f"experiment=grid_{experiment}", "data.batch_size=4", f"images={4 * benchmark.LOOKS}", *words]
    benchmark.train(tmp_path / "run", words)
    assert len(json.loads((tmp_path / "run" / "scores.json").read_text())["history"]) == 1 + benchmark.LOOKS
    monkeypatch.setattr(benchmark.build, "build", None)  # what is done is only read
    benchmark.train(tmp_path / "run", words)
    benchmark.draw({"one": tmp_path / "run", "two": tmp_path / "run"}, tmp_path / "grid.png")
    width, height = Image.open(tmp_path / "grid.png").size
    assert (width, height) == (benchmark.LEFT + 7 * benchmark.CELL, benchmark.TOP + 2 * benchmark.CELL)
