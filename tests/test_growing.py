"""PGGAN and StyleGAN: counts, what each layer does, the fade, the schedule, and a step against other code."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from matrix import batches_of, drive
from support import difference, small, train
from test_steps_official import Fingerprint, fingerprint, formula
from torch import Tensor, nn

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.equalised import EqualisedConv2d, EqualisedDownConv2d, EqualisedUpConv2d
from gan_experiments.layers.growing import enlarge, grown_images, shrink, stage_of
from gan_experiments.layers.resample import Smooth
from gan_experiments.models.growing import Growing
from gan_experiments.models.noise_to_image import PlayerUpdate
from gan_experiments.networks.dcgan import DCGANDiscriminator
from gan_experiments.networks.pggan import PGGANDiscriminator, PGGANGenerator
from gan_experiments.networks.stylegan import StyleGANDiscriminator, StyleGANGenerator, adain
from gan_experiments.runs import resume
from gan_experiments.schedules import ByResolution, Growth

NARROW: dict[str, Any] = {"resolution": 32, "channels": 1, "channel_base": 64, "channel_max": 8}
STYLED: dict[str, Any] = {"latent_dim": 8, "w_dim": 8, "mapping_layers": 2}
ALMOST = 1e-12  # of a fade: the first batch of it, or the last


def generators() -> list[Any]:
    """Of PGGAN and StyleGAN, whose noise counts."""
    torch.manual_seed(0)
    styled = StyleGANGenerator(**NARROW, **STYLED)
    for layer in styled.synthesis.layers:
        nn.init.normal_(layer.strength)
    return [PGGANGenerator(latent_dim=8, **NARROW).eval(), styled.eval()]


def discriminators() -> list[Any]:
    torch.manual_seed(0)
    return [PGGANDiscriminator(**NARROW), StyleGANDiscriminator(**NARROW)]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# ------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize(
    ("resolution", "generator", "discriminator"),
    [
        (1024, 23_079_115, 23_087_249),  # "23.1M" in the paper
        (256, 23_044_309, 23_052_353),
        (128, 22_933_394, 22_941_313),
        (32, 20_719_628, 20_726_785),
    ],
)
def test_pggans_counts(resolution: int, generator: int, discriminator: int) -> None:
    """Derived from the layers of the authors' definition (tkarras/progressive_growing_of_gans 2504c3f)."""
    with torch.device("meta"):
        assert parameters(PGGANGenerator(resolution=resolution)) == generator
        assert parameters(PGGANDiscriminator(resolution=resolution)) == discriminator


@pytest.mark.parametrize(
    ("resolution", "generator", "discriminator"), [(1024, 26_219_627, 23_087_249), (256, 26_086_229, 23_052_353)]
)
def test_stylegans_counts(resolution: int, generator: int, discriminator: int) -> None:
    """At 1024 pixels the total that the authors print (NVlabs/stylegan 1e0d5c7)."""
    with torch.device("meta"):
        network = StyleGANGenerator(resolution=resolution)
        assert parameters(network) == generator
        assert parameters(network.mapping) == 2_101_248
        assert parameters(StyleGANDiscriminator(resolution=resolution)) == discriminator


@pytest.mark.parametrize("resolution", [8, 16, 64])
def test_images_of_each_resolution_and_number_of_channels(resolution: int) -> None:
    sizes = {**NARROW, "resolution": resolution, "channels": 3}
    for network, judge in (
        (PGGANGenerator(latent_dim=8, **sizes), PGGANDiscriminator(**sizes)),
        (StyleGANGenerator(**sizes, **STYLED), StyleGANDiscriminator(**sizes)),
    ):
        images = network(torch.randn(4, 8))
        assert images.shape == (4, 3, resolution, resolution)
        assert judge(images).shape == (4,)


