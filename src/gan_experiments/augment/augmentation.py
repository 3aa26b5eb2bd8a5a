"""The base of the augmentations: what a model does with one beside showing it images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Draw = Callable[..., Tensor]
"""`draw(torch.rand, n, 1, 1, 1)` gives this rank's n rows of the numbers drawn for the whole batch."""


class Augmentation(nn.Module):
    """A differentiable augmentation of all that the discriminator sees.

    A subclass writes `forward(images, draw)`: images [N, C, H, W] -> [N, C, H, W], each random number from `draw`.
    One that follows the discriminator overwrites the rest too.
    """

    needs_zero_at_chance = False
    """Whether it reads the signs of the logits, so that a logit of 0 must mean a probability of one half."""

    def observe(self, real_logits: Tensor) -> None:
        """Take note of the logits [n] of augmented real images; called once for each batch."""

    def adjust(self, batches: int) -> None:
        """Change its strength after the last of `batches` batches in all."""

    def follow(self, p: float) -> None:
        """Take p as its strength, where it has one that nothing else moves."""

    def numbers(self) -> dict[str, float]:
        """Return what is recorded while it trains, by name."""
        return {}
