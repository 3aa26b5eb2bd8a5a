"""StyleGAN2 against NVIDIA's code (stylegan2-ada-pytorch d72cc7d), and the game that it is trained in.

The numbers are those of the official implementation, run once in float64 with the same weights, images, labels and
noise, all by `formula`: no code of theirs is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose, small, train
from test_steps_official import Fingerprint, fingerprint, formula
from torch import Tensor, nn

from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.equalised import EqualisedLinear
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_experiments.techniques.path_length import path_lengths

LABEL = torch.tensor([0, 3, 9, 3])


def filled(network: nn.Module) -> None:
    """Every parameter by the formula, those that learn slowly as much larger as they are scaled down; noise too."""
    for k, parameter in enumerate(network.parameters()):
        parameter.data = 2 * formula(k, *parameter.shape)
    for module in network.modules():
        if isinstance(module, EqualisedLinear):
            for parameter in module.parameters():
                parameter.data /= module.lr_multiplier
    for k, buffer in enumerate(network.buffers()):
        if buffer.ndim < 4:  # not the filters
            buffer.copy_(2 * formula(500 + k, *buffer.shape))


class Draws:
    """Numbers by the formula in place of random ones, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, sampler: Callable[..., Tensor], *shape: int, shared: bool = False) -> Tensor:
        self.number += 1
        numbers = formula(1000 + self.number, *shape)
        return numbers + 0.5 if sampler is torch.rand else 3 * numbers


def game(folder: Path, model: str, *words: str) -> NoiseToImage:
    """A small model in float64, filled."""
    module = build.build_model(small(folder, model, "data=cifar10", "augment=none", *words)).double()
    assert isinstance(module, NoiseToImage)
    for name in module.network_names:
        filled(getattr(module, name))
    return module


def batch() -> dict[str, Tensor]:
    return {"real": 2 * formula(2000, 4, 3, 32, 32), "label": LABEL}


def gradients(module: NoiseToImage) -> Iterator[tuple[str, float, Fingerprint]]:
    """Of each phase at the same weights, with draws from the first on: its only term, and its gradient."""
    for phase in module.phases():
        module.draw = Draws()  # type: ignore[method-assign, assignment]
        (term,) = phase.loss(batch()).values()
        parameters = phase.parameters()
        found = torch.autograd.grad(term, parameters, allow_unused=True)
        whole = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        yield phase.name, term.item(), fingerprint(whole)


# Gmain, Dmain, Dreg and Greg of StyleGAN2Loss, γ as in the configurations, a batch of 4, the running mean of lengths 0.
NVIDIA: dict[tuple[str, ...], dict[str, tuple[float, Fingerprint]]] = {
    ("stylegan2",): {
        "discriminator": (1.4645481031928238, (0.34483135338336335, 0.1432845621222062, -0.25380747859258984)),
        "generator": (0.45030861400766153, (0.0019075726532796684, -8.576964929995633e-05, -0.00032892041981384364)),
        "discriminator_r1": (
            3.708244650114746e-06,
            (1.4539502107881835e-05, 8.433429117001908e-06, -4.206708813288219e-06),
        ),
        "generator_path_length": (7.8010524287415155, (41.04203144082967, 29.0825993321044, -42.73897411539161)),
    },
    ("stylegan2_cifar",): {
        "discriminator": (1.4313919985634735, (0.1615665755136591, 0.0999428952353317, -0.05532453631510055)),
        "generator": (0.5024049559953623, (0.0003546576620899442, -0.0004905588223815596, -0.00019653346356549527)),
        "discriminator_r1": (
            2.428738349099329e-10,
            (1.1342370529186324e-09, 9.647299545061055e-10, -5.37591437900339e-11),
        ),
    },
    ("stylegan2_cifar", "data.classes=0"): {
        "discriminator": (1.4227195177413408, (0.29748686630875623, -0.17064619722408325, 0.21273171244304584)),
        "generator": (0.9083755426648381, (0.001407273256857374, 0.000308347480641987, 0.0009727503299306105)),
        "discriminator_r1": (
            1.5901847451910766e-09,
            (6.993306623280148e-09, -2.7096722360639933e-09, 2.4590432021111457e-09),
        ),
    },
}


@pytest.mark.parametrize("words", NVIDIA, ids=" ".join)
def test_all_phases_are_nvidias(words: tuple[str, ...], tmp_path: Path) -> None:
    """Losses, and the gradients of all parameters: residual and plain, with and without labels, mixing, path length."""
    found = {name: (term, gradient) for name, term, gradient in gradients(game(tmp_path, *words))}
    assert found.keys() == NVIDIA[words].keys()
    for name, (term, gradient) in NVIDIA[words].items():
        assert found[name][0] == pytest.approx(term, rel=1e-9), name
        assert found[name][1] == pytest.approx(gradient, rel=1e-7), name


