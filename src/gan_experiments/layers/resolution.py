"""Checks of the resolutions that a network can take or make."""

from __future__ import annotations

from torch import Tensor

from gan_experiments.contracts import ConfigError


def doublings_from_4(resolution: int, network: str, smallest: int = 16) -> int:
    """Return how many doublings lead from 4 pixels to `resolution`: 3 for 32, 4 for 64.

    `network` is the name for the error. Raises ConfigError unless `resolution` is a power of two from `smallest` on.
    """
    if resolution < smallest or resolution.bit_count() != 1:
        # The powers of two on both sides, or the smallest allowed.
        below = max(smallest, 1 << (max(resolution, 1).bit_length() - 1))
        choices = f"data.resolution={below}" + (f" or {2 * below}" if resolution > smallest else "")
        raise ConfigError(
            f"{network} cannot make a resolution of {resolution}: it needs a power of two from {smallest} on;"
            f" type {choices}"
        )
    return resolution.bit_length() - 3


def widths_of(channel_base: int, channel_max: int, doublings: int) -> list[int]:
    """Return the channels at 4 pixels, 8, 16, ...: min(channel_base / pixels, channel_max), at least 1.

    Karras et al. 2018, arXiv:1710.10196, appendix A, and the papers of StyleGAN.
    """
    return [min(max(channel_base // (4 << i), 1), channel_max) for i in range(doublings + 1)]


def require_sides(images: Tensor, multiple: int, network: str, smallest: int = 0) -> None:
    """Raise ConfigError unless both sides of images [N, C, H, W] are multiples of `multiple`, `smallest` or more.

    `network` is the name for the error.
    """
    height, width = images.shape[-2:]
    smallest = max(smallest, multiple)
    if height % multiple or width % multiple or min(height, width) < smallest:
        nearest = max(smallest, round(min(height, width) / multiple) * multiple)
        needed = f"that {multiple} divides, from {smallest} on" if multiple > 1 else f"of {smallest} pixels or more"
        raise ConfigError(
            f"{network} was given images of {height}x{width}: it needs sides {needed}; type data.resolution={nearest}"
        )


def require_multiple(resolution: int, multiple: int, network: str, instead: str = "") -> None:
    """Raise ConfigError unless `multiple` divides `resolution`.

    `network` is the name for the error. `instead` is an option that the message offers for keeping the resolution.
    """
    if resolution < multiple or resolution % multiple:
        other = f"data.resolution={max(1, round(resolution / multiple)) * multiple}"
        raise ConfigError(
            f"{network} cannot take a resolution of {resolution}: it needs one that {multiple} divides;"
            f" type {f'{instead} or {other}' if instead else other}"
        )


def require_resolution(images: Tensor, resolution: int, network: str) -> None:
    """Raise ConfigError unless images [N, C, H, W] have `resolution`; `network` is the name for the error."""
    height, width = images.shape[-2:]
    if (height, width) != (resolution, resolution):
        raise ConfigError(
            f"{network} was given images of {height}x{width}: it was made for {resolution}x{resolution};"
            f" type data.resolution={resolution}"
        )
