"""Photographs as people keep them: pixels of any size, with EXIF, colour profile, resolution and transparency."""

from __future__ import annotations

import copy
import glob
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from gan_experiments import drawing, provenance
from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.archives import is_visible
from gan_experiments.data.decode import Depth, Range, Reading, UnreadableImageError, exact_of, pixels_of
from gan_experiments.data.rasters import Raster, open_raster
from gan_experiments.files import whole
from gan_experiments.provenance import Mark

WRITTEN: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"quality": 95},
    "TIFF": {},  # uncompressed, because libtiff, which compresses, cannot write the parts of EXIF
    "BMP": {},
}
"""The formats that photographs are written in, with Pillow's options; photographs of other formats become PNG."""
TRANSPARENT = ("PNG", "WEBP", "TIFF")
ARRAYS = (".npy", ".dcm")
"""Suffixes of files whose results are arrays: that of DICOM would need more than an image."""
XMP = 700  # its tag in TIFF
_LAYOUT = {*range(254, 270), *range(273, 282), 284, 317, 320, *range(322, 326), 330, 338, 339, 347, 530, 531, 532}
_LAYOUT |= {34675, XMP}
"""EXIF's tags of how pixels lie in a file, orientation among them, and of profiles, which are kept separately."""
SIXTEEN_BITS = Depth(np.dtype(np.uint16), 0, 65535)
SHEET = "-sheet"
"""What the name of a contact sheet adds to that of its folder."""
_COLOURS = {1: b"GRAY", 3: b"RGB "}


@dataclass(frozen=True)
class Photo:
    """One file: `pixels` uint8 [C, H, W], upright and over white; `alpha` uint8 [1, H, W] if it has transparency.

    If the file has more than 8 bits, pixels are float [C, H, W] in [-1, 1] and `depth` says what they are in the file.
    Of four channels the last is transparency, and there is no `alpha`. `grey` is whether the file has one colour.
    `exif` has no orientation, `profile` is the ICC profile, `dpi` the resolution on paper; each may be missing. `lost`
    says in words what the file holds and the pixels do not. `xmp` is what is kept of its XMP, see `provenance.kept`.
    """

    pixels: Tensor
    alpha: Tensor | None
    format: str
    exif: Image.Exif
    profile: bytes | None
    dpi: tuple[float, float] | None
    lost: tuple[str, ...] = ()
    depth: Depth | None = None
    grey: bool = False
    xmp: str = ""


def read_photo(file: Path | bytes, channels: int, range: Range = None, bands: int = 0) -> Photo:
    """Read a file, or the bytes of one, in colour (3 channels), grey (1), with transparency (4) or of so many `bands`.

    For files of more than 8 bits, `range` says which values become black and white (see `decode.Range`; not "auto").
    Raises UnreadableImageError if it is not a complete image.
    """
    reading = Reading(range, bands=bands)
    try:
        raw = limits.read(file) if isinstance(file, Path) else file
    except OSError as error:
        raise UnreadableImageError(str(error.strerror)) from None
    exact = exact_of(raw, channels, reading)
    pixels, depth = exact or (pixels_of(raw, channels, reading), None)
    raster = open_raster(raw, channels, bands=bands)
    if raster is not None:
        grey = raster.read(raster.middle).ndim == 2
        return Photo(pixels, None, "", Image.Exif(), None, None, tuple(_lost(raw, raster)), depth, grey)
    with Image.open(io.BytesIO(raw)) as image:  # the header alone, as long as nothing is transparent
        exif = image.getexif()
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            exif.get_ifd(part)  # read now, because in a TIFF they lie elsewhere in the file
        alpha = None
        if image.has_transparency_data and channels in (1, 3):
            channel = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
            alpha = torch.frombuffer(bytearray(channel.tobytes()), dtype=torch.uint8).view(1, *pixels.shape[1:])
        for tag in [tag for tag in exif if tag in _LAYOUT]:
            del exif[tag]
        if image.format == "PNG" and provenance.KEYWORD.encode() in raw:
            image.load()  # it may come after the pixels
        xmp = provenance.kept(image.info["xmp"]) if image.info.get("xmp") else ""
        kind = "JPEG" if image.format == "MPO" else str(image.format)  # as some telephones write
        profile, dpi = image.info.get("icc_profile"), image.info.get("dpi")
        grey = image.mode in ("1", "L", "LA", "F") or image.mode[0] == "I"
        lost = [*_lost(raw, exact=exact is not None)]
        lost += ["its XMP cannot be read and is left out"] if xmp is None else []
        return Photo(pixels, alpha, kind, exif, profile, dpi, tuple(lost), depth, grey, xmp or "")


def _lost(raw: bytes, raster: Raster | None = None, exact: bool = False) -> Iterator[str]:
    if raster is not None:
        if raster.frames > 1:
            yield f"of several frames or slices the {'middle' if raster.volume else 'first'} one is taken"
        return
    with Image.open(io.BytesIO(raw)) as image:  # not decoded, which would forget how it is packed
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            yield "of several frames or pages the first is taken"
        if not exact and any("16" in str(tile[3]) for tile in image.tile):
            yield "more than 8 bits a channel become 8"
        if image.mode == "CMYK":
            yield "CMYK becomes RGB"


