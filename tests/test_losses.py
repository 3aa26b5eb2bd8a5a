"""Losses and penalties against hand-computed numbers."""

import math

import pytest
import torch
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.losses.adversarial import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPaired,
    Wasserstein,
)
from gan_experiments.losses.penalties import gradient_penalty, r1_penalty

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])
LN2 = math.log(2)

# loss, D and G at REAL and FAKE (computed with the papers' official modules), D and G at logits of zero
GOLDEN = [
    (NonSaturating(), 1.223299, 0.813262, 2 * LN2, LN2),
    (Minimax(), 1.223299, -0.813262, 2 * LN2, -LN2),
    (LeastSquares(), 1.0, 1.0, 0.5, 0.5),
    (LeastSquares(generator_scale=1.0), 1.0, 2.0, 0.5, 1.0),
    (LeastSquares(generator_scale=1.0, discriminator_scale=1.0), 2.0, 2.0, 1.0, 1.0),
    (LeastSquares(a=-1.0, b=1.0, c=0.0), 1.5, 0.5, 1.0, 0.0),
    (Wasserstein(), -1.0, 0.0, 0.0, 0.0),
    (Hinge(), 1.5, 0.0, 2.0, 0.0),
    (RelativisticPaired(), 0.680925, 1.680925, LN2, LN2),
    (RelativisticAverage(), 0.410038, 1.410038, LN2, LN2),
]
LOSSES = [row[0] for row in GOLDEN]


