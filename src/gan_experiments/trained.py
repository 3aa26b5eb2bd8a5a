"""A trained model, opened from a run folder or a checkpoint, for the verbs that use one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from gan_experiments import build, resume
from gan_experiments.contracts import ConfigError
from gan_experiments.engine import AdversarialModule


@dataclass
class Trained:
    """A model with its weights, in evaluation mode, the config that it was trained with, and where its results go."""

    model: AdversarialModule
    cfg: DictConfig
    folder: Path


def open_run(given: str, device: str = "auto") -> Trained:
    """The model of a run folder or a checkpoint, on a device ("auto": the accelerator where there is one).

    Raises ConfigError where there is no such run, or its checkpoint does not fit the model of its own config.
    """
    path = resume.find(given, key="run")
    checkpoint = resume.load(path, key="run")
    folder = resume.run_folder(path) or path.parent
    cfg = build.from_plain(checkpoint["gan_experiments"]["config"], folder)
    model = build.build_model(cfg)
    model.on_load_checkpoint(checkpoint)
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise ConfigError(
            f"run={given}: its weights do not fit its config ({' '.join(str(error).split())[:160]})"
        ) from error
    return Trained(model.eval().to(device_of(device)), cfg, folder)


def device_of(given: str) -> torch.device:
    """The device that was asked for; of "auto" the accelerator where there is one.

    Raises ConfigError for a device that is none, or is not here.
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
