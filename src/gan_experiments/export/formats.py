"""The formats of exported files: how each is written and read.

A reader returns the metadata and what computes the output from inputs by name.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.export import metadata as described
from gan_experiments.export import weights
from gan_experiments.export.half import HalfStored
from gan_experiments.export.signature import Rows, Wrapped
from gan_experiments.export.twin import separate_

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
"""The suffix of each format's files, by which they are opened."""
PACKAGES = {"onnx": "onnx onnxscript onnxruntime", "safetensors": "safetensors"}
Call = Callable[[Rows], Tensor]
LARGEST = 2**31 - 1  # bytes of a file of protocol buffers


def write(wraps: Sequence[Wrapped], metadata: dict[str, Any], path: Path, form: str) -> None:
    """Write a file of a format, of one module, or of the weights of several.

    Raises ConfigError if a module cannot be written so, or a package is missing.
    """
    with needing(form):
        if form == "safetensors":
            weights.write(wraps, metadata, path)
        else:
            {"onnx": _write_onnx, "torch": _write_torch}[form](wraps[0], metadata, path)


@contextlib.contextmanager
def needing(form: str) -> Iterator[None]:
    """Turn the error about a package that is not installed into one line."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"format={form}: {error.name or error} is not installed; type pip install {PACKAGES.get(form, 'torch')}"
        ) from error


# -------------------------------------------------------------------- torch.export


def _traced(wrapped: Wrapped, half: bool) -> torch.export.ExportedProgram:
    """Trace the module, with any batch size and, where inputs say so, any height and width."""
    separate_(wrapped.module)
    module = HalfStored(wrapped.module) if half else wrapped.module
    dims = {name: torch.export.Dim(name, min=least) for name, least in wrapped.least.items()}

    def free(shape: tuple[int | str, ...]) -> dict[int, Any]:
        named = {place: part.rpartition("*") for place, part in enumerate(shape) if isinstance(part, str)}
        return {place: int(factor or 1) * dims[name] for place, (factor, _, name) in named.items()}

    example = tuple(port.example(**wrapped.sizes) for port in wrapped.inputs)
    shapes = (tuple(free(port.shape) for port in wrapped.inputs),)
    with torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)


def _write_torch(wrapped: Wrapped, metadata: dict[str, Any], path: Path) -> None:
    program = _traced(wrapped, metadata["half"])
    program._example_inputs = None  # zeros, as large as images
    torch.export.save(program, path, extra_files={described.KEY: json.dumps(metadata)})


def read_torch(path: Path, given: str) -> tuple[dict[str, Any], Call]:
    """Read a file of `torch.export`. Opening one can run code that is in it: only the trusted may come here."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(one for one in archive.namelist() if one.endswith(f"/extra/{described.KEY}"))
            text = archive.read(name).decode()
    except (OSError, zipfile.BadZipFile, StopIteration, UnicodeDecodeError):
        text = ""
    metadata = described.read(text, given)
    try:
        module = torch.export.load(path).module()
    except Exception as error:  # a damaged file can raise anything
        raise ConfigError(f"{given}: cannot be read ({_short(error)}); type another one") from error
    names = [port.name for port in described.ports_of(metadata)]

    def call(rows: Rows) -> Tensor:
        with torch.no_grad():
            return module(*(rows[name] for name in names))

    return metadata, call


# -------------------------------------------------------------------- ONNX


def _write_onnx(wrapped: Wrapped, metadata: dict[str, Any], path: Path) -> None:
    import onnx
    import onnxruntime  # noqa: F401  the gate will need it
    import onnxscript  # noqa: F401

    with _quiet():
        program = torch.onnx.export(
            _traced(wrapped, metadata["half"]),
            (),
            input_names=[port.name for port in wrapped.inputs],
            output_names=[wrapped.output.name],
            dynamo=True,
            verbose=False,
            optimize=not metadata["half"],  # it would widen small weights again; ONNX Runtime optimises by itself
        )
    assert program is not None, "no file was named"
    model = program.model_proto
    model.doc_string = described.described(metadata)
    model.producer_name = metadata["made_by"]
    onnx.helper.set_model_props(model, {described.KEY: json.dumps(metadata), "licence": metadata["licence"]})
    _name_sizes(model.graph, wrapped)
    ports = {port.name: port.meaning for port in (*wrapped.inputs, wrapped.output)}
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = ports[value.name]
    if model.ByteSize() > LARGEST:
        raise ConfigError("format=onnx holds 2 GB at most; type half=true, or format=torch")
    path.write_bytes(model.SerializeToString())


def _name_sizes(graph: Any, wrapped: Wrapped) -> None:
    """Call sizes n, h and w throughout, which torch has numbered ("s47")."""
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)}
    names = {
        dim.dim_param.rpartition("*")[2]: str(part).rpartition("*")[2]
        for port in wrapped.inputs
        for dim, part in zip(shapes[port.name], port.shape, strict=True)
        if dim.dim_param
    }
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda found: names.get(found[0], found[0]), dim.dim_param)


def read_onnx(path: Path, given: str, threads: int = 1) -> tuple[dict[str, Any], Call]:
    """Read an ONNX file for ONNX Runtime, on the CPU with so many threads. No code of the file is run."""
    with needing("onnx"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of ONNX Runtime's own classes
        raise ConfigError(f"{given}: cannot be read ({_short(error)}); type another one") from error
    metadata = described.read(session.get_modelmeta().custom_metadata_map.get(described.KEY), given)
    names = [port.name for port in described.ports_of(metadata)]

    def call(rows: Rows) -> Tensor:
        return torch.from_numpy(session.run(None, {name: rows[name].numpy() for name in names})[0])

    return metadata, call


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says of its own steps from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
