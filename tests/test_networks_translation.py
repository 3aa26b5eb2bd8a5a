"""Networks of image-to-image translation and restoration; the official implementations stand behind the numbers."""

import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_networks import count, fill, waves
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from gan_experiments import distributed
from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.layers.dropout import DrawnDropout
from gan_experiments.layers.spectral_norm import SpectralNorm
from gan_experiments.losses.penalties import gradient_penalty, r1_penalty
from gan_experiments.networks.bicyclegan import LatentEncoder, LatentUNet, MultiScaleDiscriminator
from gan_experiments.networks.context_encoder import ContextDiscriminator, ContextEncoder
from gan_experiments.networks.cyclegan import ResNetTranslator
from gan_experiments.networks.esrgan import (
    RRDB,
    DenseBlock,
    RRDBNet,
    UNetDiscriminator,
    VGGDiscriminator,
    interpolate,
)
from gan_experiments.networks.patchgan import PixelDiscriminator
from gan_experiments.networks.pix2pix import UNet
from gan_experiments.networks.srgan import MSRResNet, SRGANDiscriminator, SRResNet
from gan_experiments.networks.stargan import StarGANDiscriminator, StarGANGenerator
from gan_experiments.networks.zi2zi import FontDiscriminator, FontUNet

# Each was counted on the official PyTorch code; but those of zi2zi, SRGAN and the context encoder were added up, from
# TensorFlow's, the paper's and Torch's lists of layers.
COUNTS = {
    "U-Net 256, batch norm": (UNet, 54_413_955),
    "U-Net 256, instance norm": (lambda: UNet(norm="instance"), 54_409_603),
    "U-Net 128, instance norm": (lambda: UNet(resolution=128, norm="instance"), 41_825_667),
    "PixelGAN": (PixelDiscriminator, 8_705),
    "PixelGAN of pix2pix": (lambda: PixelDiscriminator(6), 8_897),
    "CycleGAN G, 6 blocks, batch norm": (lambda: ResNetTranslator(blocks=6, norm="batch"), 7_841_411),
    "CycleGAN G, 9 blocks, batch norm": (lambda: ResNetTranslator(norm="batch"), 11_383_427),
    "BicycleGAN G, z everywhere": (LatentUNet, 54_794_627),
    "BicycleGAN G, z in the input": (lambda: LatentUNet(latent_at="input"), 54_417_795),
    "BicycleGAN D": (MultiScaleDiscriminator, 3_458_978),
    "BicycleGAN E": (LatentEncoder, 2_590_032),
    "StarGAN G, CelebA": (StarGANGenerator, 8_430_528),
    "StarGAN D, CelebA": (StarGANDiscriminator, 44_762_048),
    "StarGAN G, RaFD": (lambda: StarGANGenerator(classes=8), 8_439_936),
    "StarGAN D, RaFD": (lambda: StarGANDiscriminator(classes=8), 44_786_624),
    "zi2zi G": (FontUNet, 86_661_187),
    "zi2zi D": (FontDiscriminator, 25_809_001),
    "SRGAN G": (SRResNet, 1_549_462),
    "SRGAN D": (SRGANDiscriminator, 23_565_505),
    "MSRResNet x4": (MSRResNet, 1_517_571),
    "MSRResNet x3": (lambda: MSRResNet(3), 1_554_499),
    "MSRResNet x2": (lambda: MSRResNet(2), 1_369_859),
    "ESRGAN G x4": (RRDBNet, 16_697_987),
    "ESRGAN G x2": (lambda: RRDBNet(2), 16_703_171),
    "ESRGAN G, 16 blocks": (lambda: RRDBNet(blocks=16), 11_662_019),
    "ESRGAN D 128": (VGGDiscriminator, 14_499_401),
    "ESRGAN D 256": (lambda: VGGDiscriminator(256), 21_055_049),
    "Real-ESRGAN D": (UNetDiscriminator, 4_376_897),
    "Context encoder": (ContextEncoder, 71_130_531),
    "Context encoder, bottleneck of 100": (lambda: ContextEncoder(bottleneck=100), 7_221_231),
    "Context encoder D": (ContextDiscriminator, 2_766_529),
}


@pytest.mark.parametrize("case", COUNTS)
def test_parameter_counts_are_the_official_ones(case):
    build, expected = COUNTS[case]
    with torch.device("meta"):
        assert count(build()) == expected


