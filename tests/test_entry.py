"""The one command: its verbs, its help, what it answers to a word that is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from support import REPOSITORY, run

from gan_experiments import __version__
from gan_experiments.launch import command, entry, help_text
from gan_experiments.runs import latest, resume


def test_the_console_script() -> None:
    script = Path(sys.executable).with_name("gan-experiments")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"gan-experiments {__version__}\n"


def test_the_verbs_are_those_that_have_a_config_and_a_body() -> None:
    configs = {path.stem for path in (REPOSITORY / "conf").glob("*.yaml")}
    bodies = {path.stem for path in (REPOSITORY / "src" / "gan_experiments" / "verbs").glob("[!_]*.py")}
    assert set(entry.VERBS) == bodies == configs & bodies == set(help_text.EXAMPLES)


def test_help_lists_the_verbs(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    assert all(f"  {verb:12} {what}" in done.stdout for verb, what in entry.VERBS.items())


@pytest.mark.parametrize("verb", entry.VERBS)
def test_help_explains_every_option_of_a_verb(verb: str) -> None:
    """Each in a line, from the comments of the configs; no word sends anyone to a file."""
    said = help_text.of_verb(verb, entry.VERBS[verb])
    node = OmegaConf.to_container(OmegaConf.load(REPOSITORY / "conf" / f"{verb}.yaml"))
    keys = [key for key in resume.flat(node) if key.partition(".")[0] not in ("defaults", "hydra")]
    assert keys
    for key in keys:
        assert re.search(rf"^  {re.escape(key)}=\S*( +\S|\n {{20,}}\S)", said, re.MULTILINE), f"{key} is not explained"
    assert "conf/" not in said
    assert ".yaml" not in said
    assert all(len(line) <= 160 for line in said.splitlines())


def test_help_of_run_lists_every_choice() -> None:
    said = " ".join(help_text.of_verb("run", "").split())
    for group in ("model", "data", "technique", "loss", "augment", "metrics"):
        for path in (REPOSITORY / "conf" / group).glob("*.yaml"):
            assert re.search(rf"[ =]{path.stem}\b", said), path


def test_a_word_that_is_no_verb(tmp_path: Path) -> None:
    done = run("smaple", "run=r", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("smaple: there is no such verb (did you mean sample?): type it, or begin with ")


def test_a_word_while_torch_is_loaded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal alone, and gone when it is there."""
    command._load()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    command._load()
    assert capsys.readouterr().err == ""
    monkeypatch.delitem(sys.modules, "torch")
    command._load()
    assert capsys.readouterr().err == "loading torch ...\r\033[K"


# ------------------------------------------------------------------------------------------ run=latest


@pytest.fixture
def some_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs in outputs/, the last one in a sweep."""
    monkeypatch.chdir(tmp_path)
    made = (("d/1", ["seed=1"], 1), ("d/2", ["model=wgan_gp"], 0), ("sweeps/s/seed-0", ["seed=0", "loss=hinge"], 0))
    for age, (name, words, seed) in enumerate(made):
        folder = Path("outputs") / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
        (folder / "config.yaml").write_text(f"seed: {seed}\nmodel: {{n_critic: 1}}\n")
        (folder / "checkpoints" / "last.ckpt").touch()
        os.utime(folder / "checkpoints" / "last.ckpt", (age, age))


@pytest.mark.usefixtures("some_runs")
@pytest.mark.parametrize(
    ("word", "means"),
    [
        ("run=latest", "run=outputs/sweeps/s/seed-0"),
        ("ckpt=latest:seed=1", "ckpt=outputs/d/1"),
        ("a=latest:model=dcgan", "a=outputs/sweeps/s/seed-0"),
        ("run=latest:model=dcgan,seed=1", "run=outputs/d/1"),
        ("run=latest:model.n_critic=1,model=wgan_gp", "run=outputs/d/2"),
        ("model.pretrained=latest", "model.pretrained=outputs/sweeps/s/seed-0"),
        ("run=[outputs/d/1,latest]", "run=[outputs/d/1,'outputs/sweeps/s/seed-0']"),
        ("latest", "outputs/sweeps/s/seed-0"),
        ("out=latest", "out=latest"),
        ("run=latest/x", "run=latest/x"),
    ],
)
def test_latest_is_the_last_run_of_a_kind(word: str, means: str) -> None:
    assert latest.settled([word]) == [means]


@pytest.mark.usefixtures("some_runs")
def test_latest_of_a_kind_that_there_is_not(tmp_path: Path) -> None:
    done = run("run=latest:model=biggan", verb="sample", folder=tmp_path)
    assert done.returncode == 2
    said = "run=latest:model=biggan: outputs/ here has no run of model=biggan with a checkpoint; type the folder of one"
    assert done.stderr == f"{said}\n"
