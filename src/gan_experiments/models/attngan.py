"""AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial Networks.

Tao Xu, Pengchuan Zhang, Qiuyuan Huang, Han Zhang, Zhe Gan, Xiaolei Huang, Xiaodong He, 2017. arXiv:1711.10485

Differs from the paper: a wrong pair is a caption with an image that it does not describe, where the authors' code
shifts the captions of a batch by one; real images of the smaller scales are means of 2x2 and 4x4 pixels. The pairs of
the DAMSM loss are those of the batch of all ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from gan_experiments import distributed
from gan_experiments.bounds import NotNegative, OneOf, Positive
from gan_experiments.contracts import ConfigError
from gan_experiments.losses.damsm import GAMMAS
from gan_experiments.losses.logits import sum_of
from gan_experiments.models.damsm import ALIKE, alike, pair_terms
from gan_experiments.models.stackgan_v2 import StackGANv2, TreeUpdate
from gan_experiments.networks.text import Text


class AttnGAN(StackGANv2):
    """A tree of generators that attend to words, and the DAMSM loss of the largest images.

    Args:
        text_encoder: captions -> `Text` with words.
        image_encoder: images -> codes of parts and of the whole, trained with the text encoder before; None without the
            DAMSM loss.
        damsm_weight: λ of equation 3.
        alike: which pairs of a batch the DAMSM loss does not take for wrong ones, see `DAMSM`.
        gammas: γ1, γ2 and γ3 of equations 9 to 12.
        options: the other arguments of `StackGANv2`. The generator has `attended`.
    """

    image_encoder: Any

    def __init__(
        self,
        text_encoder: nn.Module,
        image_encoder: nn.Module | None = None,
        damsm_weight: NotNegative = 5.0,
        alike: Annotated[str, OneOf(*ALIKE)] = "class",
        gammas: tuple[Positive, Positive, Positive] = GAMMAS,
        **options: Any,
    ) -> None:
        self.damsm_weight, self.alike, self.gammas = damsm_weight, alike, tuple(gammas)
        frozen = {} if image_encoder is None else {"image_encoder": image_encoder.requires_grad_(False)}
        super().__init__(text_encoder=text_encoder, further=frozen, **options)

    @override
    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if not self.damsm_weight:
            return
        given = f"model.damsm_weight={self.damsm_weight:g}"
        if "image_encoder" not in self.network_names:
            yield (
                f"{given} needs encoders that were trained before: type model.text_encoder= a run of model=damsm, or"
                " model.damsm_weight=0"
            )
        if self.generator_batch != 1 or (self.fake_labels != "batch" and self.alike == "class"):
            yield (
                f"{given} compares fakes of the captions of a batch: type model.generator_batch=1 and"
                " model.fake_labels=batch, or model.damsm_weight=0"
            )

    @override
    def configure_optimizers(self) -> list[Optimizer]:
        if self.damsm_weight and self.run.accumulate > 1:
            raise ConfigError(
                f"trainer.accumulate={self.run.accumulate}: the DAMSM loss compares captions with all images of the"
                " batch; type trainer.accumulate=1, or model.damsm_weight=0"
            )
        return super().configure_optimizers()

    @override
    def told_discriminator(self, label: Tensor | Text | None) -> tuple[Text, ...]:
        """Return the codes of the sentences themselves."""
        return self.told(label)

    @override
    def discriminator_loss(self, update: TreeUpdate) -> dict[str, Tensor]:  # type: ignore[override]
        """Equations 5 and 6 for each scale, with wrong pairs: the mean over what is real, and over what is rejected.

        Real are the images with their captions and without; to be rejected are the fakes in the same way, and wrong
        images with the captions.
        """
        real, fake = update.real_logits, update.fake_logits
        wrong: Any = self.logits(update.batch["wrong"], update.real_label)
        self.observe(real=torch.cat(real), fake=torch.cat(fake))
        each = len(real) // len(update.scales)
        terms = [
            self.loss.discriminator(torch.cat(real[i : i + each]), torch.cat([*fake[i : i + each], wrong[i]]))
            for i in range(0, len(real), each)
        ]
        return {"adversarial": sum_of(terms)}

    @override
    def generator_loss(self, update: TreeUpdate) -> dict[str, Tensor]:  # type: ignore[override]
        """Equation 3: the adversarial losses of all scales, the divergence of the captions, and the DAMSM loss."""
        terms = super().generator_loss(update)
        if not self.damsm_weight:
            return terms
        assert update.fake_label is not None
        text = self.told(update.fake_label)[0]
        assert text.words is not None
        assert text.mask is not None
        everything = Text(*map(distributed.gather_rows, (text.sentence, text.words, text.mask)))
        parts, whole = map(distributed.whole_batch, self.image_encoder(update.fake))
        left_out = alike({**update.batch, "caption": update.fake_label}, self.alike)
        found = pair_terms(everything, parts, whole, left_out, self.gammas)
        return {**terms, **{name: self.damsm_weight * term for name, term in found.items()}}
