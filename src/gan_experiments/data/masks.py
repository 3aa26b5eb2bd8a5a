"""Mask files as people make them: which pixels are the hole, and how that was inferred."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.limits import UnreadableImageError, why

SIDES = ("white", "black")
FAINT = 64  # of 255: an alpha or a saturation that varies by less is ignored


@dataclass(frozen=True)
class Mask:
    """A mask, uint8 [1, H, W], 255 in the hole and 0 elsewhere; `seen` says what in the file was taken for the hole."""

    pixels: Tensor
    seen: str

    @property
    def share(self) -> float:
        """The share of the image that is hole, from 0 to 1."""
        return self.pixels.count_nonzero().item() / self.pixels.numel()


def require_side(hole: object) -> None:
    """Raise ConfigError unless `hole` is one of SIDES."""
    if hole not in SIDES:
        raise ConfigError(f"hole={hole}: type hole=white, or hole=black where a mask is black in the hole")


def read_mask(file: Path | bytes, hole: str = "white") -> Mask:
    """Read which pixels of a file, or its bytes, are the hole: the white ones, or with `hole` "black" the others.

    - In a layer whose transparency varies, the opaque pixels count as white.
    - In an image of two values, such as 0 and 1, the higher value counts as white.
    - In an image of more values, those above half of the whole range do.
    - A coloured pixel has the value of its strongest channel; on a white background, coloured pixels count as white.

    Raises UnreadableImageError for a file that cannot be decoded, and for a mask that is all hole or has none.
    """
    try:
        raw = limits.read(file) if isinstance(file, Path) else file
        found = _bright(ImageOps.exif_transpose(Image.open(io.BytesIO(raw))))
    except Exception as error:  # decoders raise nearly everything on broken files
        raise UnreadableImageError(f"cannot be decoded ({why(error)})") from None
    return _mask(*found, hole)


def mask_of(image: Image.Image) -> Mask:
    """Return which pixels of a PIL image are the hole, see `read_mask`."""
    return _mask(*_bright(image))


def mask_of_values(values: np.ndarray) -> Mask:
    """Return which pixels of an array [H, W] are the hole: True, or what `read_mask` takes for white."""
    if values.dtype == bool:
        return _mask(values, "what is True")
    return _mask(*_bright_of(np.nan_to_num(values), None, palette=False))


def _mask(bright: np.ndarray, seen: str, hole: str = "white") -> Mask:
    white = hole == "white"
    if bright.all() or not bright.any():
        raise UnreadableImageError(
            f"{'all' if bright.any() == white else 'none'} of the image would be hole ({seen}): give a mask that is"
            " white in the hole and black elsewhere"
        )
    pixels = torch.from_numpy(np.where(bright == white, 255, 0).astype(np.uint8))[None]
    return Mask(pixels, seen if white else f"all but {seen}")


def _bright(image: Image.Image) -> tuple[np.ndarray, str]:
    """Return which pixels count as white, bool [H, W], and what they are in words."""
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if np.ptp(alpha) >= FAINT:
            return alpha > (int(alpha.max()) + int(alpha.min())) / 2, "what is opaque"
    return _bright_of(*_values(image), palette=image.mode == "P")


def _values(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the brightness of each pixel [H, W], and for images in colour how coloured it is, 0 to 255."""
    if image.mode[0] == "I" or image.mode == "F":
        return np.nan_to_num(np.asarray(image).astype(np.float64)), None
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L")), None
    colours = np.asarray(image.convert("RGB"))
    brightest = colours.max(axis=2)
    return brightest, brightest - colours.min(axis=2)


def _bright_of(values: np.ndarray, colour: np.ndarray | None, palette: bool) -> tuple[np.ndarray, str]:
    levels = np.unique(values).tolist()
    coloured = colour is not None and np.ptp(colour) >= FAINT
    if len(levels) == 2:
        return values > sum(levels) / 2, f"the value {levels[1]:g}, not {levels[0]:g}"
    if len(levels) > 2 and palette and coloured and levels[0] == 0:  # a map of labels
        return values > 0, "what the palette does not paint black"
    bright, seen = values > _range(values, levels[-1]) / 2, "what is brighter than half"
    if (bright.all() or not bright.any()) and coloured:
        assert colour is not None, "it has colours"
        return colour > (int(colour.max()) + int(colour.min())) / 2, "what is coloured"
    if len(levels) == 1:
        return np.full(values.shape, levels[0] > 0), f"its one value is {levels[0]:g}"
    return bright, seen if bright.any() else f"its values are {levels[0]:g} to {levels[-1]:g}"


def _range(values: np.ndarray, highest: float) -> float:
    """Return the value that stands for white."""
    if values.dtype == np.uint8 or 1 < highest <= 255:
        return 255
    return 1 if highest <= 1 else 65535
