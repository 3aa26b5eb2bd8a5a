"""GAN experiments on PyTorch Lightning: see `run.py`.

`import gan_experiments as gx` imports no torch. `gx.train(["model=dcgan"], data=my_dataset)` trains: docs/python.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from gan_experiments.imports import lighten

if TYPE_CHECKING:
    from gan_experiments.api import train as train
    from gan_experiments.contracts import ConfigError as ConfigError
    from gan_experiments.contracts import TrainingFailure as TrainingFailure

lighten()

LATER = {"train": "api", "ConfigError": "contracts", "TrainingFailure": "contracts"}
"""Names that are imported when they are first used, each with its module."""


def __getattr__(name: str) -> Any:
    """Import one of LATER."""
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{LATER[name]}"), name)


def __dir__() -> list[str]:
    """List what there is, and what is imported when it is used."""
    return sorted({*globals(), *LATER})
