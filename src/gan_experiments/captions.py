"""Captions as numbers: the words of a data set, and sentences as rows of their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""The token after the end of a caption, that of a word which the vocabulary lacks, and that of its first word."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def words_of(caption: str) -> list[str]:
    """Split a caption into words, in lower case and without punctuation: "A red apple!" is a, red, apple."""
    return [word.replace("’", "'") for word in _WORD.findall(caption.lower())]


@dataclass(frozen=True)
class Vocabulary:
    """The words of a data set, the most frequent first; a caption has at most `length` tokens."""

    words: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, captions: Iterable[str], length: int, least: int = 1, most: int | None = None) -> Vocabulary:
        """Return the words that occur `least` times or more in the captions, at most `most` of them."""
        counts = Counter(word for caption in captions for word in words_of(caption))
        kept = sorted(
            (word for word, count in counts.items() if count >= least), key=lambda word: (-counts[word], word)
        )
        return cls(tuple(kept[:most]), length)

    def __len__(self) -> int:
        """The number of different tokens, those of padding and of unknown words included."""
        return FIRST + len(self.words)

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: FIRST + place for place, word in enumerate(self.words)}

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Return the tokens of captions, int64 [n, length]; words beyond `length` are cut off."""
        rows = np.full((len(captions), self.length), PADDING)
        for row, caption in zip(rows, captions, strict=True):
            tokens = [self._tokens.get(word, UNKNOWN) for word in words_of(caption)[: self.length]]
            row[: len(tokens)] = tokens
        return torch.from_numpy(rows)

    def decode(self, tokens: Tensor) -> list[str]:
        """Return the captions of tokens, int64 [n, length]; an unknown word becomes "?"."""
        told = {UNKNOWN: "?", **{token: word for word, token in self._tokens.items()}}
        return [" ".join(told[token] for token in row if token != PADDING) for row in tokens.tolist()]

    def unknown(self, caption: str) -> list[str]:
        """Return the words of a caption that the vocabulary lacks, each once."""
        return list(dict.fromkeys(word for word in words_of(caption) if word not in self._tokens))
