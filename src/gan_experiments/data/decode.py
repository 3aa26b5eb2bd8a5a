"""One encoded image of any kind to uint8 pixels of a fixed size."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_jpeg

from gan_experiments.data.limits import UnreadableImageError, why

FILTER = "bicubic"


def decode(raw: bytes, resolution: int, channels: int, crop: int | None = None) -> Tensor:
    """Decode a file's bytes to uint8 [channels, resolution, resolution]: upright, over white, centre crop, antialiased.

    `crop` is the side in pixels of the centred square that is kept (None: the short side). Raises UnreadableImageError.
    """
    try:
        image = Image.open(io.BytesIO(raw))
        short = min(image.size)
        kept = min(crop or short, short)
        if image.format == "JPEG" and image.mode in ("L", "RGB") and kept < 4 * resolution:
            # Twice as fast as PIL, and equal to it.
            mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
            encoded = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
            return fit(decode_jpeg(encoded, mode=mode, apply_exif_orientation=True), resolution, kept)
        if image.format == "JPEG" and image.mode in ("L", "RGB"):
            # libjpeg shrinks while it decodes; twice the wanted size is left to the antialiased resize.
            wanted = 2 * resolution * short // kept
            image.draft(None, (wanted, wanted))
            kept = max(1, round(kept * min(image.size) / short))
        pixels = np.array(_flatten(ImageOps.exif_transpose(image), channels))
    except Exception as error:  # decoders raise nearly everything on broken files, and one file must not end the run
        raise UnreadableImageError(why(error)) from None
    return fit(torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1), resolution, kept)


def pixels_of(raw: bytes, channels: int | None = None) -> Tensor:
    """Decode a file's bytes to uint8 [C, H, W] of the size that it has, C by default 1 for a grey file and else 3.

    Upright and over white, as `decode`. Raises UnreadableImageError.
    """
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
        channels = channels or (1 if image.mode in ("1", "L", "LA", "F") or image.mode[0] == "I" else 3)
        pixels = np.array(_flatten(image, channels))
    except Exception as error:  # as above
        raise UnreadableImageError(why(error)) from None
    return torch.from_numpy(pixels).view(*pixels.shape[:2], channels).permute(2, 0, 1)


def fit(pixels: Tensor, resolution: int, crop: int | None = None) -> Tensor:
    """Cut the centred square of `crop` pixels (None: the short side) out of uint8 [C, H, W] and resize it."""
    height, width = pixels.shape[-2:]
    side = min(crop or height, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(pixels[None, :, top : top + side, left : left + side], resolution)[0]


def resize(images: Tensor, resolution: int) -> Tensor:
    """Resize uint8 [N, C, H, H] to uint8 [N, C, resolution, resolution], antialiased."""
    if images.shape[-1] == images.shape[-2] == resolution:
        return images
    return F.interpolate(images, size=(resolution, resolution), mode=FILTER, antialias=True)


def _flatten(image: Image.Image, channels: int) -> Image.Image:
    """Bring any mode of PIL to 8-bit L (one channel) or RGB (three), transparency over white."""
    if image.mode[0] == "I" or image.mode == "F":
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit integers, or floats in [0, 1], to uint8; what is in 0..255 already stays (PIL would clip at 255)."""
    if values.dtype.kind == "f":
        scale = 255.0 if values.max() <= 1 else 1.0
    else:
        scale = 255 / 65535 if values.dtype.itemsize == 2 or values.max() > 255 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
