"""The search of `sweep=optuna` with a launcher that trains nothing; test_sweeps.py has one that trains."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from support import run

from gan_experiments.contracts import ConfigError, TrainingFailure
from gan_experiments.launch import study, sweeps
from gan_experiments.runs import names, run_folder

LR = "lr=tag(log, interval(1e-4, 1e-2))"
TPE = {"_target_": "optuna.samplers.TPESampler", "seed": 0}


class Killed(BaseException):
    """In place of SIGKILL."""


class Launcher:
    """Notes the words of the jobs and returns what `job` makes of them; None is a failure, written as a run does."""

    def __init__(self, folder: Path, job: Callable[[dict[str, str]], float | None]) -> None:
        self.folder, self.job = folder, job
        self.batches: list[list[list[str]]] = []

    def launch(self, batch: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        assert initial_job_idx == sum(map(len, self.batches))
        self.batches.append([list(words) for words in batch])
        return [self._return(list(words)) for words in batch]

    def _return(self, words: list[str]) -> JobReturn:
        score = self.job(dict(word.split("=", 1) for word in words))
        if score is None:
            run_folder.record(self.folder / names.job_folder(words), run_folder.Outcome("failed", 0, "no"))
        returned = JobReturn(status=JobStatus.COMPLETED)
        returned.return_value = score
        return returned


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Launcher, list[Any]]]:
    """Starts a search in the test's folder: what was launched, and the trials in its database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "better_direction", lambda config: "minimize")
    monkeypatch.setattr(sweeps.Sweep, "current", sweeps.Sweep("run.py", folder=tmp_path / "s"))
    Path("s").mkdir()

    def start(
        *words: str, job: Callable[[dict[str, str]], float | None], **settings: Any
    ) -> tuple[Launcher, list[Any]]:
        usual = {
            "study_name": "sweep",
            "storage": "sqlite:///s/study.db",
            "direction": None,
            "n_trials": 4,
            "n_jobs": 1,
        }
        made = {**usual, "sampler": TPE, "params": None, **settings}
        sweeper = study.Search(**{**made, "sampler": OmegaConf.create(made["sampler"])})
        sweeper.hydra_context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
        sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": "s"}}})
        sweeper.launcher = launcher = Launcher(Path("s"), job)  # type: ignore[assignment]
        sweeper.validate_batch_is_legal = lambda batch: None  # type: ignore[method-assign]
        with contextlib.suppress(Killed):
            sweeper.sweep(list(words))
        return launcher, optuna.load_study(study_name="sweep", storage="sqlite:///s/study.db").trials

    return start


def lr(words: dict[str, str]) -> float:
    return float(words["lr"])


