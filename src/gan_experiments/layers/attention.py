"""Self-attention between the positions of a feature map (Zhang et al. 2019, arXiv:1805.08318, section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.layers.init import init_uniform


class SelfAttention(nn.Module):
    """Self-attention y = x + γ·o with γ = 0 at the start: `[N, channels, H, W]` -> the same shape; H and W are even.

    As in the authors' code, queries and keys have an eighth of the channels and values half of them. Keys and values
    are max-pooled to a quarter of the positions. There is no bias and no division by √d. (The paper's text has values
    of all channels at all positions.) It has 1.25·channels² + 1 parameters where 8 divides the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.output = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))
        for layer in (self.query, self.key, self.value, self.output):
            init_uniform(layer)

    def attention(self, x: Tensor) -> Tensor:
        """Return the attention of each position to each pooled one, [N, H·W, H·W/4]; the rows sum to 1."""
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)  # [N, channels/8, H·W/4]
        # Not scaled_dot_product_attention: its fast kernels cannot be differentiated twice, as penalties need.
        return (query.transpose(1, 2) @ key).softmax(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + γ·o."""
        value = F.max_pool2d(self.value(x), 2).flatten(2)  # [N, channels/2, H·W/4]
        seen = value @ self.attention(x).transpose(1, 2)
        return x + self.gamma * self.output(seen.unflatten(2, x.shape[2:]))
