"""Functions to apply a network to images of any size: padded to what it accepts, or in tiles that leave no seams."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float

Function = Callable[[Tensor], Tensor]


def padded(function: Function, images: Tensor, multiple: int = 1, scale: int = 1) -> Tensor:
    """Apply a function of images [N, C, H, W] -> [N, C', scale H, scale W] whose H and W `multiple` must divide.

    The images are mirrored beyond their right and lower borders, and the result is cropped back.
    """
    height, width = images.shape[-2:]
    return function(mirrored(images, multiple))[..., : scale * height, : scale * width]


def mirrored(images: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Mirror images [N, C, H, W] beyond their right and lower borders, until `multiple` divides their sides.

    The sides become `least` pixels or more.
    """
    rows, columns = (_mirrored(_up(max(size, least), multiple), size, images.device) for size in images.shape[-2:])
    return images.index_select(-2, rows).index_select(-1, columns)


@torch.no_grad()
def tiled(
    function: Function,
    image: Tensor,
    tile: int = 512,
    overlap: int = 128,
    multiple: int = 1,
    scale: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Apply a function of float [1, C, H, W] in [-1, 1] -> [1, C', scale H, scale W] to a uint8 image [C, H, W].

    Returns uint8 [C', scale H, scale W] on the CPU. `function` gets squares of `tile` pixels on `device`, which begin
    at multiples of `multiple`. The image is mirrored beyond its right and lower borders up to such a multiple.
    Neighbouring tiles share `overlap` pixels or more: the overlap / 2 in the middle are blended, the outer ones are
    dropped. So a function whose output depends on no pixel farther than overlap / 4 gives what `padded` gives for the
    whole image. Beside the image and the result, memory holds one tile and one row of tiles. Raises ConfigError for
    impossible sizes.
    """
    if tile < 1 or overlap < 0 or 2 * overlap > tile or tile % multiple or overlap % multiple:
        raise ConfigError(
            f"tile={tile} overlap={overlap}: multiples of {multiple} are needed, and at most half of a tile may "
            f"overlap; type tile={8 * _up(max(1, tile // 8), multiple)} overlap={2 * _up(max(1, tile // 8), multiple)}"
        )
    height, width = image.shape[-2:]
    whole = _up(height, multiple), _up(width, multiple)
    tall, wide = (min(tile, size) for size in whole)
    tops, lefts = (_starts(size, min(tile, size), overlap) for size in whole)
    row_weights, column_weights = (
        _weights(starts, scale * size, scale, scale * overlap) for starts, size in ((tops, tall), (lefts, wide))
    )
    result = strip = torch.empty(0)
    for top, row_weight, next_top in zip(tops, row_weights, [*tops[1:], None], strict=True):
        rows = _mirrored(tall, height, image.device, top)
        for number, (left, column_weight) in enumerate(zip(lefts, column_weights, strict=True)):
            part = image.index_select(1, rows).index_select(2, _mirrored(wide, width, image.device, left))
            made = function(to_float(part[None]).to(device))[0].float().cpu()
            if top == 0 and number == 0:
                result = torch.empty(len(made), scale * height, scale * width, dtype=torch.uint8)
                strip = made.new_zeros(len(made), scale * tall, scale * whole[1])
            columns = slice(scale * left, scale * (left + wide))
            strip[:, :, columns].addcmul_(made * row_weight[:, None], column_weight)
        ready = scale * (tall if next_top is None else next_top - top)  # rows that no later tile reaches
        below = min(ready, scale * (height - top))
        done = strip[:, :below, : scale * width].mul(127.5).add_(127.5).round_().clamp_(0, 255)
        result[:, scale * top : scale * top + below] = done.to(torch.uint8)
        strip = torch.cat([strip[:, ready:], torch.zeros_like(strip[:, :ready])], dim=1)
    return result


def number_of_tiles(height: int, width: int, tile: int, overlap: int, multiple: int = 1) -> int:
    """Count how often `tiled` calls its function."""
    wholes = _up(height, multiple), _up(width, multiple)
    return math.prod(len(_starts(whole, min(tile, whole), overlap)) for whole in wholes)


def tiling(tile: int | None, height: int, width: int, multiple: int) -> tuple[int, int]:
    """Return the sides of tiles and of their overlap for an image, both multiples of `multiple`.

    `tile` is the wanted side in pixels, which is rounded up to two multiples or more: less cannot overlap. A quarter of
    it overlaps. None is for one tile that holds the whole image.
    """
    if tile is None:
        return _up(max(height, width), multiple), 0
    tile = _up(max(tile, 2 * multiple), multiple)
    return tile, min(_up(-(-tile // 4), multiple), tile // 2 // multiple * multiple)


def sample_of(image: Tensor, tile: int, multiple: int = 1) -> Tensor:
    """Cut squares [n, C, side, side] out of an image [C, H, W], spread over all of it, of as many pixels as one tile.

    An image smaller than a square is mirrored beyond its right and lower borders.
    """
    side = _up(max(1, tile // 4), multiple)
    number = max(1, tile // side)
    lines = []
    for size in image.shape[-2:]:
        starts = torch.linspace(0, max(0, size - side), number).round().long().tolist()
        lines.append([_mirrored(side, size, image.device, start) for start in starts])
    return torch.stack(
        [image.index_select(1, rows).index_select(2, columns) for rows in lines[0] for columns in lines[1]]
    )


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin so that they cover `size` pixels; the last one ends where the image does."""
    return [*range(0, size - tile, max(1, tile - overlap)), size - tile]


def _weights(starts: list[int], tile: int, scale: int, overlap: int) -> list[Tensor]:
    """Return the weights [tile] of each tile's pixels along one direction; over all tiles they sum to 1 everywhere."""
    weights = [torch.ones(tile) for _ in starts]
    for before, after, start, following in zip(weights, weights[1:], starts, starts[1:], strict=False):
        shared = tile - scale * (following - start)
        ramp = ((torch.arange(shared) + 0.5 - shared / 2) / max(overlap / 2, 1) + 0.5).clamp(0, 1)
        after[:shared] *= ramp
        before[tile - shared :] *= 1 - ramp
    return weights


def _mirrored(number: int, size: int, device: torch.device, start: int = 0) -> Tensor:
    """Return `number` indices into a line of `size` pixels, from `start` on and back again at the last pixel."""
    period = max(1, 2 * (size - 1))
    places = torch.arange(start, start + number, device=device) % period
    return torch.where(places < size, places, period - places)