# ------------------------------------------------------------------------------------------ what is searched


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=1,x,[1,2],null", CategoricalDistribution([1, "x", "[1,2]", "null"])),
        ("a=choice(0.5,true,'x,y')", CategoricalDistribution([0.5, True, "x\\,y"])),
        ("a=range(1,8,3)", IntDistribution(1, 7, step=3)),
        ("a=range(1,4)", IntDistribution(1, 3)),
        ("a=range(5,1,-2)", IntDistribution(3, 5, step=2)),
        ("a=range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=interval(1,8)", FloatDistribution(1.0, 8.0)),
        ("a=tag(log, int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("a=tag(log, interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_a_word_of_the_grammar_is_a_distribution(word: str, expected: BaseDistribution) -> None:
    assert study._distribution(OverridesParser.create().parse_override(word)) == expected


@pytest.mark.parametrize("word", ["a=tag(log, interval(0, 1))", "a=interval(3, 1)", "a=range(3,3)"])
def test_a_word_without_values_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"type for example a='interval\(1, 2\)'"):
        study._distribution(OverridesParser.create().parse_override(word))


def test_the_last_word_of_a_key_counts(search: Any) -> None:
    launcher, trials = search("lr=0.5", "width=4,8", "seed=3", job=lr, params={"lr": LR[3:]}, n_trials=1)
    assert [word.split("=")[0] for word in launcher.batches[0][0]] == ["width", "lr", "seed"]
    assert trials[0].user_attrs == {"lr": "0.5", "seed": "3"}
    assert [*trials[0].params] == ["width"]


@pytest.mark.parametrize(
    ("words", "settings", "line"),
    [
        ([LR], {"n_trials": 0}, "hydra.sweeper.n_trials=0: a whole number is needed"),
        ([LR], {"n_jobs": "two"}, "hydra.sweeper.n_jobs=two: a whole number is needed"),
        ([LR], {"direction": "up"}, "hydra.sweeper.direction=up: type minimize or maximize, or leave it out"),
        ([LR], {"sampler": {"_target_": "optuna.samplers.Foo"}}, "hydra.sweeper.sampler=.*Foo"),
        (["seed=0"], {}, "sweep=optuna has nothing to search"),
    ],
)
def test_a_search_that_cannot_be_is_refused(search: Any, words: list[str], settings: Any, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        search(*words, job=lr, **settings)
    assert not Path("s/study.db").exists()


def test_without_optuna_it_is_told_what_to_install(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match="type pip install 'optuna>=4,<5'"):
        search(LR, job=lr)


def test_hydra_finds_the_sweeper_and_a_choice_that_is_not_there_is_told_first(tmp_path: Path) -> None:
    assert "hydra_plugins.gan_experiments_sweeper.OptunaSweeper" in Plugins.instance().class_name_to_class
    done = run("sweep=optuna", "loss=hinge,hinhe", "logger=none", "trainer=cpu", "metrics=digits", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("loss=hinhe: there is no such loss (did you mean hinge?)")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ the study


def test_a_search_finds_the_least_and_goes_on_past_failures(search: Any) -> None:
    scores = iter([None, 3.0, None, 2.0, 2.5])
    _, trials = search(LR, job=lambda words: next(scores), n_trials=4)
    assert [trial.value for trial in trials] == [None, 3.0, None, 2.0]
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    again, trials = search(LR, job=lambda words: next(scores), n_trials=5)
    assert len(again.batches) == 1
    best = OmegaConf.load("s/optimization_results.yaml")
    assert (best.best_value, best.best_params) == (2.0, trials[3].params)


def test_a_search_that_was_killed_draws_what_it_would_have_drawn(search: Any) -> None:
    """The interrupted trial is tried again, then those that an unbroken search would have tried."""

    def killed(words: dict[str, str]) -> float:
        if len(list(Path("s").glob("*.done"))) == 2:
            raise Killed
        Path(f"s/{words['lr']}.done").touch()
        return lr(words)

    words, sampler = [LR, "loss=a,b"], {**TPE, "n_startup_trials": 1}
    first, trials = search(*words, job=killed, n_trials=4, sampler=sampler)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "RUNNING"]
    second, trials = search(*words, job=lr, n_trials=4, sampler=sampler)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert second.batches[0] == first.batches[2]
    Path("s/study.db").unlink()
    unbroken, _ = search(*words, job=lr, n_trials=4, sampler=sampler)
    assert unbroken.batches == first.batches[:2] + second.batches


def test_two_at_a_time_and_every_combination_once(search: Any) -> None:
    words, sampler = ["a=1,2,3", "b=range(0,2)"], {**TPE, "_target_": "optuna.samplers.BruteForceSampler"}
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.sampler: FloatDistribution\.step must be given"):
        search(LR, job=lr, sampler=sampler, storage="sqlite:///s/other.db")
    launcher, trials = search(*words, job=lambda words: float(words["a"]), n_trials=20, n_jobs=2, sampler=sampler)
    assert [len(batch) for batch in launcher.batches] == [2, 2, 2]
    assert sorted(tuple(trial.params.values()) for trial in trials) == [(a, b) for a in (1, 2, 3) for b in (0, 1)]


def test_a_stop_ends_the_search(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the jobs run in other processes: they return nothing, and no other is launched."""
    asked: list[int] = []
    monkeypatch.setattr(sweeps.Sweep, "asked_to_stop", lambda self: len(asked))
    launcher, _ = search(LR, job=lambda words: asked.append(15))
    assert len(launcher.batches) == 1


def test_without_a_score_there_is_no_best(search: Any, capsys: pytest.CaptureFixture[str]) -> None:
    search(LR, job=lambda words: None, n_trials=1)
    assert capsys.readouterr().err == "no trial has a score: there is no best one\n"
    with pytest.raises(TrainingFailure, match="no trial has a score"):
        search(LR, job=lr, n_trials=1)


@pytest.mark.parametrize(
    ("words", "settings", "line"),
    [
        (["a=1,2,3"], {}, r"a was searched in .*\(1, 2\).* and is now in .*\(1, 2, 3\).*: type hydra.sweep.dir="),
        (["a=1,2"], {"direction": "maximize"}, "holds a search to minimize and this is one to maximize: type hydra"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(search: Any, words: list[str], settings: Any, line: str) -> None:
    search("a=1,2", job=lambda words: 0.0, n_trials=1)
    with pytest.raises(ConfigError, match=line):
        search(*words, job=lambda words: 0.0, **settings)


def test_the_database_of_another_version_is_left_alone(search: Any) -> None:
    search(LR, job=lr, n_trials=1)
    for version, how in (
        ("v2.6.0.a", "optuna storage upgrade --storage sqlite:///s/study.db"),
        ("v99", "pip install"),
    ):
        with sqlite3.connect("s/study.db") as database:
            database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        with pytest.raises(ConfigError, match=f"was written by another version of optuna: type {how}"):
            search(LR, job=lr)
    Path("s/study.db").write_text("no database")
    with pytest.raises(ConfigError, match=r"cannot be opened \(.*not a database\)"):
        search(LR, job=lr)
    assert Path("s/study.db").read_text() == "no database"


def test_a_check_tries_one_and_keeps_nothing(search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps.Sweep.current, "check", True)
    monkeypatch.setattr(optuna, "load_study", lambda **_: SimpleNamespace(trials=None))
    launcher, _ = search(LR, job=lambda words: 0.0)
    assert len(launcher.batches) == 1
    assert list(Path("s").iterdir()) == []
