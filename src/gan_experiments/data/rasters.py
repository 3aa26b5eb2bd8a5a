"""Files of values rather than pictures: arrays (.npy), multispectral TIFF, DICOM and NIfTI."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from gan_experiments.data import limits
from gan_experiments.data.limits import UnreadableImageError

AXES = ("axial", "coronal", "sagittal")
WINDOWS = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft_tissue": (50.0, 400.0),
    "liver": (30.0, 150.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "stroke": (40.0, 40.0),
}
"""Centre and width of usual windows of computed tomography, in Hounsfield units.

They are those of Murphy, Bell et al., "Windowing (CT)", https://radiopaedia.org/articles/windowing-ct.
"""
OWN = "dicom"
"""The range that stands for the window that each DICOM file names itself."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BARE_DICOM = (b"\x02\0\0\0", b"\x08\0\0\0", b"\x08\0\5\0", b"\x08\0\x08\0", b"\0\x08\0\5", b"\0\x08\0\x08")
"""First elements of DICOM files without a preamble."""
_WHITE_IS_ZERO = 0


@dataclass(frozen=True)
class Raster:
    """One file: `frames` of values, which `read(frame)` returns as an array [H, W], or [H, W, bands].

    `size` is width and height. `kind` says in words what the values are. `full` is the value that becomes white by
    default (None: by the type of the values). `window` are the values that the file itself wants black and white, and
    `inverted` says that it wants them exchanged. `hounsfield` are values in that unit. A `volume` is of slices, of
    which those of one value throughout are empty, and which is best represented by its `middle`. Where the place of the
    bands is not `arranged`, an array of three dimensions may also be [bands, H, W].
    """

    kind: str
    size: tuple[int, int]
    read: Callable[[int], np.ndarray]
    frames: int = 1
    full: float | None = None
    window: tuple[float, float] | None = None
    inverted: bool = False
    hounsfield: bool = False
    volume: bool = False
    arranged: bool = True

    @property
    def middle(self) -> int:
        """The frame that is taken if one is: of a volume the middle one, of others the first."""
        return self.frames // 2 if self.volume else 0


def open_raster(raw: bytes, channels: int | None = None, axis: str = "axial", bands: int = 0) -> Raster | None:
    """Open a file by its first bytes; return None if it is none of these, so that Pillow reads it.

    `channels` are wanted, which are colours, or `bands` if that is not 0: the pages of a TIFF may be these. `axis` is
    the direction across the slices of NIfTI.
    Raises UnreadableImageError if the file is damaged or too large, or a package is missing.
    """
    if raw[:6] == b"\x93NUMPY":
        return _array(raw)
    if raw[128:132] == b"DICM" or raw[:4] in _BARE_DICOM:
        return _dicom(raw)
    if raw[:2] == b"\x1f\x8b" or _is_nifti(raw):
        return _nifti(raw, axis)
    if raw[:4] in _TIFF and not _is_for_pillow(raw, channels, bands):
        return _tiff(raw, bands)
    return None


def arranged(values: np.ndarray, raster: Raster, channels: int | None, bands: int) -> np.ndarray:
    """Return values as [H, W, bands].

    There are `channels` bands, or unless these are `bands`, 1, 3 or 4 of which `channels` can be made.
    Raises UnreadableImageError for another number, and where both ends of a shape could be it.
    """
    if values.ndim == 2:
        values = values[..., None]
    as_colours = channels is None or (channels in (1, 3, 4) and not bands)
    fitting = {1, 3, 4} if as_colours else {channels}
    shape = "x".join(map(str, values.shape))
    last, first = values.shape[2] in fitting, values.shape[0] in fitting and not raster.arranged
    if last and first and values.shape[0] != 1:
        raise UnreadableImageError(f"is {shape}: either end could be the bands; save it as [height, width, bands]")
    if last:
        return values
    if first:
        return np.moveaxis(values, 0, 2)
    number = values.shape[2] if raster.arranged or values.shape[2] < values.shape[0] else values.shape[0]
    raise UnreadableImageError(f"is {shape}: type data.channels={number} if it has {number} bands")


# -------------------------------------------------------------------- arrays