def test_classes_reach_the_networks() -> None:
    z, images, labels = torch.randn(4, 8), torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 1])
    of_classes: dict[str, Any] = {"classes": 3, "conditioning": "concatenation"}
    for network in (
        PGGANGenerator(latent_dim=8, **NARROW, **of_classes),
        StyleGANGenerator(**NARROW, **STYLED, **of_classes),
    ):
        assert not torch.equal(network(z, labels), network(z, labels.roll(1)))
        with pytest.raises(ConfigError, match="was given no labels"):
            network(z)
    judge = PGGANDiscriminator(**NARROW, classes=3, conditioning="projection")
    logits = torch.stack([judge(images, torch.full((4,), label)) for label in range(3)], dim=1)
    assert torch.equal(judge(images, labels), logits[torch.arange(4), labels])
    classifier = PGGANDiscriminator(**NARROW, classes=3, conditioning="auxiliary")
    assert classifier.classify(classifier.features(images)).shape == (4, 3)
    with pytest.raises(ConfigError, match="none, auxiliary, projection"):
        PGGANDiscriminator(**NARROW, classes=3, conditioning="concatenation")
    with pytest.raises(ConfigError, match=r"48.*power of two from 8 on; type data\.resolution=32 or 64"):
        StyleGANGenerator(resolution=48)


def test_weights_are_drawn_of_unit_variance_and_scaled_when_used() -> None:
    """Table 2's first layer: (√2 / 4) / √512 = 0.015625; a hidden one √2 / √4608; the mapping's start at 100."""
    torch.manual_seed(0)
    pggan, mapping = PGGANGenerator(resolution=8), StyleGANGenerator(resolution=8, mapping_layers=2).mapping
    assert pggan.input.scale == pytest.approx(0.015625)
    assert pggan.first[0].scale == pytest.approx(0.0208333, abs=1e-7)
    for layer in (pggan.input, pggan.first[0], pggan.to_rgb[0]):
        assert layer.weight.std().item() == pytest.approx(1, abs=0.05)
    for linear in mapping.layers:
        assert linear.weight.std().item() == pytest.approx(100, rel=0.01)
        assert linear.scale == pytest.approx(2**0.5 / 512**0.5 / 100)
    z = torch.randn(64, 512)
    assert mapping(z).square().mean().item() == pytest.approx(1, abs=0.25)  # leaky ReLU of gain √2 keeps it


def test_pixels_are_normalised_after_the_activation() -> None:
    """Each position of each layer's output has a mean square of 1, over the channels."""
    network = generators()[0]
    seen: list[Tensor] = []
    for block in (network.first, *network.blocks):
        block.register_forward_hook(lambda _, __, output: seen.append(output))
    network(torch.randn(4, 8))
    assert len(seen) == 4
    for maps in seen:
        assert torch.allclose(maps.square().mean(1), torch.ones(()), atol=1e-5)
        assert maps.min() < 0 < maps.max()  # not before it, which would leave a leak of a fifth


