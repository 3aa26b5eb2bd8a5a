"""Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network.

Christian Ledig, Lucas Theis, Ferenc Huszar, Jose Caballero, et al., 2016. arXiv:1609.04802

`Enlarger` is the first stage, SRResNet, trained by pixels alone. `SRGAN` is the second stage, which starts from the
first one's generator (`model.pretrained`). ESRGAN (Wang et al. 2018, arXiv:1809.00219) and its first stage are these
two with other networks, losses and weights.

Differs from the paper: the generator's step comes before the discriminator's, on the same images, as in BasicSR.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.phases import Phase
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.losses.reconstruction import find_distance
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import Direction, ImageToImage


class Enlarger(ImageToImage):
    """A generator trained without a discriminator, by the distance of its pixels from the photographs.

    Args:
        generator: images [N, C, H, W] in [-1, 1] -> `scale` times larger ones; has `scale` and `multiple`.
        distance: "l2" (SRResNet), "l1" (ESRGAN's first stage) or "charbonnier", of images in [0, 1].
        engine: the other arguments of `ImageToImage`.

    Raises ConfigError for another distance.
    """

    needs = frozenset({"low", "high"})
    offers = frozenset()

    generator: nn.Module

    def __init__(self, generator: nn.Module, distance: str = "l2", **engine: Any) -> None:
        super().__init__({"generator": generator}, **engine)
        self.directions = {"high": Direction("low", "high")}
        self.scale, self.multiple = int(generator.scale), int(generator.multiple)  # type: ignore[arg-type]
        self.distance = find_distance(distance, "model.distance")

    def phases(self) -> list[Phase]:
        """Return the only phase, of the generator."""
        return [Phase("generator", self.generator_loss, self.generator)]

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 4: the mean distance of pixels d; for "l2", the PSNR in dB is -10 log₁₀ d."""
        return {"pixel": self.distance(self.generator(batch["low"]) / 2, batch["high"] / 2)}

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate low resolution to high."""
        return self.network("generator", ema)(batch["low"])


class SRGAN(ImageToImage):
    """A generator trained to be taken for a camera, and to match the photographs in the features of a network.

    Args:
        generator: images [N, C, H, W] in [-1, 1] -> `scale` times larger ones; has `scale` and `multiple`.
        discriminator: images of high resolution -> logits.
        loss: non-saturating in the paper, the relativistic average in ESRGAN.
        perceptual: makes the perceptual loss, images and targets [N, C, H, W] -> scalar. It is called when training
            begins, because nothing else needs the weights. The loss is not part of this module: it is neither trained,
            saved nor averaged. None or {} for none.
        adversarial_weight, perceptual_weight, pixel_weight: weights of the generator's terms, equation 3.
        distance: the distance of pixels, "l2", "l1" or "charbonnier", of images in [0, 1].
        engine: the other arguments of `ImageToImage`.

    Raises ConfigError for another distance, and if there is neither a perceptual nor a pixel loss.
    """

    needs = frozenset({"low", "high"})

    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        perceptual: Callable[[], nn.Module] | Mapping[str, Any] | None = None,
        adversarial_weight: NotNegative = 1e-3,
        perceptual_weight: NotNegative = 1.0,
        pixel_weight: NotNegative = 0.0,
        distance: str = "l2",
        **engine: Any,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, loss, **engine)
        self.directions = {"high": Direction("low", "high")}
        self.scale, self.multiple = int(generator.scale), int(generator.multiple)  # type: ignore[arg-type]
        self.make_perceptual = perceptual if callable(perceptual) else None
        self.adversarial_weight = adversarial_weight
        self.perceptual_weight = perceptual_weight
        self.pixel_weight = pixel_weight
        self.distance = find_distance(distance, "model.distance")
        self._perceptual: list[nn.Module] = []  # in a list, so that it is no submodule
        if not (self.make_perceptual and perceptual_weight) and not pixel_weight:
            raise ConfigError(
                "without a perceptual loss and with model.pixel_weight=0 nothing ties an image to what it should show;"
                " type perceptual=vgg19_srgan, or model.pixel_weight=4, the paper's SRGAN-MSE"
            )

    def configure_model(self) -> None:
        """Make the perceptual loss, once. Raises ConfigError if its weights are not available."""
        if self.make_perceptual and not self._perceptual:
            self._perceptual.append(self.make_perceptual())

    def phases(self) -> list[Phase]:
        """Return a phase of the generator and one of the discriminator, on the same images."""
        return self.joined(
            Phase("generator", self.generator_loss, self.generator),
            Phase("discriminator", self.discriminator_loss, self.discriminator),
        )

    def fake(self, batch: Batch) -> Tensor:
        """Return the enlarged images of this batch; they carry gradients."""
        return self.once("fake", lambda: self.generator(batch["low"]))

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 3: have the image taken for a photograph, plus its distance from the true one in features or pixels.

        If the adversarial loss uses the real logits too, they carry no gradients.
        """
        fake, high = self.fake(batch), batch["high"]
        real_logits = None
        if self.loss.needs_real_logits:
            with torch.no_grad():
                real_logits = self.logits(self.discriminator, high)
        fake_logits = self.logits(self.discriminator, fake)
        terms = {"adversarial": self.adversarial_weight * self.fooled(fake_logits, real_logits)}
        for perceptual in self._perceptual:
            perceptual.to(self.device, next(self.generator.parameters()).dtype)
            terms["perceptual"] = self.perceptual_weight * perceptual(fake, high)
        if self.pixel_weight:
            terms["pixel"] = self.pixel_weight * self.distance(fake / 2, high / 2)
        return terms

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return a comparison of photographs with enlarged images."""
        return [Comparison(self, "discriminator", batch["high"], self.fake(batch))]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 2: tell photographs from enlarged images."""
        (pairs,) = self.compared(batch)
        self.observe(real=pairs.real_logits, fake=pairs.fake_logits)
        return {"adversarial": self.loss.discriminator(pairs.real_logits, pairs.fake_logits)}

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Translate low resolution to high."""
        return self.network("generator", ema)(batch["low"])
