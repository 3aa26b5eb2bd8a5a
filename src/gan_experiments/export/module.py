"""The module that a file is made of: a trained model with its pre- and post-processing."""

from __future__ import annotations

from typing import Any

from gan_experiments.engine.module import AdversarialModule
from gan_experiments.export import generators, translators
from gan_experiments.export.signature import Options, Wrapped
from gan_experiments.models.image_to_image import ImageToImage
from gan_experiments.models.noise_to_image import NoiseToImage


def wrap(model: AdversarialModule, data: Any, options: Options) -> Wrapped:
    """Return the module to export of a trained model, and what it is tried with; the model stays as it is.

    `data` is the config of the model's data. Raises ConfigError for options that the model does not have.
    """
    if isinstance(model, NoiseToImage):
        return generators.wrapped(model, options)
    assert isinstance(model, ImageToImage), "every variant is of one of the two families"
    return translators.wrapped(model, data, options)


def ways(model: AdversarialModule) -> list[str | None]:
    """Return the values of `to` with which all networks that generate are used: one, or each of several directions."""
    if isinstance(model, ImageToImage) and all(way.number is None for way in model.directions.values()):
        return list(model.directions)
    return [None]
