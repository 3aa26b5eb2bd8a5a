"""Models that turn images into images, as modules to export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import shown, sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.export.pixels import Finish, Start
from gan_experiments.export.signature import STYLED, Options, Port, Rows, Wrapped
from gan_experiments.export.twin import twin_of, used_by
from gan_experiments.kinds import Image
from gan_experiments.models.image_to_image import LABEL, ImageToImage

BATCHES = (1, 7, 8)  # of each of two sizes
TRIED = 64  # pixels of a side of the images that a network of any size is tried with, about; less where it enlarges


class Translating(nn.Module):
    """The inputs of these names, in order -> images: the image, what else the model reads, noise that is an input.

    `keys` are the batch keys of all inputs but noise. `noise` are the random numbers that the model draws, in order, by
    name: [1, ...] if a seed has drawn them, None if they are inputs.
    """

    def __init__(
        self,
        twin: ImageToImage,
        names: Sequence[str],
        to: str,
        keys: Sequence[str],
        noise: Mapping[str, Tensor | None],
        options: Options,
    ) -> None:
        super().__init__()
        self.names = list(names)
        self.twin, self.way, self.keys, self.noise = twin, to, list(keys), list(noise)
        self.start, self.finish = Start(options), Finish(options)
        for name, drawn in noise.items():
            if drawn is not None:
                self.register_buffer(name, drawn)

    @override
    def forward(self, *given: Tensor) -> Tensor:
        inputs = dict(zip(self.names, given, strict=True))
        batch = {self.keys[0]: self.start(inputs["image"])}
        for key in self.keys[1:]:
            batch[key] = self.start.mask(inputs[key]) if key == "mask" else inputs[key]
        noise = iter([getattr(self, name) if hasattr(self, name) else inputs[name] for name in self.noise])
        made = self.twin.translate_batch(batch, self.way, False, lambda *_, **__: next(noise))
        return self.finish(made.clamp(-1, 1))


def wrapped(model: ImageToImage, data: Any, options: Options) -> Wrapped:
    """Return the module that translates images in one direction, or each image in that of its label.

    `data` is the config of the model's data. Raises ConfigError for options that the model does not have.
    """
    options.refuse("truncation is of models that draw samples from noise", "truncation")
    if not isinstance(model.kind, Image):
        raise ConfigError(
            f"this model makes {model.kind.name} of others, and translators of images are exported; load it in Python,"
            " gx.load(...)"
        )
    return _Translation(model, data, options).wrapped()


def times(factor: int) -> tuple[str, str]:
    """Return height and width in units of h and w."""
    return ("h", "w") if factor == 1 else (f"{factor}*h", f"{factor}*w")


class _Translation:
    """What is to be exported of a translator, found out by trying it once."""

    def __init__(self, model: ImageToImage, data: Any, options: Options) -> None:
        self.model, self.options, self.channels = model, options, int(data.channels)
        self.numbers = {way.number: name for name, way in model.directions.items() if way.number is not None}
        if options.to is None:
            self.to = LABEL if self.numbers else model.direction("")
        else:
            self.to = model.direction(str(options.to))
        way = model.directions[self.to if self.to in model.directions else next(iter(model.directions))]
        self.keys = list(dict.fromkeys([way.reads, *way.also, *([LABEL] if self.to == LABEL else [])]))
        self.size = self._asked_size()
        self.least = max(1, -(-model.smallest // model.multiple))
        self.units = max(2, self.least), max(2, self.least) + 1  # of the example, with which sizes are traced
        self.draws: dict[str, tuple[Any, tuple[int, ...]]] = {}
        self.names = self._try()
        self.given = [
            name
            for name, (sampler, _) in self.draws.items()
            if options.noise == "input" or (options.noise is None and sampler is torch.randn)
        ]  # noise that is an input
        if self.size is None and any(
            len(shape) > 1 for name, (_, shape) in self.draws.items() if name not in self.given
        ):
            self.size = sides(data.resolution)  # maps that the seed draws have one size
            self._try()
        if not self.draws:
            options.refuse("this model leaves nothing to chance", "noise", "seed")

    def wrapped(self) -> Wrapped:
        """Return the module and all that belongs to it."""
        model, options, part = self.model, self.options, self.model.multiple
        twin: Any = twin_of(model, options.ema, self.names)
        noise = {name: None if name in self.given else drawn for name, drawn in self._noise(options.seed).items()}
        out = model.scale * part
        whole: tuple[int | str, ...] = self.size or times(part)
        large = [model.scale * side for side in self.size] if self.size else list(times(out))
        made = self.made(model, options.ema, self._case(1, *(self.size or self._pixels(self.units)), first=0))
        output = Port("images", options.dtype, options.shape(made.shape[1], *large), options.meaning)
        sizes, least = {"n": 2}, {"n": 1}
        if not self.size:
            sizes |= dict(zip("hw", self.units, strict=True))
            least |= dict.fromkeys("hw", self.least)
        told = {
            "direction": self.to,
            "multiple": part,
            "smallest": model.smallest,
            "size": list(self.size) if self.size else None,
            "seed": options.seed if len(self.given) < len(self.draws) else None,
        }
        inputs = [*self._inputs(whole), *self._noise_inputs()]
        module = Translating(twin, [port.name for port in inputs], self.to, self.keys, noise, options).eval()
        cases = list(self._cases())
        return Wrapped(module, inputs, output, sizes, least, cases, self.made, module.finish, STYLED, twin, told)

    # ---------------------------------------------------------------- trying

    def _asked_size(self) -> tuple[int, int] | None:
        model, size = self.model, self.options.size
        if size is None:
            return None if model.only is None else sides(model.only)
        asked, part = sides(size if isinstance(size, int) else list(size)), model.multiple
        if model.only is not None and asked != sides(model.only):
            raise ConfigError(f"size={shown(size)}: this network takes {shown(model.only)} pixels alone; leave it out")
        if any(side % part or side < model.smallest for side in asked):
            near = max(-(-model.smallest // part), round(min(asked) / part)) * part
            raise ConfigError(f"size={shown(size)}: this network takes sides that {part} divides; type size={near}")
        return asked

    def _pixels(self, units: tuple[int, int]) -> tuple[int, int]:
        return units[0] * self.model.multiple, units[1] * self.model.multiple

    def _try(self) -> list[str]:
        """Translate two images, note what random numbers are drawn, and return the names of the networks in use."""
        found: list[tuple[Any, tuple[int, ...]]] = []

        def draw(sampler: Any, n: int, *shape: int) -> Tensor:
            found.append((sampler, shape))
            return sampler((n, *shape))

        case = self._images(2, *(self.size or self._pixels(self.units)), first=0)
        batch = self._batch(case, slice(None))
        call = lambda: self.model.translate_batch(batch, self.to, self.options.ema, draw)  # noqa: E731
        names = used_by(self.model, self.options.ema, call)
        kinds = ["z" if sampler is torch.randn else "noise" for sampler, _ in found]
        several = {kind for kind in kinds if kinds.count(kind) > 1}
        self.draws = {
            f"{kind}_{index}" if kind in several else kind: draw
            for index, (kind, draw) in enumerate(zip(kinds, found, strict=True))
        }
        return names

    # ---------------------------------------------------------------- inputs

    def _inputs(self, whole: tuple[int | str, ...]) -> Iterator[Port]:
        options = self.options
        yield Port("image", options.dtype, options.shape(self.channels, *whole), options.meaning)
        for key in self.keys[1:]:
            if key == "mask":
                yield Port(key, "uint8", options.shape(1, *whole), "not 0 where the hole is")
            else:
                yield Port(key, "int64", ("n",), f"what to make of each image, 0 to {len(self.numbers) - 1}")

    def _noise_inputs(self) -> Iterator[Port]:
        for name in self.given:
            sampler, shape = self.draws[name]
            parts: list[int | str] = list(shape)
            if not self.size and len(shape) == 3:
                for place, (side, unit, letter) in enumerate(zip(shape[1:], self.units, "hw", strict=True), start=1):
                    if side % unit:
                        raise ConfigError("noise=input: this network needs a fixed size for it; type size= one")
                    parts[place] = times(side // unit)["hw".index(letter)]
            law = "draws from N(0, 1)" if sampler is torch.randn else "draws from U[0, 1)"
            yield Port(name, "float32", ("n", *parts), f"independent {law}")

    def _noise(self, seed: int, height: int = 0, width: int = 0) -> dict[str, Tensor]:
        """Return what the model draws with a seed for one image, [1, ...] each; 0 is the size that was tried."""
        tried = self.size or self._pixels(self.units)
        generator, drawn = torch.Generator().manual_seed(seed), {}
        for name, (sampler, shape) in self.draws.items():
            first, *others = shape
            if len(others) == 2:  # maps
                ways = zip(others, (height, width), tried, strict=True)
                others = [side * (new or old) // old for side, new, old in ways]
            drawn[name] = sampler((1, first, *others), generator=generator)
        return drawn

    # ---------------------------------------------------------------- cases

    def _images(self, n: int, height: int, width: int, first: int) -> Rows:
        """Return n smooth images, masks with a hole in the middle and labels, as the file takes them."""
        options = self.options
        generator = torch.Generator().manual_seed(first)
        coarse = torch.rand(n, self.channels, 5, 5, generator=generator)
        pixels = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
        image = (255 * pixels).round().to(torch.uint8) if options.pixels == "uint8" else 2 * pixels - 1
        rows = {"image": image}
        if "mask" in self.keys:
            rows["mask"] = torch.zeros(n, 1, height, width, dtype=torch.uint8)
            rows["mask"][..., height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8] = 255
        if options.layout == "nhwc":
            rows = {key: value.permute(0, 2, 3, 1).contiguous() for key, value in rows.items()}
        if LABEL in self.keys:
            rows[LABEL] = torch.arange(first, first + n) % max(1, len(self.numbers))
        return rows

    def _case(self, n: int, height: int, width: int, first: int) -> Rows:
        """Return the inputs of n images; the noise of each has a seed of its own, which counts from `first`."""
        rows = self._images(n, height, width, first)
        drawn = [self._noise(seed, height, width) for seed in range(first, first + n)]
        rows |= {name: torch.cat([one[name] for one in drawn]) for name in self.given}
        rows["_first"] = torch.tensor(first)
        return rows

    def _cases(self) -> Iterator[Rows]:
        part, least = self.model.multiple, self.least
        number = max(least, -(-TRIED // min(self.model.scale, 2) // part))
        sizes = [self.size] * 2 if self.size else [self._pixels((number, number)), self._pixels((number, number + 1))]
        first = 0
        for height, width in sizes:
            for n in BATCHES:
                yield self._case(n, height, width, first)
                first += n

    def _batch(self, rows: Rows, which: slice) -> Batch:
        """Return what the model reads for some rows of a case."""
        start = Start(self.options)
        batch = {self.keys[0]: start(rows["image"][which])}
        for key in self.keys[1:]:
            batch[key] = start.mask(rows[key][which]) if key == "mask" else rows[key][which]
        return batch

    def made(self, model: ImageToImage, ema: bool, rows: Rows) -> Tensor:
        """Return what a model makes of each image of a case, alone in its batch: float [n, C, H, W]."""
        made = []
        for row in range(len(rows["image"])):
            batch = self._batch(rows, slice(row, row + 1))
            seed = int(rows["_first"]) + row if self.given else self.options.seed
            to = self.to
            if to == LABEL and LABEL not in model.directions:
                to = self.numbers[int(batch.pop(LABEL))]
            made.append(model.translate(batch, to, ema, seed))
        return torch.cat(made)
