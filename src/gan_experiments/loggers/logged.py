"""How the training in a run folder was logged to W&B, without importing W&B."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline"}
"""The modes that may be typed, and W&B's present names for them."""


def logged_as(folder: Path) -> dict[str, Any] | None:
    """Return how the training in a folder was logged to W&B: `id`, `project`, ... and `mode`; None if it was not.

    Of the run's own config only names are taken. `WANDB_MODE` wins over the mode that it was logged with.
    """
    known = folder / "wandb" / "run-id"
    node: Any = None
    if known.exists():
        with suppress(OSError, ValueError, KeyError, TypeError, OmegaConfBaseException, YAMLError):
            node = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))["logger"]["wandb"]  # type: ignore[call-overload, index]
    if not isinstance(node, dict) or not isinstance(node.get("project"), str):
        return None
    told = {key: node[key] for key in ("project", "entity", "name", "group") if isinstance(node.get(key), str)}
    mode = os.environ.get("WANDB_MODE") or node.get("mode")
    return {**told, "id": known.read_text().strip(), "mode": MODES.get(mode) if isinstance(mode, str) else None}
