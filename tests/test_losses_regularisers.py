"""Regularisers against hand-computed numbers, and the traps that each of them has."""

import math

import pytest
import torch
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.losses import regularisers
from gan_experiments.losses.adversarial import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPaired,
    Wasserstein,
)
from gan_experiments.losses.regularisers import (
    AccuracyBalance,
    HistoricalAverage,
    LeCam,
    OneSidedLabelSmoothing,
    consistency,
    feature_matching,
    instance_noise,
    latent_diversity,
    orthogonal_regularisation,
    top_k,
)
from gan_experiments.schedules import Exponential, Linear

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------- one-sided label smoothing


@pytest.mark.parametrize("loss", [NonSaturating(), Minimax()])
def test_golden_smoothed_cross_entropy(loss):
    """BCE at logit 2 with the label 0.9 is .326928; the fake's share is -log(1 - σ) as ever."""
    nowhere = torch.tensor([-1e4])  # a fake that costs nothing
    smooth = OneSidedLabelSmoothing(loss)
    assert smooth.discriminator(torch.tensor([2.0]), nowhere).item() == pytest.approx(0.326928, abs=1e-6)
    expected = nn.functional.binary_cross_entropy_with_logits(REAL, torch.full((2,), 0.9))
    expected += nn.functional.binary_cross_entropy_with_logits(FAKE, torch.zeros(2))
    torch.testing.assert_close(smooth.discriminator(REAL, FAKE), expected)


def test_the_best_logit_of_a_smoothed_real_image():
    """ln(α / (1 - α)) = 2.197225, where the unsmoothed loss would go on for ever."""
    best = torch.tensor([math.log(0.9 / 0.1)], dtype=torch.float64, requires_grad=True)
    assert best.item() == pytest.approx(2.197225, abs=1e-6)
    smooth, fake = OneSidedLabelSmoothing(NonSaturating()), torch.zeros(1)
    assert torch.autograd.grad(smooth.discriminator(best, fake), best)[0].item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(NonSaturating().discriminator(best, fake), best)[0].item() < -0.05


@pytest.mark.parametrize(("a", "target"), [(0.0, 0.9), (-1.0, 0.8)])
def test_smoothed_least_squares(a, target):
    smooth = OneSidedLabelSmoothing(LeastSquares(a=a))
    expected = 0.5 * (REAL - target).square().mean() + 0.5 * (FAKE - a).square().mean()
    torch.testing.assert_close(smooth.discriminator(REAL, FAKE), expected)


@pytest.mark.parametrize("loss", [NonSaturating(), Minimax(), LeastSquares()])
def test_fakes_and_the_generator_are_never_smoothed(loss):
    smooth = OneSidedLabelSmoothing(loss)
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    grads = torch.autograd.grad(smooth.discriminator(real, fake), [real, fake])
    plain = torch.autograd.grad(loss.discriminator(real, fake), [real, fake])
    assert torch.equal(grads[1], plain[1])
    assert (grads[0] > plain[0]).all()  # held back
    assert smooth.generator(FAKE) == loss.generator(FAKE)
    assert OneSidedLabelSmoothing(loss, alpha=1).discriminator(REAL, FAKE) == loss.discriminator(REAL, FAKE)


@pytest.mark.parametrize("loss", [Wasserstein(), Hinge(), RelativisticPaired(), RelativisticAverage()])
def test_losses_without_labels_are_not_smoothed(loss):
    with pytest.raises(ConfigError, match=rf"{type(loss).__name__}.*no labels.*type loss=non_saturating"):
        OneSidedLabelSmoothing(loss)


@pytest.mark.parametrize("alpha", [0.5, 0.1, 1.1])
def test_labels_that_are_none(alpha):
    with pytest.raises(ConfigError, match=f"alpha={alpha}.*type 0.9"):
        OneSidedLabelSmoothing(NonSaturating(), alpha)


# ---------------------------------------------------------------- instance noise and top-k


