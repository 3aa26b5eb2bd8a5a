"""Techniques that make the discriminator's output consistent under small changes of its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gan_experiments.augment.ada import ADA
from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import Image
from gan_experiments.losses.logits import per_image
from gan_experiments.losses.regularisers import consistency, latent_diversity
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.models.game import Comparison, Game
    from gan_experiments.models.noise_to_image import PlayerUpdate


class CR(Technique):
    """λ (D(x) - D(T(x)))² of the real images, T flips and shifts (Zhang et al. 2020, arXiv:1910.12027).

    For a discriminator of patches D(x) is the mean of their logits, because T moves the patches.
    """

    needs = frozenset({"discriminator", "nothing_beside"})
    players = ("discriminator",)

    def __init__(self, weight: NotNegative = 10.0) -> None:
        super().__init__()
        self.weight = weight
        self.transform = ADA("xflip,xint", p=1, target=None)

    def join(self, model: Game) -> None:
        """Raise ConfigError for a model whose samples are not images."""
        if not isinstance(model.kind, Image):
            raise ConfigError(
                f"its flips and shifts are of images, and this model makes {model.kind.name}; leave it out"
            )

    def term(self, update: Comparison) -> Tensor:
        """Return the weighted term; each image has its own flip and shift."""
        moved = update.judge_as_real(self.transform(update.real, update.model.draw))
        return self.weight * consistency(per_image(update.real_logits), per_image(moved))


class BCR(CR):
    """CR of the real images and of the fakes (Zhao et al. 2021, arXiv:2002.04724, §2.1)."""

    def __init__(self, weight: NotNegative = 10.0, fake_weight: NotNegative = 10.0) -> None:
        super().__init__(weight)
        self.fake_weight = fake_weight

    def term(self, update: Comparison) -> Tensor:
        """Return the sum of both weighted terms."""
        of_reals = super().term(update)
        moved = update.judge_as_fake(self.transform(update.fake, update.model.draw))
        return of_reals + self.fake_weight * consistency(per_image(update.fake_logits), per_image(moved))


class ZCR(Technique):
    """Fakes of z and z + δ, to which D gives equal logits and which G makes different (Zhao et al. 2021, §2.2).

    δ ~ N(0, sigma²). With BCR it is the paper's ICR: `technique=[bcr,zcr]`.
    """

    needs = frozenset({"discriminator", "noise"})
    players = ("discriminator", "generator")

    def __init__(
        self, sigma: NotNegative = 0.05, weight: NotNegative = 20.0, generator_weight: NotNegative = 0.5
    ) -> None:
        super().__init__()
        self.sigma, self.weight, self.generator_weight = sigma, weight, generator_weight

    def term(self, update: PlayerUpdate) -> Tensor:
        """Return the discriminator's weighted term, or the generator's, which is minus a distance."""
        near = update.z + self.sigma * update.model.draw(torch.randn, *update.z.shape)
        images = update.model.generate(near, update.fake_label)
        if update.of_generator:
            return self.generator_weight * latent_diversity(update.fake, images)
        moved = update.judge_as_fake(images.detach())
        return self.weight * consistency(per_image(update.fake_logits), per_image(moved))
