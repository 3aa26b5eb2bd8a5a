"""Arguments of Lightning's Trainer beside those that this package sets: `trainer.extra`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from omegaconf import DictConfig

from gan_experiments.assembly import options
from gan_experiments.assembly.signatures import signature
from gan_experiments.runs.configs import nearest

_BATCHES = "the length of a run is counted in images; type images=, or debug=limit for a few batches"
_EPOCHS = "the length of a run is counted in images, not in epochs; type images="
_STEPS = "Lightning counts every optimizer's step; type images="
_NO_VALIDATION = "a run is scored, not validated; type callbacks.scores.every= (in images)"
_KEY = "it is trainer.{0}; type trainer.{0}="
REFUSED = {
    **dict.fromkeys(("accelerator", "devices", "num_nodes", "strategy", "precision", "max_time"), _KEY),
    "sync_batchnorm": _KEY,
    "benchmark": "it is trainer.cudnn_benchmark; type trainer.cudnn_benchmark=true",
    "logger": "loggers are a group; type logger=wandb, tensorboard, csv or none",
    "callbacks": "callbacks are a group; type +callbacks.mine._target_= a class of yours",
    "plugins": "precision, checkpoints and processes are the engine's; type trainer.precision= or trainer.strategy=",
    "default_root_dir": "the run folder is hydra.run.dir; type hydra.run.dir=",
    "max_epochs": _EPOCHS,
    "min_epochs": _EPOCHS,
    "max_steps": _STEPS,
    "min_steps": _STEPS,
    "limit_train_batches": _BATCHES,
    "fast_dev_run": "it leaves out callbacks and loggers; type debug=fast, which tries them",
    "overfit_batches": "batches are drawn by the data; type debug=overfit, or data.limit=",
    "accumulate_grad_batches": "the engine accumulates for each player by itself; type trainer.accumulate=",
    "gradient_clip_val": "the engine steps each player's optimizer by itself; type model.clip_grad_norm=",
    "gradient_clip_algorithm": "the engine clips by the norm; type model.clip_grad_norm=",
    "log_every_n_steps": "the engine records; type trainer.log_every=",
    "enable_checkpointing": "Lightning's checkpoints would lie beside ours; type callbacks.checkpoints.every=",
    "enable_progress_bar": "there is one that counts images; type callbacks.progress.seconds=",
    "use_distributed_sampler": "batches are shared out by the data, the same on any number of ranks; leave it out",
    "reload_dataloaders_every_n_epochs": "the data go on without epochs; leave it out",
    "barebones": "it leaves out callbacks and loggers; type callbacks=none logger=none",
    "model_registry": "checkpoints are ours; leave it out",
    **dict.fromkeys(
        (
            *("limit_val_batches", "limit_test_batches", "limit_predict_batches", "val_check_interval"),
            *("check_val_every_n_epoch", "num_sanity_val_steps"),
        ),
        _NO_VALIDATION,
    ),
}
"""Why an argument of Lightning's Trainer cannot be set, and what to type instead."""
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def faults(extra: Any) -> Iterator[str]:
    """Yield a line for each argument in `trainer.extra` that cannot be set, is unknown or has an impossible value."""
    takes = signature(L.Trainer)
    for name in map(str, extra or {}):
        key = f"trainer.extra.{name}"
        if name in REFUSED:
            yield f"{key}: {REFUSED[name].format(name)}"
        elif name not in takes.hints:
            yield f"{key}: Lightning's Trainer has no such argument{nearest(name, sorted(takes.hints))}; leave it out"
        elif name == "profiler" and isinstance(extra[name], str) and extra[name] not in PROFILERS:
            yield f"{key}={extra[name]}: type one of {', '.join(PROFILERS)}"
        elif found := options.fault(key, extra, name, takes.hints[name], takes.usual.get(name)):
            yield found


def arguments(extra: DictConfig | None, folder: Path, make: Any) -> dict[str, Any]:
    """Return `trainer.extra` as arguments of Lightning's Trainer; a profiler writes to `profile/` of the run folder.

    `make` makes what a node's `_target_` names.
    """
    made = {
        str(key): make(value) if isinstance(value, DictConfig) and "_target_" in value else value
        for key, value in (extra or {}).items()
    }
    if isinstance(named := made.get("profiler"), str):
        made["profiler"] = PROFILERS[named](dirpath=folder / "profile", filename="table")
    return made
