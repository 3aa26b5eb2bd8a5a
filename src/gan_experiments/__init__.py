"""GAN experiments on PyTorch Lightning: see `run.py`.

`import gan_experiments as gx` imports no torch. `gx.train(["model=dcgan"], data=my_dataset)` trains,
`gx.load("latest")` opens what was trained, `gx.evaluate` scores: docs/python.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from gan_experiments.imports import lighten

if TYPE_CHECKING:
    from gan_experiments import metrics as metrics
    from gan_experiments.api import evaluate as evaluate
    from gan_experiments.api import load as load
    from gan_experiments.api import train as train
    from gan_experiments.contracts import ConfigError as ConfigError
    from gan_experiments.contracts import TrainingFailure as TrainingFailure
    from gan_experiments.inference.run import Run as Run
    from gan_experiments.metrics.evaluator import Score as Score

lighten()

LATER = {
    "train": "api",
    "load": "api",
    "evaluate": "api",
    "metrics": "metrics",
    "Run": "inference.run",
    "Score": "metrics.evaluator",
    "ConfigError": "contracts",
    "TrainingFailure": "contracts",
}
"""Names that are imported when they are first used, each with its module; `metrics` is one itself."""


def __getattr__(name: str) -> Any:
    """Import one of LATER."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{LATER[name]}")
    return module if name == LATER[name] else getattr(module, name)


def __dir__() -> list[str]:
    """List what there is, and what is imported when it is used."""
    return sorted({*globals(), *LATER})
