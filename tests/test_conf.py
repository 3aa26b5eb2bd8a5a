"""The files of conf/: what several share stands once, the root is the verbs' alone, configs may lie elsewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import composing
import hydra
import pytest
from omegaconf import OmegaConf
from support import REPOSITORY, run

from gan_experiments.launch import entry
from gan_experiments.runs import configs

CHOICES = [(group, path.stem) for group in ("data", "metrics") for path in (REPOSITORY / "conf" / group).glob("*.yaml")]


def test_the_root_holds_the_verbs_files_and_what_they_share() -> None:
    assert {path.stem for path in (REPOSITORY / "conf").glob("*.*")} == {*entry.VERBS, "quiet", "README"}


@pytest.mark.parametrize(("group", "name"), sorted(CHOICES))
def test_a_choice_read_from_its_files_is_what_hydra_composes(group: str, name: str) -> None:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        composed = hydra.compose("evaluate", overrides=[f"{group}={name}"])
    assert configs.of_choice(group, name) == (composed[group] or {})


@pytest.mark.parametrize("words", [["model=cyclegan"], ["model=stylegan2_auto", "technique=[r1_auto,lecam]", "seed=3"]])
def test_what_the_tests_merge_once_is_what_hydra_makes(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        kept = [hydra.compose("run", words, return_hydra_config=True) for _ in range(2)]
        monkeypatch.setattr(composing, "PLACES", set())
        anew = hydra.compose("run", words, return_hydra_config=True)
    assert [OmegaConf.to_yaml(cfg) for cfg in kept] == 2 * [OmegaConf.to_yaml(anew)]


def test_off_is_said_in_one_way() -> None:
    """`none` of a group is a file with an empty node."""
    for path in (REPOSITORY / "conf").glob("*/none.yaml"):
        assert OmegaConf.load(path) == {}
        assert path.read_text().splitlines()[1:] == ["{}"]


def test_what_a_model_names_stays_with_it() -> None:
    assert "model" not in configs.of_choice("model", "bicyclegan")
    assert configs.of_choice("model", "acgan").generator.width == configs.of_choice("model", "dcgan").generator.width


def test_a_model_file_of_a_persons_own_lies_where_they_want(tmp_path: Path) -> None:
    """As conf/README.md has it."""
    blocks = re.findall(r"```(\w*)\n(.*?)```", (REPOSITORY / "conf" / "README.md").read_text(), re.DOTALL)
    (file,) = [text for kind, text in blocks if kind == "yaml" and "- dcgan" in text]
    (command,) = [text for kind, text in blocks if not kind and "searchpath" in text]
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "thin.yaml").write_text(file)
    words = ["images=8", "data.batch_size=4", "data.limit=64", "metrics=none", "logger=csv", "hydra.run.dir=r"]
    done = run(*shlex.split(command)[1:], *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    cfg = OmegaConf.load(tmp_path / "r" / "config.yaml")
    assert (cfg.model.generator.width, cfg.model.loss["_target_"].rpartition(".")[2]) == (4, "Hinge")
