"""Uploaded files as pixels, and pixels as what is sent: PNG, JPEG, a sheet, a zip archive, JSON."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from gan_experiments import drawing, provenance
from gan_experiments.data.limits import UnreadableImageError, why
from gan_experiments.provenance import Mark

READ = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""The formats of uploads; others have decoders that start programs, or that nobody needs here."""
SCANS = 100
"""Scans of a JPEG at most. A small file can hold very many, each as costly to decode as a whole image."""
SENT = {
    "png": "image/png",
    "sheet": "image/png",
    "jpeg": "image/jpeg",
    "zip": "application/zip",
    "json": "application/json",
}
"""The media types of answers by `format`."""
EPOCH = (1980, 1, 1, 0, 0, 0)


def require_taken(raw: bytes, max_pixels: int) -> None:
    """Raise UnreadableImageError unless a file is an image of a known format and of no more pixels than that.

    Nothing is decoded for it.
    """
    try:
        with Image.open(io.BytesIO(raw), formats=READ) as image:
            width, height, kind = *image.size, image.format
    except Exception as error:  # decoders raise nearly everything on broken files
        reason = why(error)
        reason = f"is no {', '.join(READ[:-1])} or {READ[-1]}" if reason == "not an image" else reason.partition(";")[0]
        raise UnreadableImageError(reason) from None
    if width * height > max_pixels:
        raise UnreadableImageError(f"has {width}x{height} pixels, and at most {max_pixels:,} are taken")
    if kind in ("JPEG", "MPO") and raw.count(b"\xff\xda") > SCANS:
        raise UnreadableImageError(f"is a JPEG of more than {SCANS} scans")


def png(image: Tensor, mark: Mark | None) -> bytes:
    """Encode a uint8 image [C, H, W] as PNG; of more bands than colours have, the first three are shown."""
    shown = image if len(image) == 4 else drawing.viewed(image)
    pixels = shown.permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.save(file, "PNG", **provenance.options("PNG", mark))
    return file.getvalue()


def sheet(images: Tensor, columns: int | None, mark: Mark | None) -> bytes:
    """Encode uint8 images [n, C, H, W] as one PNG."""
    return png(drawing.sheet(images[:, None], columns), mark)


def archive(images: Tensor, labels: Sequence[str] | None, marks: Sequence[Mark | None]) -> bytes:
    """Encode uint8 images [n, C, H, W] as a zip archive of PNGs, in folders of their classes if there are any."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for index, image in enumerate(images):
            folder = f"{labels[index]}/" if labels else ""
            packed.writestr(zipfile.ZipInfo(f"{folder}{index:06d}.png", EPOCH), png(image, marks[index]))
    return file.getvalue()


def as_json(
    images: Tensor, labels: Sequence[str] | None, marks: Sequence[Mark | None], about: Mapping[str, Any]
) -> bytes:
    """Encode uint8 images [n, C, H, W] as JSON: what they are, their labels, and PNGs in base64."""
    coded = [base64.b64encode(png(image, mark)).decode() for image, mark in zip(images, marks, strict=True)]
    return json.dumps({**about, "labels": labels, "images": coded}).encode()
