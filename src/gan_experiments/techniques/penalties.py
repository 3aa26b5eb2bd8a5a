"""Weighted penalties on the discriminator's gradient (`losses/penalties.py`) and on its logits.

With an augmentation, gradients are with respect to the images before it. If a discriminator sees an image beside an
input, gradients are with respect to the image alone.

A discriminator of patches has many logits for an image. R1 and R2 use the gradient of their mean, as in FUNIT's code
(Liu et al. 2019, arXiv:1905.01723), so that γ means the same for any number of patches. The other penalties use the
gradient of their sum, as in StarGAN's code (Choi et al. 2017, arXiv:1711.09020). The scales of one discriminator are
added up. Each of several discriminators has a penalty of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gan_experiments.bounds import NotNegative, Rhythm
from gan_experiments.contracts import ConfigError
from gan_experiments.losses.logits import per_image, per_patch, scales, sum_of
from gan_experiments.losses.penalties import dragan_penalty, gradient_penalty, r1_penalty
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.models.game import Comparison, Game


class GradientPenalty(Technique):
    """λ (‖∇D(x̂)‖ - center)² between real and fake (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3).

    `center=0` is the zero-centred penalty (Thanh-Tung et al. 2019, arXiv:1902.03984).
    """

    players = ("discriminator",)
    per_sample_penalty = True

    def __init__(self, weight: NotNegative = 10.0, center: NotNegative = 1.0, every: Rhythm = 1) -> None:
        super().__init__()
        self.weight, self.center, self.every = weight, center, every
        self.lipschitz = center > 0

    def join(self, model: Game) -> None:
        """Raise ConfigError for a second gradient penalty, and for points between images of two classes."""
        if getattr(model, "gp_weight", 0):
            raise ConfigError("this model has a gradient penalty of its own; leave it out, or type model.gp_weight=0")
        if faults := [*model.points_between()]:
            raise ConfigError(*faults)

    def term(self, update: Comparison) -> Tensor:
        """Return the weighted term, with one α for each pair of a real image and a fake."""
        alpha = update.model.draw(torch.rand, len(update.real))
        patches = partial(_patches, update)
        return self.weight * gradient_penalty(patches, update.real, update.fake, alpha, self.center)


class DRAGAN(Technique):
    """λ (‖∇D(x̂)‖ - 1)² around the real images (Kodali et al. 2017, arXiv:1705.07215)."""

    players = ("discriminator",)
    per_sample_penalty = True

    def __init__(self, weight: NotNegative = 10.0, every: Rhythm = 1) -> None:
        super().__init__()
        self.weight, self.every = weight, every

    def term(self, update: Comparison) -> Tensor:
        """Return the weighted term, at points whose distance from the real images follows their standard deviation."""
        draw, real = update.model.draw, update.real
        alpha, noise = draw(torch.rand, len(real)), draw(torch.rand, *real.shape)
        return self.weight * dragan_penalty(partial(_patches, update), real, alpha, noise)


def _patches(update: Comparison, images: Tensor) -> Tensor:
    return per_patch(update.judge_as_real(images))


class R1(Technique):
    """γ/2 ‖∇D(x)‖² at the real images (Mescheder et al. 2018, arXiv:1801.04406, eq. 9).

    `every=16` is StyleGAN2's lazy regularisation (Karras et al. 2020, arXiv:1912.04958, appendix B).
    """

    players = ("discriminator",)
    per_sample_penalty = True

    def __init__(self, gamma: NotNegative = 10.0, every: Rhythm = 1) -> None:
        super().__init__()
        self.gamma, self.every = gamma, every

    def term(self, update: Comparison) -> Tensor:
        """Return the weighted term, at the real images before augmentation."""

        def judged(*parts: Tensor) -> Tensor:
            return per_image(update.judge_as_real(update.of_parts(*parts)))

        return self.gamma * r1_penalty(judged, *update.real_parts)


class R2(R1):
    """γ/2 ‖∇D(G(z))‖² at the fakes (Mescheder et al. 2018, arXiv:1801.04406, eq. 10)."""

    def term(self, update: Comparison) -> Tensor:
        """Return the weighted term, at the fakes before augmentation."""

        def judged(*parts: Tensor) -> Tensor:
            return per_image(update.judge_as_fake(update.of_parts(*parts)))

        return self.gamma * r1_penalty(judged, *update.fake_parts)


class Drift(Technique):
    """ε D(x)² of the real images, so that a critic's logits stay near zero (Karras et al. 2018, appendix A.1)."""

    players = ("discriminator",)

    def __init__(self, weight: NotNegative = 0.001) -> None:
        super().__init__()
        self.weight = weight

    def term(self, update: Comparison) -> Tensor:
        """Return the weighted mean over the images and their patches, summed over the scales."""
        return self.weight * sum_of([logits.square().mean() for logits in scales(update.real_logits)])
