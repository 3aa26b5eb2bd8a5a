"""The base of the augmentations, with all that a model calls of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from gan_experiments.layers.clips import as_clips, as_frames, per_clip

Draw = Callable[..., Tensor]
"""`draw(torch.rand, n, 1, 1, 1)` returns this rank's n rows of the numbers drawn for the whole batch."""


class Augmentation(nn.Module):
    """A differentiable augmentation of all that the discriminator sees.

    A subclass writes `forward(images, draw)`: images [N, C, H, W] -> [N, C, H, W], each random number from `draw`.
    One that adapts to the discriminator overrides the other methods too.
    """

    needs_zero_at_chance = False
    """Whether it uses the signs of the logits, so that a logit of 0 must mean a probability of one half."""

    def each(self, samples: Tensor, draw: Draw) -> Tensor:
        """Augment images [N, C, H, W], or clips [N, C, T, H, W], whose frames are all augmented alike."""
        if samples.ndim == 4:
            return self(samples, draw)
        length = samples.shape[2]
        return as_clips(self(as_frames(samples), per_clip(draw, length)), length)

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
