"""Checks and encodings of class labels for conditional networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from gan_experiments.contracts import ConfigError


def conditioned_classes(conditioning: str, classes: int, choices: Sequence[str], network: str) -> int:
    """Return the number of classes that a network is conditioned on: 0 if `conditioning` is "none", else `classes`.

    `network` is its name for the error. Raises ConfigError if `conditioning` is not among `choices`, or if there are no
    classes to condition on.
    """
    if conditioning not in choices:
        raise ConfigError(
            f"{network} cannot be conditioned by conditioning={conditioning}: type conditioning= one of"
            f" {', '.join(choices)}"
        )
    return 0 if conditioning == "none" else required_classes(classes, network)


def required_classes(classes: int, network: str) -> int:
    """Return `classes`; raises ConfigError if it is 0, because `network` is conditional."""
    if classes < 1:
        raise ConfigError(
            f"{network} is conditional and has classes={classes}: it needs data with labels;"
            " type for example data=digits data.classes=10"
        )
    return classes


def required_label(label: Tensor | None, network: str) -> Tensor:
    """Return `label`; raises ConfigError if it is None, because `network` is conditional."""
    if label is None:
        raise ConfigError(f"{network} is conditional and was given no labels: train it by a model that gives them")
    return label


def one_hot(label: Tensor | None, classes: int, like: Tensor, network: str) -> Tensor:
    """Encode labels int64 `[N]` as `[N, classes]` of the dtype of `like`; raises ConfigError if there are no labels."""
    return F.one_hot(required_label(label, network), classes).to(like.dtype)
