"""Films on disk, by PyAV where it is installed: written as MP4, read frame by frame."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from gan_experiments import files
from gan_experiments.contracts import ConfigError
from gan_experiments.provenance import Mark


def installed() -> bool:
    """Return True if PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def require(what: str = "MP4 needs") -> None:
    """Raise ConfigError if PyAV is not installed."""
    if not installed():
        raise ConfigError(f"{what} PyAV, which is not installed; type pip install av, or gan-experiments[video]")


def save_mp4(frames: Tensor, path: Path, rate: float, mark: Mark | None) -> None:
    """Write uint8 frames [T, C, H, W], grey or RGB, as H.264. Raises ConfigError without PyAV.

    The sides become even, as the format has it. `mark` is the film's comment. The file appears complete or not at all.
    """
    require()
    import av

    height, width = (side - side % 2 for side in frames.shape[2:])
    with files.whole(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as film:
        if mark is not None:
            film.metadata["comment"] = mark.text()
        stream = film.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16"}
        for frame in frames.expand(-1, 3, -1, -1)[:, :, :height, :width]:
            picture = av.VideoFrame.from_ndarray(frame.permute(1, 2, 0).contiguous().cpu().numpy(), format="rgb24")
            film.mux(stream.encode(picture))
        film.mux(stream.encode())


def size_of(source: Path | str) -> tuple[int, int]:
    """Return the width and height of a film. Raises av.FFmpegError or IndexError for what is no film."""
    import av

    with av.open(str(source)) as film:
        stream = film.streams.video[0]
        return stream.width, stream.height


def frames_of(source: Path | str) -> Iterator[Tensor]:
    """Yield the frames of a film, uint8 [3, H, W]. Raises av.FFmpegError for what is no film or broken."""
    import av

    with av.open(str(source)) as film:
        for frame in film.decode(video=0):
            yield torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