def test_doubling_and_halving_are_what_they_stand_for() -> None:
    """Nearest neighbour and convolution; convolution and mean: the same in one, with their gradients."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    up, down = EqualisedUpConv2d(3, 5, gain=2**0.5).double(), EqualisedDownConv2d(3, 5, gain=2**0.5).double()
    for layer, plain in (
        (up, lambda x, conv: conv(enlarge(x))),
        (down, lambda x, conv: shrink(conv(x))),
    ):
        nn.init.normal_(layer.bias)
        conv = EqualisedConv2d(3, 5, 3, gain=2**0.5).double()
        conv.load_state_dict(layer.state_dict())
        ours, theirs = layer(x), plain(x, conv)
        assert torch.allclose(ours, theirs, atol=1e-12)
        ours.square().sum().backward()
        theirs.square().sum().backward()
        assert torch.allclose(layer.weight.grad, conv.weight.grad, atol=1e-10)


def test_smoothing_spreads_a_point_as_1_2_1() -> None:
    point = torch.zeros(1, 2, 5, 5)
    point[:, :, 2, 2] = 16
    middle = Smooth()(point)[0, 1, 1:4, 1:4]
    assert torch.equal(middle, torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]))
    assert Smooth()(torch.ones(1, 1, 4, 4))[0, 0, 0].tolist() == [0.5625, 0.75, 0.75, 0.5625]


def test_pggan_is_table_2_by_hand() -> None:
    """Without fused operations, at every stage."""
    network = generators()[0]

    def conv(x: Tensor, layer: Any, gain: float = 2**0.5) -> Tensor:
        fan = layer.weight[0].numel()
        return F.conv2d(x, layer.weight * gain / fan**0.5, layer.bias, padding=layer.weight.shape[-1] // 2)

    def normalised(x: Tensor) -> Tensor:
        x = F.leaky_relu(x, 0.2)
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    z = torch.randn(3, 8)
    x = F.linear(z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt(), network.input.weight * 2**0.5 / 4 / 8**0.5)
    x = normalised(x.view(3, -1, 4, 4) + network.bias.view(1, -1, 1, 1))
    x = normalised(conv(x, network.first[0]))
    for stage in range(4):
        if stage:
            block = network.blocks[stage - 1]
            x = normalised(conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), block[0]))
            x = normalised(conv(x, block[3]))
        network.grown = stage
        assert torch.allclose(network(z), conv(x, network.to_rgb[stage], gain=1), atol=1e-5)


def test_a_style_replaces_mean_and_deviation() -> None:
    torch.manual_seed(0)
    style = torch.randn(3, 10, dtype=torch.float64)
    maps = adain(7 * torch.randn(3, 5, 8, 8, dtype=torch.float64) + 3, style)
    assert torch.allclose(maps.mean((2, 3)), style[:, 5:])
    assert torch.allclose(maps.std((2, 3), correction=0), (style[:, :5] + 1).abs())
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: adain(x, style[:1, :4]), x)


def random_draw(sampler: Callable[..., Tensor], n: int, *shape: int, shared: bool = False) -> Tensor:
    return sampler(n, *shape)


def test_noise_begins_at_nothing_and_is_drawn_in_training_alone() -> None:
    network = StyleGANGenerator(**NARROW, **STYLED, mixing=0.0)
    z = torch.randn(4, 8)
    assert torch.equal(network(z, draw=random_draw), network(z))
    for layer in network.synthesis.layers:
        nn.init.ones_(layer.strength)
    assert torch.equal(network(z), network(z))
    assert not torch.equal(network(z, draw=random_draw), network(z, draw=random_draw))


def test_truncation_goes_to_the_average_which_mixing_does_not_move() -> None:
    network = generators()[1]
    z = torch.randn(4, 8)
    w = network.mapping(z)
    network(z, draw=random_draw)
    assert torch.allclose(network.mapping.average, 0.005 * w.mean(0))
    ws = network.truncate(w, 0.7, cutoff=3)
    assert torch.allclose(ws[:, :3], (network.mapping.average + 0.7 * (w - network.mapping.average))[:, None])
    assert torch.equal(ws[:, 3:], w[:, None].expand(-1, 5, -1))
    assert torch.equal(network(z, truncation=1.0), network(z))


@pytest.mark.parametrize("grown", [0.0, 0.5, 1.0, 3.0])
def test_styles_are_mixed_within_those_of_the_present_size(grown: float) -> None:
    network = generators()[1]
    network.grown = grown
    active = 2 * stage_of(grown)[0] + 2
    for place in (0.0, 0.999999):

        def draw(
            sampler: Callable[..., Tensor], n: int, *shape: int, shared: bool = False, place: float = place
        ) -> Tensor:
            return torch.tensor([0.5, place]) if shared else sampler(n, *shape)

        z = torch.randn(4, 8)
        own = (network.mixed(z, None, draw) == network.mapping(z)[:, None]).all(2).all(0)
        assert own[:active].sum() == (active - 1 if place else 1)


# ------------------------------------------------------------------------------------------ the fade


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("which", [0, 1])
def test_a_generator_fades_from_what_it_was_to_what_it_becomes(which: int, stage: int) -> None:
    network, z = generators()[which], torch.randn(4, 8)

    def images(grown: float) -> Tensor:
        network.grown = grown
        return network(z)

    coarse, fine = enlarge(images(stage - 1)), images(stage)
    assert fine.shape[-1] == 4 << stage
    assert not torch.allclose(coarse, fine, atol=1e-2)
    assert torch.allclose(images(stage - 1 + ALMOST), coarse, atol=1e-6)
    assert torch.allclose(images(stage - ALMOST), fine, atol=1e-6)
    assert torch.allclose(images(stage - 0.75), 0.75 * coarse + 0.25 * fine, atol=1e-5)


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("which", [0, 1])
def test_a_discriminator_fades_from_what_it_was_to_what_it_becomes(which: int, stage: int) -> None:
    network, images = discriminators()[which], torch.randn(4, 1, 4 << stage, 4 << stage)

    def logits(grown: float, images: Tensor = images) -> Tensor:
        network.grown = grown
        return network(images)

    coarse, fine = logits(stage - 1, shrink(images)), logits(stage)
    assert not torch.allclose(coarse, fine, atol=1e-2)
    assert torch.allclose(logits(stage - 1 + ALMOST), coarse, atol=1e-5)
    assert torch.allclose(logits(stage - ALMOST), fine, atol=1e-5)
    with pytest.raises(ConfigError, match="was given images of"):
        logits(stage - 1)


@pytest.mark.parametrize("which", [0, 1])
def test_layers_that_are_not_in_yet_have_no_gradient(which: int) -> None:
    network, judge = generators()[which], discriminators()[which]
    network.grown = judge.grown = 1.5
    judge(network(torch.randn(4, 8))).sum().backward()
    used = {name.rpartition(".")[0] for name, p in judge.named_parameters() if p.grad is not None}
    stages = {name.split(".")[1] for name in used if name.startswith("from_rgb")}
    assert stages == {"1", "2"}
    assert {name.split(".")[1] for name in used if name.startswith("blocks")} == {"0", "1"}
    used = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name.rpartition("to_rgb.")[2][0] for name in used if "to_rgb" in name} == {"1", "2"}


def test_real_images_fade_with_the_networks() -> None:
    """At 16 pixels of 32: the mean of 2x2, three quarters of it without what 8 pixels cannot show."""
    images = torch.randn(2, 3, 32, 32)
    fine = images.view(2, 3, 16, 2, 16, 2).mean((3, 5))
    coarse = fine.view(2, 3, 8, 2, 8, 2).mean((3, 5)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(grown_images(images, 1.25), 0.75 * coarse + 0.25 * fine, atol=1e-6)
    assert torch.allclose(grown_images(images, 2), fine, atol=1e-6)
    assert torch.equal(grown_images(images, 3), images)
    assert grown_images(images, 0).shape == (2, 3, 4, 4)


# ------------------------------------------------------------------------------------------ the schedule


def test_the_schedule_is_the_papers() -> None:
    """TrainingSchedule of the authors' code: lod = log2(R) - 2 less what is grown."""
    growth = Growth(0, 8, 600_000, 600_000)
    lods = {0: 8, 599_999: 8, 600_000: 8, 750_000: 7.75, 1_200_000: 7, 2_100_000: 6.5, 9_600_000: 0, 12_000_000: 0}
    assert {images: 8 - growth(images) for images in lods} == pytest.approx(lods)
    assert growth.end == 9_600_000
    assert Growth(1, 8, 600_000, 600_000)(1_200_000) == 2  # StyleGAN, from 8 pixels on
    assert [Growth(0, 2, 2, 0)(images) for images in (0, 1, 2, 4, 9)] == [0, 0, 1, 2, 2]
    assert Growth(3, 3, 5, 5)(0) == 3


