"""Comparability of scores: two may be compared if their passports describe the same measurement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from gan_experiments import __version__
from gan_experiments.contracts import AS_THE_DATA

NO_MATTER = ("versions", "warnings")
"""The entries of a passport in which comparable scores may differ."""
UNSTATED = "not stated"


def versions(*libraries: str) -> dict[str, str]:
    """Return the versions of these libraries and of this package."""
    return {**{library: version(library) for library in libraries}, "gan-experiments": __version__}


def measurement(passport: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a passport that describe the measurement, without those that have the default meaning."""
    return {
        key: value
        for key, value in passport.items()
        if key not in NO_MATTER and (key, value) != ("labels", AS_THE_DATA)
    }


def unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the entries in which the measurements of two passports differ; if there are any, do not compare scores."""
    one, other = measurement(one), measurement(other)
    return [key for key in dict.fromkeys([*one, *other]) if one.get(key, UNSTATED) != other.get(key, UNSTATED)]


def doubts(passports: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return the warnings in the passports of these scores, a line each, which begins with the scores it is about."""
    of: dict[str, list[str]] = {}
    for name, passport in passports.items():
        for doubt in passport.get("warnings") or []:
            of.setdefault(doubt, []).append(name)
    return [f"{', '.join(names)}: {doubt}" for doubt, names in of.items()]


def short_name(passport: dict[str, Any]) -> str:
    """Return eight hex digits, equal for two passports whose scores may be compared."""
    return hashlib.sha256(json.dumps(measurement(passport), sort_keys=True).encode()).hexdigest()[:8]
