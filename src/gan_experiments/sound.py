"""Sound: spectrograms in mel bands, and WAV files."""

from __future__ import annotations

import io
import math
import struct
import wave
from fractions import Fraction
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

FULL = 32768
"""What a sample of 1 is in 16 bits."""
FLOOR = 1e-5
"""The amplitude that stands for silence in logarithms: -100 dB."""


def to_int16(waves: Tensor) -> Tensor:
    """Convert waves in [-1, 1] to 16 bits, to the nearest step and within its bounds; int16 stays as it is."""
    if waves.dtype == torch.int16:
        return waves
    return (waves.float() * FULL).round().clamp(-FULL, FULL - 1).to(torch.int16)


def to_float(waves: Tensor) -> Tensor:
    """Convert waves of 16 bits to the default float dtype in [-1, 1); floats stay in their range."""
    floats = waves.to(torch.get_default_dtype())
    return floats if waves.is_floating_point() else floats / FULL


def mel(hertz: Tensor | float) -> Tensor:
    """Return frequencies on the mel scale, 1127 ln(1 + f / 700)."""
    return 1127 * torch.log1p(torch.as_tensor(hertz, dtype=torch.float64) / 700)


@cache
def mel_filters(bins: int, rate: int, bands: int, low: float, high: float) -> Tensor:
    """Return the weights of `bands` mel bands, float32 [bins, bands]: triangles on the mel scale from `low` to `high`.

    The `bins` frequencies lie between 0 and rate / 2; the first of them, which is constant, has no weight. They are
    the bands of VGGish (Hershey et al. 2017, arXiv:1609.09430).
    """
    places = mel(torch.linspace(0, rate / 2, bins, dtype=torch.float64))[:, None]
    ends = torch.linspace(mel(low).item(), mel(high).item(), bands + 2, dtype=torch.float64)
    rising = (places - ends[:-2]) / (ends[1:-1] - ends[:-2])
    falling = (ends[2:] - places) / (ends[2:] - ends[1:-1])
    weights = torch.minimum(rising, falling).clamp(min=0)
    weights[0] = 0
    return weights.float()


def mel_bands(waves: Tensor, rate: int, hop: int, window: int, bands: int) -> Tensor:
    """Return the amplitude in mel bands, [n, bands, 1 + L // hop], of waves float [n, L] in [-1, 1].

    Windows of `window` samples (Hann) begin `hop` samples apart, centred, with silence around. Those of a sine of
    amplitude 1 have the sum 1. The bands reach from 20 Hz to half the rate.
    """
    hann = torch.hann_window(window, device=waves.device, dtype=waves.dtype)
    found = torch.stft(waves, window, hop, window=hann, center=True, pad_mode="constant", return_complex=True)
    spectrum = found.abs() / hann.sum()  # [n, 1 + window / 2, frames]
    filters = mel_filters(spectrum.shape[1], rate, bands, 20.0, rate / 2).to(spectrum)
    return torch.einsum("nft,fb->nbt", spectrum, filters)


def decibels(amplitude: Tensor) -> Tensor:
    """Return amplitudes in dB, 0 for 1 and -100 for silence."""
    return 20 * torch.log10(amplitude.clamp(min=FLOOR))


