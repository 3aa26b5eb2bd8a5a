"""Decode an image file of any kind to uint8 pixels of a fixed size."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg

from gan_experiments.bounds import sides
from gan_experiments.data.limits import UnreadableImageError, why
from gan_experiments.data.met import Met, Seen

FILTER = "bicubic"
LONGEST = 32  # the greatest length of an image that pieces are cut out of, in pieces of the wanted shape

Range: TypeAlias = tuple[float, float] | str | None
"""The values that become black and white in files of more than 8 bits.

"auto" is for the least and the greatest value of all files, None for those of the file's kind.
"""

Shape: TypeAlias = int | Sequence[int]
"""The side of a square in pixels, or height and width; see `bounds.sides`."""

_FRAMES = ("GIF", "PNG", "TIFF", "WEBP")  # in other formats, frames are layers, thumbnails or sizes of one image
_BITS_PER_SAMPLE = 258  # a TIFF's tag
_ORIENTATION = 0x0112  # EXIF's
_BIT_DEPTH = 24  # the byte of a PNG that holds it


class Reading:
    """How the values of files are scaled, `bounds` as in `Range` but never "auto", and a tally of the files, `met`."""

    def __init__(self, bounds: tuple[float, float] | None = None) -> None:
        self.bounds, self.met = bounds, Met()


def decode(
    raw: bytes,
    resolution: Shape,
    channels: int,
    crop: Shape | None = None,
    reading: Reading | None = None,
    frames: Sequence[int] = (0,),
    how: str = "crop",
) -> Tensor:
    """Decode a file's bytes to uint8 [channels, H, W], H and W as in `resolution`: upright, over white, antialiased.

    `crop` and `how` say what is done with an image of another shape, see `fit`. The result for several `frames` is
    [n, channels, H, W]. Raises UnreadableImageError.
    """
    wanted = sides(resolution)
    try:
        image = Image.open(io.BytesIO(raw))
        kind = _kind(image, raw)
        width, height = size = _upright(image)
        if image.format == "JPEG" and image.mode in ("L", "RGB"):
            seen = Seen(size, kind)
            piece = _piece((height, width), wanted, crop, how)
            if any(part < 4 * side for part, side in zip(piece, wanted, strict=True)):
                # Twice as fast as PIL, and equal to it.
                mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
                encoded = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
                pixels = decode_jpeg(encoded, mode=mode, apply_exif_orientation=True)
            else:
                # libjpeg shrinks while it decodes; twice the wanted size is left to the antialiased resize.
                short = min(size)
                least = max(2 * side * short // part for part, side in zip(piece, wanted, strict=True))
                image.draft(None, (least, least))
                if crop is not None:
                    kept = _piece((height, width), wanted, crop, "stretch")
                    crop = [max(1, round(side * min(image.size) / short)) for side in kept]
                pixels = _pixels(ImageOps.exif_transpose(image), channels)
            found = [(pixels, seen)]
        else:
            found = [_frame(image, raw, kind, channels, frame, reading) for frame in frames]
    except Exception as error:  # decoders raise nearly everything on broken files, and one file must not end the run
        raise UnreadableImageError(why(error)) from None
    if reading is not None:
        for _, seen in found:
            reading.met.add(seen)
    made = [fit(pixels, wanted, crop, how) for pixels, _ in found]
    return made[0] if len(made) == 1 else torch.stack(made)


def pixels_of(raw: bytes, channels: int | None = None, reading: Reading | None = None) -> Tensor:
    """Decode a file's bytes to uint8 [C, H, W] at its own size, with C by default 1 for a grey file and 3 otherwise.

    The image is upright and over white, as in `decode`. Raises UnreadableImageError.
    """
    try:
        image = Image.open(io.BytesIO(raw))
        channels = channels or (1 if image.mode in ("1", "L", "LA", "F") or image.mode[0] == "I" else 3)
        pixels, seen = _frame(image, raw, _kind(image, raw), channels, 0, reading)
    except Exception as error:  # as above
        raise UnreadableImageError(why(error)) from None
    if reading is not None:
        reading.met.add(seen)
    return pixels


def picture(image: Image.Image, channels: int, bounds: tuple[float, float] | None = None) -> tuple[Tensor, Seen]:
    """Convert a PIL image as it is, not turned by its EXIF data, to uint8 [channels, H, W]; return what was seen of it.

    `bounds` are the values that become black and white if it has more than 8 bits. Raises UnreadableImageError.
    """
    try:
        plain = image.copy()
        plain.info = {key: value for key, value in image.info.items() if key == "transparency"}
        return _frame(plain, b"", _kind(plain, b""), channels, 0, Reading(bounds))
    except Exception as error:  # as above
        raise UnreadableImageError(why(error)) from None


def values_of(raw: bytes, frames: Sequence[int] = (0,)) -> tuple[float, float] | None:
    """Return the least and the greatest value of a file of more than 8 bits; None for others and for broken ones."""
    try:
        image = Image.open(io.BytesIO(raw))
        if not _is_deep(_kind(image, raw)):
            return None
        found = []
        for frame in frames:
            _seek(image, frame)
            stored = _stored(image, raw)
            found.append((float(stored.min()), float(stored.max())))
    except Exception:  # the error is reported when the file is decoded
        return None
    return min(low for low, _ in found), max(high for _, high in found)


def frames_of(raw: bytes) -> int:
    """Count a file's frames; 1 if it is no image."""
    try:
        return _frames(Image.open(io.BytesIO(raw)))
    except Exception:  # as above
        return 1


