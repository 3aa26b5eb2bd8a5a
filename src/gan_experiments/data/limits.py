"""Limits on the size of an image file: what is small on disk can unpack to more than any memory holds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from gan_experiments.contracts import ConfigError

PIXELS = 178_956_970
"""The greatest number of pixels of an image by default, which is Pillow's own limit."""
BYTES = 4
"""The greatest size of a file in bytes per allowed pixel: enough for an uncompressed file of the largest image."""

_words = ["data.max_pixels"]
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # at half of the limit


class UnreadableImageError(Exception):
    """The bytes are not an image that can be decoded; the text says why."""


@contextmanager
def at_most(max_pixels: int | None, word: str | None = None) -> Iterator[None]:
    """Limit the images that are read inside to `max_pixels` pixels (None: leave the limit as it is).

    The limit holds for all threads of the process, as Pillow's does. `word` is what a person types to set it, for
    messages. Raises ConfigError if `max_pixels` is not a whole number of 1 or more.
    """
    word = word or _words[-1]
    if max_pixels is not None and (not isinstance(max_pixels, int) or isinstance(max_pixels, bool) or max_pixels < 1):
        raise ConfigError(
            f"{word}={max_pixels}: a whole number of 1 or more is needed; type for example {word}={PIXELS}"
        )
    before = Image.MAX_IMAGE_PIXELS
    if max_pixels is not None:
        Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]  # Pillow refuses what has twice as many
    _words.append(word)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
        _words.pop()


def pixels() -> int:
    """Return the greatest number of pixels that an image may have now."""
    return PIXELS if Image.MAX_IMAGE_PIXELS is None else round(2 * Image.MAX_IMAGE_PIXELS)


def read(path: Path) -> bytes:
    """Return a file's bytes; raise UnreadableImageError if they are too many, and OSError as any reader does."""
    require_bytes(path.stat().st_size)
    return path.read_bytes()


def most_bytes() -> int:
    """Return the greatest size of a file, or of what it unpacks to, that is read now."""
    return max(BYTES * pixels(), 1_000_000)


def require_bytes(number: int) -> None:
    """Raise UnreadableImageError if a file, or an unpacked entry of an archive, has too many bytes to be read."""
    if number > most_bytes():
        word = _words[-1]
        raise UnreadableImageError(
            f"{number / 1e6:,.1f} MB, more than {BYTES} bytes for each of {word}={pixels()}; if it is a real image, "
            f"type {word}={-(-number // BYTES)}"
        )


def why(error: Exception) -> str:
    """Return in one line why an image cannot be decoded, and what to type if it is only too large."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        found = next((word for word in text.replace("(", " ").split() if word.isdigit()), "")
        return f"more than {_words[-1]}={pixels()}; if it is a real image, type {_words[-1]}={found}"
    return text
