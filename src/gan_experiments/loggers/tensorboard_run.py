"""TensorBoard, with the images seen as the x-axis of everything."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from gan_experiments.bounds import Place
from gan_experiments.loggers import other_loggers
from gan_experiments.loggers.run_logger import RunLogger


class TensorBoardRun(RunLogger, TensorBoardLogger):
    """TensorBoard's files in `tensorboard/` of the run folder.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Place) -> None:
        super().__init__(save_dir=folder, name="tensorboard", version="")

    @rank_zero_only
    def log_picture(self, name: str, path: Path, step: int, caption: str = "") -> None:
        """Log an image file at `step` images; TensorBoard shows no GIFs."""
        other_loggers.log_picture(self, name, path, step)

    @rank_zero_only
    def log_histograms(self, histograms: dict[str, Tensor], step: int) -> None:
        """Log the distribution of each tensor at `step` images."""
        for name, values in histograms.items():
            self.experiment.add_histogram(name, values.to(torch.float32), step)

    @rank_zero_only
    def finish(self) -> None:
        """Write what is left and close the files."""
        self.experiment.close()
