import pytest
import torch
from torch import nn

from gan_experiments.layers.attention import SelfAttention


@pytest.fixture
def attention() -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(16).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 16, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_it_is_the_identity_at_the_start(attention, x):
    assert torch.equal(attention(x), x)
    assert attention.gamma.shape == ()
    attention(x).square().sum().backward()
    assert attention.gamma.grad != 0  # and it can leave it


@pytest.mark.parametrize(("channels", "count"), [(256, 81_921), (128, 20_481), (32, 1_281)])
def test_parameters_are_five_quarters_of_the_square_and_one(channels, count):
    layer = SelfAttention(channels)
    assert sum(p.numel() for p in layer.parameters()) == count == 1.25 * channels**2 + 1
    assert not any(m.bias is not None for m in layer.modules() if isinstance(m, nn.Conv2d))


def test_rows_of_the_map_sum_to_1_over_the_pooled_places(attention, x):
    seen = attention.attention(x)
    assert seen.shape == (2, 24, 6)
    torch.testing.assert_close(seen.sum(dim=2), torch.ones(2, 24, dtype=torch.float64))
    assert not torch.allclose(seen.sum(dim=1), torch.ones(2, 6, dtype=torch.float64) * 4)


def test_the_layer_place_by_place(attention, x):
    """No division by √d, keys and values the largest of 2x2 places: the definition in loops."""
    nn.init.constant_(attention.gamma, 0.7)
    query, key, value = (layer(x)[0] for layer in (attention.query, attention.key, attention.value))
    assert [len(query), len(key), len(value)] == [2, 2, 8]
    blocks = [(slice(i, i + 2), slice(j, j + 2)) for i in (0, 2, 4) for j in (0, 2)]
    keys = [key[:, rows, columns].amax(dim=(1, 2)) for rows, columns in blocks]
    values = [value[:, rows, columns].amax(dim=(1, 2)) for rows, columns in blocks]
    expected = x[0].clone()
    for i in range(6):
        for j in range(4):
            scores = torch.stack([query[:, i, j] @ k for k in keys]).exp()
            mixed = sum(s * v for s, v in zip(scores / scores.sum(), values, strict=True))
            expected[:, i, j] += 0.7 * (attention.output.weight[:, :, 0, 0] @ mixed)
    torch.testing.assert_close(attention(x)[0], expected)


def test_every_channel_count_makes_a_layer():
    assert SelfAttention(2)(torch.randn(1, 2, 4, 4)).shape == (1, 2, 4, 4)


def test_second_derivatives():
    torch.manual_seed(0)
    layer = SelfAttention(2).double()
    nn.init.ones_(layer.gamma)
    assert torch.autograd.gradgradcheck(layer, torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True))
