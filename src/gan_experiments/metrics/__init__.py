"""One feature pass, many scores: `from gan_experiments.metrics import FrechetDistance`, or `collection(["fid", "is"])`.

The scores are `torchmetrics.Metric`s; torch is imported once one is asked for.
"""

from typing import Any

from gan_experiments.metrics.names import classes, collection, higher_is_better

__all__ = ["collection", "higher_is_better"]


def __getattr__(name: str) -> Any:
    """Return the class of a score by its name: see `measures`."""
    if name[0].isupper() and name in classes():
        return classes()[name]
    raise AttributeError(f"module {__name__} has no attribute {name}")


def __dir__() -> list[str]:
    """List the classes too."""
    return sorted([*globals(), *classes()])
