"""Which resolutions a pyramid of doublings can make."""

from __future__ import annotations

from gan_experiments.contracts import ConfigError


def doublings_from_4(resolution: int, network: str, smallest: int = 16) -> int:
    """How often 4 pixels must be doubled to reach `resolution`: 3 for 32, 4 for 64.

    `network` is the name for the error. Raises ConfigError unless `resolution` is a power of two from `smallest` on.
    """
    if resolution < smallest or resolution.bit_count() != 1:
        # The nearest power of two, by ratio below and above alike.
        below = max(smallest, 1 << (max(resolution, 1).bit_length() - 1))
        choices = f"data.resolution={below}" + (f" or {2 * below}" if resolution > smallest else "")
        raise ConfigError(
            f"{network} cannot make a resolution of {resolution}: it needs a power of two from {smallest} on;"
            f" type {choices}"
        )
    return resolution.bit_length() - 3
