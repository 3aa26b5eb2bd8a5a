"""When two scores may be compared: all that their passports say of the measurement is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from gan_experiments import __version__
from gan_experiments.contracts import AS_THE_DATA

NO_MATTER = ("versions", "warnings")
"""What a passport says and two scores may differ in."""
UNSTATED = "not stated"


def versions(*libraries: str) -> dict[str, str]:
    """The versions of what a score was computed with, this package's among them."""
    return {**{library: version(library) for library in libraries}, "gan-experiments": __version__}


def measurement(passport: dict[str, Any]) -> dict[str, Any]:
    """What a passport says of the measurement, and does not go without saying."""
    return {
        key: value
        for key, value in passport.items()
        if key not in NO_MATTER and (key, value) != ("labels", AS_THE_DATA)
    }


def unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The fields in which two measurements differ; scores with any are not to be compared."""
    one, other = measurement(one), measurement(other)
    return [key for key in dict.fromkeys([*one, *other]) if one.get(key, UNSTATED) != other.get(key, UNSTATED)]


def doubts(passports: Mapping[str, dict[str, Any]]) -> list[str]:
    """What speaks against trusting scores, of their passports by name: a line each, with the scores that it is of."""
    of: dict[str, list[str]] = {}
    for name, passport in passports.items():
        for doubt in passport.get("warnings") or []:
            of.setdefault(doubt, []).append(name)
    return [f"{', '.join(names)}: {doubt}" for doubt, names in of.items()]


def short_name(passport: dict[str, Any]) -> str:
    """Eight letters that two passports share when their scores may be compared."""
    return hashlib.sha256(json.dumps(measurement(passport), sort_keys=True).encode()).hexdigest()[:8]
