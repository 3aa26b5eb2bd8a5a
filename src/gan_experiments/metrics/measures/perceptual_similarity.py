"""LPIPS: the distance of two images in a network's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from gan_experiments.losses.perceptual import LPIPS
from gan_experiments.metrics.extractors import plain_float32
from gan_experiments.metrics.metric import PairMetric


class LearnedPerceptualDistance(PairMetric):
    """LPIPS 0.1 at the image's own size (Zhang et al. 2018, arXiv:1801.03924); reported as `lpips_<net>`.

    The network stays out of the state dict of a module that holds this metric.

    Args:
        net: "alex", "vgg" or "squeeze".
        weights: the path of the network's weights; None for the file in torch's cache folder, or else a download.
        crop_border: the number of pixels left out on each side.
        scores: None.
        **kwargs: arguments of `torchmetrics.Metric`.
    """

    scores = ("lpips",)
    higher_is_better = False
    data_range = 2
    how = "LPIPS 0.1 at the image's own size"
    keys: ClassVar[dict[str, str]] = {"net": "lpips_net", "weights": "lpips_weights", **PairMetric.keys}

    def __init__(
        self,
        net: str = "alex",
        weights: str | None = None,
        crop_border: int = 0,
        scores: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(crop_border, scores, **kwargs)
        self.net, self._kept = net, (LPIPS(net, weights, "metrics.lpips_"),)  # in a tuple, so that it is no submodule
        self.smallest = self.network.smallest

    @property
    def network(self) -> LPIPS:
        """The network that computes the distance."""
        return self._kept[0]

    @property
    def known_as(self) -> str:
        """The reported name, with that of the network."""
        return f"lpips_{self.net}"

    @property
    def facts(self) -> dict[str, Any]:
        """The hash of the network's weights."""
        return {"weights_hash": self.network.weights_hash}

    def doubts_of(self, values: Sequence[float]) -> list[str]:
        """Warn if the weights are not torchvision's own."""
        return [] if self.network.published else ["the network's weights are not those that are published"]

    def likeness(self, fake: Tensor, real: Tensor) -> float:
        """Return the distance, computed in true float32."""
        with plain_float32(fake.device):
            x, y = (image[None].float() / 127.5 - 1 for image in (fake, real))
            return self.network.to(fake.device)(x, y).item()
