"""Generative Adversarial Text to Image Synthesis.

Scott Reed, Zeynep Akata, Xinchen Yan, Lajanugen Logeswaran, Bernt Schiele, Honglak Lee, 2016. arXiv:1605.05396

Differs from the paper: the captions that are interpolated are those of neighbouring rows of a batch, where the authors'
code takes those half a batch apart, so that a batch that several processes share has the same pairs as one process's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import NotNegative, Share
from gan_experiments.contracts import Batch
from gan_experiments.losses.adversarial import RelativisticPaired
from gan_experiments.models.noise_to_image import PlayerUpdate
from gan_experiments.models.text_to_image import TextToImage
from gan_experiments.networks.text import Text


class InterpolatingUpdate(PlayerUpdate):
    """An update whose fakes in the generator's step are also of captions between those of the batch."""

    @override
    def inputs(self, n: int) -> tuple[Tensor, Any]:
        """Draw noise for n fakes of the captions, and for n // 2 of the means of two neighbours' codes."""
        z, tokens = super().inputs(n)
        if not self.of_generator or not self.model.interpolation_weight or n < 2:
            return z, tokens
        text = self.model.encode(tokens)
        pairs = text.sentence[: n // 2 * 2].unflatten(0, (-1, 2))
        return torch.cat([z, self.model.noise(n // 2)]), Text(torch.cat([text.sentence, pairs.mean(1)]))


class GANINTCLS(TextToImage):
    """Algorithm 1 with a discriminator that sees mismatched pairs (CLS), and interpolated captions (INT).

    Args:
        wrong_weight: the weight of real images with captions that do not describe them, among what the discriminator
            is to reject; 1 minus it is that of fakes. 0 leaves CLS out.
        interpolation_weight: the weight of the fakes of interpolated captions in the generator's loss, each of which
            lies in the middle between two captions of the batch (β = 0.5 in section 4.3). 0 leaves INT out.
        options: the other arguments of `TextToImage`.
    """

    def __init__(self, wrong_weight: Share = 0.5, interpolation_weight: NotNegative = 1.0, **options: Any) -> None:
        self.wrong_weight, self.interpolation_weight = wrong_weight, interpolation_weight
        super().__init__(**options)
        self.needs = self.needs | {"wrong"}

    @override
    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.interpolation_weight and isinstance(self.loss, RelativisticPaired):
            yield (
                "loss=relativistic_paired pairs each fake with a real image, and those of interpolated captions have"
                " none; type model.interpolation_weight=0, or loss=relativistic_average"
            )

    @override
    def player_update(self, batch: Batch, of_generator: bool = False, own_fakes: bool = False) -> PlayerUpdate:
        return InterpolatingUpdate(self, batch, of_generator, own_fakes)

    @override
    def discriminator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Algorithm 1, lines 6 to 8: a real image with its caption against a wrong image, and against a fake, with it.

        With the cross-entropy, log s_r + w log(1 - s_w) + (1 - w) log(1 - s_f), to be maximised, where w is
        `wrong_weight`, in the paper a half.
        """
        terms = super().discriminator_loss(update)
        weight = self.wrong_weight
        if weight:
            wrong_logits = self.logits(update.batch["wrong"], update.real_label)
            self._remember("D(wrong)", wrong_logits.detach().float().mean())
            terms = {name: (1 - weight) * term for name, term in terms.items()}
            terms["mismatch"] = weight * self.loss.discriminator(update.real_logits, wrong_logits)
        return terms

    @override
    def generator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Algorithm 1, line 10, and equation 5: the mean over fakes of the captions and of interpolated ones."""
        logits, n = update.fake_logits, len(update.real)
        if len(logits) == n:
            return super().generator_loss(update)
        real_logits = update.real_logits if self.loss.needs_real_logits else None
        own, between = (self.fooled(part, real_logits) for part in (logits[:n], logits[n:]))
        share = n / len(logits)
        return {"adversarial": share * own, "interpolation": (1 - share) * self.interpolation_weight * between}
