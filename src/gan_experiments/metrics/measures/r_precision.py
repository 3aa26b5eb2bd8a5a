"""R-precision: whether images are nearer to the captions that they were made of than to others."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values

CANDIDATES = 100


class RPrecision(GenerativeMetric):
    """The share of images whose own caption has the highest cosine among CANDIDATES captions ("r_precision").

    Xu et al. 2017, arXiv:1711.10485, section 4, with R = 1. By chance it is a hundredth.

    Args:
        **kwargs: arguments of `GenerativeMetric`.
    """

    scores = ("r_precision",)
    higher_is_better = True
    of = "captions"
    margins: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("margins", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, captions: Tensor) -> None:
        """Add the codes of images [n, D] and of their captions [n, R, D], the first of which are their own."""
        self.margins.append(margins(images, captions)[:, None])

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the share over all images on all ranks. Raises ValueError where there are none."""
        found = self._all("margins")
        if not len(found):
            raise ValueError("no images: RPrecision needs one or more")
        return self._told(self.values(found[:, 0]), self.device)

    def values(self, margins: Tensor) -> Values:
        """Compute the share of the margins [N] that are above 0; NaN if one is not a number."""
        share = torch.nan if margins.isnan().any() else (margins > 0).double().mean().item()
        return {"r_precision": (share, None)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return f"share of images with a higher cosine to their own caption than to {CANDIDATES - 1} others"


def margins(images: Tensor, captions: Tensor) -> Tensor:
    """Return by how much the cosine to the own caption exceeds that to every other, float32 or wider, [n].

    For codes of images [n, D] and of captions [n, R, D], the first of which are the images' own.
    """
    kind = torch.promote_types(images.dtype, torch.float32)
    cosines = F.cosine_similarity(images.to(kind)[:, None], captions.to(kind), dim=2)
    return cosines[:, 0] - cosines[:, 1:].amax(1)
