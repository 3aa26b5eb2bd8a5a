"""DRAGAN, R2 and the zero-centred penalty against closed forms on simple critics, and their traps."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from gan_experiments.losses import penalties
from gan_experiments.losses.penalties import dragan_penalty, gradient_penalty, r1_penalty


def linear(images: Tensor) -> Tensor:
    """D(x) = w·x with ‖w‖ = 5 over all of [3, 2, 2]."""
    return (images * (5 / math.sqrt(12))).flatten(1).sum(1)


def quadratic(images: Tensor) -> Tensor:
    """D(x) = ½ ‖x‖², whose gradient is x: a penalty on it tells where it looked."""
    return 0.5 * images.square().flatten(1).sum(1)


def batch(n: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(n, 3, 2, 2, generator=generator, dtype=dtype) for _ in range(2))
    return real, fake, torch.rand(n, generator=generator), torch.rand(n, 3, 2, 2, generator=generator)


def test_golden_values_on_a_linear_critic():
    """λ = 10 and γ = 10 at ‖w‖ = 5."""
    real, fake, alpha, noise = batch()
    assert 10 * gradient_penalty(linear, real, fake, alpha).item() == pytest.approx(160)
    assert 10 * gradient_penalty(linear, real, fake, alpha, center=0).item() == pytest.approx(250)
    assert 10 * dragan_penalty(linear, real, alpha, noise).item() == pytest.approx(160)
    assert 10 * r1_penalty(linear, real).item() == pytest.approx(125)
    assert 10 * r1_penalty(linear, fake).item() == pytest.approx(125)  # R2
    assert 10 * (r1_penalty(linear, real) + r1_penalty(linear, fake)).item() == pytest.approx(250)  # R3GAN


def test_r1_and_r2_carry_the_half():
    """GAN_stability's code multiplies by reg_param without it; the papers write γ/2."""
    real, fake, *_ = batch()
    for images in (real, fake):
        squares = images.square().flatten(1).sum(1)
        torch.testing.assert_close(r1_penalty(quadratic, images), 0.5 * squares.mean())


def test_each_penalty_looks_at_its_own_points():
    """The zero-centred one is the mean of ‖x̂‖² on a quadratic critic; DRAGAN's points move with ½ of the deviation."""
    real, fake, alpha, noise = batch()
    a = alpha.double()[:, None, None, None]
    between = (a * real + (1 - a) * fake).flatten(1)
    torch.testing.assert_close(gradient_penalty(quadratic, real, fake, alpha, center=0), between.square().sum(1).mean())
    around = (real + a * 0.5 * real.std(correction=0) * noise.double()).flatten(1)
    torch.testing.assert_close(dragan_penalty(quadratic, real, alpha, noise), (around.norm(dim=1) - 1).square().mean())
    torch.testing.assert_close(dragan_penalty(quadratic, real, alpha, noise, center=0), around.square().sum(1).mean())


def test_one_alpha_for_the_whole_batch_is_another_number():
    real, fake, alpha, noise = batch()
    one = alpha[:1].expand(4).contiguous()
    for penalty in (
        lambda a: gradient_penalty(quadratic, real, fake, a),
        lambda a: dragan_penalty(quadratic, real, a, noise),
    ):
        assert abs(penalty(alpha).item() - penalty(one).item()) > 1e-3


def test_dragan_without_noise_is_on_the_real_images():
    real, _, alpha, noise = batch()
    expected = (real.flatten(1).norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(dragan_penalty(quadratic, real, torch.zeros(4), noise), expected)
    torch.testing.assert_close(dragan_penalty(quadratic, real, alpha, torch.zeros_like(noise)), expected)


def test_dragan_refuses_other_shapes():
    real, _, alpha, noise = batch()
    with pytest.raises(ValueError, match="one number per sample"):
        dragan_penalty(linear, real, alpha[:, None], noise)
    with pytest.raises(ValueError, match="its own noise"):
        dragan_penalty(linear, real, alpha, noise[:, :1])


def test_dragans_deviation_is_that_of_the_whole_batch(monkeypatch):
    """Two ranks, here threads, with unlike halves: the mean of their penalties is that of one process."""
    real, _, alpha, noise = batch()
    real = torch.cat([real[:2], 3 * real[2:] + 1])
    whole = dragan_penalty(quadratic, real, alpha, noise)
    barrier, box = threading.Barrier(2), {}

    def mean_over_ranks(tensor: Tensor) -> Tensor:
        barrier.wait()
        box[threading.get_ident()] = tensor
        barrier.wait()
        return sum(box.values()) / 2

    monkeypatch.setattr(penalties, "mean_over_ranks", mean_over_ranks)
    with ThreadPoolExecutor(2) as ranks:
        halves = ranks.map(
            lambda rows: dragan_penalty(quadratic, real[rows], alpha[rows], noise[rows]), (slice(0, 2), slice(2, 4))
        )
        torch.testing.assert_close(torch.stack(list(halves)).mean(), whole)


def test_dragan_reaches_the_discriminator_and_not_what_made_the_images():
    real, _, alpha, noise = batch()
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    weight = torch.full((3, 2, 2), 0.3, dtype=torch.float64, requires_grad=True)
    dragan_penalty(lambda x: (x * weight).flatten(1).sum(1), scale * real, alpha, noise).backward()
    assert weight.grad.abs().sum() > 0
    assert scale.grad is None


def test_dragan_runs_in_float32_under_autocast():
    real, _, alpha, noise = batch(dtype=torch.float32)
    weight = torch.randn(12, 1, generator=torch.Generator().manual_seed(1))

    def critic(images: Tensor) -> Tensor:
        return (images.flatten(1) @ weight).tanh()

    exact = dragan_penalty(critic, real, alpha, noise)
    with torch.autocast("cpu", torch.bfloat16):
        assert dragan_penalty(critic, real, alpha, noise) == exact
