"""Trained encoders in a text-to-image model: `model.text_encoder=<run of model=damsm, or a checkpoint of one>`.

The config takes the encoder as that run has it, so a run that was begun so needs no other run afterwards.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from gan_experiments.assembly import pretrained
from gan_experiments.contracts import ConfigError
from gan_experiments.data.module import DataModule
from gan_experiments.runs import resume, trust

KEY = "model.text_encoder"
NAMES = ("text_encoder", "image_encoder")


def settle(cfg: DictConfig) -> None:
    """Replace the run in `model.text_encoder` by the config of its encoders, and note the run in `model.encoders_of`.

    The model takes the image encoder too, if it has one. A run that goes on (`ckpt=`) keeps those that it began with.
    Raises ConfigError if there is no such run, or if it has no encoders.
    """
    given = cfg.model.get("text_encoder")
    if not isinstance(given, str):
        return
    path, key = (cfg.ckpt, "ckpt") if cfg.get("ckpt") else (given, KEY)
    model = resume.load(resume.find(str(path), key), key)["gan_experiments"]["config"]["model"]
    nodes = {name: model[name] for name in NAMES if name in cfg.model and isinstance(model.get(name), dict)}
    if key == KEY and not all(isinstance(model.get(name), dict) for name in NAMES):
        raise ConfigError(f"{KEY}={given}: that run has no encoders of captions and images; type a run of model=damsm")
    trust.require(nodes, f"{key}={path}: its config", cfg.get("trust"))
    OmegaConf.set_readonly(cfg, False)
    for name, node in nodes.items():
        OmegaConf.update(cfg, f"model.{name}", node, merge=False, force_add=True)
    OmegaConf.update(cfg, "model.encoders_of", given, force_add=True)


def take_up(model: Any, data: DataModule | None) -> list[str]:
    """Give a model the weights of the encoders that `settle` has found, and return a line on it.

    Raises ConfigError if these read other words than the captions of the data have.
    """
    given: str = model.encoders_of
    saved = resume.load(resume.find(given, KEY), KEY)["gan_experiments"]
    read = tuple(saved.get("captions", {}).get("words", ()))
    if data is not None:
        data.setup("fit")
        known = getattr(data.conditions, "vocabulary", None)
        if known is None or known.words != read:
            here = f"{len(known.words)} words, first {', '.join(known.words[:3])}" if known else "none"
            raise ConfigError(
                f"{KEY}={given}: it reads {len(read)} words, first {', '.join(read[:3])}, and the data have {here};"
                " train it on the same captions: type model=damsm with these data="
            )
    found = pretrained.weights(given, NAMES, KEY)
    taken = [name for name in NAMES if isinstance(getattr(model, name, None), nn.Module)]
    for name in taken:
        getattr(model, name).load_state_dict(found[name])
    return [f"{' and '.join(taken)} of {given}, frozen"]
