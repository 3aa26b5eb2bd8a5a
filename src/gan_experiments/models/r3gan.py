"""The GAN is dead; long live the GAN! A Modern Baseline GAN.

Nick Huang, Aaron Gokaslan, Volodymyr Kuleshov, James Tompkin, 2024, arXiv:2501.05441.
Differs from the paper: both players see the same real images in a batch; the augmentation's colour transformations are
as likely as the others, not half as likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from gan_experiments.bounds import BelowOne, Count, NotNegative, Share
from gan_experiments.losses.penalties import r1_penalty
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.schedules import Cosine


class R3GAN(NoiseToImage):
    """Relativistic training on pairs of a real image and a fake, with R1 and R2 at each step.

    Each constant below changes from its first to its second value along one half of a cosine.

    Args:
        burn_in: the number of images over which the constants change.
        gamma: γ of both penalties, each of which is γ/2 ‖∇D‖².
        beta2: β₂ of both players' Adam.
        half_life: the half-life of the generator's weight average, in images.
        augment_p: p of an ADA whose `target` is None.
        options: the other arguments of `NoiseToImage`.
    """

    per_sample_penalty = True

    def __init__(
        self,
        burn_in: Count,
        gamma: Annotated[Sequence[NotNegative], Field(min_length=2, max_length=2)] = (0.05, 0.005),
        beta2: Annotated[Sequence[BelowOne], Field(min_length=2, max_length=2)] = (0.9, 0.99),
        half_life: Annotated[Sequence[NotNegative], Field(min_length=2, max_length=2)] = (0, 5_000_000),
        augment_p: Annotated[Sequence[Share], Field(min_length=2, max_length=2)] = (0.0, 0.55),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.gamma, self.beta2, self.half_life, self.augment_p = gamma, beta2, half_life, augment_p
        self.share = Cosine(end=burn_in)

    def now(self, values: Sequence[float]) -> float:
        """Return the current value of a constant on its way from its first to its last value."""
        first, last = values
        return last + (first - last) * self.share(self.images_seen)

    def before_batch(self) -> None:
        """Set the constants of this batch, which the engine's schedules do not set."""
        for name in self.make_optimizer:
            for group in self.optimizer_of(name).param_groups:
                group["betas"] = (group["betas"][0], self.now(self.beta2))
        for average in self.averages.values():
            average.half_life = self.now(self.half_life)  # type: ignore[assignment]
        if self.augment:
            self.augment.follow(self.now(self.augment_p))

    def discriminator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Equation 7: the loss of pairs, plus γ/2 ‖∇D(x)‖² + γ/2 ‖∇D(G(z))‖² at the images before augmentation."""
        terms, gamma = super().discriminator_loss(update), self.now(self.gamma)
        r1, r2 = r1_penalty(update.judge_as_real, update.real), r1_penalty(update.judge_as_fake, update.fake)
        return {**terms, "r1": gamma * r1, "r2": gamma * r2}
