"""DiffAugment against its definition; the official PyTorch file, given the same draws, agreed exactly."""

import pytest
import torch
from torch import Tensor

from gan_experiments.augment.diffaugment import DiffAugment, brightness, contrast, cutout, saturation, translation
from gan_experiments.contracts import ConfigError


def always(value: float):
    """A draw that gives one number each time."""
    return lambda sampler, *shape: torch.full(shape, value)


def seeded(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda sampler, *shape: sampler(shape, generator=generator)


def images(n: int = 4, channels: int = 3, side: int = 16) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(n, channels, side, side, dtype=torch.float64) + 0.5  # no zero: a zero was put there


@pytest.mark.parametrize("augment", [brightness, saturation, contrast, translation])
def test_the_middle_of_every_range_changes_nothing(augment):
    torch.testing.assert_close(augment(images(), always(0.5)), images())


def test_extremes_of_color():
    x = images()
    torch.testing.assert_close(brightness(x, always(0.0)), x - 0.5)
    torch.testing.assert_close(saturation(x, always(0.0)), x.mean(1, keepdim=True).expand_as(x))
    mean = x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(contrast(x, always(1.0)), mean + 1.5 * (x - mean))


def test_saturation_leaves_grey_images_as_they_are():
    x = images(channels=1)
    assert torch.equal(saturation(x, seeded(0)), x)


@pytest.mark.parametrize("side", [32, 16, 12])
def test_translation_moves_by_up_to_an_eighth(side):
    x = images(side=side)
    reach = int(side / 8 + 0.5)
    moved = translation(x, always(0.0))
    assert torch.equal(moved[..., reach:, reach:], x[..., :-reach, :-reach])
    assert not moved[..., :reach, :].any()
    assert not moved[..., :reach].any()
    moved = translation(x, always(1.0))  # a coarse float type may round up to 1
    assert torch.equal(moved[..., :-reach, :-reach], x[..., reach:, reach:])


def test_most_that_translation_removes():
    moved = translation(images(256, 1, 32), seeded(0))
    assert (moved == 0).double().mean((1, 2, 3)).max().item() == 0.234375


def test_cutout_removes_a_square_of_half_by_half():
    cut = cutout(images(1, 3, 16), always(0.5)) == 0
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:12, 4:12] = True
    assert torch.equal(cut, expected.expand(1, 3, 16, 16))


@pytest.mark.parametrize("side", [8, 12, 7, 32])
def test_cutout_removes_between_a_sixteenth_and_a_quarter(side):
    size = int(side / 2 + 0.5)
    fractions = (cutout(images(512, 1, side), seeded(0)) == 0).double().mean((1, 2, 3))
    assert fractions.max().item() == pytest.approx(size**2 / side**2)
    hanging = size // 2 if side % 2 == 0 else size - size // 2  # what is left of the square with its centre in a corner
    assert fractions.min().item() == pytest.approx(hanging**2 / side**2)


def test_each_sample_has_its_own_draw_and_all_channels_share_it():
    out = DiffAugment("translation,cutout")(torch.ones(16, 3, 16, 16), seeded(0))
    assert torch.equal(out[:, 0], out[:, 1])
    assert len({tuple(row) for row in out[:, 0].flatten(1).tolist()}) > 8


def test_the_same_generator_gives_the_same_and_another_seed_another():
    augment, x = DiffAugment(), images()
    assert torch.equal(augment(x, seeded(3)), augment(x, seeded(3)))
    assert not torch.equal(augment(x, seeded(3)), augment(x, seeded(4)))


def test_two_ranks_together_see_what_one_process_sees():
    """The engine's draw makes the whole batch's numbers and hands each rank its rows."""
    augment, x = DiffAugment(), images(8)

    def rank(index: int):
        whole = seeded(1)
        return lambda sampler, n, *shape: whole(sampler, 8, *shape)[4 * index : 4 * index + n]

    halves = [augment(x[4 * i : 4 * i + 4], rank(i)) for i in range(2)]
    assert torch.equal(torch.cat(halves), augment(x, seeded(1)))


def test_by_default_torchs_generator_draws():
    augment, x = DiffAugment(), images()
    torch.manual_seed(5)
    first = augment(x)
    assert not torch.equal(first, augment(x))
    torch.manual_seed(5)
    assert torch.equal(first, augment(x))


def test_gradients_flow_once_and_twice():
    augment = DiffAugment()
    x = images(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: augment(y, seeded(0)), x)
    assert torch.autograd.gradgradcheck(lambda y: augment(y, seeded(0)).square(), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shape_and_dtype_stay(dtype):
    x = images().to(dtype)
    out = DiffAugment()(x)
    assert (out.shape, out.dtype) == (x.shape, dtype)


def test_policies():
    x = images()
    assert DiffAugment("")(x) is x
    assert torch.equal(DiffAugment("cutout")(x, always(0.5)), cutout(x, always(0.5)))
    assert not list(DiffAugment().parameters())
    with pytest.raises(ConfigError, match=r"'colour'.*color, translation, cutout"):
        DiffAugment("colour,cutout")
