"""Exponential moving averages of network weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from gan_experiments.bounds import BelowOne, NotNegative


class WeightAverage(nn.Module):
    """An exponential moving average of a network's parameters; its buffers are copies of the network's.

    Set either `decay`, per step of the network, or `half_life`, in images. With `ramp_up` the half-life is at most that
    fraction of the images seen (Karras et al. 2020, arXiv:1912.04958, official code). The average starts as a copy of
    the network and stays one until `start` images were seen (BigGAN's `ema_start`, which counts steps). Raises
    ValueError unless exactly one of `decay` and `half_life` is given.
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
        """Return the weight of the old average in the new one, `images` images later and `images_seen` in all."""
        if images_seen < self.start:
            return 0.0
        if self.decay is not None:
            return self.decay
        half_life = self.half_life or 0.0
        if self.ramp_up is not None:
            half_life = min(half_life, images_seen * self.ramp_up)
        return 0.5 ** (images / max(half_life, 1e-8))

    def share_of_start(self, images: int, step: int) -> float:
        """Return the share of its starting weights that is left in the average after a run.

        The run has `images` images, `step` at each update. The starting weights are the untrained ones, or those at
        `start` images. The share is 0 if the run ends before `start`, as the average is then still a copy.
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
        """Move the average towards the network, which saw `images` since the last update and `images_seen` in all."""
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
