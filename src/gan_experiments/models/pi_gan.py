"""pi-GAN: Periodic Implicit Generative Adversarial Networks for 3D-Aware Image Synthesis.

Eric R. Chan, Marco Monteiro, Petr Kellnhofer, Jiajun Wu, Gordon Wetzstein, 2021. arXiv:2012.00926

Differs from the paper: the first resolution is not faded in; the batch size and the number of samples on a ray are the
same at every resolution; of two averages of the generator one is kept; a discriminator that tells the code and the
pose of the camera of fakes is the paper's for all data.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from gan_experiments.bounds import NotNegative, Whole
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.layers.growing import shrink, stage_of
from gan_experiments.models.growing import Growing
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.networks.pi_gan import POSE


class PiGAN(Growing):
    """A generator that renders scenes, and a discriminator that tells from where its images were seen.

    Args:
        pose_weight: of the squared error of the poses, in radians, in both players' losses.
        code_weight: of that of the codes.
        noise_images: images after which the densities bear no noise any more.
        options: the other arguments of `Growing`; the generator has `poses`, and the discriminator `tell`.

    Raises ConfigError if a weight needs what the discriminator does not tell.
    """

    generator: Any
    discriminator: Any

    def __init__(
        self,
        pose_weight: NotNegative = 15.0,
        code_weight: NotNegative = 0.0,
        noise_images: Whole = 280_000,
        **options: Any,
    ) -> None:
        self.pose_weight, self.code_weight, self.noise_images = pose_weight, code_weight, noise_images
        generator, discriminator = options["generator"], options["discriminator"]
        needed = POSE * bool(pose_weight or code_weight) + bool(code_weight) * getattr(generator, "content_dim", 0)
        if (told := getattr(discriminator, "told", 0)) < needed:
            raise ConfigError(
                f"model.discriminator.told={told}: model.pose_weight={pose_weight} model.code_weight={code_weight} need"
                f" {needed} numbers; type model.discriminator.told={needed}, or weights of 0"
            )
        super().__init__(**options)

    def before_batch(self) -> None:
        """Grow the networks, and lower the noise of the densities."""
        super().before_batch()
        self.generator.density_noise = max(0.0, 1 - self.images_seen / self.noise_images) if self.noise_images else 0.0

    def real(self, batch: Batch) -> Tensor:
        """Return the real images [n, C, R, R] of a batch at the networks' current resolution R, not faded."""
        images = NoiseToImage.real(self, batch)
        return shrink(images, min(images.shape[-2:]) // (4 << stage_of(self.grown)[0]))

    def discriminator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Tell real from fake, and the fakes' poses and codes."""
        return super().discriminator_loss(update) | self._told(update)

    def generator_loss(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Have fakes taken for real, and let their poses and codes be told."""
        return super().generator_loss(update) | self._told(update)

    def _told(self, update: PlayerUpdate) -> dict[str, Tensor]:
        """Return the squared errors of what the discriminator tells of the fakes."""
        if not (self.pose_weight or self.code_weight):
            return {}
        assert update.fake_features is not None
        told, terms = self.discriminator.tell(update.fake_features), {}
        if self.pose_weight:
            terms["pose"] = self.pose_weight * F.mse_loss(told[:, -POSE:], self.generator.poses(update.z))
        if self.code_weight:
            code = update.z[:, :-POSE]
            terms["code"] = self.code_weight * F.mse_loss(told[:, -POSE - code.shape[1] : -POSE], code)
        return terms
