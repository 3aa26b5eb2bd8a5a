"""Generating Videos with Scene Dynamics.

Carl Vondrick, Hamed Pirsiavash, Antonio Torralba, 2016. arXiv:1609.02612

Differs from the paper: the generator's step draws fakes of its own, where the authors' code uses the discriminator's,
and what it had computed of these before its own step; the discriminator's loss is not halved, which Adam does not
notice.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import NotNegative
from gan_experiments.contracts import Batch
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
