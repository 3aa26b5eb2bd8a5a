"""Reading of checkpoint files: undamaged, of plain types, and with every key that is used later."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gan_experiments import files
from gan_experiments.contracts import ConfigError

Holds = Callable[[Any], bool]
CHUNK = 1 << 20  # bytes


def load(path: Path, key: str = "ckpt") -> dict[str, Any]:
    """Return a checkpoint's contents on the CPU: only plain types and tensors.

    Raises ConfigError, which names the option `key`, if the file is damaged, is not ours or lacks something.
    """
    try:
        checkpoint = tensors(path)
    except Exception as error:  # a damaged file can raise anything
        raise ConfigError(f"{key}={path}: not a whole checkpoint ({_short(error)}); type {key}= another one") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("gan_experiments"), dict):
        raise ConfigError(f"{key}={path}: a checkpoint, but not of gan_experiments; type {key}= one that a run wrote")
    if faults := [*_faults(checkpoint, CHECKPOINT, "")]:
        raise ConfigError(f"{key}={path}: a checkpoint whose {faults[0]}; type {key}= another one")
    return checkpoint


def require_training(checkpoint: Mapping[str, Any], path: Path, key: str = "ckpt") -> None:
    """Raise ConfigError if a checkpoint has only weights, and not the state to resume a training from."""
    if faults := [*_faults(checkpoint, TRAINING, "")]:
        raise ConfigError(
            f"{key}={path}: no training can go on from it, as its {faults[0]}; type model.pretrained={path} to begin"
            " with its networks"
        )


def tensors(path: Path) -> Any:
    """Return what `torch.save` wrote: only plain types and tensors. Raises some error if the file is damaged.

    The checksums are verified here, because torch does not check them and would silently read wrong numbers.
    """
    import torch

    files.require_unpacked(path)
    state = os.stat(path)
    _require_undamaged(str(path), state.st_size, state.st_mtime_ns)
    return torch.load(path, map_location="cpu", weights_only=True)


@functools.lru_cache(maxsize=64)
def _require_undamaged(path: str, size: int, changed: int) -> None:
    """Verify the checksums of a file's parts; cached by size and modification time, so done once per command."""
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            with file.open(name) as part:
                while part.read(CHUNK):
                    pass


# -------------------------------------------------------------------- what a checkpoint must hold


def _faults(
    node: Mapping[str, Any], form: Mapping[str, tuple[Holds, str, bool] | Mapping], where: str
) -> Iterator[str]:
    for name, wanted in form.items():
        place = f"{where}.{name}" if where else name
        if isinstance(wanted, Mapping):
            if isinstance(node.get(name), dict):
                yield from _faults(node[name], wanted, place)
            else:
                yield f"{place} is {'no group of values' if name in node else 'missing'}"
        elif name not in node:
            if wanted[2]:
                yield f"{place} is missing"
        elif not wanted[0](node[name]):
            yield f"{place} is not {wanted[1]}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_count, value))


def _table(of: Holds) -> Holds:
    return lambda value: isinstance(value, dict) and all(isinstance(k, str) and of(v) for k, v in value.items())


def _rows(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list | tuple) and len(row) == 2 and all(map(_number, row)) for row in value
    )


def _needed(holds: Holds, what: str) -> tuple[Holds, str, bool]:
    return holds, what, True


def _optional(holds: Holds, what: str) -> tuple[Holds, str, bool]:
    return holds, what, False


def _list(value: Any) -> bool:
    return isinstance(value, list)


_TARGET = {"_target_": _needed(lambda value: isinstance(value, str), "the name of a class")}
CHECKPOINT: dict[str, Any] = {
    "state_dict": _needed(_table(lambda value: True), "a table of tensors by name"),
    "gan_experiments": {
        "batches": _needed(_count, "a number of batches"),
        "images_seen": _needed(_count, "a number of images"),
        "averaged_at": _needed(_table(_count), "a table of numbers by name"),
        "rate_factor": _optional(_number, "a number"),
        "reseeded": _optional(_count, "a whole number"),
        "unlogged": _optional(_table(_rows), "a table of recorded numbers"),
        "class_names": _optional(_texts, "a list of names"),
        "class_counts": _optional(_counts, "a list of numbers"),
        "overrides": _optional(_texts, "a list of words"),
        "growth": _optional(
            lambda v: isinstance(v, list | tuple) and len(v) == 2 and all(map(_number, v)), "two numbers"
        ),
        "config": {
            "model": _TARGET,
            "data": _TARGET,
            "trainer": {
                "precision": _needed(lambda value: isinstance(value, str), "a name"),
                "channels_last": _needed(lambda value: isinstance(value, bool), "true or false"),
                "accumulate": _needed(_count, "a whole number"),
                "log_every": _needed(_count, "a whole number"),
            },
            "images": _needed(_count, "a number of images"),
            "seed": _needed(_count, "a whole number"),
        },
    },
}
"""The keys that are read from a checkpoint, each with its test, its description and whether it is required.

Optional keys may be missing from runs of older versions.
"""
TRAINING: dict[str, Any] = {
    "optimizer_states": _needed(
        lambda states: (
            _list(states) and all(isinstance(s, dict) and {"state", "param_groups"} <= set(s) for s in states)
        ),
        "the state of the optimizers",
    ),
    "lr_schedulers": _needed(_list, "a list"),
    "loops": _needed(_table(lambda value: isinstance(value, dict)), "the state of the loops"),
    "callbacks": _needed(_table(lambda value: isinstance(value, dict)), "the state of the callbacks"),
    "epoch": _needed(_count, "a whole number"),
    "global_step": _needed(_count, "a whole number"),
    "pytorch-lightning_version": _needed(lambda value: isinstance(value, str), "a version"),
}


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__
