"""Reconstruction losses and the KL of a code against numbers worked out by hand."""

import math

import pytest
import torch

from gan_experiments.contracts import ConfigError
from gan_experiments.losses.latent import kl_to_standard_normal
from gan_experiments.losses.reconstruction import (
    DISTANCES,
    charbonnier,
    find_distance,
    total_variation,
    weighted_l2,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("l1", 1.75), ("l2", 7.25), ("charbonnier", (1e-3 + math.sqrt(4 + 1e-6) + math.sqrt(25 + 1e-6) + 1e-3) / 4)],
)
def test_distances(name, expected):
    a, b = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[0.0, 3.0], [-3.0, 3.0]])
    assert find_distance(name)(a, b).item() == pytest.approx(expected, rel=1e-6)
    assert find_distance(name)(b, a).item() == pytest.approx(expected, rel=1e-6)


def test_another_distance_is_refused_in_one_line():
    assert set(DISTANCES) == {"l1", "l2", "charbonnier"}
    with pytest.raises(ConfigError, match=r"^model\.pixel=huber: type model\.pixel=l1 or model\.pixel=l2 or "):
        find_distance("huber", "model.pixel")


def test_charbonnier_is_smooth_where_l1_is_not():
    same = torch.zeros(3, requires_grad=True)
    loss = charbonnier(same, torch.zeros(3), epsilon=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0.1)
    assert same.grad.tolist() == [0, 0, 0]
    assert charbonnier(torch.zeros(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_overlap_counts_ten_times():
    """Pathak et al.'s 64x64 centre with overlapPred=4: 56² pixels at 1, the band of 960 at 10."""
    hole = torch.zeros(64, 64, dtype=torch.bool)
    hole[4:60, 4:60] = True
    zeros, ones = torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64)
    assert weighted_l2(zeros, ones, hole).item() == pytest.approx((56**2 + 10 * 960) / 64**2)  # 3.109375
    assert weighted_l2(zeros, ones, torch.ones_like(hole)).item() == 1
    assert weighted_l2(ones, ones, hole).item() == 0
    assert weighted_l2(zeros, ones, hole, known_weight=0).item() == pytest.approx(56**2 / 64**2)


def test_each_image_may_have_its_own_hole():
    masks = torch.stack([torch.ones(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)])
    images = torch.stack([torch.full((3, 4, 4), 2.0), torch.full((3, 4, 4), 1.0)])
    assert weighted_l2(images, torch.zeros_like(images), masks).item() == pytest.approx((4 + 10) / 2)


def test_total_variation():
    images = torch.zeros(2, 1, 2, 4)
    images[0, 0] = torch.tensor([[0.0, 1.0, 1.0, 1.0], [2.0, 1.0, 1.0, 0.0]])
    # down: 4 + 0 + 0 + 1 over 2 rows; across: (1 + 0 + 0) + (1 + 0 + 1) over 4 columns; half, and one of two images
    assert total_variation(images).item() == pytest.approx(0.5 * (5 / 2 + 3 / 4) / 2)
    assert total_variation(torch.full((1, 3, 8, 8), 0.7)).item() == 0


def test_kl_of_a_code():
    mean = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    kl = kl_to_standard_normal(mean, torch.zeros(2, 2))
    assert kl.tolist() == [0.5, 2.0]
    assert kl.sum().item() == 2.5  # BicycleGAN's form
    assert (kl.mean() / 2).item() == 0.625  # StackGAN's
    assert kl_to_standard_normal(torch.zeros(3, 8), torch.zeros(3, 8)).tolist() == [0, 0, 0]


def test_kl_is_torchs():
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 8)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)
