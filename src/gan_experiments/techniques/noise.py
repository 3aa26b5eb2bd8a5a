"""Techniques that add noise to what the discriminator sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gan_experiments.bounds import Count, NotNegative
from gan_experiments.losses.regularisers import instance_noise
from gan_experiments.models.technique import Technique
from gan_experiments.schedules import Linear

if TYPE_CHECKING:
    from gan_experiments.models.game import Game


class InstanceNoise(Technique):
    """Noise on reals and fakes alike, `sigma` at first and none from `end` images on (Sønderby 2017, arXiv:1610.04490).

    It is added after an augmentation. Where images are shown beside an input (pix2pix), the input gets no noise.
    """

    def __init__(self, end: Count, sigma: NotNegative = 0.1) -> None:
        super().__init__()
        self.sigma, self.share = sigma, Linear(end)

    def see(self, images: Tensor, model: Game) -> Tensor:
        """Return the images with new noise, drawn for each image each time that it is shown."""
        sigma = self.sigma * self.share(model.images_seen)
        return instance_noise(images, model.draw(torch.randn, *images.shape), sigma) if sigma else images
