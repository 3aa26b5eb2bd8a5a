"""Images as people hold them in Python: PIL images, arrays, tensors and files; read for a model, and given back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.decode import (
    Depth,
    Range,
    Reading,
    UnreadableImageError,
    exact_channels,
    match_channels,
    picture,
    pixels_of,
)
from gan_experiments.data.item import GREY_OR_COLOUR, array_of, described, range_of
from gan_experiments.data.limits import why
from gan_experiments.data.masks import Mask, mask_of, mask_of_values, read_mask
from gan_experiments.data.photos import Photo, find_photos, read_photo
from gan_experiments.drawing import to_uint8
from gan_experiments.kinds import Image as ImageKind
from gan_experiments.kinds import Kind

FORMS = ("array", "tensor", "pil")


def bounds(range: Any) -> tuple[float, float]:
    """Return the values of black and white as floats. Raises ConfigError if they are not two, the second higher."""
    try:
        low, high = map(float, range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise ConfigError(f"range={range}: the values of black and of white are needed, as range=(0, 1)")
    return low, high


def require_form(form: str | None) -> None:
    """Raise ConfigError unless a form is one of FORMS, or None."""
    if form is not None and form not in FORMS:
        raise ConfigError(f"form={form!r}: there are form='array', form='tensor' and form='pil'")


def formed(samples: Tensor, form: str, kind: Kind) -> Any:
    """Return samples [n, ...] of a kind as a tensor, an array (images [n, H, W, C]) or a list of n PIL images.

    Raises ConfigError for PIL images of samples that are no images, or are floats.
    """
    require_form(form)
    if form == "tensor":
        return samples
    if form == "array":
        return kind.array(samples)
    if not isinstance(kind, ImageKind):
        raise ConfigError(f"form='pil': {kind.name} are no images; leave it out")
    if samples.is_floating_point():
        raise ConfigError("form='pil' is of 8 bits: leave out exact, or form")
    return [_pil(image) for image in kind.pictures(samples)]


@dataclass(frozen=True)
class Picture:
    """An image that somebody gave: `pixels` uint8 [C, H, W], or float in [-1, 1] if it has more than 8 bits.

    `back` returns an image of the same sort, [C', H', W'], in the form that this one came in.
    """

    pixels: Tensor
    back: Callable[[Tensor], Any]

    @classmethod
    def of(cls, image: Any, channels: int, values: Range, bands: bool, read: Callable[[Path], Photo]) -> Picture:
        """Read an image for a model of so many channels, or `bands`.

        `values` are black and white in arrays that are not of 8 bits. `read` reads a file. Raises ConfigError for
        anything that is no image.
        """
        try:
            if isinstance(image, str | Path):
                return _of_file(read(Path(image).expanduser()), f"{image}")
            if isinstance(image, Image.Image):
                pixels, _ = picture(image, channels, Reading(values, bands=channels if bands else 0))
                return cls(pixels, _pil)
            return _of_array(image, channels, values, bands)
        except UnreadableImageError as error:
            name = f"{image}: it" if isinstance(image, str | Path) else "an image"
            raise ConfigError(f"{name} cannot be read ({error})") from None


def several(images: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Split what somebody gave into single images; return them and a function that joins their results likewise.

    A list, a tuple, or a batch of four dimensions is several images, and so is a word that names a folder or a pattern
    of files. Anything else is one.
    """
    if isinstance(images, list | tuple):
        return [*images], list
    if isinstance(images, str | Path):
        found = [path for path, _ in find_photos(str(images), "images")]
        return (found, list) if Path(images).expanduser().is_dir() or len(found) > 1 else (found, _first)
    if getattr(images, "ndim", None) == 4:
        if not len(images):
            raise ConfigError(f"images: {described(images)} holds no image")
        return [*images], torch.stack if isinstance(images, Tensor) else np.stack
    return [images], _first


def plain(images: Any, key: str) -> list[Tensor]:
    """Return images as uint8 [C, H, W] with the channels that they have, grey, RGB or RGB over white.

    They are PIL images, arrays, tensors or files, a list of them or a batch. Raises ConfigError, which names the
    argument `key`, for anything else.
    """
    if isinstance(images, list | tuple) and not images:
        raise ConfigError(f"{key}: the list is empty")
    if not isinstance(images, list | tuple) and getattr(images, "ndim", None) != 4:
        raise ConfigError(f"{key}: {described(images)} is given, and a folder, a list of images or a batch is needed")
    try:
        return [_plain(image) for image in several(images)[0]]
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None


def _plain(image: Any) -> Tensor:
    if isinstance(image, str | Path):
        try:
            return pixels_of(limits.read(Path(image).expanduser()))
        except (UnreadableImageError, OSError) as error:
            raise ConfigError(f"{image}: it cannot be read ({why(error)})") from None
    channels = 1 if isinstance(image, Image.Image) and image.mode in ("1", "L", "LA", "I;16", "I", "F") else 3
    array = array_of(image)
    if array is not None:
        channels = {"hw": 1, "chw": array.shape[0], "hwc": array.shape[-1]}[_layout(array, image, 3, bands=False)]
        channels = min(channels, 3)
        if array.dtype not in (np.uint8, bool):
            raise ConfigError(f"{described(image)}: uint8 is needed; of values from 0 to 1, give 255 * images, rounded")
    return to_uint8(Picture.of(image, channels, None, False, partial(read_photo, channels=channels)).pixels)


def hole(mask: Any) -> Tensor:
    """Return a mask uint8 [1, H, W], 255 in the hole, of a PIL image, a file, an array or a tensor.

    Of True and False, True is the hole; of numbers, as of files, the higher ones are (see `masks.read_mask`). Raises
    ConfigError for anything that is no mask, and for one that is all hole or has none.
    """
    try:
        return _mask(mask).pixels
    except UnreadableImageError as error:
        raise ConfigError(f"mask: {error}") from None


def _mask(mask: Any) -> Mask:
    if isinstance(mask, str | Path):
        path = Path(mask).expanduser()
        if not path.is_file():
            raise UnreadableImageError(f"{mask} does not exist")
        return read_mask(path)
    if isinstance(mask, Image.Image):
        return mask_of(mask)
    array = array_of(mask)
    if array is None:
        raise UnreadableImageError(f"{described(mask)} is no mask: give a PIL image, an array, a tensor or a file")
    squeezed = array.squeeze(tuple(dim for dim in (0, array.ndim - 1) if array.ndim == 3 and array.shape[dim] == 1)[:1])
    if squeezed.ndim != 2 or not squeezed.size:
        raise UnreadableImageError(f"{described(mask)} is given, and [H, W] is needed")
    return mask_of_values(squeezed)


def _first(results: Sequence[Any]) -> Any:
    return results[0]


def _pil(image: Tensor) -> Any:
    """Return a PIL image of uint8 [C, H, W], grey, RGB or RGBA; an array if it has another number of channels."""
    rows = np.ascontiguousarray(to_uint8(image).movedim(0, -1).cpu().numpy())
    return Image.fromarray(rows[..., 0] if len(image) == 1 else rows) if len(image) in GREY_OR_COLOUR else rows


def _of_file(photo: Photo, name: str) -> Picture:
    depth = photo.depth
    if depth is None:
        return Picture(photo.pixels, _pil)
    return Picture(photo.pixels, lambda made: _flat(depth.values(made)))


def _flat(rows: np.ndarray) -> np.ndarray:
    return rows[..., 0] if rows.shape[-1] == 1 else rows


def _of_array(image: Any, channels: int, values: Range, bands: bool) -> Picture:
    array = array_of(image)
    if array is None:
        raise ConfigError(f"{described(image)} is no image: give a PIL image, an array, a tensor or a path")
    layout = _layout(array, image, channels, bands)
    first = array[None] if layout == "hw" else array.transpose(2, 0, 1) if layout == "hwc" else array
    if array.dtype == bool:
        first = first.astype(np.uint8) * 255
    depth: Depth | None = None
    if first.dtype != np.uint8:
        depth = _depth(first, image, values)
        scaled = (first.astype(np.float64) - depth.low) * (2 / (depth.high - depth.low)) - 1
        pixels = torch.from_numpy(np.ascontiguousarray(scaled.clip(-1, 1).astype(np.float32)))
        pixels = exact_channels(pixels, None, channels)
    else:
        pixels = match_channels(torch.from_numpy(first.copy())[None], channels)[0]

    def back(made: Tensor) -> Any:
        rows = depth.values(made) if depth else to_uint8(made).movedim(0, -1).numpy()
        if layout == "chw" or (layout == "hw" and isinstance(image, Tensor)):
            rows = np.moveaxis(rows, -1, 0)
            rows = rows[0] if layout == "hw" and len(rows) == 1 else rows
        elif layout == "hw":
            rows = _flat(rows)
        if not isinstance(image, Tensor):
            return rows
        made = torch.from_numpy(np.ascontiguousarray(rows)).to(image.device)
        return made if depth is None else made.to(image.dtype)

    return Picture(pixels, back)


def _layout(array: np.ndarray, image: Any, channels: int, bands: bool) -> str:
    """Return "hw", "chw" or "hwc"; where both could be, tensors have their channels first, and arrays last."""
    if array.ndim == 2 and array.size and (not bands or channels == 1):
        return "hw"
    possible = {channels} if bands or channels not in GREY_OR_COLOUR else {*GREY_OR_COLOUR}
    if array.ndim == 3 and array.size:
        places = {"chw": 0, "hwc": 2} if isinstance(image, Tensor) else {"hwc": 2, "chw": 0}
        for layout, place in places.items():
            if array.shape[place] in possible:
                return layout
    numbers = " or ".join(map(str, sorted(possible)))
    raise ConfigError(f"{described(image)} is no image: [H, W, C] or [C, H, W] of {numbers} channels is needed")


def _depth(array: np.ndarray, image: Any, values: Range) -> Depth:
    """Return which values of an array are black and white."""
    if not np.isfinite(array).all():
        raise UnreadableImageError("holds values that are no numbers")
    known = Reading(values).bounds
    if known is None:
        likely = range_of((float(array.min()), float(array.max())), "range=").translate(str.maketrans("[]", "()"))
        raise ConfigError(f"{described(image)}: say which values are black and white, {likely}")
    return Depth(array.dtype, *known)