class BothHeads(nn.Module):
    """A discriminator with an auxiliary classifier, through all that it has."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, images):
        features = self.discriminator.features(images)
        return self.discriminator.head(features), self.discriminator.classify(features)


def font_unet():
    network = FontUNet(3, 32, 3, 4, 2, dropout=0.0)
    network.embedding.copy_(waves(3, 2))
    return network


ATTRIBUTES = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0]])
FONTS = torch.tensor([0, 2])
PHOTO, LARGER, SMALL_PHOTO = (2, 3, 32, 32), (2, 3, 64, 64), (2, 3, 8, 8)

# Small copies of every network, each with an input for it.
SMALL: dict[str, tuple[Callable[[], nn.Module], tuple]] = {
    "unet": (lambda: UNet(3, 2, 32, 4, "batch", 0.0), (PHOTO,)),
    "unet_instance": (lambda: UNet(3, 2, 32, 4, "instance", 0.0), (PHOTO,)),
    "unet_64": (lambda: UNet(3, 2, 64, 2, "batch", 0.0), (LARGER,)),
    "translator_batch": (lambda: ResNetTranslator(3, 2, 4, 2, "batch"), (PHOTO,)),
    "pixel": (lambda: PixelDiscriminator(3, 4), (PHOTO,)),
    "pixel_batch": (lambda: PixelDiscriminator(3, 4, "batch"), (PHOTO,)),
    "latent_unet": (lambda: LatentUNet(3, 2, 64, 2, latent_dim=3), (LARGER, (2, 3))),
    "latent_unet_input": (lambda: LatentUNet(3, 2, 64, 2, latent_dim=3, latent_at="input"), (LARGER, (2, 3))),
    "latent_encoder": (lambda: LatentEncoder(3, 3, 64, 4), (LARGER,)),
    "multi_scale": (lambda: MultiScaleDiscriminator(3, 4), (LARGER,)),
    "stargan_g": (lambda: StarGANGenerator(3, 5, 4, 2), (PHOTO, ATTRIBUTES)),
    "stargan_d": (lambda: BothHeads(StarGANDiscriminator(64, 3, 5, 2, 5)), (LARGER,)),
    "zi2zi_g": (font_unet, (PHOTO, FONTS)),
    "zi2zi_d": (lambda: BothHeads(FontDiscriminator(3, 16, 6, 4)), ((2, 6, 16, 16),)),
    "srresnet": (lambda: SRResNet(2, 3, 4, 2), (SMALL_PHOTO,)),
    "srgan_d": (lambda: SRGANDiscriminator(32, 3, 2), (PHOTO,)),
    "msrresnet_x2": (lambda: MSRResNet(2, 3, 4, 2), (SMALL_PHOTO,)),
    "msrresnet_x3": (lambda: MSRResNet(3, 3, 4, 2), (SMALL_PHOTO,)),
    "msrresnet_x4": (lambda: MSRResNet(4, 3, 4, 2), (SMALL_PHOTO,)),
    "rrdb_x2": (lambda: RRDBNet(2, 3, 4, 2, 3), (SMALL_PHOTO,)),
    "rrdb_x4": (lambda: RRDBNet(4, 3, 4, 2, 3), (SMALL_PHOTO,)),
    "vgg_d": (lambda: VGGDiscriminator(128, 3, 2), ((2, 3, 128, 128),)),
    "unet_d": (lambda: UNetDiscriminator(3, 4), (PHOTO,)),
    "context_encoder": (lambda: ContextEncoder(32, 3, 2, 6), (PHOTO,)),
    "context_encoder_random": (lambda: ContextEncoder(32, 3, 2, 6, "random"), (PHOTO,)),
    "context_d": (lambda: ContextDiscriminator(32, 3, 2), (PHOTO,)),
}


def inputs(case, make=torch.randn):
    return [value if isinstance(value, torch.Tensor) else make(value) for value in SMALL[case][1]]


def flat(output):
    return torch.cat([part.flatten() for part in output]) if isinstance(output, (tuple, list)) else output.flatten()


# Sum, sum of squares and first value of the output, float64, training mode, weights by `fill`, input `waves`. Each was
# recorded from ours when the official module with the same weights differed by 0.0 (BicycleGAN's by 3e-16): models/
# networks.py of pytorch-CycleGAN-and-pix2pix (fork arkalim c941617) and of BicycleGAN 40b9d52, stargan 94dd002's
# model.py, BasicSR 8d56e3a's archs. zi2zi's are of ours when it agreed at 256 pixels with zi2zi 546025f's
# model/unet.py, run by TensorFlow 2 without dropout, to 6e-6 (float32). There is no code to run for SRGAN's and the
# context encoder's.
GOLDEN = {
    "unet": (252.3397724618337, 137.17112036800265, 0.09079894451407376),
    "unet_instance": (382.9850909150846, 321.4942230066048, 0.0771567746246237),
    "unet_64": (836.6389377839046, 126.42566093297319, -0.04320971967925559),
    "translator_batch": (-382.1295288062376, 58.20484260975192, -0.1041141103505475),
    "pixel": (288.1748649706732, 51.5259837962067, 0.029801260808464857),
    "pixel_batch": (53.98330805931578, 1.4553292214866311, 0.02610117136029466),
    "latent_unet": (-385.7229488368897, 1249.5632765015407, 0.07446257540744991),
    "latent_unet_input": (-387.55364924108335, 1161.9662316637182, 0.03530923389239252),
    "latent_encoder": (-0.6062111750911711, 0.07312580090058018, -0.09373815387429572),
    "multi_scale": (-4.12911906109939, 8.712109807488087, 0.32536845882179527),
    "stargan_g": (0.07907585829017048, 3.7147857673406577, -0.004374923915123689),
    "stargan_d": (-0.44317846477719314, 0.039101148855552915, -0.013220556920589833),
    "msrresnet_x2": (-95.02782387402978, 655.0932433002644, -0.09508351567170312),
    "msrresnet_x3": (-200.20424373617976, 1522.9469500426183, -0.0917194354390074),
    "msrresnet_x4": (411.8945756287296, 2674.222034247239, -0.02670364238274266),
    "rrdb_x2": (-107.38521385669915, 8.852987523534505, -0.031248400492203784),
    "rrdb_x4": (-432.9011324049485, 35.922202774387586, -0.03125103036060589),
    "zi2zi_g": (-421.6522837981829, 129.6941727271393, 0.009561572302001308),
    "zi2zi_d": (-0.1108338984215374, 0.024726958472965573, -0.09189011637989554),
    "vgg_d": (0.09659379462101249, 0.005089790156468524, 0.0628675798069673),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_outputs(case):
    output = flat(fill(SMALL[case][0]())(*inputs(case, lambda shape: waves(*shape))))
    measured = (output.sum().item(), output.square().sum().item(), output[0].item())
    assert measured == pytest.approx(GOLDEN[case], abs=1e-5)


@pytest.mark.parametrize("case", SMALL)
def test_the_memory_layout_does_not_matter(case):
    network = SMALL[case][0]().double().eval()
    given = [value.double() if value.is_floating_point() else value for value in inputs(case)]
    expected = flat(network(*given))
    assert expected.dtype == torch.float64
    network.to(memory_format=torch.channels_last)
    given[0] = given[0].to(memory_format=torch.channels_last)
    torch.testing.assert_close(flat(network(*given)), expected)


@pytest.mark.parametrize("case", SMALL)
def test_every_parameter_learns_and_the_state_survives(case):
    build, _ = SMALL[case]
    first, second, given = build(), build(), inputs(case)
    flat(first(*given)).square().sum().backward()
    assert all(p.grad is not None for p in first.parameters())
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(flat(first.eval()(*given)), flat(second.eval()(*given)))


@pytest.mark.parametrize("case", ["pixel", "multi_scale", "stargan_d", "unet_d"])
def test_penalties_differentiate_twice(case):
    network, (images,) = SMALL[case][0](), inputs(case)
    critic = lambda x: flat(network(x))  # noqa: E731
    (gradient_penalty(critic, images, images.flip(0), torch.rand(2)) + r1_penalty(critic, images)).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


# ---------------------------------------------------------------- dropout and U-Nets


def draws(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda sampler, *shape: sampler(shape, generator=generator)


def test_dropout_keeps_half_and_doubles_it():
    ones = torch.ones(2, 50, 10, 10)
    dropped = DrawnDropout(0.5).eval()(ones, draws(0))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert DrawnDropout(0.2)(ones, draws(0)).mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(DrawnDropout(0.5).eval()(ones), ones)  # without a draw it is nn.Dropout
    assert not torch.equal(DrawnDropout(0.5).train()(ones), ones)


@pytest.mark.parametrize(
    ("network", "labels"),
    [(lambda: UNet(3, 3, 32, 4, "instance"), ()), (lambda: FontUNet(3, 32, 3, 4).eval(), (FONTS,))],
)
def test_two_ranks_drop_what_one_does(network, labels, monkeypatch):
    network, images = network(), torch.randn(PHOTO)
    assert network.drawn

    def translated(rank, ranks):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: ranks)
        module = AdversarialModule({"generator": network}, {})
        module._seed_draws("generator")
        n = len(images) // ranks
        rows = slice(rank * n, (rank + 1) * n)
        return network(images[rows], *(label[rows] for label in labels), draw=module.draw)

    whole = translated(0, 1)
    torch.testing.assert_close(torch.cat([translated(0, 2), translated(1, 2)]), whole, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(network(images, *labels, draw=draws(8)), whole, atol=1e-5)


@pytest.mark.parametrize(("build", "labels"), [(UNet, ()), (lambda **k: FontUNet(classes=3, **k), (FONTS,))])
def test_dropout_is_in_the_three_innermost_layers_of_the_decoder(build, labels):
    drawn = []

    def draw(sampler, *shape):
        drawn.append(shape)
        return sampler(shape)

    build(resolution=128, width=2)(torch.randn(2, 3, 128, 128), *labels, draw=draw)
    assert drawn == [(2, 16, 2, 2), (2, 16, 4, 4), (2, 16, 8, 8)]


def test_unet_translates_as_it_trains_and_one_image_at_a_time():
    """The paper's test-time batch norm: its own batch's statistics, and a bottleneck that a batch of one survives."""
    network, images = UNet(3, 3, 32, 4), torch.randn(PHOTO)
    assert torch.equal(network.train()(images, draws(0)), network.eval()(images, draws(0)))
    deep = []
    network.encoder[-1].register_forward_hook(lambda *call: deep.append(call[2]))
    assert network(images[:1]).shape == (1, 3, 32, 32)
    assert deep[0].shape == (1, 32, 1, 1)
    assert deep[0].abs().max() > 0


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256])
def test_unet_at_every_resolution(resolution):
    network = UNet(1, 3, resolution, 1, "instance")
    assert network.multiple == resolution
    with torch.no_grad():
        made = network(torch.randn(1, 1, resolution, 2 * resolution))
    assert made.shape == (1, 3, resolution, 2 * resolution)
    assert made.abs().max() <= 1


@pytest.mark.parametrize("network", [UNet, PixelDiscriminator, ContextEncoder, FontUNet, FontDiscriminator])
def test_normal_init_has_std_002(network):
    torch.manual_seed(0)
    weights = torch.cat([p.flatten() for p in network(width=16).parameters() if p.ndim == 4])
    cut = 0.88 if network is FontDiscriminator else 1  # of a normal cut off at two deviations
    assert weights.std().item() == pytest.approx(0.02 * cut, rel=0.08)


# ---------------------------------------------------------------- PixelGAN, BicycleGAN


def test_a_pixels_logit_sees_that_pixel_alone():
    images = torch.randn(1, 3, 6, 6, requires_grad=True)
    logits = PixelDiscriminator(3, 4, norm="none")(images)
    assert logits.shape == (1, 1, 6, 6)
    (gradient,) = torch.autograd.grad(logits[0, 0, 2, 3], images)
    assert gradient.abs().sum(dim=(0, 1)).nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize("latent_at", ["all", "input"])
def test_z_changes_the_translation(latent_at):
    torch.manual_seed(0)
    network = fill(LatentUNet(3, 3, 32, 2, latent_dim=3, latent_at=latent_at))
    images = waves(*PHOTO)
    apart = network(images, torch.zeros(2, 3).double()) - network(images, torch.ones(2, 3).double())
    assert apart.abs().mean() > 1e-3
    widths = [layer.in_channels for layer in network.unet.encoder]
    assert widths == ([6, 5, 7, 11, 19] if latent_at == "all" else [6, 2, 4, 8, 16])


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_latent_encoder_at_every_resolution(resolution):
    mean, log_variance = LatentEncoder(3, 8, resolution, 2)(torch.randn(2, 3, resolution, resolution))
    assert mean.shape == log_variance.shape == (2, 8)


def test_bicyclegan_starts_from_xaviers_weights():
    torch.manual_seed(0)
    encoder = LatentEncoder(width=32)
    for layer, fans in ((encoder.layers[1].conv1, 9 * (32 + 32)), (encoder.layers[3].shortcut, 96 + 128)):
        assert layer.weight.std().item() == pytest.approx(0.02 * (2 / fans) ** 0.5, rel=0.03)
    patches = MultiScaleDiscriminator(width=32).patches[1].layers[2]
    assert patches.weight.std().item() == pytest.approx(0.02 * (2 / (16 * (16 + 32))) ** 0.5, rel=0.03)


def test_multi_scale_discriminator_sees_half_the_size_with_half_the_width():
    fine, coarse = MultiScaleDiscriminator(3, 4)(torch.randn(1, 3, 256, 256))
    assert (fine.shape, coarse.shape) == ((1, 1, 30, 30), (1, 1, 14, 14))


# ---------------------------------------------------------------- StarGAN, zi2zi


def test_stargan_hears_its_attributes():
    """Reflections would pad a constant map by itself, and instance norm would take it away."""
    network, images = StarGANGenerator(3, 5, 4, 1), torch.randn(PHOTO)
    other = network(images, 1 - ATTRIBUTES)
    assert (network(images, ATTRIBUTES) - other).abs().max() > 1e-3
    assert torch.equal(network.eval()(images, 1 - ATTRIBUTES.long()), other)  # no running statistics


@pytest.mark.parametrize(("resolution", "layers", "left"), [(128, 6, 2), (64, 6, 1), (64, 5, 2), (32, 5, 1)])
def test_stargan_discriminator_has_two_heads(resolution, layers, left):
    network = StarGANDiscriminator(resolution, 3, 5, 1, layers)
    images = torch.randn(2, 3, resolution, resolution)
    features = network.features(images)
    assert network(images).shape == (2, 1, left, left)
    assert network.classify(features).shape == (2, 5)
    assert {layer.negative_slope for layer in network.layers if isinstance(layer, nn.LeakyReLU)} == {0.01}


def test_fonts_are_told_apart_by_a_table_that_does_not_learn():
    torch.manual_seed(0)
    network, images = FontUNet(3, 32, 3, 4, dropout=0.0), torch.randn(PHOTO)
    names = {name for name, _ in network.named_parameters()}
    assert "embedding" not in names
    assert network.state_dict()["embedding"].shape == (3, 128)
    with torch.device("meta"):
        assert FontUNet().embedding.numel() == 5_120
    assert network.embedding.std().item() == pytest.approx(0.01, rel=0.15)
    network.embedding.mul_(100)
    assert (network(images, FONTS) - network(images, FONTS.flip(0))).abs().max() > 1e-3
    assert network.encode(images).shape == (2, 32, 1, 1)


def test_font_discriminator_has_two_heads():
    network, images = FontDiscriminator(4, 64, 6, 2), torch.randn(2, 6, 64, 64)
    features = network.features(images)
    assert features.shape == (2, 16 * 8 * 8)
    assert network(images).shape == (2,)
    assert network.classify(features).shape == (2, 4)


# ---------------------------------------------------------------- super-resolution


@pytest.mark.parametrize("network", [SRResNet, MSRResNet])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_shuffled_networks_enlarge(network, scale):
    assert network(scale, 1, 2, 1)(torch.randn(1, 1, 5, 7)).shape == (1, 1, 5 * scale, 7 * scale)


@pytest.mark.parametrize("scale", [2, 4])
def test_rrdbnet_enlarges(scale):
    network = RRDBNet(scale, 1, 2, 1, 2)
    assert network(torch.randn(1, 1, 6, 10)).shape == (1, 1, 6 * scale, 10 * scale)
    assert (network.multiple, network.first.in_channels) == {2: (2, 4), 4: (1, 1)}[scale]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_msrresnet_starts_from_the_bilinear_enlargement(scale):
    network, images = MSRResNet(scale, 3, 4, 1), torch.randn(SMALL_PHOTO)
    nn.init.zeros_(network.last[2].weight)
    expected = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(images), expected)


def test_a_dense_block_with_nothing_to_add():
    """Then each of an RRDB's three is the identity, and it adds a fifth of x: 0.2 counts at both places."""
    block, x = RRDB(4, 3), torch.randn(1, 4, 5, 5)
    for dense in block.blocks:
        nn.init.zeros_(dense.convolutions[-1].weight)
        assert torch.equal(dense(x), x)
    torch.testing.assert_close(block(x), 1.2 * x)
    dense = DenseBlock(4, 3)
    for convolution in dense.convolutions:
        nn.init.zeros_(convolution.weight)
    nn.init.ones_(dense.convolutions[-1].bias)
    torch.testing.assert_close(dense(x), x + 0.2)


