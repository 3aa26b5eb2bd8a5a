"""Whoever starts the processes, and however often: torchrun, SLURM, a kill, `resume=true`."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support import REPOSITORY, Started, bare_checkpoint, compose, difference, run, small, start, train

from gan_experiments import processes
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import resume

RUN = str(REPOSITORY / "src/gan_experiments/run.py")
TINY = (
    "model.generator.width=4",
    "model.discriminator.width=4",
    "metrics=none",
    "logger=csv",
    "trainer.accelerator=cpu",
    "callbacks.checkpoints.every=64",
)


def state(folder: Path) -> dict[str, Any]:
    """The last checkpoint without what names the command and the folder."""
    checkpoint = resume.load(folder / "checkpoints" / "last.ckpt")
    for key in ("config", "overrides"):
        checkpoint["gan_experiments"].pop(key)
    return checkpoint


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------ who starts them


def test_torchrun_starts_again_what_was_killed_and_ends_where_an_unbroken_run_does(tmp_path: Path) -> None:
    """One rank is killed; torchrun starts both again, in the same folder, from the last checkpoint."""
    words = [*TINY, "images=1920"]
    whole = run(*words, "trainer=ddp_cpu", "hydra.run.dir=whole", folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=1", RUN, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=said)
        while not list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")):
            assert process.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.02)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        assert process.wait(timeout=200) == 0, (tmp_path / "said").read_text()
    folders = list(tmp_path.glob("outputs/*/*/"))
    assert len(folders) == 1
    assert difference(state(tmp_path / "whole"), state(folders[0])) == {}


def test_slurm_queues_the_job_again_and_it_goes_on(tmp_path: Path) -> None:
    """Two tasks as srun starts them; SIGUSR1 when the time is up; the requeued job ends what it began."""
    queue = tmp_path / "bin" / "scontrol"
    queue.parent.mkdir()
    queue.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/queued\n')
    queue.chmod(queue.stat().st_mode | stat.S_IEXEC)
    folder = tmp_path / "outputs" / "slurm" / "77-0"

    def srun(restarts: int) -> list[Started]:
        shared = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "2"}
        shared |= {"SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0", "SLURM_NODELIST": "localhost,localhost"}
        shared |= {"SLURM_JOB_NAME": "gan", "PATH": f"{queue.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        shared |= {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
        words = ["trainer=slurm", *TINY, "images=3200"]
        return [
            start(*words, folder=tmp_path, **shared, SLURM_PROCID=str(rank), SLURM_NODEID=str(rank)) for rank in (0, 1)
        ]

    tasks = srun(restarts=0)
    wait_for(folder / "checkpoints" / "last.ckpt")
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
    ended = [task.wait() for task in tasks]
    assert [task.returncode for task in ended] == [128 + signal.SIGUSR1, 0], ended  # rank 0 speaks for all
    assert (tmp_path / "queued").read_text() == "requeue 77\n"
    assert 0 < state(folder)["gan_experiments"]["images_seen"] < 3200
    tasks = srun(restarts=1)
    ended = [task.wait() for task in tasks]
    assert [task.returncode for task in ended] == [0, 0], ended
    assert state(folder)["gan_experiments"]["images_seen"] == 3200
    assert (folder / "run.log").exists()


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torchrun had started this process as the second of four, two on each of two machines."""
    started = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    for name, value in started.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("torchrun")
def test_the_processes_that_were_started_decide(tmp_path: Path) -> None:
    for trainer in ("default", "ddp_cpu", "gpu"):
        node = compose(tmp_path, f"trainer={trainer}").trainer
        processes.adopt(node)
        assert (node.devices, node.num_nodes) == (2, 2)
        assert node.strategy._target_.endswith("FlatDDPStrategy")
    node = compose(tmp_path, "trainer.devices=3").trainer
    with pytest.raises(ConfigError, match="torchrun started 2 processes on this machine"):
        processes.adopt(node, typed=True)
    assert processes.words() == ["hydra.job.name=rank_1", "hydra.output_subdir=null"]
    with pytest.raises(ConfigError, match="type python instead of torchrun"):
        processes.require_alone()


def test_a_process_that_is_alone_is_left_as_it_is(tmp_path: Path) -> None:
    node = compose(tmp_path).trainer
    before = OmegaConf.to_container(node)
    processes.adopt(node, "default")
    assert OmegaConf.to_container(node) == before
    assert (processes.rank(), processes.words()) == (0, [])
    with pytest.raises(ConfigError, match="trainer=slurm: srun has to start the processes"):
        processes.adopt(node, "slurm")
    with pytest.raises(ConfigError, match=r"trainer\.num_nodes=2: something has to start"):
        processes.adopt(compose(tmp_path, "trainer.num_nodes=2").trainer)


# ------------------------------------------------------------------------------------------ resume=true


