"""Lighter imports: what a training does not need of torch, torchmetrics and matplotlib is left until it is used.

`import lightning` imports torch's compiler, sympy, matplotlib and all of torchmetrics: half of the CPU time from a
command to its first step. Each function here leaves a part of that out and changes nothing else.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

TORCHMETRICS = {"Metric": "metric", "MetricCollection": "collections"}
COMPILER = "torch._dynamo"
NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
PLOTS = "torchmetrics.utilities.plot"


def lighten() -> None:
    """Make the imports of lightning and of torch's companions light; what was imported before stays as it is."""
    for name, early in (("torchmetrics", TORCHMETRICS), ("torchvision", {})):
        if name not in sys.modules:
            sys.modules[name] = _Later(name, early)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        plotting = dict.fromkeys(("torchmetrics.metric", "torchmetrics.collections"), _without_plots)
        sys.meta_path.insert(0, _Finder({"lightning": _lightning, **plotting}))


# -------------------------------------------------------------------- a package whose __init__ waits


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


# -------------------------------------------------------------------- modules that are imported without another


class _Finder(importlib.abc.MetaPathFinder):
    """A finder that executes some modules within a context manager: their names -> a function that makes it."""

    def __init__(self, within: dict[str, Callable[[], Any]]) -> None:
        self.within = within

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the spec that the other finders find, with the loader wrapped."""
        if name not in self.within:
            return None
        context = self.within.pop(name)  # so that the look-up below comes past here
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with context():
                    execute(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _stand_in(name: str, **names: Any) -> Iterator[None]:
    """Let a module with `names` stand in for another that was not imported yet, until the end of the `with`."""
    if name in sys.modules:
        yield
        return
    module = ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module
    try:
        yield
    finally:
        if sys.modules.get(name) is module:
            del sys.modules[name]


class _Compiled(type):
    """The class of a class whose instances are those of torch's OptimizedModule."""

    def __instancecheck__(cls, instance: object) -> bool:
        compiler = sys.modules.get(f"{COMPILER}.eval_frame")
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _OptimizedModule(metaclass=_Compiled):
    """What `torch.compile` makes of a module, for `isinstance` alone."""


class _Compiler(ModuleType):
    """Torch's compiler, which is imported only when more is asked of it than to leave a function alone.

    Optimizers and lightning ask for `disable` and `graph_break`, to keep a function out of code that is being compiled.
    Nothing is, as long as the compiler is not imported, so `disable` gives the function itself.
    """

    def __init__(self, spec: importlib.machinery.ModuleSpec) -> None:
        super().__init__(COMPILER)
        self.__spec__, self.__loader__, self.__file__ = spec, spec.loader, spec.origin
        self.OptimizedModule = _OptimizedModule
        self._names_alone = True
        """Whether `from torch._dynamo import ...` gets the names above without an import."""

    @staticmethod
    def disable(function: Any = None, *_: Any, **__: Any) -> Any:
        """Return the function as it is."""
        return function

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and (name != "__path__" or self._names_alone):
            raise AttributeError(name)
        spec = self.__spec__
        self.__class__ = ModuleType  # type: ignore[assignment]
        vars(self).pop("OptimizedModule", None)
        self.__path__ = spec.submodule_search_locations  # type: ignore[union-attr, assignment]
        spec.loader.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)


@contextlib.contextmanager
def _lightning() -> Iterator[None]:
    """Leave torch's compiler out of the import of lightning, and take back what this sets in the environment.

    It tells torch to load NVIDIA's library whenever it looks for a GPU. Adam looks at each step: 0.3 ms without a GPU.
    """
    typed = os.environ.get(NVML)
    with _without_compiler():
        yield
    if typed is None and not sys.modules["torch"].cuda.is_available():
        os.environ.pop(NVML, None)


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """Leave torch's compiler out until something is compiled."""
    spec = None if COMPILER in sys.modules else importlib.util.find_spec(COMPILER)
    if spec is None:
        yield
        return
    compiler = sys.modules[COMPILER] = _Compiler(spec)
    yield
    compiler._names_alone = False


def _without_plots() -> Any:
    """Leave matplotlib out, which torchmetrics imports for `Metric.plot`."""

    def plot_single_or_multi_val(*args: Any, **kwargs: Any) -> Any:
        return importlib.import_module(PLOTS).plot_single_or_multi_val(*args, **kwargs)

    return _stand_in(PLOTS, _AX_TYPE=Any, _PLOT_OUT_TYPE=Any, plot_single_or_multi_val=plot_single_or_multi_val)