def test_instance_noise_falls_to_nothing():
    images, noise, schedule = rand(4, 3, 8, 8), rand(4, 3, 8, 8, seed=1), Linear(end=1000)
    for images_seen, sigma in ((0, 0.1), (250, 0.075), (1000, 0.0), (5000, 0.0)):
        noisy = instance_noise(images, noise, 0.1 * schedule(images_seen))
        torch.testing.assert_close(noisy, images + sigma * noise)
    assert instance_noise(images.bfloat16(), noise.float(), 0.1).dtype == torch.bfloat16


def test_k_falls_from_the_batch_to_half_of_it():
    """γ = 0.99 an epoch of 1,000 images, ν = ½: 69 epochs."""
    schedule = Exponential(0.99, every=1000, floor=0.5)
    assert [schedule(images) for images in (0, 999, 1000, 2500)] == pytest.approx([1, 1, 0.99, 0.9801])
    assert schedule(68_000) > 0.5 == schedule(69_000) == schedule(10**9)
    assert Exponential(0.5, every=0)(0) == 1  # a fifth of a run of two images
    logits = rand(64)
    assert [len(top_k(logits, schedule(images))) for images in (0, 1000, 10**6)] == [64, 63, 32]


def test_top_k_takes_the_most_real_and_only_they_get_gradients():
    logits = torch.tensor([0.3, -2.0, 1.5, 0.1], requires_grad=True)
    best = top_k(logits, 0.5)
    assert best.tolist() == pytest.approx([1.5, 0.3])
    NonSaturating().generator(best).backward()
    expected = -torch.sigmoid(-logits.detach()) / 2
    torch.testing.assert_close(logits.grad, torch.where(logits > 0.2, expected, 0.0))
    assert len(top_k(logits, 0.01)) == 1


def test_top_k_of_two_ranks_is_that_of_the_whole_batch(monkeypatch):
    """Three of the four best lie on one rank; the mean over the ranks of loss and gradient is that of one process."""
    logits, loss = torch.tensor([3.0, 2.0, 1.0, -1.0, 0.5, -2.0, -3.0, 1.5]), NonSaturating()
    whole = logits.clone().requires_grad_()
    expected = loss.generator(top_k(whole, 0.5))
    expected.backward()

    parts = [logits[:4].clone().requires_grad_(), logits[4:].clone().requires_grad_()]
    monkeypatch.setattr(regularisers, "whole_batch", lambda rows: torch.cat(parts))
    mean = torch.stack([loss.generator(top_k(part, 0.5)) for part in parts]).mean()
    mean.backward()
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(torch.cat([part.grad for part in parts]), whole.grad)


# ---------------------------------------------------------------- feature matching and consistency


def test_feature_matching():
    real, fake = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [2.0, 10.0]])  # means 2, 3 and 1, 5
    assert feature_matching(real, fake).item() == 1 + 4
    assert feature_matching(real, fake, "l1").item() == (1 + 2) / 2
    for distance in ("squared_l2", "l1"):
        assert feature_matching(real, real.flip(0), distance).item() == 0  # the same mean
    with pytest.raises(ConfigError, match=r"'l2'.*squared_l2 and l1"):
        feature_matching(real, fake, "l2")


def test_feature_matching_pulls_the_fake_features_alone():
    real, fake = rand(4, 5).requires_grad_(), rand(4, 5, seed=1).requires_grad_()
    feature_matching(real, fake).backward()
    assert real.grad is None
    gap = fake.detach().mean(0) - real.detach().mean(0)
    torch.testing.assert_close(fake.grad, (2 * gap / 4).expand(4, 5))


def test_feature_matching_is_of_the_whole_batch(monkeypatch):
    """Each rank's means may be far apart while those of the whole batch agree."""
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[3.0], [1.0]])
    means = iter([torch.tensor([2.0]), torch.tensor([2.0])])
    monkeypatch.setattr(regularisers, "mean_over_ranks", lambda tensor: next(means))
    assert feature_matching(real[:1], fake[:1]).item() == 0


