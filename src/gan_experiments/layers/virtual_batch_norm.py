"""Virtual batch normalisation (Salimans et al. 2016, arXiv:1606.03498, §3.4).

A network that uses it puts its reference batch before its input by `ReferenceBatch`, normalises by `VirtualBatchNorm`
where it would by batch norm, and takes the reference batch away by `WithoutReference` behind the last of them:

    [N, ...] -> ReferenceBatch -> [R + N, ...] -> ... VirtualBatchNorm ... -> WithoutReference -> [N, ...]

So the statistics of the reference batch are those of the present weights, and gradients flow through them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ReferenceBatch(nn.Module):
    """The batch that is chosen once and then put before every other: `[N, ...]` -> `[R + N, ...]`.

    `rows` `[R, ...]` are a buffer: in the checkpoints, in the weight averages and, by the strategy, the same on every
    rank. Where they cannot be known yet, make them NaN and `set` them before training.
    """

    rows: Tensor

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)

    @torch.no_grad()
    def set(self, rows: Tensor) -> None:
        """Choose the batch; raises ValueError unless it is of the shape that it was made with."""
        if rows.shape != self.rows.shape:
            raise ValueError(
                f"a reference batch of shape {[*rows.shape]} was given and one of {[*self.rows.shape]} is needed"
            )
        self.rows.copy_(rows)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return torch.cat([self.rows.to(x.dtype), x])


class VirtualBatchNorm(nn.Module):
    """Normalise each sample's channels by the statistics of the reference batch and of this sample alone.

    `[R + N, C, H, W]` -> the same, R the `reference_size`. The sample counts as one of R + 1, as in the authors' code;
    the reference batch is normalised by its own statistics. What else is in the batch does not matter, in training
    and in evaluation alike. Scales start at N(1, 0.02), offsets at 0.
    """

    def __init__(self, channels: int, reference_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.reference_size, self.eps = reference_size, eps
        self.weight = nn.Parameter(torch.empty(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        nn.init.normal_(self.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        R = self.reference_size
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        reference, samples = wide[:R], wide[R:]
        mean = reference.mean((0, 2, 3), keepdim=True)  # [1, C, 1, 1]
        variance = (reference - mean).square().mean((0, 2, 3), keepdim=True)
        own_mean = samples.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        own_variance = (samples - own_mean).square().mean((2, 3), keepdim=True)
        share, gap = 1 / (R + 1), own_mean - mean
        # The variance of a union: that within its parts and that between them.
        joint = variance + share * (own_variance - variance) + share * (1 - share) * gap.square()
        means = torch.cat([mean.expand(R, -1, -1, -1), mean + share * gap])
        variances = torch.cat([variance.expand(R, -1, -1, -1), joint])
        normal = (wide - means) * (variances + self.eps).rsqrt()
        return (normal * self.weight + self.bias).to(x.dtype)


class WithoutReference(nn.Module):
    """Take the reference batch away: `[R + N, ...]` -> `[N, ...]`."""

    def __init__(self, reference_size: int) -> None:
        super().__init__()
        self.reference_size = reference_size

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x[self.reference_size :]
