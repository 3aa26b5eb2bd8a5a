"""Clips [n, C, T, H, W]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import films
from gan_experiments.bounds import sides
from gan_experiments.contracts import Batch
from gan_experiments.drawing import captioned, save_gif, sheet, titled, to_uint8, viewed
from gan_experiments.kinds.kind import Kind
from gan_experiments.provenance import Mark

CELLS = 32
"""The largest number of clips on a sheet of the data."""
STRIP = 8
"""Frames of a clip that a sheet shows, evenly spread."""
ACROSS = 4
"""The same where a sheet has columns."""
RATE = 8.0
"""Frames in a second of clips of which nothing is said."""
TWIN = (4, 8, 8)
"""Frames, height and width to which clips are reduced to be compared."""


@dataclass(frozen=True)
class Clip(Kind):
    """Clips [n, C, T, H, W] in [-1, 1], of grey frames or RGB: film strips, GIF and MP4."""

    name = "clips"
    dims = 5
    suffix = ".gif"
    recognised = True
    others = (".mp4",)
    plays = (".gif", ".mp4") if films.installed() else (".gif",)
    quantisation = "uint8, to the nearest level"

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (channels, frames, height, width)."""
        return data.channels, data.length, *sides(data.resolution)

    def bounded(self, samples: Tensor) -> Tensor:
        """Clip the values to [-1, 1]."""
        return samples.clamp(-1, 1)

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the pixels of each clip at 4 frames of 8x8."""
        return F.adaptive_avg_pool3d(samples.float(), TWIN).flatten(1)

    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Lay out a film strip for each clip, of some of its frames from left to right."""
        strips = strip(cells.flatten(0, 1), ACROSS if columns else STRIP)  # [n · k, frames, C, H, W]
        if titles and columns:
            return titled(strips, columns * cells.shape[1], titles, smallest)
        return sheet(strips, columns and columns * cells.shape[1], smallest)

    def play(self, cells: Tensor, path: Path, mark: Mark | None) -> None:
        """Write a film in which all clips move side by side: a GIF, or an MP4, which needs PyAV."""
        frames = [sheet(cells[:, :, :, time]) for time in range(cells.shape[3])]
        self._write(torch.stack(frames), path, mark)

    def array(self, samples: Tensor) -> np.ndarray:
        """Return clips [n, T, H, W, C]."""
        return np.ascontiguousarray(samples.movedim(1, -1).cpu().numpy())

    def pictures(self, samples: Tensor) -> Tensor:
        """Return a film strip of each clip, of frames from left to right, uint8 [n, C, h, w]."""
        return joined(samples, ACROSS)

    def viewed(self, samples: Tensor) -> Tensor:
        """Return uint8 clips [n, C, T, H, W]."""
        return to_uint8(samples)

    def fitting(self, batch: Batch) -> int:
        """Return 32."""
        return CELLS

    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Lay out a film strip for each clip, below its title."""
        rows = self.samples(batch)
        strips = [viewed(joined(clips, STRIP)).expand(-1, 3, -1, -1) for clips in rows.values()]
        cells = F.pad(torch.stack(strips, dim=1), (0, 2 * (len(rows) > 1)), value=255)
        return captioned(cells, [*rows] if len(rows) > 1 else [""], titles, STRIP * 32)

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write a GIF, or an MP4 if the path ends so, which needs PyAV."""
        self._write(to_uint8(sample).transpose(0, 1), path, mark)

    def _write(self, frames: Tensor, path: Path, mark: Mark | None) -> None:
        """Write uint8 frames [T, C, H, W]."""
        rate = self.rate or RATE
        if path.suffix == ".mp4":
            films.save_mp4(frames, path, rate, mark)
        else:
            save_gif([*frames], path, mark, len(frames) / rate)


@dataclass(frozen=True)
class FrameOfClip(Clip):
    """Clips of which one frame is looked at, by scores of images."""

    def viewed(self, samples: Tensor) -> Tensor:
        """Return one frame of each uint8 clip [n, C, T, H, W], [n, C, H, W]: any one, but always the same of a clip."""
        clips = super().viewed(samples)
        times = clips.flatten(1).long().sum(1) % clips.shape[2]
        return clips.transpose(1, 2)[torch.arange(len(clips), device=clips.device), times]

    def seen_as(self, channels: int) -> str:
        """Say that one frame is seen."""
        return "one frame of each clip"

    @property
    def views(self) -> tuple[str, ...]:
        """What the view depends on."""
        return ("frame",)


def strip(clips: Tensor, most: int) -> Tensor:
    """Return at most so many frames of clips [n, C, T, H, W], evenly spread, [n, frames, C, H, W]."""
    times = torch.linspace(0, clips.shape[2] - 1, min(most, clips.shape[2])).round().long()
    return clips[:, :, times.to(clips.device)].transpose(1, 2)


def joined(clips: Tensor, most: int) -> Tensor:
    """Return clips [n, C, T, H, W] as film strips uint8 [n, C, H, w], of at most so many frames, a pixel apart."""
    frames = strip(to_uint8(clips), most)
    return F.pad(frames, (0, 1), value=255).permute(0, 2, 3, 1, 4).flatten(3)[..., :-1]


CLIP, FRAME_OF_CLIP = Clip(), FrameOfClip()
