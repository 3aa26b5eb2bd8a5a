"""Translation of one image of any size, cut into tiles if it is large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from gan_experiments.bounds import sides
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data import tiles
from gan_experiments.data.batches import to_float
from gan_experiments.data.decode import Shape
from gan_experiments.layers.shared_statistics import shared_statistics
from gan_experiments.models.image_to_image import ImageToImage


def translated(
    model: ImageToImage,
    pixels: Tensor,
    mask: Tensor | None,
    given: Batch,
    to: str,
    seed: int,
    ema: bool,
    tile: int | None,
    told: str = "",
) -> Tensor:
    """Return the model's translation of an image [C, H, W]: uint8, or float in [-1, 1] as its pixels are.

    `mask`, uint8 [1, H, W], is appended to the image as another channel, so that both are cut into the same tiles.
    `given` is what else the model reads, one row for each key. Norms that use the statistics of their input get those
    of a sample of the whole image, so that tiles do not differ like separate pictures. `model.overview` computes once,
    of the reduced image, what the model needs to know of all of it. With `told` a bar of that name shows the tiles
    done, on a terminal. Raises ConfigError if the mask has another size than the image or a tile does not fit into
    memory.
    """
    channels, height, width = pixels.shape
    if mask is not None and mask.shape[1:] != (height, width):
        found = f"{mask.shape[2]}x{mask.shape[1]}"
        raise ConfigError(f"its mask is {found} and it is {width}x{height}: give one of the same size")
    side, overlap, multiple = _sizes(tile, model, height, width)
    number = tiles.number_of_tiles(height, width, side, overlap, multiple)
    several = number > 1
    whole = to_float(fitted(pixels, min(max(sides(side)), max(height, width)))).to(next(model.parameters()))
    given = model.overview(whole) | given
    hidden = None if several and told else True  # None: hidden unless on a terminal
    with tqdm(total=number + several, desc=told, unit="tile", disable=hidden, leave=False) as bar:

        def function(rows: Tensor) -> Tensor:
            image, *hole = rows.split([channels, *([] if mask is None else [1])], dim=1)
            batch = {key: values.expand(len(rows), *values.shape[1:]) for key, values in given.items()}
            batch |= {key: (values > 0).to(values) for key, values in zip(("mask",), hole, strict=False)}
            made = model.translate({model.directions[to].reads: image, **batch}, to, ema, seed)
            bar.update()
            return made

        def sample() -> Tensor:
            return function(to_float(tiles.sample_of(stack, side, multiple)).to(model.device))

        stack = pixels
        if mask is not None:
            stack = torch.cat([stack, to_float(mask) if stack.is_floating_point() else mask])
        try:
            with shared_statistics(model, sample) if several else nullcontext():
                return tiles.tiled(function, stack, side, overlap, multiple, model.scale, model.device)
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"tile={tile} is too large for the memory of {model.device}; type tile={min(sides(side)) // 2}"
            ) from None


def other_tile(tile: int | None, model: ImageToImage) -> Iterator[str]:
    """Yield a line if the tiles have another size than was asked for."""
    if tile is None and not model.only:
        return
    side, *_ = _sizes(tile, model, 1, 1)
    if model.only:
        tall, wide = sides(side)
        order = "" if tall == wide else " (height x width)"
        yield f"this network takes {tall}x{wide} pixels{order} alone: larger images are cut into tiles of that size"
    elif side != tile:
        yield f"tile={tile}: this network takes sides that {model.multiple} divides; tiles have {side} pixels"


def fitted(pixels: Tensor, longer: int) -> Tensor:
    """Resize an image [C, H, W] to [1, C, h, w], where the longer of h and w is `longer`."""
    height, width = (max(1, round(side * longer / max(pixels.shape[1:]))) for side in pixels.shape[1:])
    return F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)


def _sizes(tile: int | None, model: ImageToImage, height: int, width: int) -> tuple[Shape, Shape, int]:
    """Return the side of a tile, the overlap, and the number that divides sides and positions of tiles, in pixels.

    A network of a fixed size gets tiles of that size.
    """
    multiple = 1 if model.only else model.multiple
    return *tiles.tiling(model.only or tile, height, width, multiple), multiple
