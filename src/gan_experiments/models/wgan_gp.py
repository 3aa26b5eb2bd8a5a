"""Improved Training of Wasserstein GANs.

Ishaan Gulrajani, Faruk Ahmed, Martin Arjovsky, Vincent Dumoulin, Aaron Courville, 2017, arXiv:1704.00028.
Differs from the paper: none; the generator's batch of twice the critic's and the noise on the real images are those of
the authors' CIFAR-10 ResNet code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_experiments.contracts import Batch
from gan_experiments.engine import Phase
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.losses.penalties import gradient_penalty
from gan_experiments.models.noise_to_image import NoiseToImage


class WGANGP(NoiseToImage):
    """Algorithm 1: `n_critic` steps of the critic, each with a gradient penalty, for each step of the generator.

    Args:
        loss: the Wasserstein loss, unless an experiment asks for another.
        n_critic: steps of the critic for one of the generator; each takes one batch.
        gp_weight: λ, the weight of the gradient penalty.
        generator_batch: fakes in the generator's step for each real image in a critic's step.
        dequantize: width of the uniform noise added to the real images; 0 for none.
        parts: the arguments of `NoiseToImage`.
    """

    lipschitz = True
    per_sample_penalty = True

    def __init__(
        self,
        loss: AdversarialLoss,
        n_critic: int = 5,
        gp_weight: float = 10.0,
        generator_batch: int = 1,
        dequantize: float = 0.0,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.loss = loss
        self.n_critic = n_critic
        self.gp_weight = gp_weight
        self.generator_batch = generator_batch
        self.dequantize = dequantize

    def phases(self) -> list[Phase]:
        """The critic at each batch, the generator at each `n_critic`-th."""
        return [
            Phase("discriminator", self.discriminator_loss, self.discriminator),
            Phase("generator", self.generator_loss, self.generator, every=self.n_critic),
        ]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 3: the Wasserstein loss and the penalty on points between real and fake, one α for each pair."""
        real = batch["real"]
        n = len(real)
        if self.dequantize:
            real = real + self.dequantize * self.draw(torch.rand, n, *real.shape[1:])
        fake = self.generator(self.noise(n)).detach()
        real_logits, fake_logits = self.judge(real), self.judge(fake)
        self.observe(real=real_logits, fake=fake_logits)
        penalty = gradient_penalty(self.discriminator, real, fake, alpha=self.draw(torch.rand, n))
        return {
            "adversarial": self.loss.discriminator(real_logits, fake_logits),
            "gradient_penalty": self.gp_weight * penalty,
        }

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Raise the critic's value of new fakes."""
        real = batch["real"]
        fake_logits = self.judge(self.generator(self.noise(self.generator_batch * len(real))))
        real_logits = self.judge(real) if self.loss.needs_real_logits else None
        return {"adversarial": self.loss.generator(fake_logits, real_logits)}
