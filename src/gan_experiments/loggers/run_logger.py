"""The base of this package's loggers: all that a run can log beside scalars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from torch import Tensor


class RunLogger(Logger):
    """A Lightning logger that may also log pictures, histograms and passports; by default it ignores them.

    `step` is always the number of images seen. Any other Lightning logger can be used beside these: it gets the scalars
    alone.
    """

    def start(self, config: dict[str, Any]) -> None:
        """Open the run, before its first batch; raise ConfigError if that is not possible."""

    def forget_after(self, images: int) -> None:
        """Drop what was logged at more than `images` images, as the run is resumed from there."""

    def log_picture(self, name: str, path: Path, step: int) -> None:
        """Log an image file."""

    def log_histograms(self, histograms: dict[str, Tensor], step: int) -> None:
        """Log the distribution of each tensor."""

    def log_passports(self, passports: dict[str, dict[str, Any]]) -> None:
        """Keep the passports of the scores, by name."""

    def where(self) -> str:
        """Return where the run can be viewed, for its last lines on the terminal; "" if only in its folder."""
        return ""

    def finish(self) -> None:
        """Close what was opened."""


def run_loggers(trainer: L.Trainer) -> list[RunLogger]:
    """Return those of a trainer's loggers that can log more than scalars."""
    return [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
