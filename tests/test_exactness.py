"""One truth: the same result on one rank and on two, straight and resumed, for every file of conf/model/."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exactness import (
    BATCH,
    ONE_OF_EACH,
    STOPS,
    Case,
    all_cases,
    gap,
    on_two_ranks,
    place,
    resumed,
    resumes,
    straight,
)
from support import MODELS, Variant, difference

from gan_experiments.assembly import build, trained
from gan_experiments.callbacks.scores import Scores
from gan_experiments.runs import resume

LIMIT = 1e-12
LIMIT_WITH_BATCH_NORM = 1e-10  # it divides by small variances


def load(path: Path) -> dict[str, Any]:
    """A checkpoint without the config, which names the run's folder."""
    state = resume.load(path)
    state["gan_experiments"].pop("config")
    return state


# ------------------------------------------------------------------------------------------ any stop


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(
    model: str, variants: Callable[[str], Variant], tmp_path: Path
) -> None:
    """Weights, averages, optimizers, schedules, pools, counters, health, and the losses that were not recorded yet."""
    whole, cfg = variants(model).folder / "checkpoints", copy.deepcopy(variants(model).cfg)
    trained.require_fit(cfg, whole / "last.ckpt")  # as `ckpt=` asks before it reads data
    cfg.output = str(tmp_path)
    Variant.train(cfg, whole / "1.ckpt")
    assert load(whole / "1.ckpt")["gan_experiments"]["batches"] == 1
    assert difference(load(whole / "last.ckpt"), load(tmp_path / "checkpoints/last.ckpt")) == {}


@pytest.mark.parametrize("model", ONE_OF_EACH)
def test_stopped_anywhere(model: str, tmp_path: Path) -> None:
    """In the middle of an epoch, at its end, in a later one; with five steps of a critic for one of its generator."""
    case, folder = Case(model, "own batch norm"), tmp_path / "one"
    straight(case, folder, stops=STOPS)
    for stop in STOPS:
        assert difference(load(folder / "checkpoints/last.ckpt"), load(resumed(case, folder, stop))) == {}, STOPS[stop]


def _evaluated(folder: Path) -> Scores:
    node = {
        "_target_": "gan_experiments.metrics.evaluator.Evaluator",
        "extractor": {"_target_": "gan_experiments.metrics.extractors.DigitsExtractor"},
        "scores": ["fid", "is"],
        "num_fake": 16,
        "num_real": 8,
        "batch_size": 8,
    }
    return Scores(str(folder), build.make(node), every=8)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", STOPS)
def test_with_workers_accumulation_and_scores_in_between(
    workers: int, accumulate: int, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, folder, config = Case("dcgan", "own batch norm"), tmp_path / "one", Case.config

    def with_these(self: Case, folder: Path, ranks: int = 1) -> Any:
        cfg = config(self, folder, ranks)
        cfg.data.workers, cfg.trainer.accumulate = workers, accumulate
        return cfg

    monkeypatch.setattr(Case, "config", with_these)
    straight(case, folder, stops=[stop], before=[_evaluated(folder)])
    again = resumed(case, folder, stop, before=[_evaluated(tmp_path / "again")])
    states = [load(path) for path in (folder / "checkpoints/last.ckpt", again)]
    assert difference(*states) == {}
    scored = next(v for k, v in states[0]["callbacks"].items() if k.startswith("Scores"))
    assert [row["images"] for row in scored["history"]] == [0, 8, 16, 24]
    if stop == 1:
        # Scores are looked at and not felt.
        straight(case, tmp_path / "unscored")
        unscored = load(tmp_path / "unscored" / "checkpoints/last.ckpt")
        assert difference(states[0]["state_dict"], unscored["state_dict"]) == {}
        assert difference(states[0]["optimizer_states"], unscored["optimizer_states"]) == {}


# ------------------------------------------------------------------------------------------ any number of ranks


CASES = all_cases(further=ONE_OF_EACH)
LONG = pytest.mark.timeout(900)  # the first of these tests waits for all the trainings on two ranks


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case trained on two ranks; one variant of each class is resumed too (benchmarks/exactness.py: all)."""
    folder = tmp_path_factory.mktemp("ranks")
    on_two_ranks(folder, CASES, ONE_OF_EACH)
    return folder


@LONG
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{case.feature}")
def test_two_ranks_train_as_one(case: Case, two_ranks: Path) -> None:
    """Equal global batch, float64: the ranks agree exactly, and with one process to rounding."""
    folder = place(two_ranks, case)
    made = [torch.load(folder / f"rank-{rank}.pt") for rank in (0, 1)]
    assert difference(made[0]["tensors"], made[1]["tensors"]) == {}
    stops = resumes(case, ONE_OF_EACH)
    if stops:
        ends = [load(folder / name / "checkpoints/last.ckpt") for name in ("two", "two-from-2-on-2")]
        assert difference(*ends) == {}
    if case.feature not in ("synchronised batch norm", "techniques") and not case.compares_samples:
        # One reduction an optimizer step; and one at each reading of the losses: two at the checkpoint that is resumed
        # from, one at the end.
        # One more on the way through each unrolled step, and on the way back.
        cfg = case.config(folder / "none")
        unrolled = 2 * case.batches * cfg.model.get("unrolling_steps", 0)
        # The same for the means of both kinds of logits, in either player's loss.
        relative = 4 * case.batches if cfg.loss._target_.endswith("RelativisticAverage") else 0
        # And for the mean length of paths, on the way there and back.
        lengths = 2 * (case.batches // cfg.technique.path_length.every) if "path_length" in cfg.technique else 0
        # And for what ADA follows, in each batch.
        signs = case.batches if cfg.get("augment", {}).get("target") is not None else 0
        # And to find the most convincing fakes of all ranks, on the way there and back, in each step of the generator.
        picked = 2 * (made[0]["steps"] - case.batches) if "top_k" in cfg.technique else 0
        # And for the accuracy of a discriminator that rests while it is right too often.
        balance = case.batches if "adaptive_balance" in cfg.technique else 0
        further = unrolled + relative + lengths + signs + picked + balance
        readings = 3 if stops else 1
        assert made[0]["reductions"] == made[0]["steps"] + readings + further
    if case.feature != "own batch norm":
        alone = straight(case, folder / "one", stops=None)
        assert alone.images_seen == case.batches * BATCH
        assert gap(alone, made[0]["tensors"]) <= (LIMIT_WITH_BATCH_NORM if case.keeps_batch_norm else LIMIT)
    if case.feature == "plain" and stops:  # begun on two ranks, ended on one
        resumed(case, folder / "one", 2, 1, source=folder / "two")
        last = load(folder / "one-from-2-on-1" / "checkpoints/last.ckpt")["state_dict"]
        assert gap(alone, {k: v for k, v in last.items() if isinstance(v, torch.Tensor)}) <= LIMIT


@LONG
def test_ranks_that_no_longer_agree_are_stopped_with_the_name_of_the_tensor(two_ranks: Path) -> None:
    said = [(two_ranks / f"parted-{rank}").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    assert "'generator.layers.9.weight' of rank 1 differs from rank 0's after 8 images (1 of " in said[0]


@LONG
def test_ranks_stop_after_the_same_batch_when_one_is_asked_to(two_ranks: Path) -> None:
    assert [(two_ranks / f"stopped-{rank}").read_text() for rank in (0, 1)] == ["4", "4"]
