"""Photographs as people keep them: pixels of any size, with what belongs to them beside the pixels."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.decode import UnreadableImageError, pixels_of

WRITTEN: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"quality": 95},
    "TIFF": {},  # libtiff, which compresses, cannot write the parts of EXIF
    "BMP": {},
}
"""The formats that photographs are written in, with the options; those of others become PNG."""
TRANSPARENT = ("PNG", "WEBP", "TIFF")
_LAYOUT = {*range(254, 270), *range(273, 282), 284, 317, 320, *range(322, 326), 330, 338, 339, 347, 530, 531, 532}
_LAYOUT |= {34675, 700}
"""EXIF's tags of how pixels lie in a file, orientation among them, and of profiles, which are kept apart."""
_COLOURS = {1: b"GRAY", 3: b"RGB "}


@dataclass(frozen=True)
class Photo:
    """One file: `pixels` uint8 [C, H, W], upright and over white; `alpha` uint8 [1, H, W] where it is transparent.

    `exif` has no orientation, `profile` is the ICC profile, `dpi` the resolution on paper; each may be missing.
    """

    pixels: Tensor
    alpha: Tensor | None
    format: str
    exif: Image.Exif
    profile: bytes | None
    dpi: tuple[float, float] | None


def read_photo(path: Path, channels: int) -> Photo:
    """Read a file in colour (3 channels) or grey (1); raises UnreadableImageError where it is no whole image."""
    try:
        raw = limits.read(path)
    except OSError as error:
        raise UnreadableImageError(str(error.strerror)) from None
    pixels = pixels_of(raw, channels)
    with Image.open(io.BytesIO(raw)) as image:  # the header alone, as long as nothing is transparent
        exif = image.getexif()
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            exif.get_ifd(part)  # read now: of a TIFF, they lie elsewhere in the file
        alpha = None
        if image.has_transparency_data:
            channel = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
            alpha = torch.frombuffer(bytearray(channel.tobytes()), dtype=torch.uint8).view(1, *pixels.shape[1:])
        for tag in [tag for tag in exif if tag in _LAYOUT]:
            del exif[tag]
        kind = "JPEG" if image.format == "MPO" else str(image.format)  # as some telephones write
        return Photo(pixels, alpha, kind, exif, image.info.get("icc_profile"), image.info.get("dpi"))


def suffix_of(path: Path) -> str:
    """The suffix under which the photograph of a file is written: its own, or that of PNG."""
    return path.suffix if Image.registered_extensions().get(path.suffix.lower()) in WRITTEN else ".png"


def is_photo(path: Path) -> bool:
    """Whether a file is named as an image that can be read."""
    return Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN and not path.name.startswith(".")


def find_photos(word: str, key: str) -> Iterator[tuple[Path, Path]]:
    """The images that a word names: a file, all of a folder, or those of a pattern; each with its path from there.

    Raises ConfigError, which names the option `key`, where there are none.
    """
    path = Path(word).expanduser()
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and is_photo(file)]
        found = [(file, file.relative_to(path)) for file in files]
    elif path.is_file():
        found = [(path, Path(path.name))]
    else:
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        found = [(file, Path(file.name)) for file in files if file.is_file() and is_photo(file)]
    if not found:
        raise ConfigError(f"{key}={word}: there is no such image, no folder of images, and no image of that pattern")
    yield from found


def write_photo(pixels: Tensor, path: Path, of: Photo) -> None:
    """Write uint8 [C, H, W], what was made of a photograph, with all that belongs to it; the file appears whole or not.

    Transparency grows with the image, and is left out by the formats that have none. A profile stays where it is one of
    such colours. Raises ConfigError where the file cannot be written.
    """
    kind = Image.registered_extensions()[path.suffix.lower()]
    channels, height, width = pixels.shape
    if of.alpha is not None and kind in TRANSPARENT:
        alpha = of.alpha
        if alpha.shape[1:] != (height, width):
            alpha = F.interpolate(alpha[None], (height, width), mode="bicubic", antialias=True)[0]
        pixels = torch.cat([pixels, alpha])
    rows = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(rows[..., 0] if len(pixels) == 1 else rows)
    options = dict(WRITTEN[kind])
    if len(of.exif):
        details = of.exif.get_ifd(ExifTags.IFD.Exif)
        for tag, size in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
            if tag in details:
                details[tag] = size
        options["exif"] = of.exif.tobytes()
    if of.profile and of.profile[16:20] == _COLOURS[channels]:
        options["icc_profile"] = of.profile
    if of.dpi:
        options["dpi"] = of.dpi
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.save(unfinished, kind, **options)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}); type out=<another folder>") from error
