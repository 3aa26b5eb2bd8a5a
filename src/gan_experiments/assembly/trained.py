"""A trained model, opened from a run folder or a checkpoint, for the verbs that use one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.provenance import Mark
from gan_experiments.runs import quoting, resume

MISFITS = (ArithmeticError, AttributeError, LookupError, OmegaConfBaseException, RuntimeError, TypeError, ValueError)
"""Errors that a model raises for a config, a state or weights that are not its own."""


@dataclass(repr=False)
class TrainedRun:
    """A trained model in evaluation mode, the config that it was trained with, and the folder for its results.

    `file` is the checkpoint that it was read from, and `stat` that of the file before it was read.
    """

    model: AdversarialModule
    cfg: DictConfig
    folder: Path
    file: Path | None = None
    stat: os.stat_result | None = None

    def __repr__(self) -> str:
        name, seen = type(self.model).__name__, f"{self.model.images_seen:,} images"
        return f"{type(self).__name__}({str(self.folder)!r}, {name}, {seen})"

    def data(self) -> Any:
        """Open the data that the model was trained on, and return the data module."""
        return build.open_data(self.cfg.data)

    @cached_property
    def checkpoint(self) -> str:
        """The SHA-256 of the checkpoint's file, in hex; empty if the file is gone, or another by now."""
        return "" if self.file is None or self.stat is None else _hash_of(self.file, self.stat)

    def mark(self, kind: str, seed: int | None, label: str = "", composite: bool = False) -> Mark | None:
        """Return what a picture made by the model says of its making, see `AdversarialModule.mark`."""
        mark = self.model.mark(kind, seed, label, composite)
        return mark and replace(mark, checkpoint=self.checkpoint)


def open_run(
    given: str, device: str = "auto", trusted: Any = None, compiled: bool = False, images: bool = True
) -> TrainedRun:
    """Return the model of a run folder or a checkpoint, on a device ("auto": the accelerator if there is one).

    `trusted` is the option `trust=`: what else the config in the file may name. With `compiled` its networks go through
    torch.compile when they first get a batch of some shape. Raises ConfigError if there is no such run, its config
    names more than is allowed, its checkpoint does not fit the model of its own config, nothing can be compiled, or
    that model makes no images and `images` are wanted.
    """
    if compiled and (lacks := [*check.no_compiler("compile=true")]):
        raise ConfigError(*lacks)
    path = resume.find(given, key="run")
    stat = path.stat()
    checkpoint = resume.load(path, key="run")
    folder = resume.folder_of(path) or path.parent
    config = {**checkpoint["gan_experiments"]["config"], "logger": {}}  # no verb logs, and W&B's import takes a second
    cfg = build.from_plain(config, folder, f"run={given}: its config", trusted)
    try:
        model = build.build_model(cfg)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        if model.class_names and getattr(model, "classes", 0) not in (0, len(model.class_names)):
            raise ValueError(f"{len(model.class_names)} names of {getattr(model, 'classes', 0)} classes")
    except MISFITS as error:
        raise ConfigError(
            f"run={given}: its weights do not fit its config ({' '.join(str(error).split())[:160]})"
        ) from error
    if images:
        require_images(model, given)
    if compiled:
        build.compile_all(model)
    return TrainedRun(model.eval().to(device_of(device)), cfg, folder, path, stat)


def require_images(model: AdversarialModule, given: object) -> None:
    """Raise ConfigError for a model without a generator, as of encoders, of a run that was `given`."""
    if not model.makes_images:
        raise ConfigError(
            f"run={given}: {type(model).__name__} reads captions and images and makes none; type"
            f" model.text_encoder={given} to train a text-to-image model with it"
        )


def _hash_of(file: Path, stat: os.stat_result) -> str:
    try:
        with open(file, "rb") as opened:
            if not _same(os.fstat(opened.fileno()), stat):
                return ""
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""


def _same(a: os.stat_result, b: os.stat_result) -> bool:
    return os.path.samestat(a, b) and (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


OF_THE_WEIGHTS = ("model", "data", "augment", "technique", "loss", "perceptual", "experiment")
"""Config groups that determine which weights there are."""


def _shapes(state: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each entry of a state dict; a layer's extra state, which is no tensor, gets ()."""
    return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}


def require_fit(cfg: DictConfig, path: Path) -> None:
    """Raise ConfigError, which says what differs, if a checkpoint's weights or optimizers do not fit a config.

    This needs no data, because only shapes are compared.
    """
    checkpoint = resume.load(path)
    saved = checkpoint["gan_experiments"]
    model: Any = check.on_meta(cfg.model)
    model.on_load_checkpoint(checkpoint)
    here, there = _shapes(model.state_dict()), _shapes(checkpoint["state_dict"])
    optimizers, states = cfg.model.optimizers, checkpoint.get("optimizer_states", [])
    if here == there and len(optimizers) == len(states):
        return
    names = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    wrong = f"{len(optimizers)} optimizers here and {len(states)} there"
    if names:
        wrong = f"{names[0]} is {here.get(names[0], 'not')} here and {there.get(names[0], 'not')} there"
    typed = [word for word in resume.overrides() if word not in saved.get("overrides", [])]
    own = [word for word in typed if resume.key_of(word).partition(".")[0] in OF_THE_WEIGHTS]
    differ = _differences(cfg, saved, {resume.key_of(word) for word in own}) or [wrong]
    undo = f"leave out {' '.join(own)} to go on with it" if own else "go on with the config that it was trained with"
    raise ConfigError(
        f"ckpt={cfg.ckpt} does not fit what is to be trained: {'; '.join(differ)}; {undo}, or leave out ckpt= to begin"
        " anew"
    )


def _differences(cfg: DictConfig, saved: dict[str, Any], typed: set[str]) -> list[str]:
    """Return lines on how a config differs from a saved one: in the keys of `typed`, else in the first two of weights.

    The latter are keys in OF_THE_WEIGHTS.
    """
    now, then = (resume.flat(config) for config in (resume.plain(cfg), saved["config"]))
    changed = [key for key in sorted({*now, *then}) if now.get(key) != then.get(key)]
    before = {resume.key_of(word): quoting.value_of(word) for word in saved.get("overrides", [])}
    said = []
    for key in sorted(typed):
        chosen, own = resume.choice(key), [name for name in changed if name == key or name.startswith(f"{key}.")]
        if chosen:
            was = before.get(key) or str(then.get(f"{key}._target_", "another")).rpartition(".")[2]
            said.append(f"{key} is {chosen} here and was {was} there")
        else:
            said += [_both(name, now, then) for name in own[:1]]
    return said or [_both(key, now, then) for key in changed if key.partition(".")[0] in OF_THE_WEIGHTS][:2]


def _both(key: str, now: dict[str, Any], then: dict[str, Any]) -> str:
    return f"{key} is {now.get(key, 'not set')} here and was {then.get(key, 'not set')} there"


def device_of(given: str) -> torch.device:
    """Return the device that was asked for; for "auto" the accelerator if there is one, else the CPU.

    Raises ConfigError for an unknown device, or one that this machine does not have.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if given == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(given)
    except RuntimeError:
        device = None
    here = [torch.device("cpu"), *([accelerator] if accelerator else [])]
    if device is None or device.type not in [one.type for one in here]:
        raise ConfigError(f"device={given} is not here: type device={' or '.join(one.type for one in here)}")
    return device
