"""The path length against closed forms, torchmetrics and NumPy's percentiles."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.functional.image import perceptual_path_length as torchmetrics_path_length

from gan_experiments.contracts import ConfigError
from gan_experiments.metrics.measures.path_length import shrink, trimmed_moments
from gan_experiments.metrics.path_length import full_precision, latent_pairs, perceptual_path_length
from gan_experiments.networks.stylegan2 import StyleGAN2Generator


def squared(x, y):
    return (x.double() - y.double()).square().flatten(1).sum(dim=1)


def ends_of(latent_dim, seed, n):
    """The two ends of the paths of the first chunk: a step of 1 from t = 0 leads to the other."""
    return latent_pairs(lambda z: z, latent_dim, seed, epsilon=1.0, sampling="end")(0, n)


def linear(outputs, latent_dim):
    """z -> A z as images of one row, and A."""
    matrix = torch.randn(outputs, latent_dim, generator=torch.Generator().manual_seed(0)) / 10
    return (lambda z: (z @ matrix.T)[:, None, None]), matrix.double()


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_a_linear_generator_on_straight_lines(sampling):
    sample, matrix = linear(6, 200)
    pairs = latent_pairs(sample, 200, seed=1, epsilon=0.01, sampling=sampling, mapping=lambda z: z)
    mean, std = perceptual_path_length(pairs, squared, n=4000, epsilon=0.01, batch_size=300)
    spectrum = torch.linalg.eigvalsh(matrix @ matrix.T)  # |A(z1 - z0)|^2 = 2 sum of eigenvalue * chi^2
    assert mean == pytest.approx(2 * spectrum.sum().item(), rel=0.05)
    assert std == pytest.approx(2 * (2 * spectrum.square().sum()).sqrt().item(), rel=0.15)


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_a_linear_generator_on_arcs(sampling):
    """In many dimensions two z are at a right angle and of length sqrt(d): an arc is pi / 2 sqrt(d) long."""
    pairs = latent_pairs(lambda z: z[:, None, None], 4096, seed=1, sampling=sampling)
    mean, _ = perceptual_path_length(pairs, squared, n=100, batch_size=30)
    assert mean == pytest.approx(4096 * math.pi**2 / 4, rel=0.01)


class Generator(nn.Module):
    """As torchmetrics wants it: images in 0..255, and the ends of the paths from `sample`, one after the other."""

    def __init__(self, ends):
        super().__init__()
        torch.manual_seed(0)
        self.ends = iter(ends)
        self.net = nn.Sequential(nn.Linear(6, 48), nn.Tanh(), nn.Unflatten(1, (3, 4, 4))).double()

    def sample(self, num_samples):
        return next(self.ends)

    def forward(self, z):
        return (self.net(z.double()) + 1) * 127.5


class Distance(nn.Module):
    def forward(self, x, y):
        return squared(x, y)


def test_the_same_as_torchmetrics():
    n = 101  # where the two agree about the percentiles
    theirs = Generator(end.double() for end in ends_of(6, 5, n))
    mean, std, kept = torchmetrics_path_length(
        theirs, n, batch_size=25, interpolation_method="slerp_any", epsilon=1e-2, sim_net=Distance()
    )
    pairs = latent_pairs(lambda z: theirs(z) / 127.5 - 1, 6, seed=5, epsilon=1e-2, sampling="end")
    found = perceptual_path_length(pairs, Distance(), n, epsilon=1e-2, batch_size=n)
    assert len(kept) == 99
    assert found[0] == pytest.approx(mean.item(), rel=1e-4)
    assert found[1] == pytest.approx(std.item() * math.sqrt(98 / 99), rel=1e-4)


def test_the_extremes_are_cut_as_by_nvidia():
    for n in (1, 2, 50, 101, 999, 1234):
        values = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64).exp()
        low = np.percentile(values, 1, method="lower")
        high = np.percentile(values, 99, method="higher")
        kept = values[(values >= low) & (values <= high)]
        assert trimmed_moments(values) == (
            pytest.approx(kept.mean().item()),
            pytest.approx(kept.std(correction=0).item()),
        )
    assert trimmed_moments(torch.arange(1000.0))[0] == pytest.approx(499.5)
    assert all(math.isnan(value) for value in trimmed_moments(torch.tensor([1.0, math.nan])))


def test_paths_depend_on_seed_and_chunk_alone():
    sizes = []

    def sample(z):
        assert z.dtype == torch.float32
        sizes.append(len(z))
        return z[:, None, None]

    pairs = latent_pairs(sample, 3, seed=0, epsilon=0.1)
    first, second = pairs(0, 4), pairs(1, 4)
    assert not torch.equal(first[0], second[0])
    torch.rand(7)
    again = latent_pairs(sample, 3, seed=0, epsilon=0.1)(0, 4)
    assert torch.equal(again[0], first[0])
    assert torch.equal(again[1], first[1])
    assert not torch.equal(latent_pairs(sample, 3, seed=1)(0, 4)[0], first[0])
    sizes.clear()
    perceptual_path_length(pairs, squared, n=10, epsilon=0.1, batch_size=4)
    assert sizes == [4, 4, 4, 4, 2, 2]
    z0, z1 = ends_of(3, 0, 2000)
    assert (z0 * z1).mean().abs() < 0.05
    assert (z0.std() - 1).abs() < 0.05
    with pytest.raises(ConfigError, match="sampling=start: type full or end"):
        latent_pairs(sample, 3, seed=0, sampling="start")


def test_a_mapping_of_styles():
    """w [n, layers, d], as StyleGAN's: a straight line for each layer."""
    mapping = lambda z: torch.stack([z, 2 * z], dim=1)  # noqa: E731
    pairs = latent_pairs(lambda w: w[:, None], 5, seed=0, epsilon=0.5, sampling="end", mapping=mapping)
    here, there = pairs(0, 3)
    z0, z1 = ends_of(5, 0, 3)
    torch.testing.assert_close(here[:, 0], mapping(z0))
    torch.testing.assert_close(there[:, 0], mapping((z0 + z1) / 2))


def test_large_images_are_averaged_over_squares():
    images = torch.rand(2, 3, 16, 24)
    expected = images.reshape(2, 3, 4, 4, 6, 4).mean(dim=(3, 5))
    torch.testing.assert_close(shrink(images, 4), expected)
    assert shrink(images, 9) is images
    seen = []

    def distance(x, y):
        seen.append((x.shape[-1], torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")))
        return squared(x, y)

    with torch.autocast("cpu", torch.bfloat16):
        perceptual_path_length(lambda index, n: (torch.zeros(n, 3, 512, 512),) * 2, distance, n=2)
    assert seen == [(256, "highest", False)]


def test_a_small_step_is_not_lost_in_half_precision() -> None:
    torch.manual_seed(0)
    settings = {"latent_dim": 8, "w_dim": 8, "resolution": 16, "channel_base": 64, "channel_max": 8}
    half = StyleGAN2Generator(**settings, mapping_layers=2, half_resolutions=2).eval()
    whole = StyleGAN2Generator(**settings, mapping_layers=2).eval()
    whole.load_state_dict(half.state_dict())
    z = torch.randn(2, 8)
    with torch.no_grad():
        rounded = half(z)
        with full_precision(half):
            assert torch.equal(half(z), whole(z))
        assert torch.equal(half(z), rounded)
        assert not torch.equal(rounded, whole(z))
