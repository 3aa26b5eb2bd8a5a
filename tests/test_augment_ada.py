"""ADA against direct computations of each transformation.

Given the same draws, the official PyTorch pipeline agreed to 2e-5 for every policy, wherever the image is read inside
its borders. In the reflections outside the two differ, as its filter runs on there and this one's is reflected too; so
they do for flips and turns by 90 degrees, which it resamples and this one does exactly.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import distributed
from gan_experiments.augment.ada import ADA, PRESETS, SYM6, _octaves
from gan_experiments.contracts import ConfigError
from gan_experiments.losses.penalties import r1_penalty

ALWAYS = 0.0  # a coin below any p


def seeded(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda sampler, *shape: sampler(shape, generator=generator)


def script(*values):
    """A draw that gives these in turn: a number or a row for all images."""
    rest = list(values)

    def draw(sampler, n, *shape):
        value = torch.as_tensor(rest.pop(0), dtype=torch.float32)
        return value.expand(n, *shape).clone()

    return draw


def fixed(policy: str, p: float = 1.0) -> ADA:
    return ADA(policy, p=p, target=None)


def images(n: int = 4, channels: int = 3, side: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, side, side, generator=generator, dtype=dtype) * 2 - 1


KINDS = PRESETS["bgcfnc"]


# ---------------------------------------------------------------- p


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_without_probability_every_image_stays_to_the_last_bit(channels, dtype):
    x = images(channels=channels, dtype=torch.float64).to(dtype)
    assert torch.equal(fixed("bgcfnc", p=0)(x, seeded(0)), x)


UNTOUCHED = {"xflip": 0.75, "rotate90": 0.625, "imgfilter": 0.5**4, "lumaflip": 0.75}  # at p = 1/2; others 1/2


@pytest.mark.parametrize("kind", KINDS)
def test_the_share_of_images_that_stay_untouched(kind):
    """For rotate also a half: p is that of the first or the second rotation."""
    n, side = 1000, 22 if kind == "imgfilter" else 16
    x = images(1, 3, side).expand(n, -1, -1, -1)
    same = (fixed(kind, p=0.5)(x, seeded(1)) == x).flatten(1).all(dim=1).double().mean().item()
    expected = UNTOUCHED.get(kind, 0.5)
    if kind == "xint":  # two shifts that both round to 0
        expected += 0.5 * 0.25**2
    assert same == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNTOUCHED and kind != "xint"])
def test_with_certainty_no_image_stays(kind):
    x = images(64)
    assert not (fixed(kind)(x, seeded(0)) == x).flatten(1).all(dim=1).any()


# ---------------------------------------------------------------- adaptation


def test_p_moves_by_the_images_of_an_interval_over_the_speed():
    ada = ADA()
    for batch in range(1, 9):
        ada.observe(torch.full((64,), 0.1))
        ada.adjust(batch)
        steps = batch // 4
        assert ada.p.item() == pytest.approx(steps * 64 * 4 / (500 * 1000), rel=1e-6)  # 5.12e-4 each
    assert not ada.signs.any()
    for batch in range(9, 21):
        ada.observe(torch.full((64,), -0.1))
        ada.adjust(batch)
    assert ada.p.item() == 0  # two steps down, and not below


@pytest.mark.parametrize(
    ("logits", "step"),
    [
        ([100.0, -0.1, -0.1, -0.1], 0.0),  # r_t = -½, whatever the size: the mean logit is 25
        ([0.1] * 9 + [-100.0], 1.0),  # r_t = 0.8 > 0.6
        ([0.1] * 4 + [-0.1], 0.0),  # r_t = 0.6: just right
        ([0.1] * 79 + [-0.1] * 21, 0.0),  # r_t = 0.58
    ],
)
def test_signs_count_and_not_sizes(logits, step):
    ada = ADA(interval=1, speed=len(logits))
    ada.observe(torch.tensor(logits))
    ada.adjust(1)
    assert ada.p.item() == step


def test_r_t_is_the_mean_over_the_interval_and_not_of_the_last_batch():
    ada = ADA(interval=2, speed=20)
    for batch, value in enumerate((1.0, -1.0), start=1):
        ada.observe(torch.full((30 if value > 0 else 2,), value))
        ada.adjust(batch)
    assert ada.p.item() == pytest.approx(32 / 20)


def test_a_batch_without_observations_moves_nothing():
    ada = ADA(p=0.25, interval=1)
    ada.adjust(1)
    assert ada.p.item() == 0.25


def test_without_a_target_p_stays():
    ada = fixed("bgc", p=0.3)
    ada.observe(torch.ones(64))
    ada.adjust(4)
    assert ada.p.item() == pytest.approx(0.3)


def test_two_ranks_count_as_one_batch(monkeypatch):
    """Signs are averaged over the ranks, and images of both count."""
    halves = torch.tensor([0.1] * 8), torch.tensor([-0.1] * 8)  # r_t = 0 together, 1 on the first rank alone
    whole = ADA(p=0.5, interval=1)
    whole.observe(torch.cat(halves))
    whole.adjust(1)
    other = torch.tensor([-8.0, 8.0])
    monkeypatch.setattr(distributed, "mean_over_ranks", lambda tensor: (tensor + other) / 2)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    rank = ADA(p=0.5, interval=1)
    rank.observe(halves[0])
    rank.adjust(1)
    assert rank.p == whole.p < 0.5


def test_what_is_saved():
    ada = ADA()
    ada.observe(torch.ones(64))
    saved = ada.state_dict()
    assert set(saved) == {"p", "signs"}
    again = ADA()
    again.load_state_dict(saved)
    for one in (ada, again):
        one.adjust(4)
    assert again.p == ada.p > 0


# ---------------------------------------------------------------- pixel blitting


@pytest.mark.parametrize("side", [16, 33])
def test_flip(side):
    x = images(side=side)
    assert torch.equal(fixed("xflip")(x, script(0.9, ALWAYS)), x.flip(-1))
    assert torch.equal(fixed("xflip")(x, script(0.4, ALWAYS)), x)


@pytest.mark.parametrize("side", [16, 33])
@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_rotations_by_90_degrees(quarters, side):
    x = images(side=side)
    turned = fixed("rotate90")(x, script((quarters + 0.5) / 4, ALWAYS))
    assert torch.equal(turned, torch.rot90(x, quarters, (-2, -1)))


@pytest.mark.parametrize(("u", "right", "down"), [((1.0, 0.5), 4, 0), ((0.5, 0.0), 0, -4), ((0.25, 0.625), -2, 1)])
def test_translations_by_whole_pixels(u, right, down):
    x = images(side=32)
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect")
    expected = padded[..., 4 - down : 36 - down, 4 - right : 36 - right]
    assert torch.equal(fixed("xint")(x, script(u, ALWAYS)), expected)


def test_flips_and_turns_are_all_equally_frequent():
    """The eight ways to lay a square down again: no image can tell which way it lay, so G learns none of them."""
    x = images(1, 1, 8)
    ways = [torch.rot90(y, k, (-2, -1)) for k in range(4) for y in (x, x.flip(-1))]
    out = fixed("xflip,rotate90")(x.expand(1600, -1, -1, -1), seeded(0))
    found = torch.stack([(out == way).flatten(1).all(dim=1) for way in ways])
    assert found.any(dim=0).all()
    assert (found.sum(dim=1) - 200).abs().max() < 60


# ---------------------------------------------------------------- general geometric transformations


def waves(read) -> Tensor:
    """A smooth image [1, 1, 64, 64] at the places that `read(x, y)` gives, in pixels from the middle."""
    axis = torch.arange(64, dtype=torch.float64) - 31.5
    x, y = read(*torch.meshgrid(axis, axis, indexing="xy"))
    return (torch.cos(0.2 * x + 0.5) * torch.sin(0.15 * y + 0.2 * torch.ones_like(x)) + 0.01 * x)[None, None]


THETA = 0.3 * math.pi
TURN = {"cos": math.cos(THETA), "sin": math.sin(THETA)}


@pytest.mark.parametrize(
    ("kind", "draws", "read"),
    [
        ("scale", (2.0, ALWAYS), lambda x, y: (x / 2**0.4, y / 2**0.4)),
        ("aniso", (2.0, ALWAYS), lambda x, y: (x / 2**0.4, y * 2**0.4)),
        ("xfrac", ((0.5, -0.3), ALWAYS), lambda x, y: (x - 4, y + 2.4)),
        (  # 0.3 π, the second time not at all
            "rotate",
            (0.65, ALWAYS, 0.5, ALWAYS),
            lambda x, y: (TURN["cos"] * x - TURN["sin"] * y, TURN["sin"] * x + TURN["cos"] * y),
        ),
    ],
)
def test_geometry_of_a_smooth_image(kind, draws, read):
    """Where the output reads inside the image; what is enlarged by 2^0.4 reads from nearer the middle."""
    moved = fixed(kind)(waves(lambda x, y: (x, y)), script(*draws))
    inside = torch.stack(read(*torch.meshgrid(*[torch.arange(64.0) - 31.5] * 2, indexing="xy"))).abs().amax(0) < 28
    assert inside.double().mean() > 0.5
    # The filter's middle lies 0.05 pixels beside its peak: hence the tolerance.
    assert (moved - waves(read)).abs()[0, 0][inside].max() < 0.02
    assert (moved - waves(lambda x, y: (x, y))).abs().max() > 0.3


def test_order_of_the_geometry():
    """Enlarged, turned, stretched, turned, shifted, as seen: the stretching is between the rotations."""
    x = waves(lambda x, y: (x, y))
    draws = (1.0, ALWAYS, 0.75, ALWAYS, 1.0, ALWAYS, 0.25, ALWAYS, (0.25, 0.0), ALWAYS)

    def read(x, y):
        x, y = y, -(x - 2)  # shifted right, turned by -90 degrees
        x, y = x / 2**0.2, y * 2**0.2
        x, y = -y, x  # turned by 90 degrees
        return x / 2**0.2, y / 2**0.2

    moved = fixed("geom")(x, script(*draws))
    assert (moved - waves(read)).abs()[..., 8:-8, 12:-8].max() < 0.02


def test_blits_come_before_the_geometry():
    """Flipped and then shifted to the right; a whole shift of 3.4 pixels is one of 3, also where it is resampled."""
    wave = waves(lambda x, y: (x, y))
    moved = fixed("xflip,xfrac")(wave, script(0.9, ALWAYS, (0.5, 0.0), ALWAYS))
    assert (moved - waves(lambda x, y: (-(x - 4), y))).abs()[..., 8:-8, 12:-8].max() < 0.03
    x = images(side=32)
    moved = fixed("xint,xfrac")(x, script((0.925, 0.5), ALWAYS, (0.5, 0.0), ALWAYS))
    torch.testing.assert_close(moved[..., 6:-6, 11:-6], x[..., 6:-6, 6:-11], rtol=0, atol=2e-5)


def test_resampling_by_whole_pixels_loses_nothing():
    """The wavelet is orthogonal: up and down again is the identity even for noise."""
    x = images(side=32)
    moved = fixed("xfrac")(x, script((0.75, 0.0), ALWAYS))  # by 3 pixels to the right
    torch.testing.assert_close(moved[..., 6:-6, 9:-6], x[..., 6:-6, 6:-9], rtol=0, atol=2e-5)


def test_the_wavelet():
    h = torch.tensor(SYM6, dtype=torch.float64)
    assert h.sum().item() == pytest.approx(math.sqrt(2), abs=1e-9)
    for shift in range(6):
        assert (h[: 12 - 2 * shift] * h[2 * shift :]).sum().item() == pytest.approx(float(shift == 0), abs=1e-9)


def test_what_lies_outside_is_reflected_however_far():
    """Shrunk to a fifth, a grey image stays grey and shows no black."""
    x = torch.full((2, 3, 32, 32), 0.7)
    moved = fixed("scale")(x, script(-12.0, ALWAYS))
    torch.testing.assert_close(moved, x)


# ---------------------------------------------------------------- colours


COLOR = torch.tensor([0.5, -0.2, 0.3])


def recolored(kind: str, *draws: float, color: Tensor = COLOR) -> Tensor:
    """What becomes of an image of one colour."""
    out = fixed(kind)(color[None, :, None, None].expand(2, -1, 8, 8), script(*draws))
    torch.testing.assert_close(out, out[:1, :, :1, :1].expand_as(out), rtol=0, atol=0)
    return out[0, :, 0, 0]


def test_brightness_and_contrast():
    torch.testing.assert_close(recolored("brightness", 1.5, ALWAYS), COLOR + 0.3)
    torch.testing.assert_close(recolored("contrast", 2.0, ALWAYS), 2 * COLOR)
    torch.testing.assert_close(recolored("contrast", -2.0, ALWAYS), COLOR / 2)


def test_luma_flip_negates_the_grey_part_alone():
    grey = COLOR.mean()
    torch.testing.assert_close(recolored("lumaflip", 0.9, ALWAYS), COLOR - 2 * grey)
    torch.testing.assert_close(recolored("lumaflip", 0.4, ALWAYS), COLOR)


def test_hue():
    """By 120 degrees, red takes the place of green; by any angle, grey part and length stay."""
    third = (2 / 3 + 1) / 2
    torch.testing.assert_close(recolored("hue", third, ALWAYS), COLOR.roll(1))
    for u in (0.1, 0.3, 0.8):
        turned = recolored("hue", u, ALWAYS)
        assert turned.mean().item() == pytest.approx(COLOR.mean().item(), abs=1e-6)
        assert turned.norm().item() == pytest.approx(COLOR.norm().item(), abs=1e-6)


def test_saturation_scales_the_distance_to_grey():
    grey = COLOR.mean()
    torch.testing.assert_close(recolored("saturation", 1.0, ALWAYS), grey + 2 * (COLOR - grey))
    torch.testing.assert_close(recolored("saturation", -1.0, ALWAYS), grey + (COLOR - grey) / 2)


def test_colors_are_done_in_the_papers_order():
    """Brightened before the contrast: 2 (c + 0.3), then saturated."""
    draws = (1.5, ALWAYS, 2.0, ALWAYS, 0.1, ALWAYS, 0.5, ALWAYS, 1.0, ALWAYS)
    bright = 2 * (COLOR + 0.3)
    torch.testing.assert_close(recolored("color", *draws), bright.mean() + 2 * (bright - bright.mean()))


def test_grey_images():
    """Hue and saturation do nothing to them, and a luma flip negates."""
    grey = torch.tensor([0.4])
    torch.testing.assert_close(recolored("brightness,contrast", 1.5, ALWAYS, 2.0, ALWAYS, color=grey), 2 * (grey + 0.3))
    torch.testing.assert_close(recolored("lumaflip", 0.9, ALWAYS, color=grey), -grey)
    torch.testing.assert_close(recolored("hue", 0.9, ALWAYS, color=grey), grey)
    torch.testing.assert_close(recolored("saturation", 1.0, ALWAYS, color=grey), grey)


# ---------------------------------------------------------------- filtering and corruptions


def test_the_bands_together_do_nothing():
    bands = _octaves()
    assert bands.shape == (4, 43)
    torch.testing.assert_close(bands.sum(0), F.one_hot(torch.tensor(21), 43).float())
    torch.testing.assert_close(bands, bands.flip(1))
    # Each passes its octave's middle better than the others do.
    frequencies = torch.tensor([1 / 16, 3 / 16, 3 / 8, 3 / 4]) * math.pi
    passed = (bands[:, None] * torch.cos(frequencies[:, None] * (torch.arange(43) - 21))).sum(-1)
    assert passed.argmax(0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("band", "power"), [(0, 10 / 13), (3, 1 / 13)])
def test_filter_amplifies_a_band_and_keeps_the_power(band, power):
    """Twice a band's amplitude, over what the power of a natural image grows by; once for each direction."""
    axis = torch.arange(64)
    image = torch.ones(64, 64) if band == 0 else (-1.0) ** (axis[:, None] + axis)  # lowest and highest frequency
    factor = [0.0] * 4
    factor[band] = 1.0
    out = fixed("imgfilter")(image.expand(2, 3, 64, 64), script(factor, [ALWAYS] * 4))
    gain = 2 / math.sqrt(1 + 3 * power)
    torch.testing.assert_close(out[..., 22:-22, 22:-22], gain**2 * image.expand(2, 3, 64, 64)[..., 22:-22, 22:-22])


