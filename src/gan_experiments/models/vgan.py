"""Generating Videos with Scene Dynamics.

Carl Vondrick, Hamed Pirsiavash, Antonio Torralba, 2016. arXiv:1609.02612

Differs from the paper: the generator's step draws fakes of its own, where the authors' code uses the discriminator's,
and what it had computed of these before its own step; the discriminator's loss is not halved, which Adam does not
notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.engine.phases import Phase
from gan_experiments.kinds import CLIP, Kind
from gan_experiments.layers.clips import as_frames
from gan_experiments.layers.dropout import Draw
from gan_experiments.losses.adversarial import AdversarialLoss
from gan_experiments.models.game import Comparison
from gan_experiments.models.image_to_image import Direction, ImageToImage, Translations
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate


class VGAN(NoiseToImage):
    """A generator of a moving foreground before a still background, and a discriminator of clips.

    Args:
        mask_weight: λ of section 2.1, of the mean of the mask.
        options: the other arguments of `NoiseToImage`; the generator has `streams`.
    """

    generator: Any

    def __init__(self, mask_weight: NotNegative = 0.1, **options: Any) -> None:
        self.mask_weight = mask_weight
        super().__init__(**options)

    @override
    def player_update(self, batch: Batch, of_generator: bool = False, own_fakes: bool = False) -> StreamsUpdate:
        return StreamsUpdate(self, batch, of_generator, own_fakes)

    @override
    def generator_loss(self, update: StreamsUpdate) -> dict[str, Tensor]:  # type: ignore[override]
        """Have clips taken for real, with as little of them in the foreground as can be."""
        terms = super().generator_loss(update)
        if self.mask_weight:
            terms["mask"] = self.mask_weight * update.mask.mean()
        return terms


class StreamsUpdate(PlayerUpdate):
    """An update that keeps the masks of its fakes."""

    @override
    def _make_fakes(self) -> tuple[Tensor, Tensor | None, Any]:
        z, label = self.inputs((self.model.generator_batch if self.of_generator else 1) * len(self.batch["real"]))
        return z, label, self.model.generator.streams(z)

    @cached_property
    def fake(self) -> Tensor:  # type: ignore[override]
        """The fakes [n, C, T, H, W]."""
        made: Any = self._fakes[2]
        return made.clips if self.of_generator else made.clips.detach()

    @cached_property
    def mask(self) -> Tensor:
        """The masks of the fakes [n, 1, T, H, W]."""
        made: Any = self._fakes[2]
        return made.mask


class VGANPrediction(ImageToImage):
    """A generator of what follows the first frames of a clip, and a discriminator of clips (section 3.4).

    Args:
        generator: the first frames [N, C, given, H, W] -> clips [N, C, T, H, W] that begin with them.
        discriminator: clips -> logits [N].
        loss: non-saturating in the paper.
        first_weight: of the L1 distance of the first frames from those that were given.
        future_weight: of that of the following frames from the true ones; 0 in the paper, which asks for one that could
            be, not for the one that was.
        engine: the other arguments of `ImageToImage`.
    """

    needs = frozenset({"real"})
    generator: Any
    discriminator: Any

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        first_weight: NotNegative = 1.0,
        future_weight: NotNegative = 0.0,
        **engine: Any,
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, loss, **engine)
        self.directions = {"future": Direction("real", "real")}
        self.first_weight, self.future_weight = first_weight, future_weight

    @property
    def kind(self) -> Kind:
        """The kind of the data, which are clips."""
        return self.data_kind or CLIP

    @property
    def given(self) -> int:
        """The number of first frames that are given."""
        return int(self.generator.given)

    @override
    def phases(self) -> list[Phase]:
        """Return the discriminator's phase, then the generator's, on the same predictions."""
        return self.joined(
            Phase("discriminator", self.discriminator_loss, self.discriminator, keeps=self.generator),
            Phase("generator", self.generator_loss, self.generator),
        )

    def predicted(self, batch: Batch) -> Tensor:
        """Return the predictions of this batch [n, C, T, H, W]; they carry gradients."""
        return self.once("predicted", lambda: self.generator(batch["real"][:, :, : self.given]))

    @override
    def comparisons(self, batch: Batch) -> list[Comparison]:
        """Return the comparison of true clips with predictions."""
        return [Comparison(self, "discriminator", batch["real"], self.predicted(batch))]

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Half of the cross-entropy of true clips and of predictions."""
        (clips,) = self.compared(batch)
        self.observe(real=clips.real_logits, fake=clips.fake_logits)
        return {"adversarial": self.loss.discriminator(clips.real_logits, clips.fake_logits) / 2}

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Have predictions taken for true clips, which begin with the given frames."""
        fake, real = self.predicted(batch), batch["real"]
        terms = {"adversarial": self.fooled(self.logits(self.discriminator, fake))}
        for name, weight, part in (
            ("first", self.first_weight, slice(None, self.given)),
            ("future", self.future_weight, slice(self.given, None)),
        ):
            if weight:
                terms[name] = weight * F.l1_loss(fake[:, :, part], real[:, :, part])
        return terms

    @override
    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Draw) -> Tensor:
        """Return clips that begin with the given frames as they are, and what is predicted to follow."""
        first = batch["real"][:, :, : self.given]
        made = self.network("generator", ema)(first)
        return torch.cat([first, made[:, :, self.given :]], dim=2)

    @override
    def pair(self, batch: Batch, to: str = "", ema: bool = True, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return the frames that are predicted of one clip and the true ones, both [T - given, C, H, W]."""
        made = self.translate(batch, to, ema, seed)
        return as_frames(made[:, :, self.given :]), as_frames(batch["real"][:, :, self.given :].to(self.device))

    def held(self, real: Tensor) -> Tensor:
        """Return clips [n, C, T, H, W] that stand still after the given frames: the last one repeated."""
        times = torch.arange(real.shape[2], device=real.device).clamp(max=self.given - 1)
        return real[:, :, times]

    def predict(self, first: Tensor, ema: bool = True) -> Tensor:
        """Return the clip [C, T, H, W] that goes on from its first frames, uint8 [given, C, H, W].

        Raises ConfigError for fewer frames.
        """
        if len(first) < self.given:
            raise ConfigError(f"it has {len(first)} frames, and this model goes on from {self.given}")
        real = to_float(first[: self.given].transpose(0, 1)[None])
        return self.translate({"real": real}, ema=ema)[0]

    @override
    def sampler(self, seed: int, ema: bool = True, to: str = "") -> Predictions:
        return Predictions(self, seed, ema, self.direction(to))

    @override
    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Return clips [n, 3, C, T, H, W]: the given frames with the last repeated, the prediction, the truth."""
        real = inputs["real"].to(self.device)
        return torch.stack([self.held(real), self.translate({"real": real}, ema=ema), real], dim=1)


@dataclass(frozen=True)
class Predictions(Translations):
    """Predictions of held-out clips, to be compared with the last given frame repeated."""

    changes = True

    @override
    def as_it_is(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        model: Any = self.model
        real = batch["real"].to(model.device)
        return as_frames(model.held(real)[:, :, model.given :]), as_frames(real[:, :, model.given :])