def _unscaled_residuals(module: Any) -> None:
    for block in module.discriminator.blocks:
        block.skip.scale *= 2**0.5


def _demodulated_colours(module: Any) -> None:
    for block in module.generator.synthesis.blocks:
        block.to_rgb.demodulate = True


def _flipped_transposed_weights(module: Any) -> None:
    for block in module.generator.synthesis.blocks[1:]:
        block.conv0.conv.weight.data = block.conv0.conv.weight.flip(2, 3)


TRAPS: dict[str, Callable[[Any], None]] = {
    "discriminator": _unscaled_residuals,
    "generator": _demodulated_colours,
    "generator_path_length": _flipped_transposed_weights,
}


@pytest.mark.parametrize("phase", TRAPS)
def test_known_traps_are_seen(phase: str, tmp_path: Path) -> None:
    module = game(tmp_path, "stylegan2")
    TRAPS[phase](module)
    found = {name: term for name, term, _ in gradients(module)}
    assert found[phase] != pytest.approx(NVIDIA["stylegan2",][phase][0], rel=1e-4)


# ------------------------------------------------------------------------------------------ sizes


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("model", "words", "generator", "discriminator"),
    [
        ("stylegan2", ("resolution=1024",), 30_370_060, 29_012_513),
        ("stylegan2", ("resolution=512",), 30_276_583, 28_982_849),  # the sizes of paper512
        ("stylegan2", ("resolution=256",), 30_034_338, 28_864_129),
        ("stylegan2_paper256", ("resolution=256",), 24_767_458, 24_001_089),
        ("stylegan2_auto", ("resolution=1024",), 28_794_124, 29_012_513),
        ("stylegan2_auto", ("resolution=512",), 28_700_647, 28_982_849),
        ("stylegan2_auto", ("resolution=256",), 23_191_522, 24_001_089),
        ("stylegan2_auto", ("resolution=128",), 22_949_277, 23_882_369),
        ("stylegan2_auto", ("resolution=64",), 22_243_608, 23_407_361),
        ("stylegan2_cifar", ("resolution=32",), 19_947_539, 20_720_641),
        ("stylegan2_cifar", ("resolution=32", "classes=10"), 20_215_315, 23_089_664),
    ],
)
def test_parameters_of_the_named_configurations(
    model: str, words: tuple[str, ...], generator: int, discriminator: int, tmp_path: Path
) -> None:
    settings = ("classes=0", *words)
    cfg = compose(tmp_path, f"model={model}", "data=cifar10", *(f"data.{word}" for word in settings)).model
    with torch.device("meta"):
        assert (size(build.make(cfg.generator)), size(build.make(cfg.discriminator))) == (generator, discriminator)


@pytest.mark.parametrize(("resolution", "channels"), [(16, 1), (32, 3), (128, 1)])
def test_every_resolution_has_its_images_and_logits(resolution: int, channels: int) -> None:
    small = {"channel_base": 64, "channel_max": 4}
    generator = StyleGAN2Generator(8, resolution, channels, w_dim=8, mapping_layers=1, **small)
    images = generator(torch.randn(2, 8))
    assert images.shape == (2, channels, resolution, resolution)
    assert len(generator.synthesis.blocks) * 2 == generator.styles == 2 * (resolution.bit_length() - 1) - 2
    assert StyleGAN2Discriminator(resolution, channels, **small)(images).shape == (2,)


@pytest.mark.parametrize(
    ("network", "words", "message"),
    [
        (StyleGAN2Generator, {"resolution": 24}, "needs a power of two from 16 on"),
        (StyleGAN2Generator, {"resolution": 8}, "needs a power of two from 16 on"),
        (StyleGAN2Generator, {"half": "float8"}, "type half= one of bfloat16, float16"),
        (StyleGAN2Discriminator, {"architecture": "skip"}, "type architecture= one of resnet, orig"),
        (StyleGAN2Discriminator, {"conditioning": "auxiliary"}, "type conditioning= one of none, projection"),
    ],
)
def test_mistakes_are_answered(network: type[nn.Module], words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**words)


def test_a_missing_label_is_an_error() -> None:
    generator = StyleGAN2Generator(8, 16, 1, classes=3, w_dim=8, channel_base=64, mapping_layers=1)
    with pytest.raises(ConfigError, match="no labels"):
        generator(torch.randn(2, 8))


