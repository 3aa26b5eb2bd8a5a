"""StackGAN++: Realistic Image Synthesis with Stacked Generative Adversarial Networks.

Han Zhang, Tao Xu, Hongsheng Li, Shaoting Zhang, Xiaogang Wang, Xiaolei Huang, Dimitris Metaxas, 2017. arXiv:1710.10916

Differs from the paper: the weights of the losses are those of the authors' code (StackGAN-v2), in which wrong images
count as real where no caption is looked at. Real images of the smaller scales are means of 2x2 and 4x4 pixels, where
the code resizes bilinearly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
from gan_experiments.losses.logits import sum_of
from gan_experiments.models.noise_to_image import PlayerUpdate
from gan_experiments.models.stackgan import StackGAN
from gan_experiments.networks.text import Text


def colour_consistency(images: Tensor, smaller: Tensor) -> Tensor:
    """Section 4.3: compare the mean colours of images [n, C, H, W] with those of smaller ones, and their covariances.

    The squared differences are means over the colours and the batch, those of the covariances 5 times as heavy.
    """
    pixels, others = images.flatten(2), smaller.flatten(2)
    means, other_means = pixels.mean(2), others.mean(2)
    spread, other_spread = (_covariance(pixels), _covariance(others))
    return F.mse_loss(means, other_means) + 5 * F.mse_loss(spread, other_spread)


def _covariance(pixels: Tensor) -> Tensor:
    """Return the covariances [n, C, C] of the colours of pixels [n, C, p]."""
    apart = pixels - pixels.mean(2, keepdim=True)
    return apart @ apart.mT / pixels.shape[2]


class TreeUpdate(PlayerUpdate):
    """An update whose fakes are of every scale; `fake` are the largest."""

    @override
    def _make_fakes(self) -> tuple[Tensor, Tensor | None, Any]:
        z, label = self.inputs((self.model.generator_batch if self.of_generator else 1) * len(self.batch["real"]))
        return z, label, self.model.generator.scales(z, *self.model.told(label))

    @cached_property
    def scales(self) -> list[Tensor]:
        """The fakes [n, C, h, w] of each scale, the smallest first."""
        made: Any = self._fakes[2]
        return list(made) if self.of_generator else [images.detach() for images in made]

    @cached_property
    def fake(self) -> Tensor:  # type: ignore[override]
        """The largest fakes [n, C, H, W]."""
        return self.scales[-1]

    @cached_property
    def _fake(self) -> tuple[Any, None]:
        return self.model.logits_and_features(self.scales, self.fake_label)


class StackGANv2(StackGAN):
    """A tree of generators, each scale of which has a discriminator; with captions, or without a `text_encoder`.

    Args:
        colour_weight: of the colour consistency between neighbouring scales; the paper's 50 is for models without
            captions.
        options: the other arguments of `StackGAN`. The generator has `scales`, and the discriminator judges them.
    """

    generator: Any
    discriminator: Any

    def __init__(self, text_encoder: nn.Module | None = None, colour_weight: NotNegative = 0.0, **options: Any) -> None:
        self.colour_weight = colour_weight
        super().__init__(text_encoder=text_encoder, **options)

    @override
    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.conditional and not self.generator.conditional:
            yield (
                "model.generator.text_features=0 makes images without captions, and the model has a text_encoder; type"
                " model=stackgan_v2_unconditional"
            )

    @override
    def player_update(self, batch: Batch, of_generator: bool = False, own_fakes: bool = False) -> TreeUpdate:
        return TreeUpdate(self, batch, of_generator, own_fakes)

    @override
    def told_discriminator(self, label: Tensor | Text | None) -> tuple[Text, ...]:
        """Return the means of the augmented captions, through which here the discriminators train the augmentation."""
        return (Text(self.augmented(label)[0]),) if self.conditional else ()

    @override
    def logits_and_features(self, images: Tensor | Sequence[Tensor], label: Any = None) -> tuple[Any, None]:
        """Return the logits of each scale for images [n, C, H, W], or for a list of those of each scale."""
        seen = self.discriminator.shrunk(images) if isinstance(images, Tensor) else images
        if self.augment is not None:
            seen = [self.augment(one, self.draw) for one in seen]
        return self.discriminator([self.shown(one) for one in seen], *self.told_discriminator(label)), None

    @override
    def discriminator_loss(self, update: TreeUpdate) -> dict[str, Tensor]:  # type: ignore[override]
        """Sections 4.1 and 4.2, for each scale: real images and fakes, with their captions and without, and wrong ones.

        With the cross-entropy and both logits each of six terms counts once: three of what is to be taken for real
        (images with captions and without, and wrong ones without) and three of what is to be rejected. Of one logit
        each kind counts once.
        """
        real, fake = update.real_logits, update.fake_logits
        self.observe(real=torch.cat(real), fake=torch.cat(fake))
        if not self.conditional:
            pairs = zip(real, fake, strict=True)
            return {"adversarial": sum_of([self.loss.discriminator(*pair) for pair in pairs])}
        wrong: Any = self.logits(update.batch["wrong"], update.real_label)
        each = len(wrong) // len(update.scales)
        self._remember("D(wrong)", torch.cat(wrong[::each]).detach().float().mean())
        terms = []
        for own in (slice(i, i + each) for i in range(0, len(wrong), each)):
            mismatched, *whatever = wrong[own]
            taken, rejected = [*real[own], *whatever], [*fake[own], mismatched]
            weight = 3 if whatever else 1
            terms.append(weight * self.loss.discriminator(torch.cat(taken), torch.cat(rejected)))
        return {"adversarial": sum_of(terms)}

    @override
    def generator_loss(self, update: TreeUpdate) -> dict[str, Tensor]:  # type: ignore[override]
        """Sections 4.1 to 4.3: the sum over the scales, the captions' divergence, the consistency of the colours."""
        terms = super().generator_loss(update)
        if self.colour_weight:
            pairs = zip(update.scales[1:], update.scales, strict=False)
            apart = [colour_consistency(images, smaller.detach()) for images, smaller in pairs]
            terms["colour"] = self.colour_weight * sum_of(apart)
        return terms
