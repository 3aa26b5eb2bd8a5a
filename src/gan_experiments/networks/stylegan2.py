"""Analyzing and Improving the Image Quality of StyleGAN.

Tero Karras, Samuli Laine, Miika Aittala, Janne Hellsten, Jaakko Lehtinen, Timo Aila, 2020. arXiv:1912.04958

Config F, and the options of StyleGAN2-ADA (Karras et al. 2020, arXiv:2006.06676): labels, half precision, a
discriminator without residuals. Differs from the paper: none known; sizes and details are those of StyleGAN2-ADA's
PyTorch code. The images are not bounded: clamp them before showing or scoring them.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Classes, Count, Depth, Few, Resolution, Share, Whole, Width, settled
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.dropout import Draw
from gan_experiments.layers.equalised import EqualisedLinear
from gan_experiments.layers.labels import conditioned_classes
from gan_experiments.layers.minibatch import MinibatchStandardDeviation
from gan_experiments.layers.modulated import ModulatedConv2d
from gan_experiments.layers.resample import Downsample, Upsample, blur
from gan_experiments.layers.resolution import doublings_from_4, start_of, widths_of
from gan_experiments.layers.styles import Mapping, StyledGenerator

LEAK = 0.2
GAIN = math.sqrt(2)  # after each leaky ReLU, so that it keeps the variance
CLAMP = 256.0  # bound of the maps with half precision
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
ARCHITECTURES = ("resnet", "orig")


class StyleGAN2Generator(StyledGenerator):
    """Noise `[N, latent_dim]` to images `[N, channels, H, W]`, around [-1, 1] but not bounded.

    A learned map of 4x4 pixels, or larger by as much as a rectangle is longer, then two modulated convolutions at each
    resolution (one at 4x4); the images of all resolutions are upsampled and added (figure 7, "output skips"). There are
    min(`channel_base` / R, `channel_max`) channels at R pixels. `mapping_layers` layers map z to w, which has `w_dim`
    values; styles are mixed with probability `mixing`. See `StyledGenerator` for `draw` and `truncation`.

    The `half_resolutions` highest resolutions, of 8 pixels or more, compute in `half`, "bfloat16" or "float16"; maps
    are then clamped to ±256. With float16, infinite gradients become ±1e5 and NaN becomes 0, as in the official code.
    Raises ConfigError unless `resolution`, or its shorter side, is a power of two from 16 on, and for another `half`;
    in forward for a missing label.
    """

    def __init__(
        self,
        latent_dim: Width = 512,
        resolution: Resolution = 256,
        channels: Width = 3,
        classes: Classes = 0,
        w_dim: Width = 512,
        channel_base: Count = 32768,
        channel_max: Width = 512,
        mapping_layers: Depth = 8,
        mixing: Share = 0.9,
        half_resolutions: Few = 0,
        half: str = "bfloat16",
    ) -> None:
        doublings = doublings_from_4(resolution, "StyleGAN2Generator")
        widths = widths_of(channel_base, channel_max, doublings)
        halves = halves_of(half_resolutions, half, doublings)
        clamp = CLAMP if half_resolutions else None
        super().__init__(
            Mapping(latent_dim, w_dim, mapping_layers, classes),
            StyleGAN2Synthesis(widths, channels, w_dim, halves, clamp, start_of(resolution, doublings)),
            latent_dim,
            2 * len(widths),
            mixing,
        )
        self.resolution = settled(resolution)
        if torch.float16 in halves:
            keep_gradients_finite(self)


class StyleGAN2Synthesis(nn.Module):
    """Synthesis network: ws `[N, 2 · blocks, w_dim]` to images `[N, channels, R, R]`, a block for each of `widths`.

    The first block is at `start`, height and width. A block's toRGB and the next block's first convolution use the same
    w. `halves` are the blocks' dtypes, None for that of the parameters; maps are clamped to ±`clamp`.
    """

    def __init__(
        self,
        widths: list[int],
        channels: int,
        w_dim: int,
        halves: list[torch.dtype | None],
        clamp: float | None,
        start: tuple[int, int] = (4, 4),
    ) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(widths[0], *start))
        self.blocks = nn.ModuleList(
            SynthesisBlock(before, after, channels, w_dim, (start[0] << i, start[1] << i), half, clamp)
            for i, (before, after, half) in enumerate(zip([0, *widths], widths, halves, strict=False))
        )
        self.upsample = Upsample()

    @override
    def forward(self, ws: Tensor, draw: Draw | None = None) -> Tensor:
        x = self.const.expand(ws.shape[0], -1, -1, -1)  # len() would fix the batch of an export
        images: Tensor | None = None
        w = ws.unbind(1)
        for i, block in enumerate(self.blocks):
            x, rgb = block(x, w[max(2 * i - 1, 0)], w[2 * i], w[2 * i + 1], draw)
            images = rgb if images is None else self.upsample(images) + rgb
        assert images is not None
        return images


class SynthesisBlock(nn.Module):
    """Maps `[N, inputs, H/2, W/2]` to `[N, outputs, H, W]` and an image `[N, channels, H, W]`; `size` is H and W.

    The first block, of 0 `inputs`, keeps the size, as do those without `up`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: int,
        w_dim: int,
        size: tuple[int, int],
        half: torch.dtype | None,
        clamp: float | None,
        up: bool = True,
    ) -> None:
        super().__init__()
        self.half_dtype, self.clamp = half, clamp
        self.conv0 = StyledConv2d(inputs, outputs, w_dim, size, up, clamp) if inputs else None
        self.conv1 = StyledConv2d(outputs, outputs, w_dim, size, False, clamp)
        self.to_rgb = ModulatedConv2d(outputs, channels, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w0: Tensor, w1: Tensor, w2: Tensor, draw: Draw | None) -> tuple[Tensor, Tensor]:
        """Return the block's maps, and its image in the parameters' dtype, under autocast too."""
        x = x.to(self.half_dtype or self.bias.dtype)
        if self.conv0 is not None:
            x = self.conv0(x, w0, draw)
        x = self.conv1(x, w1, draw)
        rgb = self.to_rgb(x, w2) + self.bias[:, None, None].to(x.dtype)
        return x, _clamped(rgb, self.clamp).to(self.bias.dtype)


