"""Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks.

Alec Radford, Luke Metz, Soumith Chintala, 2015, arXiv:1511.06434.
Differs from the paper: z is normal, the generator starts at 8 * 64 channels and one batch of fakes serves both steps,
as in the authors' released code; the paper's text has uniform z.
"""

from __future__ import annotations

from typing import Any

from gan_experiments.models.noise_to_image import NoiseToImage


class DCGAN(NoiseToImage):
    """Alternation of one discriminator step and one generator step, by default on the same fakes.

    Args:
        reuse_fakes: whether both steps use the same fakes.
        options: the other arguments of `NoiseToImage`.
    """

    def __init__(self, reuse_fakes: bool = True, **options: Any) -> None:
        super().__init__(reuse_fakes=reuse_fakes, **options)
