"""Adversarial Audio Synthesis (WaveGAN).

Chris Donahue, Julian McAuley, Miller Puckette, 2019, arXiv:1802.04208, as in the authors' code
(chrisdonahue/wavegan 40e85e8).

Differs from the paper: none at 16,384, 32,768 and 65,536 samples. Other lengths leave out layers, or add some. z is
normal outside of the networks, as everywhere here; the generator itself makes it uniform on [-1, 1]. Classes are not
the paper's.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.bounds import Classes, Few, OneOf, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import WAVE
from gan_experiments.layers.dropout import Draw
from gan_experiments.layers.labels import conditioned_classes, one_hot, required_label
from gan_experiments.layers.phase_shuffle import PER, PhaseShuffle

START = 16  # samples after the first layer of the generator, and before the last of the discriminator
STRIDE = 4
UPSAMPLES = ("zeros", "nearest")
SHUFFLED = 4
"""The number of layers, from the first on, that are followed by a phase shuffle; the last one never is."""


def strides_of(length: int, network: str) -> list[int]:
    """Return the strides of either network's layers, in its order: of 4, and for every other length a last one of 2.

    Raises ConfigError unless `length` is 16 times a power of two from 64 on.
    """
    doublings = int(math.log2(max(1, length) / START))
    if length < STRIDE * START or START * 2**doublings != length:
        near = START * 2 ** max(2, round(math.log2(max(1, length) / START)))
        raise ConfigError(
            f"{network} makes waves of 64, 128, ... samples, the paper's are 16384, 32768 and 65536: {length} is none;"
            f" type data.length={near}"
        )
    return [STRIDE] * (doublings // 2) + [2] * (doublings % 2)


class WaveGANGenerator(nn.Module):
    """Noise [N, latent_dim] to waves [N, channels, length] in [-1, 1] (table 3 of the paper).

    Args:
        latent_dim: components of z.
        length: samples of a wave, a power of two from 64 on.
        channels: 1 for mono, 2 for stereo.
        width: d, the channels of the last hidden layer; each layer before has twice as many.
        kernel: samples of the transposed convolutions' kernels.
        upsample: "zeros" for transposed convolutions, or "nearest" for repeated samples before convolutions
            (appendix A).
        batch_norm: whether there is batch norm; the paper has none with WGAN-GP.
        uniform: whether z, which is N(0, 1), becomes U(-1, 1) by its distribution function, as in the paper.
        classes: the number of labels.
        conditioning: "none"; or "concatenation" of the label as a one-hot vector to z.

    Raises:
        ConfigError: for another length, `upsample` or conditioning; in forward for missing labels.
    """

    kind = WAVE

    def __init__(
        self,
        latent_dim: Width = 100,
        length: Width = 16384,
        channels: Width = 1,
        width: Width = 64,
        kernel: Width = 25,
        upsample: Annotated[str, OneOf(*UPSAMPLES)] = "zeros",
        batch_norm: bool = False,
        uniform: bool = True,
        classes: Classes = 0,
        conditioning: str = "none",
    ) -> None:
        super().__init__()
        if upsample not in UPSAMPLES:
            raise ConfigError(f"WaveGANGenerator has no upsample={upsample}: type upsample={' or '.join(UPSAMPLES)}")
        self.latent_dim, self.uniform = latent_dim, uniform
        self.classes = conditioned_classes(conditioning, classes, ("none", "concatenation"), "WaveGANGenerator")
        strides = strides_of(length, "WaveGANGenerator")
        widths = [width * 2**i for i in reversed(range(len(strides)))]  # 1024, 512, 256, 128, 64
        self.widest = widths[0]
        self.input = nn.Linear(latent_dim + self.classes, START * self.widest)
        make = _same_transposed if upsample == "zeros" else _repeated
        layers: list[nn.Module] = [*_norm(batch_norm, self.widest), nn.ReLU(inplace=True)]
        for stride, (wide, narrow) in zip(strides, itertools.pairwise([*widths, channels]), strict=True):
            layers += [*make(wide, narrow, kernel, stride), *_norm(batch_norm, narrow), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[: -2 if batch_norm else -1], nn.Tanh())
        _init(self)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate waves of noise [N, latent_dim] and optional labels int64 [N] -> [N, channels, length]."""
        if self.uniform:
            z = torch.erf(z / math.sqrt(2))
        if self.classes:
            z = torch.cat([z, one_hot(label, self.classes, z, "WaveGANGenerator")], dim=1)
        return self.layers(self.input(z).unflatten(1, (self.widest, START)))  # [N, 1024, 16] -> ... -> [N, 1, 16384]


