"""The residual blocks and the head that SNGAN, SAGAN and BigGAN share.

Spectral Normalization for Generative Adversarial Networks (appendix B.4).
Takeru Miyato, Toshiki Kataoka, Masanori Koyama, Yuichi Yoshida, 2018. arXiv:1802.05957

Differs from the paper: 1x1 shortcuts are computed before an upsampling and after a mean pooling. They commute with
both, so the function is the same and takes less time. For the same reason it makes no difference that the authors' code
pools before the shortcut's convolution in a discriminator's first block and after it in the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Resolution, settled, shown, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.attention import SelfAttention
from gan_experiments.layers.init import init_uniform
from gan_experiments.layers.labels import required_label

Norm = Callable[[int], nn.Module]
"""A function of the number of channels that makes a normalisation layer."""
Scheme = TypeVar("Scheme")


class GeneratorBlock(nn.Module):
    """Residual block of a generator, `[N, channels_in, H, W]` -> `[N, channels_out, 2H, 2W]`.

    Norm, ReLU, nearest-neighbour upsampling, conv3, norm, ReLU, conv3; the shortcut is conv1 and upsampling.
    Conditional norms receive the block's condition. Weights start as in SNGAN: uniform with Glorot's std, √2 times that
    for the 3x3 convolutions.
    """

    def __init__(self, channels_in: int, channels_out: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(channels_in), norm(channels_out)
        self.conv1 = _convolution(channels_in, channels_out, 3)
        self.conv2 = _convolution(channels_out, channels_out, 3)
        self.shortcut = _convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Apply the block; `condition`, [N] or [N, features], is passed to its norms if given."""
        h = F.relu(normalised(self.norm1, x, condition))  # not in place: the shortcut reads x too
        h = self.conv1(double(h))
        h = self.conv2(F.relu(normalised(self.norm2, h, condition)))
        return h + double(self.shortcut(x))


class DiscriminatorBlock(nn.Module):
    """Residual block of a discriminator, `[N, channels_in, H, W]` -> `[N, channels_out, H/2, W/2]`.

    ReLU, conv3, ReLU, conv3, mean pooling; the shortcut is mean pooling and conv1. Without `halve` there is no pooling,
    and the output keeps H and W. `first` leaves out the first ReLU, because the input is an image. Between the
    convolutions there are channels_out channels if the block is `first` or `wide` (SAGAN, BigGAN), else channels_in.
    The shortcut is the identity if the shape stays the same. Weights start as in `GeneratorBlock`.
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

    @override
    def forward(self, x: Tensor) -> Tensor:
        h = x if self.first else F.relu(x)  # not in place: the shortcut reads x too
        h = self.conv2(F.relu(self.conv1(h)))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.shortcut(x)


class Head(nn.Module):
    """Output layer of a discriminator: w·h of pooled features h, plus e(label)·h with `conditioning="projection"`.

    Miyato & Koyama 2018, arXiv:1802.05637, section 3.
    """

    def __init__(self, features: int, classes: int, conditioning: str, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=bias)
        init_uniform(self.linear)
        self.embedding = nn.Embedding(classes, features) if conditioning == "projection" else None
        if self.embedding is not None:
            nn.init.xavier_uniform_(self.embedding.weight)

    def forward(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Map features [N, F] and, for projection, labels [N] to logits [N]; raises ConfigError for missing labels."""
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (self.embedding(required_label(label, "the projection")) * features).sum(dim=1)


def wide_blocks(widths: Sequence[int], halvings: int, sides: Sequence[int], attention: int) -> nn.Sequential:
    """Return a discriminator's wide blocks; the input image has widths[0] channels, the first `halvings` blocks halve.

    `sides` are the sides of the blocks' output maps. Self-attention follows the first block whose side is `attention`,
    and none if that is 0.
    """
    layers: list[nn.Module] = []
    attends = sides.index(attention) if attention else None
    for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
        layers += [DiscriminatorBlock(narrow, wide, halve=i < halvings, wide=True, first=i == 0)]
        layers += [SelfAttention(wide)] if i == attends else []
    return nn.Sequential(*layers)


def normalised(norm: nn.Module, x: Tensor, condition: Tensor | None) -> Tensor:
    """Apply a norm to x, with the condition if there is one."""
    return norm(x) if condition is None else norm(x, condition)


def double(x: Tensor) -> Tensor:
    """Upsample by nearest neighbour, `[N, C, H, W]` -> `[N, C, 2H, 2W]`."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def sum_pool(x: Tensor) -> Tensor:
    """Apply ReLU and sum over positions, `[N, C, H, W]` -> `[N, C]`; all authors' codes have a sum, not a mean."""
    return F.relu(x).sum(dim=(2, 3))


def draw_weights(network: nn.Module, draw: Callable[[Tensor], object], embeddings: bool = True) -> None:
    """Initialise the weights of all convolutions, linear layers and, if asked, embeddings by `draw`; biases are 0."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif embeddings and isinstance(layer, nn.Embedding):
            draw(layer.weight)


def at_resolution(schemes: Mapping[int, Scheme], resolution: Resolution, network: nn.Module) -> Scheme:
    """Return the scheme for a resolution, that of a rectangle's shorter side; raises ConfigError if there is none.

    The longer side must halve as often as the shorter one, whose smallest maps have 4 pixels, or 6 on the way to 48.
    """
    short, long = sorted(sides(resolution))
    nearest = min(schemes, key=lambda known: abs(known - short))
    part = nearest // (6 if nearest % 3 == 0 else 4)
    if short in schemes and long % part == 0:
        return schemes[short]
    *others, last = schemes
    known = f"{', '.join(map(str, others))} and {last}"
    instead: int | list[int] = nearest
    if short != long:
        known += f" pixels of the shorter side, with a longer one that {part} divides"
        longer = max(nearest, round(long / part) * part)
        instead = [nearest, longer] if sides(resolution)[0] == short else [longer, nearest]
    raise ConfigError(
        f"{type(network).__name__} cannot make a resolution of {shown(settled(resolution))}: it is defined at"
        f" {known}; type data.resolution={shown(instead)}"
    )


def attention_side(attention: int | None, resolution: Resolution, places: Sequence[int], network: nn.Module) -> int:
    """Return the shorter side of the feature maps with self-attention, 0 for no attention.

    It is `attention`, or if that is None the smaller of 64 and half the resolution. `places` are the shorter sides of
    the network's maps. Raises ConfigError for another side.
    """
    if attention is None:
        return min(64, min(sides(resolution)) // 2)
    if attention and attention not in places:
        raise ConfigError(
            f"{type(network).__name__} was given attention={attention}: its maps have sides of"
            f" {', '.join(map(str, sorted(set(places))))}; type one of them, or attention=0 for none"
        )
    return attention


def _convolution(channels_in: int, channels_out: int, size: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels_out, size, padding=size // 2)
    init_uniform(layer, gain=math.sqrt(2) if size == 3 else 1.0)
    return layer
