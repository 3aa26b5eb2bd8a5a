"""What a user asks for, the inputs of an exported file, and the module that is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import AdversarialModule

Rows = dict[str, Tensor]
"""The inputs of one call, by name; all but scalars have n rows."""

PLAIN, STYLED = 1e-5, 1e-4
"""The largest difference of an exported generator from the run that is allowed, of values in [-1, 1].

It is the larger one with styles, and for translators, whose norms look at each image: both amplify the rounding of
float32, which is another one in each library and for each batch size. docs/export.md has what was measured.
"""


@dataclass(frozen=True)
class Options:
    """What a user asks for; see conf/export.yaml."""

    ema: bool = True
    half: bool = False
    truncation: float | str | None = None
    to: str | int | None = None
    size: int | Sequence[int] | None = None
    noise: str | None = None
    seed: int = 0
    pixels: str = "uint8"
    layout: str = "nhwc"

    def refuse(self, reason: str, *names: str) -> None:
        """Raise ConfigError for each of the named options that is not its default; `reason` ends in a comma or not."""
        usual = {one.name: one.default for one in fields(self)}
        given = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name) != usual[name]]
        if given:
            raise ConfigError(f"{' '.join(given)}: {reason}; leave it out")

    @property
    def dtype(self) -> str:
        """The dtype of the images that go in and come out."""
        return "uint8" if self.pixels == "uint8" else "float32"

    def shape(self, channels: int, height: int | str, width: int | str) -> tuple[int | str, ...]:
        """Return the shape of n images as the file has them."""
        return ("n", height, width, channels) if self.layout == "nhwc" else ("n", channels, height, width)

    @property
    def meaning(self) -> str:
        """What the values of images are."""
        levels = "0 to 255" if self.pixels == "uint8" else "black is -1 and white 1"
        return f"{self.layout.upper()}, {levels}"


@dataclass(frozen=True)
class Port:
    """An input or the output of an exported file.

    In `shape` a text is a size that may differ from call to call: "n", "4*h".
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str

    def example(self, **sizes: int) -> Tensor:
        """Return zeros of this shape; `sizes` are those of n, h and w."""
        return torch.zeros([size_of(part, sizes) for part in self.shape], dtype=getattr(torch, self.dtype))


def size_of(part: int | str, sizes: Mapping[str, int]) -> int:
    """Return the number of a part of a `Port`'s shape."""
    if isinstance(part, int):
        return part
    factor, _, name = part.rpartition("*")
    return int(factor or 1) * sizes[name]


@dataclass(frozen=True)
class Wrapped:
    """A module to export, its inputs in order and its output.

    `sizes` are n, h and w of the example that it is traced with, and `least` the smallest that may come. `cases` are
    inputs to try it with. `made(model, ema, rows)` is what a model makes of such inputs, float samples [n, C, H, W] in
    [-1, 1], and `finish` brings these into the form of the output. `twin` is the model within the module, whose
    networks have no averages. `bound` is the largest difference from the run that is allowed. `told` is more for the
    metadata.
    """

    module: nn.Module
    inputs: list[Port]
    output: Port
    sizes: dict[str, int]
    least: dict[str, int]
    cases: list[Rows]
    made: Callable[[Any, bool, Rows], Tensor]
    finish: Callable[[Tensor], Tensor]
    bound: float
    twin: AdversarialModule
    told: dict[str, Any]

    def arguments(self, rows: Rows) -> tuple[Tensor, ...]:
        """Return the inputs in the module's order."""
        return tuple(rows[port.name] for port in self.inputs)
