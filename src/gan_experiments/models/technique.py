"""The base class of techniques. Each is a short class that overrides some methods, and a file in conf/technique/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gan_experiments.losses.logits import Logits

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.game import Game

NEEDS = {
    "discriminator": "it works on a discriminator, and this model trains none",
    "noise": "it varies the noise that fakes are made of, and this model makes them of images",
    "features": "it compares features that a discriminator has of reals and fakes, and this model shows none",
    "classifier": "it trains the classifier of a discriminator, and this model has none or trains it by itself",
    "nothing_beside": (
        "it flips and shifts the images that a discriminator sees, and here they would no longer fit the input that it"
        " sees beside them"
    ),
    "n_critic": "it counts the discriminator's steps for one of the generator's, and this model has no n_critic",
}
"""What a technique may need of a model, and why it is refused if the model does not offer it."""


class Technique(nn.Module):
    """An addition to the training of a `Game`. Its buffers and extra state are part of the checkpoint.

    Results must not depend on the number of ranks: draw random numbers with `update.model.draw`, and average running
    statistics over the ranks.
    """

    needs: frozenset[str] = frozenset({"discriminator"})
    """Keys of NEEDS; a technique is refused if `Game.offers` lacks one."""
    players: tuple[str, ...] = ()
    """The players whose loss gets its `term`: "discriminator", "generator", or both."""
    every: int = 1
    """The interval of the term in batches; above 1 the term gets steps of its own, see `Game.lazy_phases`."""
    lipschitz: bool = False
    """Whether it keeps the discriminator Lipschitz, as the Wasserstein loss needs."""
    per_sample_penalty: bool = False
    """Whether it uses the gradient of each sample, which batch norm would mix with the others'."""
    trains_classifier: bool = False
    """Whether it trains the classifier of a discriminator that has one."""
    replaces_generator_loss: bool = False
    """Whether its term takes the place of the generator's adversarial loss."""

    def join(self, model: Any) -> None:
        """Prepare for a model. Raises ConfigError if the technique makes no sense with it."""

    def see(self, images: Tensor, model: Game) -> Tensor:
        """Return what a discriminator is to see in place of images [n, C, H, W], real or fake."""
        return images

    def select(self, fake_logits: Logits, model: Game) -> Logits:
        """Return the logits that the generator's adversarial loss uses: those of all fakes or of some."""
        return fake_logits

    def term(self, update: Any) -> Tensor:
        """Return the weighted term of this update's player, a scalar; `update` is an `Update` or of a subclass.

        The discriminator's term is computed for each discriminator, with its `Comparison`, and summed.
        """
        raise NotImplementedError(f"{type(self).__name__} has no term")

    def rests(self, update: Any) -> bool:
        """Return True to skip this player's optimizer step. All ranks must agree."""
        return False

    def due(self, model: Any, phase: Phase) -> bool:
        """Return False to leave out a phase on this batch. All ranks must agree."""
        return True

    def numbers(self, model: Game) -> dict[str, float]:
        """Return the numbers to log beside the term, by name; logged as `<technique>/<name>`."""
        return {}

    def after_step(self, model: Game, phase: Phase) -> None:
        """Act after a phase was carried out and its optimizer stepped."""
