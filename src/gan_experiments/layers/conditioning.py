"""How a network takes labels, and what it says where they do not fit."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gan_experiments.contracts import ConfigError


def check_conditioning(network: nn.Module, conditioning: str, classes: int, offered: Sequence[str]) -> None:
    """Raise ConfigError unless `conditioning` is "none", or one of those `offered` and there are classes."""
    name, offered = type(network).__name__, ("none", *offered)
    if conditioning not in offered:
        choices = f"{', '.join(offered[:-1])} or {offered[-1]}"
        raise ConfigError(f"{name} was given conditioning={conditioning}: type conditioning={choices}")
    if conditioning != "none" and classes < 1:
        raise ConfigError(
            f"{name} was given conditioning={conditioning} and no classes: it needs data with labels;"
            " type conditioning=none"
        )


def required(label: Tensor | None, classes: int) -> Tensor:
    """The label, int64 [N]; raises ConfigError where a network made for `classes` is given none."""
    if label is None:
        raise ConfigError(
            f"a network made for {classes} classes was given no label: take data with labels, or type classes=0 and"
            " conditioning=none"
        )
    return label
