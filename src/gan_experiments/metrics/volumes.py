"""Evaluation of volumes: scores of their features, as of images, and of their voxels themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import Volume
from gan_experiments.metrics import names
from gan_experiments.metrics.evaluator import SCORES as OF_FEATURES
from gan_experiments.metrics.evaluator import Evaluator, Measured, RealImages, Sample, Score, interval
from gan_experiments.metrics.extractors import Extractor
from gan_experiments.metrics.measures.volume_matching import ShapePairs, pieces
from gan_experiments.metrics.metric import Measurement, Values
from gan_experiments.metrics.request import Request

OF_VOXELS = tuple(names.of("volumes"))
USUAL = ("fid", "kid", "precision", "recall", "density", "coverage", "memorised", *OF_VOXELS)
SIDE = 32
"""Voxels are compared at this many a side: larger volumes are reduced, occupied where any of theirs are."""


class VolumeExtractor(Extractor):
    """What a volume looks like from afar, 256 numbers: no network, and nothing to download.

    64 are the occupancy at 4x4x4, and 64 each its silhouettes from the front, from above and from the side at 8x8. The
    names of the scores end in `_volumes`; they compare with no published value.
    """

    reads = Volume
    name = "volumes"
    suffix = "_volumes"
    weights_hash = "none"
    resize = "occupied or not, means at 4x4x4, and of the silhouettes along three axes at 8x8"
    features = 256
    classes = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [N, 256] and no logits, [N, 0], of uint8 volumes [N, 1, D, H, W]."""
        occupied = (images > 127).to(torch.float32)
        parts = [F.adaptive_avg_pool3d(occupied, 4)]
        parts += [F.adaptive_avg_pool2d(occupied.amax(dim=axis), 8) for axis in (2, 3, 4)]
        return torch.cat([part.flatten(1) for part in parts], dim=1), images.new_zeros(len(images), 0).float()


class VolumeEvaluator(Evaluator):
    """Evaluator of volumes: the scores of `Evaluator` by features, see `VolumeExtractor`, and those of voxels.

    `scores` are among SCORES of `metrics.evaluator` that need no classifier, and OF_VOXELS. The other arguments are
    those of `Evaluator`.
    """

    def __init__(self, extractor: Extractor, scores: Sequence[str] = USUAL, **settings: Any) -> None:
        of_features = [name for name in scores if name not in OF_VOXELS]
        if not of_features or set(of_features) - set(OF_FEATURES):
            known = [*(name for name in OF_FEATURES if name not in names.of("logits")), *OF_VOXELS]
            raise ConfigError(
                f"metrics.scores=[{','.join(scores)}]: type some of [{','.join(known)}], among them one of features"
                " such as fid, or metrics=none"
            )
        super().__init__(extractor, of_features, **settings)
        self.chosen = tuple(scores)
        of_voxels = [name for name in scores if name in OF_VOXELS]
        self.of_voxels: list[Any] = [*names.collection(of_voxels).values()] if of_voxels else []

    @override
    def measure(self, sample: Sample, real: RealImages, request: Request) -> Measured:
        kept: dict[int, Tensor] = {}

        def keeping(index: int, n: int) -> Tensor | list[Tensor]:
            made = sample(index, n)
            assert isinstance(made, Tensor), "volumes are of one size"
            kept[index] = shapes_of(made)
            return made

        found = super().measure(keeping, real, request)
        if not self.of_voxels:
            return found
        ranks = request.ranks
        rows = list(self._real_rows(real))
        theirs = torch.cat([shapes_of(real.images(row, row + 1)) for row in rows])  # type: ignore[arg-type]
        table = torch.zeros(self.num_fake, *theirs.shape[1:], dtype=torch.uint8, device=ranks.meeting_place)
        for index, shapes in kept.items():
            table[index * self.batch_size :][: len(shapes)] = shapes.to(table)
        table = ranks.collect(table)
        values: Values = {}
        intervals: dict[str, tuple[float, float]] = {}
        if ranks.rank == 0:
            mine = table.cpu().bool()
            values = self._of_voxels(mine, theirs)
            few = [self._of_voxels(mine[half], theirs) for half in self._halves(request.bootstrap)]
            intervals = interval(values, few)
        values, intervals = ranks.tell((values, intervals))
        whole = next(pieces for pieces in found.scores.values())
        measured = Measurement(self.num_fake, len(rows), len(real), real.split, theirs[0].numel())
        facts = {key: value for key, value in whole.passport.items() if key not in ("estimator", "warnings")}
        facts |= {"extractor": "voxels", "weights_hash": "none", "resize": f"{theirs.shape[-1]} voxels a side"}
        facts["quantisation"] = "occupied or not"
        scores = dict(found.scores)
        for metric in self.of_voxels:
            for name in metric.chosen:
                notes: dict[str, Any] = {"estimator": metric.estimator(name, measured), "warnings": []}
                if name == "one_piece":
                    share = sum(pieces(shape) == 1 for shape in theirs) / len(theirs)
                    notes["estimator"] += f"; of the real ones {share:.3f} are"
                scores[name] = Score(name, values[name][0], None, facts | notes, intervals.get(name))
        order = [self.extractor.names(name) if name in self.scores else name for name in self.chosen]
        return replace(found, scores={name: scores[name] for name in [*order, *(set(scores) - set(order))]})

    def _of_voxels(self, fake: Tensor, real: Tensor) -> Values:
        shapes = ShapePairs(fake, real)
        return {name: value for metric in self.of_voxels for name, value in metric.values(shapes).items()}


def shapes_of(volumes: Tensor) -> Tensor:
    """Return what volumes [n, 1, D, H, W] are occupied by, bool [n, D, H, W] of at most 32 voxels a side.

    They are uint8, or floats in [-1, 1]; what is not finite is free.
    """
    occupied = volumes[:, 0].cpu() > (127 if volumes.dtype == torch.uint8 else 0)
    if max(occupied.shape[1:]) <= SIDE:
        return occupied
    return F.adaptive_max_pool3d(occupied[:, None].float(), SIDE)[:, 0] > 0