def fit(pixels: Tensor, resolution: Shape, crop: Shape | None = None, how: str = "crop") -> Tensor:
    """Bring uint8 [C, H, W] or [N, C, H, W] to the height and width of `resolution`.

    Of `crop`, a side or height and width in pixels, the middle is kept first (None: all). Then `how` is "crop", which
    keeps the largest piece of the wanted shape in the middle; "stretch", which ignores the shape; or "pad", which
    resizes what is there to what fits in, and repeats its outermost pixels around it.
    """
    images, wanted = pixels if pixels.ndim == 4 else pixels[None], sides(resolution)
    size = (images.shape[-2], images.shape[-1])
    piece = _piece(size, wanted, crop, how)
    for dim, (length, part) in enumerate(zip(size, piece, strict=True), 2):
        images = images.narrow(dim, (length - part) // 2, part)
    if how == "pad":
        scale = min(side / part for side, part in zip(wanted, piece, strict=True))
        images = resize(images, [max(1, round(part * scale)) for part in piece])
        for dim, side in enumerate(wanted, 2):
            within = images.shape[dim]
            images = images.index_select(dim, (torch.arange(side) - (side - within) // 2).clamp(0, within - 1))
    images = resize(images, wanted)
    return images if pixels.ndim == 4 else images[0]


def _piece(size: tuple[int, int], wanted: tuple[int, int], crop: Shape | None, how: str) -> tuple[int, int]:
    """Return height and width of the part in the middle of an image of a size that `fit` keeps."""
    limit = size if crop is None else sides(crop)
    height, width = (min(length, side) for length, side in zip(size, limit, strict=True))
    if how != "crop":
        return height, width
    tall, wide = wanted
    return min(height, max(1, round(width * tall / wide))), min(width, max(1, round(height * wide / tall)))


def shortened(pixels: Tensor, resolution: Shape) -> Tensor:
    """Resize uint8 [C, H, W] to the least size that covers height and width of `resolution`, without another shape.

    Of an image longer than LONGEST pieces of the wanted shape, the middle is kept.
    """
    tall, wide = sides(resolution)
    height, width = pixels.shape[-2:]
    for dim, most in ((1, width * tall // wide), (2, height * wide // tall)):
        length = pixels.shape[dim]
        kept = min(length, LONGEST * max(1, most))
        pixels = pixels.narrow(dim, (length - kept) // 2, kept)
    part, side = (height, tall) if height * wide <= width * tall else (width, wide)
    return resize(pixels[None], [round(length * side / part) for length in pixels.shape[-2:]])[0]


def resize(images: Tensor, size: int | Sequence[int]) -> Tensor:
    """Resize uint8 [N, C, H, W] to uint8 [N, C, *size], antialiased; an integer `size` is that of both sides."""
    wanted = [size, size] if isinstance(size, int) else [*size]
    return images if [*images.shape[-2:]] == wanted else F.interpolate(images, wanted, mode=FILTER, antialias=True)


def _frame(
    image: Image.Image, raw: bytes, kind: str, channels: int, frame: int, reading: Reading | None
) -> tuple[Tensor, Seen]:
    """Decode one frame at its own size to uint8 [channels, H, W]; return it with what was seen of it."""
    _seek(image, frame)
    bounds = None if reading is None else reading.bounds
    values = full = None
    upright = ImageOps.exif_transpose(image)
    if _is_deep(kind):
        deep = image.mode[0] == "I" or image.mode == "F"
        stored = np.asarray(upright) if deep else _stored(image, raw)
        values = float(stored.min()), float(stored.max())
        if not all(map(math.isfinite, values)):
            raise UnreadableImageError("holds values that are no numbers")
        full = _full(stored) if deep else 65535.0
        if deep:
            upright = Image.fromarray(_to_8_bit(stored, bounds or (0, full)))
        elif bounds is not None:
            alpha = upright.getchannel("A") if "A" in upright.getbands() else None
            upright = ImageOps.exif_transpose(_with_exif(Image.fromarray(_to_8_bit(stored, bounds)), image))
            if alpha is not None:
                upright.putalpha(alpha)
    number = _frames(image) if reading is not None and frame == 0 else 1
    size = _upright(image)
    return _pixels(upright, channels), Seen(size, kind, number, values, full)


def _upright(image: Image.Image) -> tuple[int, int]:
    """Return the width and height of an image as it is shown, by its EXIF orientation."""
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else (width, height)


def _with_exif(made: Image.Image, image: Image.Image) -> Image.Image:
    made.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    return made


def _seek(image: Image.Image, frame: int) -> None:
    if frame:
        image.seek(frame)


def _frames(image: Image.Image) -> int:
    if image.format not in _FRAMES or not getattr(image, "is_animated", False):
        return 1
    return int(getattr(image, "n_frames", 1))


def _pixels(image: Image.Image, channels: int) -> Tensor:
    """Convert an image of any of PIL's 8-bit modes to uint8 [channels, H, W], grey or RGB, transparency over white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1)


def _kind(image: Image.Image, raw: bytes) -> str:
    """Return in words what kind of pixels a file has."""
    mode = image.mode
    if mode == "F":
        return "floating-point grey"
    if mode[0] == "I":
        return "16-bit grey" if ";" in mode else "32-bit grey"
    if mode == "P":
        return "palette"
    depth = 1 if mode == "1" else 8
    if mode in ("RGB", "RGBA", "LA") and image.format == "PNG":
        depth = raw[_BIT_DEPTH]
    elif mode in ("RGB", "RGBA") and image.format == "TIFF":
        depth = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0]  # type: ignore[attr-defined]
    names = {"1": "grey", "L": "grey", "LA": "grey and transparency", "RGBA": "RGB and transparency"}
    return f"{16 if depth == 16 else 1 if depth == 1 else 8}-bit {names.get(mode, mode)}"


def _is_deep(kind: str) -> bool:
    return not kind.startswith(("8-", "1-", "palette"))


def _stored(image: Image.Image, raw: bytes) -> np.ndarray:
    """Return the values of a file of more than 8 bits, without transparency.

    PIL keeps only the upper byte of 16-bit colours. So the file is read again in the other byte order, which gives the
    lower byte; if PIL knows no such order, the upper byte is taken for both.
    """
    if image.mode[0] == "I" or image.mode == "F":
        return np.asarray(image)
    high = np.asarray(image)[..., :3].astype(np.uint16)
    lower = Image.open(io.BytesIO(raw))
    _seek(lower, image.tell())
    lower.tile = [tile._replace(args=_other_order(tile.args)) for tile in lower.tile]
    try:
        return high << 8 | np.asarray(lower)[..., :3]
    except ValueError:  # unknown raw mode
        return high * 257


def _other_order(args: Any) -> Any:
    """Return the arguments by which PIL's decoders keep the other byte of 16: "RGB;16L" for "RGB;16B"."""
    if isinstance(args, tuple):
        return tuple(map(_other_order, args))
    if not isinstance(args, str) or args[-4:] not in (";16B", ";16L", ";16N"):
        return args
    native = "L" if sys.byteorder == "little" else "B"
    order = native if args[-1] == "N" else args[-1]
    return args[:-1] + ("L" if order == "B" else "B")


def _full(values: np.ndarray) -> float:
    """Return the value that becomes white by default: of 16 bits, 65535; of floats in [0, 1], 1; of others, 255."""
    if values.dtype.kind == "f":
        return 1.0 if values.max() <= 1 else 255.0
    return 65535.0 if values.dtype.itemsize == 2 or values.max() > 255 else 255.0


def _to_8_bit(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Scale values to uint8, the first bound to 0 and the second to 255; clip what lies beyond."""
    low, high = bounds
    scale = 255 / (high - low)  # float32 values stay float32
    return np.clip(np.rint((values - low if low else values) * scale), 0, 255).astype(np.uint8)
