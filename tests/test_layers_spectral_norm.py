"""Spectral norm against singular values, and against what a stop, a copy or a second forward could change."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.engine.averages import WeightAverage
from gan_experiments.layers.spectral_norm import SpectralNorm, spectral_norm, spectral_norm_layers
from gan_experiments.networks.dcgan import DCGANDiscriminator
from gan_experiments.networks.patchgan import PatchDiscriminator
from gan_experiments.networks.wgan_gp import ConvCritic

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv2d(5, 7, 3),
    "transposed": lambda: nn.ConvTranspose2d(5, 7, 3),
    "linear": lambda: nn.Linear(6, 4),
    "embedding": lambda: nn.Embedding(6, 4),
}


def made(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return spectral_norm(LAYERS[kind]())


def weight(layer: nn.Module) -> nn.Parameter:
    return layer.parametrizations.weight.original


def u(layer: nn.Module) -> Tensor:
    return layer.parametrizations.weight[0].u


def norm(layer: nn.Module, w: Tensor) -> float:
    matrix = w.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else w
    return torch.linalg.svdvals(matrix.detach().flatten(1))[0].item()


def update(layer: nn.Module) -> None:
    """The smallest update of a weight that is one."""
    with torch.no_grad():
        weight(layer).view(-1)[0] += 1e-6


@pytest.mark.parametrize("kind", LAYERS)
def test_the_largest_singular_value_becomes_1(kind):
    layer = made(kind)
    for _ in range(200):
        update(layer)
        normalised = layer.weight
    assert norm(layer, normalised) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(normalised, weight(layer) / norm(layer, weight(layer)))


def test_the_first_iteration_by_hand():
    layer = nn.Linear(3, 2)
    w = layer.weight.detach().clone()
    one = SpectralNorm(w)
    start = one.u.clone()
    v = F.normalize(start @ w, dim=0)
    new = F.normalize(w @ v, dim=0)
    sigma = new @ w @ F.normalize(new @ w, dim=0)
    torch.testing.assert_close(one(w), w / sigma)
    torch.testing.assert_close(one.u, new)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_scale_of_a_weight_does_not_matter(kind):
    layers = [made(kind), made(kind)]
    with torch.no_grad():
        for layer, scale in zip(layers, (2.0, 13.0), strict=True):
            weight(layer).mul_(scale)
    torch.testing.assert_close(layers[0].weight, layers[1].weight)
    torch.testing.assert_close(u(layers[0]), u(layers[1]))


def test_it_iterates_once_for_each_update_whatever_the_number_of_forwards():
    layer, x = made("linear"), torch.randn(2, 6)
    update(layer)
    before = u(layer).clone()
    first = layer(x)
    moved = u(layer).clone()
    assert not torch.equal(before, moved)
    assert torch.equal(layer(x), first)
    assert torch.equal(u(layer), moved)
    update(layer)
    layer(x)
    assert not torch.equal(u(layer), moved)


@pytest.mark.parametrize("fused", [False, True])
def test_it_notices_every_optimizers_updates(fused):
    layer = made("linear")
    optimizer = torch.optim.Adam(layer.parameters(), fused=fused)
    layer(torch.randn(2, 6)).square().sum().backward()
    optimizer.step()
    before = u(layer).clone()
    layer(torch.randn(2, 6))
    assert not torch.equal(u(layer), before)


def test_evaluation_leaves_u_alone_and_gives_what_training_gave():
    layer, x = made("convolution"), torch.randn(1, 5, 4, 4)
    trained = layer(x)
    layer.eval()
    before = copy.deepcopy(layer.state_dict())
    assert torch.equal(layer(x), trained)
    update(layer)
    layer(x)
    assert torch.equal(u(layer), before["parametrizations.weight.0.u"])


def test_no_parameter_is_added_and_none_is_left_out():
    plain = nn.Sequential(*(make() for make in LAYERS.values()))
    expected = sum(p.numel() for p in plain.parameters())
    network = spectral_norm_layers(plain)
    assert network is plain
    assert sum(p.numel() for p in network.parameters()) == expected
    assert all(type(layer.parametrizations.weight[0]) is SpectralNorm for layer in network)
    spectral_norm_layers(network)
    assert all(len(layer.parametrizations.weight) == 1 for layer in network)


@pytest.mark.parametrize("build", [DCGANDiscriminator, ConvCritic, PatchDiscriminator])
def test_any_discriminator_can_have_it(build):
    """Its weights are as many as before, and what it says no longer depends on their scale."""
    torch.manual_seed(0)
    network = build(width=2)
    expected, images = sum(p.numel() for p in network.parameters()), torch.randn(2, 3, 64, 64)
    images = images[..., :32, :32] if build is ConvCritic else images
    spectral_norm_layers(network)
    assert sum(p.numel() for p in network.parameters()) == expected
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 0.0)  # biases out of the way
        first = network.eval()(images)
        for parameter in network.parameters():
            parameter.mul_(5.0)
    torch.testing.assert_close(network(images), first)


def test_embeddings_are_left_alone_where_asked():
    network = spectral_norm_layers(nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1)), embeddings=False)
    assert not hasattr(network[0], "parametrizations")
    assert hasattr(network[1], "parametrizations")


def test_the_gradient_goes_through_the_weight_alone():
    """(G - <W_sn, G> u vᵀ) / σ for a gradient G of what is made with W_sn (section 2.3 of the paper)."""
    torch.manual_seed(0)
    w = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    one = SpectralNorm(w.detach())
    one(w)
    normalised, outer = one(w), torch.randn(4, 6, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((normalised * outer).sum(), w)
    v = F.normalize(one.u @ w.detach(), dim=0)
    sigma = one.u @ w.detach() @ v
    expected = (outer - (normalised.detach() * outer).sum() * torch.outer(one.u, v)) / sigma
    torch.testing.assert_close(gradient, expected)


def test_penalties_differentiate_twice_with_u_and_v_held():
    torch.manual_seed(0)
    w = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    one = SpectralNorm(w.detach())
    one(w)
    v = F.normalize(one.u @ w.detach(), dim=0)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    gradients = []
    for normalised in (one(w), w / (one.u @ (w @ v))):
        (gradient,) = torch.autograd.grad((x @ normalised.t()).tanh().sum(), x, create_graph=True)
        gradients.append(torch.autograd.grad(gradient.square().sum(), w)[0])
    assert gradients[0].any()
    torch.testing.assert_close(*gradients)


def test_two_forwards_and_an_update_between_them_keep_both_graphs():
    layer, x = made("linear"), torch.randn(2, 6)
    first = layer(x)
    with torch.no_grad():  # another player's step must not spoil the graph of the first forward
        u(layer).data.copy_(u(layer) / 2)
    second = layer(x)
    (first.sum() + second.sum()).backward()
    assert weight(layer).grad.any()


def resumed(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    again = made("linear", seed=1)
    again.load_state_dict(torch.load(file, weights_only=True))
    return again


@pytest.mark.parametrize("moved", [False, True])
def test_a_stop_changes_nothing_wherever_it_falls(moved):
    """Between a weight's update and the next forward, or after it: u moves once in all."""
    layer, x = made("linear"), torch.randn(2, 6)
    update(layer)
    if moved:
        layer(x)
    again = resumed(layer)
    assert torch.equal(layer(x), again(x))
    assert torch.equal(u(layer), u(again))