def test_rates_follow_the_resolution() -> None:
    """1e-3, and 1.5e-3, 2e-3, 3e-3 from the first batch at 128, 256, 512 pixels."""
    rate = ByResolution(Growth(0, 8, 600_000, 600_000), [(128, 1.5), (256, 2.0), (512, 3.0)])
    at = {0: 1, 5_400_000: 1, 5_400_001: 1.5, 6_600_000: 1.5, 6_600_001: 2, 7_800_001: 3, 12_000_000: 3}
    assert {images: rate(images) for images in at} == at
    halved = ByResolution(rate.growth, rate.factors, also=lambda images: 0.5)
    assert halved(12_000_000) == 1.5


def model_of(folder: Path, *words: str, model: str = "pggan") -> tuple[Growing, Any]:
    cfg = small(folder, model, "data.batch_size=4", *words)
    check.require(cfg)
    data = build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    module = build.build_model(cfg)
    assert isinstance(module, Growing)
    return module, data


def test_a_run_reaches_the_full_resolution_whatever_its_length(tmp_path: Path) -> None:
    """The last resolution has four parts, each stage and fade before one: 600,000 of 12 million at 1024 pixels."""
    for resolution, images, part in ((32, 200_000, 20_000), (64, 200_000, 16_667), (1024, 12_000_000, 600_000)):
        with torch.device("meta"):
            sizes: dict[str, Any] = {"resolution": resolution, "channel_base": 8, "latent_dim": 8}
            parts = {"generator": PGGANGenerator(**sizes), "discriminator": PGGANDiscriminator(resolution, 3, 8)}
            module = Growing(images=images, loss=object(), optimizers={}, **parts)  # type: ignore[arg-type]
        assert (module.growth.stable, module.growth.fade) == (part, part)
        assert module.growth(images) == stage_of(module.generator.grown)[0] + (resolution.bit_length() - 3)
    module, _ = model_of(tmp_path, "images=200_000", "model.start_resolution=32")
    assert (module.grown, module.generator.grown, module.averages["generator"].network.grown) == (3, 3, 3)