def test_noise():
    x = images(64)
    generator = torch.Generator().manual_seed(0)
    strengths = torch.linspace(-3, 3, 64)
    draws = [strengths, torch.zeros(64), torch.randn(64, 3, 32, 32, generator=generator)]
    out = fixed("noise")(x, lambda sampler, *shape: draws.pop(0).reshape(shape))
    torch.testing.assert_close((out - x).flatten(1).std(1), 0.1 * strengths.abs(), rtol=0.06, atol=1e-6)


def test_cutout():
    x = images().abs() + 0.1
    cut = fixed("cutout")(x, script(ALWAYS, (0.5, 0.5))) == 0
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[8:24, 8:24] = True
    assert torch.equal(cut, expected.expand(4, 3, 32, 32))
    corner = fixed("cutout")(x, script(ALWAYS, (0.0, 1.0)))  # bottom left
    expected = (torch.arange(32)[:, None] >= 24) & (torch.arange(32) < 8)
    assert torch.equal(corner == 0, expected.expand(4, 3, 32, 32))


# ---------------------------------------------------------------- draws, derivatives, types


def test_the_same_draws_give_the_same_and_each_image_has_its_own():
    x = images(1).expand(32, -1, -1, -1)
    ada = fixed("bgcfnc", p=0.6)
    out = ada(x, seeded(3))
    assert torch.equal(out, ada(x, seeded(3)))
    assert not torch.equal(out, ada(x, seeded(4)))
    assert len({tuple(row) for row in out.flatten(1)[:, :8].tolist()}) > 24


