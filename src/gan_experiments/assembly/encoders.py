"""Trained encoders in a text-to-image model: `model.text_encoder=<run of model=damsm, or a checkpoint of one>`.

The config takes the encoder as that run has it, so a run that was begun so needs no other run afterwards.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from gan_experiments.contracts import ConfigError
from gan_experiments.data.embedding_files import Embeddings
from gan_experiments.data.module import DataModule
from gan_experiments.models.damsm import ENCODERS, Encoders
from gan_experiments.runs import resume, trust

KEY = "model.text_encoder"
GIVEN = "gan_experiments.networks.text.Given"


def settle(cfg: DictConfig) -> None:
    """Replace the run in `model.text_encoder` by the config of its encoders, and note the run in `model.encoders_of`.

    The model takes the image encoder too, if it has one. With `data.embeddings` there is no encoder: networks are told
    these. A run that goes on (`ckpt=`) keeps those that it began with.
    Raises ConfigError if there is no such run, if it has no encoders, or if the encoder is null.
    """
    given = cfg.model.get("text_encoder")
    if given is None and "text_encoder" in cfg.model:
        raise ConfigError(f"{KEY}=null: this model reads captions by it; leave it out, or type a run of model=damsm")
    if given is not None and cfg.data.get("embeddings") is not None:
        if "image_encoder" in cfg.model:
            raise ConfigError(
                f"data.embeddings={cfg.data.embeddings}: this model reads the words of captions; leave it out"
            )
        OmegaConf.set_readonly(cfg, False)
        cfg.model.text_encoder = {"_target_": GIVEN, "features": Embeddings(cfg.data.embeddings).features}
        return
    if not isinstance(given, str):
        return
    if cfg.get("ckpt"):
        nodes = resume.load(resume.find(str(cfg.ckpt)))["gan_experiments"]["config"]["model"]
        trust.require({name: nodes.get(name) for name in ENCODERS}, f"ckpt={cfg.ckpt}: its config", cfg.get("trust"))
    else:
        nodes = Encoders.of_run(given, KEY, cfg.get("trust")).nodes
    OmegaConf.set_readonly(cfg, False)
    for name in ENCODERS:
        if name in cfg.model and nodes.get(name):
            OmegaConf.update(cfg, f"model.{name}", nodes[name], merge=False, force_add=True)
    OmegaConf.update(cfg, "model.encoders_of", given, force_add=True)


def take_up(model: Any, data: DataModule | None) -> list[str]:
    """Give a model the weights of the encoders that `settle` has found, and return a line on it.

    Raises ConfigError if these read other words than the captions of the data have.
    """
    given: str = model.encoders_of
    found = Encoders.of_run(given, KEY)
    if data is not None:
        data.setup("fit")
        found.require_words(data.conditions, given, KEY)
    taken = [name for name in ENCODERS if isinstance(getattr(model, name, None), nn.Module)]
    for name in taken:
        getattr(model, name).load_state_dict(found.weights[name])
    return [f"{' and '.join(taken)} of {given}, frozen"]
