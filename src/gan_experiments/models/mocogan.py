"""MoCoGAN: Decomposing Motion and Content for Video Generation.

Sergey Tulyakov, Ming-Yu Liu, Xiaodong Yang, Jan Kautz, 2017. arXiv:1707.04993

Differs from the paper: the discriminator of images sees frames of the same clips that the discriminator of videos sees,
where the authors' code draws other ones; categories are always trained, as with the code's --use_categories and
--use_infogan.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
from gan_experiments.engine.phases import Phase
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate


class MoCoGAN(NoiseToImage):
    """A generator of clips [N, C, T, H, W], a discriminator of clips and one of frames (section 3.2, equation 4).

    Args:
        discriminator_image: frames [N, C, H, W] -> logits; has `features` and `head`.
        frames: how many frames of each clip it sees.
        category_weight: of the cross-entropy of the categories that the discriminator of clips tells of real ones; it
            tells some if it has `categories`.
        infogan_weight: of that of fakes in the generator's loss (equation 5).
        options: the other arguments of `NoiseToImage`.
    """

    discriminator_image: nn.Module
    generator: Any
    discriminator: Any

    def __init__(
        self,
        discriminator_image: nn.Module,
        frames: Annotated[int, Field(ge=1, le=64)] = 3,
        category_weight: NotNegative = 1.0,
        infogan_weight: NotNegative = 1.0,
        **options: Any,
    ) -> None:
        self.frames, self.category_weight, self.infogan_weight = frames, category_weight, infogan_weight
        super().__init__(further={"discriminator_image": discriminator_image}, **options)
        if self.categories:
            self.needs = self.needs | {"label"}

    offers = NoiseToImage.offers - {"classifier"}

    @override
    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.categories and not self.classes:
            yield (
                f"model.discriminator tells {self.categories} categories and model.generator makes clips of none; type"
                " model.discriminator.categories=0, or leave out model.generator.classes="
            )

    @property
    def categories(self) -> int:
        """The number of categories that the discriminator of clips tells; 0 for none."""
        return int(getattr(self.discriminator, "categories", 0))

    @override
    def phases(self) -> list[Phase]:
        """Return a phase of both discriminators, the generator's at every `n_critic`-th batch, and the lazy ones."""
        both = (self.discriminator, self.discriminator_image)
        return [
            Phase("discriminator", self._discriminator_update, both),
            Phase("generator", self._generator_update, self.generator, every=self.n_critic),
            *self.lazy_phases(),
        ]

    @override
    def player_update(self, batch: Batch, of_generator: bool = False, own_fakes: bool = False) -> ClipUpdate:
        return ClipUpdate(self, batch, of_generator, own_fakes)

    @override
    def logits_and_features(self, images: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return logits and features of clips [n, C, T, H, W], or of frames [n, C, H, W] by their own discriminator."""
        return self.judged_by(self.discriminator if images.ndim == 5 else self.discriminator_image, images)

    @override
    def discriminator_loss(self, update: ClipUpdate) -> dict[str, Tensor]:  # type: ignore[override]
        """Tell real clips from fakes, real frames from fakes, and the categories of real clips."""
        frames = update.frames
        self.observe(
            real=update.real_logits,
            fake=update.fake_logits,
            real_frames=frames.real_logits,
            fake_frames=frames.fake_logits,
        )
        terms = {
            "adversarial": self.loss.discriminator(update.real_logits, update.fake_logits),
            "adversarial_image": self.loss.discriminator(frames.real_logits, frames.fake_logits),
        }
        return terms | self._told("category", self.category_weight, update.real_features, update.batch.get("label"))

    @override
    def generator_loss(self, update: ClipUpdate) -> dict[str, Tensor]:  # type: ignore[override]
        """Have clips and frames taken for real, and clips for those of their categories."""
        terms = {}
        for name, one in (("adversarial", update), ("adversarial_image", update.frames)):
            fake = one.fake_logits  # first: both draw random numbers, always in this order
            terms[name] = self.fooled(fake, one.real_logits if self.loss.needs_real_logits else None)
        return terms | self._told("category", self.infogan_weight, update.fake_features, update.fake_label)

    def _told(self, name: str, weight: float, features: Tensor | None, label: Tensor | None) -> dict[str, Tensor]:
        if not (self.categories and weight):
            return {}
        assert label is not None
        return {name: weight * F.cross_entropy(self.discriminator.categorise(features), label)}


class ClipUpdate(PlayerUpdate):
    """An update of the discriminator of clips, and beside it one of the discriminator of frames."""

    @cached_property
    def frames(self) -> FrameUpdate:
        """The update of the discriminator of frames."""
        return FrameUpdate(self.model, self.batch, self.of_generator)

    @property
    def beside(self) -> list[PlayerUpdate]:
        """The update of the discriminator of frames."""
        return [self.frames]


class FrameUpdate(PlayerUpdate):
    """An update that looks at frames: `frames` of each real clip, and as many of fakes, each of a clip of its own."""

    def __init__(self, model: MoCoGAN, batch: Batch, of_generator: bool = False) -> None:
        super().__init__(model, batch, of_generator, own_fakes=True)
        self.name = "discriminator_image"
        self.networks = self.networks if of_generator else {self.name: model.discriminator_image}

    @cached_property
    def real(self) -> Tensor:  # type: ignore[override]
        """Real frames [n · frames, C, H, W], no two of the same."""
        clips, number = self.model.real(self.batch), self.model.frames
        draws = self.model.draw(torch.rand, len(clips), clips.shape[2])
        times = draws.argsort(1)[:, torch.arange(number) % clips.shape[2]]
        row = torch.arange(len(clips), device=clips.device)[:, None]
        return clips.transpose(1, 2)[row, times].flatten(0, 1)

    @cached_property
    def real_label(self) -> None:
        """None: the discriminator of frames is told nothing."""
        return None

    @override
    def _make_fakes(self) -> tuple[Tensor, Tensor | None, Tensor]:
        model, clips = self.model, self.batch["real"]
        times = model.generator_batch if self.of_generator else 1
        z, label = self.inputs(times * model.frames * len(clips))
        at = (model.draw(torch.rand, len(z)) * clips.shape[2]).long().clamp_(max=clips.shape[2] - 1)
        return z, label, model.generator.frames(z, label, at, **model._drawing(model.generator))
