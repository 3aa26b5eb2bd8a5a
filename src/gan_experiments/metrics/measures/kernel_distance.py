"""KID: the maximum mean discrepancy under a cubic kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from typing_extensions import override

from gan_experiments.metrics.metric import FeatureMetric, Measurement, Samples, Values
from gan_experiments.metrics.scores import kernel_distance


class KernelDistance(FeatureMetric):
    """The unbiased MMD^2 of features x, y with the kernel (x.y / D + 1)^3; with Inception's features it is KID.

    Binkowski et al. 2018, arXiv:1801.01401, eq. 4 and section 4: the mean and standard deviation over random subsets of
    the images.

    Args:
        subsets: the number of subsets.
        subset_size: the number of real and of fake images in a subset, limited to those that there are.
        seed: the seed of the random subsets.
        scores: None.
        reset_real_features: False to keep the real features when `reset` is called.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("kid",)
    higher_is_better = False
    published_with = "inception"
    keys: ClassVar[dict[str, str]] = {"subsets": "kid_subsets", "subset_size": "kid_subset_size", "seed": "seed"}

    def __init__(
        self,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 0,
        scores: Sequence[str] | None = None,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(scores, reset_real_features, **kwargs)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def values(self, samples: Samples) -> Values:
        """Compute mean and standard deviation over the subsets."""
        generator = torch.Generator().manual_seed(self.seed)
        return {"kid": kernel_distance(samples.real, samples.fake, self.subsets, self.subset_size, generator)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        size = min(self.subset_size, measured.num_fake, measured.num_real)
        return f"unbiased MMD^2, kernel (x.y/D+1)^3, mean and std over {self.subsets} subsets of {size}"

    def doubts(self, score: str, measured: Measurement) -> list[str]:
        """Warn if each subset holds all real images."""
        if measured.num_real > min(self.subset_size, measured.num_fake):
            return []
        return [f"each subset holds all {measured.num_real:,} real images: its std is not that of other real images"]
