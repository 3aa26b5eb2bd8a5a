"""Scores of generated images, computed from shared features; each is a `torchmetrics.Metric` for any Lightning module.

    from gan_experiments.metrics import FrechetDistance, collection

    self.fid = FrechetDistance()                                     # in __init__
    self.fid.update(features_of(images), real=True)                  # in validation_step, [n, D]
    self.fid.update(features_of(fakes), real=False)
    self.log("fid", self.fid)

`collection(["fid", "kid", "is"])` is a `MetricCollection` of several scores that share the features. torch is imported
only when a score is first used.
"""

from typing import Any

from gan_experiments.metrics.names import classes, collection, higher_is_better

__all__ = ["collection", "higher_is_better"]


def __getattr__(name: str) -> Any:
    """Return a score's class by its name, such as `FrechetDistance`; the classes are in `measures`."""
    if name[0].isupper() and name in classes():
        return classes()[name]
    raise AttributeError(f"module {__name__} has no attribute {name}")


def __dir__() -> list[str]:
    """List the module's names and the classes of the scores."""
    return sorted([*globals(), *classes()])
