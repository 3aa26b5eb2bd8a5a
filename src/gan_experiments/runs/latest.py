"""`run=latest`: the run in outputs/ with the newest checkpoint; `latest:model=dcgan`: the newest of that kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from gan_experiments.contracts import ConfigError
from gan_experiments.runs import quoting
from gan_experiments.runs.configs import conf_dir

KEYS = ("run", "ckpt", "a", "b", "model.pretrained", "model.text_encoder")
"""The keys whose value is a run."""
WORD = re.compile(r"latest(?::(.+))?")


def is_one(value: str) -> bool:
    """Return True if a value stands for the latest run: `latest`, or `latest:key=value`."""
    return bool(WORD.fullmatch(value))


def settled(words: list[str]) -> list[str]:
    """Return the words of a command with each `latest` replaced by the folder that it means.

    Raises ConfigError if there is no such run.
    """
    return [_settled(word) for word in words]


def _settled(word: str) -> str:
    key, _, value = word.partition("=")
    if key in KEYS and WORD.fullmatch(value):
        return quoting.word(key, folder_of(value, word))
    if key in KEYS and value.startswith("[") and value.endswith("]"):
        given = [part.strip() for part in value[1:-1].split(",")]
        if "latest" in given:
            parts = [quoting.quoted(folder_of(part, word)) if part == "latest" else part for part in given]
            return f"{key}=[{','.join(parts)}]"
    return str(folder_of(word, word)) if WORD.fullmatch(word) and not Path(word).exists() else word


def folder_of(value: str, word: str) -> Path:
    """Return the folder of the run that `latest` or `latest:key=value,...` names."""
    found = WORD.fullmatch(value)
    wanted = dict(part.partition("=")[::2] for part in (found[1] or "").split(",") if part) if found else {}
    checkpoints = sorted(Path("outputs").glob("**/checkpoints/last.ckpt"), key=lambda path: -path.stat().st_mtime_ns)
    for path in checkpoints:
        folder = path.parents[1]
        if all(_says(folder, key) == value for key, value in wanted.items()):
            return folder
    kind = f" of {found[1]}" if found and found[1] else ""
    raise ConfigError(f"{word}: outputs/ here has no run{kind} with a checkpoint; type the folder of one")


def _says(folder: Path, key: str) -> str | None:
    """Return the value of a key in a run: from its command line, else its config, else the default of a group."""
    words = folder / ".hydra" / "overrides.yaml"
    typed = [str(word) for word in (yaml.safe_load(words.read_text()) or [])] if words.is_file() else []
    for word in reversed(typed):
        if word.partition("=")[0].lstrip("+") == key:
            return quoting.value_of(word)
    config = folder / "config.yaml"
    node: Any = yaml.safe_load(config.read_text()) if config.is_file() else {}
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if node is not None and not isinstance(node, dict):
        return quoting.value_of(f"{key}={node}")
    defaults = yaml.safe_load((conf_dir() / "run.yaml").read_text())["defaults"]
    return next((str(entry[key]) for entry in defaults if isinstance(entry, dict) and key in entry), None)
