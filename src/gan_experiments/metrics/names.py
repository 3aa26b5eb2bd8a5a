"""The scores by name: the classes found in `measures/`, which are imported on first use."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from gan_experiments.metrics.metric import GenerativeMetric

ALSO = {"fad": "fid"}
"""Other names of scores: of sounds FID is called FAD, the Frechet audio distance (Kilgour et al. 2019)."""
MEASURES = "gan_experiments.metrics.measures"


@cache
def classes() -> dict[str, type[GenerativeMetric]]:
    """Return all classes of scores by class name."""
    from gan_experiments.metrics.metric import GenerativeMetric

    found = {}
    for file in pkgutil.iter_modules(importlib.import_module(MEASURES).__path__, f"{MEASURES}."):
        for kind in vars(importlib.import_module(file.name)).values():
            if isinstance(kind, type) and issubclass(kind, GenerativeMetric) and kind.__module__ == file.name:
                found[kind.__name__] = kind
    return {name: kind for name, kind in found.items() if kind.scores}


@cache
def scores() -> dict[str, type[GenerativeMetric]]:
    """Return the class of each score by the score's short name: "fid", ..."""
    return {score: kind for kind in classes().values() for score in kind.scores}


def of(*kinds: str) -> list[str]:
    """Return the short names of the scores computed from "features", "neighbours", "logits", ..."""
    return [score for score, kind in scores().items() if kind.of in kinds]


def class_of(name: str) -> type[GenerativeMetric] | None:
    """Return the class of a score by its reported name, "fid", "intra_fid_digits", ...; None if there is no such score.

    A reported name is the short name, with any details after an underscore.
    """
    name = name.removeprefix("intra_")
    first, _, rest = name.partition("_")
    name = f"{ALSO.get(first, first)}_{rest}" if rest else ALSO.get(first, first)
    fitting = [score for score in scores() if name == score or name.startswith(f"{score}_")]
    return scores()[max(fitting, key=len)] if fitting else None


def higher_is_better(name: str) -> bool:
    """Return True if higher is better for the score `name` ("fid", "is_digits", ...); it is not for a distance."""
    kind = class_of(name)
    return bool(kind and kind.higher_is_better)


def published_with(extractor: str) -> tuple[str, ...]:
    """Return the scores that papers report with the extractor of that name."""
    return tuple(score for score, kind in scores().items() if kind.published_with == extractor)


def collection(names: Sequence[str], constants: Mapping[str, Any] | None = None) -> MetricCollection:
    """Return the metrics that compute these scores; those of features share the features and are computed together.

    `constants` are the metrics' arguments by their keys in a config, see `GenerativeMetric.keys`.
    """
    from gan_experiments.metrics.metric import Together

    given = constants or {}
    made: dict[str, Any] = {}
    for kind in dict.fromkeys(scores()[name] for name in names):
        arguments = {parameter: given[key] for parameter, key in kind.keys.items() if key in given}
        metric = kind(scores=[name for name in names if name in kind.scores], **arguments)
        made["_".join(metric.chosen)] = metric
    shared = [name for name, metric in made.items() if metric.of in ("features", "neighbours")]
    groups = [*([shared] if shared else []), *([name] for name in made if name not in shared)]
    return Together(made, compute_groups=groups)
