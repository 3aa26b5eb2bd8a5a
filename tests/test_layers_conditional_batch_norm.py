import pytest
import torch
from torch import nn

from gan_experiments.layers.conditional_batch_norm import ClassConditionalBatchNorm2d, ConditionalBatchNorm2d
from gan_experiments.layers.sync_batch_norm import OverAllRanks, SyncBatchNorm

LABEL = torch.tensor([0, 2, 1, 2])
CASES = {
    "of a vector": (
        lambda: ConditionalBatchNorm2d(3, 5),
        torch.randn(4, 5, generator=torch.Generator().manual_seed(0)),
    ),
    "of a class": (lambda: ClassConditionalBatchNorm2d(3, 6), LABEL),
}


def zero(norm: ConditionalBatchNorm2d) -> ConditionalBatchNorm2d:
    nn.init.zeros_(norm.gain.weight)
    nn.init.zeros_(norm.bias.weight)
    return norm


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_without_weights_it_is_plain_batch_norm(case, training):
    build, condition = CASES[case]
    norm, plain = zero(build()), nn.BatchNorm2d(3)
    for _ in range(2):  # moves the running averages
        x = 3 + 2 * torch.randn(4, 3, 5, 5)
        norm(x, condition)
        plain(x)
    torch.testing.assert_close(norm.train(training)(x, condition), plain.train(training)(x))


def test_scale_and_offset_are_1_plus_w_c_and_w_c():
    build, condition = CASES["of a vector"]
    norm, x = build(), torch.randn(4, 3, 2, 2)
    gain, bias = 1 + condition @ norm.gain.weight.T, condition @ norm.bias.weight.T
    for i in range(4):
        for channel in range(3):
            expected = norm.norm(x)[i, channel] * gain[i, channel] + bias[i, channel]
            torch.testing.assert_close(norm(x, condition)[i, channel], expected)


def test_each_sample_has_its_own_class():
    norm, x = ClassConditionalBatchNorm2d(3, 6).eval(), torch.randn(4, 3, 2, 2)
    before = norm(x, LABEL)
    with torch.no_grad():
        norm.gain.weight[2] += 1
        norm.bias.weight[2] += torch.tensor([0.0, 5.0, 0.0])
    after = norm(x, LABEL)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(after[[1, 3], 0], 2 * before[[1, 3], 0])
    torch.testing.assert_close(after[[1, 3], 1], 2 * before[[1, 3], 1] + 5)


def test_classes_start_alike_at_scale_1_and_offset_0():
    norm = ClassConditionalBatchNorm2d(3, 6)
    assert not norm.gain.weight.any()
    assert not norm.bias.weight.any()


@pytest.mark.parametrize(
    ("norm", "count"), [(ConditionalBatchNorm2d(3, 5), 30), (ClassConditionalBatchNorm2d(3, 6), 36)]
)
def test_no_biases_and_no_scale_of_its_own(norm, count):
    assert sum(p.numel() for p in norm.parameters()) == count


def test_second_derivatives():
    norm = ConditionalBatchNorm2d(2, 3).double()
    x, condition = torch.randn(3, 2, 2, 2, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(norm, (x.requires_grad_(), condition.requires_grad_()))


def test_it_can_be_synchronised_over_ranks():
    network = OverAllRanks().apply(nn.Sequential(ClassConditionalBatchNorm2d(3, 6)))
    assert isinstance(network[0].norm, SyncBatchNorm)
    assert network[0](torch.randn(4, 3, 2, 2), LABEL).shape == (4, 3, 2, 2)
