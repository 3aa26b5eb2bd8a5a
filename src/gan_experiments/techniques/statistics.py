"""Techniques that track the discriminator's logits over many batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gan_experiments.bounds import NotNegative, Share, Whole
from gan_experiments.contracts import ConfigError
from gan_experiments.losses import regularisers
from gan_experiments.losses.logits import per_patch, scales, sum_of
from gan_experiments.losses.regularisers import AccuracyBalance
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.game import Comparison, Game


class LeCam(Technique):
    """λ [relu(D(x) - ᾱ_F)² + relu(ᾱ_R - D(G(z)))²], ᾱ the average logits (Tseng et al. 2021, arXiv:2104.03310).

    See `losses.regularisers.LeCam` for `decay` and `start`. Each discriminator has averages of its own for each of its
    `n_logits` (scales, or with and without a caption). Patches are compared one by one.
    """

    players = ("discriminator",)

    def __init__(self, weight: NotNegative = 0.3, decay: Share = 0.99, start: Whole = 0) -> None:
        super().__init__()
        self.weight = weight
        self.lecam = regularisers.LeCam(decay, start)  # of the first discriminator's first logits
        self.others = nn.ModuleDict()
        self.first: str | None = None

    def join(self, model: Game) -> None:
        """Create the averages of the other discriminators and logits."""
        for name, network in model.networks_of("discriminator").items():
            for index in range(getattr(network, "n_logits", 1)):
                self.others[f"{name}_{index}"] = regularisers.LeCam(self.lecam.decay, self.lecam.start)
        self.first = next(iter(self.others))
        del self.others[self.first]

    def term(self, update: Comparison) -> Tensor:
        """Return the weighted term; the averages already include this batch."""
        terms, seen = [], update.model.images_seen
        for index, logits in enumerate(zip(scales(update.real_logits), scales(update.fake_logits), strict=True)):
            name = f"{update.name}_{index}"
            lecam: Any = self.lecam if self.first in (None, name) else self.others[name]
            lecam.update(*logits, seen)
            terms.append(lecam(*logits, seen))
        return self.weight * sum_of(terms)


class AdaptiveBalance(Technique):
    """Skipping of D's updates while its accuracy on the last batch is above `limit` (Wu et al. 2016, arXiv:1610.07584).

    A logit above 0 counts as "real". Several discriminators have one accuracy, and are skipped together.
    """

    def __init__(self, limit: NotNegative = 0.8) -> None:
        super().__init__()
        self.balance = AccuracyBalance(limit)
        self._seen: list[tuple[Tensor, ...]] = []

    def join(self, model: Game) -> None:
        """Raise ConfigError for a loss whose logit 0 does not mean that real and fake are equally likely."""
        if not model.loss.zero_is_chance:
            raise ConfigError(
                f"{type(model.loss).__name__} has no accuracy, for its logits do not say real above 0 and fake below;"
                " type loss=non_saturating, or leave it out"
            )

    def rests(self, update: Any) -> bool:
        """Return True to skip the discriminator's update, when its last accuracy was too high."""
        if update.of_generator:
            return False
        self._seen.append(
            tuple(per_patch(logits).detach().flatten() for logits in (update.real_logits, update.fake_logits))
        )
        return self.balance.rests()

    def after_step(self, model: Game, phase: Phase) -> None:
        """Store the accuracy on the whole batch, from the logits before the discriminator's step."""
        if self._seen:
            self.balance.update(*(torch.cat(logits) for logits in zip(*self._seen, strict=True)))
            self._seen.clear()
