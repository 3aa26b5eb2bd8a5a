import math

import pytest
import torch
from torch import nn

from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_normal, init_uniform
from gan_experiments.layers.resolution import doublings_from_4


def test_init_normal():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 64, 4), nn.BatchNorm2d(4096), nn.ConvTranspose2d(64, 64, 4, bias=False))
    network.append(nn.InstanceNorm2d(4))
    init_normal(network)
    for layer in (network[0], network[2]):
        assert layer.weight.mean().item() == pytest.approx(0, abs=1e-3)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert network[1].weight.mean().item() == pytest.approx(1, abs=2e-3)
    assert network[1].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not network[0].bias.any()
    assert not network[1].bias.any()


@pytest.mark.parametrize(
    ("layer", "fans"),
    [
        (nn.Linear(300, 200), 500),
        (nn.Conv2d(32, 64, 3), 9 * (32 + 64)),
        (nn.Conv2d(32, 64, 5, stride=2), 25 * (32 + 64 / 4)),
        (nn.ConvTranspose2d(64, 32, 5, stride=2), 25 * (64 / 4 + 32)),
    ],
)
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_init_uniform(layer, fans, gain):
    torch.manual_seed(0)
    init_uniform(layer, gain)
    std = gain * math.sqrt(2 / fans)
    assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
    assert layer.weight.abs().max().item() == pytest.approx(math.sqrt(3) * std, rel=0.001)
    assert not layer.bias.any()


def test_doublings():
    assert [doublings_from_4(n, "network") for n in (16, 32, 64, 256)] == [2, 3, 4, 6]


@pytest.mark.parametrize(
    ("resolution", "typed"), [(48, "=32 or 64"), (8, "=16"), (0, "=16"), (-64, "=16"), (300, "=256")]
)
def test_impossible_resolutions_say_what_to_type(resolution, typed):
    with pytest.raises(ConfigError, match=f"DCGANGenerator cannot make a resolution of {resolution}.*{typed}"):
        doublings_from_4(resolution, "DCGANGenerator")
