"""The scores of a run: which is the best, and what is never compared."""

import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_experiments.assembly import report
from gan_experiments.callbacks.record import log_picture
from gan_experiments.callbacks.scores import Scores
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.contracts import AS_THE_DATA
from gan_experiments.drawing import save_png
from gan_experiments.loggers.run_logger import RunLogger
from gan_experiments.loggers.wandb_run import WandbRun
from gan_experiments.metrics.evaluator import Score
from gan_experiments.metrics.passports import doubts, short_name, unlike
from gan_experiments.verbs import evaluate


class Judge:
    """Gives the scores that it was given."""

    def __init__(self, num_fake=100, labels=None, **values):
        self.num_fake, self.values = num_fake, values
        self.said = {"labels": labels} if labels else {}

    def real(self, data):
        return None

    def measure(self, *_, **__):
        passport = {"num_fake": self.num_fake, "versions": {"torch": "1"}, "estimator": "e", **self.said}
        return SimpleNamespace(scores={name: Score(name, value, None, passport) for name, value in self.values.items()})


class Runs(SimpleNamespace):
    """A run as the callback sees it."""

    device, averages = "cpu", {}
    run = SimpleNamespace(seed=0)

    def paused(self):
        return nullcontext()

    def sampler(self, seed, ema):
        return None


class Passports(RunLogger):
    """Keeps the passports that it is given."""

    name, version = "passports", ""

    def __init__(self, kept):
        super().__init__()
        self.log_passports = kept.append

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *_, **__):
        pass


@pytest.fixture
def score(tmp_path):
    logged = []
    trainer = SimpleNamespace(datamodule=None, is_global_zero=True, loggers=[Passports(logged)])
    callback = Scores(str(tmp_path), Judge(), every=1)

    def at(images, judge):
        callback.evaluator = judge
        callback._score(trainer, Runs(images_seen=images))
        return callback

    at.logged = logged
    return at


def test_the_first_score_decides_the_best(score):
    for images, fid in enumerate([1.0, 5.0, 3.0, 4.0]):
        score(images, Judge(fid=fid, precision=fid))
    assert score(9, Judge(fid=3.5, precision=9.0)).best_at == 2  # not the untrained one
    assert score.logged[-1]["fid"]["num_fake"] == 100


def test_more_precision_is_better(score):
    for images, precision in enumerate([0.9, 0.1, 0.4, 0.3]):
        callback = score(images, Judge(precision=precision))
    assert callback.best_at == 2


def test_images_that_are_not_finite_are_never_the_best(score):
    score(1, Judge(fid=math.nan))
    assert score(2, Judge(fid=7.0)).best_at == 2
    assert score(3, Judge(fid=math.nan)).best_at == 2


def test_unlike_scores_are_not_compared_when_a_run_goes_on(score, tmp_path, caplog):
    score(1, Judge(fid=3.0))
    score(2, Judge(fid=2.0))
    callback = score(3, Judge(num_fake=10, fid=9.0))
    assert callback.best_at == 3
    assert "measured otherwise (another num_fake)" in caplog.text
    told = json.loads((tmp_path / "scores.json").read_text())
    assert [row["images"] for row in told["history"]] == [3]
    assert told["earlier"][0]["best"]["images"] == 2
    goes_on = Scores(str(tmp_path), Judge(), every=1)
    goes_on.load_state_dict(told)
    assert goes_on.state_dict() == told


def test_a_score_more_or_less_leaves_the_best_alone(score):
    score(1, Judge(fid=3.0))
    assert score(2, Judge(fid=4.0, kid=1.0)).best_at == 1
    callback = score(3, Judge(fid=5.0))
    assert (callback.best_at, len(callback.history), callback.earlier) == (1, 3, [])
    assert score(4, Judge(kid=1.0)).best_at == 4


def test_versions_do_not_matter():
    passport = {"num_fake": 3, "versions": {"torch": "1"}, "warnings": []}
    other = {"num_fake": 3, "versions": {"torch": "2"}, "warnings": ["few"]}
    assert unlike(passport, other) == []
    assert short_name(passport) == short_name(other)
    assert unlike(passport, {**other, "num_fake": 4, "k": 3}) == ["num_fake", "k"]
    assert short_name(passport) != short_name({**other, "num_fake": 4})


def test_wandb_is_told_the_passports(tmp_path):
    logger = WandbRun(str(tmp_path), "project", mode="disabled")
    config, defined = {}, {}
    logger._experiment = SimpleNamespace(
        config=SimpleNamespace(update=lambda told, **_: config.update(told)),
        define_metric=lambda name, **told: defined.update({name: told}),
    )
    passport = {"num_fake": 3}
    logger.log_passports({"fid": passport})
    assert defined == {"fid": {"step_metric": "images", "summary": "min,last"}}
    assert config == {"passport": {"fid": short_name(passport)}, "passports": {"fid": passport}}


def test_lightnings_own_loggers_get_pictures(tmp_path):
    save_png(torch.zeros(3, 8, 8, dtype=torch.uint8), tmp_path / "a.png", None)
    logger = TensorBoardLogger(tmp_path, "logs", "")
    trainer = SimpleNamespace(loggers=[logger, CSVLogger(tmp_path, "csv", "")])  # the second takes none
    log_picture(trainer, "samples", tmp_path / "a.png", 64)
    log_picture(trainer, "training", tmp_path / "a.gif", 64)
    logger.experiment.close()
    found = EventAccumulator(str(tmp_path / "logs")).Reload()
    assert found.Tags()["images"] == ["samples"]
    assert [(event.step, event.width) for event in found.Images("samples")] == [(64, 8)]


def test_scores_of_other_labels_begin_anew(score):
    """A run of before said nothing of its labels, which were uniform; now they are drawn as the data's."""
    score(1, Judge(fid=1.0))
    callback = score(2, Judge(labels=AS_THE_DATA, fid=5.0))
    assert [row["fid"] for row in callback.history] == [5.0]
    assert callback.best_at == 2
    assert callback.earlier[0]["last"]["images"] == 1


def test_doubts_are_told_once_each():
    told = {"fid": "few", "kid": None, "fid_b": "few", "memorised": "other split"}
    passports = {name: {"warnings": [doubt] if doubt else []} for name, doubt in told.items()}
    assert doubts(passports) == ["fid, fid_b: few", "memorised: other split"]


def test_evaluate_and_a_runs_last_lines_tell_doubts(capsys, tmp_path):
    doubtful = Score("fid", 1.0, None, {"warnings": ["fewer images than feature dimensions (64)"]})
    evaluate._print({"fid": doubtful}, {})
    assert capsys.readouterr().out.splitlines()[1] == "fid: fewer images than feature dimensions (64)"
    scores = Scores(str(tmp_path), None, every=1)
    scores.history, scores.last = [{"images": 8, "fid": 1.0}], {"images": 8, "scores": {"fid": doubtful.to_dict()}}
    run = SimpleNamespace(
        trainer=SimpleNamespace(is_global_zero=True, loggers=[], callbacks=[scores, Stopping()]),
        model=SimpleNamespace(images_seen=8, at_end=lambda: True),
        folder=tmp_path,
        missing="",
    )
    lines = report.closing(run)[0].splitlines()
    assert "           fid: fewer images than feature dimensions (64)" in lines
    assert ["fid", "1"] in [line.split() for line in lines]
