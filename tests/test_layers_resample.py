"""The golden values are upfirdn2d's with the filter [1, 3, 3, 1] (StyleGAN2, R3GAN)."""

import pytest
import torch
import torch.nn.functional as F

from gan_experiments.layers.resample import Downsample, Upsample, blur

IMPULSE = torch.zeros(1, 1, 4, 4)
IMPULSE[0, 0, 1, 1] = 1


def test_upsampled_impulse():
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    expected = torch.zeros(8, 8)
    expected[1:5, 1:5] = torch.outer(taps, taps)
    assert torch.equal(Upsample()(IMPULSE)[0, 0], expected)


def test_downsampled_impulse():
    assert Downsample()(IMPULSE)[0, 0].tolist() == [[0.140625, 0.046875], [0.046875, 0.015625]]


@pytest.mark.parametrize(("resample", "edge", "corner"), [(Upsample, 0.75, 0.5625), (Downsample, 0.875, 0.765625)])
def test_constants_keep_their_value_inside(resample, edge, corner):
    made = resample()(torch.ones(1, 1, 8, 8))[0, 0]
    assert (made[1:-1, 1:-1] == 1).all()
    assert (made[0, 1:-1] == edge).all()
    assert made[0, 0] == corner


def test_ramp():
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    up = Upsample()(ramp)[0, 0]
    assert up[0].tolist() == [0, 0.1875, 0.5625, 0.9375, 1.3125, 1.6875, 2.0625, 1.6875]
    assert up.sum() == 421.875
    assert Downsample()(ramp)[0, 0].tolist() == [[2.734375, 3.9375], [7.546875, 8.75]]


def test_inside_it_is_bilinear_interpolation_channel_by_channel():
    x = torch.randn(2, 3, 6, 5)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(Upsample()(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_one_is_a_quarter_of_the_others_transpose():
    x, y = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 8, 8)
    torch.testing.assert_close((Upsample()(x) * y).sum(), 4 * (x * Downsample()(y)).sum())


def test_blur_is_what_resampling_does_without_it():
    """Every other position of it is downsampling; of a map with zeros in between, upsampling."""
    x = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(blur(x, padding=1)[..., ::2, ::2], Downsample()(x))
    spread = torch.zeros(2, 3, 12, 16)
    spread[..., ::2, ::2] = x
    torch.testing.assert_close(blur(spread, padding=2, gain=4.0)[..., :-1, :-1], Upsample()(x))
    assert blur(x, padding=2).shape == (2, 3, 7, 9)


def test_nothing_is_saved():
    assert not Upsample().state_dict()
