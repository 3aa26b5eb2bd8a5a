"""Improved Training of Wasserstein GANs.

Ishaan Gulrajani, Faruk Ahmed, Martin Arjovsky, Vincent Dumoulin, Aaron Courville, 2017, arXiv:1704.00028.
Differs from the paper: none; the generator's batch of twice the critic's and the noise on the real images (dequantize)
are those of the authors' gan_cifar_resnet.py. Their gan_cifar.py and gan_64x64.py have no noise, nor have wgan_gp_dcgan
and wgan_gp_64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gan_experiments.bounds import NotNegative, Rhythm
from gan_experiments.contracts import Batch
from gan_experiments.losses.penalties import gradient_penalty
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate


class WGANGP(NoiseToImage):
    """Algorithm 1: `n_critic` steps of the critic, each with a gradient penalty, for each step of the generator.

    Args:
        n_critic: critic steps for each generator step; each takes one batch.
        gp_weight: λ, the weight of the gradient penalty.
        dequantize: the step between two grey levels of the real images, filled with uniform noise; 0 for none. In the
            authors' code gan_cifar_resnet.py has 1/128, gan_cifar.py and gan_64x64.py have none.
        options: the other arguments of `NoiseToImage`.
    """

    lipschitz = True
    per_sample_penalty = True

    def __init__(
        self, n_critic: Rhythm = 5, gp_weight: NotNegative = 10.0, dequantize: NotNegative = 0.0, **options: Any
    ) -> None:
        self.gp_weight, self.dequantize = gp_weight, dequantize  # set first: techniques read them when they join
        super().__init__(n_critic=n_critic, **options)

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        yield from self.points_between()

    def real(self, batch: Batch) -> Tensor:
        """Return the real images [n, C, H, W] in [-1, 1], with noise that fills the steps between grey levels."""
        real, step = batch["real"], self.dequantize
        if not step:
            return real
        # Rescale from [-1, 1] to [-1, 1 - step] first: white plus noise would be beyond the range of tanh.
        return (real + 1) * (1 - step / 2) - 1 + step * self.draw(torch.rand, *real.shape)

    def discriminator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Equation 3: the critic's loss, plus λ (‖∇D(x̂)‖ - 1)² at x̂ between real and fake, with one α for each pair."""
        terms = super().discriminator_loss(update)
        alpha = self.draw(torch.rand, len(update.real))
        penalty = gradient_penalty(update.judge_as_real, update.real, update.fake, alpha)
        return {**terms, "gradient_penalty": self.gp_weight * penalty}
