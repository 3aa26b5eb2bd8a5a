"""Exported files opened again, as something that draws samples or translates images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.bounds import settled
from gan_experiments.contracts import ConfigError
from gan_experiments.data import tiles
from gan_experiments.data.batches import to_float
from gan_experiments.drawing import to_uint8
from gan_experiments.export import formats, weights
from gan_experiments.export import metadata as described
from gan_experiments.export.generators import CAMERA
from gan_experiments.inference.contract import SAMPLE, TILE, Facts, Generates
from gan_experiments.inference.run import Run, open_run
from gan_experiments.kinds import Image
from gan_experiments.models.image_to_image import LABEL
from gan_experiments.models.text_to_image import CAPTION

CHUNK = 64
"""Samples that are generated at a time."""
SUFFIXES = tuple(formats.SUFFIXES.values())
TRUSTED = "torch.export"
"""What `trust=` must name for a file of `torch.export`, which can hold code."""


def open_exported(given: str | Path, trusted: Any = None, threads: int = 1) -> Generates:
    """Return an exported file as something that draws samples or translates images.

    The suffix says the format. ONNX and safetensors run no code of the file. A .pt2 can, so that it is opened only if
    `trusted` names TRUSTED. `trusted` also is what else the config of safetensors may name. `threads` are those of ONNX
    Runtime for one call. Raises ConfigError if there is no such file, or it is not one of ours.
    """
    path = Path(given)
    if not path.is_file():
        raise ConfigError(f"{given}: there is no such file; type a run folder, a checkpoint or an exported file")
    if path.suffix == formats.SUFFIXES["safetensors"]:
        with formats.needing("safetensors"):
            metadata, model, cfg = weights.read(path, str(given), trusted)
        return Weights(model, cfg, path, metadata)
    if path.suffix == formats.SUFFIXES["onnx"]:
        return Exported(path, *formats.read_onnx(path, str(given), threads))
    if path.suffix != formats.SUFFIXES["torch"]:
        raise ConfigError(f"{given}: the suffix of an exported file is one of {', '.join(SUFFIXES)}")
    if TRUSTED not in ([trusted] if isinstance(trusted, str) else trusted or []):
        raise ConfigError(
            f"{given}: a .pt2 can run code as it is opened: type trust={TRUSTED} if you trust who made it"
        )
    return Exported(path, *formats.read_torch(path, str(given)))


def open_any(
    given: str, device: str = "auto", trusted: Any = None, threads: int = 1, compiled: bool = False
) -> Generates:
    """Return a run, a checkpoint or an exported file, which its suffix tells, as something that draws or translates.

    Files of ONNX and of torch.export compute on the CPU, whatever `device` says. Raises ConfigError as `open_run` and
    `open_exported` do.
    """
    if Path(given).suffix in SUFFIXES:
        if compiled:
            raise ConfigError(f"compile=true: {given} is an exported file, which is not compiled; leave it out")
        return open_exported(given, trusted, threads)
    return open_run(given, device, trusted, compiled)


class Weights(Run):
    """A model of which a file of safetensors holds the weights."""

    def __init__(self, model: Any, cfg: Any, path: Path, metadata: Mapping[str, Any]) -> None:
        super().__init__(model, cfg, path.parent, path)
        self.metadata = metadata

    @property
    def name(self) -> str:
        """The name of the file."""
        assert self.file is not None, "it was read from one"
        return self.file.stem

    @property
    def checkpoint(self) -> str:
        """The SHA-256 of the checkpoint that the file was exported from."""
        return str(self.metadata["checkpoint_sha256"])

    def network(self, name: str, ema: bool = True) -> nn.Module:
        """Return a copy of a network. Raises ConfigError if the model has no such network."""
        if name not in self.model.network_names:
            raise ConfigError(f"network {name!r}: this file has {', '.join(self.model.network_names)}")
        return copy.deepcopy(self.model.network(name))


class Exported(Generates):
    """A file of ONNX or torch.export; `call` computes its output from its inputs by name."""

    def __init__(self, path: Path, metadata: Mapping[str, Any], call: formats.Call) -> None:
        self.path, self.metadata, self.call = path, metadata, call
        self.ports = {port.name: port for port in described.ports_of(metadata)}
        self._facts = described.facts_of(metadata)

    def __repr__(self) -> str:
        return f"Exported({str(self.path)!r}, {described.described(self.metadata)})"

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.stem

    @property
    def checkpoint(self) -> str:
        """The SHA-256 of the checkpoint that the file was exported from."""
        return str(self.metadata["checkpoint_sha256"])

    @property
    def facts(self) -> Facts:
        """What a user has to know of the model."""
        return self._facts

    # ---------------------------------------------------------------- samples

    def draw(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        truncation: float | None = None,
        ema: bool = True,
        exact: bool = False,
    ) -> Tensor:
        """Generate samples, see `Generates`. Raises ConfigError for what the file does not hold."""
        self.require_task(SAMPLE)
        self._require_held(ema, exact and isinstance(self.kind, Image))
        condition = next((name for name in (LABEL, CAPTION, CAMERA) if name in self.ports), None)
        if condition and labels is None:
            raise ConfigError(f"this generator needs the {condition} of each sample, [n, ...]; see labels()")
        rows = {"z": z.float()}
        if condition and labels is not None:
            rows[condition] = labels
        if "truncation" in self.ports:
            rows["truncation"] = torch.tensor(1.0 if truncation is None else truncation)
        elif self.facts.truncation == "w" and truncation not in (None, held := self.metadata.get("truncation") or 1):
            raise ConfigError(
                f"truncation={truncation}: {self.name} was exported with truncation={held}; leave it out, or export"
                " with truncation=input"
            )
        parts = [
            self.call({key: value[start : start + CHUNK] if value.ndim else value for key, value in rows.items()})
            for start in range(0, max(len(z), 1), CHUNK)
        ]
        samples = torch.cat(parts)
        if not isinstance(self.kind, Image):
            return samples[:, :, None, None] if samples.ndim == 2 else samples
        images = self._channels_first(samples)
        return images if exact else to_uint8(images)

    def _require_held(self, ema: bool, exact: bool) -> None:
        if not ema and self.metadata["averaged"]:
            raise ConfigError(f"ema=false: {self.name} holds the averaged weights alone; leave it out")
        if exact and self.metadata["pixels"] == "uint8":
            raise ConfigError(f"{self.name} gives 8 bits alone; export it with pixels=float")

    def _channels_first(self, images: Tensor) -> Tensor:
        return images.movedim(-1, 1).contiguous() if self.metadata["layout"] == "nhwc" else images

    # ---------------------------------------------------------------- translations

    def translated(
        self,
        image: Tensor,
        to: str = "",
        mask: Tensor | None = None,
        label: int | None = None,
        seed: int = 0,
        tile: int | None = TILE,
        ema: bool = True,
        told: str = "",
    ) -> Tensor:
        """Translate one image, see `Generates`.

        A file of a fixed size gets tiles of that size. Networks whose norms look at all of an image do so tile by tile.
        Raises ConfigError for what the file does not hold.
        """
        self.require(to, mask, label)
        self._require_held(ema, False)
        if mask is not None and mask.shape[1:] != image.shape[1:]:
            raise ConfigError(f"its mask is {[*mask.shape[1:]]} and it is {[*image.shape[1:]]}: give one of its size")
        to = self.direction(to)
        number = self.facts.directions[to].number if label is None else label
        size = settled(self.metadata["size"]) if self.metadata.get("size") else None
        multiple = 1 if size else int(self.metadata["multiple"])
        allowed = (size, size) if size else (multiple, int(self.metadata["smallest"]))
        side, overlap = tiles.tiling(size or tile, image.shape[1], image.shape[2], multiple)
        channels = len(image)

        def function(rows: Tensor) -> Tensor:
            whole = tiles.mirrored(rows, *allowed)
            given = {"image": self._pixels(whole[:, :channels])}
            if mask is not None:
                given["mask"] = self._laid_out(((whole[:, channels:] > 0) * 255).to(torch.uint8))
            if LABEL in self.ports:
                given[LABEL] = torch.tensor([number] * len(rows))
            given |= self._noise(seed, len(rows), *sides_of(whole))
            made = self._channels_first(self.call(given))
            high, wide = (self.facts.scale * length for length in rows.shape[2:])
            return to_float(made)[..., :high, :wide]

        stack = image
        if mask is not None:
            stack = torch.cat([image, to_float(mask) if image.is_floating_point() else mask])
        return tiles.tiled(function, stack, side, overlap, multiple, self.facts.scale)

    def _pixels(self, images: Tensor) -> Tensor:
        """Return float images [n, C, H, W] in [-1, 1] as the file takes them."""
        return self._laid_out(to_uint8(images) if self.metadata["pixels"] == "uint8" else images)

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.movedim(1, -1).contiguous() if self.metadata["layout"] == "nhwc" else images.contiguous()

    def _noise(self, seed: int, n: int, height: int, width: int) -> dict[str, Tensor]:
        """Return the noise that is an input, drawn with a seed as the run draws it, the same for all n images."""
        generator = torch.Generator().manual_seed(seed)
        multiple, found = int(self.metadata["multiple"]), {}
        sizes = {"n": 1, "h": height // multiple, "w": width // multiple}
        for port in self.ports.values():
            if port.name.startswith(("z", "noise")):
                sampler = torch.randn if port.name.startswith("z") else torch.rand
                drawn = sampler(port.example(**sizes).shape, generator=generator)
                found[port.name] = drawn.expand(n, *drawn.shape[1:]).contiguous()
        return found


def sides_of(images: Tensor) -> tuple[int, int]:
    """Return height and width of images [n, C, H, W]."""
    return images.shape[-2], images.shape[-1]
