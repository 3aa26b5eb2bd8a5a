"""Clips [N, C, T, H, W] as the images that their frames are, and random numbers that all frames of a clip share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gan_experiments.layers.dropout import Draw


def as_frames(clips: Tensor) -> Tensor:
    """Return the frames of clips `[N, C, T, H, W]`, those of each clip in a row, `[N · T, C, H, W]`."""
    return clips.transpose(1, 2).flatten(0, 1)


def as_clips(frames: Tensor, length: int) -> Tensor:
    """Return clips of `length` frames, `[N · T, C, H, W]` -> `[N, C, T, H, W]`."""
    return frames.unflatten(0, (-1, length)).transpose(1, 2)


def per_clip(draw: Draw, length: int) -> Draw:
    """Return a `draw` for the N · T frames of clips of `length` frames, whose frames all get the same numbers."""

    def repeated(sampler: Any, n: int, *shape: int, shared: bool = False) -> Tensor:
        if shared:
            return draw(sampler, n, *shape, shared=True)
        return draw(sampler, n // length, *shape).repeat_interleave(length, dim=0)

    return repeated
