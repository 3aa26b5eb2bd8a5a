"""Averages of weights over a run."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from gan_experiments.bounds import BelowOne, NotNegative


class WeightAverage(nn.Module):
    """An exponential moving average of a network's parameters; its buffers are copies of the network's.

    Either `decay` per step of the network, or `half_life` in images with `ramp_up`: the half-life is at most that
    fraction of the images seen (Karras et al. 2020, arXiv:1912.04958, official code). Starts as a copy of the network,
    and stays one until `start` images were seen (BigGAN's `ema_start`, there in steps).
    """

    def __init__(
        self,
        network: nn.Module,
        decay: BelowOne | None = None,
        half_life: NotNegative | None = None,
        ramp_up: NotNegative | None = None,
        start: NotNegative = 0,
    ) -> None:
        super().__init__()
        if (decay is None) == (half_life is None):
            raise ValueError("a weight average needs either decay (per step) or half_life (in images)")
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay, self.half_life, self.ramp_up, self.start = decay, half_life, ramp_up, start
        self.frozen: frozenset[int] = frozenset()  # ids of the network's parameters that nothing trains
        self._pairs: tuple[list[Tensor], ...] = ()

    def train(self, mode: bool = True) -> WeightAverage:
        """Stay in evaluation mode, whatever the module around it does."""
        return super().train(False)

    def decay_after(self, images: int, images_seen: int) -> float:
        """The share that the old average keeps after `images` further images, `images_seen` in all."""
        if images_seen < self.start:
            return 0.0
        if self.decay is not None:
            return self.decay
        half_life = self.half_life or 0.0
        if self.ramp_up is not None:
            half_life = min(half_life, images_seen * self.ramp_up)
        return 0.5 ** (images / max(half_life, 1e-8))

    def share_of_start(self, images: int, step: int) -> float:
        """The share of the weights that it starts from in the average after a run of `images`, `step` at each update.

        It starts from the untrained weights, or from those at `start` images. 0 where it is a copy to the end.
        """
        share, bound = 1.0, -(-images // step) * step  # a run ends with a whole batch
        first = max(step, math.ceil(self.start / step) * step)
        if first > bound:
            return 0.0
        updates = (bound - first) // step + 1
        stride = max(1, updates // 10_000)  # exact for a decay, and nearly so for a half-life
        for done in range(0, updates, stride):
            some = min(stride, updates - done)
            seen = first + (done + some - 1) * step
            share *= self.decay_after(step, seen) ** some
        return share

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, images_seen: int) -> None:
        """Move the average towards the network, which has seen `images` images since the last update."""
        if not self._pairs:  # looked up once, see _Step
            pairs = list(zip(self.network.parameters(), network.parameters(), strict=True))
            for average, parameter in pairs:
                if id(parameter) in self.frozen:
                    average.copy_(parameter)
            moving = [pair for pair in pairs if id(pair[1]) not in self.frozen]
            weights: list[list[Tensor]] = [[pair[side] for pair in moving] for side in (0, 1)]
            self._pairs = (*weights, *(list(m.buffers()) for m in (self.network, network)))
        averages, parameters, copies, buffers = self._pairs
        if averages:
            torch._foreach_lerp_(averages, parameters, 1.0 - self.decay_after(images, images_seen))
        if buffers:
            torch._foreach_copy_(copies, buffers)
