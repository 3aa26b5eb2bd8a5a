"""Run folders and checkpoints of before open, go on to where the code of then went, are drawn from and compared."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from support import REPOSITORY, run

OLD = REPOSITORY / "tests" / "old_runs"
sys.path.append(str(OLD))

import make

ENDS = json.loads((OLD / "ends.json").read_text())["ends"]


def test_they_are_small_and_of_every_family() -> None:
    assert {path.parent.name for path in OLD.glob("*/config.yaml")} == set(make.FAMILIES) == set(ENDS)
    assert sum(path.stat().st_size for path in OLD.rglob("*") if path.is_file()) < 2_000_000


@pytest.mark.parametrize("model", make.FAMILIES)
def test_an_old_run_goes_on_to_the_end_that_it_had(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the rounding of another processor: the norm of every tensor of the model, its averages and its buffers.

    The gradient of a bias that a norm takes out again is rounding alone, and Adam makes whole steps of it, which the
    running mean of the norm follows.
    """
    monkeypatch.chdir(tmp_path)
    make.words(model)  # writes the images
    shutil.copytree(OLD / model, "r")
    ends = make.goes_on(tmp_path)
    assert ends.keys() == ENDS[model].keys()
    for name, norm in ends.items():
        slack = 5e-3 if name.endswith(("bias", "running_mean")) else 1e-4
        assert norm == pytest.approx(ENDS[model][name], rel=1e-3, abs=slack), name


@pytest.mark.parametrize("model", make.DIGITS)
def test_an_old_run_is_drawn_from(model: str, tmp_path: Path) -> None:
    done = run(f"run={OLD / model}", "n=4", "out=drawn", "device=cpu", verb="sample", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "drawn").glob("*.png"))


def test_old_runs_are_compared(tmp_path: Path) -> None:
    done = run(*(str(OLD / model) for model in make.DIGITS), "out=here", verb="compare", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "here" / "table.md").read_text()
    for model in make.DIGITS:
        fid = json.loads((OLD / model / "scores.json").read_text())["last"]["scores"]["fid_digits"]["value"]
        assert re.search(rf"\| +{fid:.4g} \|", table)
