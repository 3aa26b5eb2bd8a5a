"""Equalised layers and the norm of pixels, against the scales of the official codes."""

from __future__ import annotations

import math

import pytest
import torch

from gan_experiments.layers.equalised import EqualisedConv2d, EqualisedLinear, PixelNorm


def test_weights_are_scaled_when_used_and_not_when_drawn() -> None:
    torch.manual_seed(0)
    conv, linear = EqualisedConv2d(512, 64, 3, gain=math.sqrt(2)), EqualisedLinear(512, 512)
    assert conv.weight.std().item() == pytest.approx(1, abs=0.01)
    assert linear.weight.std().item() == pytest.approx(1, abs=0.01)
    assert conv.scale == pytest.approx(0.0208333, abs=1e-7)  # √2 / √4608
    assert linear.scale == pytest.approx(0.0441942, abs=1e-7)  # 1 / √512
    assert EqualisedLinear(512, 512 * 16, gain=math.sqrt(2) / 4).scale == pytest.approx(0.015625)
    x = torch.randn(4096, 512)
    assert linear(x).std().item() == pytest.approx(1, abs=0.02)


def test_a_learning_rate_multiplier_changes_the_step_and_not_the_start() -> None:
    torch.manual_seed(0)
    layer = EqualisedLinear(512, 512, bias=1.0, lr_multiplier=0.01)
    assert layer.bias is not None
    assert layer.weight.std().item() == pytest.approx(100, rel=0.01)
    assert layer.scale == pytest.approx(4.4194e-4, rel=1e-4)
    torch.testing.assert_close(layer(torch.zeros(1, 512)), torch.ones(1, 512))
    layer(torch.zeros(1, 512)).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full([512], 0.01))
    with torch.no_grad():
        layer.bias -= 1.0  # a step of 1 of the parameter
    torch.testing.assert_close(layer(torch.zeros(1, 512)), torch.full([1, 512], 0.99))


def test_convolution_keeps_the_size_and_is_the_scaled_one() -> None:
    torch.manual_seed(0)
    layer = EqualisedConv2d(3, 5, 3, gain=2.0)
    x = torch.randn(2, 3, 6, 6)
    plain = torch.nn.functional.conv2d(x, layer.weight * 2 / math.sqrt(27), padding=1)
    torch.testing.assert_close(layer(x), plain)
    assert EqualisedConv2d(3, 5, 1, bias=False)(x).shape == (2, 5, 6, 6)
    assert EqualisedConv2d(3, 5, 1, bias=False).bias is None


def test_pixel_norm() -> None:
    x = torch.tensor([[1.0, 2, 3, 4]])
    assert PixelNorm()(x) == pytest.approx(torch.tensor([[0.365148, 0.730297, 1.095445, 1.460593]]), abs=1e-6)
    maps = torch.randn(2, 8, 3, 3)
    assert PixelNorm()(maps).square().mean(1) == pytest.approx(torch.ones(2, 3, 3), abs=1e-4)
