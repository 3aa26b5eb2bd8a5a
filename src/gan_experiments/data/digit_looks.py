"""What handwritten digits look like, in numbers: stroke width, slant and width, and the words for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHARE = 0.3
"""The part of the digits that is called thick, and thin, and so on; of the others nothing is said."""
_LOOKS = {
    "thickness": (("thin", "fine"), ("thick", "bold")),
    "slant": (("leaning left", "slanted to the left"), ("leaning right", "slanted to the right")),
    "width": (("narrow",), ("wide", "broad")),
}


def looks(images: Tensor) -> dict[str, Tensor]:
    """Measure images of light digits on black, float [N, 1, H, W] in [-1, 1]: float64 [N] each.

    "thickness" is the width of the stroke in pixels, twice the ink over the length of the outline (for a line, whose
    outline is twice its length, that is its width). "slant" is how far the digit moves to the right in one pixel
    upwards. "width" is the standard deviation of the ink's columns, in pixels, over that of its rows.
    """
    ink = (images[:, 0].double() + 1) / 2
    rows, columns = (torch.arange(side, dtype=torch.float64, device=ink.device) for side in ink.shape[1:])
    mass = ink.sum((1, 2)).clamp_min(1e-9)
    y = rows[:, None] - ((ink.sum(2) @ rows) / mass)[:, None, None]
    x = columns - ((ink.sum(1) @ columns) / mass)[:, None, None]
    of_y, of_x, both = ((ink * of).sum((1, 2)) / mass for of in (y * y, x * x, x * y))
    framed = torch.nn.functional.pad(ink, (1, 1, 1, 1))
    down, right = framed[:, 1:, :-1] - framed[:, :-1, :-1], framed[:, :-1, 1:] - framed[:, :-1, :-1]
    outline = (down.square() + right.square()).sqrt().sum((1, 2))
    of_y = of_y.clamp_min(1e-9)
    return {
        "thickness": 2 * mass / outline.clamp_min(1e-9),
        "slant": -both / of_y,
        "width": (of_x / of_y).sqrt(),
    }


def captions(images: Tensor, labels: Tensor, seed: int = 0, each: int = 4) -> list[list[str]]:
    """Return `each` captions of every image, in several wordings; images float [N, 1, H, W], labels int64 [N].

    A digit is thick if it is among the SHARE of its class with the widest strokes, and so on. A caption says some or
    all of what there is to say, and always which digit it is.
    """
    drawn = np.random.default_rng(seed)
    said: list[list[Sequence[str]]] = [[] for _ in labels]
    for name, values in looks(images).items():
        for number in labels.unique():
            rows = torch.nonzero(labels == number)[:, 0]
            low, high = torch.quantile(values[rows], torch.tensor([SHARE, 1 - SHARE], dtype=values.dtype))
            for row in rows.tolist():
                if values[row] < low:
                    said[row].append(_LOOKS[name][0])
                elif values[row] > high:
                    said[row].append(_LOOKS[name][1])
    return [
        [_wording(number, look, drawn, place > 0) for place in range(each)]
        for number, look in zip(labels.tolist(), said, strict=True)
    ]


def _one(words: Sequence[str], drawn: np.random.Generator) -> str:
    """Draw one of some words, the one that `drawn.choice` takes, in a tenth of its time."""
    return words[int(drawn.integers(len(words)))]


def _wording(number: int, look: Sequence[Sequence[str]], drawn: np.random.Generator, some: bool) -> str:
    """Word a caption: of all looks, or with `some` of each with a probability of 0.7."""
    words = [_one(of, drawn) for of in look if not some or drawn.random() < 0.7]
    before, after = [word for word in words if " " not in word], [word for word in words if " " in word]
    name = NAMES[number] if drawn.random() < 0.7 else str(number)
    opening = _one(["a", "the digit", "a handwritten", ""], drawn)
    if opening == "the digit":
        return " ".join([opening, name, *([", ".join(words)] if words else [])])
    if opening == "a" and [*before, name][0] in ("eight", "8"):
        opening = "an"
    return " ".join(part for part in [opening, *before, name, " and ".join(after)] if part)
