"""The scores against numbers worked out by hand, against explicit loops, and against two libraries."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from gan_experiments.drawing import to_uint8
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.metrics.scores import frechet_distance, inception_score, kernel_distance, moments, square_root

float64 = torch.float64


def features(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator)
    return (torch.randn(n, d, generator=generator) @ mix * scale + shift).relu()


class Flat(nn.Module):
    """Images as their own features."""

    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).double() / 50


def test_moments_are_numpys():
    x = features(9000, 7, 0, shift=3)
    mean, cov = moments(x)
    assert mean.dtype == cov.dtype == float64
    np.testing.assert_allclose(mean, x.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)


def test_frechet_distance_of_two_gaussians_on_the_line():
    # (m1 - m2)^2 + (s1 - s2)^2 with means 1 and 4, deviations 2 and 7
    found = frechet_distance(*(torch.tensor(x, dtype=float64) for x in ([1.0], [[4.0]], [4.0], [[49.0]])))
    assert found == pytest.approx(9 + 25, rel=1e-14)


def test_frechet_distance_of_two_gaussians_in_the_plane():
    # The eigenvalues of both are 9 and 1, their axes 45 degrees apart: the product has trace 50 and determinant 81,
    # so the sum of the roots of its eigenvalues has the square 50 + 2 * 9.
    cov1, cov2 = torch.tensor([[9.0, 0.0], [0.0, 1.0]]), torch.tensor([[5.0, 4.0], [4.0, 5.0]])
    found = frechet_distance(torch.tensor([0.0, 1.0]), cov1, torch.tensor([2.0, 0.0]), cov2)
    assert found == pytest.approx(5 + 10 + 10 - 2 * math.sqrt(68), rel=1e-14)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 400), (400, 20), (2, 2)])
def test_frechet_distance_with_fewer_images_than_features(n, m):
    x, y = features(n, 64, 1), features(m, 64, 2, scale=1.5)
    found = frechet_distance(*moments(x), *moments(y))
    # The trace of the root is the nuclear norm of the product of the centred samples: no root of a singular matrix.
    a, b = ((s.double() - s.double().mean(0)) / math.sqrt(len(s) - 1) for s in (x, y))
    overlap = torch.linalg.svdvals(a @ b.T).sum()
    expected = (x.double().mean(0) - y.double().mean(0)).square().sum() + a.square().sum() + b.square().sum()
    assert found == pytest.approx((expected - 2 * overlap).item(), rel=1e-6)


@pytest.mark.parametrize("n", [20, 400])
def test_the_root_that_is_kept_changes_nothing(n):
    (mean1, cov1), two = moments(features(n, 64, 1)), moments(features(300, 64, 2))
    root = square_root(cov1)
    torch.testing.assert_close(root @ root.T, cov1, rtol=1e-9, atol=1e-9)
    assert frechet_distance(mean1, cov1, *two, root) == frechet_distance(mean1, cov1, *two)


def test_frechet_distance_of_a_sample_with_itself_is_zero():
    x = features(20, 64, 1)
    scale = moments(x)[1].trace().item()
    assert abs(frechet_distance(*moments(x), *moments(x))) < 1e-6 * scale
    assert abs(frechet_distance(*[torch.zeros(3), torch.zeros(3, 3)] * 2)) == 0


def test_frechet_distance_agrees_with_scipy_torchmetrics_and_torch_fidelity():
    x = torch.randint(0, 256, (300, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = (x.flip(0) // 2 + torch.arange(12).view(3, 2, 2) * 4).to(torch.uint8)[:200]
    module = Flat()
    found = frechet_distance(*moments(module(x)), *moments(module(y)))

    (mean1, cov1), (mean2, cov2) = ([t.numpy() for t in moments(module(s))] for s in (x, y))
    root = scipy.linalg.sqrtm(cov1 @ cov2).real
    assert found == pytest.approx(((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root), rel=1e-9)

    metric = FrechetInceptionDistance(feature=module).set_dtype(float64)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert found == pytest.approx(metric.compute().item(), rel=1e-9)

    statistics = [fid_features_to_statistics(module(s)) for s in (x, y)]
    oracle = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(oracle, rel=1e-9)


def test_kernel_distance_by_loops():
    x = torch.tensor([[0.0, 1.0], [2.0, -1.0], [1.0, 1.0]])
    y = torch.tensor([[1.0, 0.0], [3.0, 3.0], [0.0, -2.0]])

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 2 + 1) ** 3

    within = [sum(k(s[i], s[j]) for i in range(3) for j in range(3) if i != j) / 6 for s in (x.tolist(), y.tolist())]
    across = sum(k(a, b) for a in x.tolist() for b in y.tolist()) / 9
    mean, std = kernel_distance(x, y, subsets=4)
    assert mean == pytest.approx(sum(within) - 2 * across, rel=1e-14)
    assert std == pytest.approx(0, abs=1e-12)  # every subset is the whole


def test_kernel_distance_agrees_with_torchmetrics_and_torch_fidelity():
    x = torch.randint(0, 256, (90, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = (x.flip(0) // 2 + 40).to(torch.uint8)
    module = Flat()
    mean, _ = kernel_distance(module(x), module(y), subsets=2, subset_size=90)
    metric = KernelInceptionDistance(feature=module, subsets=2, subset_size=90).set_dtype(float64)
    metric.update(x, real=True)
    metric.update(y, real=False)
    assert mean == pytest.approx(metric.compute()[0].item(), rel=1e-9)
    settings = {"kid_subsets": 2, "kid_subset_size": 90, "kid_kernel": "poly", "verbose": False}
    oracle = kid_features_to_metric(module(x), module(y), **settings)["kernel_inception_distance_mean"]
    assert mean == pytest.approx(oracle, rel=1e-9)


def test_kernel_distance_draws_from_its_own_generator():
    x, y = features(60, 8, 0), features(50, 8, 1)
    state = torch.get_rng_state()
    first = kernel_distance(x, y, 10, 20, torch.Generator().manual_seed(3))
    assert torch.equal(state, torch.get_rng_state())
    assert first == kernel_distance(x, y, 10, 20, torch.Generator().manual_seed(3))
    assert first != kernel_distance(x, y, 10, 20, torch.Generator().manual_seed(4))
    assert first[1] > 0
    full, _ = kernel_distance(x[:50], y)
    assert kernel_distance(x, y, 2000, 20)[0] == pytest.approx(full, rel=0.2)  # unbiased: subsets agree on average


def test_kernel_distance_of_equal_distributions_is_near_zero_and_grows_with_the_shift():
    x, y = torch.randn(2, 2000, 8, generator=torch.Generator().manual_seed(0))
    same, near, far = (kernel_distance(x, y + shift, 20, 500)[0] for shift in (0, 0.3, 1))
    assert abs(same) < 0.1 * near < 0.1 * far


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_inception_score_of_sure_and_of_unsure_logits(generator):
    classes = 5
    sure = torch.eye(classes).repeat(20, 1) * 1e4
    assert inception_score(sure, 4 if generator is None else 1, generator) == pytest.approx((classes, 0), abs=1e-12)
    assert inception_score(torch.zeros(100, classes), 4, generator) == pytest.approx((1, 0), abs=1e-12)


def test_inception_score_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=float64)
    marginal = [0.6, 0.4]
    divergence = [sum(q * math.log(q / m) for q, m in zip(row, marginal, strict=True)) for row in p.tolist()]
    mean, std = inception_score(p.log() + 7, splits=1)  # a constant added to the logits changes nothing
    assert (mean, std) == (pytest.approx(math.exp(sum(divergence) / 2), rel=1e-14), 0)


def test_inception_score_shuffles_only_with_a_generator():
    in_order = torch.eye(5).repeat_interleave(100, dim=0) * 1e4
    assert inception_score(in_order, 5)[0] == pytest.approx(1)
    assert inception_score(in_order, 5, torch.Generator().manual_seed(0))[0] > 4.8


def test_inception_score_agrees_with_torchmetrics_and_torch_fidelity():
    logits = torch.randn(103, 10, generator=torch.Generator().manual_seed(0)) * 3
    oracle = isc_features_to_metric(logits[:100], splits=10, shuffle=False)
    assert inception_score(logits[:100], 10) == pytest.approx(tuple(oracle.values()), rel=1e-9)

    class Table(nn.Module):
        def forward(self, images):
            return logits[images.long()].double()

    metric = InceptionScore(feature=Table(), splits=1).set_dtype(float64)
    metric.update(torch.arange(103, dtype=torch.uint8))
    with torch.random.fork_rng():
        assert inception_score(logits, 1)[0] == pytest.approx(metric.compute()[0].item(), rel=1e-9)


def test_to_uint8_rounds_to_the_nearest_level():
    levels = torch.arange(256)
    assert torch.equal(to_uint8(levels / 127.5 - 1).long(), levels)
    assert torch.equal(to_uint8((levels + 0.49) / 127.5 - 1).long(), levels)
    assert torch.equal(to_uint8((levels - 0.49) / 127.5 - 1).long(), levels)
    assert to_uint8(torch.tensor([-1.5, -1.0, 1.0, 1.5, 0.0])).tolist() == [0, 0, 255, 255, 128]


def test_less_is_better_for_distances_and_for_what_is_memorised():
    names = ["fid", "kid", "is", "precision", "recall", "density", "coverage", "memorised"]
    less = [name for name in names if not higher_is_better(name)]
    assert less == ["fid", "kid", "memorised"]
    assert [name for name in names if not higher_is_better(f"{name}_digits")] == less