class StyledConv2d(nn.Module):
    """A modulated 3x3 convolution, then noise, bias and leaky ReLU · √2 (figure 2d); `up` doubles the size.

    The noise is one map for all channels, times a learned strength that starts at 0. `draw` draws it; without `draw` it
    is the buffer `noise` `[H, W]`.
    """

    noise: Tensor

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, size: tuple[int, int], up: bool, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, 3, w_dim, up)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.randn(size))
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, draw: Draw | None) -> Tensor:
        """Map `[N, inputs, H, W]` and w `[N, w_dim]` to `[N, outputs, H, W]`."""
        noise = self.noise if draw is None else draw(torch.randn, x.shape[0], 1, *self.noise.shape)
        maps, scale = self.conv.parts(x, w)
        assert scale is not None
        # Each summand is multiplied by √2 instead of the result, which takes fewer passes over the maps.
        x = torch.addcmul((self.bias * GAIN)[:, None, None].to(maps.dtype), maps, scale * GAIN)
        x = x + (noise * (self.strength * GAIN)).to(maps.dtype)
        return _clamped(F.leaky_relu_(x, LEAK), self.clamp)


class StyleGAN2Discriminator(nn.Module):
    """Images `[N, channels, H, W]` to logits `[N]` (figure 7).

    `architecture` is "resnet", with a 1x1 convolution as the shortcut of each block, or "orig", without shortcuts. At
    4x4 the standard deviation over groups of `group` samples is concatenated to the maps. `conditioning` is "none" or
    "projection": the inner product with the label, one of `classes`, mapped by `mapping_layers` layers. Channels, half
    precision and errors are those of the generator. It also raises ConfigError for another architecture or
    conditioning, and for conditioning without classes. With `numbers` the label is so many numbers, float
    `[N, numbers]`, and not a class.
    """

    def __init__(
        self,
        resolution: Resolution = 256,
        channels: Width = 3,
        classes: Classes = 0,
        conditioning: str = "none",
        channel_base: Count = 32768,
        channel_max: Width = 512,
        architecture: str = "resnet",
        group: Count = 4,
        mapping_layers: Depth = 8,
        half_resolutions: Few = 0,
        half: str = "bfloat16",
        numbers: Whole = 0,
    ) -> None:
        super().__init__()
        name = "StyleGAN2Discriminator"
        self.classes = conditioned_classes(conditioning, classes, ("none", "projection"), name)
        if architecture not in ARCHITECTURES:
            raise ConfigError(
                f"{name} has no architecture={architecture}: type architecture= one of {', '.join(ARCHITECTURES)}"
            )
        doublings = doublings_from_4(resolution, name)
        widths = widths_of(channel_base, channel_max, doublings)[::-1]
        self.halves = halves_of(half_resolutions, half, doublings)[:0:-1]
        clamp = CLAMP if half_resolutions else None
        self.from_rgb = ActivatedConv2d(channels, widths[0], 1, clamp=clamp)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(before, after, architecture == "resnet", clamp)
            for before, after in itertools.pairwise(widths)
        )
        wide = widths[-1]
        self.deviation = MinibatchStandardDeviation(group)
        self.conv = ActivatedConv2d(wide + 1, wide, 3, clamp=clamp)
        self.linear = EqualisedLinear(wide * math.prod(start_of(resolution, doublings)), wide)
        self.numbers, told = numbers, self.classes or numbers
        self.output = EqualisedLinear(wide, wide if told else 1)
        self.mapping = Mapping(0, wide, mapping_layers, self.classes, numbers) if told else None
        if torch.float16 in self.halves:
            keep_gradients_finite(self)

    def features(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, R, R]` -> `[N, F]`; the label is used in the head only."""
        x = self.from_rgb(images.to(self.halves[0] or images.dtype))
        for block, half in zip(self.blocks, self.halves, strict=True):
            x = block(x.to(half or images.dtype))
        x = self.conv(self.deviation(x.to(images.dtype)))
        return F.leaky_relu(self.linear(x.flatten(1)), LEAK) * GAIN

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features, `[N, F]` and optional labels int64 `[N]` -> `[N]`."""
        h = self.output(features)
        if self.mapping is None:
            return h.squeeze(1)
        return (h * self.mapping(None, label)).sum(1) / math.sqrt(h.shape[1])

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of images `[N, channels, R, R]` and optional labels int64 `[N]` -> `[N]`."""
        return self.head(self.features(images, label), label)


class DiscriminatorBlock(nn.Module):
    """Block of two convolutions, `[N, inputs, H, W]` -> `[N, outputs, H/2, W/2]`; `residual` adds a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, residual: bool, clamp: float | None = None) -> None:
        super().__init__()
        share = math.sqrt(0.5) if residual else 1.0  # of either branch, so that their sum keeps the variance
        self.conv0 = ActivatedConv2d(inputs, inputs, 3, clamp=clamp)
        self.conv1 = ActivatedConv2d(inputs, outputs, 3, down=True, gain=share, clamp=clamp)
        self.skip = ShrinkingConv1x1(inputs, outputs, gain=share) if residual else None

    @override
    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.conv0(x))
        return h if self.skip is None else h + self.skip(x)


class ActivatedConv2d(nn.Module):
    """An equalised convolution of odd `size`, bias, leaky ReLU · √2 · `gain`, clamped to ±`clamp` · `gain`.

    `[N, inputs, H, W]` -> `[N, outputs, H, W]`. With `down` the maps are blurred and the convolution has stride 2, so
    the output has H/2 and W/2.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        down: bool = False,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = GAIN * gain
        self.scale = self.gain / math.sqrt(inputs * size**2)
        self.down, self.padding = down, size // 2
        self.clamp = None if clamp is None else clamp * gain

    @override
    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (self.weight * self.scale).to(x.dtype), (self.bias * self.gain).to(x.dtype)
        if self.down:
            x = F.conv2d(blur(x, padding=self.padding + 1), weight, bias, stride=2)
        else:
            x = F.conv2d(x, weight, bias, padding=self.padding)
        return _clamped(F.leaky_relu_(x, LEAK), self.clamp)


class ShrinkingConv1x1(nn.Module):
    """Downsampling and an equalised 1x1 convolution · `gain`, `[N, inputs, H, W]` -> `[N, outputs, H/2, W/2]`."""

    def __init__(self, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.downsample = Downsample()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.scale = gain / math.sqrt(inputs)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.downsample(x), (self.weight * self.scale).to(x.dtype))


def halves_of(number: int, half: str, doublings: int) -> list[torch.dtype | None]:
    """Return the dtypes at 4 pixels, 8, 16, ...; None is that of the parameters, which 4 pixels always have."""
    if half not in HALVES:
        raise ConfigError(f"half={half}: there is no such form; type half= one of {', '.join(HALVES)}")
    return [HALVES[half] if i > max(doublings - number, 0) else None for i in range(doublings + 1)]


def keep_gradients_finite(network: nn.Module) -> None:
    """Replace infinite gradients of its parameters by ±1e5 and NaN by 0, as float16 needs it."""

    def bounded(
        gradient: Tensor | None,
    ) -> Tensor | None:  # None: a penalty does not depend on the parameter
        return None if gradient is None else gradient.nan_to_num(0.0, 1e5, -1e5)

    for parameter in network.parameters():
        parameter.register_hook(bounded)


def _clamped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else x.clamp(-limit, limit)
