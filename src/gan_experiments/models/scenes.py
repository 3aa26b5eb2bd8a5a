"""Generators that render scenes: what cameras see of a latent, whatever the latent says of its own camera.

Such a generator has `seen(latents, cameras)`, which returns images, depths along the rays and opacities, and
`densities(latents, points)`, which are 0 or more, of points in the cube of side `box` around the origin. Samples of a
ray are about `step` apart. If it is told cameras these are its conditions; else it has `cameras(yaw, pitch)`, which see
the scene as its own do, and `own_cameras(z)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gan_experiments.cameras import angles_of
from gan_experiments.conditions import Cameras, Conditions
from gan_experiments.contracts import ConfigError

AROUND = math.radians(300)
"""From which spread of the data's cameras on a scene is taken to be seen from all sides."""


def renders(generator: Any) -> bool:
    """Return True if a generator renders scenes."""
    return hasattr(generator, "seen") and hasattr(generator, "densities")


def require(generator: Any, what: str) -> None:
    """Raise ConfigError, which begins with `what` was typed, if a generator renders no scenes."""
    if not renders(generator):
        raise ConfigError(
            f"{what}: {type(generator).__name__} draws images and no scenes to walk around; leave it out, or take a run"
            " of model=pi_gan or model=eg3d"
        )


def cameras_at(generator: Any, conditions: Conditions | None, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Return cameras [n, 25] at angles [n] in radians that a generator's scenes are seen from, see `cameras.on_sphere`.

    `conditions` are those of the model; distance and intrinsics are those of its data, or of its generator.
    """
    if isinstance(conditions, Cameras):
        return conditions.of_angles(yaw, pitch)
    return generator.cameras(yaw, pitch)


def usual_angles(generator: Any, conditions: Conditions | None) -> tuple[float | None, float]:
    """Return from where a generator's scenes are usually seen: the greatest yaw, and the middle pitch, in radians.

    The yaw is None if they are seen from all sides.
    """
    if isinstance(conditions, Cameras):
        yaw, pitch = angles_of(conditions.rows)
        spread = (yaw.max() - yaw.min()).item()
        return None if spread >= AROUND else max(spread / 2, 0.2), pitch.mean().item()
    spread = generator.yaw * (2 if generator.law == "normal" else 1)
    return None if 2 * spread >= AROUND else spread, float(generator.elevation)


def at_degrees(given: Any, key: str = "camera") -> tuple[Tensor, Tensor]:
    """Return the angles [1] in radians of what was typed as `key`, [yaw,pitch] in degrees. Raises ConfigError."""
    angles = [] if isinstance(given, str) or not isinstance(given, Iterable) else [*given]
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in angles)
    if len(angles) != 2 or not numbers or abs(angles[1]) >= 90:
        raise ConfigError(
            f"{key}={given}: a camera's yaw to the right and pitch above the horizon, below 90, are needed in degrees;"
            f" type for example {key}=[30,15]"
        )
    yaw, pitch = (torch.tensor([math.radians(float(one))]) for one in angles)
    return yaw, pitch
