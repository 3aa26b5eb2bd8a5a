"""W&B's lineage: which checkpoint a verb has used. Imports W&B only to go online."""

from __future__ import annotations

import logging
from pathlib import Path

from gan_experiments.contracts import ConfigError
from gan_experiments.loggers.logged import logged_as

log = logging.getLogger(__name__)


def record_use(verb: str, folder: Path, checkpoint: Path | None, picture: Path | None = None) -> None:
    """Log a W&B run of its own for a verb, whose input is a checkpoint, with a picture that was made of it.

    This is done if the training was logged to W&B and W&B is online; offline W&B refuses inputs. Where it fails, one
    line says so: what the verb has made is on disk all the same.
    """
    told = logged_as(folder)
    if checkpoint is None or told is None or told["mode"] != "online":
        return
    import wandb

    from gan_experiments.loggers import wandb_run

    name = f"{verb} {told.get('name', wandb_run.name_of(folder))}"
    place = {key: told.get(key) for key in ("project", "entity", "group")}
    settings = wandb.Settings(silent=True, console="off")
    try:
        wandb_run.require_key("online")
        run = wandb.init(**place, name=name, job_type=verb, dir=folder, mode="online", settings=settings)
        try:
            run.use_artifact(wandb_run.artifact_of(told["id"], checkpoint))
            if picture is not None:
                run.log({"sheet": wandb.Image(str(picture))})
        finally:
            run.finish()
        print(f"W&B      {run.url}")
    except (ConfigError, OSError, ValueError, wandb.errors.Error) as error:
        log.warning("not recorded at W&B: %s", wandb_run.line_of(error))
