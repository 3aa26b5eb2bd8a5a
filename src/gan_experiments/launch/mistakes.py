"""Messages about mistakes on the command line: one line each, with what to type."""

from __future__ import annotations

import sys
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_experiments.runs import resume
from gan_experiments.runs.configs import conf_dir, files_of, nearest

PLUGINS = ("joblib", "submitit_local", "submitit_slurm")


def explain(error: Exception, config: str) -> str:  # noqa: PLR0911
    """Return one line about an error that Hydra raised when it composed the config."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if name in PLUGINS and group == "hydra/launcher":
            return f"{name} is not installed: type pip install hydra-{name.partition('_')[0]}-launcher"
        options = error.options or sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
        known = [option for option in options if not option.startswith("_")]
        return (
            f"{group}={name}: there is no such {group}{nearest(name, known)}; type {group}= one of {', '.join(known)}"
        )
    for word in (word for word in sys.argv[1:] if not word.startswith("-")):
        try:
            if "=" not in word and not word.startswith("~"):
                continue
            override = OverridesParser.create().parse_overrides([word])[0]
        except HydraException:
            return f"{word}: not understood; type key=value, with quotes around a value that has spaces or = in it"
        key = override.key_or_group
        if f"'{key}'" in str(error) or f"full_key: {key}" in str(error):
            known = _keys(config, without=word)
            if key not in known:
                return _no_such_key(key, known)
        if str(error).startswith(f"Error merging override {word}"):
            own = [k for k in _keys(config, without=word) if k.startswith(f"{key}.")]
            example = next((k for k in own if not k.endswith("._target_")), f"{key}.key")
            return f"{word}: {key} has keys of its own, which one value cannot replace; type them, as {example}=..."
    bare = [word for word in sys.argv[1:] if "=" not in word and word[0] not in "-~"]
    if isinstance(error, OverrideParseException) and bare:
        return f"{bare[0]}: not understood; type key=value"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def no_choice(config: str) -> str:
    """Return one line about a group that was set to null, or to a number."""
    usual = {key: value for entry in _defaults(config) for key, value in entry.items()}
    empty = [resume.key_of(word) for word in sys.argv[1:] if word.partition("=")[2].strip() in ("null", "")]
    for group in (key for key in empty if key in usual):
        known = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
        choice = "none" if "none" in known else usual[group]
        return f"{group}=null: a choice is needed; " + (f"type {group}={choice}" if choice else "leave it out")
    for key, _, choice in (word.partition("=") for word in sys.argv[1:]):
        if key in usual and not isinstance(yaml.safe_load(choice), (str, list)):  # a number
            known = sorted(path.stem for path in (conf_dir() / key).glob("*.yaml"))
            return f"{key}={choice}: there is no such {key}; type {key}= one of {', '.join(known)}"
    return "a group is set to null, and a choice is needed"


def _defaults(config: str) -> list[Any]:
    entries = yaml.safe_load((conf_dir() / f"{config}.yaml").read_text())["defaults"]
    return [entry for entry in entries if isinstance(entry, dict)]


def _keys(config: str, without: str) -> list[str]:
    """Return every key of the config composed without one word; without any word if that fails too."""
    GlobalHydra.instance().clear()
    others = [word for word in sys.argv[1:] if "=" in word and word != without and not word.startswith("hydra.")]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for overrides in (others, []):
            try:
                composed = hydra.compose(config, overrides=overrides)
            except (HydraException, OmegaConfBaseException):
                continue
            groups = [path.name for path in conf_dir().iterdir() if path.is_dir()]
            return [*groups, *_flatten(OmegaConf.to_container(composed), "")]
    return []


def _no_such_key(key: str, known: list[str]) -> str:
    """Return one line about an unknown key, with the choices that would have it, or a known key that is like it."""
    group, _, rest = key.partition(".")
    choices = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")) if rest else []
    having = [name for name in choices if any(rest in _flatten(plain, "") for _, plain in files_of(group, name))]
    if having:
        names = f"[{having[0]}]" if group == "technique" else f" one of {', '.join(having)}"
        return f"{key}: what was chosen has no such key; type {group}={names} to have it"
    where, _, last = key.rpartition(".")
    siblings = {k[len(where) + 1 :] if where else k for k in known if k.rpartition(".")[0] == where}
    near = nearest(last, sorted(siblings)) or nearest(key, known)
    return f"{key}: there is no such key{near}; `--cfg job` prints them all"


def _flatten(node: object, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_flatten(value, f"{prefix}{key}.")]
    return keys
