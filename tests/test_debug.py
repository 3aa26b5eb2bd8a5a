"""What people switch on while they debug: debug=, a limit of time, an early end, other arguments of the Trainer."""

from __future__ import annotations

import inspect
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelSummary
from omegaconf import OmegaConf
from support import compose, run, shrink

from gan_experiments.assembly import build, check, lightning_arguments
from gan_experiments.callbacks.early_stopping import EarlyStopping, last_improvement
from gan_experiments.callbacks.scores import Scores
from gan_experiments.callbacks.stopping import Stopping, seconds
from gan_experiments.comparison import read
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import run_folder

TINY = ["trainer=exact", "logger=csv", "metrics=digits", "data.limit=64", "data.batch_size=4", "hydra.run.dir=r"]


def trained(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(*TINY, *words, folder=folder, change=shrink)


def composed(*words: str) -> Any:
    return compose(Path("r"), "callbacks=default", *words)


# ------------------------------------------------------------------------------------------ debug=


@pytest.mark.parametrize("choice", ["none", "fast", "overfit", "profiler", "anomalies", "limit"])
def test_every_choice_is_a_valid_run(choice: str) -> None:
    check.require(composed(f"debug={choice}"))


def test_debug_none_changes_nothing_and_words_typed_beside_it_win() -> None:
    assert composed("debug=none") == composed()
    assert composed("debug=limit").images == 10 * composed().data.batch_size
    assert composed("debug=limit", "images=7").images == 7
    assert composed("debug=overfit", "data.batch_size=12").data.limit == 12
    assert composed("debug=overfit", "augment=ada").augment, "what is typed wins over debug="
    assert composed("experiment=digits", "debug=fast").images == 20 * composed("experiment=digits").data.batch_size


def test_debug_fast_goes_through_all_that_a_run_does(tmp_path: Path) -> None:
    done = trained("debug=[fast,anomalies]", "+trainer.extra.profiler=simple", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "  profile  r/profile" in done.stdout
    folder = tmp_path / "r"
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "curves.png", "checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= left
    assert {f"samples/{n:08d}.png" for n in (0, 20, 40, 60, 80)} | {"samples/training.gif"} <= left
    told = json.loads((folder / "scores.json").read_text())
    assert [row["images"] for row in told["history"]] == [0, 40, 80]
    assert {s["passport"]["num_fake"] for s in told["last"]["scores"].values()} == {64}
    assert {row["images"] for row in read.read(folder).rows} >= {4.0, 8.0, 80.0}
    table = (folder / "profile" / "fit-table.txt").read_text()
    assert "on_train_batch_end" in table
    assert [path for path in run_folder.written(folder) if path.name == "fit-table.txt"], "existing=replace removes it"


def test_anomalies_name_the_operation() -> None:
    cfg = composed("debug=anomalies")
    trainer = build.build_trainer(cfg, [], [])
    assert trainer._detect_anomaly
    assert not torch.is_anomaly_enabled(), "in a training alone"


# ------------------------------------------------------------------------------------------ trainer.extra


def test_every_argument_of_lightnings_trainer_is_one_to_set_or_refused_with_its_reason() -> None:
    names = set(inspect.signature(L.Trainer).parameters)
    free = {"detect_anomaly", "deterministic", "enable_autolog_hparams", "enable_model_summary", "inference_mode"}
    assert names - set(lightning_arguments.REFUSED) == free | {"profiler"}
    assert set(lightning_arguments.REFUSED) <= names
    ours = {word.partition("=")[0] for why in lightning_arguments.REFUSED.values() for word in why.split("type ")[1:]}
    for key in ours - {"logger", "debug", "hydra.run.dir", "+callbacks.mine._target_", "trainer.{0}", "callbacks"}:
        assert OmegaConf.select(composed(), key, default="missing") != "missing", key


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gradient_clip_val=1", "the engine steps each player's optimizer by itself; type model.clip_grad_norm="),
        ("devices=2", "it is trainer.devices; type trainer.devices="),
        ("detect_anomali=true", "has no such argument (did you mean detect_anomaly?); leave it out"),
        ("detect_anomaly=3", "true or false is needed"),
        ("profiler=banana", "type one of simple, advanced, pytorch"),
    ],
)
def test_what_fights_the_engine_is_refused(word: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check.require(composed(f"+trainer.extra.{word}"))
    [line] = raised.value.faults
    assert line.startswith(f"trainer.extra.{word.partition('=')[0]}")
    assert said in line


def test_what_does_not_reaches_lightning() -> None:
    profiler = "{_target_: lightning.pytorch.profilers.SimpleProfiler, filename: mine}"
    cfg = composed("+trainer.extra.enable_model_summary=true", f"+trainer.extra.profiler={profiler}")
    check.require(cfg)
    trainer = build.build_trainer(cfg, [], [])
    assert any(isinstance(callback, ModelSummary) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    assert trainer.profiler.filename == "mine"  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------ a limit of time


@pytest.mark.parametrize("word", ["90", "1h", "00:25", "0:0:0:99x"])
def test_a_time_that_is_none(word: str) -> None:
    with pytest.raises(ConfigError, match=r"days:hours:minutes:seconds \(00:08:00:00 is 8 hours\), or null is needed"):
        check.require(composed(f"trainer.max_time='{word}'"))


def test_a_run_whose_time_is_up_saves_and_can_go_on(tmp_path: Path) -> None:
    assert seconds("01:02:03:04") == 93784
    done = trained("trainer.max_time=00:00:00:01", "metrics=none", "images=10_000_000", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ended = run_folder.outcome(tmp_path / "r")
    assert ended is not None
    assert (ended.status, ended.message) == (
        "stopped",
        f"stopped at {ended.images:,} images, as trainer.max_time=00:00:00:01 is over",
    )
    assert "  go on    " in done.stdout
    film = tmp_path / "r" / "samples" / "training.gif"
    assert ("training.gif" in done.stdout) == film.exists(), "it is told of what is there"
    assert "Stopped at" in (tmp_path / "r" / "report.html").read_text()
    on = run("ckpt=r", f"images={ended.images + 8}", "trainer.max_time=null", folder=tmp_path, change=shrink)
    assert on.returncode == 0, on.stderr
    assert f"done: {ended.images + 8:,} images" in on.stdout


def test_the_first_rank_alone_looks_at_the_clock_and_a_signal_is_still_one() -> None:
    for first, asked in ((True, True), (False, False)):
        stopping, module = Stopping("00:00:00:00"), SimpleNamespace(stop_asked=False, stop_agreed=False, at_end=bool)
        trainer: Any = SimpleNamespace(is_global_zero=first, should_stop=False)
        stopping.on_train_start(trainer, module)  # type: ignore[arg-type]
        stopping.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
        assert (module.stop_asked, stopping.time_is_up, trainer.should_stop) == (asked, asked, False)
        module.stop_agreed = True
        stopping.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
        assert trainer.should_stop
        assert (stopping.signal is None) == first, "the others take it for a signal; the first says how it ended"


# ------------------------------------------------------------------------------------------ early stopping


def rows(*values: float) -> list[dict[str, float]]:
    return [{"images": 10.0 * i, "other": 0.0, "fid_digits": value, "is": value} for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "name", "delta", "at"),
    [
        ((0, 9, 8, 7), "fid_digits", 0, 30),
        ((0, 9, 8, 8), "fid_digits", 0, 20),
        ((0, 9, 8, 7), "fid_digits", 1, 30),  # no step is more than 1; two together are
        ((0, 9, 8, 7), "fid_digits", 2, 10),
        ((0, 1, 2, 1), "is", 0, 20),
        ((0, float("nan"), 5, float("nan")), "fid_digits", 0, 20),
    ],
)
def test_the_last_improvement(values: tuple[float, ...], name: str, delta: float, at: int) -> None:
    assert last_improvement(rows(*values), name, delta)["images"] == at


def test_a_run_ends_when_its_score_gets_no_better() -> None:
    scores, callback = Scores("r", None, every=10), EarlyStopping(patience=20, score="fid")
    trainer: Any = SimpleNamespace(callbacks=[scores, callback], should_stop=False)
    ends = []
    for seen, row in enumerate(rows(1, 9, 8, 8.5, 8.5, 8.5)):
        scores.history.append(row)
        module: Any = SimpleNamespace(images_seen=10 * seen, at_end=bool)
        callback.on_train_batch_end(trainer, module)
        ends.append(trainer.should_stop)
    assert ends == [False, False, False, False, True, True]
    assert callback.why == "fid_digits is no better than 8 at 20 images"


def test_an_early_end_is_an_end(tmp_path: Path) -> None:
    words = [
        "callbacks.scores.every=8",
        "callbacks.early_stopping.patience=8",
        "callbacks.early_stopping.min_delta=1e9",
    ]
    words += ["callbacks.scores.n=16", "images=4000", "resume=true"]
    done = trained(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ended = run_folder.outcome(tmp_path / "r")
    assert ended is not None
    assert (ended.status, ended.images) == ("finished", 16)
    assert ended.message.startswith("done: 16 images, fid_digits is no better than ")
    assert "Finished at 16 of 4,000 images" in (tmp_path / "r" / "report.html").read_text()
    again = trained(*words, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "ended early before" in again.stdout
    assert run_folder.outcome(tmp_path / "r") == ended


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["metrics=none"], "there is no score to go by; type metrics=digits"),
        (["callbacks.scores.every=0"], "scores at the end alone; type callbacks.scores.every=100"),
        (
            ["callbacks.early_stopping.score=fidd"],
            "this run does not measure it (did you mean fid?); type one of fid, ",
        ),
    ],
)
def test_without_the_score_it_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check.require(composed("metrics=digits", "callbacks.early_stopping.patience=100", *words))
    assert said in str(raised.value)
