"""Progressive growing of networks and of the images they see (Karras et al. 2018, arXiv:1710.10196, §2).

`grown` is the number of doublings from 4x4 pixels (of rectangles, from 4 of the shorter side) that are in use. Its
fraction is how far the last one is faded in: at 2.25 images have 32x32 pixels, a quarter of them from the 32x32 layers
and three quarters from the 16x16 layers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def stage_of(grown: float) -> tuple[int, float]:
    """Return the number of doublings and the share in (0, 1] by which the last one is faded in: 2.25 -> (3, 0.25)."""
    stage = math.ceil(grown)
    return stage, grown - stage + 1


def enlarge(images: Tensor, factor: int = 2) -> Tensor:
    """Upsample by nearest neighbour, `[N, C, H, W]` -> `[N, C, factor · H, factor · W]`."""
    return images if factor == 1 else F.interpolate(images, scale_factor=factor, mode="nearest")


def shrink(images: Tensor, factor: int = 2) -> Tensor:
    """Downsample by the mean of each square, `[N, C, H, W]` -> `[N, C, H / factor, W / factor]`."""
    return images if factor == 1 else F.avg_pool2d(images, factor)


def grown_images(images: Tensor, grown: float) -> Tensor:
    """Return images `[N, C, R, R]` at the resolution of networks that are `grown`, with the same fade.

    Without the fade the discriminator would recognise real images by a sharpness that the generator cannot reach yet.
    """
    stage, share = stage_of(grown)
    fine = shrink(images, min(images.shape[-2:]) // (4 << stage))
    return fine if share == 1 else torch.lerp(enlarge(shrink(fine)), fine, share)
