"""Sweeps whose jobs run in other processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from support import run

from gan_experiments.runs import configs, run_folder

SMALL = ("model.generator.width=4", "model.discriminator.width=4", "trainer=cpu", "logger=none", "images=64")
GRID = ("sweep=optuna", "hydra.sweeper.sampler._target_=optuna.samplers.BruteForceSampler", "hydra.sweeper.params=null")
TWO_AT_A_TIME = ("hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "metrics=digits", "metrics.num_fake=200")
KINDS = {
    "joblib": (*GRID, *TWO_AT_A_TIME, "callbacks.samples.every=0", "callbacks.scores.at_start=false"),
    "submitit_local": ("callbacks=none", "metrics=none"),
}
"""With joblib a search, with submitit a sweep of given values."""


@pytest.mark.parametrize("launcher", KINDS)
def test_jobs_in_other_processes(launcher: str, tmp_path: Path) -> None:
    """One of two fails: the other is done, the list and the status are those of jobs in one process."""
    pytest.importorskip(launcher.partition("_")[0])
    words = ["-m", "loss=wasserstein,hinge", *SMALL, *KINDS[launcher], "hydra.sweep.dir=s"]
    done = run(*words, f"hydra/launcher={launcher}", folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    ended = {path.parent.name: run_folder.outcome(path.parent) for path in tmp_path.glob("s/*/outcome.json")}
    assert sorted((o.status, o.images) for o in ended.values() if o) == [("failed", 0), ("finished", 64)]
    assert "sweep s: 1 finished, 1 failed" in done.stdout
    assert "  failed  loss=wasserstein: loss=wasserstein needs a Lipschitz critic" in done.stderr
    assert not list(tmp_path.glob("s/.jobs"))
    best = list(tmp_path.glob("s/optimization_results.yaml"))
    assert ["loss: hinge" in path.read_text() for path in best] == [True] * (launcher == "joblib")


def test_slurm_composes() -> None:
    pytest.importorskip("submitit")
    with initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        words = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=600", "hydra.launcher.gpus_per_node=2"]
        cfg = compose("run", overrides=words, return_hydra_config=True)
    assert cfg.hydra.launcher._target_.endswith("SlurmLauncher")
