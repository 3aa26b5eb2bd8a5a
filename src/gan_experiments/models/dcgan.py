"""Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks.

Alec Radford, Luke Metz, Soumith Chintala, 2015, arXiv:1511.06434.
Differs from the paper: z is normal, the generator starts at 8 * 64 channels and one batch of fakes serves both steps,
as in the authors' released code; the paper's text has uniform z.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_experiments.contracts import Batch
from gan_experiments.engine import Phase
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.models.noise_to_image import NoiseToImage


class DCGAN(NoiseToImage):
    """Alternates one step of the discriminator and one of the generator, on the same fakes.

    Args:
        loss: what both players minimise.
        parts: the arguments of `NoiseToImage`.
    """

    def __init__(self, loss: AdversarialLoss, **parts: Any) -> None:
        super().__init__(**parts)
        self.loss = loss

    def phases(self) -> list[Phase]:
        """Discriminator, then generator, once a batch each."""
        return [
            Phase("discriminator", self.discriminator_loss, self.discriminator, keeps=self.generator),
            Phase("generator", self.generator_loss, self.generator),
        ]

    def fake(self, batch: Batch) -> Tensor:
        """The fakes [n, C, H, W] of this batch, with their graph, as many as there are real images."""
        return self.once("fake", lambda: self.generator(self.noise(len(batch["real"]))))

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Real and fake go through the discriminator apart: its batch norm must not mix them (§4)."""
        real_logits = self.judge(batch["real"])
        fake_logits = self.judge(self.fake(batch).detach())
        self.observe(real=real_logits, fake=fake_logits)
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The discriminator that has just stepped judges the same fakes."""
        fake_logits = self.judge(self.fake(batch))
        real_logits = self.judge(batch["real"]) if self.loss.needs_real_logits else None
        return {"adversarial": self.loss.generator(fake_logits, real_logits)}
