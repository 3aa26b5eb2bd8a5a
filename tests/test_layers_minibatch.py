import math

import pytest
import torch
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.layers.minibatch import MinibatchDiscrimination, MinibatchStandardDeviation


def counting(n: int, channels: int = 3) -> Tensor:
    """Images 4x4, the n-th all n."""
    return torch.arange(n, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, channels, 4, 4)


# Minibatch discrimination


@pytest.mark.parametrize("n", [1, 2, 7])
def test_n_copies_are_n_times_near(n):
    """The paper's sum has the sample itself in it; the authors' code leaves it out and would give n - 1."""
    layer = MinibatchDiscrimination(6, kernels=4, kernel_dim=3).double()
    x = torch.randn(1, 6, dtype=torch.float64).expand(n, -1)
    assert layer(x)[:, 6:].flatten().tolist() == pytest.approx([n] * 4 * n)


def test_nearness_by_hand():
    layer = MinibatchDiscrimination(2, kernels=2, kernel_dim=2).double()
    # M = (a, b | a + b, 0) of a sample (a, b)
    layer.T.data = torch.tensor([[[1.0, 0], [1, 0]], [[0, 1], [1, 0]]], dtype=torch.float64)
    out = layer(torch.tensor([[0.0, 0], [1, 2], [1, -1]], dtype=torch.float64))
    assert out[:, :2].tolist() == [[0, 0], [1, 2], [1, -1]]
    e = lambda *distances: sum(math.exp(-d) for d in distances)  # noqa: E731
    expected = [[e(0, 3, 2), e(0, 3, 0)], [e(3, 0, 3), e(3, 0, 3)], [e(2, 3, 0), e(0, 3, 0)]]
    torch.testing.assert_close(out[:, 2:], torch.tensor(expected, dtype=torch.float64))


def test_a_collapsed_batch_shows_and_far_samples_count_as_alone():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(50)
    diverse = torch.randn(16, 50)
    collapsed = diverse[:1] + 0.01 * torch.randn(16, 50)
    assert layer(diverse).shape == (16, 150)
    assert layer(collapsed)[:, 50:].mean() > 10
    assert layer(diverse)[:, 50:].mean() < 3
    torch.testing.assert_close(layer(1e3 * diverse)[:, 50:].median(), torch.tensor(1.0))


def test_a_first_nearness_says_something_however_many_features():
    """At the start o is neither 1 (all far) nor N (all near), for features of unit size."""
    torch.manual_seed(0)
    for features in (50, 8192):
        near = MinibatchDiscrimination(features)(torch.randn(32, features))[:, features:]
        assert 1.05 < near.mean() < 4
        assert near.std() > 0.05


def test_minibatch_discrimination_differentiates_twice():
    torch.manual_seed(0)
    layer = MinibatchDiscrimination(3, 2, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


# Minibatch standard deviation: values of the official modules


@pytest.mark.parametrize(
    ("n", "group", "expected"), [(4, 4, 1.118034), (8, 4, 2.236068), (8, 8, 2.291288), (2, 4, 0.5), (1, 4, 1e-4)]
)
def test_deviation_of_counting_images(n, group, expected):
    """Eight images in groups of four: contiguous groups would give 1.118034, the sample deviation 2.581989."""
    x = counting(n)
    out = MinibatchStandardDeviation(group)(x)
    assert out.shape == (n, 4, 4, 4)
    assert torch.equal(out[:, :3], x)
    assert out[:, 3].flatten().tolist() == pytest.approx([expected] * n * 16, abs=1e-6)


def test_groups_are_strided_and_each_sees_its_own():
    x = counting(8).clone()
    x[1::2] = 5
    deviation = MinibatchStandardDeviation(4)(x)[:, 3, 0, 0]
    assert deviation[::2].tolist() == pytest.approx([math.sqrt(5)] * 4)
    assert deviation[1::2].tolist() == pytest.approx([1e-4] * 4)


def test_deviation_is_averaged_over_channels_and_pixels():
    x = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    x[0, 1, 0, 1] = 8
    assert MinibatchStandardDeviation(2)(x)[0, 2, 0, 0].item() == pytest.approx((4 + 7e-4) / 8)


def test_a_group_must_divide_the_batch():
    with pytest.raises(ConfigError, match=r"batch of 6 images.*groups of 4.*data\.batch_size=64"):
        MinibatchStandardDeviation(4)(counting(6))


def test_minibatch_standard_deviation_differentiates_twice():
    torch.manual_seed(0)
    x = torch.randn(4, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    layer = MinibatchStandardDeviation(2)
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)
    layer(torch.ones(4, 1, 2, 2, requires_grad=True)).sum().backward()  # no deviation at all: not NaN


def test_half_precision_is_computed_in_single():
    x = (100 + counting(4) / 4).to(torch.bfloat16)  # bfloat16 knows halves there: 100, 100, 100.5, 101
    out = MinibatchStandardDeviation(4)(x)
    assert out.dtype == torch.bfloat16
    assert out[0, 3, 0, 0].item() == pytest.approx(x[:, 0, 0, 0].double().std(correction=0).item(), rel=0.01)
