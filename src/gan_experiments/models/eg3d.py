"""Efficient Geometry-aware 3D Generative Adversarial Networks.

Eric R. Chan, Connor Z. Lin, Matthew A. Chan, Koki Nagano, Boxiao Pan, Shalini De Mello, Orazio Gallo, Leonidas Guibas,
Jonathan Tremblay, Sameh Khamis, Tero Karras, Gordon Wetzstein, 2022. arXiv:2112.07945

Differs from the paper: the camera that takes the place of a scene's own is drawn from the data, not that of the sample
before it in the batch, so that nothing depends on the number of processes; that of the density regularisation is drawn
for each sample, as for images. Augmentations change the enlarged rendered image, which is not reduced and enlarged
again. With super-resolution from 64 to 128 pixels in half precision the authors' code adds the first block's colours to
the rendered image that the discriminator sees, by working in place; here it stays what was rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import NotNegative, Share, Whole, Width
from gan_experiments.conditions import FRONTAL, Cameras, Conditions
from gan_experiments.contracts import Batch
from gan_experiments.distributed import mean_over_ranks
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.networks.eg3d import paired, resized

CAMERA = "camera"
"""The key of cameras in a batch."""


class EG3D(NoiseToImage):
    """A generator that renders scenes as cameras see them, and a discriminator of what was rendered and of its camera.

    Conditions are cameras float [N, 25], under "camera" in a batch. A discriminator that is `dual` sees images beside
    what they were made of, both enlarged and real images reduced to that size (section 4.3).

    Args:
        swap: the probability with which the mapping is told another camera than the one that sees the scene, in the
            end; it begins as 1. Of no effect unless the generator has `told_cameras`.
        swap_images: images after which that is reached.
        blur: the deviation in pixels of the Gaussian that blurs all that the discriminator sees, in the beginning.
        blur_images: images after which nothing is blurred any more.
        neural_resolution: the side that is rendered in the end; None for that of the beginning, which is the
            generator's.
        neural_images: images after which that is reached.
        camera_noise: deviation of the noise of the cameras that the discriminator is told, in parts of theirs.
        options: the other arguments of `NoiseToImage`.

    Raises ConfigError for two networks of which one is dual alone, and for a growing resolution without
    super-resolution.
    """

    condition = CAMERA
    generator: Any
    discriminator: Any

    def __init__(
        self,
        swap: Share = 0.5,
        swap_images: Whole = 1_000_000,
        blur: NotNegative = 10.0,
        blur_images: Whole = 200_000,
        neural_resolution: Width | None = None,
        neural_images: Whole = 1_000_000,
        camera_noise: NotNegative = 0.0,
        **options: Any,
    ) -> None:
        self.swap, self.swap_images, self.blur, self.blur_images = swap, swap_images, blur, blur_images
        self.neural_ends = (options["generator"].synthesis.neural_resolution, neural_resolution)
        self.neural_images, self.camera_noise = neural_images, camera_noise
        super().__init__(**options)
        self.grow()

    @override
    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        if self.generator.dual != self.discriminator.dual:
            yield (
                f"model.discriminator.dual={str(self.discriminator.dual).lower()}: images and what they are made of are"
                " two with super-resolution alone; type model.discriminator.dual="
                f"{str(self.generator.dual).lower()}, or leave it out"
            )
        if self.neural_ends[1] not in (None, self.neural_ends[0]) and not self.generator.dual:
            yield (
                f"model.neural_resolution={self.neural_ends[1]}: without super-resolution the resolution that is"
                " rendered is that of the images; leave it out"
            )
        if self.fake_labels == "uniform":
            yield "model.fake_labels=uniform: cameras are drawn as the data have them; type data or batch"

    # ---------------------------------------------------------------- schedules

    def _done(self, images: int) -> float:
        return min(self.images_seen / images, 1.0) if images else 1.0

    @property
    def swapped_share(self) -> float:
        """The probability with which the mapping is told another camera, after the images seen."""
        return 1 + (self.swap - 1) * self._done(self.swap_images)

    @property
    def blurred(self) -> float:
        """The deviation in pixels of the blur after the images seen."""
        return self.blur * (1 - self._done(self.blur_images))

    def grow(self) -> None:
        """Set the resolution at which scenes are rendered after the images seen, of the average too."""
        first, last = self.neural_ends
        done = self._done(self.neural_images)
        side = first if last is None else round(first + (last - first) * done)
        for average in (False, True):
            self.network("generator", average).synthesis.neural_resolution = side  # type: ignore[union-attr]

    def before_batch(self) -> None:
        """Render as large as the images seen say."""
        super().before_batch()
        self.grow()

    def after_batch(self) -> None:
        """Render samples as large as the next batch."""
        super().after_batch()
        self.grow()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Render as large as the images seen say."""
        super().on_load_checkpoint(checkpoint)
        self.grow()

    def numbers(self) -> dict[str, float]:
        """Return the blur, the share of swapped cameras and the side that is rendered, while they change."""
        side = self.generator.synthesis.neural_resolution
        told = {
            "eg3d/blur": (self.blurred, self.blurred > 0),
            "eg3d/swapped": (self.swapped_share, self.generator.mapping.told),
            "eg3d/neural_resolution": (float(side), self.neural_ends[1] is not None),
        }
        return super().numbers() | {name: value for name, (value, changes) in told.items() if changes}

    # ---------------------------------------------------------------- cameras

    @property
    @override
    def conditional(self) -> bool:
        return True

    @property
    @override
    def conditions(self) -> Conditions:
        known = self.data_conditions
        return known if isinstance(known, Cameras) else FRONTAL

    def told_mapping(self, cameras: Tensor) -> Tensor:
        """Return the cameras [n, 25] that the mapping is told: those given, or others drawn from the data (§4.4)."""
        if not self.generator.mapping.told:
            return cameras
        n = len(cameras)
        other = self.conditions(n, partial(self.draw, torch.rand))
        assert other is not None, "cameras are conditions"
        swapped = self.draw(torch.rand, n) < self.swapped_share
        return torch.where(swapped[:, None], other.to(cameras), cameras)

    @override
    def told_discriminator(self, label: Tensor | None) -> tuple[Tensor, ...]:
        (cameras,) = self.told(label)
        if self.camera_noise:
            mean, square = (mean_over_ranks(x.mean(0)) for x in (cameras, cameras.square()))
            deviation = (square - mean.square()).clamp_min(0).sqrt()
            noise = self.draw(torch.randn, *cameras.shape).to(cameras)
            cameras = cameras + self.camera_noise * deviation * noise
        return (cameras,)

    # ---------------------------------------------------------------- what the discriminator sees

    def player_update(self, batch: Batch, of_generator: bool = False, own_fakes: bool = False) -> PlayerUpdate:
        """Return one update, whose real images have parts if the discriminator is dual."""
        return SceneUpdate(self, batch, of_generator, own_fakes)

    def generate(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate what the discriminator sees, [n, C, H, W] or if it is dual [n, 2 C, H, W], for cameras [n, 25]."""
        (cameras,) = self.told(label)
        generator = self.generator
        ws = generator.mixed(z, self.told_mapping(cameras), self.draw)
        if not generator.dual:
            return generator.made(ws, cameras, self.draw)
        view = generator.seen(ws, cameras, self.draw)
        return paired(view.images, view.raw)

    def densities(self, z: Tensor, label: Tensor, points: Tensor) -> Tensor:
        """Return the raw densities [n, m] of the scenes of z, for cameras [n, 25], at points [n, m, 3], in training."""
        (cameras,) = self.told(label)
        ws = self.generator.mixed(z, self.told_mapping(cameras), self.draw)
        return self.generator.raw_densities(ws, points, self.draw)

    def real_parts(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return real images [n, C, H, W], and if the discriminator is dual these as they would be rendered."""
        images = super().real(batch)
        if not self.generator.dual:
            return (images,)
        raw = resized(images, self.generator.synthesis.neural_size())
        return images, blurred(raw, self.blurred)

    def real(self, batch: Batch) -> Tensor:
        """Return what the discriminator sees of real images, [n, C, H, W] or if it is dual [n, 2 C, H, W]."""
        parts = self.real_parts(batch)
        return paired(*parts) if len(parts) > 1 else parts[0]

    def judged_by(
        self, discriminator: Any, images: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the logits and features of images that are blurred for some time; of pairs the first is."""
        if self.blurred:
            channels = images.shape[1] // (2 if self.generator.dual else 1)
            images = torch.cat([blurred(images[:, :channels], self.blurred), images[:, channels:]], 1)
        return super().judged_by(discriminator, images, label)

    @override
    def with_augmentation(self, images: Tensor) -> Tensor:
        if not self.augment or not self.generator.dual:
            return super().with_augmentation(images)
        drawn: list[Tensor] = []

        def drawing(sampler: Any, *shape: int) -> Tensor:
            drawn.append(self.draw(sampler, *shape))
            return drawn[-1]

        first, second = images.chunk(2, 1)
        first = self.augment.each(first, drawing)
        again = iter(drawn)  # both of a pair alike
        return torch.cat([first, self.augment.each(second, lambda *_: next(again))], 1)


class SceneUpdate(PlayerUpdate):
    """An update of `EG3D`, whose real images are made of several parts."""

    @property
    def real_parts(self) -> tuple[Tensor, ...]:
        """The real images [n, C, H, W], and if the discriminator is dual these as they would be rendered."""
        return self.model.real_parts(self.batch)

    def of_parts(self, *parts: Tensor) -> Tensor:
        """Return what the discriminator sees of such parts."""
        return paired(*parts) if len(parts) > 1 else parts[0]


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Return images [N, C, H, W] blurred by 2^-(distance / deviation)², zeros around them; as they are below a third.

    The filter reaches three deviations, as the authors' does.
    """
    reach = int(3 * deviation)
    if not reach:
        return images
    taps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    taps = torch.exp2(-(taps / deviation).square())
    kernel = (taps / taps.sum()).expand(images.shape[1], 1, 1, -1)
    images = F.conv2d(images, kernel, padding=(0, reach), groups=images.shape[1])
    return F.conv2d(images, kernel.mT, padding=(reach, 0), groups=images.shape[1])
