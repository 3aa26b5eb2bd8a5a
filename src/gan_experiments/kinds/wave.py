"""Sounds: waveforms of one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import files, sound
from gan_experiments.contracts import Batch
from gan_experiments.drawing import captioned, sheet, titled
from gan_experiments.kinds.kind import Kind
from gan_experiments.provenance import Mark

BANDS, TIMES = 8, 8
"""The mel bands and the times by which sounds are compared."""


@dataclass(frozen=True)
class Wave(Kind):
    """Sounds [N, C, L] in [-1, 1], of `rate` samples per second."""

    name = "waves"
    dims = 3
    suffix = ".wav"
    recognised = True
    quantisation = "int16, to the nearest step"
    plays = (".wav",)

    def shape(self, data: Any) -> tuple[int, ...]:
        """Return (channels, length)."""
        return data.channels, data.length

    def bounded(self, samples: Tensor) -> Tensor:
        """Clip waves to [-1, 1]."""
        return samples.clamp(-1, 1)

    def vectors(self, samples: Tensor) -> Tensor:
        """Return the level of each wave in 8 mel bands at 8 times: 0 for -60 dB and less, 1 for 0 dB."""
        mono = samples.float().mean(dim=1)
        hop, window = sound.windows_of(mono.shape[1], 64)
        levels = sound.decibels(sound.mel_bands(mono, round(self.rate), hop, window, 40)) / 60 + 1
        return F.adaptive_avg_pool2d(levels.clamp(min=0), (BANDS, TIMES)).flatten(1)

    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Draw each wave above its spectrogram, and lay them out in rows."""
        n, k = cells.shape[:2]
        pictures = sound.drawn(cells.flatten(0, 1), round(self.rate)).unflatten(0, (n, k))
        if titles and columns:
            return titled(pictures, columns, titles, smallest)
        return sheet(pictures, columns, smallest)

    def fitting(self, batch: Batch) -> int:
        """Return 48."""
        return 48

    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Draw each sound above its spectrogram."""
        rows = self.samples(batch)
        cells = torch.stack([sound.drawn(waves, round(self.rate)) for waves in rows.values()], dim=1)
        return captioned(cells, [*rows] if len(rows) > 1 else [""], titles)

    def floats(self, stored: Tensor) -> Tensor:
        """Return waves of 16 bits as floats in [-1, 1)."""
        return sound.to_float(stored)

    def pictures(self, samples: Tensor) -> Tensor:
        """Draw each wave above its spectrogram."""
        return sound.drawn(self.floats(samples), round(self.rate))

    def viewed(self, samples: Tensor) -> Tensor:
        """Return waves as int16, as in files."""
        return sound.to_int16(samples)

    @property
    def views(self) -> tuple[Any, ...]:
        """The rate, by which extractors resample."""
        return (self.rate,)

    def play(self, cells: Tensor, path: Path, mark: Mark | None) -> None:
        """Write the waves of all cells, one after another with pauses, to a WAV of 20 seconds at most."""
        waves = cells.flatten(0, 1)
        self.save(sound.joined(waves, round(self.rate)), path, mark)

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write a WAV of 16 bits; a chunk INFO says what the mark does."""
        with files.whole(path) as unfinished:
            unfinished.write_bytes(sound.wav_of(sample, round(self.rate), "" if mark is None else mark.text()))


WAVE = Wave(rate=16000.0)
