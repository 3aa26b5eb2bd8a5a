"""Context Encoders: Feature Learning by Inpainting.

Deepak Pathak, Philipp Krähenbühl, Jeff Donahue, Trevor Darrell, Alexei A. Efros, 2016. arXiv:1604.07379
Differs from the paper: losses, weights and the order of the steps are those of the authors' Torch code, except that the
code's generator step uses the discriminator's output from before the discriminator's step. The overlap is 4 pixels as
in the code; the paper has 7. The random regions are those of `data=masked_random`, one for each image, where the code
cuts one region for the whole batch out of a random pattern.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine.phases import Phase
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.losses.reconstruction import weighted_l2
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import Direction, ImageToImage, side_by_side

Level = Annotated[float, Field(ge=0, le=255)]
"""A level of red, green or blue."""


class Inpainting(ImageToImage):
    """A generator that fills the hole of an image, and a discriminator that sees its output without the context.

    If the generator only makes the middle of the image, the hole lies within the middle. The pixels of the middle
    around the hole are known, and their error counts `known_weight` times (the overlap of section 5.1).

    Args:
        generator: images [N, C, R, R] in [-1, 1], the hole filled with one colour -> their middle, or whole images.
        discriminator: the generator's output, or the same part of a real image -> logits [N].
        loss: non-saturating in the code.
        l2_weight: λ_rec of equation 3.
        adversarial_weight: λ_adv of equation 3.
        known_weight: weight of a pixel outside the hole, in units of `l2_weight`.
        mean_colour: the colour of the hole, 0..255; grey images take its mean.
        engine: the other arguments of `ImageToImage`.
    """

    needs = frozenset({"real", "mask"})

    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        l2_weight: NotNegative = 0.999,
        adversarial_weight: NotNegative = 0.001,
        known_weight: NotNegative = 10.0,
        mean_colour: tuple[Level, Level, Level] = (117.0, 104.0, 123.0),
        **engine: Any,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, loss, **engine)
        self.directions = {"filled": Direction("real", "real", also=("mask",))}
        self.only = getattr(generator, "resolution", None)
        self.l2_weight, self.adversarial_weight, self.known_weight = l2_weight, adversarial_weight, known_weight
        self.mean_colour = tuple(mean_colour)

    def phases(self) -> list[Phase]:
        """Return the discriminator's phase, then the generator's, on the same output of the generator."""
        return self.joined(
            Phase("discriminator", self.discriminator_loss, self.discriminator, keeps=self.generator),
            Phase("generator", self.generator_loss, self.generator),
        )

    def holed(self, batch: Batch) -> Tensor:
        """Return the images with the mean colour where the mask is 1, the only input of the generator."""
        colour = batch["real"].new_tensor(self.mean_colour)[:, None, None] / 127.5 - 1
        if batch["real"].shape[1] == 1:
            colour = colour.mean(dim=0, keepdim=True)
        return torch.where(batch["mask"].bool(), colour, batch["real"])

    def fake(self, batch: Batch) -> Tensor:
        """Return the generator's output for this batch; it carries gradients."""
        return self.once("fake", lambda: self.generator(self.holed(batch)))

    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return a comparison of the generator's output with the same part of the real images."""
        fake = self.fake(batch)
        return [Comparison(self, "discriminator", middle(batch["real"], fake), fake)]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 2: tell the middle of real images, or the whole images, from the generator's output."""
        (parts,) = self.compared(batch)
        self.observe(real=parts.real_logits, fake=parts.fake_logits)
        return {"adversarial": self.loss.discriminator(parts.real_logits, parts.fake_logits)}

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Equation 3: λ_rec times the mean square error, plus λ_adv times the adversarial loss.

        Known pixels count more in the error, see `known_weight`.
        """
        fake = self.fake(batch)
        real, hole = (middle(batch[key], fake) for key in ("real", "mask"))
        return {
            "l2": self.l2_weight * weighted_l2(fake, real, hole.bool(), self.known_weight),
            "adversarial": self.adversarial_weight * self.fooled(self.logits(self.discriminator, fake)),
        }

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Fill the hole and keep all other pixels. Raises ConfigError for a hole beyond what the generator makes."""
        made, mask = self.network("generator", ema)(self.holed(batch)), batch["mask"].bool()
        down, right = ((whole - part) // 2 for whole, part in zip(mask.shape[2:], made.shape[2:], strict=True))
        margin = [right, right, down, down]
        # An exported module cannot look at values: pixels of a hole beyond the middle stay grey there.
        if not torch.compiler.is_exporting() and not torch.equal(F.pad(middle(mask, made), margin), mask):
            raise ConfigError(
                f"this generator makes the middle {made.shape[-2]}x{made.shape[-1]} of {mask.shape[-2]}x"
                f"{mask.shape[-1]} pixels and the hole goes beyond: give an image of that size with the hole there"
                " (data.mask=centre), or train model=context_encoder_random"
            )
        return torch.where(mask, F.pad(made, margin), batch["real"])

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, 3, C, H, W]: with the hole, filled, and original."""
        filled = self.translate(inputs, ema=ema)
        batch = {key: rows.to(filled) for key, rows in inputs.items()}
        return side_by_side(self.holed(batch), filled, batch["real"])


def middle(images: Tensor, like: Tensor) -> Tensor:
    """Return the middle [N, C, h, w] of images [N, C, H, W]; h and w are those of `like`."""
    for dim in (-2, -1):
        size = like.shape[dim]
        images = images.narrow(dim, (images.shape[dim] - size) // 2, size)
    return images
