"""Images for people: sheets, files and animations out of tensors in [-1, 1]."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from gan_experiments import files, provenance
from gan_experiments.provenance import Mark

CHECKER = 8
"""Side in pixels of the squares behind transparent images, at most; an eighth of small images."""


def to_uint8(images: Tensor) -> Tensor:
    """Convert images in [-1, 1] to uint8, rounding to the nearest of the 256 levels; uint8 stays as it is."""
    if images.dtype == torch.uint8:
        return images
    return ((images.float() + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)


def scaled(images: Tensor, values: tuple[float, float]) -> np.ndarray:
    """Return images [..., C, H, W] in [-1, 1] as float64 [..., H, W, C] between two values, those of -1 and of 1."""
    low, high = values
    return low + (images.double().movedim(-3, -1).cpu().numpy() + 1) * ((high - low) / 2)


def viewed(images: Tensor, bands: Sequence[int] = (), checkered: bool = False) -> Tensor:
    """Make pictures, uint8 [..., 1 or 3, H, W], of uint8 images [..., C, H, W] with any number of channels.

    `bands`, counted from 1, are shown if they are given. Else four channels are RGB and transparency, which is laid
    over white or a checkerboard, and of other numbers the first three are shown, or the first one of two.
    """
    channels = images.shape[-3]
    if not bands and channels == 4:
        return _over(images, _checkers(*images.shape[-2:]).to(images.device) if checkered else 255)
    if not bands and channels in (1, 3):
        return images
    chosen = bands or (range(1, 4) if channels > 3 else [1])
    return images[..., [band - 1 for band in chosen], :, :]


def over_white(images: Tensor) -> Tensor:
    """Lay RGB and transparency, uint8 [..., 4, H, W], over white: uint8 [..., 3, H, W], to the bit as Pillow does."""
    return _over(images, 255)


def _over(images: Tensor, below: Tensor | int) -> Tensor:
    values = images.int()
    alpha = values[..., 3:, :, :]
    mixed = values[..., :3, :, :] * alpha + below * (255 - alpha) + 128
    return (((mixed >> 8) + mixed) >> 8).to(torch.uint8)


def _checkers(height: int, width: int) -> Tensor:
    side = max(1, min(CHECKER, min(height, width) // 8))
    odd = (torch.arange(height)[:, None] // side + torch.arange(width) // side) % 2
    return 255 - 51 * odd.int()


def sheet(cells: Tensor, columns: int | None = None, smallest: int = 512, bands: Sequence[int] = ()) -> Tensor:
    """Arrange cells [n, k, C, H, W] in [-1, 1], k images side by side in each, on one uint8 image [3, h, w].

    Transparency is shown by a checkerboard, and `bands` of images with more channels, see `viewed`. The sheet has
    `columns` cells in a row; without them it is about square. Small images are enlarged by an integer
    factor until the sheet is at least `smallest` pixels wide.
    """
    n, k, _, height, width = cells.shape
    across = columns or max(1, round(math.sqrt(n * height / (k * width))))
    pictures = viewed(to_uint8(cells.flatten(0, 1).cpu()), bands, checkered=True)
    grid = make_grid(pictures, nrow=across * k, padding=2, pad_value=255)
    factor = max(1, math.ceil(smallest / grid.shape[-1]))
    return grid.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def titled(
    cells: Tensor, columns: int, titles: Sequence[str], smallest: int = 512, bands: Sequence[int] = ()
) -> Tensor:
    """Arrange cells [n, k, C, H, W] in [-1, 1] in rows of `columns`, each below its title, on uint8 [3, h, w].

    Small images are enlarged by an integer factor until the sheet is at least `smallest` pixels wide. Titles that are
    too long are cut short.
    """
    rows = [sheet(part, columns, smallest, bands) for part in cells.split(columns)]
    tall, wide = rows[0].shape[1] + 13, rows[0].shape[2]
    picture = Image.new("RGB", (wide, tall * len(rows)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(10)
    for index, (row, title) in enumerate(zip(rows, titles, strict=True)):
        picture.paste(_pil(row), (0, index * tall + 13))
        draw.text((3, index * tall), _fitting(title, draw, font, wide - 6), "black", font)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _fitting(text: str, draw: ImageDraw.ImageDraw, font: Any, room: int) -> str:
    """Return as much of a text as has room, in pixels."""
    while draw.textlength(text, font) > room:
        text = text[:-1]
    return text


def captioned(cells: Tensor, below: Sequence[str], titles: Sequence[str], smallest: int = 64) -> Tensor:
    """Arrange cells [n, k, 3, H, W] in [-1, 1] with captions on one uint8 image [3, h, w], about square.

    Each cell has k images side by side. `below` holds the captions of the k images, the same in each cell, and `titles`
    those of the n cells; "" is none. Small images are enlarged by an integer factor to at least `smallest` pixels.
    Captions that are too long for their place are cut short.
    """
    n, k, _, height, width = cells.shape
    factor = max(1, math.ceil(smallest / width))
    lines = [13 * any(below), 13 * any(titles)]
    tall, wide = factor * height + sum(lines) + 3, k * factor * width + 3
    across = max(1, round(math.sqrt(n * tall / wide)))
    picture = Image.new("RGB", (across * wide + 3, -(-n // across) * tall + 3), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(10)

    def write(text: str, left: int, top: int, room: int) -> None:
        draw.text((left, top), _fitting(text, draw, font, room), "black", font)

    for index, (row, title) in enumerate(zip(to_uint8(cells.cpu()), titles, strict=True)):
        left, top = 3 + index % across * wide, 3 + index // across * tall
        for place, (image, text) in enumerate(zip(row, below, strict=True)):
            enlarged = image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
            picture.paste(_pil(enlarged), (left + place * factor * width, top))
            write(text, left + place * factor * width, top + factor * height, factor * width)
        write(title, left, top + factor * height + lines[0], wide - 3)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def save_png(image: Tensor, path: Path, mark: Mark | None) -> None:
    """Write a uint8 image [C, H, W], grey, RGB or RGBA, as a PNG; the file appears complete or not at all.

    `mark` says that a model made it; None for a picture without such images, or if the user wants none.
    """
    with files.whole(path) as unfinished:
        _pil(image).save(unfinished, format="PNG", **provenance.options("PNG", mark))


def png_of(
    values: np.ndarray, options: Mapping[str, Any] | None = None, texts: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    """Encode uint16 [H, W, C], grey, RGB or with transparency, as PNG of 16 bits; Pillow does that of grey alone.

    `options` are those of Pillow: the profile `icc_profile`, the resolution `dpi` and `exif`. `texts` are chunks with
    their names, see `provenance.chunks`.
    """
    height, width, channels = values.shape
    options = options or {}
    rows = np.ascontiguousarray(values.astype(">u2")).view(np.uint8).reshape(height, -1)
    left = np.pad(rows, ((0, 0), (2 * channels, 0)))[:, : rows.shape[1]]
    filtered = np.concatenate([np.ones((height, 1), np.uint8), rows - left], axis=1)  # 1: the difference to the left
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0))]
    if profile := options.get("icc_profile"):
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if dpi := options.get("dpi"):
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(float(one) / 0.0254) for one in dpi), 1)))
    if exif := options.get("exif"):
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks += [*texts, (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def save_gif(
    frames: Sequence[Tensor | Path],
    path: Path,
    mark: Mark | None,
    seconds: float,
    hold: float = 0.0,
    most: int = 200,
) -> None:
    """Join uint8 images [C, H, W] or image files to a looping GIF, `seconds` long plus `hold` more for the last frame.

    If there are more than `most` frames, evenly spaced ones are kept, among them the last. `mark` is as in `save_png`.
    The file appears complete or not at all.
    """
    if not frames:
        return
    chosen = frames[:: -math.ceil(len(frames) / most)][::-1]
    pictures = [Image.open(frame) if isinstance(frame, Path) else _pil(frame) for frame in chosen]
    pictures = [picture.convert("P", palette=Image.Palette.ADAPTIVE) for picture in pictures]
    durations = [max(20, round(1000 * seconds / len(pictures)))] * len(pictures)
    durations[-1] += round(1000 * hold)
    rest = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    with files.whole(path) as unfinished:
        pictures[0].save(unfinished, format="GIF", **rest)
        provenance.into_gif(unfinished, mark)


def _pil(image: Tensor) -> Image.Image:
    pixels = image.cpu().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
