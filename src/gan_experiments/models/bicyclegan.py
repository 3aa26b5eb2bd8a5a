"""Toward Multimodal Image-to-Image Translation.

Jun-Yan Zhu, Richard Zhang, Deepak Pathak, Trevor Darrell, Alexei A. Efros, Oliver Wang, Eli Shechtman, 2017.
arXiv:1711.11586
Differs from the paper: none; the weights, the order of the steps and discriminators that see the output alone are those
of the authors' code, but not the dropout that its scripts switch on. Of each two images the first is translated, so
that the number of ranks does not matter; the code translates the first half of the batch, the same in its batch of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments import distributed
from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.phases import Phase
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.losses.latent import kl_to_standard_normal
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import Direction, ImageToImage, side_by_side

SHOWN = 4
"""The number of codes whose outputs a sheet shows for each input."""


class Fakes(NamedTuple):
    """Translations of the first of each two inputs, and their codes; n/2 rows each."""

    mean: Tensor
    log_variance: Tensor
    encoded: Tensor  # translations with the target's code, drawn from N(mean, exp(log_variance))
    z: Tensor
    random: Tensor  # translations with z, drawn from N(0, 1)


class BicycleGAN(ImageToImage):
    """A translator that makes the output that a code describes, and an encoder that finds the code of an output.

    Args:
        generator: images [N, C, H, W] in [-1, 1] and codes [N, latent_dim] -> translations; has `latent_dim`.
        encoder: images -> means and log variances of their codes, each [N, latent_dim].
        discriminator_encoded: images -> a list of logits, one for each scale; the cVAE-GAN's discriminator.
        discriminator_random: the same for the cLR-GAN.
        loss: least squares in the paper.
        l1_weight: λ of equation 9.
        latent_weight: λ_latent of equation 9.
        kl_weight: λ_KL of equation 9.
        engine: the other arguments of `ImageToImage`.

    The number of pairs must be even, on each rank and in each accumulation step.
    """

    needs = frozenset({"input", "target"})

    generator: nn.Module
    encoder: nn.Module
    discriminator_encoded: nn.Module
    discriminator_random: nn.Module

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        discriminator_encoded: nn.Module,
        discriminator_random: nn.Module,
        loss: AdversarialLoss,
        l1_weight: NotNegative = 10.0,
        latent_weight: NotNegative = 0.5,
        kl_weight: NotNegative = 0.01,
        **engine: Any,
    ) -> None:
        networks = {
            "generator": generator,
            "encoder": encoder,
            "discriminator_encoded": discriminator_encoded,
            "discriminator_random": discriminator_random,
        }
        super().__init__(networks, loss, **engine)
        self.directions = {"target": Direction("input", "target")}
        self.multiple = getattr(generator, "multiple", 1)
        self.latent_dim = int(generator.latent_dim)  # type: ignore[arg-type]
        self.l1_weight, self.latent_weight, self.kl_weight = l1_weight, latent_weight, kl_weight

    def phases(self) -> list[Phase]:
        """Return a phase of the translator with the encoder, then a phase of both discriminators."""
        discriminators = (self.discriminator_encoded, self.discriminator_random)
        return self.joined(
            Phase("generator", self.generator_loss, (self.generator, self.encoder)),
            Phase("discriminator", self.discriminator_loss, discriminators),
        )

    def fakes(self, batch: Batch) -> Fakes:
        """Return this batch's translations, which carry gradients. Raises ConfigError for an odd number of pairs."""
        return self.once("fakes", lambda: self._fakes(batch))

    def _fakes(self, batch: Batch) -> Fakes:
        n, parts = len(batch["input"]), self._parts_of_batch()
        if n % 2:
            raise ConfigError(
                f"data.batch_size={n * parts} is {n} at once: this model takes images two by two;"
                f" type data.batch_size={2 * parts}"
            )
        images = batch["input"][::2]
        mean, log_variance = self.encoder(batch["target"][::2])
        noise, z = (self.draw(torch.randn, n // 2, self.latent_dim) for _ in range(2))
        code = mean + noise * (0.5 * log_variance).exp()
        return Fakes(mean, log_variance, self.generator(images, code), z, self.generator(images, z))

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 9: both adversarial losses, λ ‖B - G(A, E(B))‖₁, λ_latent ‖z - E(G(A, z))‖₁ for G alone, λ_KL KL."""
        fakes = self.fakes(batch)
        # The latent loss trains the generator, and not the encoder that reads its images.
        frozen = {name: parameter.detach() for name, parameter in self.encoder.named_parameters()}
        found, _ = torch.func.functional_call(self.encoder, frozen, (fakes.random,))
        # The engine takes the mean over the parts of a batch, where the authors' code sums over all of it.
        kl = kl_to_standard_normal(fakes.mean, fakes.log_variance).sum() * self._parts_of_batch()
        return {
            "adversarial_encoded": self.fooled(self.logits(self.discriminator_encoded, fakes.encoded)),
            "adversarial_random": self.fooled(self.logits(self.discriminator_random, fakes.random)),
            "l1": self.l1_weight * F.l1_loss(fakes.encoded, batch["target"][::2]),
            "latent": self.latent_weight * F.l1_loss(found, fakes.z),
            "kl": self.kl_weight * kl,
        }

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return comparisons of translations with targets: with those encoded, and with those of the other images."""
        fakes, targets = self.fakes(batch), batch["target"]
        return [
            Comparison(self, "discriminator_encoded", targets[::2], fakes.encoded),
            Comparison(self, "discriminator_random", targets[1::2], fakes.random),
        ]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Have each discriminator tell its translations from targets."""
        encoded, random = self.compared(batch)
        self.observe(real_encoded=encoded.real_logits[0], fake_encoded=encoded.fake_logits[0])
        self.observe(real_random=random.real_logits[0], fake_random=random.fake_logits[0])
        return {"adversarial_encoded": self.told_apart(encoded), "adversarial_random": self.told_apart(random)}

    def fooled(self, fake_logits: Sequence[Tensor], real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's adversarial loss, summed over the scales."""
        return torch.stack([self.loss.generator(logits) for logits in self.selected(fake_logits)]).sum()

    def told_apart(self, images: Comparison) -> Tensor:
        """Return a discriminator's loss, summed over the scales."""
        scales = zip(images.real_logits, images.fake_logits, strict=True)
        return torch.stack([self.loss.discriminator(*logits) for logits in scales]).sum()

    def _parts_of_batch(self) -> int:
        return distributed.world_size() * self.run.accumulate

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate inputs to targets, all with one code."""
        z = draw(torch.randn, 1, self.latent_dim)
        return self.network("generator", ema)(batch["input"], z.expand(batch["input"].shape[0], -1))

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, 6, C, H, W]: input, the outputs of four codes, each the same for all inputs, and target."""
        outputs = (self.translate(inputs, ema=ema, seed=seed) for seed in range(SHOWN))
        return side_by_side(inputs["input"].to(self.device), *outputs, inputs["target"].to(self.device))
