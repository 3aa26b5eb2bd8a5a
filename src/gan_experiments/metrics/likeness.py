"""Similarity of two images: pure functions, computed in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
HIGHEST_PSNR = 100.0  # dB


def luma(image: Tensor) -> Tensor:
    """Convert RGB [3, H, W] in 0..255 to Y of BT.601 [1, H, W] in 16..235, like MATLAB's rgb2ycbcr before rounding.

    BasicSR does not round either. MATLAB rounds uint8 images, which lowers a PSNR of 32 by 0.01 to 0.02 dB.
    """
    weights = image.new_tensor([65.481, 128.553, 24.966]).view(3, 1, 1) / 255
    return (image * weights).sum(dim=0, keepdim=True) + 16


def psnr(x: Tensor, y: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of two images in 0..255.

    It is limited to HIGHEST_PSNR, because it would be infinite for identical images.
    """
    error = (x - y).square().mean().item() / 255**2
    return -10 * math.log10(max(error, 10 ** (-HIGHEST_PSNR / 10)))


def ssim(x: Tensor, y: Tensor) -> float:
    """Return the structural similarity of two float64 images [C, H, W] in 0..255; H and W are at least WINDOW.

    Wang et al. 2004, section III-B: the mean over channels and over the positions where the window fits, as in the
    authors' code. torchmetrics' SSIM agrees if its reflected borders are cut off, and takes 15 to 60 times as long.
    """
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x.square()) + _blur(y.square()) - mean_x.square() - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (luminance * contrast).mean().item()


def _blur(image: Tensor) -> Tensor:
    """Average over a Gaussian window, [C, H, W] -> [C, H - 10, W - 10]; a float64 convolution would take far longer."""
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.softmax(-places.square() / (2 * SIGMA**2), dim=0).tolist()
    for dim in (1, 2):
        size = image.shape[dim] - WINDOW + 1
        total = image.narrow(dim, 0, size) * weights[0]
        for start, weight in enumerate(weights[1:], 1):
            total.add_(image.narrow(dim, start, size), alpha=weight)
        image = total
    return image
