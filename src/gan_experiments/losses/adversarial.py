"""Adversarial losses: what the discriminator and the generator minimise, as means over the batch.

Every loss takes raw logits (no sigmoid) of any shape, `[N]` or PatchGAN's `[N, 1, H, W]`, where high means real, and
returns a scalar in float32 at least. In the formulas D is the logit and σ the sigmoid.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.bounds import Finite, NotNegative
from gan_experiments.contracts import ConfigError
from gan_experiments.distributed import mean_over_ranks


class AdversarialLoss(Protocol):
    """The interface of an adversarial loss."""

    needs_lipschitz: bool
    """Whether the loss assumes a Lipschitz critic, enforced by a penalty, weight clipping or spectral norm."""
    needs_real_logits: bool
    """Whether the generator's loss needs the real images' logits too."""
    zero_is_chance: bool
    """Whether 0 is the decision boundary: a logit above it means real, one below it fake."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar."""
        ...

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """Return the generator's loss, a scalar."""
        ...


class NonSaturating:
    """Cross-entropy for D, -log D(G(z)) for G (Goodfellow et al. 2014, section 3, last paragraph)."""

    needs_lipschitz = False
    needs_real_logits = False
    zero_is_chance = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-log σ(D(x)) - log(1 - σ(D(G(z))))."""
        return _says_real(real_logits) + _says_fake(fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """-log σ(D(G(z)))."""
        return _says_real(fake_logits)


class Minimax(NonSaturating):
    """The original minimax loss, whose gradient for G vanishes while D wins (Goodfellow et al. 2014, eq. 1)."""

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """log(1 - σ(D(G(z))))."""
        return -_says_fake(fake_logits)


class LeastSquares:
    """Squared distance to labels: D's are `a` for fake and `b` for real, G's is `c` (Mao et al. 2017, eq. 2).

    The defaults are eq. 9; `a=-1, b=1, c=0` is eq. 8. `generator_scale=1` is CycleGAN's convention (½ for D alone).
    Together with `discriminator_scale=1` it is BicycleGAN's.
    """

    needs_lipschitz = False
    needs_real_logits = False

    def __init__(
        self,
        a: Finite = 0.0,
        b: Finite = 1.0,
        c: Finite = 1.0,
        generator_scale: NotNegative = 0.5,
        discriminator_scale: NotNegative = 0.5,
    ) -> None:
        self.a, self.b, self.c = a, b, c
        self.zero_is_chance = a == -b
        self.generator_scale, self.discriminator_scale = generator_scale, discriminator_scale

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """discriminator_scale · ((D(x) - b)² + (D(G(z)) - a)²)."""
        real_cost = (_at_least_float32(real_logits) - self.b).square().mean()
        fake_cost = (_at_least_float32(fake_logits) - self.a).square().mean()
        return self.discriminator_scale * (real_cost + fake_cost)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """generator_scale · (D(G(z)) - c)²."""
        return self.generator_scale * (_at_least_float32(fake_logits) - self.c).square().mean()


class Wasserstein:
    """Difference of the critic's means, which for a Lipschitz critic estimates the Wasserstein distance.

    Arjovsky et al. 2017, eq. 3.
    """

    needs_lipschitz = True
    needs_real_logits = False
    zero_is_chance = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """D(G(z)) - D(x). This is minus the estimated distance."""
        return _at_least_float32(fake_logits).mean() - _at_least_float32(real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """-D(G(z))."""
        return -_at_least_float32(fake_logits).mean()


class Hinge:
    """Hinge loss: a sample beyond the margin ±1 adds nothing to D's loss (Miyato et al. 2018, eq. 16 and 17)."""

    needs_lipschitz = False
    needs_real_logits = False
    zero_is_chance = True

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """max(0, 1 - D(x)) + max(0, 1 + D(G(z)))."""
        return F.relu(1 - _at_least_float32(real_logits)).mean() + F.relu(1 + _at_least_float32(fake_logits)).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """-D(G(z))."""
        return -_at_least_float32(fake_logits).mean()


class RelativisticPaired:
    """Cross-entropy of logit differences, each real image against one fake (Jolicoeur-Martineau 2018, RSGAN)."""

    needs_lipschitz = False
    needs_real_logits = True
    zero_is_chance = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-log σ(D(x) - D(G(z))). Raises ConfigError if the two batches differ in size, because they are paired."""
        if real_logits.shape != fake_logits.shape:
            given = f"{list(real_logits.shape)} real and {list(fake_logits.shape)} fake logits"
            raise ConfigError(
                f"relativistic_paired was given {given}: it needs one fake for each real; make both batches equal"
                " or type loss=relativistic_average"
            )
        return _says_real(real_logits - fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """-log σ(D(G(z)) - D(x)). Raises ConfigError without real logits."""
        return self.discriminator(fake_logits, _required("relativistic_paired", real_logits))


class RelativisticAverage:
    """Cross-entropy of logits minus the other kind's mean logit (Jolicoeur-Martineau 2018, RaSGAN).

    The sum is halved, as in the author's code. The means are over the batches of all ranks. Gradients flow through
    them, as in the paper; BasicSR's ESRGAN detaches them in the discriminator's update.
    """

    needs_lipschitz = False
    needs_real_logits = True
    zero_is_chance = False

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """-½ log σ(D(x) - E D(G(z))) - ½ log(1 - σ(D(G(z)) - E D(x)))."""
        real_logits, fake_logits = _at_least_float32(real_logits), _at_least_float32(fake_logits)
        real_mean, fake_mean = mean_over_ranks(torch.stack([real_logits.mean(), fake_logits.mean()]))
        return 0.5 * (_says_real(real_logits - fake_mean) + _says_fake(fake_logits - real_mean))

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """-½ log σ(D(G(z)) - E D(x)) - ½ log(1 - σ(D(x) - E D(G(z)))). Raises ConfigError without real logits."""
        return self.discriminator(fake_logits, _required("relativistic_average", real_logits))


def _says_real(logits: Tensor) -> Tensor:
    """Return the mean of -log sigmoid(logits), stable at any logit."""
    return F.softplus(-_at_least_float32(logits)).mean()


def _says_fake(logits: Tensor) -> Tensor:
    """Return the mean of -log(1 - sigmoid(logits)), stable at any logit."""
    return F.softplus(_at_least_float32(logits)).mean()


def _at_least_float32(logits: Tensor) -> Tensor:
    """Convert to float32 unless wider: under bf16 autocast a mean would keep only three digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _required(name: str, real_logits: Tensor | None) -> Tensor:
    if real_logits is None:
        raise ConfigError(
            f"loss={name} compares fakes with reals also for the generator, but this model gives it no real logits:"
            " type loss=non_saturating, or another model"
        )
    return real_logits
