"""The folder of the configs, and checks of the keys in them."""

from __future__ import annotations

import difflib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf


def conf_dir() -> Path:
    """Return the folder of the configs: the repository's `conf/`, else the copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    repository = package.parents[1] / "conf"
    return repository if repository.is_dir() else package / "conf"


def wandb_sweep() -> Path:
    """Return the file of a sweep for W&B's server: the copy in an installed package, else the repository's."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "wandb_sweep.yaml"
    return installed if installed.is_file() else package.parents[1] / "docs" / installed.name


def of_choice(group: str, name: str) -> DictConfig:
    """The config of one choice of a group, as its file and the files that it is made of have it.

    What it changes in other groups (`override /loss@...`) is left out; Hydra does that.
    """
    config = cast("DictConfig", OmegaConf.merge(*(OmegaConf.load(path) for path, _ in files_of(group, name))))
    config.pop("defaults", None)
    return config


def files_of(group: str, name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files that a choice is made of, with what they hold; later ones win."""
    path = conf_dir() / group / f"{name}.yaml"
    plain = yaml.safe_load(path.read_text()) or {}
    entries = [entry for entry in plain.get("defaults", []) if isinstance(entry, str) and entry[0] != "/"]
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        if entry == "_self_":
            yield path, plain
        else:
            yield from files_of(f"{group}/{name}".rpartition("/")[0], entry.removesuffix("@_here_"))


def reach(target: object) -> None:
    """Add the current folder to the end of Python's path if the module of a `_target_` lies there and nowhere else."""
    name = target.partition(".")[0] if isinstance(target, str) else ""
    if not name.isidentifier() or name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    here = Path.cwd()
    if (here / f"{name}.py").is_file() or (here / name).is_dir():
        sys.path.append(str(here))
        importlib.invalidate_caches()


def with_own_keys(words: list[str]) -> list[str]:
    """Return the words of a command in which those that set arguments of a person's own class may add keys.

    `data.dataset.root=x` becomes `++data.dataset.root=x`, because no file of configs can know these keys.
    """
    return [f"++{word}" if OWN_KEYS.match(word) else word for word in words]


OWN_KEYS = re.compile(r"data\.(test_)?dataset\.[\w.]+=")
"""Words that set the arguments of a class that a person wrote."""


def keys_gone(cfg: DictConfig, config: str) -> Iterator[str]:
    """Yield a line for each key that `~key` on the command line removed from a verb's own config."""
    for key in yaml.safe_load((conf_dir() / f"{config}.yaml").read_text()):
        if key not in (*cfg, "defaults", "hydra"):
            yield f"{key} is not there: leave out ~{key}"


def settle_shape(cfg: DictConfig) -> None:
    """Write a `data.resolution` of two equal sides as one, so that a run of [64,64] is a run of 64."""
    given = OmegaConf.select(cfg, "data.resolution")
    if isinstance(given, ListConfig) and len(given) == 2 and given[0] == given[1]:
        cfg.data.resolution = given[0]


def nearest(word: str, known: list[str]) -> str:
    """Return ' (did you mean X?)' with the known word that is most like `word`; empty if none is similar."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""
