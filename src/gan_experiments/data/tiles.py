"""Functions to apply a network to images of any size: padded to what it accepts, or in tiles that leave no seams."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gan_experiments.bounds import settled, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.decode import Shape

Function = Callable[[Tensor], Tensor]


def padded(function: Function, images: Tensor, multiple: Shape = 1, scale: int = 1) -> Tensor:
    """Apply a function of images [N, C, H, W] -> [N, C', scale H, scale W] whose H and W `multiple` must divide.

    The images are mirrored beyond their right and lower borders, and the result is cropped back.
    """
    height, width = images.shape[-2:]
    return function(mirrored(images, multiple))[..., : scale * height, : scale * width]


def mirrored(images: Tensor, multiple: Shape, least: Shape = 1) -> Tensor:
    """Mirror images [N, C, H, W] beyond their right and lower borders, until `multiple` divides their sides.

    The sides become `least` pixels or more.
    """
    ways = zip(images.shape[-2:], sides(multiple), sides(least), strict=True)
    rows, columns = (_mirrored(_up(max(size, most), part), size, images.device) for size, part, most in ways)
    return images.index_select(-2, rows).index_select(-1, columns)


@torch.no_grad()
def tiled(
    function: Function,
    image: Tensor,
    tile: Shape = 512,
    overlap: Shape = 128,
    multiple: Shape = 1,
    scale: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Apply a function of float [1, C, H, W] in [-1, 1] -> [1, C', scale H, scale W] to an image [C, H, W].

    The image is uint8, or float in [-1, 1]; so is the result, [C', scale H, scale W] on the CPU. `function` gets pieces
    of `tile` pixels on `device`, which begin at multiples of `multiple`; these and `overlap` are a number for both
    sides, or one for each. The image is mirrored beyond its right and lower borders up to such a multiple. Neighbouring
    tiles share `overlap` pixels or more: the overlap / 2 in the middle are blended, the outer ones are dropped. So a
    function whose output depends on no pixel farther than overlap / 4 gives what `padded` gives for the whole image.
    Beside the image and the result, memory holds one tile and one row of tiles. Raises ConfigError for impossible
    sizes.
    """
    ways = [*zip(sides(tile), sides(overlap), sides(multiple), strict=True)]
    for length, shared, least in ways:
        if length < 1 or shared < 0 or 2 * shared > length or length % least or shared % least:
            eighth = _up(max(1, length // 8), least)
            raise ConfigError(
                f"tile={length} overlap={shared}: multiples of {least} are needed, and at most half of a tile may "
                f"overlap; type tile={8 * eighth} overlap={2 * eighth}"
            )
    height, width = image.shape[-2:]
    whole = tuple(_up(size, least) for size, (_, _, least) in zip((height, width), ways, strict=True))
    tall, wide = (min(length, size) for size, (length, _, _) in zip(whole, ways, strict=True))
    (tops, row_weights), (lefts, column_weights) = (
        (starts, _weights(starts, scale * side, scale, scale * shared))
        for side, size, (_, shared, _) in zip((tall, wide), whole, ways, strict=True)
        for starts in [_starts(size, side, shared)]
    )
    result = strip = torch.empty(0)
    exact = image.is_floating_point()
    for top, row_weight, next_top in zip(tops, row_weights, [*tops[1:], None], strict=True):
        rows = _mirrored(tall, height, image.device, top)
        for number, (left, column_weight) in enumerate(zip(lefts, column_weights, strict=True)):
            part = image.index_select(1, rows).index_select(2, _mirrored(wide, width, image.device, left))
            made = function(to_float(part[None]).to(device))[0].float().cpu()
            if top == 0 and number == 0:
                kind = torch.float32 if exact else torch.uint8
                result = torch.empty(len(made), scale * height, scale * width, dtype=kind)
                strip = made.new_zeros(len(made), scale * tall, scale * whole[1])
            columns = slice(scale * left, scale * (left + wide))
            strip[:, :, columns].addcmul_(made * row_weight[:, None], column_weight)
        ready = scale * (tall if next_top is None else next_top - top)  # rows that no later tile reaches
        below = min(ready, scale * (height - top))
        done = strip[:, :below, : scale * width]
        done = done.clamp(-1, 1) if exact else done.mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
        result[:, scale * top : scale * top + below] = done
        strip = torch.cat([strip[:, ready:], torch.zeros_like(strip[:, :ready])], dim=1)
    return result


def number_of_tiles(height: int, width: int, tile: Shape, overlap: Shape, multiple: Shape = 1) -> int:
    """Count how often `tiled` calls its function."""
    ways = zip((height, width), sides(tile), sides(overlap), sides(multiple), strict=True)
    wholes = ((_up(size, part), length, shared) for size, length, shared, part in ways)
    return math.prod(len(_starts(whole, min(length, whole), shared)) for whole, length, shared in wholes)


def tiling(tile: Shape | None, height: int, width: int, multiple: int) -> tuple[Shape, Shape]:
    """Return the sides of tiles and of their overlap for an image, all multiples of `multiple`.

    `tile` is the wanted side in pixels, which is rounded up to two multiples or more: less cannot overlap. A quarter of
    it overlaps. None is for one tile that holds the whole image.
    """
    if tile is None:
        return _up(max(height, width), multiple), 0
    lengths = [_up(max(side, 2 * multiple), multiple) for side in sides(tile)]
    shared = [min(_up(-(-side // 4), multiple), side // 2 // multiple * multiple) for side in lengths]
    return settled(lengths), settled(shared)


def sample_of(image: Tensor, tile: Shape, multiple: Shape = 1) -> Tensor:
    """Cut pieces [n, C, h, w] out of an image [C, H, W], spread over all of it, of as many pixels as one tile.

    An image smaller than a piece is mirrored beyond its right and lower borders.
    """
    lines = []
    for size, length, part in zip(image.shape[-2:], sides(tile), sides(multiple), strict=True):
        side = _up(max(1, length // 4), part)
        number = max(1, length // side)
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
