"""Kinds of samples: their shape, their bounds, and how they are compared, shown, played and saved. Each is a class.

A data module sets `kind` for its samples, and a generator for the samples that it makes. Without it they are images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gan_experiments.kinds.clip import CLIP, FRAME_OF_CLIP, Clip
from gan_experiments.kinds.image import IMAGE, Bands, Image
from gan_experiments.kinds.kind import Kind
from gan_experiments.kinds.points import POINTS, Points, scatter
from gan_experiments.kinds.volume import VOLUME, Volume
from gan_experiments.kinds.wave import WAVE, Wave

__all__ = [
    "CLIP",
    "FRAME_OF_CLIP",
    "IMAGE",
    "KINDS",
    "POINTS",
    "VOLUME",
    "WAVE",
    "Bands",
    "Clip",
    "Image",
    "Kind",
    "Points",
    "Volume",
    "Wave",
    "kind_of",
    "named",
    "scatter",
]

KINDS: tuple[Kind, ...] = (IMAGE, POINTS, CLIP, VOLUME, WAVE)
"""One of each kind that is known by its name alone."""


def named(name: str, channels: int, rate: float = 0.0) -> Kind:
    """Return the kind of samples of a name; `channels` are those of bands, `rate` that of what has time."""
    return replace(next(kind for kind in (*KINDS, Bands.of(channels)) if kind.name == name), rate=rate)


def kind_of(owner: object) -> Kind:
    """Return the kind that a data module, a network or their class sets; IMAGE if it sets none."""
    return getattr(owner, "kind", IMAGE)


def state(kind: Kind) -> dict[str, Any]:
    """Return what a checkpoint holds of the kind of the data, in plain types."""
    bands = {"bands": list(kind.shown)} if isinstance(kind, Bands) else {}
    return bands | ({"rate": kind.rate} if kind.rate else {})


def restored(own: Kind, saved: Mapping[str, Any]) -> Kind:
    """Return the kind of the data whose `state` was saved; `own` is that of the generator."""
    if bands := saved.get("bands"):
        return Bands(shown=tuple(bands))
    return replace(own, rate=saved.get("rate", 0.0))
