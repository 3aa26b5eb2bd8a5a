"""Image-to-Image Translation with Conditional Adversarial Networks.

Phillip Isola, Jun-Yan Zhu, Tinghui Zhou, Alexei A. Efros, 2016. arXiv:1611.07004
Differs from the paper: none; both losses and their weights are those of the authors' PyTorch code, which also halves
the discriminator's. At test time dropout, the only noise, stays on (in `translate_batch`) and batch norm uses its
batch's statistics (in the networks), as in section 3.3.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
from gan_experiments.engine.phases import Phase
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import Direction, ImageToImage


class Pix2Pix(ImageToImage):
    """A translator, and a discriminator that sees input and output together.

    Args:
        generator: images [N, C, H, W] in [-1, 1] -> translations; if it is `drawn`, it takes `draw` for its dropout.
        discriminator: input and output as channels of one image, [N, 2 C, H, W] -> logits of patches [N, 1, h, w].
        loss: non-saturating in the paper.
        l1_weight: λ of equation 4.
        engine: the other arguments of `ImageToImage`.
    """

    needs = frozenset({"input", "target"})
    offers = frozenset({"discriminator"})

    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        l1_weight: NotNegative = 100.0,
        **engine: Any,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, loss, **engine)
        self.directions = {"target": Direction("input", "target")}
        self.multiple = getattr(generator, "multiple", 1)
        self.l1_weight = l1_weight

    def phases(self) -> list[Phase]:
        """Return the discriminator's phase, then the generator's, on the same translations (section 3.3)."""
        return self.joined(
            Phase("discriminator", self.discriminator_loss, self.discriminator, keeps=self.generator),
            Phase("generator", self.generator_loss, self.generator),
        )

    def fake(self, batch: Batch) -> Tensor:
        """Return the translations of this batch; they carry gradients."""
        return self.once("fake", lambda: self._generate(self.generator, batch["input"], self.draw))

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return a comparison of true outputs with translations, each beside the input."""
        return [Comparison(self, "discriminator", batch["target"], self.fake(batch), given=batch["input"])]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Half of equation 1: tell real pairs from translated ones."""
        (pairs,) = self.compared(batch)
        self.observe(real=pairs.real_logits, fake=pairs.fake_logits)
        return {"adversarial": self.loss.discriminator(pairs.real_logits, pairs.fake_logits) / 2}

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 4: have the pair taken for a real one, plus λ ‖y - G(x)‖₁."""
        fake = self.fake(batch)
        return {
            "adversarial": self.fooled(self.logits(self.discriminator, fake, given=batch["input"])),
            "l1": self.l1_weight * F.l1_loss(fake, batch["target"]),
        }

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate input to target, with dropout."""
        return self._generate(self.network("generator", ema), batch["input"], draw)

    def _generate(self, generator: nn.Module, images: Tensor, draw: Draw) -> Tensor:
        return generator(images, draw=draw) if getattr(generator, "drawn", False) else generator(images)
