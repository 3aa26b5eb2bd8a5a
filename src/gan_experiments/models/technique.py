"""What a technique may do; each is a short class that overrides some of it, and a file in conf/technique/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from gan_experiments.engine.phases import Phase
    from gan_experiments.models.noise_to_image import NoiseToImage, Turn


class Technique(nn.Module):
    """Something that joins a game of two players. What it keeps in buffers and extra state is part of the checkpoint.

    Results must not depend on how many ranks there are: draw by `turn.model.draw`, and let running statistics be means
    over the ranks.
    """

    players: tuple[str, ...] = ()
    """Whose loss it adds a `term` to: "discriminator", "generator", or both."""
    every: int = 1
    """Batches from one use of the term to the next; above 1 it gets steps of its own, see `NoiseToImage`."""
    lipschitz: bool = False
    """Whether it holds the discriminator Lipschitz, as the Wasserstein loss needs."""
    per_sample_penalty: bool = False
    """Whether it looks at each sample's own gradient, which batch norm would mix with the others'."""
    trains_classifier: bool = False
    """Whether it trains the classifier of a discriminator that has one."""
    replaces_generator_loss: bool = False
    """Whether its term takes the place of the generator's adversarial loss."""

    def join(self, model: NoiseToImage) -> None:
        """Prepare for this game; raises ConfigError where the technique makes no sense in it."""

    def see(self, images: Tensor, model: NoiseToImage) -> Tensor:
        """What the discriminator is to see in place of images [n, C, H, W], real or fake."""
        return images

    def select(self, fake_logits: Tensor, model: NoiseToImage) -> Tensor:
        """Those of the fakes' logits [n] that the generator's adversarial loss is to look at."""
        return fake_logits

    def term(self, turn: Turn) -> Tensor:
        """The weighted term of this turn's player, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no term")

    def rests(self, turn: Turn) -> bool:
        """Whether this turn's player is not to be trained on it; the same on every rank."""
        return False

    def due(self, model: NoiseToImage, phase: Phase) -> bool:
        """Whether a phase is carried out on this batch, where nobody else objects; the same on every rank."""
        return True

    def numbers(self, model: NoiseToImage) -> dict[str, float]:
        """What is recorded of it beside its term, by name; logged as `<technique>/<name>`."""
        return {}

    def after_step(self, model: NoiseToImage, phase: Phase) -> None:
        """What is to be done when a phase has been carried out."""
