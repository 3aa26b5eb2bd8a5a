"""Techniques that constrain the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from gan_experiments.bounds import NotNegative, OneOf, Positive, Rhythm
from gan_experiments.contracts import ConfigError
from gan_experiments.layers import spectral_norm
from gan_experiments.losses.logits import sum_of
from gan_experiments.losses.regularisers import HistoricalAverage, orthogonal_regularisation
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.game import Game, Update


class WeightClipping(Technique):
    """Every weight of the critic clipped to [-bound, bound] after its step (Arjovsky et al. 2017, arXiv:1701.07875)."""

    lipschitz = True

    def __init__(self, bound: Positive = 0.01) -> None:
        super().__init__()
        self.bound = bound

    @torch.no_grad()
    def after_step(self, model: Game, phase: Phase) -> None:
        """Clip the parameters, the scales and offsets of normalisation too, as in the authors' code."""
        if phase.player == "discriminator":
            for network in model.networks_of("discriminator").values():
                for parameter in model.trained_parameters(network):
                    parameter.clamp_(-self.bound, self.bound)


class SingularValueClipping(Technique):
    """The singular values of the critic's weights clipped to 1 or less (Saito et al. 2017, arXiv:1611.06624, §4.1).

    At every `interval`-th batch each weight of two dimensions or more, as the matrix of its outputs by the rest, loses
    what is above 1 of its singular values; the scale γ of batch norm is clipped to [0.01 σ, σ], where σ is the root of
    its running variance.
    """

    lipschitz = True

    def __init__(self, interval: Rhythm = 5) -> None:
        super().__init__()
        self.interval = interval

    @torch.no_grad()
    def after_step(self, model: Game, phase: Phase) -> None:
        """Clip the weights after the discriminator's step."""
        if phase.player != "discriminator" or (model.batches + 1) % self.interval:
            return
        for network in model.networks_of("discriminator").values():
            trained = {id(parameter) for parameter in model.trained_parameters(network)}
            for layer in network.modules():
                weight = getattr(layer, "weight", None)
                if weight is None or id(weight) not in trained:
                    continue
                if weight.ndim > 1:
                    weight.copy_(without_large_singular_values(weight.flatten(1)).view_as(weight))
                elif isinstance(variance := getattr(layer, "running_var", None), Tensor):
                    deviation = variance.sqrt()
                    weight.copy_(torch.minimum(torch.maximum(weight, 0.01 * deviation), deviation))


def without_large_singular_values(matrix: Tensor) -> Tensor:
    """Return a matrix with its singular values clipped to 1."""
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    u, values, v = torch.linalg.svd(wide, full_matrices=False)
    return (u * values.clamp(max=1)) @ v


class SpectralNorm(Technique):
    """Every weight of D divided by its largest singular value (Miyato et al. 2018, arXiv:1802.05957)."""

    lipschitz = True

    def join(self, model: Game) -> None:
        """Normalise the discriminators. Raises ConfigError for one that already is, or has no layer to normalise."""
        for name, network in model.networks_of("discriminator").items():
            layers, title = [*network.modules()], type(network).__name__
            frozen = {
                place
                for place, layer in network.named_modules()
                if not getattr(getattr(layer, "weight", None), "requires_grad", True)
            }
            if any(isinstance(layer, spectral_norm.SpectralNorm) for layer in layers):
                raise ConfigError(f"{title} has spectral norm of its own; leave it out")
            if not any(isinstance(layer, spectral_norm.LAYERS) for layer in layers):
                raise ConfigError(
                    f"{title} has layers of its own, whose scale is part of their learning rate; leave it out"
                )
            for average in (False, True):  # the discriminator may have a weight average
                spectral_norm.spectral_norm_layers(model.network(name, average), leave=frozen)


class Orthogonal(Technique):
    """β ‖W Wᵀ ⊙ (1 - I)‖²_F of the weights of one player (Brock et al. 2019, arXiv:1809.11096, §3.1)."""

    def __init__(
        self,
        beta: NotNegative = 1e-4,
        player: Annotated[str, OneOf("generator", "discriminator")] = "generator",
        every: Rhythm = 1,
    ) -> None:
        super().__init__()
        if player not in ("generator", "discriminator"):
            raise ConfigError(f"technique.orthogonal.player={player}: type generator or discriminator")
        self.beta, self.players, self.every = beta, (player,), every

    def term(self, update: Update) -> Tensor:
        """Return the weighted term, which depends on the weights alone and not on the batch."""
        trained = update.model.trained_parameters
        networks = update.networks.values()
        return self.beta * sum_of([orthogonal_regularisation(network, only=trained(network)) for network in networks])


class HistoricalAveraging(Technique):
    """‖θ - (1/t) Σ θ_i‖² of each player (Salimans et al. 2016, arXiv:1606.03498, §3.3)."""

    players = ("discriminator", "generator")

    def __init__(self, weight: NotNegative = 0.01) -> None:
        super().__init__()
        self.weight = weight
        self.averages = nn.ModuleDict()

    def join(self, model: Game) -> None:
        """Begin the history with the first weights."""
        for player in self.players:
            for name, network in model.networks_of(player).items():
                self.averages[name] = HistoricalAverage(network)
                self.averages[name].update(network)  # type: ignore[operator]

    def term(self, update: Update) -> Tensor:
        """Return the weighted squared distance of the player's weights from their average so far."""
        return self.weight * sum_of([self.averages[name](network) for name, network in update.networks.items()])

    def after_step(self, model: Game, phase: Phase) -> None:
        """Add the new weights to the averages; not after a lazy technique's step."""
        of_technique = phase.name.removeprefix(f"{phase.player}_") in model.techniques
        if phase.player in self.players and not of_technique:
            for name, network in model.networks_of(phase.player).items():
                self.averages[name].update(network)  # type: ignore[operator]
