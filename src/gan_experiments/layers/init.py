"""Weight initialisations."""

from __future__ import annotations

import math

from torch import nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def init_normal(network: nn.Module, std: float = 0.02) -> None:
    """Draw normal weights of mean 0 and batch norm's scales of mean 1, both with `std`; biases are 0 (DCGAN, §4)."""
    for layer in network.modules():
        if isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, _BATCH_NORMS) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def init_orthogonal(network: nn.Module, std: float = 0.02) -> None:
    """Draw orthogonal weights (Saxe et al. 2013), and batch norm's scales with mean 1 and `std`; biases are 0."""
    init_normal(network, std)
    for layer in network.modules():
        if isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):
            nn.init.orthogonal_(layer.weight)


def init_uniform(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, gain: float = 1.0) -> None:
    """Draw weights uniformly with std gain·√(2 / (fan_in + fan_out)); the bias is 0 (Glorot & Bengio 2010, eq. 16).

    `gain=√2` is called He in WGAN-GP's code. Unlike in `nn.init.xavier_uniform_`, a stride s divides one fan by s²: the
    output's for a convolution, the input's for a transposed one, as in improved_wgan_training/tflib/ops.
    """
    if isinstance(layer, nn.Linear):
        fan_in, fan_out = float(layer.in_features), float(layer.out_features)
    else:
        area, step = math.prod(layer.kernel_size), math.prod(layer.stride)
        transposed = isinstance(layer, nn.ConvTranspose2d)
        fan_in = layer.in_channels * area / (step if transposed else 1)
        fan_out = layer.out_channels * area / (1 if transposed else step)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))  # a uniform's std is bound / √3
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def init_kaiming(network: nn.Module, scale: float = 1.0) -> None:
    """Draw normal weights with std scale·√(2 / fan_in); biases are 0 (He et al. 2015, eq. 10). ESRGAN: `scale` 0.1."""
    for layer in network.modules():
        if isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, a=0)
            layer.weight.data.mul_(scale)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def init_xavier(network: nn.Module, gain: float = 1.0) -> None:
    """Draw normal weights with std gain·√(2 / (fan_in + fan_out)); biases are 0 (Glorot & Bengio 2010, eq. 16)."""
    for layer in network.modules():
        if isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):
            nn.init.xavier_normal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
