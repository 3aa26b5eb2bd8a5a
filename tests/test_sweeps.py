"""Sweeps: names, failures, going on, ranks, the study, W&B."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support import REPOSITORY, difference, run, start

from gan_experiments.contracts import ConfigError
from gan_experiments.launch import sweeps
from gan_experiments.runs import configs, names, resume, run_folder

TINY = ("model.generator.width=4", "model.discriminator.width=4", "trainer=cpu", "logger=none", "images=64")
PLAIN = (*TINY, "callbacks=none", "metrics=none")
FEW = ("data.limit=256", "data.batch_size=16", "metrics.num_fake=64")
"""Batches and scores that take little, for jobs that only have to last until they are stopped."""


def _jobs(sweep: Path) -> dict[str, run_folder.Outcome]:
    """How each job ended, by its seed and loss."""
    ended = {path.parent: run_folder.outcome(path.parent) for path in sweep.glob("*/outcome.json")}
    words = {folder: OmegaConf.load(folder / ".hydra" / "overrides.yaml") for folder in ended}
    return {
        " ".join(w for w in words[folder] if w.startswith(("seed=", "loss="))): outcome
        for folder, outcome in ended.items()
        if outcome
    }


# ------------------------------------------------------------------------------------------ names


def test_a_jobs_folder_is_named_by_its_words() -> None:
    assert names.job_folder(["seed=0", "model=dcgan", "check=true", "sweep=optuna"]) == "model-dcgan_seed-0"
    assert names.job_folder([]) == "as_configured"
    found = [
        names.job_folder([word])
        for word in ("a.b=x/y", "a.b=x y", "a.b=[1,2]", "a.b={c:1}", "~a.b", "a.b=" + 90 * "x", "a.b=" + 91 * "x")
    ]
    assert len(set(found)) == len(found)
    assert all(set(name) <= set(names.job_folder(["a=Zz_.-0123456789"]) + name.replace("=", "")) for name in found)
    assert not [name for name in found if set(name) & set("=/ ,[]{}~'\"") or len(name) > 100]


def test_the_same_words_are_the_same_sweep() -> None:
    words = ["-m", "model=dcgan,wgan_gp", "seed=0,1"]
    same = names.folder_of(words)
    assert same == names.folder_of([words[2], words[1], "hydra/launcher=joblib", "--multirun", "check=true"])
    assert same.startswith("outputs/sweeps/model-dcgan-wgan_gp_seed-0-1-")
    assert same != names.folder_of(["-m", "model=dcgan,wgan_gp", "seed=0,2"])
    assert same != names.folder_of([*words, "sweep=optuna"])


def test_ckpt_in_a_sweep_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave out one of ckpt= and -m"):
        sweeps.Sweep.of(["run.py", "-m", "seed=0,1", "ckpt=r"])


# ------------------------------------------------------------------------------------------ a run folder


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with run_folder.held(tmp_path / "r"):
        done = run(*PLAIN, "hydra.run.dir=r", folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("r: another run is in this folder now")
        assert len(done.stderr.strip().splitlines()) == 1
    with run_folder.held(tmp_path / "r"):
        pass


def test_set_aside_keeps_everything(tmp_path: Path) -> None:
    for name in (".lock", "run.log", "config.yaml", "scores.json"):
        (tmp_path / name).write_text(name)
    assert run_folder.set_aside(tmp_path) == tmp_path / "earlier-1"
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run.log", "earlier-1"}
    assert run_folder.set_aside(tmp_path) is None


# ------------------------------------------------------------------------------------------ failing, going on


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Four jobs, two of which cannot be."""
    folder = tmp_path_factory.mktemp("swept")
    done = run("-m", "loss=wasserstein,hinge", "seed=0,1", *PLAIN, "hydra.sweep.dir=s", folder=folder)
    return folder, done


def test_a_job_that_fails_does_not_stop_the_others(swept: tuple[Path, Any]) -> None:
    folder, done = swept
    assert done.returncode == 2, done.stdout + done.stderr
    ended = _jobs(folder / "s")
    assert {words: outcome.status for words, outcome in ended.items()} == {
        "loss=wasserstein seed=0": "failed",
        "loss=wasserstein seed=1": "failed",
        "loss=hinge seed=0": "finished",
        "loss=hinge seed=1": "finished",
    }
    assert ended["loss=hinge seed=1"].images == 64
    listed = [line for line in done.stderr.splitlines() if line.startswith("  failed  ")]
    assert len(listed) == 2
    assert listed[0].startswith("  failed  loss=wasserstein seed=0: loss=wasserstein needs a Lipschitz critic")
    assert "sweep s: 2 finished, 2 failed" in done.stdout
    assert "Traceback" not in done.stderr