def test_ranks_that_see_other_images_keep_one_u():
    """The engine averages floating buffers over the ranks, which changes nothing where they are equal."""
    ranks = [made("linear"), made("linear")]
    for _ in range(3):
        for layer in ranks:
            layer(torch.randn(2, 6))
            layer(torch.randn(2, 6))
            update(layer)
    assert torch.equal(u(ranks[0]), u(ranks[1]))
    buffers = [b for b in ranks[0].buffers() if b.is_floating_point()]
    assert len(buffers) == 1
    assert torch.equal((u(ranks[0]) + u(ranks[1])) / 2, u(ranks[0]))


def test_a_weight_average_is_normalised_by_its_own_norm():
    layer, x = made("linear"), torch.randn(2, 6)
    layer(x)
    average = WeightAverage(layer, decay=0.9)
    with torch.no_grad():
        weight(layer).copy_(torch.randn(4, 6))
    layer(x)
    average.update(layer, 1, 1)
    own = average.network
    assert not torch.equal(weight(own), weight(layer))
    before = u(own).clone()
    assert torch.equal(before, u(layer))
    assert 1 - 1e-5 < norm(own, own.weight) < 1.2  # one iteration never finds too large a norm
    assert torch.equal(u(own), before)


def test_the_norm_is_exact_under_autocast():
    layers = [made("linear"), made("linear")]
    for layer in layers:
        update(layer)
    with torch.autocast("cpu", torch.bfloat16):
        under = layers[0].weight
    assert under.dtype == torch.float32
    assert torch.equal(under, layers[1].weight)


def test_a_layer_of_zeros_is_refused():
    layer = nn.Conv2d(2, 2, 1)
    nn.init.zeros_(layer.weight)
    with pytest.raises(ConfigError, match=r"Conv2d that starts at zero.*leave spectral norm out"):
        spectral_norm_layers(nn.Sequential(nn.Conv2d(3, 2, 1), layer))


def test_shapes_alone():
    with torch.device("meta"):
        assert made("convolution")(torch.empty(2, 5, 4, 4)).shape == (2, 7, 2, 2)
