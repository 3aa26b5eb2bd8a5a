"""The options of a verb, checked against their types before anything heavy is imported.

Nothing here imports torch, so that a mistake in them is reported at once.
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
"""OmegaConf's words for a value that cannot be computed from others."""


def require(cfg: DictConfig, verb: str) -> None:
    """Raise one ConfigError with a line for each option of the verb that is missing or not of its type."""
    raise_all([*faults(cfg, verb), *missing(cfg)])


def raise_all(found: Iterable[str]) -> None:
    """Raise one ConfigError with all faults, if any.

    Values that cannot be computed from others are left out if there are other faults, because those are their cause.
    """
    lines = list(dict.fromkeys(found))
    if lines:
        raise ConfigError(*([line for line in lines if COMPUTED not in line] or lines))


def faults(cfg: DictConfig, verb: str) -> Iterator[str]:
    """Yield a line for each value of a verb's own config that is not of its type."""
    usual = _usual(verb)
    for key, hint in bounds.OPTIONS[verb].items():
        where, _, last = key.rpartition(".")
        node = OmegaConf.select(cfg, where) if where else cfg
        if not isinstance(node, DictConfig):
            continue  # reported for the group
        if last not in node:
            continue  # reported by keys_gone
        if not OmegaConf.is_missing(node, last):
            found = fault(key, node, last, hint, usual.get(key))
            yield from () if found is None else [found]


@cache
def _usual(verb: str) -> dict[str, Any]:
    """Return the default values of a verb's own config, by dotted key."""
    plain: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / f"{verb}.yaml"))
    if verb == "run":
        plain["trainer"] = OmegaConf.to_container(OmegaConf.load(conf_dir() / "trainer" / "default.yaml"))
    return resume.flat(plain)


def fault(key: str, node: DictConfig, name: str, hint: Any, usual: Any = None) -> str | None:
    """Return a line on what is wrong with one value of a node; None if nothing is."""
    try:
        value = node[name]
        value = OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else _outline(value)
    except InterpolationToMissingValueError:
        return None  # reported by `missing`
    except OmegaConfBaseException as error:
        return f"{key}: {' '.join(str(error).split())[:160]}"
    return bounds.fault(key, value, hint, usual)


def _outline(node: Any, levels: int = 2) -> Any:
    """Return the keys of a group down to `levels`; deeper values are checked where they are used."""
    if not isinstance(node, DictConfig):
        return [] if isinstance(node, ListConfig) else node
    keys = [key for key in node if levels and not OmegaConf.is_missing(node, key)]
    return {str(key): _outline(node[key], levels - 1) for key in keys}


def missing(cfg: DictConfig) -> Iterator[str]:
    """Yield a line for each required value that the user has not given."""
    try:
        keys = sorted(OmegaConf.missing_keys(cfg))
    except OmegaConfBaseException:  # a value is computed from a wrong one, which is reported
        return
    for key in keys:
        yield f"{key} is not given: type {key}=..."
