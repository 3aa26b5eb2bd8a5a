"""When two scores may be compared: all that their passports say of the measurement is the same."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import Any

from gan_experiments import __version__

NO_MATTER = ("versions", "warnings")
"""What a passport says and two scores may differ in."""
UNSTATED = "not stated"


def versions(*libraries: str) -> dict[str, str]:
    """The versions of what a score was computed with, this package's among them."""
    return {**{library: version(library) for library in libraries}, "gan-experiments": __version__}


def measurement(passport: dict[str, Any]) -> dict[str, Any]:
    """What a passport says of the measurement."""
    return {key: value for key, value in passport.items() if key not in NO_MATTER}


def unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The fields in which two measurements differ; scores with any are not to be compared."""
    one, other = measurement(one), measurement(other)
    return [key for key in dict.fromkeys([*one, *other]) if one.get(key, UNSTATED) != other.get(key, UNSTATED)]


def short_name(passport: dict[str, Any]) -> str:
    """Eight letters that two passports share when their scores may be compared."""
    return hashlib.sha256(json.dumps(measurement(passport), sort_keys=True).encode()).hexdigest()[:8]