def windows_of(length: int, columns: int) -> tuple[int, int]:
    """Return hop and window, a power of two, for a spectrogram of about `columns` of waves of `length` samples."""
    hop = max(1, length // columns)
    return hop, 2 ** round(math.log2(max(16, min(8 * hop, length))))


def wav_of(samples: Tensor, rate: int, comment: str = "", software: str = "") -> bytes:
    """Return the bytes of a WAV file of 16 bits with waves [C, L] in [-1, 1] or int16.

    `comment` and `software` are written into a LIST chunk of INFO, if they are given.
    """
    frames = to_int16(samples.cpu()).T.contiguous().numpy().astype("<i2")
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(frames.tobytes())
    raw = written.getvalue()
    info = b"".join(
        _chunk(name, text.encode() + b"\0") for name, text in ((b"ICMT", comment), (b"ISFT", software)) if text
    )
    if not info:
        return raw
    raw += _chunk(b"LIST", b"INFO" + info)
    return raw[:4] + struct.pack("<I", len(raw) - 8) + raw[8:]


def comment_of(raw: bytes) -> str:
    """Return the comment in the bytes of a WAV file, "" if it has none."""
    place = raw.find(b"INFO")
    place = raw.find(b"ICMT", place) if place >= 0 else -1
    if place < 0:
        return ""
    (size,) = struct.unpack("<I", raw[place + 4 : place + 8])
    return raw[place + 8 : place + 8 + size].rstrip(b"\0").decode(errors="replace")


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def drawn(waves: Tensor, rate: int, columns: int = 128, bands: int = 40, tall: int = 24) -> Tensor:
    """Draw waves [n, C, L] in [-1, 1], each above its spectrogram, as uint8 pictures [n, 3, tall + bands + 2, columns].

    Channels are averaged. The spectrogram has low frequencies below, and colours for -80 to 0 dB.
    """
    mono = waves.float().cpu().mean(dim=1)
    length = mono.shape[1]
    hop, window = windows_of(length, columns)
    levels = decibels(mel_bands(mono, rate, hop, window, bands))
    levels = F.interpolate(levels[:, None], (bands, columns), mode="nearest")[:, 0].flip(1)
    shade = ((levels + 80) / 80).clamp(0, 1).nan_to_num() * (len(MAGMA) - 1)
    below = shade.floor().long().clamp(max=len(MAGMA) - 2)
    colours = torch.tensor(MAGMA, dtype=torch.float32)
    part = (shade - below)[..., None]
    spectrogram = (colours[below] * (1 - part) + colours[below + 1] * part).permute(0, 3, 1, 2)

    parts = F.interpolate(mono[:, None], columns * max(1, length // columns), mode="nearest")[:, 0]
    parts = parts.nan_to_num().clamp(-1, 1).unflatten(1, (columns, -1))
    low, high = ((1 - value) / 2 * (tall - 1) for value in (parts.amax(2), parts.amin(2)))
    rows = torch.arange(tall)[None, :, None]
    inside = (rows >= low[:, None].round()) & (rows <= high[:, None].round())
    blue = torch.tensor(BLUE, dtype=torch.float32)[None, :, None, None]
    line = torch.where(inside[:, None], blue, torch.tensor(250.0))
    between = torch.full((len(waves), 3, 2, columns), 250.0)
    return torch.cat([line.expand(-1, 3, -1, -1), between, spectrogram], dim=2).round().to(torch.uint8)


MAGMA = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
BLUE = (31, 90, 150)


def joined(waves: Tensor, rate: int, gap: float = 0.1, most: float = 20.0) -> Tensor:
    """Return waves [n, C, L] one after another, [C, m], with `gap` seconds of silence after each.

    As many are taken as fit into `most` seconds, at least one.
    """
    padded = F.pad(waves, (0, round(gap * rate)))
    number = max(1, min(len(padded), int(most * rate / padded.shape[2])))
    return padded[:number].movedim(0, 1).flatten(1)


def resampled(samples: Tensor, speed: Fraction) -> Tensor:
    """Return samples float [C, L] played `speed` times as fast, [C, about L / speed], without aliasing.

    The filter is a sinc below a Hann window of ROOM zero crossings, as in Smith's "Digital Audio Resampling".
    """
    if speed == 1:
        return samples
    take, give = speed.numerator, speed.denominator  # so many samples become so many
    kernels, around = _kernels(take, give)
    padded = F.pad(samples[:, None], (around, around + take))
    number = -(-samples.shape[1] * give // take)
    return F.conv1d(padded, kernels.to(samples), stride=take).transpose(1, 2).flatten(1)[:, :number]


ROOM = 12
"""Zero crossings of the resampling filter to each side."""
PASS = 0.97
"""The part of the lower of both bands up to which nothing is lost."""


@cache
def _kernels(take: int, give: int) -> tuple[Tensor, int]:
    """Return a kernel for each of `give` samples, [give, 1, k], and how far they reach to each side."""
    cut = PASS * min(1.0, give / take)  # relative to half the rate of the samples
    around = math.ceil(ROOM / cut)
    places = torch.arange(-around, around + take, dtype=torch.float64)
    times = (places - torch.arange(give, dtype=torch.float64)[:, None] * take / give) * cut
    window = torch.cos(times.clamp(-ROOM, ROOM) * math.pi / ROOM / 2).square()
    return (cut * torch.sinc(times) * window)[:, None].float(), around


def speed_of(rate: int, to: int, factor: float = 1.0) -> Fraction:
    """Return the speed at which samples of one rate become those of another, played `factor` times as fast."""
    return Fraction(rate / to * factor).limit_denominator(1000 if factor == 1 else 100)
