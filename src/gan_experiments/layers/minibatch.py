"""Layers that show a discriminator how alike the samples of a batch are, against the collapse of modes.

Discrimination looks at the whole batch of all ranks; the standard deviation at groups within the batch given to it, one
rank's part, as batch norm does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.distributed import whole_batch


class MinibatchDiscrimination(nn.Module):
    """Join to each sample how near it is to all of the batch, by `kernels` measures of nearness (Salimans 2016, §3.2).

    `[N, features]` -> `[N, features + kernels]`: o(x_i)_b = Σ_j exp(-‖M_i,b - M_j,b‖₁) with M = x·T, rows of
    `kernel_dim`; j = i is among them, so that o is 1 for a sample like no other and N in a batch of copies. T starts
    with columns of about unit length, as in the authors' code. Holds N² · kernels · kernel_dim numbers.
    """

    def __init__(self, features: int, kernels: int = 100, kernel_dim: int = 5) -> None:
        super().__init__()
        self.kernels = kernels
        self.T = nn.Parameter(torch.empty(features, kernels, kernel_dim))
        nn.init.normal_(self.T, std=features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        M = (x @ self.T.flatten(1)).unflatten(1, self.T.shape[1:])  # [N, kernels, kernel_dim]
        distances = (M[:, None] - whole_batch(M)).abs().sum(3)  # [N, N of all ranks, kernels]
        return torch.cat([x, torch.exp(-distances).sum(1)], dim=1)


class MinibatchStandardDeviation(nn.Module):
    """Join one channel, how much the samples of a group differ, to each of them (Karras 2018, §3).

    `[N, C, H, W]` -> `[N, C + 1, H, W]`: the population standard deviation over the group (ε = 1e-8 under the root),
    averaged over C, H and W. A group is `group` samples, or all of a smaller batch, N / group apart: of 8 samples in
    groups of 4 the even ones and the odd ones, as in NVIDIA's code. Raises ConfigError where `group` does not divide N.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
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
