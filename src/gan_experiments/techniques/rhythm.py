"""Techniques that say when a player has its update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_experiments.bounds import Count, Rhythm, Whole
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.game import Game


class WarmUp(Technique):
    """The discriminator alone is trained on the first `images` real images."""

    def __init__(self, images: Whole) -> None:
        super().__init__()
        self.images = images

    def due(self, model: Game, phase: Phase) -> bool:
        """Not the generator's, at first."""
        return phase.player != "generator" or model.images_seen >= self.images


class CriticSchedule(Technique):
    """More steps of the critic for some of the generator's, as in WGAN's code (Arjovsky et al. 2017, arXiv:1701.07875).

    `steps` for each of the `first` steps of the generator, and for each `period`-th; `n_critic` for the others.
    """

    needs = frozenset({"discriminator", "n_critic"})

    def __init__(self, steps: Rhythm = 100, first: Whole = 25, period: Count = 500) -> None:
        super().__init__()
        self.steps, self.first, self.period = steps, first, period
        self.generator_steps = 0
        self.critic_steps = 0  # since the generator's last

    def due(self, model: Any, phase: Phase) -> bool:
        """The generator's, once the critic has had its steps."""
        many = self.generator_steps < self.first or self.generator_steps % self.period == 0
        return phase.name != "generator" or self.critic_steps >= (self.steps if many else model.n_critic)

    def after_step(self, model: Game, phase: Phase) -> None:
        """Count."""
        if phase.name == "discriminator":
            self.critic_steps += 1
        if phase.name == "generator":
            self.generator_steps, self.critic_steps = self.generator_steps + 1, 0

    def get_extra_state(self) -> Any:
        """The counts."""
        return {"generator_steps": self.generator_steps, "critic_steps": self.critic_steps}

    def set_extra_state(self, state: Any) -> None:
        """Go on counting."""
        self.generator_steps, self.critic_steps = state["generator_steps"], state["critic_steps"]