def name(value: object) -> str | None:
    return type(value).__name__ if not isinstance(value, float) else None


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator", "zero_discriminator", "zero_generator"), GOLDEN, ids=name
)
def test_golden_values(loss, discriminator, generator, zero_discriminator, zero_generator):
    zero = torch.zeros(3)
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, abs=1e-6)
    assert loss.generator(FAKE, REAL).item() == pytest.approx(generator, abs=1e-6)
    assert loss.discriminator(zero, zero).item() == pytest.approx(zero_discriminator, abs=1e-6)
    assert loss.generator(zero, zero).item() == pytest.approx(zero_generator, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_any_shape_of_logits_is_one_mean(loss):
    torch.manual_seed(0)
    real, fake = torch.randn(2, 1, 3, 5), torch.randn(2, 1, 3, 5)
    assert loss.discriminator(real, fake).shape == ()
    torch.testing.assert_close(loss.discriminator(real, fake), loss.discriminator(real.flatten(), fake.flatten()))
    torch.testing.assert_close(loss.generator(fake, real), loss.generator(fake.flatten(), real.flatten()))


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_half_precision_is_averaged_in_float32_and_float64_is_kept(loss):
    assert loss.discriminator(REAL.bfloat16(), FAKE.bfloat16()).dtype == torch.float32
    assert loss.generator(FAKE.bfloat16(), REAL.bfloat16()).dtype == torch.float32
    assert loss.generator(FAKE.double(), REAL.double()).dtype == torch.float64


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_huge_logits_stay_finite_with_finite_gradients(loss):
    real, fake = torch.tensor([1e4, -1e4], requires_grad=True), torch.tensor([-1e4, 1e4], requires_grad=True)
    (loss.discriminator(real, fake) + loss.generator(fake, real)).backward()
    assert torch.isfinite(real.grad).all()
    assert torch.isfinite(fake.grad).all()


@pytest.mark.parametrize("loss", LOSSES, ids=name)
def test_directions(loss):
    """D raises reals and lowers fakes, G raises fakes."""
    real, fake = torch.tensor([0.2, 0.1], requires_grad=True), torch.tensor([0.1, 0.3], requires_grad=True)
    real_grad, fake_grad = torch.autograd.grad(loss.discriminator(real, fake), [real, fake])
    assert (real_grad < 0).all()
    assert (fake_grad > 0).all()
    if loss.__dict__.get("c") != 0:  # LSGAN's eq. 8 pulls fakes to zero, from either side
        assert (torch.autograd.grad(loss.generator(fake, real), fake)[0] < 0).all()


def test_saturating_and_non_saturating_gradients_differ_by_the_odds():
    """Section 2 of the sheet: grad(NS) / grad(minimax) = (1 - σ) / σ, sample by sample."""
    fake = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    (saturating,) = torch.autograd.grad(Minimax().generator(fake), fake)
    (non_saturating,) = torch.autograd.grad(NonSaturating().generator(fake), fake)
    sigma = fake.detach().sigmoid()
    torch.testing.assert_close(non_saturating / saturating, (1 - sigma) / sigma)


def test_relativistic_paired_identities():
    loss = RelativisticPaired()
    difference = (loss.generator(FAKE, REAL) - loss.discriminator(REAL, FAKE)).item()
    assert difference == pytest.approx((REAL - FAKE).mean().item(), abs=1e-6)
    shuffled = loss.discriminator(REAL, FAKE.flip(0)).item()
    assert abs(shuffled - loss.discriminator(REAL, FAKE).item()) > 0.1  # pairs matter


def test_relativistic_mistakes():
    with pytest.raises(ConfigError, match="loss=non_saturating"):
        RelativisticPaired().generator(FAKE)
    with pytest.raises(ConfigError, match="loss=non_saturating"):
        RelativisticAverage().generator(FAKE)
    with pytest.raises(ConfigError, match="relativistic_average"):
        RelativisticPaired().discriminator(REAL, FAKE[:1])
    assert RelativisticAverage().discriminator(REAL, FAKE[:1]).shape == ()


def test_only_wasserstein_needs_a_lipschitz_critic():
    assert [type(loss).__name__ for loss in LOSSES if loss.needs_lipschitz] == ["Wasserstein"]
    assert {type(loss).__name__ for loss in LOSSES if loss.needs_real_logits} == {
        "RelativisticPaired",
        "RelativisticAverage",
    }


class LinearCritic(nn.Module):
    """D(x) = w·x with ‖w‖ = 5 over all of [3, 2, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((3, 2, 2), 5 / math.sqrt(12)))

    def forward(self, images: Tensor) -> Tensor:
        return (images * self.w).flatten(1).sum(1)


def batch(n: int = 4, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, 3, 2, 2, dtype=dtype), torch.randn(n, 3, 2, 2, dtype=dtype), torch.rand(n)


def small_critic() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 1))


@pytest.mark.parametrize(("center", "expected"), [(1.0, 16.0), (0.0, 25.0)])
def test_gradient_penalty_of_a_linear_critic(center, expected):
    """The norm is over all 12 numbers of an image; over the channels alone it would be 5/2."""
    assert gradient_penalty(LinearCritic(), *batch(), center=center).item() == pytest.approx(expected, abs=1e-4)


def test_r1_of_a_linear_critic():
    assert 10 * r1_penalty(LinearCritic(), batch()[0]).item() == pytest.approx(125, abs=1e-3)


def test_gradient_penalty_does_not_depend_on_the_batch_size():
    real, fake, alpha = batch()
    critic = small_critic()
    whole = gradient_penalty(critic, real, fake, alpha)
    alone = [gradient_penalty(critic, real[i : i + 1], fake[i : i + 1], alpha[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(whole, torch.stack(alone).mean())


def test_interpolates_lie_between_real_and_fake_with_one_alpha_per_sample():
    real, fake, alpha = batch()
    seen = []

    def critic(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return images.square().flatten(1).sum(1)

    gradient_penalty(critic, real, fake, alpha)
    torch.testing.assert_close(
        seen[0], torch.stack([a * r + (1 - a) * f for r, f, a in zip(real, fake, alpha, strict=True)])
    )
    gradient_penalty(critic, real, fake, torch.ones(4))
    torch.testing.assert_close(seen[1], real)


@pytest.mark.parametrize("shape", [(4, 1), (4, 1, 1, 1), (1,), (), (5,)])
def test_gradient_penalty_refuses_another_alpha(shape):
    real, fake, _ = batch()
    with pytest.raises(ValueError, match="one number per sample"):
        gradient_penalty(LinearCritic(), real, fake, torch.rand(shape))


def test_gradient_penalty_refuses_unequal_batches():
    real, fake, alpha = batch()
    with pytest.raises(ValueError, match="pair by pair"):
        gradient_penalty(LinearCritic(), real, fake[:1], alpha)


def test_penalties_reach_the_discriminator_and_not_what_made_the_images():
    real, _, alpha = batch()
    critic, generator = small_critic(), nn.Linear(12, 12)
    fake = generator(real.flatten(1)).reshape_as(real)
    (gradient_penalty(critic, real, fake, alpha) + r1_penalty(critic, real) + r1_penalty(critic, fake)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in critic[0].parameters())
    assert all(p.grad is None for p in generator.parameters())
    assert not real.requires_grad


def test_penalty_gradients_are_true_second_derivatives():
    real, fake, alpha = batch(2, torch.float64)
    critic = small_critic().double()
    weight = critic[0].weight

    def penalty(w: Tensor) -> Tensor:
        def functional(x: Tensor) -> Tensor:
            return torch.func.functional_call(critic, {"0.weight": w}, x)

        return gradient_penalty(functional, real, fake, alpha) + r1_penalty(functional, real)

    assert torch.autograd.gradcheck(penalty, weight)


def test_a_zero_gradient_gives_a_finite_penalty_and_gradient():
    real, fake, alpha = batch()
    critic = LinearCritic()
    nn.init.zeros_(critic.w)
    penalty = gradient_penalty(critic, real, fake, alpha)
    penalty.backward()
    assert penalty.item() == 1
    assert torch.isfinite(critic.w.grad).all()


def test_penalties_run_in_float32_under_autocast():
    real, fake, alpha = batch()
    critic = small_critic()
    exact = gradient_penalty(critic, real, fake, alpha), r1_penalty(critic, fake)
    double = gradient_penalty(small_critic().double(), real.double(), fake.double(), alpha).float()
    torch.testing.assert_close(exact[0], double, rtol=1e-5, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = gradient_penalty(critic, real, fake, alpha), r1_penalty(critic, fake)
        rounded = r1_penalty(critic, fake.bfloat16())  # as the generator hands them over
    assert exact == mixed
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact[1], rtol=0.02, atol=0)


def test_penalties_keep_float64():
    real, fake, alpha = batch(dtype=torch.float64)
    critic = small_critic().double()
    assert gradient_penalty(critic, real, fake, alpha).dtype == torch.float64
    assert r1_penalty(critic, real).dtype == torch.float64
