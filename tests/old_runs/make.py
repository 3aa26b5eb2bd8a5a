"""Makes the run folders beside it: a small run of each family, by the code as it is now, and how far it then goes on.

    python tests/old_runs/make.py

Later code must open them, go on where they stopped and compare them; tests/test_old_runs.py does. Make them again only
to add a family: their worth is that they are old.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import conftest  # noqa: F401
import torch
from omegaconf import DictConfig
from support import REPOSITORY, run, shrink, small_data

from gan_experiments.runs import resume

DIGITS = ("dcgan", "wgan_gp", "sngan_projection", "r3gan", "pggan", "stylegan2")
FAMILIES: dict[str, str | None] = dict.fromkeys(DIGITS) | {
    "unrolled_gan": None,
    "cyclegan": "unpaired",
    "stargan": "domains",
    "context_encoder": "folder",
    "srresnet": "super_resolution",
}
"""The data of each, where they do not come with the package."""


def smallest(cfg: DictConfig) -> None:
    """Make networks of two channels."""
    shrink(cfg)
    for node in cfg.model.values():
        if isinstance(node, DictConfig) and "width" in node:
            node.width = 2


def words(model: str) -> list[str]:
    """What is typed in a folder to begin a run there; the images that it needs are written beside it."""
    data = FAMILIES[model]
    made = small_data(Path("r"), data) if data else ["data.batch_size=4"]
    scored = model in DIGITS
    metrics = ["metrics=digits", "metrics.num_fake=16", "metrics.num_real=16"] if scored else ["metrics=none"]
    return [f"model={model}", *made, *metrics, "trainer=cpu", "logger=csv", "callbacks.health.every=0"]


def goes_on(folder: Path) -> dict[str, float]:
    """The norm of each tensor after 8 images more; the run folder is `r` in this folder."""
    shutil.copytree(folder / "r", folder / "on")
    done = run("ckpt=on", "images=16", folder=folder, change=smallest)
    assert done.returncode == 0, done.stderr
    state = resume.load(folder / "on" / "checkpoints" / "last.ckpt")["state_dict"]
    return {name: value.double().norm().item() for name, value in state.items() if isinstance(value, torch.Tensor)}


def make(model: str) -> dict[str, Any]:
    """Train a family and keep what its folder holds of text, and its checkpoint."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with contextlib.chdir(folder):
            typed = words(model)
        done = run(*typed, "images=8", "hydra.run.dir=r", folder=folder, change=smallest)
        assert done.returncode == 0, done.stderr
        end = goes_on(folder)
        goal = HERE / model
        shutil.rmtree(goal, ignore_errors=True)
        shutil.copytree(
            folder / "r",
            goal,
            ignore=shutil.ignore_patterns("samples", "best.ckpt", "run.log", "hydra.yaml", ".lock"),
        )
        return end


if __name__ == "__main__":
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    ends = {model: make(model) for model in FAMILIES}
    (HERE / "ends.json").write_text(json.dumps({"commit": commit.stdout.strip(), "ends": ends}, indent=1) + "\n")