# ------------------------------------------------------------------------------------------ styles


def tiny(mixing: float = 0.9) -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(8, 16, 3, 0, 8, 64, 8, 2, mixing)
    nn.init.normal_(generator.mapping.average)
    return generator


def test_truncation_moves_from_the_average_to_w() -> None:
    """ψ = 0 is one image, ψ = 1 all of z; between, and for the first layers alone, as the formula says."""
    generator, z = tiny(), torch.randn(3, 8)
    average = generator(z, truncation=0.0)
    torch.testing.assert_close(average, average[:1].expand_as(average))
    torch.testing.assert_close(generator(z, truncation=1.0), generator(z))
    w, mean = generator.mapping(z), generator.mapping.average
    ws = generator.truncate(w, 0.7, cutoff=2)
    assert ws.shape == (3, generator.styles, 8)
    torch.testing.assert_close(ws[:, :2], (mean + 0.7 * (w - mean))[:, None].expand(-1, 2, -1))
    torch.testing.assert_close(ws[:, 2:], w[:, None].expand_as(ws[:, 2:]))
    torch.testing.assert_close(generator.truncate(ws, 0.5)[:, 2:], (mean + 0.5 * (w - mean))[:, None].expand(-1, 4, -1))


@pytest.mark.parametrize(
    ("chance", "place", "cutoff"), [(0.89, 0.0, 1), (0.0, 0.5, 3), (0.0, 0.9999, 5), (0.9, 0.0, 6)]
)
def test_mixing_takes_the_styles_from_a_cutoff_on_from_another_z(chance: float, place: float, cutoff: int) -> None:
    """One cutoff, from 1 to the last style, for the whole batch; none in the tenth of the batches."""
    generator, z, other = tiny(), torch.randn(3, 8), torch.randn(3, 8)
    before = generator.mapping.average.clone()

    def draw(sampler: Callable[..., Tensor], *shape: int, shared: bool = False) -> Tensor:
        return torch.tensor([chance, place]) if shared else other

    ws = generator.mixed(z, None, draw)
    w, second = generator.mapping(z), generator.mapping(other)
    torch.testing.assert_close(ws[:, :cutoff], w[:, None].expand(-1, cutoff, -1))
    torch.testing.assert_close(ws[:, cutoff:], second[:, None].expand(-1, 6 - cutoff, -1))
    torch.testing.assert_close(generator.mapping.average, 0.995 * before + 0.005 * w.mean(0))  # of the first z alone


def test_the_average_moves_in_training_alone() -> None:
    generator, z = tiny(mixing=0.0), torch.randn(3, 8)
    before = generator.mapping.average.clone()
    generator(z)
    assert torch.equal(generator.mapping.average, before)
    generator(z, draw=lambda sampler, *shape: sampler(shape))
    assert not torch.equal(generator.mapping.average, before)


def test_noise_is_drawn_in_training_and_fixed_after(tmp_path: Path) -> None:
    generator, z = tiny(), torch.randn(2, 8)
    shapes: list[tuple[int, ...]] = []

    def draw(sampler: Callable[..., Tensor], *shape: int, shared: bool = False) -> Tensor:
        shapes.append(shape)
        return sampler(shape)

    assert torch.equal(generator(z), generator(z))
    generator(z, draw=draw)
    assert shapes == [(2, 8), (2,), *((2, 1, side, side) for side in (4, 8, 8, 16, 16))]
    ws = generator.truncate(generator.mapping(z), None)
    assert torch.equal(generator.synthesis(ws, draw), generator.synthesis(ws))  # its strength is 0 at the start
    for block in generator.synthesis.blocks:
        nn.init.ones_(block.conv1.strength)
    assert not torch.equal(generator.synthesis(ws, draw), generator.synthesis(ws, draw))