def test_what_is_finished_is_not_run_again_unless_its_config_changed(swept: tuple[Path, Any]) -> None:
    """A third seed is added to the sweep; one finished job was done with another value in its config file."""
    folder, _ = swept
    changed = next(path.parent for path in (folder / "s").glob("*hinge*seed-1*/config.yaml"))
    config = OmegaConf.load(changed / "config.yaml")
    config.model.clip_grad_norm = 3.0
    OmegaConf.save(config, changed / "config.yaml")
    kept = next((folder / "s").glob("*hinge*seed-0*/config.yaml"))
    before = kept.stat().st_mtime_ns
    again = run("-m", "loss=hinge", "seed=0,1,2", *PLAIN, "hydra.sweep.dir=s", folder=folder)
    assert again.returncode == 0, again.stderr
    assert kept.stat().st_mtime_ns == before
    assert "finished before, not run again" in again.stdout
    assert "model.clip_grad_norm is None now and was 3.0: run again from its start" in again.stdout
    assert (changed / "earlier-1" / "config.yaml").exists()
    assert "sweep s: 3 finished (1 of them before)" in again.stdout


def test_check_and_mistakes_leave_nothing_behind(tmp_path: Path) -> None:
    done = run("-m", "seed=0,1", *PLAIN, "check=true", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("generator parameters") == 2
    for words, line in (
        (["model=dcgan,dcgn"], "model=dcgn: there is no such model (did you mean dcgan?)"),
        (["sweep=optuna", "metrics=none"], "metrics=none: sweep=optuna has no score to go by; type metrics="),
    ):
        done = run("-m", *words, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_sweep_goes_on_to_the_same_end(tmp_path: Path) -> None:
    words = [*TINY, *FEW[:2], "metrics=none", "images=1280", "callbacks.checkpoints.every=160"]
    words += ["callbacks.samples.every=0", "seed=0,1", "hydra.sweep.dir=s", "-m"]
    process = start(*words, folder=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("s/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    ended = process.wait()
    first = next(tmp_path.glob("s/*/checkpoints/last.ckpt"))
    stopped = resume.load(first)["gan_experiments"]["images_seen"]
    assert 0 < stopped < 1280
    assert ended.returncode == 143
    assert "stopped; the same command goes on" in ended.stdout
    assert [outcome.status for outcome in _jobs(tmp_path / "s").values()] == ["stopped"]
    again = run(*words, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [outcome.images for outcome in _jobs(tmp_path / "s").values()] == [1280, 1280], again.stdout + again.stderr
    alone = run(*words[:-3], "hydra.run.dir=alone", "seed=0", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    ends = [resume.load(path)["state_dict"] for path in (first, tmp_path / "alone" / "checkpoints" / "last.ckpt")]
    assert difference(*ends) == {}


# ------------------------------------------------------------------------------------------ ranks


def test_jobs_of_two_ranks_train_on_their_own_values(tmp_path: Path) -> None:
    """The second job of the sweep ends where the same run by itself does, bit for bit."""
    words = [*TINY, *FEW[:2], "trainer=ddp_cpu", "metrics=none", "callbacks.samples.every=0"]
    done = run("-m", "seed=1,2", *words, "hydra.sweep.dir=s", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = run("seed=2", *words, "hydra.run.dir=alone", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    paths = [next(tmp_path.glob(f"s/*seed-{seed}*/checkpoints/last.ckpt")) for seed in (1, 2)]
    first, second = (resume.load(path)["state_dict"] for path in paths)
    assert difference(second, resume.load(tmp_path / "alone" / "checkpoints" / "last.ckpt")["state_dict"]) == {}
    assert difference(first, second)


# ------------------------------------------------------------------------------------------ optuna


def test_a_study_goes_on_after_a_stop(tmp_path: Path) -> None:
    """Stopped in the second of three trials: two more, one of them the interrupted one, from its checkpoint."""
    optuna = pytest.importorskip("optuna")
    words = [*TINY, *FEW, "sweep=optuna", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=s", "images=640"]
    words += ["callbacks.samples.every=0", "callbacks.scores.at_start=false"]
    words += ["callbacks.checkpoints.every=160", "model.optimizers.generator.lr=tag(log, interval(1e-4, 1e-2))"]
    process = start(*words, folder=tmp_path)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("s/*/checkpoints/last.ckpt"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = run(*words, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "study.db: 1 of 3 trials done, 1 interrupted, to go on" in again.stdout
    assert len(list(tmp_path.glob("s/*/outcome.json"))) == 3
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path}/s/study.db")
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].params == study.trials[2].params
    assert len({trial.params["model.optimizers.generator.lr"] for trial in study.trials}) == 3
    values = sorted(sweeps.value(path.parent) or 0.0 for path in tmp_path.glob("s/*/outcome.json"))
    assert sorted(trial.value for trial in study.trials if trial.value is not None) == values
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "study.db: 3 of 3 trials done" in done.stdout


# ------------------------------------------------------------------------------------------ W&B


def test_the_wandb_sweep_file_drives_a_run(tmp_path: Path) -> None:
    """As W&B's agent calls it: the file's command, the values of one trial, its ids in the environment."""
    file: Any = OmegaConf.to_container(OmegaConf.load(REPOSITORY / "docs" / "wandb_sweep.yaml"), resolve=False)
    chosen = {key: p.get("value", p.get("min", (p.get("values") or [0])[-1])) for key, p in file["parameters"].items()}
    arguments = [f"{key}={value}" for key, value in chosen.items()]
    filled = {"${env}": ["/usr/bin/env"], "${program}": [file["program"]], "${args_no_hyphens}": arguments}
    command = [word for part in file["command"] for word in filled[part]]
    with initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = compose("run", overrides=arguments)
    assert cfg.model.optimizers.generator.lr == chosen["model.optimizers.generator.lr"]
    assert cfg.images == chosen["images"]
    assert file["metric"]["name"] == f"{cfg.metrics.scores[0]}_digits"
    small = ["images=64", *TINY[:2], "trainer=cpu", *FEW, "hydra.run.dir=r"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    identity = {"PATH": path, "WANDB_SWEEP_ID": "abc", "WANDB_RUN_ID": "fromtheagent", "WANDB_MODE": "offline"}
    done = subprocess.run(
        [*command, *small], cwd=tmp_path, env={**os.environ, **identity}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, shlex.join(command) + done.stderr
    assert "  view     wandb leet r/wandb" in done.stdout
    assert (tmp_path / "r" / "wandb" / "run-id").read_text() == "fromtheagent"
    assert list((tmp_path / "r" / "wandb").glob("offline-run-*-fromtheagent"))
    assert file["metric"]["name"] in json.loads((tmp_path / "r" / "scores.json").read_text())["last"]["scores"]


def test_the_wandb_sweep_file_comes_with_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel holds it beside the configs, and `gan-experiments --wandb-sweep` prints it from there or the clone."""
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert wheel["wheel"]["force-include"]["docs/wandb_sweep.yaml"] == "gan_experiments/wandb_sweep.yaml"
    assert "docs/wandb_sweep.yaml" in wheel["sdist"]["include"], "a wheel may be built from it"
    file = REPOSITORY / "docs" / "wandb_sweep.yaml"
    assert configs.wandb_sweep() == file
    monkeypatch.setattr(configs, "__file__", str(tmp_path / "gan_experiments" / "runs" / "configs.py"))
    (tmp_path / "gan_experiments").mkdir()
    (tmp_path / "gan_experiments" / "wandb_sweep.yaml").touch()
    assert configs.wandb_sweep() == tmp_path / "gan_experiments" / "wandb_sweep.yaml"
    monkeypatch.undo()
    printed = run("--wandb-sweep", folder=tmp_path)
    assert (printed.returncode, printed.stdout) == (0, file.read_text())


def test_a_sweep_is_one_group(tmp_path: Path) -> None:
    done = run("-m", "seed=0", *PLAIN, "logger=wandb", "hydra.sweep.dir=mine", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    config = OmegaConf.load(next(tmp_path.glob("mine/*/config.yaml")))
    assert config.logger.wandb.group == "mine"
    with initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        assert compose("run").logger.wandb.group is None
