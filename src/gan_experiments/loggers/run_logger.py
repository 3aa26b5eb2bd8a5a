"""The base of this package's loggers: all that a run can log beside scalars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from torch import Tensor


class RunLogger(Logger):
    """A Lightning logger that may also log pictures, histograms and passports; by default it ignores them.

    `step` is always the number of images seen. Other loggers of Lightning can be used beside these: `other_loggers`.
    """

    def start(self, config: dict[str, Any]) -> None:
        """Open the run, before its first batch; raise ConfigError if that is not possible."""

    def forget_after(self, images: int) -> None:
        """Drop what was logged at more than `images` images, as the run is resumed from there."""

    def log_picture(self, name: str, path: Path, step: int, caption: str = "") -> None:
        """Log an image file, a film or a sound."""

    def log_histograms(self, histograms: dict[str, Tensor], step: int) -> None:
        """Log the distribution of each tensor."""

    def log_passports(self, passports: dict[str, dict[str, Any]]) -> None:
        """Keep the passports of the scores, by name."""

    def log_best(self, scores: Mapping[str, float], images: int) -> None:
        """Keep the scores of the best checkpoint, and the images that it has seen."""

    def log_data(self, description: str, fingerprint: str) -> None:
        """Keep what the run is trained on: a line of words, and a text that differs whenever the content does."""

    def alert(self, title: str, text: str) -> None:
        """Warn whoever watches the run."""

    def where(self) -> str:
        """Return where the run can be viewed, for its last lines on the terminal; "" if only in its folder."""
        return ""

    def finish(self) -> None:
        """Close what was opened."""


def run_loggers(trainer: L.Trainer) -> list[RunLogger]:
    """Return those of a trainer's loggers that can log more than scalars."""
    return [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