def _run_of(folder: Path, *words: str, checkpoint: bool = True, age: float = 0.0) -> Path:
    """A run folder as a killed run leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(list(words)), folder / ".hydra" / "overrides.yaml")
    os.utime(folder / ".hydra" / "overrides.yaml", (time.time() - age,) * 2)
    if checkpoint:
        (folder / "checkpoints").mkdir()
        saved = {"overrides": list(words), "images_seen": 4}
        torch.save(bare_checkpoint(**saved), folder / "checkpoints" / "last.ckpt")
        (folder / "config.yaml").write_text("images: 8\n")
    return folder


def test_the_latest_run_of_the_same_words_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["seed=1", "model=dcgan"]
    assert resume.command_line([*words, "resume=true"]) == [*words, "resume=true"], "there is none: begin"
    outputs = tmp_path / "outputs"
    _run_of(outputs / "2026-01-01" / "00-00-00", *words, age=100)
    latest = _run_of(outputs / "2026-01-02" / "00-00-00", "model=dcgan", "seed=1", "ckpt=old", "resume=true", age=50)
    _run_of(outputs / "2026-01-03" / "00-00-00", "model=dcgan", "seed=2")
    _run_of(outputs / "sweeps" / "some" / "model-dcgan_seed-1", *words)
    found = resume.command_line([*words, "resume=true"])
    assert f"hydra.run.dir='{latest}'" in found
    assert f"ckpt='{latest}/checkpoints/last.ckpt'" in found
    assert resume.command_line(words) == words, "nobody asked"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = _run_of(tmp_path / "outputs" / "2026-01-01" / "00-00-00", "seed=1", checkpoint=False)
    assert resume.command_line(["seed=1", "resume=true"]) == ["seed=1", "resume=true", f"hydra.run.dir='{folder}'"]
    named = resume.command_line(["seed=1", "resume=true", "hydra.run.dir=mine"])
    assert named == ["seed=1", "resume=true", f"hydra.run.dir='{tmp_path / 'mine'}'"]


def test_resume_goes_on_and_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    words = [*TINY, "images=128", "resume=true"]
    first = run(*words, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    outcome = next(tmp_path.glob("outputs/*/*/outcome.json"))
    outcome.unlink()  # as if killed after the last checkpoint
    again = run(*words, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert '"finished"' in outcome.read_text()
    assert "has seen its 128 images before" in again.stdout
    assert len(list(tmp_path.glob("outputs/*/*/"))) == 1


def test_a_restart_is_no_matter_of_the_verbs_that_do_not_train(tmp_path: Path) -> None:
    """The checkpoint of the job's run is not put among their words."""
    _run_of(tmp_path / "outputs" / "slurm" / "7-0", "seed=1")
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_RESTART_COUNT": "1"}
    done = run("run=nowhere", verb="evaluate", folder=tmp_path, **job)
    assert done.returncode == 2
    assert done.stderr.strip() == "run=nowhere: there is no such file or folder; type run= a run folder or a checkpoint"


# ------------------------------------------------------------------------------------------ killed while it writes


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import conftest
from support import small, start, train
import lightning as L

save, saved = L.Trainer.save_checkpoint, [0]

def half(trainer, path, *args, **kwargs):
    save(trainer, path, *args, **kwargs)
    saved[0] += 1
    if saved[0] == 3:
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

L.Trainer.save_checkpoint = half
train(small(Path({folder!r}), "dcgan"), every=4)
"""


def test_a_kill_in_the_middle_of_writing_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = KILLED_WHILE_WRITING.format(tests=str(REPOSITORY / "tests"), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (half,) = (folder / "checkpoints").glob(".last.*.unfinished.ckpt")
    last = folder / "checkpoints" / "last.ckpt"
    assert resume.load(last)["gan_experiments"]["images_seen"] == 8
    train(small(folder, "dcgan"), checkpoint=last, every=10**9)
    assert not half.exists()
    train(small(tmp_path / "whole", "dcgan"), every=10**9)
    assert difference(state(folder), state(tmp_path / "whole")) == {}


def test_output_is_another_word_for_the_folder_of_a_run(tmp_path: Path) -> None:
    """It is resumed in, and is not overwritten."""
    first = run(*TINY, "images=64", "output=mine", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    refused = run(*TINY, "images=128", "output=mine", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("mine holds a run")
    assert state(tmp_path / "mine")["gan_experiments"]["images_seen"] == 64
    begins = tmp_path / "begins with"
    words = [*TINY, "images=128", "output=mine", "resume=true"]
    again = run(*words, folder=tmp_path, change=lambda cfg: begins.write_text(str(cfg.ckpt)))
    assert again.returncode == 0, again.stderr
    assert begins.read_text().endswith("mine/checkpoints/last.ckpt")
    assert state(tmp_path / "mine")["gan_experiments"]["images_seen"] == 128


def test_freed_memory_is_kept_for_the_next_step() -> None:
    """40 MB that are written, freed and asked for again cost 10,000 page faults each time by default, and then none."""
    code = """
import resource, numpy
from gan_experiments import processes
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        numpy.full(10_000_000, 1, dtype=numpy.float32)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
processes.keep_freed_memory()
faults()
print(first, faults())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    before, after = map(int, said.stdout.split())
    assert after < before / 10
