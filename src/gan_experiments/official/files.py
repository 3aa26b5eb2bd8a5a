"""Reading of weights that NVIDIA's StyleGAN2-ADA and EG3D have written, without running any code from the file.

Its `network-snapshot-*.pkl` and published `*.pkl` are Python pickles. They contain code of their author, which runs
when they are opened in the usual way. The unpickler here knows only tensors, plain containers and numbers, and reads a
network as a tree of named tensors. It refuses a pickle that asks for anything else.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

from gan_experiments.contracts import ConfigError
from gan_experiments.files import require_unpacked

NETWORKS = ("G", "D", "G_ema")
State = dict[str, Tensor]


@dataclass
class Network:
    """A network in a file: its parameters and buffers by name, and if known its arguments and other attributes."""

    state: State
    arguments: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path, key: str) -> dict[str, Network]:
    """Return the networks in a file by NVIDIA's names: those of "G_ema", "G" and "D" that it has.

    The file is a pickle of NVIDIA's (.pkl), or plain tensors: `torch.save` of a state dict or of several under these
    names, or safetensors whose names begin with one of these ("G_ema.synthesis.b4.const"). Tensors without such a name
    belong to G_ema. Raises ConfigError, which names the option `key`, for any other file.
    """
    if not path.is_file():
        raise ConfigError(f"{key}={path}: there is no such file; type {key}= a .pkl, .pt or .safetensors file")
    readers: dict[str, Callable[[Path], dict[str, Network]]] = {".pkl": _pickled, ".safetensors": _safetensors}
    try:
        networks = readers.get(path.suffix.lower(), _plain)(path)
    except ConfigError as error:
        raise ConfigError(f"{key}={path}: {error}") from error
    except Exception as error:  # a damaged file can raise anything
        raise ConfigError(
            f"{key}={path}: cannot be read ({' '.join(str(error).split())[:120]}); type {key}= a .pkl of"
            " StyleGAN2-ADA's, or a state dict as .pt or .safetensors"
        ) from error
    if not {"G_ema", "G"} & set(networks):
        raise ConfigError(f"{key}={path}: holds no generator (G_ema or G); type {key}= another file")
    return networks


def _plain(path: Path) -> dict[str, Network]:
    require_unpacked(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise ConfigError("holds no state dict")
    named = {name: loaded[name] for name in NETWORKS if isinstance(loaded.get(name), Mapping)}
    if named:
        return {name: Network(_tensors(state)) for name, state in named.items()}
    return _by_prefix(_tensors(loaded))


def _safetensors(path: Path) -> dict[str, Network]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ConfigError("safetensors is not installed: type pip install safetensors") from error
    return _by_prefix(load_file(path))


def _by_prefix(tensors: State) -> dict[str, Network]:
    networks: dict[str, Network] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        network, own = (first, rest) if first in NETWORKS else ("G_ema", name)
        networks.setdefault(network, Network({})).state[own] = tensor
    return networks


def _tensors(state: Mapping[str, Any]) -> State:
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


# -------------------------------------------------------------------- pickles


class _Attributes(dict[str, Any]):
    """A dictionary in place of NVIDIA's EasyDict, whose items are also attributes."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.update(state)


@dataclass
class _Module:
    """A module of NVIDIA's, reduced to its attributes."""

    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.attributes = state

    def tensors(self, prefix: str = "") -> State:
        """Return parameters and buffers, including those of submodules, by their names in a state dict."""
        own = [*self.attributes["_parameters"].items(), *self.attributes["_buffers"].items()]
        found = {prefix + name: tensor.detach() for name, tensor in own if tensor is not None}
        for name, module in self.attributes["_modules"].items():
            found |= module.tensors(f"{prefix}{name}.")
        return found


def _module(meta: Mapping[str, Any]) -> _Module:
    """Replace `_reconstruct_persistent_obj`, which would run `meta["module_src"]`."""
    return _Module(meta["state"])


def _storage(stored: bytes) -> Any:
    file = io.BytesIO(stored)
    require_unpacked(file)
    return torch.load(file, map_location="cpu", weights_only=True)


KNOWN: dict[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
    ("dnnlib.util", "EasyDict"): _Attributes,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "scalar"): np._core.multiarray.scalar,  # type: ignore[attr-defined]
    ("builtins", "set"): set,
}
"""Everything that a pickle may ask for. None of it runs code from the file."""
PARTS = {
    ("training.triplane", "OSGDecoder"),
    ("training.volumetric_rendering.renderer", "ImportanceRenderer"),
    ("training.volumetric_rendering.ray_marcher", "MipRayMarcher2"),
    ("training.volumetric_rendering.ray_sampler", "RaySampler"),
    ("torch.nn.modules.container", "Sequential"),
    ("torch.nn.modules.activation", "Softplus"),
}
"""Modules of EG3D that a pickle names. They become trees of tensors too, without their code."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("dnnlib.tflib.network", "Network"):
            raise ConfigError(
                "a pickle of the TensorFlow StyleGAN2; convert it by legacy.py of stylegan2-ada-pytorch first"
            )
        if (module, name) in PARTS:
            return _Module
        if (module, name) not in KNOWN:
            raise ConfigError(f"asks for {module}.{name}, which is none of the parts of a network; it is not opened")
        return KNOWN[module, name]


def _pickled(path: Path) -> dict[str, Network]:
    with path.open("rb") as file:
        loaded = _Unpickler(file).load()
    modules = {name: loaded.get(name) for name in NETWORKS} if isinstance(loaded, Mapping) else {}
    return {
        name: Network(
            module.tensors(),
            module.attributes.get("_init_kwargs", {}),
            {key: value for key, value in module.attributes.items() if not key.startswith("_")},
        )
        for name, module in modules.items()
        if isinstance(module, _Module)
    }
