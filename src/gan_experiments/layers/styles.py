"""Generators that map z to w, and make images of one w per layer: tracking, mixing and truncating of w.

Karras et al. 2019, arXiv:1812.04948, sections 2, 3.1 and appendix B.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.layers.dropout import Draw
from gan_experiments.layers.equalised import EqualisedLinear, PixelNorm
from gan_experiments.layers.labels import one_hot

DECAY = 0.995  # of the average w, per batch


class Mapping(nn.Module):
    """z `[N, latent_dim]`, perhaps with a label int64 `[N]`, to w `[N, w_dim]`: `layers` times 512 units, leaky ReLU.

    z is divided by the root of its mean square, and so is the label's embedding of `w_dim` numbers that joins it where
    there are `classes` (as in StyleGAN2-ADA). `latent_dim=0` maps labels alone, and has no `average`.
    The layers learn at a hundredth of the
    learning rate. Raises ConfigError for a missing label.
    """

    average: Tensor

    def __init__(self, latent_dim: int, w_dim: int, layers: int = 8, classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.norm = PixelNorm()
        self.embedding = EqualisedLinear(classes, w_dim) if classes else None
        inputs = latent_dim + (w_dim if classes else 0)
        self.layers = nn.ModuleList(
            EqualisedLinear(w_dim if i else inputs, w_dim, lr_multiplier=0.01) for i in range(layers)
        )
        if latent_dim:
            self.register_buffer("average", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        """See the class."""
        parts = [] if z is None else [self.norm(z)]
        if self.embedding is not None:
            parts.append(self.norm(self.embedding(one_hot(label, self.classes, self.embedding.weight, "Mapping"))))
        w = torch.cat(parts, dim=1)
        for layer in self.layers:
            w = F.leaky_relu(layer(w), 0.2) * 2**0.5
        return w

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Move the average `[w_dim]` of all w towards that of a batch `[N, w_dim]`; the engine averages over ranks."""
        self.average.lerp_(w.mean(0).to(self.average), 1 - DECAY)  # w may come from autocast


class StyledGenerator(nn.Module):
    """A generator of a `mapping`, and of a `synthesis` that makes images of ws `[N, styles, w_dim]`, one w a layer.

    With `draw` (training) it tracks the average w and mixes styles with probability `mixing`; without, noise is fixed.
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
        """Images `[N, channels, resolution, resolution]` of z `[N, latent_dim]`, perhaps with labels int64 `[N]`."""
        ws = self.truncate(self.mapping(z, label), truncation) if draw is None else self.mixed(z, label, draw)
        return self.synthesis(ws, draw)

    def mixed(self, z: Tensor, label: Tensor | None, draw: Draw) -> Tensor:
        """ws `[N, styles, w_dim]` for training: the average is moved, and the last styles may be of another z.

        From where on, and whether at all, is the same for the whole batch.
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
        """How many styles are looked at, the first ones: all of them, but where a network is still growing."""
        return self.styles

    def truncate(self, w: Tensor, truncation: float | None, cutoff: int | None = None) -> Tensor:
        """w `[N, w_dim]` or `[N, styles, w_dim]` to ws `[N, styles, w_dim]`, the first `cutoff` nearer the average.

        `truncation` is ψ: the average at 0, w itself at 1 and for None. All are moved where `cutoff` is None.
        """
        ws = w[:, None].expand(-1, self.styles, -1) if w.ndim == 2 else w
        if truncation is None or truncation == 1:
            return ws
        ws = ws.to(self.mapping.average)
        moved = self.mapping.average.lerp(ws[:, :cutoff], truncation)
        return moved if cutoff is None else torch.cat([moved, ws[:, cutoff:]], dim=1)
