"""Modulated convolution against the weights of each sample written out, and the laws of demodulation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gan_experiments.layers.modulated import ModulatedConv2d
from gan_experiments.layers.resample import blur


def written_out(layer: ModulatedConv2d, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Equations 1 and 3 for one sample after the other."""
    outputs = []
    for sample, style in zip(x, layer.affine(w), strict=True):
        weight = layer.weight * style[:, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        else:
            weight = weight / layer.weight[0].numel() ** 0.5
        if layer.up:
            outputs.append(4 * blur(F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2), padding=1))
        else:
            outputs.append(F.conv2d(sample[None], weight, padding=weight.shape[-1] // 2))
    return torch.cat(outputs)


@pytest.mark.parametrize(("size", "up", "demodulate"), [(3, False, True), (3, True, True), (1, False, False)])
def test_is_each_samples_own_convolution(size: int, up: bool, demodulate: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(5, 7, size, 4, up, demodulate).double()
    x, w = torch.randn(3, 5, 6, 6).double(), torch.randn(3, 4).double()
    assert layer(x, w).shape == ((3, 7, 12, 12) if up else (3, 7, 6, 6))
    torch.testing.assert_close(layer(x, w), written_out(layer, x, w))


def test_demodulation_undoes_the_size_of_styles_and_keeps_the_variance() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(64, 64, 3, 8)
    x, w = torch.randn(4, 64, 32, 32), torch.randn(4, 8)
    before = layer(x, w)
    assert before[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.02)
    for parameter in layer.affine.parameters():
        parameter.data *= 30
    torch.testing.assert_close(layer(x, w), before, rtol=1e-4, atol=1e-5)


def test_styles_start_around_one() -> None:
    torch.manual_seed(0)
    styles = ModulatedConv2d(512, 8, 3, 64).affine(torch.randn(64, 64))
    assert styles.mean().item() == pytest.approx(1, abs=0.02)
    assert styles.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("size", "up", "demodulate"), [(3, False, True), (3, True, True), (1, False, False)])
def test_can_be_differentiated_twice(size: int, up: bool, demodulate: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(2, 3, size, 2, up, demodulate).double()
    inputs = [torch.randn(2, 2, 3, 3).double(), torch.randn(2, 2).double(), layer.weight.detach().clone()]
    for tensor in inputs:
        tensor.requires_grad_()

    def with_weight(x: torch.Tensor, w: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x, w))

    assert torch.autograd.gradcheck(with_weight, inputs)
    assert torch.autograd.gradgradcheck(with_weight, inputs)


def test_float16_does_not_overflow() -> None:
    """Styles of 10⁴ and weights of 10³ meet maps of 10²: their products are beyond float16's 65504."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(8, 8, 3, 4)
    x, w = 100 * torch.randn(2, 8, 6, 6), torch.randn(2, 4)
    for parameter in layer.affine.parameters():
        parameter.data *= 1e4
    layer.weight.data *= 1e3
    found, expected = layer(x.half(), w), layer(x, w)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.5)
