"""The residual blocks and the head that SNGAN, SAGAN and BigGAN share.

Spectral Normalization for Generative Adversarial Networks (appendix B.4).
Takeru Miyato, Toshiki Kataoka, Masanori Koyama, Yuichi Yoshida, 2018. arXiv:1802.05957

Differs from the paper: 1x1 shortcuts are computed on the smaller side of an upsampling or a mean pooling, with which
they commute: the same function, sooner. So it makes no difference that the authors' code pools before the shortcut's
convolution in a discriminator's first block and after it in the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.layers.attention import SelfAttention
from gan_experiments.layers.init import init_uniform
from gan_experiments.layers.labels import required_label

Norm = Callable[[int], nn.Module]
"""Makes a normalisation of a number of channels."""
Scheme = TypeVar("Scheme")


class GeneratorBlock(nn.Module):
    """Norm, ReLU, doubling, conv3, norm, ReLU, conv3, next to a doubled 1x1 shortcut.

    `[N, channels_in, H, W]` -> `[N, channels_out, 2H, 2W]`; doubling repeats pixels. A conditional norm is given the
    block's condition. Starts as in SNGAN: uniform, with Glorot's std, √2 times it for the 3x3 convolutions.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels_in), norm(channels_out)
        self.conv1 = _convolution(channels_in, channels_out, 3)
        self.conv2 = _convolution(channels_out, channels_out, 3)
        self.shortcut = _convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The block's output, see the class; `condition` [N] or [N, features] is what its norms take."""
        h = F.relu(normalised(self.norm1, x, condition))  # not in place: the shortcut reads x too
        h = self.conv1(double(h))
        h = self.conv2(F.relu(normalised(self.norm2, h, condition)))
        return h + double(self.shortcut(x))


class DiscriminatorBlock(nn.Module):
    """ReLU, conv3, ReLU, conv3, mean pool, next to a pooled 1x1 shortcut.

    `[N, channels_in, H, W]` -> `[N, channels_out, H/2, W/2]`, or H, W without `halve`. `first` leaves out the first
    ReLU, for an image. There are channels_out channels between the convolutions where the block is `first` or `wide`
    (SAGAN, BigGAN), else channels_in. The shortcut is the identity where the shape stays. Starts as `GeneratorBlock`.
    """

    def __init__(
        self, channels_in: int, channels_out: int, halve: bool = True, wide: bool = False, first: bool = False
    ) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        hidden = channels_out if wide or first else channels_in
        self.conv1 = _convolution(channels_in, hidden, 3)
        self.conv2 = _convolution(hidden, channels_out, 3)
        same = channels_in == channels_out and not halve
        self.shortcut = nn.Identity() if same else _convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, see the class."""
        h = x if self.first else F.relu(x)  # not in place: the shortcut reads x too
        h = self.conv2(F.relu(self.conv1(h)))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.shortcut(x)


class Head(nn.Module):
    """Logits of pooled features: w·h, and with `conditioning="projection"` the label's vector times h as well.

    (Miyato & Koyama 2018, arXiv:1802.05637, section 3.)
    """

    def __init__(self, features: int, classes: int, conditioning: str, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=bias)
        init_uniform(self.linear)
        self.embedding = nn.Embedding(classes, features) if conditioning == "projection" else None
        if self.embedding is not None:
            nn.init.xavier_uniform_(self.embedding.weight)

    def forward(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Features [N, F] and, for a projection, labels [N] -> logits [N]; raises ConfigError for missing labels."""
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(required_label(label, "the projection")) * features).sum(dim=1)


def wide_blocks(widths: Sequence[int], halvings: int, sides: Sequence[int], attention: int) -> nn.Sequential:
    """The wide blocks of a discriminator from an image of widths[0] channels on; the first `halvings` halve the size.

    `sides` are those of the maps that the blocks make; the first of `attention` is followed by a self-attention.
    """
    layers: list[nn.Module] = []
    attends = sides.index(attention) if attention else None
    for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
        layers += [DiscriminatorBlock(narrow, wide, halve=i < halvings, wide=True, first=i == 0)]
        layers += [SelfAttention(wide)] if i == attends else []
    return nn.Sequential(*layers)


def normalised(norm: nn.Module, x: Tensor, condition: Tensor | None) -> Tensor:
    """What a norm makes of x, under a condition if there is one."""
    return norm(x) if condition is None else norm(x, condition)


def double(x: Tensor) -> Tensor:
    """`[N, C, H, W]` -> `[N, C, 2H, 2W]`, each pixel four times."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def sum_pool(x: Tensor) -> Tensor:
    """ReLU and the sum over all places, `[N, C, H, W]` -> `[N, C]`: a sum, not a mean, as in all the authors' codes."""
    return F.relu(x).sum(dim=(2, 3))


def draw_weights(network: nn.Module, draw: Callable[[Tensor], object], embeddings: bool = True) -> None:
    """Draw all weights of convolutions, linear layers and, if asked, embeddings anew by `draw`; biases are 0."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif embeddings and isinstance(layer, nn.Embedding):
            draw(layer.weight)


def at_resolution(schemes: Mapping[int, Scheme], resolution: int, network: nn.Module) -> Scheme:
    """The scheme for a resolution; raises ConfigError for one that there is none for."""
    if resolution not in schemes:
        nearest = min(schemes, key=lambda known: abs(known - resolution))
        *others, last = schemes
        raise ConfigError(
            f"{type(network).__name__} cannot make a resolution of {resolution}: it is defined at"
            f" {', '.join(map(str, others))} and {last}; type data.resolution={nearest}"
        )
    return schemes[resolution]


def attention_side(attention: int | None, resolution: int, sides: Sequence[int], network: nn.Module) -> int:
    """The side of the maps that attend: `attention`, 0 for none; None is 64, or half the resolution where smaller.

    `sides` are those of the network's maps. Raises ConfigError for another one.
    """
    if attention is None:
        return min(64, resolution // 2)
    if attention and attention not in sides:
        raise ConfigError(
            f"{type(network).__name__} was given attention={attention}: its maps have sides of"
            f" {', '.join(map(str, sorted(set(sides))))}; type one of them, or attention=0 for none"
        )
    return attention


def _convolution(channels_in: int, channels_out: int, size: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels_out, size, padding=size // 2)
    init_uniform(layer, gain=math.sqrt(2) if size == 3 else 1.0)
    return layer
