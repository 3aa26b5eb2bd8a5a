"""Progressive Growing of GANs for Improved Quality, Stability, and Variation.

Tero Karras, Timo Aila, Samuli Laine, Jaakko Lehtinen, 2018, arXiv:1710.10196. StyleGAN grows in the same way: Tero
Karras, Samuli Laine, Timo Aila, 2019, arXiv:1812.04948.
Differs from the paper: the batch size is the same at every resolution; the schedule advances after each batch, not
after each fourth; real images are averaged down as they are read, not stored at every resolution in whole grey levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from gan_experiments.bounds import Count, NotNegative, Resolution, Whole, Width, sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.layers.growing import enlarge, grown_images
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.schedules import ByResolution, Growth

LAST = 4  # parts of a run for the last stage; each earlier stage and each fade is one part


class Growing(NoiseToImage):
    """Two networks that begin at a low resolution; each is trained, then the layers of the next one are faded in.

    The optimizers' averages are reset at the beginning and at the end of each fade, as in the authors' code. Samples
    are always enlarged to the full resolution.

    Args:
        images: the length of the run.
        start_resolution: the side of the first images, a power of two, 4 or more; of rectangles the shorter one. With
            that of the data nothing grows.
        stable_images: images at each resolution but the last.
        fade_images: images while the next resolution is faded in. If either of these two is None, it is one of
            the equal parts into which the run's `images` are divided, four of them for the last resolution: 600,000 of
            12 million with the 8 doublings to 1024 pixels, as in the paper. A resumed run keeps what it began with.
        rates: factors of both learning rates: pairs of the resolution from which a factor applies, and the factor.
        options: the other arguments of `NoiseToImage`; the networks have `resolution` and `grown`, see
            layers/growing.py.

    Raises ConfigError for networks that cannot grow, and if the run would end before the full resolution.
    """

    def __init__(
        self,
        images: Count,
        start_resolution: Resolution = 4,
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
        self.resolution = min(sides(options["generator"].resolution))
        self.length, self.start_resolution = images, min(sides(start_resolution))
        self.stable_images, self.fade_images = stable_images, fade_images
        last = (self.resolution // 4).bit_length() - 1
        first = min((self.start_resolution // 4).bit_length() - 1, last)
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
            tall, wide = sides(self.generator.resolution)  # type: ignore[arg-type]
            other = "" if self.stable_images is None is self.fade_images else " or leave out those two"
            yield (
                f"images={self.length}: with {given} there are {tall} x {wide} pixels only after"
                f" {end} images; type images={end + LAST * (stable or fade)}{other}"
            )

    @property
    def grown(self) -> float:
        """The number of doublings from 4x4 pixels after the images seen, see layers/growing.py."""
        return self.growth(self.images_seen)

    @property
    def stage(self) -> int:
        """A counter of the resolutions and of the fades between them."""
        return math.floor(self.grown) + math.ceil(self.grown)

    def grow(self) -> None:
        """Set how far the networks, and their averages, have grown."""
        for name in self.network_names:
            for average in (False, True):
                self.network(name, average).grown = self.grown  # type: ignore[assignment]

    def before_batch(self) -> None:
        """Grow the networks as far as the images seen say."""
        self.grow()
        self._stage_before = self.stage

    def after_batch(self) -> None:
        """Grow the networks, and reset the optimizers when a resolution or a fade begins."""
        super().after_batch()
        self.grow()
        if self.stage != self._stage_before:
            for name in self.make_optimizer:
                self.optimizer_of(name).state.clear()

    def real(self, batch: Batch) -> Tensor:
        """Return the real images [n, C, R, R] of a batch at the networks' current resolution R, faded as theirs are."""
        return grown_images(super().real(batch), self.grown)

    def sample(
        self,
        z: Tensor,
        ema: bool = True,
        labels: Tensor | None = None,
        truncation: float | None = None,
        bounded: bool = True,
    ) -> Tensor:
        """Generate images [n, C, H, W] at the full resolution from z [n, latent_dim], see `NoiseToImage.sample`."""
        images = super().sample(z, ema, labels, truncation, bounded)
        return enlarge(images, self.resolution // min(images.shape[-2:]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the schedule, which another length of the run would change."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["gan_experiments"]["growth"] = [self.growth.stable, self.growth.fade]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the schedule, unless one is typed, and grow the networks as far as the images seen say."""
        super().on_load_checkpoint(checkpoint)
        stable, fade = checkpoint["gan_experiments"]["growth"]
        self.growth.stable = stable if self.stable_images is None else self.stable_images
        self.growth.fade = fade if self.fade_images is None else self.fade_images
        self.grow()
