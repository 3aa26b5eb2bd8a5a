"""Networks that grow while they train, and images that grow with them (Karras et al. 2018, arXiv:1710.10196, §2).

`grown` counts the doublings from 4x4 pixels that are in. Its fraction is how much of the last one is faded in: at 2.25
images have 32x32 pixels, a quarter from the layers of 32x32 and three quarters from those of 16x16.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def stage_of(grown: float) -> tuple[int, float]:
    """The doublings that images have had, and the share in (0, 1] of the last one's layers: 2.25 -> (3, 0.25)."""
    stage = math.ceil(grown)
    return stage, grown - stage + 1


def enlarge(images: Tensor, factor: int = 2) -> Tensor:
    """`[N, C, H, W]` -> `[N, C, factor · H, factor · W]`: each pixel as a square."""
    return images if factor == 1 else F.interpolate(images, scale_factor=factor, mode="nearest")


def shrink(images: Tensor, factor: int = 2) -> Tensor:
    """`[N, C, H, W]` -> `[N, C, H / factor, W / factor]`: the mean of each square."""
    return images if factor == 1 else F.avg_pool2d(images, factor)


def grown_images(images: Tensor, grown: float) -> Tensor:
    """Images `[N, C, R, R]` as networks that have `grown` so far see them, with the fade that these have.

    Without it the discriminator would tell real images by a sharpness that the generator cannot have yet.
    """
    stage, share = stage_of(grown)
    fine = shrink(images, images.shape[-1] // (4 << stage))
    return fine if share == 1 else torch.lerp(enlarge(shrink(fine)), fine, share)
