"""The folder of the configs, and checks of the keys in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import yaml
from omegaconf import DictConfig


def conf_dir() -> Path:
    """Return the folder of the configs: the repository's `conf/`, else the copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    repository = package.parents[1] / "conf"
    return repository if repository.is_dir() else package / "conf"


def keys_gone(cfg: DictConfig, config: str) -> Iterator[str]:
    """Yield a line for each key that `~key` on the command line removed from a verb's own config."""
    for key in yaml.safe_load((conf_dir() / f"{config}.yaml").read_text()):
        if key not in (*cfg, "defaults", "hydra"):
            yield f"{key} is not there: leave out ~{key}"


def nearest(word: str, known: list[str]) -> str:
    """Return ' (did you mean X?)' with the known word that is most like `word`; empty if none is similar."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
