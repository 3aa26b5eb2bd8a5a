"""The weights of an exported model alone, as safetensors with the config that its networks are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gan_experiments.assembly import build
from gan_experiments.assembly.trained import MISFITS
from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.export import metadata as described
from gan_experiments.export.half import is_halved
from gan_experiments.export.signature import Wrapped
from gan_experiments.export.twin import twin_of

SAVED = "run_config"
"""The key of the metadata with what a checkpoint says of its run, without its counters and its places on the disk."""
OF_THE_DATA = (
    "_target_",
    "resolution",
    "channels",
    "classes",
    "bands",
    "range",
    "scale",
    "batch_size",
    "length",
    "rate",
)


def saved_of(model: AdversarialModule) -> dict[str, Any]:
    """Return what a model is made of, in plain types, without the names of files of the machine that trained it."""
    checkpoint: dict[str, Any] = {}
    model.on_save_checkpoint(checkpoint)
    saved = checkpoint["gan_experiments"]
    config = saved["config"]
    data = {key: value for key, value in config["data"].items() if key in OF_THE_DATA}
    kept = {key: config[key] for key in ("model", "images", "seed")}
    trainer = {key: config["trainer"][key] for key in ("precision", "channels_last", "accumulate", "log_every")}
    kept |= {"data": data, "trainer": trainer}
    return _listed({**saved, "config": kept, "averaged_at": {}, "unlogged": {}, "overrides": []})


def _listed(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the same with lists in place of tensors, such as the captions of the data."""
    inside = {key: _listed(value) if isinstance(value, dict) else value for key, value in saved.items()}
    return {key: value.tolist() if isinstance(value, Tensor) else value for key, value in inside.items()}


def write(wraps: Sequence[Wrapped], metadata: dict[str, Any], path: Path) -> None:
    """Write the weights of all networks, as float16 with `half`; the names begin with those of the networks."""
    from safetensors.torch import save_file

    state: dict[str, Tensor] = {}
    networks: dict[str, None] = {}
    for wrapped in wraps:
        networks |= dict.fromkeys(wrapped.twin.network_names)
        for name, tensor in wrapped.twin.state_dict().items():
            state[name] = (tensor.half() if metadata["half"] and is_halved(tensor) else tensor).contiguous().clone()
    whole = metadata | {"networks": list(networks)}
    save_file(state, path, {described.KEY: json.dumps(whole), "licence": metadata["licence"], "format": "pt"})


def read(path: Path, given: str, trusted: Any = None) -> tuple[dict[str, Any], AdversarialModule, DictConfig]:
    """Read the model of a file: a new one, made by its config, with these weights as the only ones.

    The config may name only what that of a checkpoint may; `trusted` is the option `trust=`. Raises ConfigError for any
    other file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(described.KEY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{given}: cannot be read ({' '.join(str(error).split())[:80]}); type another one") from error
    metadata = described.read(text, given)
    try:
        saved, names = metadata[SAVED], [str(name) for name in metadata["networks"]]
        cfg = build.from_plain(dict(saved["config"]), path.parent, f"{given}: its config", trusted)
        try:
            with torch.random.fork_rng(devices=[]):  # initial weights are drawn in vain
                new = build.build_model(cfg)
        except ConfigError as error:
            raise ConfigError(*(f"{given}: {fault}" for fault in error.faults)) from error
        new.on_load_checkpoint({"gan_experiments": saved})
        model = twin_of(new, False, names)
        wide = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}
        model.load_state_dict(wide)
        model.run.name = str(metadata["run"])
    except MISFITS as error:
        raise ConfigError(
            f"{given}: its weights do not fit its config ({' '.join(str(error).split())[:160]})"
        ) from error
    return metadata, model, cfg