def test_a_run_that_would_end_before_the_full_resolution_is_refused(tmp_path: Path) -> None:
    words = ["images=200_000", "model.stable_images=600_000", "model.fade_images=600_000"]
    with pytest.raises(ConfigError, match=r"32 x 32 pixels only after 3600000 images; type images=6000000 or leave"):
        model_of(tmp_path, *words)
    for words in (["model.start_resolution=12"], ["model.start_resolution=64"], ["model.start_resolution=2"]):
        with pytest.raises(ConfigError, match=r"a power of two from 4 to 32 is needed"):
            model_of(tmp_path, *words)
    with pytest.raises(ConfigError, match=r"model\.discriminator is a DCGANDiscriminator, which cannot grow"):
        Growing(16, generator=generators()[0], discriminator=DCGANDiscriminator(32, 1, 4), loss=object(), optimizers={})
    with pytest.raises(ConfigError, match=r"model\.stable_images=0: a whole number of 1 or more"):
        model_of(tmp_path, "model.stable_images=0", "model.fade_images=0")


GROWTH = ["images=64", "model.stable_images=8", "model.fade_images=8"]  # a fade of two batches, after two without


@pytest.mark.parametrize("model", ["pggan", "stylegan"])
def test_both_networks_and_the_real_images_grow_together(model: str, tmp_path: Path) -> None:
    module, data = model_of(tmp_path, *GROWTH, "model.start_resolution=4", model=model)
    sizes = []
    for batch in batches_of(data, 13):
        drive(module, [])
        module._seed_draws("discriminator")
        turn = PlayerUpdate(module, batch)
        assert turn.real.shape == turn.fake.shape
        assert torch.equal(turn.real, grown_images(batch["real"], module.grown))
        assert module.sample(torch.randn(2, 8)).shape == (2, 1, 32, 32)
        assert module.sample(torch.randn(2, 8), ema=False).shape == (2, 1, 32, 32)
        for network in (module.generator, module.discriminator, module.averages["generator"].network):
            assert network.grown == module.grown
        sizes.append((turn.real.shape[-1], module.grown))
        module.batches += 1
        module.images_seen += 4
        module.grow()
    fades = [(4, 0.0)] * 3 + [(8, 0.5)] + [(8, 1.0)] * 3 + [(16, 1.5)] + [(16, 2.0)] * 3 + [(32, 2.5), (32, 3.0)]
    assert sizes == fades


