"""Unconditional normalisation layers, by their names in the configs."""

from __future__ import annotations

from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.distributed import world_size


def plain_norm(norm: str, channels: int, network: str, running: bool = True) -> nn.Module:
    """Return the layer for `norm` "instance", "batch" or "none": `[N, channels, H, W]` -> the same shape.

    Instance norm has no parameters. A bias before batch norm would have no effect. `running=False` is a batch norm that
    uses the batch's statistics in evaluation mode too. `network` is the name for the error. Raises ConfigError for
    another norm.
    """
    if norm == "instance":
        return nn.InstanceNorm2d(channels)
    if norm == "batch":
        return nn.BatchNorm2d(channels, track_running_stats=running)
    if norm == "none":
        return nn.Identity()
    raise ConfigError(f"{network} was given norm={norm}: type norm=instance, norm=batch or norm=none")


def require_several(images: Tensor, network: nn.Module) -> None:
    """Raise ConfigError for a single image in training mode, where batch norm of a 1x1 map would return only zeros."""
    if network.training and len(images) * world_size() == 1:
        raise ConfigError(
            f"{type(network).__name__} was given one image: batch norm of its 1x1 code needs two or more at a time;"
            " type data.batch_size=16"
        )
