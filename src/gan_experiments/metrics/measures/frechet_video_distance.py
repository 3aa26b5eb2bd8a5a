"""FVD: the Frechet distance of Gaussians, of clips."""

from __future__ import annotations

from gan_experiments.metrics.measures.frechet_distance import FrechetDistance
from gan_experiments.metrics.metric import Samples, Values


class FrechetVideoDistance(FrechetDistance):
    """The squared Frechet distance of Gaussians fitted to the features of clips; with I3D's features it is FVD.

    Unterthiner et al. 2018, arXiv:1812.01717, section 3.
    """

    scores = ("fvd",)
    published_with = "i3d"

    def values(self, samples: Samples) -> Values:
        """Compute the distance from the moments of the features."""
        return {"fvd": super().values(samples)["fid"]}
