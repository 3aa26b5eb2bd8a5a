"""Weights & Biases, with the images seen as the x-axis of everything."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_experiments.bounds import Place, Text

os.environ.setdefault("WANDB_SILENT", "true")  # the run's own last lines say where W&B's files are

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from gan_experiments import files, processes
from gan_experiments.contracts import ConfigError
from gan_experiments.loggers.run_logger import RunLogger
from gan_experiments.metrics.passports import short_name

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline"}
"""The modes that may be typed, and W&B's present names for them."""
OFFLINE = "type logger.wandb.mode=offline to upload later with `wandb sync`"


class WandbRun(RunLogger, WandbLogger):
    """A W&B run with its files in the run folder; a training that is resumed there continues the same W&B run.

    Under a `wandb agent` it is the run that the agent has made for this start.

    Args:
        folder: the run folder; W&B keeps its files in `wandb/` below it.
        project, group, tags: as in `wandb.init`.
        mode: "offline", "online" or "disabled"; None for "offline", or "online" under an agent.

    Raises ConfigError for another mode, and for "online" if nobody has logged in.
    """

    def __init__(
        self,
        folder: Place,
        project: Text,
        group: Text | None = None,
        tags: list[str] | None = None,
        mode: str | None = None,
    ) -> None:
        agent = "WANDB_SWEEP_ID" in os.environ
        mode = mode or ("online" if agent else "offline")
        if mode not in MODES:
            raise ConfigError(f"logger.wandb.mode={mode}: type one of {', '.join(MODES)}")
        if MODES[mode] == "online" and processes.rank() == 0:
            _require_key(mode)
        known = Path(folder) / "wandb" / "run-id"
        if agent and "WANDB_RUN_ID" in os.environ:
            files.write_text(known, os.environ["WANDB_RUN_ID"])
        elif not known.exists():
            files.write_text(known, uuid.uuid4().hex[:8])
        super().__init__(
            save_dir=folder,
            project=project,
            name="/".join(Path(folder).resolve().parts[-1 if group else -2 :]),
            version=files.clean_name(known.read_text().strip()),  # W&B makes a path of it
            group=group,
            tags=tags,
            mode=MODES[mode],
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._wandb_init.pop("anonymous", None)  # Lightning hands it on and W&B warns of it

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at `step` images."""
        self.experiment.log({**metrics, "images": step})

    @rank_zero_only
    def log_passports(self, passports: dict[str, dict[str, Any]]) -> None:
        """Put the passports into the run's config, each with a short name; only runs that share it are comparable.

        In W&B group or filter by `passport.fid`, ... before ranking runs by `fid`.
        """
        names = {name: short_name(passport) for name, passport in passports.items()}
        self.experiment.config.update({"passport": names, "passports": passports}, allow_val_change=True)

    @rank_zero_only
    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Log an image file at `step` images."""
        self.experiment.log({name: wandb.Image(str(path)), "images": step})

    @rank_zero_only
    def log_histograms(self, histograms: dict[str, Tensor], step: int) -> None:
        """Log the distribution of each tensor at `step` images."""
        pictures = {name: wandb.Histogram(values.float().flatten().tolist()) for name, values in histograms.items()}
        self.experiment.log({**pictures, "images": step})

    @rank_zero_only
    def start(self, config: dict[str, Any]) -> None:
        """Open the run before the training, so that its errors come early, as ConfigError."""
        try:
            self.experiment.config.update(config, allow_val_change=True)
        except wandb.errors.Error as error:
            raise ConfigError(f"W&B cannot open the run ({' '.join(str(error).split())}): {OFFLINE}") from error
        self.experiment.define_metric("images", hidden=True)
        self.experiment.define_metric("*", step_metric="images")

    def where(self) -> str:
        """Return where the run can be viewed: its address, or the command that uploads it."""
        return self.experiment.url or f"wandb sync {self.experiment.dir.removesuffix('/files')}"

    @rank_zero_only
    def finish(self) -> None:
        """Close the run, so that the next one of this process does not write into it."""
        wandb.finish()


def _require_key(mode: str) -> None:
    """Raise ConfigError if no account's key is known, as W&B would ask for one on the terminal, again and again."""
    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:  # of a key that cannot be one
        raise ConfigError(f"logger.wandb.mode={mode}: {' '.join(str(error).split())}; {OFFLINE}") from error
    if not known:
        raise ConfigError(
            f"logger.wandb.mode={mode} needs the key of a W&B account: type wandb login once, or set WANDB_API_KEY, or "
            f"{OFFLINE}"
        )
