import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn

from gan_experiments.layers.virtual_batch_norm import ReferenceBatch, VirtualBatchNorm, WithoutReference


def plain(channels: int, reference_size: int) -> VirtualBatchNorm:
    """Without the random scales, in float64."""
    layer = VirtualBatchNorm(channels, reference_size).double()
    nn.init.ones_(layer.weight)
    return layer


def network(size: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        ReferenceBatch(torch.randn(size, 2, 4, 4)),
        nn.Conv2d(2, 3, 3),
        VirtualBatchNorm(3, size),
        nn.Tanh(),
        nn.Conv2d(3, 3, 1),
        VirtualBatchNorm(3, size),
        WithoutReference(size),
    ).double()


def images(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_by_hand():
    x = torch.tensor([0.0, 2, 4, -5], dtype=torch.float64).view(4, 1, 1, 1)  # the reference is 0 and 2
    out = plain(1, 2)(x).flatten().tolist()
    one = 1 / math.sqrt(1 + 1e-5)
    # of 0, 2, 4: mean 2, variance 8/3; of 0, 2, -5: mean -1, variance 26/3
    assert out == pytest.approx([-one, one, 2 / math.sqrt(8 / 3 + 1e-5), -4 / math.sqrt(26 / 3 + 1e-5)])


def test_a_sample_is_normalised_as_by_batch_norm_over_the_reference_and_itself():
    """And the reference as by batch norm over itself. The official code's form, E x² - (E x)², says the same."""
    reference, samples = 3 + 2 * images(6), 1 - images(4, seed=2)
    out = plain(2, 6)(torch.cat([reference, samples]))
    norm = nn.BatchNorm2d(2).double()
    torch.testing.assert_close(out[:6], norm(reference))
    for sample, normal in zip(samples, out[6:], strict=True):
        torch.testing.assert_close(normal, norm(torch.cat([reference, sample[None]]))[-1])
        mean = reference.mean((0, 2, 3)) * 6 / 7 + sample.mean((1, 2)) / 7
        mean_of_squares = reference.square().mean((0, 2, 3)) * 6 / 7 + sample.square().mean((1, 2)) / 7
        expected = (sample - mean.view(2, 1, 1)) / (mean_of_squares - mean**2 + 1e-5).sqrt().view(2, 1, 1)
        torch.testing.assert_close(normal, expected)


def test_the_rest_of_the_batch_does_not_matter():
    net, x = network(), images(4)
    whole = net(x)
    assert whole.shape == (4, 3, 2, 2)
    for i in range(4):
        torch.testing.assert_close(net(x[i : i + 1]), whole[i : i + 1])
    torch.testing.assert_close(net(torch.cat([x[:1], 100 * x[1:]]))[:1], whole[:1])
    torch.testing.assert_close(net.eval()(x), whole)
    batch_norm = nn.Sequential(net[1], nn.BatchNorm2d(3).double())
    assert not torch.allclose(batch_norm(x)[:1], batch_norm(torch.cat([x[:1], 100 * x[1:]]))[:1])


def test_statistics_are_those_of_the_present_weights():
    """A first layer ten times as great changes nothing: what it is divided by grows with it."""
    net, x = network(), images(3)
    net[2].eps = 0.0
    before = net(x)
    with torch.no_grad():
        net[1].weight.mul_(10)
        net[1].bias.mul_(10)
    torch.testing.assert_close(net(x), before)


def test_the_reference_matters_and_gradients_flow_through_it():
    net, x = network(), images(3)
    before = net(x)
    before.square().sum().backward()
    through = net[1].weight.grad.clone()
    net[0].set(images(5, seed=9))
    assert not torch.allclose(net(x), before)
    net.zero_grad()
    # The same with statistics that are taken for constants.
    net = network()
    net[1].register_forward_hook(lambda layer, given, h: torch.cat([h[:5].detach(), h[5:]]))
    net(x).square().sum().backward()
    assert not torch.allclose(net[1].weight.grad, through)


def test_differentiates_twice():
    net, x = network(2), images(2).requires_grad_()
    assert torch.autograd.gradcheck(net, x)
    assert torch.autograd.gradgradcheck(net, x)


def test_the_reference_is_in_the_state_and_not_among_the_parameters():
    net = network()
    net[0].set(images(5, seed=9))
    assert "0.rows" not in dict(net.named_parameters())
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = network()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other[0].rows, images(5, seed=9))
    assert torch.equal(copy.deepcopy(net)(images(3)), net(images(3)))


def test_a_reference_batch_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\[4, 2, 4, 4\] was given and one of \[5, 2, 4, 4\]"):
        network()[0].set(images(4))
    with pytest.raises(ValueError):  # which copy_ would spread over all rows
        network()[0].set(images(1))


def test_half_precision_is_computed_in_single():
    layer = VirtualBatchNorm(2, 3)
    x = 50 + images(5).float()
    out = layer(x.to(torch.bfloat16))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x.to(torch.bfloat16).float()), atol=0.02, rtol=0.02)


def test_scales_start_as_the_authors():
    torch.manual_seed(0)
    layer = VirtualBatchNorm(4096, 1)
    assert layer.weight.mean().item() == pytest.approx(1, abs=2e-3)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.bias.any()
