"""Photographs as people keep them: pixels of any size, with EXIF, colour profile, resolution and transparency."""

from __future__ import annotations

import glob
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.archives import is_visible
from gan_experiments.data.decode import Reading, UnreadableImageError, pixels_of
from gan_experiments.files import whole

WRITTEN: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"quality": 95},
    "TIFF": {},  # uncompressed, because libtiff, which compresses, cannot write the parts of EXIF
    "BMP": {},
}
"""The formats that photographs are written in, with Pillow's options; photographs of other formats become PNG."""
TRANSPARENT = ("PNG", "WEBP", "TIFF")
_LAYOUT = {*range(254, 270), *range(273, 282), 284, 317, 320, *range(322, 326), 330, 338, 339, 347, 530, 531, 532}
_LAYOUT |= {34675, 700}
"""EXIF's tags of how pixels lie in a file, orientation among them, and of profiles, which are kept separately."""
SHEET = "-sheet"
"""What the name of a contact sheet adds to that of its folder."""
_COLOURS = {1: b"GRAY", 3: b"RGB "}


@dataclass(frozen=True)
class Photo:
    """One file: `pixels` uint8 [C, H, W], upright and over white; `alpha` uint8 [1, H, W] if it has transparency.

    `exif` has no orientation, `profile` is the ICC profile, `dpi` the resolution on paper; each may be missing. `lost`
    says in words what the file holds and the pixels do not.
    """

    pixels: Tensor
    alpha: Tensor | None
    format: str
    exif: Image.Exif
    profile: bytes | None
    dpi: tuple[float, float] | None
    lost: tuple[str, ...] = ()


def read_photo(path: Path, channels: int, bounds: tuple[float, float] | None = None) -> Photo:
    """Read a file in colour (3 channels) or grey (1).

    For files of more than 8 bits, `bounds` are the values that become black and white (None: those of the file's kind).
    Raises UnreadableImageError if it is not a complete image.
    """
    try:
        raw = limits.read(path)
    except OSError as error:
        raise UnreadableImageError(str(error.strerror)) from None
    pixels = pixels_of(raw, channels, Reading(bounds))
    with Image.open(io.BytesIO(raw)) as image:  # the header alone, as long as nothing is transparent
        exif = image.getexif()
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            exif.get_ifd(part)  # read now, because in a TIFF they lie elsewhere in the file
        alpha = None
        if image.has_transparency_data:
            channel = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
            alpha = torch.frombuffer(bytearray(channel.tobytes()), dtype=torch.uint8).view(1, *pixels.shape[1:])
        for tag in [tag for tag in exif if tag in _LAYOUT]:
            del exif[tag]
        kind = "JPEG" if image.format == "MPO" else str(image.format)  # as some telephones write
        profile, dpi = image.info.get("icc_profile"), image.info.get("dpi")
        return Photo(pixels, alpha, kind, exif, profile, dpi, tuple(_lost(raw)))


def _lost(raw: bytes) -> Iterator[str]:
    with Image.open(io.BytesIO(raw)) as image:  # not decoded, which would forget how it is packed
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            yield "of several frames or pages the first is taken"
        if image.mode[0] in "IF" or any("16" in str(tile[3]) for tile in image.tile):
            yield "more than 8 bits a channel become 8"
        if image.mode == "CMYK":
            yield "CMYK becomes RGB"


def suffix_of(path: Path) -> str:
    """Return the suffix with which the photograph of a file is written: its own, or that of PNG."""
    return path.suffix if Image.registered_extensions().get(path.suffix.lower()) in WRITTEN else ".png"


def is_photo(path: Path) -> bool:
    """Return True if a file has the name of an image that can be read, and not that of a folder's contact sheet."""
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.OPEN or path.name.startswith("."):
        return False
    of = path.stem.removesuffix(SHEET)
    return path.stem == of or path.suffix != ".png" or not path.with_name(of).is_dir()


def sheet_of(folder: Path) -> Path:
    """Return the path of the contact sheet of a folder of results: beside the folder, as it is no result."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f"{folder.name}{SHEET}.png")


def base_of(word: str) -> Path:
    """Return the folder below which a word names images.

    It is the word itself, the folder of a file, or the part of a pattern without wildcards.
    """
    path = Path(word).expanduser()
    if path.is_dir():
        return path
    literal = path.parent
    while glob.has_magic(str(literal)):
        literal = literal.parent
    return literal


def find_photos(word: str, key: str) -> Iterator[tuple[Path, Path]]:
    """Yield the images that a word names (a file, a folder or a pattern), each with its path from there.

    Three things are skipped unless the word itself names them: hidden files and folders; those that systems and editors
    make for themselves; and folders of results, which have a contact sheet beside them. Raises ConfigError, which names
    the option `key`, if there are no images.
    """
    path, base = Path(word).expanduser(), base_of(word)
    is_made = cache(lambda folder: sheet_of(folder).is_file())

    def seen(file: Path) -> bool:
        parts = file.relative_to(base)
        folders = [base / folder for folder in parts.parents if folder.name]
        return (
            is_photo(file) and file.is_file() and all(map(is_visible, parts.parts)) and not any(map(is_made, folders))
        )

    if path.is_dir():
        found = [(file, file.relative_to(path)) for file in sorted(path.rglob("*")) if seen(file)]
    elif path.is_file():
        if zipfile.is_zipfile(path):
            raise ConfigError(f"{key}={word} is an archive: unpack it and type {key}=<its folder>")
        found = [(path, Path(path.name))]
    else:
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        found = [(file, Path(file.name)) for file in files if seen(file)]
    if not found:
        raise ConfigError(f"{key}={word}: there is no such image, no folder of images, and no image of that pattern")
    yield from found


def write_photo(pixels: Tensor, path: Path, of: Photo) -> None:
    """Write uint8 [C, H, W] made from the photograph `of`, with what belongs to it; the file is complete or not there.

    Transparency is enlarged with the image, and left out by the formats that have none. A profile is kept if it is for
    the same kind of colours, grey or RGB. Raises ConfigError if the file cannot be written.
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
    try:
        with whole(path) as unfinished:
            image.save(unfinished, kind, **options)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}); type out=<another folder>") from error
