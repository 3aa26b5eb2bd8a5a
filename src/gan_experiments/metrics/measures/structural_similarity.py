"""SSIM: the similarity of two images in luminance, contrast and structure."""

from __future__ import annotations

from torch import Tensor

from gan_experiments.metrics.likeness import SIGMA, WINDOW, ssim
from gan_experiments.metrics.metric import LumaMetric


class SSIM(LumaMetric):
    """The structural similarity (Wang et al. 2004, section III-B); reported as `ssim_y` for the luma."""

    scores = ("ssim",)
    higher_is_better = True
    smallest = WINDOW
    how = f"{WINDOW}x{WINDOW} Gaussian window of sigma {SIGMA} where it fits, K1 0.01, K2 0.03, by channel"

    def likeness(self, fake: Tensor, real: Tensor) -> float:
        """Return the mean over channels and over the positions where the window fits."""
        return ssim(self.seen(fake), self.seen(real))
