"""Generators that map z to w and then make images from one w per layer: tracking, mixing and truncation of w.

Karras et al. 2019, arXiv:1812.04948, sections 2, 3.1 and appendix B.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.layers.dropout import Draw
from gan_experiments.layers.equalised import EqualisedLinear, PixelNorm
from gan_experiments.layers.labels import one_hot, required_label

DECAY = 0.995  # of the moving average of w, per batch


class Mapping(nn.Module):
    """Mapping network: z `[N, latent_dim]` and an optional label int64 `[N]` -> w `[N, w_dim]`.

    `layers` linear layers of `w_dim` units with leaky ReLU, which learn at a hundredth of the learning rate. z is
    divided by the root of its mean square. With `classes` the label's embedding of `w_dim` values is normalised alike
    and concatenated to z (as in StyleGAN2-ADA). With `numbers` in their place labels are so many numbers, float
    `[N, numbers]`, such as those of a camera. `latent_dim=0` maps labels alone and has no `average`, which otherwise
    keeps a share of `decay` at each batch. Raises ConfigError for a missing label.
    """

    average: Tensor

    def __init__(
        self, latent_dim: int, w_dim: int, layers: int = 8, classes: int = 0, numbers: int = 0, decay: float = DECAY
    ) -> None:
        super().__init__()
        self.classes, self.numbers, self.decay = classes, numbers, decay
        self.norm = PixelNorm()
        told = classes or numbers
        self.embedding = EqualisedLinear(told, w_dim) if told else None
        inputs = latent_dim + (w_dim if told else 0)
        self.layers = nn.ModuleList(
            EqualisedLinear(w_dim if i else inputs, w_dim, lr_multiplier=0.01) for i in range(layers)
        )
        if latent_dim:
            self.register_buffer("average", torch.zeros(w_dim))

    @override
    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        parts = [] if z is None else [self.norm(z)]
        if self.embedding is not None:
            like = self.embedding.weight
            if self.numbers:
                told = required_label(label, "Mapping").to(like.dtype)
            else:
                told = one_hot(label, self.classes, like, "Mapping")
            parts.append(self.norm(self.embedding(told)))
        w = torch.cat(parts, dim=1)
        for layer in self.layers:
            w = F.leaky_relu(layer(w), 0.2) * 2**0.5
        return w

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Update the moving average `[w_dim]` of w by a batch `[N, w_dim]`; the engine averages over ranks."""
        self.average.lerp_(w.mean(0).to(self.average), 1 - self.decay)  # w may come from autocast


class StyledGenerator(nn.Module):
    """Generator of a `mapping` and a `synthesis` network; the latter maps ws `[N, styles, w_dim]` to images.

    ws holds one w for each layer. With `draw`, in training, the generator tracks the average w and mixes styles with
    probability `mixing`. Without `draw` the noise is fixed.
    """

    styled = True
    drawn = True
    mapping: Mapping
    synthesis: nn.Module

    def __init__(self, mapping: Mapping, synthesis: nn.Module, latent_dim: int, styles: int, mixing: float) -> None:
        super().__init__()
        self.mapping, self.synthesis = mapping, synthesis
        self.latent_dim, self.styles, self.mixing = latent_dim, styles, mixing
        self.classes, self.w_dim = mapping.classes, len(mapping.average)

    def forward(
        self, z: Tensor, label: Tensor | None = None, draw: Draw | None = None, truncation: float | None = None
    ) -> Tensor:
        """Map z `[N, latent_dim]` and optional labels int64 `[N]` to images `[N, channels, H, W]`."""
        ws = self.truncate(self.mapping(z, label), truncation) if draw is None else self.mixed(z, label, draw)
        return self.made(ws, label, draw)

    def made(self, ws: Tensor, label: Tensor | None, draw: Draw | None = None) -> Tensor:
        """Return the images of ws `[N, styles, w_dim]`; labels count for nothing here, they made w."""
        return self.synthesis(ws, draw)

    def mixed(self, z: Tensor, label: Tensor | None, draw: Draw) -> Tensor:
        """Return ws `[N, styles, w_dim]` for training: update the average w, and mix styles.

        With probability `mixing` the last styles are those of another z. Both this and the layer where they begin are
        drawn once for the whole batch.
        """
        w = self.mapping(z, label)
        self.mapping.track(w)
        if not self.mixing:
            return self.truncate(w, None)
        other = self.mapping(draw(torch.randn, *z.shape), label)
        chance, place = draw(torch.rand, 2, shared=True)
        last = self.active - 1
        cutoff = (1 + place * last).floor().clamp(max=last)  # 1, ..., active - 1
        first = (torch.arange(self.styles, device=w.device) < cutoff) | (chance >= self.mixing)
        return torch.where(first[:, None], w[:, None], other[:, None])

    @property
    def active(self) -> int:
        """The number of styles in use, counted from the first; fewer than all only while a network is growing."""
        return self.styles

    def truncate(self, w: Tensor, truncation: float | Tensor | None, cutoff: int | None = None) -> Tensor:
        """Map w `[N, w_dim]` or `[N, styles, w_dim]` to ws `[N, styles, w_dim]`, truncated towards the average w.

        `truncation` is ψ, a number or a tensor []: 0 gives the average, 1 or None w itself. Only the first `cutoff`
        styles are truncated, or all where `cutoff` is None.
        """
        ws = w[:, None].expand(-1, self.styles, -1) if w.ndim == 2 else w
        if truncation is None or (not isinstance(truncation, Tensor) and truncation == 1):
            return ws
        ws = ws.to(self.mapping.average)
        moved = self.mapping.average.lerp(ws[:, :cutoff], truncation)
        return moved if cutoff is None else torch.cat([moved, ws[:, cutoff:]], dim=1)
