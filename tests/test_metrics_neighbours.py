"""The scores of nearest neighbours: by hand, by loops, and against two other implementations."""

import math

import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from gan_experiments.metrics import neighbours
from gan_experiments.metrics.metric import values_of
from gan_experiments.metrics.names import collection
from gan_experiments.metrics.neighbours import SquaredDistances, blocks, nearest

ALL = ("precision", "recall", "density", "coverage", "memorised")


def spread(n: int, d: int, shift: float = 0.0) -> torch.Tensor:
    """Features that look drawn and are the same with every library."""
    return (torch.arange(n * d, dtype=torch.float64).square() * 0.7312 + shift).sin().view(n, d).float()


def neighbour_scores(real, fake, names, manifold_k=3, density_k=5):
    """The scores of features, by name, from one pass over the distances."""
    metrics = collection(names, {"manifold_k": manifold_k, "density_k": density_k}).values(copy_state=False)
    found = values_of(metrics, real, fake)
    return {name: found[name][0] for name in names}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several of them, and the last one shorter than k."""
    monkeypatch.setattr(neighbours, "BLOCK", 37)


def test_five_points_on_a_line():
    real, fake = torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([[0.5], [3.5], [100.0]])
    # k=1: the real balls reach 1, 1, 2 and 4 far, the fake ones 3, 3 and 96.5; 0.5 lies in 2 real balls (of 0 and 1),
    # 3.5 in two (of 3 and 7), 100 in none; the ball of 100 begins at 3.5.
    found = neighbour_scores(real, fake, ALL, manifold_k=1, density_k=1)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == 1
    assert found["density"] == pytest.approx(4 / 3)
    assert found["coverage"] == 1
    assert found["memorised"] == pytest.approx(2 / 3)  # no real image is nearer to another one than 1


def test_nearest_by_sorting():
    x = spread(150, 5)
    expected = torch.cdist(x.double(), x.double()).square().sort(dim=1).values[:, 1:7]
    torch.testing.assert_close(nearest(x, 6), expected, rtol=1e-12, atol=1e-12)


def test_equal_features_are_no_distance_apart():
    x = 1e3 + spread(50, 64)
    between, parts = SquaredDistances(x, x), blocks(len(x))
    distances = torch.cat([torch.cat([between(row, column).clone() for column in parts], dim=1) for row in parts])
    assert (distances.diag() == 0).all()
    assert (distances + torch.eye(50) > 0).all()


def test_agreement_with_torch_fidelity():
    real, fake = spread(210, 12), 0.7 * spread(160, 12, shift=1) + 0.4
    oracle = prc_features_to_metric(fake.double(), real.double(), verbose=False)
    found = neighbour_scores(real, fake, ("precision", "recall"))
    assert found == {name: pytest.approx(oracle[name], rel=1e-6) for name in found}


def test_agreement_with_prdc():
    found = neighbour_scores(spread(210, 12), 0.7 * spread(160, 12, shift=1) + 0.4, ALL, manifold_k=3, density_k=3)
    # prdc 0.2: compute_prdc of these features, nearest_k=3
    expected = {"precision": 0.9375, "recall": 36 / 210, "density": 0.7, "coverage": 107 / 210}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_images_of_the_same_kind_score_as_such():
    real, fake = torch.randn(2, 1500, 4, generator=torch.Generator().manual_seed(0))
    found = neighbour_scores(real, fake, ALL)
    assert found["density"] == pytest.approx(1, abs=0.08)  # Naeem et al., lemma 1
    assert found["coverage"] == pytest.approx(1 - 1 / 2**5, abs=0.03)  # lemma 2, M = N large
    assert found["memorised"] == pytest.approx(0.01, abs=0.01)


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_copies_of_training_images_are_memorised_however_bad_the_others_are(share):
    real, fake = torch.randn(2, 500, 16, generator=torch.Generator().manual_seed(0))
    fake = fake * 3
    copies = round(share * 500)
    fake[:copies] = real[:copies]
    assert neighbour_scores(real, fake, ["memorised"])["memorised"] == pytest.approx(share, abs=0.005)


def test_a_collapsed_generator_covers_nothing():
    real = spread(200, 8)
    found = neighbour_scores(real, real[:1].expand(100, -1), ALL)
    assert found["precision"] == 1
    assert found["recall"] == 1 / 200  # the one image itself
    assert found["coverage"] < 0.1


def test_few_images_take_fewer_neighbours():
    found = neighbour_scores(spread(2, 8), spread(3, 8, shift=1), ALL)
    assert all(math.isfinite(value) for value in found.values())
    assert nearest(spread(4, 3), 3).isfinite().all()


def test_only_what_is_asked_for_is_given():
    assert list(neighbour_scores(spread(20, 3), spread(20, 3, 1), ["coverage"])) == ["coverage"]