def test_by_default_torchs_generator_draws():
    ada, x = fixed("bgc"), images()
    torch.manual_seed(5)
    first = ada(x)
    assert not torch.equal(first, ada(x))
    torch.manual_seed(5)
    assert torch.equal(first, ada(x))


def test_two_ranks_together_see_what_one_process_sees():
    ada, x = fixed("bgcfnc", p=0.5), images(8, dtype=torch.float64)

    def rank(index: int):
        whole = seeded(1)
        return lambda sampler, n, *shape: whole(sampler, 8, *shape)[4 * index : 4 * index + n]

    halves = [ada(x[4 * i : 4 * i + 4], rank(i)) for i in range(2)]
    torch.testing.assert_close(torch.cat(halves), ada(x, seeded(1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("policy", "side"), [("bgcnoise", 8), ("imgfilter", 22)])
def test_derivatives_of_both_orders(policy, side):
    ada = fixed("bgc,noise,cutout" if policy == "bgcnoise" else policy, p=0.9)
    x = images(2, 1, side, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: ada(y, seeded(0)), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda y: ada(y, seeded(0)).square(), x, fast_mode=True)


def test_r1_is_that_of_the_images_before_augmentation():
    """For D(x) = w·A x it is ½ ‖Aᵀ w‖²."""
    ada = fixed("bgc", p=0.8)
    x = images(1, 1, 8, torch.float64)
    w = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(1, 8, 8).requires_grad_()
    penalty = r1_penalty(lambda y: (ada(y, seeded(2)) * w).flatten(1).sum(1), x)
    jacobian = torch.autograd.functional.jacobian(lambda y: ada(y, seeded(2)), x).reshape(64, 64)
    expected = 0.5 * (jacobian.T @ w.flatten()).square().sum()
    torch.testing.assert_close(penalty, expected)
    (gradient,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(gradient.flatten(), jacobian @ jacobian.T @ w.detach().flatten())


def test_autocast_and_bfloat16():
    x = images()
    ada = fixed("bgcfnc", p=0.7)
    exact = ada(x, seeded(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ada(x, seeded(0)), exact)
    rounded = ada(x.bfloat16(), seeded(0))
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)


# ---------------------------------------------------------------- policies


def test_presets():
    assert {name: len(kinds) for name, kinds in PRESETS.items()} == {
        "blit": 3, "geom": 4, "color": 5, "filter": 1, "bg": 7, "bgc": 12, "bgcf": 13, "bgcfn": 14, "bgcfnc": 15,
    }  # fmt: skip
    assert ADA("blit, noise").policy == {"xflip", "rotate90", "xint", "noise"}
    assert ADA("color,bg").policy == ADA("bgc").policy
    assert not list(ADA().parameters())
    x = images()
    assert torch.equal(fixed("")(x), x)


def test_mistakes():
    with pytest.raises(ConfigError, match=r"'bgd'.*bgcfnc.*cutout; type augment.policy=bgc"):
        ADA("bgd")
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        ADA()(torch.zeros(2, 5, 8, 8))