class WaveGANDiscriminator(nn.Module):
    """Waves [N, channels, length] to logits [N] (table 4 of the paper), with phase shuffle in training.

    Args:
        length: samples of a wave, a power of two from 64 on.
        channels: 1 for mono, 2 for stereo.
        width: d, the channels of the first layer; each further one has twice as many.
        kernel: samples of the convolutions' kernels.
        phase_shuffle: n, the largest shift of the maps after each layer but the last, for the first four; 0 for none.
        shuffle_per: what shares a shift: "batch" as in the authors' code, "sample", or "map" as in the paper.
        batch_norm: whether there is batch norm after all layers but the first; the paper has none with WGAN-GP.
        classes: the number of labels.
        conditioning: "none"; "projection" (Miyato & Koyama 2018, arXiv:1802.05637, eq. 4); "auxiliary" (AC-GAN, Odena
            et al. 2017, arXiv:1610.09585), which has `classify` and ignores labels.

    Raises:
        ConfigError: for another length or conditioning; in forward for missing labels.
    """

    kind = WAVE
    drawn = True

    def __init__(
        self,
        length: Width = 16384,
        channels: Width = 1,
        width: Width = 64,
        kernel: Width = 25,
        phase_shuffle: Few = 2,
        shuffle_per: Annotated[str, OneOf(*PER)] = "batch",
        batch_norm: bool = False,
        classes: Classes = 0,
        conditioning: str = "none",
    ) -> None:
        super().__init__()
        strides = strides_of(length, "WaveGANDiscriminator")
        choices = ("none", "projection", "auxiliary")
        self.conditioning = conditioning
        self.classes = conditioned_classes(conditioning, classes, choices, "WaveGANDiscriminator")
        widths = [channels, *(width * 2**i for i in range(len(strides)))]  # 1, 64, 128, 256, 512, 1024
        blocks = []
        for index, (stride, (narrow, wide)) in enumerate(zip(strides, itertools.pairwise(widths), strict=True)):
            layers = [SameConv1d(narrow, wide, kernel, stride), *_norm(batch_norm and index > 0, wide)]
            blocks.append(nn.Sequential(*layers, nn.LeakyReLU(0.2, inplace=True)))
        self.blocks = nn.ModuleList(blocks)
        self.shuffle = PhaseShuffle(phase_shuffle, shuffle_per)
        self.shuffled = min(len(strides) - 1, SHUFFLED)
        features = widths[-1] * START
        self.output = nn.Linear(features, 1)
        if conditioning == "auxiliary":
            self.classifier = nn.Linear(features, self.classes)
        _init(self)
        if conditioning == "projection":
            self.embedding = nn.Embedding(self.classes, features)
            nn.init.normal_(self.embedding.weight, std=0.02)

    def features(self, waves: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Return the last layer's input, [N, channels, length] -> [N, F]; `draw` shuffles phases."""
        x = waves
        for index, block in enumerate(self.blocks):
            x = block(x)  # [N, 1, 16384] -> [N, 64, 4096] -> ... -> [N, 1024, 16]
            if index < self.shuffled:
                x = self.shuffle(x, draw)
        return x.flatten(1)

    def head(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits of features [N, F] and optional labels int64 [N] -> [N]."""
        logits = self.output(features).squeeze(1)
        if self.conditioning == "projection":
            logits = logits + (self.embedding(required_label(label, "WaveGANDiscriminator")) * features).sum(1)
        return logits

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits of the classes, [N, F] -> [N, classes]; for `conditioning="auxiliary"` only."""
        return self.classifier(features)

    def forward(self, waves: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Return the logits of waves [N, channels, length] and optional labels int64 [N] -> [N]."""
        return self.head(self.features(waves, label, draw), label)


class SameConv1d(nn.Conv1d):
    """Convolution with TensorFlow's "SAME" padding: [N, c, L] -> [N, channels_out, L / stride]."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, kernel, stride)
        self.around = same(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps [N, channels_out, L / stride]; the stride divides L."""
        return super().forward(F.pad(x, self.around))


class SameConvTranspose1d(nn.ConvTranspose1d):
    """The transpose of `SameConv1d`: [N, c, L] -> [N, channels_out, stride · L]."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        self.before, self.after = same(kernel, stride)
        super().__init__(channels_in, channels_out, kernel, stride)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the maps at `stride` times the length."""
        return super().forward(x)[..., self.before : -self.after or None]


def same(kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after, if the stride divides the length; an odd one has the extra zero last."""
    around = max(kernel - stride, 0)
    return around // 2, around - around // 2


def _same_transposed(channels_in: int, channels_out: int, kernel: int, stride: int) -> list[nn.Module]:
    if kernel < stride:
        raise ConfigError(f"model.generator.kernel={kernel} is shorter than the stride {stride}: type kernel=25")
    return [SameConvTranspose1d(channels_in, channels_out, kernel, stride)]


def _repeated(channels_in: int, channels_out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=stride, mode="nearest"), SameConv1d(channels_in, channels_out, kernel, 1)]


def _norm(batch_norm: bool, channels: int) -> list[Any]:
    return [nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)] if batch_norm else []  # TensorFlow's usual constants


def _init(network: nn.Module) -> None:
    """Draw weights as TensorFlow does by default: uniform, Glorot & Bengio 2010, eq. 16; biases are 0."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
