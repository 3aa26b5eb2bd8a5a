"""Progressive Growing of GANs for Improved Quality, Stability, and Variation.

Tero Karras, Timo Aila, Samuli Laine, Jaakko Lehtinen, 2018, arXiv:1710.10196. StyleGAN grows in the same way: Tero
Karras, Samuli Laine, Timo Aila, 2019, arXiv:1812.04948.
Differs from the paper: a batch has as many images at every resolution; the schedule moves on after each batch, not
after each fourth; real images are averaged as they are read, not stored at every resolution in whole grey levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from gan_experiments.bounds import Count, NotNegative, Whole, Width
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.layers.growing import enlarge, grown_images
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.schedules import ByResolution, Growth

LAST = 4  # of a run's equal parts, with one for each stage and each fade before: 12 million images at 1024 pixels


class Growing(NoiseToImage):
    """Both networks begin with few pixels; each doubling is trained, then the layers of the next are faded in.

    The optimizers forget what they have averaged where a fade begins and where it ends, as in the authors' code. What
    is drawn is enlarged to the full resolution at any time.

    Args:
        images: the length of the run.
        start_resolution: the side of the first images, a power of two from 4 on. That of the data grows nothing.
        stable_images: images at each resolution but the last.
        fade_images: images while the next one is faded in. Either of them, where it is None, is a part of the run's
            `images` of which the last resolution has four: 600,000 of 12 million with the 8 doublings to 1024 pixels,
            as in the paper. A run that goes on keeps what it began with.
        rates: factors of both learning rates, each a pair of the pixels from which on it holds, and the factor.
        options: the other arguments of `NoiseToImage`; the networks have `resolution` and `grown`, see
            layers/growing.py.

    Raises ConfigError for networks that cannot grow, and where the run would end before the full resolution.
    """

    def __init__(
        self,
        images: Count,
        start_resolution: Width = 4,
        stable_images: Count | None = None,
        fade_images: Whole | None = None,
        rates: Sequence[tuple[Width, NotNegative]] = (),
        **options: Any,
    ) -> None:
        for player in ("generator", "discriminator"):
            if not hasattr(options[player], "grown"):
                raise ConfigError(
                    f"model.{player} is a {type(options[player]).__name__}, which cannot grow; leave out"
                    f" model.{player}._target_, or type another model"
                )
        self.resolution = int(options["generator"].resolution)
        self.length, self.start_resolution = images, start_resolution
        self.stable_images, self.fade_images = stable_images, fade_images
        last = (self.resolution // 4).bit_length() - 1
        first = min((start_resolution // 4).bit_length() - 1, last)
        part = -(-images // (2 * (last - first) + LAST))
        self.growth = Growth(
            first,
            last,
            stable=part if stable_images is None else stable_images,
            fade=part if fade_images is None else fade_images,
        )
        super().__init__(**options)
        for name in self.make_optimizer if rates else ():
            self.schedules[name] = ByResolution(self.growth, rates, self.schedules.get(name))
        self.grow()

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        start = self.start_resolution
        if start.bit_count() != 1 or not 4 <= start <= self.resolution:
            yield (
                f"model.start_resolution={start}: a power of two from 4 to {self.resolution} is needed; type"
                " model.start_resolution=4"
            )
            return
        stable, fade, end = self.growth.stable, self.growth.fade, self.growth.end
        given = f"model.stable_images={stable} model.fade_images={fade}"
        if stable < 0 or fade < 0 or not stable + fade:
            yield f"{given}: numbers of images are needed; type model.stable_images=null model.fade_images=null"
        elif end > self.length:
            other = "" if self.stable_images is None is self.fade_images else " or leave out those two"
            yield (
                f"images={self.length}: with {given} there are {self.resolution} x {self.resolution} pixels only after"
                f" {end} images; type images={end + LAST * (stable or fade)}{other}"
            )

    @property
    def grown(self) -> float:
        """How many doublings from 4x4 pixels are in after the images seen, see layers/growing.py."""
        return self.growth(self.images_seen)

    @property
    def stage(self) -> int:
        """Counts the resolutions and the fades between them."""
        return math.floor(self.grown) + math.ceil(self.grown)

    def grow(self) -> None:
        """Tell the networks, and their averages, how far they have grown."""
        for name in self.network_names:
            for average in (False, True):
                self.network(name, average).grown = self.grown  # type: ignore[assignment]

    def before_batch(self) -> None:
        """Be as far as the images seen ask for."""
        self.grow()
        self._stage_before = self.stage

    def after_batch(self) -> None:
        """Grow; Adam begins again with another resolution or fade."""
        super().after_batch()
        self.grow()
        if self.stage != self._stage_before:
            for name in self.make_optimizer:
                self.optimizer_of(name).state.clear()

    def real(self, batch: Batch) -> Tensor:
        """The real images [n, C, R, R] of a batch, with R as the networks have it, and with their fade."""
        return grown_images(super().real(batch), self.grown)

    def sample(
        self,
        z: Tensor,
        ema: bool = True,
        labels: Tensor | None = None,
        truncation: float | None = None,
        bounded: bool = True,
    ) -> Tensor:
        """z [n, latent_dim] -> images [n, C, H, W] in [-1, 1] of the full resolution, see `NoiseToImage.sample`."""
        images = super().sample(z, ema, labels, truncation, bounded)
        return enlarge(images, self.resolution // images.shape[-1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the schedule: another length of the run would change it."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["gan_experiments"]["growth"] = [self.growth.stable, self.growth.fade]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the schedule, where none is typed, and be as grown as the images seen say."""
        super().on_load_checkpoint(checkpoint)
        stable, fade = checkpoint["gan_experiments"]["growth"]
        self.growth.stable = stable if self.stable_images is None else self.stable_images
        self.growth.fade = fade if self.fade_images is None else self.fade_images
        self.grow()
