"""Images for people: sheets and single files out of tensors in [-1, 1]."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] -> uint8, rounded to the nearest level."""
    return ((images.float() + 1) * 127.5 + 0.5).clamp(0, 255).to(torch.uint8)


def save_sheet(cells: Tensor, path: Path, smallest: int = 512) -> None:
    """Write cells [n, k, C, H, W] in [-1, 1], k images side by side in each, as one PNG of about equal sides.

    Small images are enlarged by a whole factor until the sheet is at least `smallest` pixels wide.
    """
    n, k, _, height, width = cells.shape
    across = max(1, round(math.sqrt(n * height / (k * width))))
    grid = make_grid(to_uint8(cells.flatten(0, 1).cpu()), nrow=across * k, padding=2, pad_value=255)
    factor = max(1, math.ceil(smallest / grid.shape[-1]))
    save_png(grid.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2), path)


def save_png(image: Tensor, path: Path) -> None:
    """Write a uint8 image [C, H, W], C 1 or 3; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image.cpu().permute(1, 2, 0).numpy()
    unfinished = path.with_suffix(".tmp")
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(unfinished, format="PNG")
    os.replace(unfinished, path)
