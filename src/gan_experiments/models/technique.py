"""What a technique may do; each is a short class that overrides some of it, and a file in conf/technique/."""

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
"""What a technique may need of a game, and why it is refused where the game does not offer it."""


class Technique(nn.Module):
    """An addition to the training of a `Game`. Its buffers and extra state are part of the checkpoint.

    Results must not depend on how many ranks there are: draw by `update.model.draw`, and let running statistics be
    means over the ranks.
    """

    needs: frozenset[str] = frozenset({"discriminator"})
    """Keys of NEEDS; it is refused where `Game.offers` lacks one."""
    players: tuple[str, ...] = ()
    """Whose loss it adds a `term` to: "discriminator", "generator", or both."""
    every: int = 1
    """Batches from one use of the term to the next; above 1 it gets steps of its own, see `Game.lazy_phases`."""
    lipschitz: bool = False
    """Whether it holds the discriminator Lipschitz, as the Wasserstein loss needs."""
    per_sample_penalty: bool = False
    """Whether it looks at each sample's own gradient, which batch norm would mix with the others'."""
    trains_classifier: bool = False
    """Whether it trains the classifier of a discriminator that has one."""
    replaces_generator_loss: bool = False
    """Whether its term takes the place of the generator's adversarial loss."""

    def join(self, model: Any) -> None:
        """Prepare for this game; raises ConfigError where the technique makes no sense in it."""

    def see(self, images: Tensor, model: Game) -> Tensor:
        """What a discriminator is to see in place of images [n, C, H, W], real or fake."""
        return images

    def select(self, fake_logits: Logits, model: Game) -> Logits:
        """Those of the fakes' logits that the generator's adversarial loss is to look at, for fewer images or all."""
        return fake_logits

    def term(self, update: Any) -> Tensor:
        """The weighted term of this update's player, a scalar; `update` is an `Update` or one of its kinds.

        The discriminator's term is asked for once for each discriminator, with its `Comparison`, and the sum is taken.
        """
        raise NotImplementedError(f"{type(self).__name__} has no term")

    def rests(self, update: Any) -> bool:
        """Whether this update's player is not to be trained on it; the same on every rank."""
        return False

    def due(self, model: Any, phase: Phase) -> bool:
        """Whether a phase is carried out on this batch, where nobody else objects; the same on every rank."""
        return True

    def numbers(self, model: Game) -> dict[str, float]:
        """What is recorded of it beside its term, by name; logged as `<technique>/<name>`."""
        return {}

    def after_step(self, model: Game, phase: Phase) -> None:
        """What is to be done when a phase has been carried out."""