def test_consistency_and_its_traps():
    """Zero for T = identity; a mean over the batch; both sides get gradients."""
    x, y = rand(4).requires_grad_(), rand(4, seed=1).requires_grad_()
    assert consistency(x, x).item() == 0
    torch.testing.assert_close(consistency(x, y), (x - y).square().mean())
    assert consistency(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])).item() == 2.5
    consistency(x, y).backward()
    torch.testing.assert_close(x.grad, (x - y).detach() / 2)
    torch.testing.assert_close(y.grad, -x.grad)
    assert consistency(x.bfloat16(), y.bfloat16()).dtype == torch.float32


def test_zcr_drives_the_generators_images_apart_and_ds_logits_together():
    """The generator's term is negative: a step down its gradient makes the images differ more."""
    images, others = rand(2, 1, 2, 2), rand(2, 1, 2, 2, seed=1)
    assert latent_diversity(images, images).item() == 0
    torch.testing.assert_close(latent_diversity(images, others), -(images - others).square().mean())
    for term, sign in ((latent_diversity, 1), (consistency, -1)):
        here = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(term(here, others), here)
        moved = images - 0.1 * gradient
        assert sign * ((moved - others).norm() - (images - others).norm()) > 0


# ---------------------------------------------------------------- LeCam


def lecam(real_mean: float, fake_mean: float) -> LeCam:
    regulariser = LeCam()
    regulariser.real_mean.fill_(real_mean)
    regulariser.fake_mean.fill_(fake_mean)
    return regulariser


def test_golden_lecam():
    assert lecam(0.5, -0.5)(REAL, FAKE, 1).item() == pytest.approx(4.375)
    assert lecam(0.5, -0.5)(torch.tensor([-2.0]), torch.tensor([2.0]), 1).item() == 0  # relu: only what goes too far


def test_lecam_pulls_reals_down_and_fakes_up():
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    lecam(0.5, -0.5)(real, fake, 1).backward()
    assert (real.grad > 0).all()
    assert fake.grad.tolist() == [-1.5, 0.0]


def test_lecams_averages():
    """Up to `start` images they are the batch's means and there is no penalty; then each batch weighs 1 - decay."""
    regulariser = LeCam(decay=0.9, start=100)
    for images_seen in (0, 100):
        regulariser.update(REAL + images_seen, FAKE, images_seen)
        assert (regulariser.real_mean.item(), regulariser.fake_mean.item()) == (1.0 + images_seen, 0.0)
        assert regulariser(REAL, FAKE, images_seen).item() == 0
    regulariser.update(REAL, FAKE + 10, 101)
    assert regulariser.real_mean.item() == pytest.approx(0.9 * 101 + 0.1 * 1)
    assert regulariser.fake_mean.item() == pytest.approx(1)
    assert regulariser(REAL, FAKE, 101).item() > 0
    assert set(regulariser.state_dict()) == {"real_mean", "fake_mean"}


def test_lecams_averages_are_constants_and_of_all_ranks(monkeypatch):
    monkeypatch.setattr(regularisers, "mean_over_ranks", lambda tensor: tensor + torch.tensor([1.0, -1.0]))
    regulariser = LeCam()
    real = REAL.clone().requires_grad_()
    regulariser.update(real, FAKE, 0)
    assert (regulariser.real_mean.item(), regulariser.fake_mean.item()) == (2.0, -1.0)
    assert not regulariser.real_mean.requires_grad


# ---------------------------------------------------------------- historical averaging


def test_historical_averaging_by_hand():
    """θ = 1, 4, 7: the averages are 1, 2.5, 4."""
    network = nn.Linear(1, 1, bias=False).double()
    average = HistoricalAverage(network)
    for theta, mean in ((1.0, 1.0), (4.0, 2.5), (7.0, 4.0)):
        nn.init.constant_(network.weight, theta)
        average.update(network)
        distance = average(network)
        assert distance.item() == pytest.approx((theta - mean) ** 2)  # zero at t = 1
        (gradient,) = torch.autograd.grad(distance, network.weight)
        assert gradient.item() == pytest.approx(2 * (theta - mean))


