"""Density regularisation: the scenes of a generator are smooth (Chan et al. 2022, arXiv:2112.07945, §4.4 and §6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.bounds import Count, NotNegative, OneOf, Positive, Rhythm
from gan_experiments.contracts import ConfigError
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.models.eg3d import EG3D
    from gan_experiments.models.noise_to_image import PlayerUpdate

ORDERS = ("none", "detached", "both")
STRENGTH, TIMES = 10.0, 2  # of the order, and its points for each of the smoothness, as in the authors' code


class DensitySmoothness(Technique):
    """λ times the mean of |σ(x) - σ(x + ε)| at points x uniform in [-1, 1]³ and ε ~ N(0, distance²).

    As in EG3D's code it draws scenes of its own, one for each image of a batch. `order` adds the authors' alternative:
    ten times by how much a density is smaller than one a 256th of the box before it, seen from the front; of "detached"
    the first one is not lowered for that.
    """

    needs = frozenset({"noise"})
    players = ("generator",)

    def __init__(
        self,
        weight: NotNegative = 0.25,
        distance: Positive = 0.004,
        points: Count = 1000,
        order: Annotated[str, OneOf(*ORDERS)] = "none",
        every: Rhythm = 4,
    ) -> None:
        super().__init__()
        self.weight, self.distance, self.points, self.order, self.every = weight, distance, points, order, every

    def join(self, model: EG3D) -> None:
        """Raise ConfigError for a generator that makes no scenes of z and cameras."""
        if not hasattr(model, "densities"):
            raise ConfigError("this model's generator has no densities that could be smooth; type model=eg3d")

    def term(self, update: PlayerUpdate) -> Tensor:
        """Return the weighted term."""
        model: EG3D = update.model
        n = len(update.batch["real"])
        z, cameras = update.inputs(n)
        assert cameras is not None, "scenes are told cameras"
        points = 2 * model.draw(torch.rand, n, self.points, 3) - 1
        moved = points + self.distance * model.draw(torch.randn, n, self.points, 3)
        here, there = model.densities(z, cameras, torch.cat([points, moved], 1)).chunk(2, 1)
        smooth = self.weight * F.l1_loss(here, there)
        return smooth if self.order == "none" else smooth + self._in_order(model, z, cameras)

    def _in_order(self, model: EG3D, z: Tensor, cameras: Tensor) -> Tensor:
        front = 2 * model.draw(torch.rand, len(z), TIMES * self.points, 3) - 1
        step = torch.tensor([0.0, 0.0, -model.generator.synthesis.box / 256]).to(front)
        before, behind = model.densities(z, cameras, torch.cat([front, front + step], 1)).chunk(2, 1)
        return STRENGTH * F.relu((before.detach() if self.order == "detached" else before) - behind).mean()
