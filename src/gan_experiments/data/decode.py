"""Decode an image file of any kind to uint8 pixels of a fixed size."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from gan_experiments.data.rasters import OWN, WINDOWS, Raster, arranged, open_raster
from gan_experiments.drawing import over_white, scaled

FILTER = "bicubic"
LONGEST = 32  # the greatest length of an image that pieces are cut out of, in pieces of the wanted shape

Range: TypeAlias = tuple[float, float] | str | None
"""The values that become black and white in files of more than 8 bits.

"auto" is for the least and the greatest value of all files, None for those of the file's kind. A name among
`rasters.WINDOWS` is for a window of computed tomography, "dicom" for the one that each DICOM file names itself.
"""

Shape: TypeAlias = int | Sequence[int]
"""The side of a square in pixels, or height and width; see `bounds.sides`."""

Found: TypeAlias = tuple[Tensor | None, Seen]
"""A frame at its own size, uint8 [C, H, W], or None for an empty slice; and what was seen of it."""

_FRAMES = ("GIF", "PNG", "TIFF", "WEBP")  # in other formats, frames are layers, thumbnails or sizes of one image
_BITS_PER_SAMPLE = 258  # a TIFF's tag
_ORIENTATION = 0x0112  # EXIF's
_BIT_DEPTH = 24  # the byte of a PNG that holds it


class Reading:
    """How files are read, and a tally of them, `met`.

    `bounds` become black and white (None: those of the file's kind). `window` is the name of a window, if one was
    chosen: files that are in other units are refused. `axis` is the direction across the slices of NIfTI. `bands` is
    the number of channels if they are no colours; 0 otherwise.
    """

    def __init__(self, range: Range = None, axis: str = "axial", bands: int = 0) -> None:
        self.window = range if isinstance(range, str) else None
        if self.window in WINDOWS:
            centre, width = WINDOWS[self.window]
            range = centre - width / 2, centre + width / 2
        self.bounds = None if isinstance(range, str) else range
        self.axis, self.bands, self.met = axis, bands, Met()


def decode(
    raw: bytes,
    resolution: Shape,
    channels: int,
    crop: Shape | None = None,
    reading: Reading | None = None,
    frames: Sequence[int] | None = None,
    how: str = "crop",
) -> Tensor:
    """Decode a file's bytes to uint8 [channels, H, W], H and W as in `resolution`: upright and antialiased.

    Transparency is laid over white, unless `channels` is 4: then it is the fourth. `crop` and `how` say what is done
    with an image of another shape, see `fit`. Without `frames` the first one is taken, or the middle slice of a volume.
    The result for several is [n, channels, H, W]; empty slices of a volume are left out of it. Raises
    UnreadableImageError.
    """
    reading, wanted = reading or Reading(), sides(resolution)
    try:
        raster = open_raster(raw, channels, reading.axis, reading.bands)
        if raster is not None:
            found = [_of_raster(raster, channels, frame, reading) for frame in frames or (None,)]
        else:
            found, crop = _of_pillow(raw, wanted, channels, crop, reading, frames or (0,), how)
    except Exception as error:  # decoders raise nearly everything on broken files, and one file must not end the run
        raise UnreadableImageError(why(error)) from None
    for _, seen in found:
        reading.met.add(seen)
    alpha = has_alpha(channels, reading.bands)
    made = [fit(pixels, wanted, crop, how, alpha) for pixels, _ in found if pixels is not None]
    if not made:
        return torch.empty(0, channels, *wanted, dtype=torch.uint8)
    return made[0] if len(made) == len(found) == 1 else torch.stack(made)


def _of_pillow(
    raw: bytes,
    wanted: tuple[int, int],
    channels: int,
    crop: Shape | None,
    reading: Reading,
    frames: Sequence[int],
    how: str,
) -> tuple[list[Found], Shape | None]:
    """Decode frames by Pillow or libjpeg, at their own size or reduced; return them, and `crop` as of that size."""
    image = Image.open(io.BytesIO(raw))
    kind = _kind(image, raw)
    _require_window(reading, kind)
    if image.format != "JPEG" or image.mode not in ("L", "RGB") or channels not in (1, 3):
        return [_frame(image, raw, kind, channels, frame, reading) for frame in frames], crop
    width, height = size = _upright(image)
    piece = piece_of((height, width), wanted, crop, how)
    if any(part < 4 * side for part, side in zip(piece, wanted, strict=True)):
        # Twice as fast as PIL, and equal to it.
        mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
        encoded = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        return [(decode_jpeg(encoded, mode=mode, apply_exif_orientation=True), Seen(size, kind))], crop
    # libjpeg shrinks while it decodes; twice the wanted size is left to the antialiased resize.
    short = min(size)
    least = max(2 * side * short // part for part, side in zip(piece, wanted, strict=True))
    image.draft(None, (least, least))
    if crop is not None:
        kept = piece_of((height, width), wanted, crop, "stretch")
        crop = [max(1, round(side * min(image.size) / short)) for side in kept]
    return [(_pixels(ImageOps.exif_transpose(image), channels), Seen(size, kind))], crop


def pixels_of(raw: bytes, channels: int | None = None, reading: Reading | None = None) -> Tensor:
    """Decode a file's bytes to uint8 [C, H, W] at its own size, with C by default 1 for a grey file and 3 otherwise.

    The image is upright and, unless C is 4, over white, as in `decode`. Raises UnreadableImageError.
    """
    reading = reading or Reading()
    try:
        raster = open_raster(raw, channels, reading.axis, reading.bands)
        if raster is not None:
            found, seen = _of_raster(raster, channels, None, reading)
        else:
            image = Image.open(io.BytesIO(raw))
            _require_window(reading, kind := _kind(image, raw))
            channels = channels or (1 if image.mode in ("1", "L", "LA", "F") or image.mode[0] == "I" else 3)
            found, seen = _frame(image, raw, kind, channels, 0, reading)
    except Exception as error:  # as above
        raise UnreadableImageError(why(error)) from None
    reading.met.add(seen)
    assert found is not None, "one frame is taken even if it is empty"
    return found


def picture(image: Image.Image, channels: int, reading: Reading) -> tuple[Tensor, Seen]:
    """Convert a PIL image as it is, not turned by its EXIF data, to uint8 [channels, H, W]; return what was seen of it.

    Raises UnreadableImageError.
    """
    try:
        plain = image.copy()
        plain.info = {key: value for key, value in image.info.items() if key == "transparency"}
        _require_window(reading, kind := _kind(plain, b""))
        return _frame(plain, b"", kind, channels, 0, reading)
    except Exception as error:  # as above
        raise UnreadableImageError(why(error)) from None


@dataclass(frozen=True)
class Depth:
    """How a file of more than 8 bits holds its values: of which type, and which are black (-1) and white (1)."""

    dtype: np.dtype
    low: float
    high: float

    def values(self, images: Tensor) -> np.ndarray:
        """Return the values of float images [..., C, H, W] in [-1, 1] as [..., H, W, C]; whole ones are rounded."""
        values = scaled(images, (self.low, self.high))
        if self.dtype.kind != "f":
            limits = np.iinfo(self.dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        return values.astype(self.dtype)


def exact_of(raw: bytes, channels: int, reading: Reading) -> tuple[Tensor, Depth] | None:
    """Decode a file of more than 8 bits to float32 [channels, H, W] in [-1, 1] without rounding; None for other files.

    All else is as in `pixels_of`. Raises UnreadableImageError.
    """
    try:
        raster = open_raster(raw, channels, reading.axis, reading.bands)
        if raster is not None:
            stored, alpha = arranged(raster.read(raster.middle), raster, channels, reading.bands), None
            dtype, full, own = stored.dtype, raster.full or _full(stored), raster.window
        else:
            image = Image.open(io.BytesIO(raw))
            if not _is_deep(_kind(image, raw)):
                return None
            own, stored = None, _stored(image, raw)
            signed = image.format == "TIFF" and image.tag_v2.get(339, (1,))[0] == 2  # type: ignore[attr-defined]
            short = signed and image.tag_v2.get(_BITS_PER_SAMPLE, (32,))[0] == 16  # type: ignore[attr-defined]
            dtype, full = np.dtype(np.int16) if short else stored.dtype, _full(stored) if stored.ndim == 2 else 65535.0
            stored = _turned(stored, image.getexif().get(_ORIENTATION, 1))
            upright = ImageOps.exif_transpose(image)
            alpha = np.asarray(upright.convert("RGBA"))[..., 3] if image.has_transparency_data else None
        if dtype in (np.uint8, np.bool_):
            return None
        if not np.isfinite(stored).all():
            raise UnreadableImageError("holds values that are no numbers")
        low, high = (own if reading.window == OWN else reading.bounds) or (0.0, full)
        depth = Depth(dtype if dtype.itemsize < 8 else np.dtype(np.float32), low, high)
        made = ((stored.astype(np.float64) - low) * (2 / (high - low)) - 1).clip(-1, 1).astype(np.float32)
        if raster is not None and raster.inverted:
            made, depth = -made, Depth(depth.dtype, high, low)
        pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.atleast_3d(made), 2, 0)))
    except Exception as error:  # as above
        raise UnreadableImageError(why(error)) from None
    opacity = None if alpha is None else torch.from_numpy(alpha / 127.5 - 1).float()
    return exact_channels(pixels, opacity, channels), depth


def exact_channels(pixels: Tensor, alpha: Tensor | None, channels: int) -> Tensor:
    """Convert float [C, H, W] in [-1, 1] to `channels` as `match_channels` does."""
    if alpha is None and len(pixels) == 4 != channels:
        pixels, alpha = pixels[:3], pixels[3]
    if channels == 4:
        if len(pixels) == 4:
            return pixels
        opaque = torch.ones_like(pixels[:1]) if alpha is None else alpha[None]
        return torch.cat([pixels.expand(3, -1, -1), opaque])
    if alpha is not None:
        pixels = 1 + (pixels - 1) * (alpha + 1) / 2
    if channels == 1 and len(pixels) == 3:
        return (pixels * torch.tensor([19595, 38470, 7471]).view(3, 1, 1) / 65536).sum(0, keepdim=True)
    return pixels.expand(channels, -1, -1)


def as_grey(image: Tensor) -> Tensor:
    """Convert an image RGB [3, H, W], uint8 or float in [-1, 1], to grey [1, H, W]."""
    return exact_channels(image, None, 1) if image.is_floating_point() else match_channels(image[None], 1)[0]


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn values [H, W, ...] upright by EXIF's orientation, 1 to 8."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    return values[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]


def decoded(raw: bytes, channels: int, reading: Reading) -> Tensor:
    """Decode a file's bytes to uint8 [channels, H, W] as `pixels_of`, and to grey or RGB by way of its own colours."""
    if channels not in (1, 3):
        return pixels_of(raw, channels, reading)
    return match_channels(pixels_of(raw, reading=reading)[None], channels)[0]


def size_of(raw: bytes, reading: Reading) -> tuple[int, int]:
    """Return the width and the height of an image file, as they are stored."""
    raster = open_raster(raw, reading.bands or None, reading.axis, reading.bands)
    return Image.open(io.BytesIO(raw)).size if raster is None else raster.size


def has_alpha(channels: int | None, bands: int) -> bool:
    """Return True if images of so many channels are RGB and transparency."""
    return channels == 4 and not bands


def values_of(raw: bytes, every: bool = False, axis: str = "axial", bands: int = 0) -> tuple[float, float] | None:
    """Return the least and the greatest value of a file of more than 8 bits, of one or of `every` frame.

    None for files of 8 bits, and for broken ones and those with values that are no numbers.
    """
    try:
        raster = open_raster(raw, bands or None, axis, bands)
        if raster is not None:
            frames = range(raster.frames) if every else (raster.middle,)
            arrays: Iterable[np.ndarray] = map(raster.read, frames)
        else:
            image = Image.open(io.BytesIO(raw))
            if not _is_deep(_kind(image, raw)):
                return None
            arrays = (_sought(image, raw, frame) for frame in range(_frames(image) if every else 1))
        found = [(float(values.min()), float(values.max())) for values in arrays if values.dtype != np.uint8]
    except Exception:  # the error is reported when the file is decoded
        return None
    if not found or not all(map(math.isfinite, (value for pair in found for value in pair))):
        return None
    return min(low for low, _ in found), max(high for _, high in found)


def _sought(image: Image.Image, raw: bytes, frame: int) -> np.ndarray:
    _seek(image, frame)
    return _stored(image, raw)


def frames_of(raw: bytes, axis: str = "axial", bands: int = 0) -> int:
    """Count a file's frames, or slices across `axis`; 1 if it is no image."""
    try:
        raster = open_raster(raw, bands or None, axis, bands)
        return _frames(Image.open(io.BytesIO(raw))) if raster is None else raster.frames
    except Exception:  # as above
        return 1


def fit(pixels: Tensor, resolution: Shape, crop: Shape | None = None, how: str = "crop", alpha: bool = False) -> Tensor:
    """Bring uint8 [C, H, W] or [N, C, H, W] to the height and width of `resolution`.

    Of `crop`, a side or height and width in pixels, the middle is kept first (None: all). Then `how` is "crop", which
    keeps the largest piece of the wanted shape in the middle; "stretch", which ignores the shape; or "pad", which
    resizes what is there to what fits in, and repeats its outermost pixels around it. `alpha` as in `resize`.
    """
    images, wanted = pixels if pixels.ndim == 4 else pixels[None], sides(resolution)
    size = (images.shape[-2], images.shape[-1])
    piece = piece_of(size, wanted, crop, how)
    for dim, (length, part) in enumerate(zip(size, piece, strict=True), 2):
        images = images.narrow(dim, (length - part) // 2, part)
    if how == "pad":
        scale = min(side / part for side, part in zip(wanted, piece, strict=True))
        images = resize(images, [max(1, round(part * scale)) for part in piece], alpha)
        for dim, side in enumerate(wanted, 2):
            within = images.shape[dim]
            images = images.index_select(dim, (torch.arange(side) - (side - within) // 2).clamp(0, within - 1))
    images = resize(images, wanted, alpha)
    return images if pixels.ndim == 4 else images[0]


def piece_of(size: tuple[int, int], wanted: tuple[int, int], crop: Shape | None, how: str) -> tuple[int, int]:
    """Return height and width of the part in the middle of an image of this size (height, width) that `fit` keeps."""
    limit = size if crop is None else sides(crop)
    height, width = (min(length, side) for length, side in zip(size, limit, strict=True))
    if how != "crop":
        return height, width
    tall, wide = wanted
    return min(height, max(1, round(width * tall / wide))), min(width, max(1, round(height * wide / tall)))


def shortened(pixels: Tensor, resolution: Shape, alpha: bool = False) -> Tensor:
    """Resize uint8 [C, H, W] to the least size that covers height and width of `resolution`, without another shape.

    Of an image longer than LONGEST pieces of the wanted shape, the middle is kept. `alpha` as in `resize`.
    """
    tall, wide = sides(resolution)
    height, width = pixels.shape[-2:]
    for dim, most in ((1, width * tall // wide), (2, height * wide // tall)):
        length = pixels.shape[dim]
        kept = min(length, LONGEST * max(1, most))
        pixels = pixels.narrow(dim, (length - kept) // 2, kept)
    part, side = (height, tall) if height * wide <= width * tall else (width, wide)
    return resize(pixels[None], [round(length * side / part) for length in pixels.shape[-2:]], alpha)[0]


def resize(images: Tensor, size: int | Sequence[int], alpha: bool = False) -> Tensor:
    """Resize uint8 [N, C, H, W] to uint8 [N, C, *size], antialiased; an integer `size` is that of both sides.

    `alpha` is for RGB and transparency: each colour then counts by how far it is seen, so that those of invisible
    pixels do not run into others.
    """
    wanted = [size, size] if isinstance(size, int) else [*size]
    if [*images.shape[-2:]] == wanted:
        return images
    if not alpha:
        return F.interpolate(images, wanted, mode=FILTER, antialias=True)
    opacity = images[:, 3:].float()
    both = torch.cat([images[:, :3] * opacity, opacity], dim=1)
    seen, opacity = F.interpolate(both, wanted, mode=FILTER, antialias=True).split([3, 1], dim=1)
    resized = torch.cat([seen / opacity.clamp(min=1), opacity], dim=1)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _frame(
    image: Image.Image, raw: bytes, kind: str, channels: int, frame: int, reading: Reading
) -> tuple[Tensor, Seen]:
    """Decode one frame at its own size to uint8 [channels, H, W]; return it with what was seen of it."""
    _seek(image, frame)
    bounds = reading.bounds
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
            upright = Image.fromarray(to_8_bit(stored, bounds or (0, full)))
        elif bounds is not None:
            alpha = upright.getchannel("A") if "A" in upright.getbands() else None
            upright = ImageOps.exif_transpose(_with_exif(Image.fromarray(to_8_bit(stored, bounds)), image))
            if alpha is not None:
                upright.putalpha(alpha)
    number = _frames(image) if frame == 0 else 1
    size, opaque = _upright(image), has_alpha(channels, reading.bands) and not upright.has_transparency_data
    return _pixels(upright, channels, reading.bands), Seen(size, kind, number, values, full, opaque)


def _of_raster(raster: Raster, channels: int | None, frame: int | None, reading: Reading) -> Found:
    """Do the same with a frame of a raster, None for the one that is taken if one is; an empty slice gives None."""
    if reading.window in WINDOWS and not raster.hounsfield:
        _require_window(reading, raster.kind)
    stored = arranged(raster.read(raster.middle if frame is None else frame), raster, channels, reading.bands)
    values = float(stored.min()), float(stored.max())
    if not all(map(math.isfinite, values)):
        raise UnreadableImageError("holds values that are no numbers")
    number = raster.frames if frame in (None, 0) else 1
    if frame is not None and raster.volume and values[0] == values[1]:
        return None, Seen(raster.size, raster.kind, number, empty=True)
    bounds, full = reading.bounds, None
    if stored.dtype in (np.uint8, np.bool_):
        known = None
        eight = stored.view(np.uint8) * (255 if stored.dtype == np.bool_ else 1)
    else:
        known, full = values, raster.full or _full(stored)
        if reading.window == OWN:
            bounds = raster.window
            if bounds is None:
                raise UnreadableImageError(f"names no window of its own, as data.range={OWN} needs it")
        numbers = stored.astype(np.float32) if stored.dtype.itemsize < 4 else stored
        eight = to_8_bit(numbers, bounds or (0, full))
    pixels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(255 - eight if raster.inverted else eight, 2, 0)))
    opaque = has_alpha(channels, reading.bands) and len(pixels) != 4
    if channels is None:  # as of Pillow's files: over white
        channels = 1 if len(pixels) == 1 else 3
    return match_channels(pixels[None], channels)[0], Seen(raster.size, raster.kind, number, known, full, opaque)


def _require_window(reading: Reading, kind: str) -> None:
    """Raise UnreadableImageError for a file that is not in the units of the window that was chosen."""
    if reading.window in WINDOWS:
        raise UnreadableImageError(f"is {kind}, and data.range={reading.window} is in Hounsfield units")
    if reading.window == OWN and _is_deep(kind):
        raise UnreadableImageError(f"is {kind}, and data.range={OWN} is the window that a DICOM file names")


def match_channels(images: Tensor, channels: int) -> Tensor:
    """Convert uint8 [N, C, H, W] to `channels`, where both are 1, 3 or 4 (RGB and transparency), or equal.

    Transparency is laid over white; images without are opaque.
    """
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 4:
        return match_channels(over_white(images), channels)
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    if channels == 4:
        return torch.cat([images.expand(-1, 3, -1, -1), torch.full_like(images[:, :1], 255)], dim=1)
    red, green, blue = images.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[:, None]  # as PIL's "L"


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


def _pixels(image: Image.Image, channels: int, bands: int = 0) -> Tensor:
    """Convert an image of any of PIL's 8-bit modes to uint8 [channels, H, W].

    That is grey or RGB with transparency over white, RGBA if `channels` is 4, and else, or of `bands`, as it is stored.
    """
    if channels not in (1, 3, 4) or (bands and channels == 4):
        if len(image.getbands()) != channels or image.mode == "P":
            held = (
                "a palette" if image.mode == "P" else f"{len(image.getbands())} bands ({', '.join(image.getbands())})"
            )
            raise UnreadableImageError(f"has {held}, and data.channels={channels} are asked for")
        pixels = np.array(image)
    elif channels == 4:
        pixels = np.array(image.convert("RGBA"))
    else:
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


def to_8_bit(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Scale values to uint8, the first bound to 0 and the second to 255; clip what lies beyond."""
    low, high = bounds
    scale = 255 / (high - low)  # float32 values stay float32
    return np.clip(np.rint((values - low if low else values) * scale), 0, 255).astype(np.uint8)
