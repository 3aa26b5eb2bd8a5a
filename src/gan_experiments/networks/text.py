"""Text encoders: tokens of captions to the numbers that a generator and a discriminator are told."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Positive, Seed, Width
from gan_experiments.captions import FIRST, PADDING


@dataclass(frozen=True)
class Text:
    """Encoded captions: `sentence` [n, features], and if the encoder has them `words` [n, features, length].

    `mask` is bool [n, length], True where there is a word.
    """

    sentence: Tensor
    words: Tensor | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.sentence)


def mask_of(tokens: Tensor) -> Tensor:
    """Return where captions, int64 [n, length], have a word, bool [n, length]."""
    return tokens != PADDING


class Given(nn.Module):
    """No encoder: captions come as embeddings, float [n, features], which are the sentences."""

    def __init__(self, features: Width) -> None:
        super().__init__()
        self.features = features

    def forward(self, embeddings: Tensor) -> Text:
        """Return the embeddings as a `Text`."""
        return Text(embeddings)


class BagOfWords(nn.Module):
    """The mean of the vectors of a caption's words, int64 [n, length] -> `Text` with `sentence` [n, features].

    The vectors are random, of the length `norm`, and frozen: with enough `features` those of different words are nearly
    orthogonal, so that a linear layer can read which words are there (a random projection of the counts of words). The
    order of the words is lost. `seed` draws them; the parameters of a run are its own all the same. A caption without
    words is 0.
    """

    def __init__(self, most_words: Width = 20_000, features: Width = 128, seed: Seed = 0, norm: Positive = 1.0) -> None:
        super().__init__()
        self.features = features
        vectors = torch.randn(FIRST + most_words, features, generator=torch.Generator().manual_seed(seed))
        vectors = norm * nn.functional.normalize(vectors)
        vectors[PADDING] = 0
        self.vectors = nn.Parameter(vectors, requires_grad=False)

    def forward(self, tokens: Tensor) -> Text:
        """Encode captions, int64 [n, length]."""
        mask = mask_of(tokens)
        words = self.vectors[tokens]  # [n, length, features]
        count = mask.sum(1, keepdim=True).clamp_min(1)
        # The length of a sum of k orthogonal vectors is √k: divided by it, all sentences are as long as a word.
        return Text(words.sum(1) / count.to(words.dtype).sqrt(), words.transpose(1, 2), mask)
