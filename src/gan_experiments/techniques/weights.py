"""Techniques that hold the weights themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from gan_experiments.bounds import NotNegative, OneOf, Positive, Rhythm
from gan_experiments.contracts import ConfigError
from gan_experiments.layers import spectral_norm
from gan_experiments.losses.regularisers import HistoricalAverage, orthogonal_regularisation
from gan_experiments.models.technique import Technique

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.noise_to_image import NoiseToImage, Turn


class WeightClipping(Technique):
    """Every weight of the critic back into [-bound, bound] after its step (Arjovsky et al. 2017, arXiv:1701.07875)."""

    lipschitz = True

    def __init__(self, bound: Positive = 0.01) -> None:
        super().__init__()
        self.bound = bound

    @torch.no_grad()
    def after_step(self, model: NoiseToImage, phase: Phase) -> None:
        """Scales and offsets of a normalisation too, as in the authors' code."""
        if phase.networks is model.discriminator:
            for parameter in model.trained_parameters(model.discriminator):
                parameter.clamp_(-self.bound, self.bound)


class SpectralNorm(Technique):
    """Every weight of D divided by its largest singular value (Miyato et al. 2018, arXiv:1802.05957)."""

    lipschitz = True

    def join(self, model: NoiseToImage) -> None:
        """Refuse a discriminator that has it, or no layer that it could be of."""
        layers, name = [*model.discriminator.modules()], type(model.discriminator).__name__
        frozen = {
            place
            for place, layer in model.discriminator.named_modules()
            if not getattr(getattr(layer, "weight", None), "requires_grad", True)
        }
        if any(isinstance(layer, spectral_norm.SpectralNorm) for layer in layers):
            raise ConfigError(f"{name} has spectral norm of its own; leave it out")
        if not any(isinstance(layer, spectral_norm.LAYERS) for layer in layers):
            raise ConfigError(f"{name} has layers of its own, whose scale is part of their learning rate; leave it out")
        for average in (False, True):  # there may be one of the discriminator's weights
            spectral_norm.spectral_norm_layers(model.network("discriminator", average), leave=frozen)


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

    def term(self, turn: Turn) -> Tensor:
        """Of the weights as they are, whatever the batch."""
        network = getattr(turn.model, self.players[0])
        return self.beta * orthogonal_regularisation(network, only=turn.model.trained_parameters(network))


class HistoricalAveraging(Technique):
    """‖θ - (1/t) Σ θ_i‖² of each player (Salimans et al. 2016, arXiv:1606.03498, §3.3)."""

    players = ("discriminator", "generator")

    def __init__(self, weight: NotNegative = 0.01) -> None:
        super().__init__()
        self.weight = weight
        self.averages = nn.ModuleDict()

    def join(self, model: NoiseToImage) -> None:
        """The first weights are the first of the history."""
        for player in self.players:
            self.averages[player] = HistoricalAverage(getattr(model, player))
            self.averages[player].update(getattr(model, player))  # type: ignore[operator]

    def term(self, turn: Turn) -> Tensor:
        """The distance of the player's weights from their average so far."""
        player = "generator" if turn.of_generator else "discriminator"
        return self.weight * self.averages[player](getattr(turn.model, player))

    def after_step(self, model: NoiseToImage, phase: Phase) -> None:
        """Note the new weights."""
        if phase.name in self.players:
            self.averages[phase.name].update(getattr(model, phase.name))  # type: ignore[operator]