def test_historical_average_is_saved_and_trains_nothing():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = HistoricalAverage(network)
    average.update(network)
    assert not list(average.parameters())
    again = HistoricalAverage(network)
    again.load_state_dict(average.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert again(network).item() == average(network).item() == pytest.approx(12 + 4 + 4 + 4, rel=1e-6)
    again.update(network)
    assert again(network).item() == pytest.approx(24 / 4, rel=1e-6)


# ---------------------------------------------------------------- orthogonal regularisation


def test_orthogonal_regularisation_by_hand():
    """Rows (1, 2) and (3, 4): their product 11 counts twice, their lengths not at all."""
    network = nn.Linear(2, 2)
    network.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert orthogonal_regularisation(network).item() == 2 * 11**2
    nn.init.orthogonal_(network.weight)
    network.weight.data *= 5
    assert orthogonal_regularisation(network).item() == pytest.approx(0, abs=1e-8)


def test_the_authors_code_adds_half_of_the_gradient():
    """2β (W Wᵀ ⊙ (1 - I)) W there, 4β (...) W here."""
    convolution = nn.Conv2d(3, 4, 2).double()
    convolution.weight.data = rand(4, 3, 2, 2)
    orthogonal_regularisation(convolution).backward()
    rows = convolution.weight.detach().flatten(1)
    off_diagonal = rows @ rows.T * (1 - torch.eye(4, dtype=torch.float64))
    authors = 2 * off_diagonal @ rows
    torch.testing.assert_close(convolution.weight.grad.flatten(1), 2 * authors)
    assert convolution.bias.grad is None


def test_what_orthogonal_regularisation_leaves_out():
    torch.manual_seed(0)
    shared = nn.Linear(3, 3)
    network = nn.Sequential(nn.Embedding(10, 3), shared, nn.BatchNorm1d(3), nn.Linear(3, 5), shared)
    both, one = orthogonal_regularisation(network), orthogonal_regularisation(network, skip=[shared])
    torch.testing.assert_close(one, orthogonal_regularisation(network[3]))
    torch.testing.assert_close(both, one + orthogonal_regularisation(shared))  # shared, but one weight
    with pytest.raises(ValueError, match="no weight"):
        orthogonal_regularisation(network[:1])


@pytest.mark.parametrize("wrap", [lambda layer: layer, nn.utils.parametrizations.spectral_norm])
def test_filters_are_the_rows_also_of_a_transposed_convolution(wrap):
    """Its weight is [in, out, h, w]; parametrised, the weight before the division counts."""
    layer = nn.ConvTranspose2d(2, 3, 4)
    weight = rand(2, 3, 4, 4).float()
    layer.weight.data = weight.clone()
    rows = weight.transpose(0, 1).flatten(1)
    gram = rows @ rows.T
    network = nn.Sequential(wrap(layer))
    expected = (gram - gram.diagonal().diag()).square().sum()
    torch.testing.assert_close(orthogonal_regularisation(network), expected)


def test_orthogonal_regularisation_keeps_its_digits_under_autocast():
    torch.manual_seed(0)
    network = nn.Linear(64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = orthogonal_regularisation(network)
    assert mixed == orthogonal_regularisation(network)


# ---------------------------------------------------------------- balance


def test_d_rests_after_a_batch_in_which_it_was_right_too_often():
    balance = AccuracyBalance()
    assert not balance.rests()
    right, wrong = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([-1.0, 2.0, 3.0, 4.0])
    for real, fake, accuracy, rests in (
        (right, -right, 1.0, True),
        (wrong, -right, 0.875, True),
        (wrong, -wrong, 0.75, False),
        (right, right, 0.5, False),  # says real to everything
    ):
        balance.update(real, fake)
        assert balance.accuracy.item() == accuracy
        assert balance.rests() is rests
    at_the_limit = AccuracyBalance(limit=0.75)
    at_the_limit.update(wrong, -wrong)
    assert not at_the_limit.rests()  # not higher than the limit
    assert set(balance.state_dict()) == {"accuracy"}


def test_all_ranks_rest_together(monkeypatch):
    monkeypatch.setattr(regularisers, "mean_over_ranks", lambda tensor: torch.full_like(tensor, 0.6))
    balance = AccuracyBalance()
    balance.update(torch.ones(4), -torch.ones(4))
    assert not balance.rests()
