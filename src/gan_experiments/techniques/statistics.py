"""Techniques that follow what the discriminator says over many batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gan_experiments.bounds import NotNegative, Share, Whole
from gan_experiments.contracts import ConfigError
from gan_experiments.losses import regularisers
from gan_experiments.losses.regularisers import AccuracyBalance
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.noise_to_image import NoiseToImage, Turn


class LeCam(Technique):
    """λ [relu(D(x) - ᾱ_F)² + relu(ᾱ_R - D(G(z)))²], ᾱ the average logits (Tseng et al. 2021, arXiv:2104.03310).

    See `losses.regularisers.LeCam` for `decay` and `start`.
    """

    players = ("discriminator",)

    def __init__(self, weight: NotNegative = 0.3, decay: Share = 0.99, start: Whole = 0) -> None:
        super().__init__()
        self.weight = weight
        self.lecam = regularisers.LeCam(decay, start)

    def term(self, turn: Turn) -> Tensor:
        """This batch is in the averages that it is compared with."""
        logits, seen = (turn.real_logits, turn.fake_logits), turn.model.images_seen
        self.lecam.update(*logits, seen)
        return self.weight * self.lecam(*logits, seen)


class AdaptiveBalance(Technique):
    """D is not trained while it was right about more than `limit` of the last batch (Wu et al. 2016, arXiv:1610.07584).

    A logit above 0 counts as "real".
    """

    def __init__(self, limit: NotNegative = 0.8) -> None:
        super().__init__()
        self.balance = AccuracyBalance(limit)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def join(self, model: NoiseToImage) -> None:
        """Refuse a loss to which 0 does not mean that it may be either."""
        if not model.loss.zero_is_chance:
            raise ConfigError(
                f"{type(model.loss).__name__} has no accuracy, for its logits do not say real above 0 and fake below;"
                " type loss=non_saturating, or leave it out"
            )

    def rests(self, turn: Turn) -> bool:
        """Whether it is the discriminator's turn, and it was right too often."""
        if turn.of_generator:
            return False
        self._seen.append((turn.real_logits.detach(), turn.fake_logits.detach()))
        return self.balance.rests()

    def after_step(self, model: NoiseToImage, phase: Phase) -> None:
        """Take the accuracy of the whole batch, in which the discriminator is as it was before."""
        if self._seen:
            self.balance.update(*(torch.cat(logits) for logits in zip(*self._seen, strict=True)))
            self._seen.clear()
