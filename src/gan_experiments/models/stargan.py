"""StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation.

Yunjey Choi, Minje Choi, Munyoung Kim, Jung-Woo Ha, Sunghun Kim, Jaegul Choo, 2017. arXiv:1711.09020
Differs from the paper: none; one data set at a time, without the mask vector of section 3.2. The learning rates fall to
zero as the paper says; the authors' code subtracts a thousandth of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import NotNegative, Rhythm
from gan_experiments.contracts import Batch
from gan_experiments.engine.phases import Phase
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.losses.penalties import gradient_penalty
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import LABEL, Direction, ImageToImage, side_by_side


class StarGAN(ImageToImage):
    """One generator for all domains, conditioned on the target domain, and a critic that also classifies domains.

    Args:
        generator: images [N, C, H, W] in [-1, 1] and target domains [N, classes] -> translations; has `classes`.
        discriminator: a critic of `resolution` with `features`, `head` and `classify`, see `StarGANDiscriminator`.
        loss: Wasserstein in the paper.
        attributes: the names of the domains if an image may be in several; empty if each is in exactly one.
        one_of: those attributes of which an image has one at most; adding one removes the others.
        n_critic: discriminator steps for each generator step; each takes one batch.
        gp_weight: λ_gp of equation 8.
        classification_weight: λ_cls of equations 5 and 6.
        reconstruction_weight: λ_rec of equation 6.
        engine: the other arguments of `ImageToImage`.

    The directions are the domains, or the attributes.
    """

    needs = frozenset({"real", "domain"})
    offers = frozenset({"discriminator", "nothing_beside", "n_critic"})
    lipschitz = True
    per_sample_penalty = True

    generator: nn.Module
    discriminator: Any

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        attributes: Sequence[str] = (),
        one_of: Sequence[str] = (),
        n_critic: Rhythm = 5,
        gp_weight: NotNegative = 10.0,
        classification_weight: NotNegative = 1.0,
        reconstruction_weight: NotNegative = 10.0,
        **engine: Any,
    ) -> None:
        self.n_critic, self.gp_weight = n_critic, gp_weight  # set first: techniques read them when they join
        super().__init__({"generator": generator, "discriminator": discriminator}, loss, **engine)
        self.classes = int(generator.classes)  # type: ignore[arg-type]
        self.attributes, self.one_of = list(attributes), set(one_of)
        names = self.attributes or map(str, range(self.classes))
        self.directions = {name: Direction("real", number=number) for number, name in enumerate(names)}
        self.multiple, self.smallest = getattr(generator, "multiple", 1), getattr(generator, "smallest", 1)
        self.classification_weight, self.reconstruction_weight = classification_weight, reconstruction_weight

    def phases(self) -> list[Phase]:
        """Return the phases of the discriminator, and of the generator at every `n_critic`-th batch."""
        return self.joined(
            Phase("discriminator", self.discriminator_loss, self.discriminator),
            Phase("generator", self.generator_loss, self.generator, every=self.n_critic),
        )

    def targets(self, batch: Batch) -> Tensor:
        """Return the target domains [n, classes] of this batch: the domains of the whole batch, permuted."""
        return self.once("targets", lambda: self.gathered("domain")[self.draw(_permutation, len(batch["real"]))])

    def judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the images' patches [n, 1, h, w], and of their domains [n, classes]."""
        features = self.discriminator.features(images)
        return self.discriminator.head(features), self.discriminator.classify(features)

    def misclassified(self, logits: Tensor, domains: Tensor) -> Tensor:
        """Return the classification loss, the mean over the batch (equations 2 and 3).

        It is the cross-entropy, or for attributes the sum of their binary cross-entropies.
        """
        if self.attributes:
            return F.binary_cross_entropy_with_logits(logits, domains, reduction="sum") / len(logits)
        return F.cross_entropy(logits, domains)

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return a comparison of the real images with their translations into the target domains."""
        fake = self.generator(batch["real"], self.targets(batch))
        return [Comparison(self, "discriminator", batch["real"], fake)]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equations 5 and 8: the adversarial loss, plus λ_gp (‖∇D(x̂)‖ - 1)², plus λ_cls times the classification loss
        of the real images.
        """
        (images,) = self.compared(batch)
        self.observe(real=images.real_logits, fake=images.fake_logits)
        classes = self.discriminator.classify(images.real_features)
        alpha = self.draw(torch.rand, len(images.real))
        penalty = gradient_penalty(images.judge_as_real, images.real, images.fake, alpha)
        return {
            "adversarial": self.loss.discriminator(images.real_logits, images.fake_logits),
            "classification": self.classification_weight * self.misclassified(classes, batch["domain"]),
            "gradient_penalty": self.gp_weight * penalty,
        }

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 6: the adversarial loss, plus λ_cls times the classification loss of translations as target domains,
        plus λ_rec ‖x - G(G(x, c), c')‖₁.
        """
        targets = self.targets(batch)
        fake = self.generator(batch["real"], targets)
        logits, features = self.logits_and_features(self.discriminator, fake)
        classes = self.discriminator.classify(features)
        back = self.generator(fake, batch["domain"])
        return {
            "adversarial": self.fooled(logits),
            "classification": self.classification_weight * self.misclassified(classes, targets),
            "reconstruction": self.reconstruction_weight * F.l1_loss(back, batch["real"]),
        }

    @torch.no_grad()
    def overview(self, image: Tensor) -> Batch:
        """Return the attributes of an image, so that all of its tiles are changed in the same way."""
        return {"domain": self.seen(image)} if self.attributes else {}

    def seen(self, images: Tensor) -> Tensor:
        """Return the attributes [n, classes] that the discriminator sees in images of any size, each 0 or 1."""
        small = F.interpolate(images, self.discriminator.resolution, mode="bilinear", antialias=True)
        return (self.judge(small)[1] > 0).to(images)

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate images into a domain, or change an attribute of them."""
        return self.network("generator", ema)(batch["real"], self.wanted(batch, to))

    def wanted(self, batch: Batch, to: str) -> Tensor:
        """Return the target domains [n, classes] of the images: `to` alone, if each is in exactly one.

        An attribute is inverted, but one of `one_of` is always set and the others of `one_of` are removed. The
        attributes of the input are those under "domain" or, without that key, those that the discriminator sees.
        """
        n = batch["real"].shape[0]  # len() would fix the batch of an export
        place = batch[LABEL] if to == LABEL else torch.full((n,), list(self.directions).index(to)).to(self.device)
        chosen = F.one_hot(place, len(self.directions)).bool()
        if not self.attributes:
            return chosen.to(batch["real"])
        had = batch["domain"] if "domain" in batch else self.seen(batch["real"])
        one_of = torch.tensor([name in self.one_of for name in self.attributes], device=self.device)
        lost = one_of & (chosen & one_of).any(dim=1, keepdim=True)
        had = torch.where(lost, 0.0, had)
        return torch.where(chosen, 1 - had, had)

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, 1 + classes, C, H, W]: input, and its translation in every direction."""
        turned = (self.translate(inputs, to, ema) for to in self.directions)
        return side_by_side(inputs["real"].to(self.device), *turned)


def _permutation(size: tuple[int], **how: Any) -> Tensor:
    """Return the row indices of a batch in random order; a sampler for `draw`."""
    return torch.randperm(*size, **how)
