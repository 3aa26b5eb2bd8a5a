"""Spectral normalisation: a weight divided by its largest singular value (Miyato et al. 2018, arXiv:1802.05957).

A parametrization of our own where torch has one, for three reasons. It iterates once for each update of a weight, as
algorithm 1 has it, where torch and the authors' code do at each forward: a batch in parts gives what the whole one
gives, and what else a step evaluates (penalties, the other player's turn) changes nothing. In evaluation mode it
iterates too, without keeping u, so that σ fits weights that u was not made for, as a weight average's are: 1,500 steps
into a small SAGAN generator, averaged with a decay of 0.9999, the norms that should be 1 were 1.04 on average and 1.13
at most, with torch's 1.15 and 1.43. And σ is computed in full precision under autocast.

A trap remains: a weight drawn by way of `layer.weight` is lost. Initialise first, normalise last.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from gan_experiments.contracts import ConfigError
from gan_experiments.distributed import checksums

Module = TypeVar("Module", bound=nn.Module)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED, nn.Linear, nn.Embedding)


class SpectralNorm(nn.Module):
    """W / σ(W), by one power iteration for each value of W that a forward in training mode sees (algorithm 1).

    W is a matrix of one row per output, per class for an embedding. The iteration starts from u, a buffer, and moves it
    in training mode only; the gradient goes through W alone. `eps` is the least that u and v are divided by.
    """

    u: Tensor
    moved_for: Tensor

    def __init__(self, weight: Tensor, transposed: bool = False, eps: float = 1e-12) -> None:
        super().__init__()
        self.transposed, self.eps = transposed, eps
        rows = weight.shape[1 if transposed else 0]
        self.register_buffer("u", torch.randn(rows, dtype=weight.dtype, device=weight.device))
        checksum = torch.zeros(1, dtype=torch.int64, device=weight.device)
        self.register_buffer("moved_for", checksum, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight, shaped as it came."""
        if weight.is_meta:
            return weight  # there is nothing but its shape
        matrix = (weight.transpose(0, 1) if self.transposed else weight).flatten(1)
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                u = self._left(matrix, checksums([weight]))
                v = F.normalize(u @ matrix, dim=0, eps=self.eps)
            return weight / (u @ (matrix @ v))

    def _left(self, matrix: Tensor, checksum: Tensor) -> Tensor:
        moved = F.normalize(matrix @ F.normalize(self.u @ matrix, dim=0, eps=self.eps), dim=0, eps=self.eps)
        # Chosen on the device, where asking would wait for it. torch's version counter misses fused optimizers.
        u = torch.where(checksum == self.moved_for, self.u, moved)
        if self.training:
            self.u.copy_(u)
            self.moved_for.copy_(checksum)
        return u

    def get_extra_state(self) -> int:
        """What tells a resumed run whether u was moved for W as it is: saved as a number, being no measure of a run."""
        return 0 if self.moved_for.is_meta else int(self.moved_for)

    def set_extra_state(self, state: int) -> None:
        """Take up what `get_extra_state` gave."""
        self.moved_for.fill_(state)


def spectral_norm(layer: Module, eps: float = 1e-12) -> Module:
    """Normalise the weight of a convolution, linear layer or embedding, in place; returns the layer.

    No parameter is added. Raises ConfigError for a weight of zeros, whose norm nothing can be divided by.
    """
    weight = layer.get_parameter("weight")
    if not weight.is_meta and not weight.any():
        raise ConfigError(
            f"spectral norm was asked for a {type(layer).__name__} that starts at zero, which cannot be normalised;"
            " leave spectral norm out with this network"
        )
    normalisation = SpectralNorm(weight, isinstance(layer, TRANSPOSED), eps)
    register_parametrization(layer, "weight", normalisation, unsafe=True)  # that is, without a forward to check it
    return layer


def spectral_norm_layers(
    network: Module, eps: float = 1e-12, embeddings: bool = True, leave: Collection[str] = ()
) -> Module:
    """Normalise every convolution and linear layer of a network, in place; returns the network.

    `embeddings=False` leaves embeddings alone, as generators do; so are the layers named in `leave`. Layers that are
    normalised already stay as they are.
    """
    for name, layer in network.named_modules():
        wanted = isinstance(layer, LAYERS) and (embeddings or not isinstance(layer, nn.Embedding))
        if wanted and name not in leave and not is_parametrized(layer, "weight"):
            spectral_norm(layer, eps)
    return network