def test_a_batch_has_one_cutoff_on_any_number_of_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = game(tmp_path, "stylegan2")
    drawn = []
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        monkeypatch.setattr("gan_experiments.distributed.rank", lambda rank=rank: rank)
        monkeypatch.setattr("gan_experiments.distributed.world_size", lambda world=world: world)
        module._seed_draws("generator")
        first = module.draw(torch.randn, 4 // world, 3)
        drawn.append((module.draw(torch.rand, 2, shared=True), module.draw(torch.randn, 4 // world), first))
    assert all(torch.equal(drawn[0][0], shared) for shared, _, _ in drawn)
    for index in (1, 2):
        assert torch.equal(drawn[0][index], torch.cat([drawn[1][index], drawn[2][index]]))


# ------------------------------------------------------------------------------------------ the game


def test_path_lengths_of_a_linear_map() -> None:
    """E length² = ‖A‖² / (HW · styles): the noise is divided by √(HW), and not by the channels."""
    torch.manual_seed(0)
    A = torch.randn(2 * 5, 3 * 4 * 4, dtype=torch.float64)
    ws = torch.randn(4096, 2, 5, dtype=torch.float64, requires_grad=True)
    images = (ws.flatten(1) @ A).view(-1, 3, 4, 4)
    lengths = path_lengths(images, ws, torch.randn_like(images))
    assert lengths.shape == (4096,)
    assert lengths.square().mean().item() == pytest.approx(A.square().sum().item() / (4 * 4 * 2), rel=0.02)


def test_the_mean_length_moves_before_it_is_used(tmp_path: Path) -> None:
    """From 0 by a hundredth of the way, on half of a batch; the gradient knows that the mean depends on the lengths."""
    module = game(tmp_path, "stylegan2")
    technique: Any = module.techniques["path_length"]
    module.draw = Draws()  # type: ignore[method-assign, assignment]
    turn = PlayerUpdate(module, batch(), of_generator=True, own_fakes=True)
    term = technique.term(turn)
    generator: Any = module.generator
    draws = Draws()
    z, label = draws(torch.randn, 2, 8), (draws(torch.rand, 2) * 10).long()
    ws = generator.mixed(z, label, draws)
    images = generator.synthesis(ws, draws)
    lengths = path_lengths(images, ws, draws(torch.randn, *images.shape))
    mean = 0.01 * lengths.mean()
    assert technique.mean.item() == pytest.approx(mean.item())
    assert term.item() == pytest.approx(2 * (lengths - mean).square().mean().item())


def test_path_length_is_refused_without_styles(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="technique=path_length: this model's generator has no styles"):
        build.build_model(small(tmp_path, "dcgan", "technique=[path_length]"))


@pytest.mark.parametrize(
    ("model", "generator", "discriminator"),
    [
        ("stylegan2", (2e-3 * 4 / 5, 0.991992), (2e-3 * 16 / 17, 0.990585)),
        ("stylegan2_auto", (2.5e-3 * 4 / 5, 0.991992), (2.5e-3 * 16 / 17, 0.990585)),
        ("stylegan2_paper256", (2.5e-3 * 4 / 5, 0.991992), (2.5e-3 * 16 / 17, 0.990585)),
        ("stylegan2_cifar", (2.5e-3 * 4 / 5, 0.991992), (2.5e-3 * 16 / 17, 0.990585)),
    ],
)
def test_adam_is_corrected_for_the_lazy_steps(
    model: str, generator: tuple[float, float], discriminator: tuple[float, float], tmp_path: Path
) -> None:
    """As the code's, also where it corrects for a path length that it leaves out."""
    module = build.build_model(small(tmp_path, model))
    optimizers = dict(zip(("discriminator", "generator"), module.configure_optimizers(), strict=True))
    for name, (rate, beta2) in (("generator", generator), ("discriminator", discriminator)):
        group = optimizers[name].param_groups[0]
        assert group["lr"] == pytest.approx(rate)
        assert group["betas"] == pytest.approx((0.0, beta2), abs=1e-6)
    intervals = {phase.name: phase.every for phase in module.phases()}
    lazy = {} if model == "stylegan2_cifar" else {"generator_path_length": 4}
    assert intervals == {"discriminator": 1, "generator": 1, "discriminator_r1": 16, **lazy}


@pytest.mark.parametrize(
    ("resolution", "batch_size", "gamma", "base", "rate", "half_life"),
    [
        (256, 64, 0.2048, 16384, 2.5e-3, 20_000),
        (512, 64, 0.8192, 32768, 2.5e-3, 20_000),
        (1024, 32, 6.5536, 32768, 2e-3, 10_000),
        (64, 16, 0.0512, 16384, 2.5e-3, 5_000),
    ],
)
def test_auto_follows_the_resolution_and_the_batch(
    resolution: int, batch_size: int, gamma: float, base: int, rate: float, half_life: int, tmp_path: Path
) -> None:
    words = ["model=stylegan2_auto", f"data.resolution={resolution}", f"data.batch_size={batch_size}"]
    cfg = compose(tmp_path, *words)
    assert cfg.technique.r1.gamma == pytest.approx(gamma)
    assert (cfg.model.generator.channel_base, cfg.model.discriminator.channel_base) == (base, base)
    assert cfg.model.optimizers.generator.lr == cfg.model.optimizers.discriminator.lr == rate
    assert (cfg.model.ema.generator.half_life, cfg.model.ema.generator.ramp_up) == (half_life, 0.05)
    assert (cfg.model.generator.mapping_layers, cfg.augment.target) == (2, 0.6)


@pytest.mark.parametrize(("model", "gamma"), [("stylegan2", 10), ("stylegan2_paper256", 1), ("stylegan2_cifar", 0.01)])
def test_other_configurations_have_constants_of_their_own(model: str, gamma: float, tmp_path: Path) -> None:
    cfg = compose(tmp_path, f"model={model}", "data.classes=0")
    assert (cfg.technique.r1.gamma, cfg.technique.r1.every) == (gamma, 16)
    assert cfg.model.discriminator.conditioning == "none"  # data without classes need nothing typed
    assert ("path_length" in cfg.technique, cfg.model.generator.mixing) == (
        (False, 0.0) if model.endswith("cifar") else (True, 0.9)
    )


# ------------------------------------------------------------------------------------------ half precision


def test_half_precision_is_near_and_clamped() -> None:
    """bfloat16 in the two highest of four resolutions: the sums of images and all that is learned stay float32."""
    torch.manual_seed(0)
    words: Any = {"channel_base": 1024, "channel_max": 32}
    full = StyleGAN2Generator(8, 32, 3, 0, 8, mapping_layers=2, **words)
    half = StyleGAN2Generator(8, 32, 3, 0, 8, mapping_layers=2, half_resolutions=2, **words)
    half.load_state_dict(full.state_dict())
    z = torch.randn(4, 8)
    assert [block.half_dtype for block in half.synthesis.blocks] == [None, None, torch.bfloat16, torch.bfloat16]
    images, expected = half(z), full(z)
    assert images.dtype == torch.float32
    assert 0 < (images - expected).abs().max() < 0.03 * expected.abs().max()
    judge = StyleGAN2Discriminator(32, 3, half_resolutions=2, **words)
    x = torch.randn(4, 3, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in judge.parameters() if p is not judge.output.bias)
    with torch.no_grad():
        half.synthesis.blocks[-1].conv1.bias.fill_(1e6)
        half.synthesis.blocks[-1].to_rgb.affine.weight.zero_()
        half.synthesis.blocks[-1].to_rgb.affine.bias.zero_()
        x, _ = half.synthesis.blocks[-1](torch.randn(1, 32, 16, 16), *torch.randn(3, 1, 8), None)
    assert x.abs().max() == 256


def test_gradients_that_overflow_in_float16_are_bounded() -> None:
    torch.manual_seed(0)
    words: Any = {"channel_base": 512, "channel_max": 16, "half_resolutions": 2}
    generator = StyleGAN2Generator(8, 16, 3, 0, 8, mapping_layers=2, half="float16", **words)
    judge = StyleGAN2Discriminator(16, 3, half="float16", **words)
    (1e9 * judge(generator(torch.randn(4, 8)))).sum().backward()
    gradients = [p.grad for network in (generator, judge) for p in network.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    judge.from_rgb.bias.grad = None
    (judge.from_rgb.bias * torch.inf).sum().backward()
    assert (judge.from_rgb.bias.grad == 1e5).all()


@pytest.mark.parametrize(
    "words",
    [
        ("trainer.precision=bf16-mixed",),
        ("trainer.channels_last=true", "trainer.accumulate=2"),
        ("model.generator.half_resolutions=2", "technique.r1.every=2"),
        ("model.generator.half_resolutions=1", "model.generator.half=float16"),
        ("model.fake_labels=batch",),
    ],
    ids=" ".join,
)
def test_trains_in_other_ways(words: tuple[str, ...], tmp_path: Path) -> None:
    """Four batches, the last with the path length, of which no number is lost to autocast."""
    module = train(small(tmp_path / "run", "stylegan2", *words))
    module.require_finite()
    assert module.batches == 4
    assert module.generator.mapping.average.dtype == torch.float32
    assert module.techniques["path_length"].mean > 0


def test_images_are_summed_in_full_precision_under_autocast() -> None:
    generator = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        images = generator(torch.randn(2, 8), truncation=0.5)
    assert images.dtype == torch.float32


def test_a_batch_of_an_export_is_free() -> None:
    generator = tiny().eval()
    batch_size = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(generator, (torch.randn(3, 8),), dynamic_shapes={"z": {0: batch_size}})
    z = torch.randn(5, 8)
    torch.testing.assert_close(program.module()(z), generator(z))