def test_what_the_optimizers_know_is_forgotten_where_a_fade_begins_and_ends(tmp_path: Path) -> None:
    """Fades are in the batches that begin with 12, 28 and 44 images, each of which ends one too."""
    module, data = model_of(tmp_path, *GROWTH)
    steps = []
    wanted = [*batches_of(data, 14)]
    drive(module, [])
    optimizer = module._optimizers["discriminator"].optimizer
    for index, batch in enumerate(wanted):
        module.training_step({"real": batch["real"]}, index)
        steps.append(max((int(state["step"]) for state in optimizer.state.values()), default=0))
    #         4  8  12 16 20 24 28 32 36 40 44 48 52 56 images
    assert steps == [1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2]
    module.flush()


def test_drift_is_of_the_real_images_alone(tmp_path: Path) -> None:
    """ε (2² + 0²) / 2 of logits 2 and 0."""
    module, data = model_of(tmp_path)
    turn = PlayerUpdate(module, next(batches_of(data, 1)))
    turn.__dict__["_real"] = (torch.tensor([2.0, 0.0]), None)
    assert module.techniques["drift"].term(turn).item() == pytest.approx(0.002)


def test_layers_that_are_not_in_yet_stay_as_they_are_and_so_do_their_averages(tmp_path: Path) -> None:
    module, data = model_of(tmp_path, *GROWTH)
    before = copy.deepcopy(module.state_dict())
    drive(module, batches_of(data, 2))
    after, average = module.state_dict(), "averages.generator.network."
    for name in ("to_rgb.3.weight", "blocks.0.0.weight", "blocks.2.3.bias"):
        assert torch.equal(before[f"generator.{name}"], after[f"generator.{name}"])
        assert torch.equal(before[f"{average}{name}"], after[f"{average}{name}"])
    assert not torch.equal(before["generator.to_rgb.0.weight"], after["generator.to_rgb.0.weight"])
    assert not torch.equal(before[f"{average}to_rgb.0.weight"], after[f"{average}to_rgb.0.weight"])
    assert torch.equal(before["discriminator.from_rgb.1.0.weight"], after["discriminator.from_rgb.1.0.weight"])
    module.flush()


@pytest.mark.parametrize("model", ["pggan", "stylegan"])
def test_a_run_goes_on_through_each_change_of_resolution(model: str, tmp_path: Path) -> None:
    """Stopped before a fade, in it and after it, it ends bit for bit where an unbroken one does."""
    words = [*GROWTH, "images=24", "data.batch_size=4", "model.start_resolution=16"]
    train(small(tmp_path / "whole", model, *words), every=64, extra=[_keep(tmp_path)])
    wanted = _state(tmp_path / "whole/checkpoints/last.ckpt")
    for images in (8, 12, 16):
        again = small(tmp_path / f"from-{images}", model, *words)
        train(again, checkpoint=tmp_path / f"{images}.ckpt", every=64)
        assert difference(wanted, _state(tmp_path / f"from-{images}/checkpoints/last.ckpt")) == {}, images


def _keep(folder: Path) -> Any:
    import lightning as L

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Growing, *_: Any) -> None:  # type: ignore[override]
            trainer.save_checkpoint(folder / f"{module.images_seen}.ckpt")

    return Keep()


def _state(path: Path) -> dict[str, Any]:
    state = resume.load(path)
    state["gan_experiments"].pop("config")
    return {key: state[key] for key in ("state_dict", "optimizer_states", "gan_experiments")}


