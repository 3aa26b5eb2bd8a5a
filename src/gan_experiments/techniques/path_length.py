"""Path length regularisation: a styled generator's images move equally far for equal steps of w."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gan_experiments.bounds import NotNegative, Rhythm, Share
from gan_experiments.contracts import ConfigError
from gan_experiments.distributed import mean_over_ranks
from gan_experiments.layers.styles import StyledGenerator
from gan_experiments.losses.penalties import eager
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate


class PathLength(Technique):
    """λ (‖Jᵀy‖ - a)² with J = ∂G(w)/∂w, y ~ N(0, 1) and a the running mean of ‖Jᵀy‖.

    Karras et al. 2020, arXiv:1912.04958, section 3.2, as in StyleGAN2-ADA's PyTorch code. It draws fakes of its own,
    one for every `shrink` images of a batch. y is divided by √(HW). The squared length is the mean over an image's ws.
    a moves by `decay` towards a batch's mean before it is used, and gradients flow through that step. Autocast is off.
    """

    needs = frozenset({"noise"})
    players = ("generator",)
    mean: Tensor

    def __init__(self, weight: NotNegative = 2.0, decay: Share = 0.01, every: Rhythm = 4, shrink: Rhythm = 2) -> None:
        super().__init__()
        self.weight, self.decay, self.every, self.shrink = weight, decay, every, shrink
        self.register_buffer("mean", torch.zeros(()))

    def join(self, model: NoiseToImage) -> None:
        """Raise ConfigError for a generator that has no w."""
        if not isinstance(model.generator, StyledGenerator):
            raise ConfigError("this model's generator has no styles whose paths have a length; type model=stylegan2")

    def term(self, update: PlayerUpdate) -> Tensor:
        """Return the weighted term, and update the running mean, one for all ranks."""
        generator, draw = update.model.generator, update.model.draw
        assert isinstance(generator, StyledGenerator)
        with torch.autocast(update.real.device.type, enabled=False), eager():
            z, label = update.inputs(-(-len(update.real) // self.shrink))
            ws = generator.mixed(z, label, draw)
            images = generator.made(ws, label, draw)
            lengths = path_lengths(images, ws, draw(torch.randn, *images.shape))
            mean = self.mean.lerp(mean_over_ranks(lengths.mean()), self.decay)
            self.mean.copy_(mean.detach())
            return self.weight * (lengths - mean).square().mean()


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """Return ‖Jᵀy‖ `[N]` of images `[N, C, H, W]` generated from ws `[N, styles, w_dim]`, with y = noise / √(HW).

    `noise` has the shape of the images. A length is the root of the mean over the ws of each one's squared gradient,
    and is itself differentiable.
    """
    projection = (images * noise).sum() / math.sqrt(images[0, 0].numel())
    (gradient,) = torch.autograd.grad(projection, ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
