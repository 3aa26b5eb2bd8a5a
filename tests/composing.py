"""Hydra reads and merges the files of conf/ once for equal choices; the values typed beside them are set on a copy.

Hydra composes `model=dcgan images=8` in two steps: it merges the files of the choices (`model=dcgan`), then it sets the
values. The first step takes nearly all of the time and depends on the choices alone.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
import warnings
from abc import ABCMeta
from collections.abc import Callable
from typing import Any

import hydra
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides
from omegaconf import Node

from gan_experiments.runs.configs import conf_dir

PLACES = {"hydra.conf", str(conf_dir()), ""}
"""Where Hydra finds files that no test changes; with a folder of a test's own, nothing is kept."""

_made: dict[Any, bytes] = {}
_listed = config_loader_impl.create_defaults_list
_merged = config_loader_impl.ConfigLoaderImpl._compose_config_from_defaults_list
_loaded = ConfigRepository.load_config
_map = defaults_list._create_interpolation_map


def once() -> None:
    """From here on, Hydra does equal work once in this process and in those that it forks."""
    config_loader_impl.create_defaults_list = _list
    config_loader_impl.ConfigLoaderImpl._compose_config_from_defaults_list = _merge  # type: ignore[method-assign]
    ConfigRepository.load_config = _load  # type: ignore[method-assign]
    defaults_list._create_interpolation_map = _choices
    _plain(Node)


class _Plain(ABCMeta):
    """A class that is nobody's by registration: `isinstance` asks no more than the types, in a tenth of the time."""

    __instancecheck__ = type.__instancecheck__  # type: ignore[assignment]


def _plain(kind: type) -> None:
    """Make OmegaConf's classes plain ones, which are asked for, and copied, more often than anything else here."""
    kind.__class__ = _Plain if type(kind) is ABCMeta else type(kind)
    if "__deepcopy__" in vars(kind):
        kind.__deepcopy__ = _copied  # type: ignore[attr-defined]
    for further in type.__subclasses__(kind):
        _plain(further)


def _copied(node: Any, _: dict[int, Any]) -> Any:
    """A deep copy of a node, as OmegaConf makes it in five times the time: its parent and its values are the same."""
    made = _another(node)
    if "_flags_cache" in made.__dict__:
        made.__dict__["_flags_cache"] = None
    metadata = made.__dict__["_metadata"] = _another(node.__dict__["_metadata"])
    metadata.flags = metadata.flags and dict(metadata.flags)
    if hasattr(metadata, "resolver_cache"):
        cache = metadata.resolver_cache
        metadata.resolver_cache = copy.deepcopy(cache) if cache else cache.copy()
    content = made.__dict__.get("_content")
    if isinstance(content, dict):
        made.__dict__["_content"] = {key: _within(made, child) for key, child in content.items()}
    elif isinstance(content, list):
        made.__dict__["_content"] = [_within(made, child) for child in content]
    elif isinstance(content, Node):
        made.__dict__["_content"] = _within(made, content)
    return made


def _another(thing: Any) -> Any:
    """Another one with the same contents."""
    made = object.__new__(type(thing))
    made.__dict__.update(thing.__dict__)
    return made


def _within(parent: Any, child: Any) -> Any:
    """A copy of a child for another parent."""
    made = _copied(child, {})
    made.__dict__["_parent"] = parent
    return made


def prepare(verb: str, words: list[str]) -> None:
    """Merge the files that a command is about to ask for, so that a fork finds them merged; mistakes are left to it."""
    with (
        contextlib.suppress(Exception),
        warnings.catch_warnings(action="ignore"),
        hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"),
    ):
        hydra.compose(verb, words)


def _kept(key: Any, make: Callable[[], Any]) -> Any:
    """A copy of what `make` gives when the key is first seen."""
    if key not in _made:
        _made[key] = pickle.dumps(make())
    return pickle.loads(_made[key])


class _Defaults(list[Any]):
    """A list of the files to merge for some choices."""

    key: Any = None


def _list(repo: Any, config_name: str | None, overrides_list: list[Any], **options: bool) -> DefaultsList:
    """Hydra's `create_defaults_list`."""
    if not _unchanging(repo):
        return _listed(repo, config_name, overrides_list, **options)
    values = Overrides(repo, overrides_list).config_overrides
    choices = [word for word in overrides_list if not any(word is value for value in values)]

    def make() -> DefaultsList:
        found = _listed(repo, config_name, choices, **options)
        found.defaults = _Defaults(found.defaults)
        found.defaults.key = key
        return found

    key = (config_name, *options.values(), *(word.input_line for word in choices))
    return dataclasses.replace(_kept(key, make), config_overrides=values)


def _merge(self: Any, defaults: list[Any], repo: Any) -> Any:
    """Hydra's `_compose_config_from_defaults_list`."""
    if not isinstance(defaults, _Defaults):
        return _merged(self, defaults, repo)
    return _kept(("merged", defaults.key), lambda: _merged(self, defaults, repo))


def _load(self: Any, config_path: str) -> Any:
    """Hydra's `ConfigRepository.load_config`."""
    if not _unchanging(self):
        return _loaded(self, config_path)
    return _kept(("file", config_path), lambda: _loaded(self, config_path))


def _choices(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
    """Hydra's `_create_interpolation_map`, which it makes at each file and needs where a choice is an interpolation."""
    return _map(overrides, defaults, self_added) if any(one.is_interpolation() for one in defaults) else None


def _unchanging(repo: Any) -> bool:
    return {source.path for source in repo.get_sources()} <= PLACES