def _array(raw: bytes) -> Raster:
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise UnreadableImageError(f"is an array of {dtype}: whole or floating-point numbers are needed")
    if len(shape) not in (2, 3) or 0 in shape:
        raise UnreadableImageError(
            f"is an array of shape {list(shape)}: one image a file is read, [height, width] or [height, width, bands]"
        )
    place, number = file.tell(), math.prod(shape)
    if len(raw) - place != number * dtype.itemsize:
        raise UnreadableImageError("is cut off, or longer than its header says")
    sides = sorted(shape)[-2:]
    _require_pixels(sides[0] * sides[1])

    def read_all(_: int) -> np.ndarray:
        return np.frombuffer(raw, dtype, number, place).reshape(shape, order="F" if by_columns else "C")

    height, width = shape[:2] if len(shape) == 2 or shape[2] <= shape[0] else shape[1:]
    return Raster(f"{_depth(dtype)} array", (width, height), read_all, arranged=False)


# -------------------------------------------------------------------- TIFF


def _is_for_pillow(raw: bytes, channels: int | None, bands: int) -> bool:
    """Return True for a TIFF that Pillow reads with all of its bands and the values that it holds."""
    try:
        with Image.open(io.BytesIO(raw)) as image:
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            bits, signs = tags.get(258, (1,)), tags.get(339, (1,))
            if bits[0] == 8 and signs[0] == 2:
                return False  # Pillow takes -1 for 255
            if bits[0] == 32 and signs[0] == 1:
                return False  # and 2³² - 1 for -1
            if bits[0] > 8 and tags.get(284, 1) == 2:
                return False  # bands one after another
            if bands > 1 and getattr(image, "n_frames", 1) == bands:
                return False  # the pages are the bands
            held = 1 if image.mode == "P" else len(image.getbands())
            return bool(held == tags.get(277, 1) or channels in (None, 3))
    except Exception:  # as in `decode`: what it cannot open raises anything
        return False


def _tiff(raw: bytes, bands: int) -> Raster:
    try:
        import tifffile
    except ImportError:
        raise UnreadableImageError("this kind of TIFF needs tifffile: pip install tifffile") from None
    pages = tifffile.TiffFile(io.BytesIO(raw)).pages
    page: Any = pages[0]
    if page.dtype is None or page.dtype.kind not in "buif":
        raise UnreadableImageError(f"holds {page.dtype}: whole or floating-point numbers are needed")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise UnreadableImageError(f"its axes are {page.axes}: height, width and bands are needed")
    height, width = page.imagelength, page.imagewidth
    _require_pixels(height * width)
    number = len(pages)
    as_bands = page.axes == "YX" and 1 < number == bands

    def read(frame: int) -> np.ndarray:
        if as_bands:
            return np.stack([pages[i].asarray() for i in range(number)], axis=-1)
        values = pages[frame].asarray()
        if page.photometric == _WHITE_IS_ZERO and values.dtype.kind == "u":
            values = np.iinfo(values.dtype).max - values
        return np.moveaxis(values, 0, 2) if page.axes == "SYX" else values

    several = number if as_bands else page.samplesperpixel
    kind = f"{_depth(page.dtype)} {'grey' if several == 1 else f'TIFF of {several} bands'}"
    return Raster(kind, (width, height), read, 1 if as_bands else number)


# -------------------------------------------------------------------- DICOM


