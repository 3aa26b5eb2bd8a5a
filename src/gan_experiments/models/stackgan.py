"""StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial Networks.

Han Zhang, Tao Xu, Hongsheng Li, Shaoting Zhang, Xiaogang Wang, Xiaolei Huang, Dimitris Metaxas, 2016. arXiv:1612.03242

Differs from the paper: the KL divergence is averaged over the numbers of the code and weighs 2, and stage II's
discriminator has an unconditional logit, all as in the authors' PyTorch code (StackGAN-Pytorch). A wrong pair is a
caption with an image that it does not describe, as in their TensorFlow code; the PyTorch code shifts the captions of a
batch by one, which may describe the image too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
from gan_experiments.engine.module import evaluating
from gan_experiments.layers.growing import enlarge
from gan_experiments.losses.adversarial import RelativisticPaired
from gan_experiments.losses.latent import kl_to_standard_normal
from gan_experiments.losses.logits import Logits, scales
from gan_experiments.models.noise_to_image import PlayerUpdate
from gan_experiments.models.text_to_image import TextToImage
from gan_experiments.networks.text import Text


class StackGAN(TextToImage):
    """One stage: a generator whose captions are augmented, and a discriminator that also sees wrong pairs.

    Args:
        kl_weight: λ of equation 4, of the divergence of the augmented captions from N(0, 1).
        options: the other arguments of `TextToImage`. The generator has the `augmentation` whose means the
            discriminator is told.
    """

    def __init__(self, kl_weight: NotNegative = 2.0, **options: Any) -> None:
        self.kl_weight = kl_weight
        super().__init__(**options)
        self.needs = self.needs | ({"wrong"} if self.conditional else set())

    @override
    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if isinstance(self.loss, RelativisticPaired):
            yield (
                "loss=relativistic_paired pairs each fake with a real image, and here wrong pairs are rejected too;"
                " type loss=relativistic_average"
            )

    @override
    def told_discriminator(self, label: Tensor | Text | None) -> tuple[Text, ...]:
        """Return the means of the augmented captions, which the discriminator does not train."""
        return (Text(self.augmented(label)[0].detach()),)

    def augmented(self, label: Tensor | Text | None) -> tuple[Tensor, Tensor]:
        """Return μ and log σ², [n, condition_dim] each, of captions (section 3.2)."""
        generator: Any = self.generator
        return generator.augmentation(self.told(label)[0].sentence)

    @override
    def discriminator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Equations 3 and 5 with wrong pairs: the mean over what is real, and the mean over what is to be rejected.

        Real are the images with their captions, and without them if there is an unconditional logit. To be rejected are
        the fakes in the same way, and wrong images with the captions.
        """
        real, fake = [*scales(update.real_logits)], [*scales(update.fake_logits)]
        wrong = scales(self.logits(update.batch["wrong"], update.real_label))[0]
        self.observe(real=torch.cat(real), fake=torch.cat(fake), wrong=wrong)
        return {"adversarial": self.loss.discriminator(torch.cat(real), torch.cat([*fake, wrong]))}

    @override
    def generator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Equations 4 and 6: make the discriminator take fakes for real, and captions like N(0, 1)."""
        terms = super().generator_loss(update)
        if not self.conditional:
            return terms
        mean, log_variance = self.augmented(update.fake_label)
        divergence = kl_to_standard_normal(mean, log_variance).mean() / mean.shape[1]
        return {**terms, "kl": self.kl_weight * divergence}

    @override
    def fooled(self, fake_logits: Logits, real_logits: Logits | None = None) -> Tensor:
        """Return the generator's adversarial loss, summed over the conditional and the unconditional logit."""
        fakes = scales(self.selected(fake_logits))
        reals = [None] * len(fakes) if real_logits is None else scales(real_logits)
        losses = [self.loss.generator(fake, real) for fake, real in zip(fakes, reals, strict=True)]
        return torch.stack(losses).sum()

    @override
    @torch.no_grad()
    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return images [n, k, C, H, W]: those of each of a generator's k scales or stages, enlarged to the largest."""
        generator: Any = self.network("generator", ema)
        if not hasattr(generator, "scales"):
            return super().sheet(inputs, ema)
        z = inputs["z"].to(self.device, dtype=next(generator.parameters()).dtype)
        with evaluating(generator):
            made = generator.scales(z, *self.told(inputs.get("label")))
        side = made[-1].shape[-1]
        return self.kind.bounded(torch.stack([enlarge(images, side // images.shape[-1]) for images in made], dim=1))
