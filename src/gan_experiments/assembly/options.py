"""The options of a verb, checked against their types before anything heavy is imported.

Nothing here imports torch, so that a mistake in them is answered at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from gan_experiments import bounds
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import resume
from gan_experiments.runs.configs import conf_dir

COMPUTED = "raised while resolving interpolation"
"""OmegaConf's words for a value that cannot be computed of others."""


def require(cfg: DictConfig, verb: str) -> None:
    """Raise one ConfigError with a line for each option of the verb that is missing or not of its type."""
    raise_all([*faults(cfg, verb), *missing(cfg)])


def raise_all(found: Iterable[str]) -> None:
    """Raise one ConfigError with all faults, if any; what cannot be computed of a wrong value is told by that alone."""
    lines = list(dict.fromkeys(found))
    if lines:
        raise ConfigError(*([line for line in lines if COMPUTED not in line] or lines))


def faults(cfg: DictConfig, verb: str) -> Iterator[str]:
    """What is wrong with the keys of a verb's own config."""
    usual = _usual(verb)
    for key, hint in bounds.OPTIONS[verb].items():
        where, _, last = key.rpartition(".")
        node = OmegaConf.select(cfg, where) if where else cfg
        if not isinstance(node, DictConfig):
            continue  # said of the group
        if last not in node:
            continue  # said by keys_gone
        if not OmegaConf.is_missing(node, last):
            found = fault(key, node, last, hint, usual.get(key))
            yield from () if found is None else [found]


@cache
def _usual(verb: str) -> dict[str, Any]:
    """The values of a verb's own config, by key."""
    plain: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{verb}.yaml"))
    if verb == "run":
        plain["trainer"] = OmegaConf.to_container(OmegaConf.load(conf_dir() / "trainer" / "default.yaml"))
    return resume.flat(plain)


def fault(key: str, node: DictConfig, name: str, hint: Any, usual: Any = None) -> str | None:
    """What is wrong with one value of a node: a line, or None."""
    try:
        value = node[name]
        value = OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else _outline(value)
    except InterpolationToMissingValueError:
        return None  # said by `missing`
    except OmegaConfBaseException as error:
        return f"{key}: {' '.join(str(error).split())[:160]}"
    return bounds.fault(key, value, hint, usual)


def _outline(node: Any, levels: int = 2) -> Any:
    """The keys of a group and of what it holds: the rest is looked at where it stands."""
    if not isinstance(node, DictConfig):
        return [] if isinstance(node, ListConfig) else node
    keys = [key for key in node if levels and not OmegaConf.is_missing(node, key)]
    return {str(key): _outline(node[key], levels - 1) for key in keys}


def missing(cfg: DictConfig) -> Iterator[str]:
    """A line for each value that only the user can give, and has not."""
    try:
        keys = sorted(OmegaConf.missing_keys(cfg))
    except OmegaConfBaseException:  # a value is computed of one that is wrong, which is said
        return
    for key in keys:
        yield f"{key} is not given: type {key}=..."
