"""CLIP score: whether images show what their captions say, by CLIP."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gan_experiments.metrics.metric import GenerativeMetric, Measurement, Values


class CLIPScore(GenerativeMetric):
    """The mean of 100 max(cos, 0) of the codes of images and of their captions ("clip_score").

    Hessel et al. 2021, arXiv:2104.08718, equation 1, with the factor 100 of torchmetrics in place of the paper's 2.5.

    Args:
        **kwargs: arguments of `GenerativeMetric`.
    """

    scores = ("clip_score",)
    higher_is_better = True
    of = "captions"
    cosines: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("cosines", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, captions: Tensor) -> None:
        """Add the codes of images and of their captions, both [n, D]."""
        self.cosines.append(torch.cosine_similarity(images.float(), captions.float())[:, None])

    def compute(self) -> Tensor | dict[str, Tensor]:
        """Return the mean over all images on all ranks. Raises ValueError where there are none."""
        found = self._all("cosines")
        if not len(found):
            raise ValueError("no images: CLIPScore needs one or more")
        return self._told(self.values(found[:, 0]), self.device)

    def values(self, cosines: Tensor) -> Values:
        """Compute the score of cosines [N]; NaN if one is not a number."""
        return {"clip_score": (100 * cosines.double().clamp_min(0).mean().item(), None)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return "mean of 100 max(cosine, 0) of each image and the caption that it was made of"
