"""FID: the Frechet distance of Gaussians."""

from __future__ import annotations

from typing_extensions import override

from gan_experiments.metrics.metric import FeatureMetric, Measurement, Samples, Values
from gan_experiments.metrics.scores import frechet_distance, moments


class FrechetDistance(FeatureMetric):
    """The squared Frechet distance of Gaussians fitted to the features; with Inception's features it is FID.

    Heusel et al. 2017, arXiv:1706.08500, eq. 6, with unbiased covariances.
    """

    scores = ("fid",)
    higher_is_better = False
    published_with = "inception"

    def values(self, samples: Samples) -> Values:
        """Compute the distance from the moments of the features."""
        real = samples.statistics
        return {"fid": (frechet_distance(real.mean, real.cov, *moments(samples.fake), real.root), None)}

    @override
    def estimator(self, score: str, measured: Measurement) -> str:
        return "squared Frechet distance of Gaussians, unbiased covariances"

    def doubts(self, score: str, measured: Measurement) -> list[str]:
        """Warn if there are too few images for regular covariances."""
        if min(measured.num_fake, measured.num_real) >= measured.width:
            return []
        return [
            f"{measured.num_real:,} real and {measured.num_fake:,} generated samples in {measured.width:,} feature"
            " dimensions: biased upwards, the more the fewer; kid is not"
        ]
