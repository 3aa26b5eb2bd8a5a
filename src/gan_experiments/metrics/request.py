"""What is asked of an evaluation: where it runs, and what is wanted beside the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.metrics.ranks import Ranks


@dataclass(frozen=True, eq=False)
class Request:
    """An evaluation on one of the ranks that compute it together.

    Args:
        device: where samples and features are computed.
        ema: whether the samples are those of the averaged generator; None if there is no generator.
        rank, world_size: which rank this is, and how many there are.
        extra: entries to add to the passports of the scores.
        labels: the classes of the samples, int64 [num_fake], to score each class alone too.
        bootstrap: how many random halves of the samples estimate the confidence intervals; 0 for no intervals.
    """

    device: torch.device | str
    ema: bool | None
    rank: int = 0
    world_size: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    labels: Tensor | None = None
    bootstrap: int = 0

    @property
    def ranks(self) -> Ranks:
        """The ranks that evaluate together."""
        return Ranks(self.rank, self.world_size, torch.device(self.device))

    def require_scores_only(self, why: str) -> None:
        """Raise ConfigError, with the reason, if classes alone or intervals are asked for."""
        for word, asked in (("by_class", self.labels is not None), ("bootstrap", self.bootstrap > 0)):
            if asked:
                raise ConfigError(f"{word}: {why}; leave it out")