def suffix_of(path: Path) -> str:
    """Return the suffix with which the photograph of a file is written: its own, that of PNG, or of DICOM .npy."""
    if path.suffix.lower() in ARRAYS:
        return ".npy"
    return path.suffix if Image.registered_extensions().get(path.suffix.lower()) in WRITTEN else ".png"


def is_photo(path: Path) -> bool:
    """Return True if a file has the name of an image that can be read, and not that of a folder's contact sheet."""
    known = Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN or path.suffix.lower() in ARRAYS
    if not known or path.name.startswith("."):
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


def write_photo(pixels: Tensor, path: Path, of: Photo, mark: Mark | None) -> None:
    """Write an image [C, H, W] made from the photograph `of`, in the format of the path's suffix; see `encoded`.

    The file is complete or not there. Raises ConfigError if it cannot be written.
    """
    suffix = path.suffix.lower()
    raw = encoded(pixels, "NPY" if suffix == ".npy" else Image.registered_extensions()[suffix], of, mark)
    try:
        with whole(path) as unfinished:
            unfinished.write_bytes(raw)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}); type out=<another folder>") from error


def encoded(pixels: Tensor, kind: str, of: Photo, mark: Mark | None) -> bytes:
    """Return the file of an image [C, H, W] made from the photograph `of`, with what belongs to it, and its mark.

    The kind is a format of WRITTEN, or "NPY". The image is uint8, or float in [-1, 1] if the photograph is, and then
    written with its depth, or as PNG with 16 bits. Transparency is enlarged with the image, and left out by the formats
    that have none. A profile is kept if it is for the same kind of colours, grey or RGB. Raises ConfigError if a
    package is missing.
    """
    if kind == "NPY":
        rows = of.depth.values(pixels) if of.depth else pixels.permute(1, 2, 0).numpy()
        return _by(lambda file: np.save(file, rows[..., 0] if len(pixels) == 1 else rows))
    channels, height, width = pixels.shape
    if channels == 4 and of.alpha is None and kind not in TRANSPARENT:
        pixels = drawing.over_white(drawing.to_uint8(pixels))
    if of.alpha is not None and kind in TRANSPARENT:
        alpha = of.alpha
        if alpha.shape[1:] != (height, width):
            alpha = F.interpolate(alpha[None], (height, width), mode="bicubic", antialias=True)[0]
        pixels = torch.cat([pixels, alpha / 127.5 - 1 if of.depth else alpha])
    xmp = provenance.packet(mark, of.xmp)
    options = _options(of, kind, channels, height, width, xmp) | provenance.options(kind, mark, of.xmp)
    if pixels.is_floating_point() and kind in ("PNG", "TIFF"):
        assert of.depth is not None, "it says what the floats are"
        if kind == "TIFF":
            return _tiff(of.depth.values(pixels), options, xmp)
        depth = of.depth if of.depth.dtype == np.uint16 else SIXTEEN_BITS
        return drawing.png_of(depth.values(pixels), options, provenance.chunks(mark, of.xmp))
    rows = drawing.to_uint8(pixels).permute(1, 2, 0).numpy()
    image = _pillow(rows[..., 0] if len(pixels) == 1 else rows)
    return _by(lambda file: image.save(file, kind, **options))


def _options(of: Photo, kind: str, channels: int, height: int, width: int, xmp: bytes) -> dict[str, Any]:
    """Return Pillow's options of a format, with EXIF, profile and resolution of a photograph, in TIFF with XMP too."""
    options, exif = dict(WRITTEN[kind]), of.exif
    if kind == "TIFF" and xmp:
        exif = copy.deepcopy(exif)
        exif[XMP] = xmp
    if len(exif):
        details = exif.get_ifd(ExifTags.IFD.Exif)
        for tag, size in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
            if tag in details:
                details[tag] = size
        options["exif"] = exif.tobytes()
    if of.profile and of.profile[16:20] == _COLOURS.get(min(channels, 3)):
        options["icc_profile"] = of.profile
    if of.dpi:
        options["dpi"] = of.dpi
    return options


def _tiff(values: np.ndarray, options: dict[str, Any], xmp: bytes) -> bytes:
    """Return the file of values [H, W, C] of any type; what Pillow cannot write, by tifffile, without EXIF."""
    if values.shape[2] == 1 and values.dtype in (np.uint16, np.int32, np.float32):
        image = _pillow(values[..., 0])
        return _by(lambda file: image.save(file, "TIFF", **options))
    try:
        import tifffile
    except ImportError:
        raise ConfigError(f"TIFF of {values.dtype} needs tifffile to be written: pip install tifffile") from None
    dpi = options.get("dpi")
    more: dict[str, Any] = {"resolution": tuple(map(float, dpi)), "resolutionunit": "INCH"} if dpi else {}
    colours = values.shape[2] in (3, 4) and values.dtype == np.uint16
    if colours and values.shape[2] == 4:
        more["extrasamples"] = ["unassalpha"]
    return _by(
        lambda file: tifffile.imwrite(
            file,
            values if values.shape[2] > 1 else values[..., 0],
            photometric="rgb" if colours else "minisblack",
            planarconfig="contig" if values.shape[2] > 1 else None,
            iccprofile=options.get("icc_profile"),
            metadata=None,
            extratags=[(XMP, 1, len(xmp), xmp, True)] if xmp else [],
            **more,
        )
    )


def _pillow(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(values))


def _by(write: Callable[[io.BytesIO], object]) -> bytes:
    """Return what a function writes to a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()
