"""benchmarks/learning.py: which variants it trains, when it stops them, and that it goes on where it was."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import REPOSITORY, bare_checkpoint, small, train

from gan_experiments.runs import run_folder

sys.path.append(str(REPOSITORY / "benchmarks"))

import learning
from learning import Cell, Clock


def test_every_model_that_draws_from_noise_is_found_and_no_other() -> None:
    found = learning.variants()
    assert {"dcgan", "wgan_gp", "wgan_gp_64", "wgan_gp_dcgan"} <= set(found)
    assert "cyclegan" not in found
    assert set(learning.REDUCED) <= set(found)


@pytest.mark.parametrize("model", learning.REDUCED)
def test_reduced_variants_can_be_trained_on_digits(model: str) -> None:
    assert not learning.refused(Cell(model, "digits", 0, 5.0, Path("out")))


@pytest.mark.parametrize("model", [*learning.CLASSES_OPTIONAL, "acgan"])
def test_what_can_do_without_classes_is_trained_on_photographs(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    monkeypatch.setitem(learning.DATA, "photos", ["data=folder", f"data.root={tmp_path}", "metrics=none"])
    why = learning.refused(Cell(model, "photos", 0, 5.0, Path("out")))
    assert len(why) == (model == "acgan")
    assert all("has no labels" in one for one in why)


def test_the_clock_stops_a_training_and_goes_on_counting_where_it_was(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "dcgan", "images=1000000")
    clock, before = Clock(0.5), time.process_time()
    model = train(cfg, every=1_000_000, extra=[clock])
    assert 0.5 <= clock.used < time.process_time() - before < 10
    assert 4 < model.images_seen < 1_000_000
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed = train(cfg, checkpoint=last, every=1_000_000, extra=[Clock(0.5)])
    assert resumed.images_seen == model.images_seen + 4  # the batch that was begun


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, tuple[str, ...]]]:
    """The trainings that were asked for; each leaves what a run leaves."""
    calls = []

    def fake(cell: Cell, seconds: float, folder: Path, *words: str) -> None:
        calls.append((seconds, words))
        run_folder.record(folder, run_folder.Outcome("finished", 1_000, "done"))
        if folder == cell.folder:
            pretend(folder, cell)

    monkeypatch.setattr(Cell, "_train", fake)
    return calls


def pretend(folder: Path, cell: Cell, fid: float = 2.0) -> None:
    scores = {f"{name}_digits": 0.5 for name in learning.COLUMNS}
    history = [{"images": 0, **scores, "fid_digits": 60.0}, {"images": 1_000, **scores, "fid_digits": fid}]
    (folder / "samples").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "scores.json").write_text(json.dumps({"history": history}))
    (folder / "parameters.json").write_text(json.dumps({"generator": 7}))
    told = {"callbacks": {"Clock": {"used": 30.0}}}
    torch.save(bare_checkpoint() | told, folder / "checkpoints" / "last.ckpt")
    for images in ("00000000", "00001000"):
        Image.new("L", (20, 10)).save(folder / "samples" / f"{images}.png")


def test_a_cell_is_trained_for_as_long_as_its_speed_says_and_only_once(tmp_path: Path, trained: list[Any]) -> None:
    cell = Cell("dcgan", "digits", 3, 2.0, tmp_path)
    result = cell.result()
    (speed, forecast), (seconds, words) = trained
    assert (speed, seconds) == (6.0, 120.0)
    assert "callbacks=none" in forecast
    assert {"images=22000", "seed=3", "resume=true", "model.generator.width=32"} <= set(words)  # 1.1 * 1000 * 120 / 6
    assert learning.row(result).startswith("| dcgan | digits | 3 | 1,000 | 0.5 | 60 -> 2 | 0.5 -> 0.5 |")
    assert result["sheet"] == "dcgan-digits-3-2min/samples/00001000.png"
    assert cell.result() == result
    assert len(trained) == 2


def test_a_stopped_cell_goes_on_with_the_length_that_it_was_given(tmp_path: Path, trained: list[Any]) -> None:
    cell = Cell("dcgan", "digits", 0, 2.0, tmp_path)
    run_folder.record(cell.folder / "speed", run_folder.Outcome("finished", 500, "done"))
    run_folder.record(cell.folder, run_folder.Outcome("stopped", 300, "stopped"))
    cell.result()
    assert len(trained) == 1
    assert "images=11000" in trained[0][1]


@pytest.mark.parametrize(("code", "error"), [("exit(3)", RuntimeError), ("exit(143)", SystemExit)])
def test_a_failure_is_told_and_a_stop_stops(
    code: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "RUN", tmp_path / "run.py")
    learning.RUN.write_text(f"import sys; print(sys.argv); {code}")
    with pytest.raises(error, match="3"):
        Cell("dcgan", "digits", 0, 2.0, tmp_path).result()
    assert "seconds: 6.0" in (tmp_path / "dcgan-digits-0-2min" / "speed" / "printed.log").read_text()
