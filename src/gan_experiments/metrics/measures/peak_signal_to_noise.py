"""PSNR: the range of an image's values relative to its error."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gan_experiments.metrics.likeness import HIGHEST_PSNR, psnr
from gan_experiments.metrics.metric import LumaMetric


class PSNR(LumaMetric):
    """The peak signal-to-noise ratio in dB; HIGHEST_PSNR for identical images; reported as `psnr_y` for the luma."""

    scores = ("psnr",)
    higher_is_better = True
    how = f"PSNR over all of an image's values, at most {HIGHEST_PSNR:g} dB"

    def likeness(self, fake: Tensor, real: Tensor) -> float:
        """Return the ratio in dB."""
        return psnr(self.seen(fake), self.seen(real))

    def doubts_of(self, values: Sequence[float]) -> list[str]:
        """Warn of pairs that are identical or nearly so, whose ratio is limited."""
        same = sum(value >= HIGHEST_PSNR for value in values)
        told = f"{same} of {len(values)} pairs are identical or nearly so, and count {HIGHEST_PSNR:g} dB"
        return [told] if same else []
