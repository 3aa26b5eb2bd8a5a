"""Virtual batch normalisation (Salimans et al. 2016, arXiv:1606.03498, §3.4).

A network that uses it begins with `ReferenceBatch`, which puts the reference batch before the input. It has
`VirtualBatchNorm` in the place of batch norm, and after the last of them `WithoutReference`, which removes the
reference batch:

    [N, ...] -> ReferenceBatch -> [R + N, ...] -> ... VirtualBatchNorm ... -> WithoutReference -> [N, ...]

So the statistics of the reference batch are those under the current weights, and gradients flow through them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override


class ReferenceBatch(nn.Module):
    """A fixed reference batch that is put before every batch: `[N, ...]` -> `[R + N, ...]`.

    The buffer `rows` `[R, ...]` is part of the checkpoints and the weight averages; the strategy makes it the same on
    every rank. If the rows are not known yet, pass NaN and `set` them before training.
    """

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)

    @torch.no_grad()
    def set(self, rows: Tensor) -> None:
        """Set the reference batch; raises ValueError if its shape differs from that of `rows`."""
        if rows.shape != self.rows.shape:
            raise ValueError(
                f"a reference batch of shape {[*rows.shape]} was given and one of {[*self.rows.shape]} is needed"
            )
        self.rows.copy_(rows)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.rows.to(x.dtype), x])


class VirtualBatchNorm(nn.Module):
    """Virtual batch norm: each sample is normalised by the statistics of the reference batch and of itself alone.

    `[R + N, C, H, W]` -> the same shape, where R is `reference_size`. The statistics are those of R + 1 samples, as in
    the authors' code. The reference batch is normalised by its own statistics. The other samples of the batch have no
    influence, in training and in evaluation mode. Scales start as N(1, 0.02), offsets at 0.
    """

    def __init__(self, channels: int, reference_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.reference_size, self.eps = reference_size, eps
        self.weight = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        nn.init.normal_(self.weight, 1.0, 0.02)

    @override
    def forward(self, x: Tensor) -> Tensor:
        R = self.reference_size
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        reference, samples = wide[:R], wide[R:]
        mean = reference.mean((0, 2, 3), keepdim=True)  # [1, C, 1, 1]
        variance = (reference - mean).square().mean((0, 2, 3), keepdim=True)
        own_mean = samples.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        own_variance = (samples - own_mean).square().mean((2, 3), keepdim=True)
        share, gap = 1 / (R + 1), own_mean - mean
        # The variance of the R + 1 samples: that within the two parts plus that between them.
        joint = variance + share * (own_variance - variance) + share * (1 - share) * gap.square()
        means = torch.cat([mean.expand(R, -1, -1, -1), mean + share * gap])
        variances = torch.cat([variance.expand(R, -1, -1, -1), joint])
        normal = (wide - means) * (variances + self.eps).rsqrt()
        return (normal * self.weight + self.bias).to(x.dtype)


class WithoutReference(nn.Module):
    """Layer that removes the reference batch: `[R + N, ...]` -> `[N, ...]`."""

    def __init__(self, reference_size: int) -> None:
        super().__init__()
        self.reference_size = reference_size

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x[self.reference_size :]
