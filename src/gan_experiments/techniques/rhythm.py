"""Techniques that decide when a player is updated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from gan_experiments.bounds import Count, Rhythm, Whole
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.game import Game


class WarmUp(Technique):
    """Training of the discriminator alone on the first `images` real images."""

    def __init__(self, images: Whole) -> None:
        super().__init__()
        self.images = images

    def due(self, model: Game, phase: Phase) -> bool:
        """Return False for the generator's phases until `images` images are seen."""
        return phase.player != "generator" or model.images_seen >= self.images


class CriticSchedule(Technique):
    """More critic steps for some of the generator's steps, as in WGAN's code (Arjovsky et al. 2017, arXiv:1701.07875).

    There are `steps` for each of the generator's first `first` steps and for each `period`-th step, and `n_critic` for
    the others.
    """

    needs = frozenset({"discriminator", "n_critic"})

    def __init__(self, steps: Rhythm = 100, first: Whole = 25, period: Count = 500) -> None:
        super().__init__()
        self.steps, self.first, self.period = steps, first, period
        self.generator_steps = 0
        self.critic_steps = 0  # since the generator's last step

    def due(self, model: Any, phase: Phase) -> bool:
        """Return False for the generator's phase until the critic has made its steps."""
        many = self.generator_steps < self.first or self.generator_steps % self.period == 0
        return phase.name != "generator" or self.critic_steps >= (self.steps if many else model.n_critic)

    def after_step(self, model: Game, phase: Phase) -> None:
        """Count the steps of both players."""
        if phase.name == "discriminator":
            self.critic_steps += 1
        if phase.name == "generator":
            self.generator_steps, self.critic_steps = self.generator_steps + 1, 0

    @override
    def get_extra_state(self) -> Any:
        return {"generator_steps": self.generator_steps, "critic_steps": self.critic_steps}

    @override
    def set_extra_state(self, state: Any) -> None:
        self.generator_steps, self.critic_steps = state["generator_steps"], state["critic_steps"]