def test_restoration_networks_start_small():
    torch.manual_seed(0)
    for convolution in (MSRResNet(4, 3, 32, 1).enlarge[0], DenseBlock(32, 32).convolutions[0]):
        fan_in = convolution.weight[0].numel()
        assert convolution.weight.std().item() == pytest.approx(0.1 * (2 / fan_in) ** 0.5, rel=0.03)


def test_network_interpolation_is_linear_in_the_weights():
    torch.manual_seed(0)
    networks = [SRResNet(2, 3, 4, 1) for _ in range(2)]
    networks[1](torch.randn(SMALL_PHOTO))  # moves batch norm's averages and its count
    first, second = (network.state_dict() for network in networks)
    for alpha in (0.0, 0.3, 1.0):
        between = interpolate(first, second, alpha)
        for name, value in between.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, (1 - alpha) * first[name] + alpha * second[name])
        networks[0].load_state_dict(between)
    with pytest.raises(ConfigError, match=r"differ in body\.0\.layers\.0\.bias: .* same model"):
        interpolate(first, SRResNet(2, 3, 8, 1).state_dict(), 0.5)


def test_unet_discriminator_is_normalised_but_for_its_ends():
    network = UNetDiscriminator(3, 4)
    layers = {name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    plain = {name for name in layers if not is_parametrized(network.get_submodule(name), "weight")}
    assert (len(layers), plain) == (10, {"first", "last.4"})
    assert sum(isinstance(layer, SpectralNorm) for layer in network.modules()) == 8
    assert network(torch.randn(2, 3, 16, 24)).shape == (2, 1, 16, 24)


@pytest.mark.parametrize("resolution", [16, 32, 64, 256])
def test_vgg_discriminator_fits_its_crops(resolution):
    assert VGGDiscriminator(resolution, 3, 1)(torch.randn(2, 3, resolution, resolution)).shape == (2,)


@pytest.mark.parametrize("resolution", [32, 64, 96])
def test_srgan_discriminator_fits_its_crops(resolution):
    network = SRGANDiscriminator(resolution, 3, 2)
    assert network(torch.randn(2, 3, resolution, resolution)).shape == (2,)
    widths = [layer.out_channels for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert widths == [2, 2, 4, 4, 8, 8, 16, 16]


# ---------------------------------------------------------------- context encoder


@pytest.mark.parametrize(("region", "share"), [("centre", 2), ("random", 1)])
@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_context_encoder_at_every_resolution(resolution, region, share):
    network = ContextEncoder(resolution, 3, 1, 4, region)
    made = network(torch.randn(2, 3, resolution, resolution))
    assert made.shape == (2, 3, resolution // share, resolution // share)
    assert ContextDiscriminator(resolution // share, 3, 1)(made).shape == (2,)


def test_context_encoder_has_the_authors_widths():
    read = [layer.out_channels for layer in ContextEncoder(128, 3, 64, 10).layers if isinstance(layer, nn.Conv2d)]
    assert read == [64, 64, 128, 256, 512, 10]
    random = ContextEncoder(128, 3, 64, 10, "random").layers
    made = [layer.out_channels for layer in random if isinstance(layer, nn.ConvTranspose2d)]
    assert made == [512, 256, 128, 64, 64, 3]


# ---------------------------------------------------------------- what cannot be


def photo(side, channels=3, n=2):
    return torch.zeros(n, channels, side, side)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: UNet(resolution=100), r"UNet cannot make .* 100: .* type data\.resolution=64 or 128"),
        (lambda: UNet(norm="layer"), r"UNet was given norm=layer: type norm=instance"),
        (lambda: UNet(latent_at="end"), r"latent_at=end: type latent_at=all or latent_at=input"),
        (lambda: UNet(3, 3, 32, 2)(photo(48)), r"images of 48x48: .* 32 divides.*type data\.resolution=64"),
        (lambda: ResNetTranslator(norm="layer"), r"ResNetTranslator was given norm=layer"),
        (lambda: PixelDiscriminator(norm="layer"), r"PixelDiscriminator was given norm=layer"),
        (lambda: LatentUNet(resolution=8), r"UNet cannot make .* 8: .* type data\.resolution=16"),
        (lambda: LatentEncoder(resolution=16), r"LatentEncoder cannot .* 16: .* type data\.resolution=32"),
        (lambda: LatentEncoder(resolution=64, width=2)(photo(20)), r"LatentEncoder .* 20x20: .* 8 divides"),
        (lambda: MultiScaleDiscriminator(3, 4)(photo(40)), r"40x40: .* of 48 pixels or more; type data\.resolution=48"),
        (lambda: StarGANGenerator(3, 5, 2, 1)(photo(30), ATTRIBUTES), r"30x30: .* 4 divides"),
        (lambda: StarGANDiscriminator(70), r"resolution of 70: .* 64 divides; type data\.resolution=64$"),
        (lambda: StarGANDiscriminator(32, 3, 5, 1, 5)(photo(64)), r"64x64: .* type data\.resolution=32"),
        (lambda: FontUNet(resolution=100), r"FontUNet cannot make .* 100"),
        (lambda: FontUNet(3, 32, 3, 2)(photo(32, n=1), FONTS[:1]), r"FontUNet .* one image: .* type data\.batch_size"),
        (lambda: FontDiscriminator(resolution=100), r"100: .* 8 divides; type data\.resolution=96"),
        (lambda: FontDiscriminator(3, 32, 6, 2)(photo(64, 6)), r"64x64: .* type data\.resolution=32"),
        (lambda: SRResNet(5), r"SRResNet cannot enlarge 5 times: type data\.scale=2, 3, 4 or 8"),
        (lambda: MSRResNet(6), r"MSRResNet cannot enlarge 6 times"),
        (lambda: SRGANDiscriminator(100), r"100: .* 16 divides; type data\.resolution=96"),
        (lambda: SRGANDiscriminator(32, 3, 2)(photo(48)), r"48x48: .* type data\.resolution=32"),
        (lambda: RRDBNet(3), r"RRDBNet cannot enlarge 3 times: type data\.scale=2 or data\.scale=4"),
        (lambda: RRDBNet(2, 3, 2, 1, 2)(photo(9)), r"9x9: .* 2 divides"),
        (lambda: VGGDiscriminator(96), r"VGGDiscriminator cannot make .* 96: .* type data\.resolution=64 or 128"),
        (lambda: VGGDiscriminator(32, 3, 2)(photo(64)), r"64x64: .* type data\.resolution=32"),
        (lambda: UNetDiscriminator(3, 2)(photo(20)), r"20x20: .* 8 divides.*type data\.resolution=16"),
        (lambda: ContextEncoder(16), r"ContextEncoder cannot .* 16: .* type data\.resolution=32"),
        (lambda: ContextEncoder(region="left"), r"region=left: type region=centre or region=random"),
        (lambda: ContextEncoder(32, 3, 2, 4)(photo(64)), r"64x64: .* type data\.resolution=32"),
        (lambda: ContextEncoder(32, 3, 2, 4)(photo(32, n=1)), r"ContextEncoder .* one image: .* data\.batch_size"),
        (lambda: ContextDiscriminator(64, 3, 2)(photo(32)), r"32x32: .* type data\.resolution=64"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(attempt, message):
    # Those that only fail in forward are small; the others fail before there are weights.
    with pytest.raises(ConfigError, match=message) as caught:
        attempt()
    assert "\n" not in str(caught.value)


def test_one_image_passes_in_evaluation_mode():
    assert ContextEncoder(32, 3, 2, 4).eval()(photo(32, n=1)).shape == (1, 3, 16, 16)
    assert FontUNet(3, 32, 3, 2).eval()(photo(32, n=1), FONTS[:1]).shape == (1, 3, 32, 32)
