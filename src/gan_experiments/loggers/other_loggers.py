"""Pictures for loggers of Lightning that are not of this package; scalars they take as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger


def _mlflow(logger: Any, name: str, path: Path, step: int) -> None:
    logger.experiment.log_artifact(logger.run_id, str(path), f"{name}/{step:08d}")


def _tensorboard(logger: Any, name: str, path: Path, step: int) -> None:
    from torchvision.io import ImageReadMode, decode_image

    if path.suffix == ".png":  # TensorBoard shows no GIF
        logger.experiment.add_image(name, decode_image(str(path), ImageReadMode.RGB), step)


BY_CLASS: dict[str, Callable[[Any, str, Path, int], None]] = {
    "MLFlowLogger": _mlflow,
    "TensorBoardLogger": _tensorboard,
}
"""How a picture is logged, by the name of the logger's class or of one that it derives from."""


def log_picture(logger: Logger, name: str, path: Path, step: int) -> None:
    """Log an image file at `step` images with a logger that is known to take pictures; do nothing with others."""
    for kind in type(logger).__mro__:
        if kind.__name__ in BY_CLASS:
            BY_CLASS[kind.__name__](logger, name, path, step)
            return
