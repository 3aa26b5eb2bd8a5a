"""Checkpoints as files: find one, read it, go on from it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gan_experiments.contracts import ConfigError

log = logging.getLogger(__name__)

ONCE = ("ckpt", "check", "resume", "sweep", "hydra.run.dir", "output")
"""Keys that belong to one command and not to the run."""


def find(given: str, key: str = "ckpt") -> Path:
    """The checkpoint at a path: the file itself, or `checkpoints/last.ckpt` of a run folder."""
    path = Path(given)
    inside = path / "checkpoints" / "last.ckpt"
    if path.is_file():
        return path
    if inside.is_file():
        return inside
    if path.is_dir():
        raise ConfigError(
            f"{key}={given}: that folder has no checkpoints/last.ckpt; type the folder of a run that got so far"
        )
    raise ConfigError(f"{key}={given}: there is no such file or folder; type {key}= a run folder or a checkpoint")


def load(path: Path, key: str = "ckpt") -> dict[str, Any]:
    """A checkpoint's contents on the CPU, plain types and tensors alone; raises ConfigError if it is not ours."""
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken file makes the unpickler say
        raise ConfigError(f"{key}={path}: not a whole checkpoint ({_short(error)}); type {key}= another one") from error
    if not isinstance(checkpoint, dict) or "gan_experiments" not in checkpoint:
        raise ConfigError(f"{key}={path}: a checkpoint, but not of gan_experiments; type {key}= one that a run wrote")
    return checkpoint


def run_folder(checkpoint: Path) -> Path | None:
    """The run folder in which a checkpoint lies, None where it has been taken elsewhere."""
    folder = checkpoint.resolve().parents[1]
    return folder if (folder / "config.yaml").is_file() else None


def command_line(words: list[str]) -> list[str]:
    """The words of a command that names a checkpoint, with those of the run that wrote it before them.

    What is typed now wins. The run goes on in its own folder, unless that is gone or `hydra.run.dir=` says where.
    """
    given = [word.partition("=")[2] for word in words if word.startswith("ckpt=")]
    if not given or given[-1] in ("", "null"):
        return words
    path = find(_unquoted(given[-1]))
    typed = {key_of(word) for word in words if not word.startswith("-")}
    before = [word for word in load(path)["gan_experiments"].get("overrides", []) if key_of(word) not in typed]
    folder = run_folder(path)
    here = [f"hydra.run.dir='{folder}'"] if folder and "hydra.run.dir" not in typed else []
    return [*before, *words, *here]


def overrides() -> list[str]:
    """What was typed for the run in progress; nothing where Hydra did not start it."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [word for word in typed if key_of(word) not in ONCE]


def prepare(cfg: DictConfig) -> Path | None:
    """The checkpoint that a config goes on from, None for none; says where the config files have changed since.

    Raises ConfigError where the checkpoint already holds as many images as are asked for.
    """
    if not cfg.ckpt:
        return None
    path = find(cfg.ckpt)
    saved = load(path)["gan_experiments"]
    if saved["images_seen"] >= cfg.images:
        raise ConfigError(
            f"ckpt={cfg.ckpt} has already seen {saved['images_seen']:,} images and images={cfg.images}:"
            f" type images={2 * saved['images_seen']} to go on"
        )
    typed = {key_of(word) for word in overrides()}
    now, then = (flat(OmegaConf.to_container(OmegaConf.create(c))) for c in (_resolved(cfg), saved["config"]))
    for key in sorted(set(now) | set(then)):
        known = any(key == word or key.startswith(f"{word}.") for word in (*typed, *ONCE))
        if not known and "${" not in f"{then.get(key)}" and now.get(key) != then.get(key):
            log.warning("%s is %s now and was %s when the checkpoint was written", key, now.get(key), then.get(key))
    return path


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config in plain types, with the run folder left open: enough to run it again elsewhere."""
    folder = cfg.output

    def open_folder(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: open_folder(item) for key, item in value.items()}
        if isinstance(value, list):
            return [open_folder(item) for item in value]
        return "${output}" if value == folder else value

    resolved = open_folder(OmegaConf.to_container(cfg, resolve=True))
    return {**resolved, "output": "${outputs:}", "ckpt": None, "check": False}


def _resolved(cfg: DictConfig) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        k: v for key, value in node.items() for k, v in flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def key_of(word: str) -> str:
    """The key that a word of the command line is about."""
    return word.partition("=")[0].lstrip("+~").partition("@")[0]


def _unquoted(text: str) -> str:
    quote = text[:1]
    return text[1:-1].replace(f"\\{quote}", quote) if quote in ("'", '"') and text[1:].endswith(quote) else text


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__