def _dicom(raw: bytes) -> Raster:
    try:
        import pydicom
        from pydicom import pixels
    except ImportError:
        raise UnreadableImageError("DICOM needs pydicom: pip install pydicom") from None
    data = pydicom.dcmread(io.BytesIO(raw), force=True)
    held = {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & {*data.dir()}
    if not held or "Rows" not in data or "Columns" not in data:
        raise UnreadableImageError("is DICOM without an image")
    frames = int(data.get("NumberOfFrames") or 1)
    height, width = int(data.Rows), int(data.Columns)
    _require_pixels(height * width)
    colour = int(data.get("SamplesPerPixel", 1)) > 1
    indexed = data.get("PhotometricInterpretation") == "PALETTE COLOR"
    slope, intercept = float(_of_group(data, "RescaleSlope") or 1), float(_of_group(data, "RescaleIntercept") or 0)

    def read(frame: int) -> np.ndarray:
        try:
            values = pixels.pixel_array(data, index=frame)
        except (NotImplementedError, RuntimeError) as error:
            if "missing dependencies" not in str(error) and "plugin" not in str(error):
                raise
            syntax = data.file_meta.TransferSyntaxUID.name
            raise UnreadableImageError(
                f"is compressed as {syntax}, which needs a plugin: pip install pylibjpeg[all]"
            ) from None
        if indexed:
            return _palette(pixels.apply_color_lut(values, data))
        return values if (slope, intercept) == (1, 0) or colour else values * slope + intercept

    stored = int(data.get("BitsStored", 8))
    in_units = data.get("Modality") == "CT" and str(_of_group(data, "RescaleType") or "HU").upper() == "HU"
    hounsfield = in_units and not colour and _of_group(data, "RescaleIntercept") is not None
    kind = f"{stored}-bit DICOM {data.get('Modality', '')}".strip() + (" in Hounsfield units" if hounsfield else "")
    return Raster(
        f"{stored}-bit DICOM in colour" if colour or indexed else kind,
        (width, height),
        read,
        frames,
        full=2.0**stored - 1 if not hounsfield and (slope, intercept) == (1, 0) else None,
        window=None if colour or indexed else _window(data),
        inverted=data.get("PhotometricInterpretation") == "MONOCHROME1",
        hounsfield=hounsfield,
        volume=frames > 1 and not colour and not indexed,
    )


def _of_group(data: Any, name: str) -> Any:
    """Return an attribute of a DICOM file: its own, or in files of many frames the one that all frames share."""
    if name in data:
        return data[name].value
    for group in data.get("SharedFunctionalGroupsSequence", []):
        for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(sequence, []):
                if name in item:
                    return item[name].value
    return None


def _window(data: Any) -> tuple[float, float] | None:
    """Return the values that a DICOM file wants black and white, by PS3.3 C.11.2.1.2; None if it names none."""
    centre, width = (_of_group(data, name) for name in ("WindowCenter", "WindowWidth"))
    if centre in (None, "") or width in (None, ""):
        return None
    centre, width = (float(value[0] if hasattr(value, "__len__") else value) for value in (centre, width))
    if _of_group(data, "VOILUTFunction") != "LINEAR_EXACT":
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def _palette(values: np.ndarray) -> np.ndarray:
    return (values >> 8).astype(np.uint8) if values.dtype.itemsize == 2 else values


# -------------------------------------------------------------------- NIfTI


def _is_nifti(raw: bytes) -> bool:
    return raw[344:347] in (b"n+1", b"ni1") or raw[4:7] == b"n+2"


def _nifti(raw: bytes, axis: str) -> Raster:
    volume = _volume(raw)
    across = {"sagittal": 0, "coronal": 1, "axial": 2}[axis]
    columns, rows = (volume.shape[i] for i in range(3) if i != across)
    _require_pixels(columns * rows)

    def read(frame: int) -> np.ndarray:
        # Of [to the right, to the front, up], as a radiologist looks at it: front or top above, the right side left.
        return np.take(volume, frame, axis=across).T[::-1, ::-1]

    kind = f"{_depth(volume.dtype)} NIfTI, {axis}"
    return Raster(kind, (columns, rows), read, volume.shape[across], volume=True)


@lru_cache(maxsize=2)  # a volume is asked for some slices at a time
def _volume(raw: bytes) -> np.ndarray:
    """Return the values of a NIfTI file, [to the right, to the front, up]; of several volumes the first."""
    if raw[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(raw)) as file:
            raw = file.read(limits.most_bytes() + 1)
        limits.require_bytes(len(raw))
        if not _is_nifti(raw):
            raise UnreadableImageError("not an image")
    try:
        import nibabel
    except ImportError:
        raise UnreadableImageError("NIfTI needs nibabel: pip install nibabel") from None
    kind = nibabel.Nifti2Image if raw[4:7] == b"n+2" else nibabel.Nifti1Image
    if raw[344:347] == b"ni1":
        raise UnreadableImageError("is the header of a pair of files: save it as one, .nii")
    image: Any = nibabel.as_closest_canonical(kind.from_bytes(raw))
    values = np.asanyarray(image.dataobj)
    if values.dtype.kind not in "buif":
        raise UnreadableImageError(f"holds {values.dtype}: whole or floating-point numbers are needed")
    values = values.reshape(*values.shape[:3], *[1] * (3 - values.ndim), -1)[..., 0]
    if 0 in values.shape:
        raise UnreadableImageError("is empty")
    return values


def _require_pixels(number: int) -> None:
    if number > limits.pixels():
        raise Image.DecompressionBombError(f"{number} pixels")


def _depth(dtype: np.dtype) -> str:
    if dtype.kind == "f":
        return f"{8 * dtype.itemsize}-bit floating-point"
    return f"{8 * dtype.itemsize}-bit{' signed' if dtype.kind == 'i' else ''}"
