"""Lazy imports of what a training does not need."""

import importlib
import importlib.util
import logging
import sys
from types import ModuleType
from typing import Any

TORCHMETRICS = {"Metric": "metric", "MetricCollection": "collections"}


class _Later(ModuleType):
    """A package whose `__init__` is executed only when a name that is not in `early` is first accessed.

    Args:
        early: names that are imported without it, each with the submodule that defines it.
    """

    def __init__(self, name: str, early: dict[str, str]) -> None:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        super().__init__(name)
        self.__spec__, self.__loader__, self.__file__ = spec, spec.loader, spec.origin
        self.__path__ = spec.submodule_search_locations
        self._logger = logging.getLogger(name)
        self._early = early

    def __getattr__(self, name: str) -> Any:
        if name in self._early:
            importlib.import_module(f"{self.__name__}.utilities")
            return getattr(importlib.import_module(f"{self.__name__}.{self._early[name]}"), name)
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__loader__.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)


def torchmetrics_later() -> None:
    """Make `import lightning` import only the two classes of torchmetrics that it uses.

    The `__init__` of torchmetrics imports all of its metrics, and with them scipy.signal and torchvision: a fifth of
    the CPU time of `import lightning`. It is still executed when any other name is accessed.
    """
    if "torchmetrics" not in sys.modules:
        sys.modules["torchmetrics"] = _Later("torchmetrics", TORCHMETRICS)
