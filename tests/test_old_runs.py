"""Run folders and checkpoints of before open, go on to where the code of then went, are drawn from and compared."""

from __future__ import annotations

import json
import re
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from support import REPOSITORY, run
from torch import nn

from gan_experiments.assembly.trained import open_run

OLD = REPOSITORY / "tests" / "old_runs"
sys.path.append(str(OLD))

import make

NORMS = (nn.BatchNorm2d, nn.InstanceNorm2d)
STEPS = 4  # of an optimizer at most, in the 8 images that a run goes on for
ENDS = json.loads((OLD / "ends.json").read_text())["ends"]


def test_they_are_small_and_of_every_family() -> None:
    assert {path.parent.name for path in OLD.glob("*/config.yaml")} == set(make.FAMILIES) == set(ENDS)
    assert sum(path.stat().st_size for path in OLD.rglob("*") if path.is_file()) < 2_000_000


def taken_out_again(model: str) -> dict[str, float]:
    """The biases that the norm behind them takes out again, with the running means that follow, and how far they go.

    Their gradient is rounding alone (see `exactness.gap`), of which Adam makes steps of at most the learning rate for
    each number. What a network computes does not depend on them.
    """
    run = open_run(str(OLD / model), "cpu")
    rates = [node.lr for node in run.cfg.model.optimizers.values()]
    found = {}
    for name, layers in run.model.named_modules():
        for (place, layer), (behind, norm) in pairwise(layers.named_children()):
            bias = getattr(layer, "bias", None)
            if isinstance(layers, nn.Sequential) and isinstance(norm, NORMS) and bias is not None:
                farthest = max(rates) * STEPS * len(bias) ** 0.5
                followed = farthest * (1 - 0.9**STEPS)  # by the momentum of nn.BatchNorm2d
                found |= {f"{name}.{place}.bias": farthest, f"{name}.{behind}.running_mean": followed}
    return found


@pytest.mark.parametrize("model", make.FAMILIES)
def test_an_old_run_goes_on_to_the_end_that_it_had(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the rounding of another processor: the norm of every tensor of the model, its averages and its buffers."""
    monkeypatch.chdir(tmp_path)
    make.words(model)  # writes the images
    shutil.copytree(OLD / model, "r")
    ends, free = make.goes_on(tmp_path), taken_out_again(model)
    held = {name: norm for name, norm in ends.items() if name not in free}
    assert held == pytest.approx({name: ENDS[model][name] for name in held}, rel=1e-3, abs=1e-4)
    assert ends.keys() == ENDS[model].keys()
    for name in ends.keys() & free.keys():
        assert ends[name] == pytest.approx(ENDS[model][name], abs=free[name]), name
    assert len(held) > 0.6 * len(ends)


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
