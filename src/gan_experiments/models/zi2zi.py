"""zi2zi: Master Chinese Calligraphy with Conditional Adversarial Networks.

Yuchen Tian, 2017. kaonashi-tyc/zi2zi.

After pix2pix (arXiv:1611.07004), AC-GAN (arXiv:1610.09585) and DTN (arXiv:1611.02200).

Differs from the paper: there is none; losses, weights and the order of the steps are those of the author's TensorFlow
code. It halves the learning rate after nine of 100 epochs and then after each ten; here it is halved after each tenth
of the run.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
from gan_experiments.engine.phases import Phase
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.losses.reconstruction import total_variation
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import Direction, ImageToImage
from gan_experiments.networks.zi2zi import FontDiscriminator, FontUNet


class Zi2Zi(ImageToImage):
    """A generator that redraws characters in a given font, and a discriminator that also classifies the font.

    Args:
        generator: characters of the source font and target fonts -> characters; its embedding of fonts is not trained.
        discriminator: source and target character as channels of one image -> features, and from these a logit of being
            real and one logit for each font.
        loss: non-saturating in the code.
        l1_weight: weight of |B - G(A)|.
        constancy_weight: weight of the mean square of E(A) - E(G(A)), where E is the generator's encoder.
        category_weight: weight of the binary cross-entropy of the fonts, each with a sigmoid of its own.
        tv_weight: weight of the total variation of G(A); 0 in the code.
        engine: the other arguments of `ImageToImage`.
    """

    needs = frozenset({"input", "target", "label"})
    offers = frozenset({"discriminator"})

    generator: FontUNet
    discriminator: FontDiscriminator

    def __init__(
        self,
        generator: FontUNet,
        discriminator: FontDiscriminator,
        loss: AdversarialLoss,
        l1_weight: NotNegative = 100.0,
        constancy_weight: NotNegative = 15.0,
        category_weight: NotNegative = 1.0,
        tv_weight: NotNegative = 0.0,
        **engine: Any,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, loss, **engine)
        fonts = {str(font): Direction("input", number=font) for font in range(generator.classes)}
        self.directions = {"label": Direction("input", "target", also=("label",)), **fonts}
        self.multiple = generator.multiple
        self.l1_weight, self.constancy_weight = l1_weight, constancy_weight
        self.category_weight, self.tv_weight = category_weight, tv_weight

    def phases(self) -> list[Phase]:
        """Return one phase of the discriminator and two of the generator; each of the three draws its own dropout."""
        return self.joined(
            Phase("discriminator", self.discriminator_loss, self.discriminator),
            Phase("generator", self.generator_loss, self.generator),
            Phase("generator_again", self.generator_loss, self.generator, optimizer="generator"),
        )

    def misclassified(self, batch: Batch, features: Any) -> Tensor:
        """Return the classification loss of the fonts, from the discriminator's features."""
        fonts = self.discriminator.classify(features)
        wanted = F.one_hot(batch["label"], self.discriminator.classes).to(fonts.dtype)
        return F.binary_cross_entropy_with_logits(fonts, wanted)

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return a comparison of real characters with generated ones, each beside its source."""
        fake = self.generator(batch["input"], batch["label"], self.draw)
        return [Comparison(self, "discriminator", batch["target"], fake, given=batch["input"])]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Tell real characters from generated ones, and classify the font of both, at half the weight each."""
        (pairs,) = self.compared(batch)
        self.observe(real=pairs.real_logits, fake=pairs.fake_logits)
        category = self.misclassified(batch, pairs.real_features) + self.misclassified(batch, pairs.fake_features)
        return {
            "adversarial": self.loss.discriminator(pairs.real_logits, pairs.fake_logits),
            "category": self.category_weight * category / 2,
        }

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Have fakes taken for real and for their font, plus 100 |B - G(A)| + 15 (E(A) - E(G(A)))², for likeness."""
        fake, code = self.generator.with_code(batch["input"], batch["label"], self.draw)
        logits, features = self.logits_and_features(self.discriminator, fake, given=batch["input"])
        terms = {
            "adversarial": self.fooled(logits),
            "l1": self.l1_weight * F.l1_loss(fake, batch["target"]),
            "constancy": self.constancy_weight * F.mse_loss(self.generator.encode(fake), code),
            "category": self.category_weight * self.misclassified(batch, features),
        }
        if self.tv_weight:
            terms["total_variation"] = self.tv_weight * total_variation(fake)
        return terms

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate characters into one font, or each into the font of its label; dropout stays on."""
        images, font = batch["input"], self.directions[to].number
        label = batch["label"] if font is None else torch.full((images.shape[0],), font, device=images.device)
        return self.network("generator", ema)(images, label, draw)
