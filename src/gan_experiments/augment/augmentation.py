"""The base of the augmentations, with all that a model calls of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

Draw = Callable[..., Tensor]
"""`draw(torch.rand, n, 1, 1, 1)` returns this rank's n rows of the numbers drawn for the whole batch."""


class Augmentation(nn.Module):
    """A differentiable augmentation of all that the discriminator sees.

    A subclass writes `forward(images, draw)`: images [N, C, H, W] -> [N, C, H, W], each random number from `draw`.
    One that adapts to the discriminator overrides the other methods too.
    """

    needs_zero_at_chance = False
    """Whether it uses the signs of the logits, so that a logit of 0 must mean a probability of one half."""

    def faults(self, channels: int) -> Iterator[str]:
        """Yield why images of so many channels cannot be augmented, a line each."""
        yield from ()

    def observe(self, real_logits: Tensor) -> None:
        """Record the discriminator's logits [n] of augmented real images; called once for each batch."""

    def adjust(self, batches: int) -> None:
        """Change the strength after a batch; `batches` counts all batches so far."""

    def follow(self, p: float) -> None:
        """Set the strength to p, if the augmentation has one and does not adjust it itself."""

    def numbers(self) -> dict[str, float]:
        """Return the numbers to record during training, by name."""
        return {}
