"""An export from its beginning to its end: wrap, write, compare with the run, and only then keep the file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_experiments import files
from gan_experiments.contracts import ConfigError
from gan_experiments.export import formats, half, metadata, parity, weights
from gan_experiments.export.module import ways, wrap
from gan_experiments.export.parity import Difference
from gan_experiments.export.signature import Options, Rows, Wrapped
from gan_experiments.export.twin import widened
from gan_experiments.inference.run import Run


@dataclass(frozen=True)
class Made:
    """What an export has found: how far the file is from the run, and the time for one image on one core, in ms.

    `loss` is what float16 weights change, and float32 where the run computes in half precision; None without either.
    """

    metadata: dict[str, Any]
    difference: Difference
    loss: Difference | None
    run_ms: float
    file_ms: float


def export(run: Run, options: Options, path: Path, form: str, licence: str | None = None) -> Made:
    """Write a file of a run, which stays as it is, and compare the two.

    Raises ConfigError, and leaves no file, if the options do not suit the model, it cannot be written in this format,
    or the file differs from the run by more than is allowed.
    """
    if form == "safetensors":
        options.refuse("a file of weights alone has no inputs", "pixels", "layout", "truncation", "to", "size", "noise")
        options.refuse("a file of weights alone has no inputs", "seed")
    model: Any = run.model
    several = ways(model) if form == "safetensors" else [options.to]
    wraps = [wrap(model, run.cfg.data, replace(options, to=to)) for to in several]
    changed = options.half or any(widened(model, wrapped.twin.network_names) for wrapped in wraps)
    losses = []
    for wrapped in wraps if changed else ():
        if options.half:
            half.round_(wrapped.module)
        losses.append(parity.difference(wrapped, _of_twin(wrapped), _of_run(wrapped, model, options)))
    described = metadata.of(run, wraps[0], options, licence, whole=form == "safetensors")
    if form == "safetensors":
        described |= {weights.SAVED: weights.saved_of(model)}
    with _kept(path) as unfinished:
        try:
            formats.write(wraps, described, unfinished, form)
        except ConfigError:
            raise
        except Exception as error:  # torch's exporters raise many kinds
            raise ConfigError(f"{type(model).__name__} cannot be written so ({_short(error)})") from error
        found = []
        for wrapped in wraps:
            call = _opened(wrapped, unfinished, form)
            reference = _of_twin(wrapped) if changed else _of_run(wrapped, model, options)
            found.append(parity.difference(wrapped, call, reference))
            parity.require(found[-1], wrapped.bound)
        first = wrapped.cases[0]
        times = [parity.milliseconds(partial(one, first)) for one in (_of_run(wrapped, model, options), call)]
    worst, loss = (max(some, key=lambda one: one.largest, default=None) for some in (found, losses))
    assert worst is not None, "there is one way at least"
    return Made(described, worst, loss, *times)


@contextlib.contextmanager
def _kept(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file is kept at the end if nothing is raised; else no folder is left either."""
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    try:
        with files.whole(path) as unfinished:
            yield unfinished
    except BaseException:
        files.remove_empty(missing)
        raise


def _result(wrapped: Wrapped, model: Any, ema: bool) -> Callable[[Rows], Tensor]:
    """Return what gives a model's results in the form of the file's."""
    return lambda rows: wrapped.finish(wrapped.made(model, ema, rows))


def _of_run(wrapped: Wrapped, model: Any, options: Options) -> Callable[[Rows], Tensor]:
    return _result(wrapped, model, options.ema)


def _of_twin(wrapped: Wrapped) -> Callable[[Rows], Tensor]:
    """Return what gives the results in float32, of rounded weights if they are to be float16."""
    return _result(wrapped, wrapped.twin, False)


def _opened(wrapped: Wrapped, path: Path, form: str) -> Callable[[Rows], Tensor]:
    """Return what computes the output from the inputs, as whoever opens the file would have it."""
    if form == "safetensors":
        return _result(wrapped, weights.read(path, path.name)[1], False)
    return {"onnx": formats.read_onnx, "torch": formats.read_torch}[form](path, path.name)[1]


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