def test_a_longer_run_keeps_the_schedule_that_it_began_with(tmp_path: Path) -> None:
    short, _ = model_of(tmp_path, "images=200_000")
    short.images_seen = 150_000
    checkpoint: dict[str, Any] = {}
    short.on_save_checkpoint(checkpoint)
    longer, _ = model_of(tmp_path, "images=800_000")
    longer.on_load_checkpoint(checkpoint)
    assert (longer.grown, longer.generator.grown, longer.discriminator.grown) == (3, 3, 3)
    typed, _ = model_of(tmp_path, "images=800_000", "model.stable_images=60_000")
    typed.on_load_checkpoint(checkpoint)
    assert typed.grown == 1 + (150_000 - 80_000 - 60_000) / 20_000


# ------------------------------------------------------------------------------------------ beside other code


# huangzh13/StyleGAN.pytorch b1dfc47 in float64 with the weights, noise and images of `formula`, by how far it has
# grown: the discriminator's loss and R1, the generator's loss, the gradients of either. Put right by NVIDIA's code: R1
# is the mean over the batch (there the sum), fromRGB is activated (not), the instance norm's ε is 1e-8 (1e-5), the
# synthesis takes the size of w (always 512), w is not truncated in training (it is).
STEPS: dict[float, tuple[tuple[float, float, float], Fingerprint, Fingerprint]] = {
    0.0: (
        (1.6967654888675616, 0.8493563616692369, 0.1778562153800465),
        (2.246299554633968, -0.019294517039263992, -0.48972321662919993),
        (0.23872654450877678, -0.3159695275474982, 0.22878579626087087),
    ),
    2.25: (
        (2.848657386174317, 0.012408674293288369, 0.07774839816613277),
        (3.534168050926854, 0.46515919065104566, -1.5298306514412676),
        (0.054448849439650705, 0.039250244136074475, 0.05013544838362265),
    ),
    3.0: (
        (2.556920963083816, 0.003958705669699926, 0.08235083731268376),
        (3.59075400396685, -1.9458631267735664, -1.0200122180893918),
        (0.03951564155051618, 0.029077596158225878, 0.0010311651936357252),
    ),
}


@pytest.mark.parametrize("grown", [0.0, 2.25, 3.0])
def test_stylegans_step_is_that_of_other_code(grown: float, tmp_path: Path) -> None:
    seen = {0.0: 0, 2.25: 18, 3.0: 21}[grown]
    losses, discriminator, generator = stylegan_step(tmp_path, seen)
    wanted = STEPS[grown]
    assert losses == pytest.approx(wanted[0], rel=1e-9)
    assert discriminator == pytest.approx(wanted[1], rel=1e-8)
    assert generator == pytest.approx(wanted[2], rel=1e-8)


def stylegan_step(folder: Path, images_seen: int) -> tuple[tuple[float, ...], Fingerprint, Fingerprint]:
    """R1 and the adversarial losses of both players, and their gradients, in the engine's own step."""
    words = ["images=64", "model.start_resolution=4", "model.stable_images=3", "model.fade_images=4"]
    module = build.build_model(small(folder, "stylegan", *words, "model.generator.mixing=0", "data=cifar10")).double()
    module.images_seen = images_seen
    for name in module.network_names:
        fill(getattr(module, name))
    found: dict[str, Fingerprint] = {}
    drive(module, [])
    for name, wrapped in module._optimizers.items():
        wrapped.optimizer.step = _recording(found, name, wrapped.optimizer)
    draws = itertools.count(1000)
    module.draw = lambda _, *shape: 2 * formula(next(draws), *shape)  # type: ignore[method-assign, assignment]
    module.training_step({"real": 2 * formula(2000, 4, 3, 32, 32)}, 0)
    terms = ("discriminator/adversarial", "discriminator/r1", "generator/adversarial")
    return tuple(module._history[term][0][1].item() for term in terms), found["discriminator"], found["generator"]


def fill(network: nn.Module) -> None:
    """Parameters of about the variance that they start with."""
    for k, (name, parameter) in enumerate(network.named_parameters()):
        parameter.data = (100 if "mapping" in name else 1) * 12**0.5 * formula(k, *parameter.shape)


def _recording(found: dict[str, Fingerprint], name: str, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    def step() -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        found[name] = fingerprint([gradient for gradient in gradients if gradient is not None])

    return step
