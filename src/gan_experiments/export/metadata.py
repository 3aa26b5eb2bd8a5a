"""What an exported file says of itself, as JSON: what it is, what its inputs mean, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gan_experiments import __version__
from gan_experiments.contracts import ConfigError
from gan_experiments.export.signature import Options, Port, Wrapped
from gan_experiments.inference.contract import Facts
from gan_experiments.inference.run import Run
from gan_experiments.models.image_to_image import LABEL, Direction

KEY = "gan_experiments"
"""The name of the metadata in a file."""
FORMAT = 1
"""The version of the metadata; a file of a later one is refused."""
NOT_STATED = "not stated"


def of(run: Run, wrapped: Wrapped, options: Options, licence: str | None, whole: bool = False) -> dict[str, Any]:
    """Return the metadata of a file that is exported from a run, in plain types.

    `whole` is for files of weights, which have all directions.
    """
    facts = asdict(run.facts)
    to, size = wrapped.told.get("direction"), wrapped.told.get("size")
    if to is not None and not whole:
        facts["directions"] = _directions(facts["directions"], to)
    if size:
        facts["resolution"] = size
    return {
        "format": FORMAT,
        "made_by": f"gan_experiments {__version__}",
        "run": run.name,
        "checkpoint_sha256": run.checkpoint,
        "licence": licence or NOT_STATED,
        "facts": facts,
        "inputs": [asdict(port) for port in wrapped.inputs],
        "output": asdict(wrapped.output),
        "pixels": options.pixels,
        "layout": options.layout,
        "averaged": bool(options.ema and run.model.averages),
        "half": options.half,
        **(wrapped.told if not whole else {}),
    }


def _directions(directions: Mapping[str, Any], to: str) -> dict[str, Any]:
    """Return the directions that a file knows: one, or with labels all that have numbers."""
    if to != LABEL:
        return {to: directions[to]}
    return {name: way for name, way in directions.items() if way["number"] is not None}


def described(metadata: Mapping[str, Any]) -> str:
    """Return what an exported file is, in one line."""
    facts = metadata["facts"]
    what = "draws" if facts["task"] == "sample" else f"turns into {metadata.get('direction') or 'others'}:"
    return f"{facts['model']} after {facts['images_seen']:,} images, {what} {facts['kind']}"


def read(text: str | None, given: str) -> dict[str, Any]:
    """Return the metadata of a file, checked. Raises ConfigError, which begins with `given`, if it has none of ours."""
    try:
        metadata: Any = json.loads(text or "")
        facts_of(metadata)
        ports_of(metadata)
        form, pixels, layout = (metadata[key] for key in ("format", "pixels", "layout"))
        known = pixels in ("uint8", "float") and layout in ("nhwc", "nchw") and type(form) is int
        if not known or not isinstance(metadata["checkpoint_sha256"], str):
            raise ValueError
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(f"{given}: not a file that `gan-experiments export` wrote; type another one") from error
    if form > FORMAT:
        raise ConfigError(f"{given}: {metadata.get('made_by')} wrote it, in a form that only a later version can read")
    return dict(metadata)


def facts_of(metadata: Mapping[str, Any]) -> Facts:
    """Return the facts of an exported model."""
    plain = dict(metadata["facts"])
    plain["directions"] = {
        str(name): Direction(**{**way, "also": tuple(way["also"])}) for name, way in plain["directions"].items()
    }
    for key in ("resolution", "values", "classes", "counts", "words"):
        plain[key] = tuple(plain[key]) if isinstance(plain[key], list) else plain[key]
    plain["cameras"] = tuple(tuple(map(float, camera)) for camera in plain.get("cameras", ()))
    return Facts(**plain)


def ports_of(metadata: Mapping[str, Any]) -> list[Port]:
    """Return the inputs of an exported file, in order."""
    return [Port(**{**port, "shape": tuple(port["shape"])}) for port in metadata["inputs"]]
