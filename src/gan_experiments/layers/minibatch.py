"""Layers that show a discriminator how similar the samples of a batch are, against mode collapse.

Minibatch discrimination compares the samples of all ranks. The standard deviation is over groups within one rank's
batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.contracts import ConfigError
from gan_experiments.distributed import whole_batch


class MinibatchDiscrimination(nn.Module):
    """Minibatch discrimination: added features that measure similarity to the batch (Salimans et al. 2016, §3.2).

    `[N, features]` -> `[N, features + kernels]`: o(x_i)_b = Σ_j exp(-‖M_i,b - M_j,b‖₁) with M = x·T, whose rows have
    `kernel_dim` values. The sum includes j = i, so o is 1 for a sample unlike all others and N in a batch of copies. T
    starts with columns of about unit length, as in the authors' code. Memory: N² · kernels · kernel_dim values.
    """

    def __init__(self, features: int, kernels: int = 100, kernel_dim: int = 5) -> None:
        super().__init__()
        self.kernels = kernels
        self.T = nn.Parameter(torch.empty(features, kernels, kernel_dim))
        nn.init.normal_(self.T, std=features**-0.5)

    @override
    def forward(self, x: Tensor) -> Tensor:
        M = (x @ self.T.flatten(1)).unflatten(1, self.T.shape[1:])  # [N, kernels, kernel_dim]
        distances = (M[:, None] - whole_batch(M)).abs().sum(3)  # [N, N of all ranks, kernels]
        return torch.cat([x, torch.exp(-distances).sum(1)], dim=1)


class MinibatchStandardDeviation(nn.Module):
    """Minibatch standard deviation: an added channel that holds that of each sample's group (Karras et al. 2018, §3).

    `[N, C, H, W]` -> `[N, C + 1, H, W]`: the population standard deviation over the group (ε = 1e-8 under the root),
    averaged over C, H and W. A group has `group` samples, or all samples of a smaller batch. Its members are N / group
    apart, as in NVIDIA's code: 8 samples make two groups of 4, the even ones and the odd ones. Raises ConfigError if
    `group` does not divide N.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    @override
    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        group = min(self.group, n)
        if n % group:
            raise ConfigError(
                f"a batch of {n} images cannot be divided into groups of {group} for their standard deviation: {group}"
                f" must divide each process's part of data.batch_size; type for example data.batch_size={16 * group}"
            )
        grouped = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(0, (group, -1))  # [G, N / G, C, H, W]
        variance = (grouped - grouped.mean(0)).square().mean(0)
        deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))  # [N / G]
        return torch.cat([x, deviation.to(x.dtype).repeat(group).view(n, 1, 1, 1).expand(-1, -1, height, width)], dim=1)
