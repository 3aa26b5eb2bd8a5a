"""Generators of samples from noise, as modules to export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.cameras import NUMBERS
from gan_experiments.conditions import Cameras, Captions, Embedded
from gan_experiments.contracts import ConfigError
from gan_experiments.export.pixels import Finish
from gan_experiments.export.signature import PLAIN, STYLED, Options, Port, Rows, Wrapped
from gan_experiments.export.twin import twin_of, used_by
from gan_experiments.kinds import Image
from gan_experiments.models.image_to_image import LABEL
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.models.text_to_image import CAPTION

BATCHES = (1, 7, 24)
CAMERA = "camera"
"""The name of the input of cameras."""


class Drawing(nn.Module):
    """The inputs of these names, in order -> samples: z [n, latent_dim], label int64 [n], truncation []."""

    def __init__(self, twin: NoiseToImage, names: Sequence[str], finish: Finish, truncation: Any) -> None:
        super().__init__()
        self.twin, self.names, self.finish, self.truncation = twin, list(names), finish, truncation

    @override
    def forward(self, *given: Tensor) -> Tensor:
        inputs = dict(zip(self.names, given, strict=True))
        truncation = inputs.get("truncation", self.truncation)
        told = next((inputs[name] for name in (LABEL, CAPTION, CAMERA) if name in inputs), None)
        return self.finish(self.twin.sample(inputs["z"], False, told, truncation))


def wrapped(model: NoiseToImage, options: Options) -> Wrapped:
    """Return the module that draws samples of a model. Raises ConfigError for options that the model does not have."""
    options.refuse("this model draws samples from noise", "to", "size", "noise", "seed")
    if isinstance(model.conditions, Embedded):
        raise ConfigError(
            "this generator is told embeddings that another program makes, and a file without that cannot be asked for"
            " anything; type export= another run"
        )
    if not model.styled:
        options.refuse("this generator has no w, and its truncation is of the z that it is fed", "truncation")
    bare = not isinstance(model.kind, Image)
    if bare:
        options.refuse(f"{model.kind.name} have no pixels", "layout")
        options = replace(options, pixels="float")
    inputs = [Port("z", "float32", ("n", model.latent_dim), "independent draws from N(0, 1)")]
    if model.classes:
        inputs.append(Port(LABEL, "int64", ("n",), f"the class of each sample, 0 to {model.classes - 1}"))
    if isinstance(model.conditions, Captions):
        length = model.conditions.vocabulary.length
        meaning = "the words of a caption: 0 after its end, 1 for unknown ones, 2 + the place in the list of words"
        inputs.append(Port(CAPTION, "int64", ("n", length), meaning))
    if isinstance(model.conditions, Cameras):
        meaning = "the camera of each sample: camera to world, 4x4 row by row, and intrinsics, 3x3, as EG3D has them"
        inputs.append(Port(CAMERA, "float32", ("n", NUMBERS), meaning))
    if options.truncation == "input":
        inputs.append(Port("truncation", "float32", (), "ψ: 1 leaves w as it is, 0 is the mean w"))
    z = model.fixed_noise(sum(BATCHES), seed=0)
    label = model.conditions.of_sheet(len(z), seed=0)
    condition = next((port.name for port in inputs if port.name in (LABEL, CAPTION, CAMERA)), LABEL)
    first = None if label is None else label[:2]
    names = used_by(model, options.ema, lambda: model.sample(z[:2], options.ema, first))
    twin: Any = twin_of(model, options.ema, names)
    finish = Finish(options, bare)
    truncation = None if options.truncation == "input" else options.truncation
    module = Drawing(twin, [port.name for port in inputs], finish, truncation).eval()

    cases, start = [], 0
    for n in BATCHES:
        rows = {"z": z[start : start + n]}
        if label is not None:
            rows[condition] = label[start : start + n]
        if options.truncation == "input":
            rows["truncation"] = torch.tensor(0.7)
        cases.append(rows)
        start += n

    def made(model: NoiseToImage, ema: bool, rows: Rows) -> Tensor:
        psi: Any = rows["truncation"].item() if "truncation" in rows else options.truncation
        return model.sample(rows["z"], ema, rows.get(condition), psi)

    two = {key: rows[:2] if rows.ndim else rows for key, rows in cases[-1].items()}
    shape = ("n", *finish(made(model, options.ema, two)).shape[1:])
    meaning = "values as they are" if bare else options.meaning
    output = Port("samples" if bare else "images", options.dtype, shape, meaning)
    told = {"truncation": options.truncation}
    bound = STYLED if model.styled else PLAIN
    return Wrapped(module, inputs, output, {"n": 2}, {"n": 1}, cases, made, finish, bound, twin, told)
