"""How networks take class labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from gan_experiments.contracts import ConfigError


def conditioned_classes(conditioning: str, classes: int, choices: Sequence[str], network: str) -> int:
    """How many classes a network is conditioned on: none where `conditioning` is "none", else `classes`.

    `network` is the name for the error. Raises ConfigError where `conditioning` is none of `choices`, or there are no
    classes to condition on.
    """
    if conditioning not in choices:
        raise ConfigError(
            f"{network} cannot be conditioned by conditioning={conditioning}: type conditioning= one of"
            f" {', '.join(choices)}"
        )
    return 0 if conditioning == "none" else required_classes(classes, network)


def required_classes(classes: int, network: str) -> int:
    """The number of classes itself; raises ConfigError where a conditional network has none."""
    if classes < 1:
        raise ConfigError(
            f"{network} is conditional and has classes={classes}: it needs data with labels;"
            " type for example data=digits data.classes=10"
        )
    return classes


def required_label(label: Tensor | None, network: str) -> Tensor:
    """The label itself; raises ConfigError where a conditional network was given none."""
    if label is None:
        raise ConfigError(f"{network} is conditional and was given no labels: train it by a model that gives them")
    return label


def one_hot(label: Tensor | None, classes: int, like: Tensor, network: str) -> Tensor:
    """int64 `[N]` -> `[N, classes]` of the dtype of `like`; raises ConfigError where there is no label."""
    return F.one_hot(required_label(label, network), classes).to(like.dtype)
