"""Techniques that change the objectives of the players."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor

from gan_experiments.bounds import Count, NotNegative, PartOf, Share
from gan_experiments.contracts import ConfigError
from gan_experiments.losses.adversarial import RelativisticPaired
from gan_experiments.losses.logits import Logits
from gan_experiments.losses.regularisers import OneSidedLabelSmoothing, feature_matching, top_k
from gan_experiments.models.technique import Technique
from gan_experiments.schedules import Exponential

if TYPE_CHECKING:
    from gan_experiments.models.game import Game
    from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate


ENDLESS = 50_000
"""The number of images that count as an epoch if the data have no end."""


class LabelSmoothing(Technique):
    """-α log σ(D(x)) - (1 - α) log(1 - σ(D(x))) of the real images alone (Salimans et al. 2016, §3.4)."""

    def __init__(self, alpha: PartOf = 0.9) -> None:
        super().__init__()
        self.alpha = alpha

    def join(self, model: Game) -> None:
        """Smooth the labels of the model's loss. Raises ConfigError for a loss that has no labels."""
        model.loss = OneSidedLabelSmoothing(model.loss, self.alpha)


class TopK(Technique):
    """The generator's loss on the most convincing fakes of a batch alone (Sinha et al. 2020, arXiv:2002.06224).

    Their share is 1 at first, is multiplied by `decay` every `every` images, and never falls below `floor`. If `every`
    is None it is an epoch of the data, as in the paper, or 50,000 images if the data have no end. Fakes are ranked by
    the mean logit of their patches, summed over the scales. With a batch of one image there is nothing to select.
    """

    def __init__(self, decay: Share = 0.99, every: Count | None = None, floor: PartOf = 0.5) -> None:
        super().__init__()
        self.decay, self.interval, self.floor = decay, every, floor

    def join(self, model: Game) -> None:
        """Raise ConfigError for a loss that pairs each fake with a real image."""
        if isinstance(model.loss, RelativisticPaired):
            raise ConfigError("it would tear the pairs of loss=relativistic_paired; type loss=relativistic_average")

    def select(self, fake_logits: Logits, model: Game) -> Logits:
        """Return the largest logits."""
        return top_k(fake_logits, self.share(model))

    def share(self, model: Game) -> float:
        """Return the share of fakes to use after the images seen."""
        return Exponential(self.decay, self.interval or model.epoch or ENDLESS, self.floor)(model.images_seen)

    def numbers(self, model: Game) -> dict[str, float]:
        """Return the share of fakes."""
        return {"share": self.share(model)}


class FeatureMatching(Technique):
    """‖E f(x) - E f(G(z))‖² of the discriminator's features f (Salimans et al. 2016, arXiv:1606.03498, §3.1).

    It replaces the generator's adversarial loss, as in the paper, unless `replaces_generator_loss` is False.
    """

    needs = frozenset({"discriminator", "features"})
    players = ("generator",)

    def __init__(
        self,
        weight: NotNegative = 1.0,
        distance: Literal["squared_l2", "l1"] = "squared_l2",
        replaces_generator_loss: bool = True,
    ) -> None:
        super().__init__()
        self.weight, self.distance = weight, distance
        self.replaces_generator_loss = replaces_generator_loss

    def join(self, model: NoiseToImage) -> None:
        """Raise ConfigError for a discriminator that exposes no features."""
        if not hasattr(model.discriminator, "features"):
            raise ConfigError(f"{type(model.discriminator).__name__} shows no features to match; leave it out")

    def term(self, update: PlayerUpdate) -> Tensor:
        """Return the weighted distance of the features, the inputs of the discriminator's last layer."""
        assert update.real_features is not None
        assert update.fake_features is not None
        return self.weight * feature_matching(update.real_features, update.fake_features, self.distance)


class AuxiliaryClassifier(Technique):
    """-log C(class | image) of both players, where C is the discriminator's classifier (AC-GAN).

    Odena et al. 2017, arXiv:1610.09585, L_C of section 3. The discriminator's term is of real images (`weight`) and of
    fakes (`fake_weight`), the generator's of fakes (`generator_weight`).
    """

    needs = frozenset({"discriminator", "classifier"})
    players = ("discriminator", "generator")
    trains_classifier = True

    def __init__(
        self, weight: NotNegative = 1.0, fake_weight: NotNegative = 1.0, generator_weight: NotNegative = 1.0
    ) -> None:
        super().__init__()
        self.weight, self.fake_weight, self.generator_weight = weight, fake_weight, generator_weight

    def join(self, model: NoiseToImage) -> None:
        """Raise ConfigError for a discriminator without a classifier, or images without classes."""
        if not model.has_classifier:
            raise ConfigError(
                f"{type(model.discriminator).__name__} has no classifier; type model=acgan, or"
                " model.discriminator.conditioning=auxiliary where that is offered, or leave it out"
            )

    def term(self, update: PlayerUpdate) -> Tensor:
        """Return the weighted cross-entropy of the classes."""
        if update.of_generator:
            return self.generator_weight * self._cost(update, update.fake_features, update.fake_label)
        of_reals = self.weight * self._cost(update, update.real_features, update.real_label)
        return of_reals + self.fake_weight * self._cost(update, update.fake_features, update.fake_label)

    def _cost(self, update: PlayerUpdate, features: Tensor | None, label: Tensor | None) -> Tensor:
        assert label is not None
        return F.cross_entropy(update.model.discriminator.classify(features), label)
