"""Schedules, functions of the images seen: factors of the learning rate, and the growth of progressive networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gan_experiments.bounds import NotNegative, PartOf, Positive, Share


class Linear:
    """1 until `start` images, then linear to `floor` at `end` images.

    With `step`, the factor falls in steps of that many images, as in pytorch-CycleGAN-and-pix2pix. There a step is one
    epoch, and the last one is not yet zero: 1 - (epoch + 1 - start) / (end - start + 1), in epochs.
    """

    def __init__(
        self, end: NotNegative, start: NotNegative = 0, floor: Share = 0.0, step: Positive | None = None
    ) -> None:
        self.start, self.end, self.floor, self.step = start, end, floor, step

    def __call__(self, images: int) -> float:
        """Return the factor in [floor, 1] after `images` images."""
        if self.step is None:
            done = (images - self.start) / max(self.end - self.start, 1)
        else:
            stair, start, end = images // self.step, self.start / self.step, self.end / self.step
            done = (stair + 1 - start) / (end - start + 1)
        return 1.0 - (1.0 - self.floor) * min(max(done, 0.0), 1.0)


class Cosine:
    """Half a cosine from 1 at `start` images to `floor` at `end` images."""

    def __init__(self, end: NotNegative, start: NotNegative = 0, floor: Share = 0.0) -> None:
        self.start, self.end, self.floor = start, end, floor

    def __call__(self, images: int) -> float:
        """Return the factor in [floor, 1] after `images` images."""
        done = min(max((images - self.start) / max(self.end - self.start, 1), 0.0), 1.0)
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * done)) / 2.0


class Exponential:
    """`decay` to the power of the number of completed intervals of `every` images, at least `floor`."""

    def __init__(self, decay: PartOf, every: NotNegative, floor: Share = 0.0) -> None:
        self.decay, self.every, self.floor = decay, every, floor

    def __call__(self, images: int) -> float:
        """Return the factor in [floor, 1] after `images` images."""
        return max(self.decay ** (images // max(self.every, 1)), self.floor)


class Steps:
    """`decay` to the power of the number of milestones reached; `at` lists them in images."""

    def __init__(self, decay: NotNegative, at: Sequence[NotNegative]) -> None:
        self.decay, self.at = decay, at

    def __call__(self, images: int) -> float:
        """Return the factor after `images` images."""
        return self.decay ** sum(images >= step for step in self.at)


class Growth:
    """Doublings of the resolution, from `first` to `last`: `stable` images at each, then `fade` to fade in the next.

    As in the code of Karras et al. 2018, arXiv:1710.10196.
    """

    def __init__(self, first: int, last: int, stable: int, fade: int) -> None:
        self.first, self.last, self.stable, self.fade = first, last, stable, fade

    def __call__(self, images: int) -> float:
        """Return the doublings after `images` images; the fraction is how far the next one is faded in."""
        if self.first == self.last:
            return float(self.last)
        done, rest = divmod(images, self.stable + self.fade)
        share = (rest - self.stable) / self.fade if rest > self.stable else 0.0
        return min(self.first + done + share, float(self.last))

    @property
    def end(self) -> int:
        """The number of images after which the last doubling is complete."""
        return (self.last - self.first) * (self.stable + self.fade)


class ByResolution:
    """A factor for the resolution that `growth` has reached, multiplied by the factor of `also` if given.

    `factors` are pairs of a resolution in pixels and the factor from there on; below the first it is 1.
    """

    def __init__(
        self, growth: Growth, factors: Sequence[tuple[int, float]], also: Callable[[int], float] | None = None
    ) -> None:
        self.growth, self.factors, self.also = growth, factors, also

    def __call__(self, images: int) -> float:
        """Return the factor after `images` images; a resolution is reached when its fade begins."""
        pixels = 4 << math.ceil(self.growth(images))
        factor = next((factor for least, factor in sorted(self.factors, reverse=True) if pixels >= least), 1.0)
        return factor * (self.also(images) if self.also else 1.0)
