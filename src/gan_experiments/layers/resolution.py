"""Checks of the resolutions that a network can take or make."""

from __future__ import annotations

from torch import Tensor

from gan_experiments.bounds import Resolution, settled, shown, sides
from gan_experiments.contracts import ConfigError


def doublings_from_4(resolution: Resolution, network: str, smallest: int = 16) -> int:
    """Return how many doublings lead from 4 pixels to `resolution`: 3 for 32, 4 for 64; of a rectangle's shorter side.

    `network` is the name for the error. Raises ConfigError unless the shorter side is a power of two from `smallest`
    on, and the longer one halves as often.
    """
    height, width = sides(resolution)
    short, long = sorted((height, width))
    quarter = max(short // 4, 1)
    if short >= smallest and short.bit_count() == 1 and long % quarter == 0:
        return short.bit_length() - 3
    # The powers of two on both sides, or the smallest allowed.
    below = max(smallest, 1 << (max(short, 1).bit_length() - 1))
    if height == width:
        needed, given = f"a power of two from {smallest} on", f"{height}"
        choices = f"{below}" + (f" or {2 * below}" if height > smallest else "")
    else:
        needed = (
            f"a shorter side that is a power of two from {smallest} on, and a longer one that a quarter of it divides"
        )
        longer = max(below, round(long / (below // 4)) * (below // 4))
        given, choices = shown([height, width]), shown([below, longer] if height < width else [longer, below])
    raise ConfigError(
        f"{network} cannot make a resolution of {given}: it needs {needed}; type data.resolution={choices}"
    )


def start_of(resolution: Resolution, doublings: int) -> tuple[int, int]:
    """Return height and width before so many doublings: (4, 16) for [64, 256] before 4."""
    height, width = sides(resolution)
    return height >> doublings, width >> doublings


def halvings_of(resolution: Resolution, network: str) -> int:
    """Return how often a U-Net can halve both sides of `resolution`: 6 for 64, down to 1x1; 6 for [64, 256], to 1x4.

    Raises the errors of `doublings_from_4`.
    """
    doublings = doublings_from_4(resolution, network)
    height, width = start_of(resolution, doublings)
    while height % 2 == width % 2 == 0:
        height, width, doublings = height // 2, width // 2, doublings + 1
    return doublings


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
    if height % multiple or width % multiple or height < smallest or width < smallest:
        nearest = settled([max(smallest, round(side / multiple) * multiple) for side in (height, width)])
        needed = f"that {multiple} divides, from {smallest} on" if multiple > 1 else f"of {smallest} pixels or more"
        raise ConfigError(
            f"{network} was given images of {height}x{width}: it needs sides {needed}; type"
            f" data.resolution={shown(nearest)}"
        )


def require_multiple(resolution: Resolution, multiple: int, network: str, instead: str = "") -> None:
    """Raise ConfigError unless `multiple` divides `resolution`, of a rectangle both sides.

    `network` is the name for the error. `instead` is an option that the message offers for keeping the resolution.
    """
    size = sides(resolution)
    if any(side < multiple or side % multiple for side in size):
        other = f"data.resolution={shown(settled([max(1, round(side / multiple)) * multiple for side in size]))}"
        raise ConfigError(
            f"{network} cannot take a resolution of {shown(settled(size))}: it needs one that {multiple} divides;"
            f" type {f'{instead} or {other}' if instead else other}"
        )


def require_resolution(images: Tensor, resolution: Resolution, network: str) -> None:
    """Raise ConfigError unless images [N, C, H, W] have `resolution`; `network` is the name for the error."""
    height, width = images.shape[-2:]
    tall, wide = sides(resolution)
    if (height, width) != (tall, wide):
        raise ConfigError(
            f"{network} was given images of {height}x{width}: it was made for {tall}x{wide};"
            f" type data.resolution={shown(settled(resolution))}"
        )
