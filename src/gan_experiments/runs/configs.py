"""Where the configs are, and the keys of a verb's own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf


def conf_dir() -> Path:
    """The folder of the configs: the repository's `conf/`, else the copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    repository = package.parents[1] / "conf"
    return repository if repository.is_dir() else package / "conf"


def of_choice(group: str, name: str) -> DictConfig:
    """The config of one choice of a group, as its file and the files that it is made of have it.

    What it changes in other groups (`override /loss@...`) is left out; Hydra does that.
    """
    node: Any = OmegaConf.load(conf_dir() / group / f"{name}.yaml")
    entries = [entry for entry in node.pop("defaults", []) if isinstance(entry, str) and entry[0] != "/"]
    entries += [] if "_self_" in entries else ["_self_"]
    beside = f"{group}/{name}".rpartition("/")[0]
    parts: Any = [node if entry == "_self_" else of_choice(beside, entry.removesuffix("@_here_")) for entry in entries]
    return cast("DictConfig", OmegaConf.merge(*parts))


def keys_gone(cfg: DictConfig, config: str) -> Iterator[str]:
    """A line for each key of a verb's own config that a word with ~ took out of it."""
    for key in yaml.safe_load((conf_dir() / f"{config}.yaml").read_text()):
        if key not in (*cfg, "defaults", "hydra"):
            yield f"{key} is not there: leave out ~{key}"


def nearest(word: str, known: list[str]) -> str:
    """' (did you mean X?)' with the known word that is most like `word`; nothing where none is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
