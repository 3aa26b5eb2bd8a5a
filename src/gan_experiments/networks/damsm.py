"""AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial Networks.

Tao Xu, Pengchuan Zhang, Qiuyuan Huang, Han Zhang, Zhe Gan, Xiaolei Huang, Xiaodong He, 2017. arXiv:1711.10485

The encoders of the DAMSM (section 3.2), which map words and parts of images to a common space.

Differs from the paper: the text encoder may also be a GRU or a bag of words, and the image encoder a small network that
is trained from the start, where Inception-v3's weights are not to be had.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import BelowOne, OneOf, Resolution, Width
from gan_experiments.captions import FIRST
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.dropout import Draw, DrawnDropout
from gan_experiments.layers.resolution import doublings_from_4
from gan_experiments.networks.text import Text, mask_of

TEXT_KINDS = ("bilstm", "gru", "bag")


class TextEncoder(nn.Module):
    """Captions int64 [n, length] -> `Text` with `sentence` [n, features] and `words` [n, features, length].

    `kind` is "bilstm", the paper's bi-directional LSTM; "gru", which reads forwards alone; or "bag", which knows no
    order: a linear layer of the word's vector, and the sum of these over the root of their number. All read learnt
    vectors of `embedding` numbers, with `dropout`. The codes of padding are 0. Raises ConfigError for an odd number of
    `features` of a bilstm, half of which is of either direction.
    """

    def __init__(
        self,
        most_words: Width = 20_000,
        features: Width = 256,
        kind: Annotated[str, OneOf(*TEXT_KINDS)] = "bilstm",
        embedding: Width = 300,
        dropout: BelowOne = 0.5,
    ) -> None:
        super().__init__()
        if kind == "bilstm" and features % 2:
            raise ConfigError(f"model.text_encoder.features={features}: an even number is needed, half for either way")
        self.features, self.kind = features, kind
        self.embedding = nn.Embedding(FIRST + most_words, embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = DrawnDropout(dropout)
        self.drawn = dropout > 0
        if kind == "bag":
            self.linear = nn.Linear(embedding, features, bias=False)
        elif kind == "gru":
            self.forwards: nn.Module = nn.GRU(embedding, features, batch_first=True)
        else:
            self.forwards = nn.LSTM(embedding, features // 2, batch_first=True)
            self.backwards = nn.LSTM(embedding, features // 2, batch_first=True)

    def forward(self, tokens: Tensor, draw: Draw | None = None) -> Text:
        """Encode captions, int64 [n, length]; dropout draws by `draw`, see `DrawnDropout`."""
        mask = mask_of(tokens)
        x = self.dropout(self.embedding(tokens), draw)  # [n, length, embedding]
        lengths = mask.sum(1).clamp_min(1)
        if self.kind == "bag":
            codes = self.linear(x) * mask[..., None]
            sentence = codes.sum(1) / lengths[:, None].to(codes.dtype).sqrt()
        elif self.kind == "gru":
            codes, _ = self.forwards(x)
            sentence = at_end(codes, lengths)
        else:
            ahead, _ = self.forwards(x)
            back, _ = self.backwards(turned_round(x, lengths))
            sentence = torch.cat([at_end(ahead, lengths), at_end(back, lengths)], dim=1)
            codes = torch.cat([ahead, turned_round(back, lengths)], dim=2)
        return Text(sentence, (codes * mask[..., None]).transpose(1, 2), mask)


def at_end(codes: Tensor, lengths: Tensor) -> Tensor:
    """Return the last word's codes [n, features] of codes [n, length, features] of captions of so many words, [n]."""
    return codes[torch.arange(len(codes), device=codes.device), lengths - 1]


def turned_round(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the order of the words of each caption, [n, length, features]; padding stays at the end."""
    length = x.shape[1]
    places = torch.arange(length, device=x.device)
    order = (lengths[:, None] - 1 - places) % length  # beyond the caption's end these are the places of padding
    return x.gather(1, order[..., None].expand_as(x))


class ImageEncoder(nn.Module):
    """Images [n, channels, H, W] in [-1, 1] -> codes of parts [n, features, h, w] and of the whole, [n, features].

    Without a `trunk` these are read from blocks of two convolutions that halve the sides down to 4. The first block has
    `width` channels and each further one twice as many; parts are read where the shorter side is 8.

    A `trunk` is a network of other weights, frozen here, below two layers that are trained, as in the paper: images
    [n, 3, size, size] -> (maps [n, C, h, w], vectors [n, D, ...]). Its attributes are `size`, to which images are
    resized, and `widths`, C and D.

    Raises ConfigError without a trunk unless `resolution`, or its shorter side, is a power of two from 16 on.
    """

    def __init__(
        self,
        features: Width = 256,
        trunk: nn.Module | None = None,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 32,
    ) -> None:
        super().__init__()
        self.features = features
        self.trunk = _Trunk(resolution, channels, width) if trunk is None else trunk.requires_grad_(False)
        self.size: int | None = getattr(self.trunk, "size", None)
        widths: Any = self.trunk.widths
        self.parts = nn.Conv2d(widths[0], features, 1, bias=False)
        self.whole = nn.Linear(widths[1], features)
        for layer in (self.parts, self.whole):
            nn.init.uniform_(layer.weight, -0.1, 0.1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes of parts [n, features, h, w] and of the whole images [n, features]."""
        if self.size is not None:
            images = F.interpolate(
                images.expand(-1, 3, -1, -1), (self.size, self.size), mode="bilinear", antialias=True
            )
        parts, whole = self.trunk(images)
        return self.parts(parts), self.whole(whole.flatten(1))


class _Trunk(nn.Module):
    """What an `ImageEncoder` reads without another trunk."""

    def __init__(self, resolution: Resolution, channels: int, width: int) -> None:
        super().__init__()
        stages = doublings_from_4(resolution, "ImageEncoder")
        widths = [width * 2**i for i in range(stages)]
        self.widths = widths[-2], widths[-1]
        self.stages = nn.ModuleList(
            nn.Sequential(*_block(narrow, wide, 4, 2), *_block(wide, wide, 3, 1))
            for narrow, wide in itertools.pairwise([channels, *widths])
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = images
        for stage in self.stages:
            before, x = x, stage(x)
        return before, x.mean((2, 3))


def _block(narrow: int, wide: int, size: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(narrow, wide, size, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
