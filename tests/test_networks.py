"""Every network through the same tests; the official implementations stand behind the golden numbers."""

import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.losses.penalties import gradient_penalty, r1_penalty
from gan_experiments.networks.cyclegan import ResNetTranslator
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.patchgan import PatchDiscriminator
from gan_experiments.networks.wgan_gp import (
    ConvCritic,
    ConvGenerator,
    PyramidResNetCritic,
    PyramidResNetGenerator,
    ResidualBlock,
    ResNetCritic,
    ResNetGenerator,
    SameConv,
    SameConvTranspose,
)

GENERATORS = [DCGANGenerator, ResNetGenerator, PyramidResNetGenerator, ConvGenerator]
DISCRIMINATORS = [DCGANDiscriminator, ResNetCritic, PyramidResNetCritic, ConvCritic]
PAIRS = list(zip(GENERATORS, DISCRIMINATORS, strict=True))

COUNTS = {
    "DCGAN G": (DCGANGenerator, 3_576_704),
    "DCGAN D": (DCGANDiscriminator, 2_765_568),
    "DCGAN G, grey": (lambda: DCGANGenerator(channels=1), 3_574_656),
    "DCGAN D, grey": (lambda: DCGANDiscriminator(channels=1), 2_763_520),
    "DCGAN G, no batch norm": (lambda: DCGANGenerator(batch_norm=False), 3_574_784),
    "DCGAN G, the paper's width": (lambda: DCGANGenerator(width=128), 12_658_432),
    "WGAN-GP ResNet G": (ResNetGenerator, 1_204_483),
    "WGAN-GP ResNet D": (ResNetCritic, 1_053_825),
    "WGAN-GP Good G": (PyramidResNetGenerator, 8_540_483),
    "WGAN-GP Good D": (PyramidResNetCritic, 7_491_841),
    "WGAN-GP DCGAN G": (ConvGenerator, 5_179_907),
    "WGAN-GP DCGAN D": (ConvCritic, 4_114_689),
    "CycleGAN G, 9 blocks": (ResNetTranslator, 11_378_179),
    "CycleGAN G, 6 blocks": (lambda: ResNetTranslator(blocks=6), 7_837_699),
    "PatchGAN": (PatchDiscriminator, 2_764_737),
    "PatchGAN, batch norm": (lambda: PatchDiscriminator(norm="batch"), 2_765_633),
    "PatchGAN of pix2pix": (lambda: PatchDiscriminator(channels=6, norm="batch"), 2_768_705),
    "PatchGAN, 1 layer": (lambda: PatchDiscriminator(channels=6, layers=1), 139_457),
    "PatchGAN, 5 layers": (lambda: PatchDiscriminator(channels=6, layers=5), 11_157_441),
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("case", COUNTS)
def test_parameter_counts_are_the_official_ones(case):
    build, expected = COUNTS[case]
    with torch.device("meta"):
        assert count(build()) == expected


def test_cyclegan_has_28_million_parameters():
    with torch.device("meta"):
        assert 2 * count(ResNetTranslator()) + 2 * count(PatchDiscriminator()) == 28_285_832


# Small copies of every network, each with an input for it.
SMALL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dcgan_g": (lambda: DCGANGenerator(10, 64, 3, 4), (3, 10)),
    "dcgan_d": (lambda: DCGANDiscriminator(64, 3, 4), (3, 3, 64, 64)),
    "resnet_g": (lambda: ResNetGenerator(10, 32, 3, 4), (3, 10)),
    "resnet_d": (lambda: ResNetCritic(32, 3, 4), (3, 3, 32, 32)),
    "pyramid_g": (lambda: PyramidResNetGenerator(10, 64, 3, 2), (3, 10)),
    "pyramid_d": (lambda: PyramidResNetCritic(64, 3, 2), (3, 3, 64, 64)),
    "conv_g": (lambda: ConvGenerator(10, 32, 3, 4), (3, 10)),
    "conv_d": (lambda: ConvCritic(32, 3, 4), (3, 3, 32, 32)),
    "translator": (lambda: ResNetTranslator(3, 2, 4, blocks=2), (2, 3, 32, 32)),
    "patch": (lambda: PatchDiscriminator(3, 4), (2, 3, 64, 64)),
    "patch_batch_norm": (lambda: PatchDiscriminator(6, 4, norm="batch"), (2, 6, 64, 64)),
}
CRITICS = ["dcgan_d", "resnet_d", "pyramid_d", "conv_d", "patch"]


def waves(*shape: int) -> Tensor:
    return torch.sin(0.123 * torch.arange(torch.Size(shape).numel(), dtype=torch.float64)).view(shape)


def fill(network: nn.Module) -> nn.Module:
    """Weights by a formula, parameter by parameter in their order, so that any implementation can be given the same."""
    network.double()
    for i, parameter in enumerate(network.parameters()):
        values = 0.1 * torch.cos(torch.arange(parameter.numel(), dtype=torch.float64) * (0.37 + 0.01 * i) + i)
        parameter.data = values.view(parameter.shape)
    return network


# Sum, sum of squares and first value of the output, float64, training mode, weights by `fill`, input `waves`.
# DCGAN: pytorch/examples' dcgan/main.py without its sigmoid. translator and patches: models/networks.py of
# pytorch-CycleGAN-and-pix2pix (fork arkalim c941617). Both were filled and run beside ours: difference 0.0.
# The WGAN-GP networks were recorded from ours when they agreed with igul222/improved_wgan_training fa66c57, run by
# TensorFlow 2 with the same random weights, scales and biases, to 1e-5 (float32) at the output.
GOLDEN = {
    "dcgan_g": (-46.87553606754024, 6.091325625724224, -0.003883413943400082),
    "dcgan_d": (-0.3816266490326043, 0.04862403149399646, -0.12024855693634348),
    "translator": (370.8614621044778, 1231.765751657972, 0.29555127407195975),
    "patch": (-5.750810648940874, 7.200289700409855, 0.32536845882179527),
    "patch_batch_norm": (4.677932339998705, 0.39127974648653385, 0.060619218241965256),
    "resnet_g": (-306.00461460944564, 36.03146926236887, -0.06648685629691867),
    "resnet_d": (-0.1653707413346469, 0.009115830668207967, -0.05507981033077058),
    "pyramid_g": (-1783.1028319635318, 189.13615687124855, -0.02325539161498189),
    "pyramid_d": (0.07940333542919913, 0.0021020392807893913, 0.0259468703582614),
    "conv_g": (522.9576003280331, 56.329049372430646, 0.10730663455620573),
    "conv_d": (-0.21828609538656882, 0.09258814597833895, -0.26587903184157),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_outputs(case):
    build, shape = SMALL[case]
    output = fill(build())(waves(*shape))
    measured = (output.sum().item(), output.square().sum().item(), output.flatten()[0].item())
    assert measured == pytest.approx(GOLDEN[case], abs=1e-5)


@pytest.mark.parametrize("case", SMALL)
def test_float64_in_float64_out(case):
    build, shape = SMALL[case]
    assert build().double()(torch.randn(shape, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("case", SMALL)
def test_zero_in_zero_out_at_the_start(case):
    """All biases start at 0 and every nonlinearity keeps 0, so what comes out of 0 is a wrong bias."""
    build, shape = SMALL[case]
    assert not build()(torch.zeros(shape)).any()


@pytest.mark.parametrize("case", SMALL)
def test_the_memory_layout_does_not_matter(case):
    build, shape = SMALL[case]
    network, x = build().double().eval(), torch.randn(shape, dtype=torch.float64)
    expected = network(x)
    network.to(memory_format=torch.channels_last)
    if x.ndim == 4:
        x = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("case", SMALL)
def test_state_dict_round_trip(case):
    build, shape = SMALL[case]
    first, second, x = build(), build(), torch.randn(shape)
    first(x)  # moves batch norm's averages
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(first.eval()(x), second.eval()(x))


@pytest.mark.parametrize("case", SMALL)
def test_every_parameter_learns_and_none_ends_in_a_sigmoid(case):
    build, shape = SMALL[case]
    network = build()
    network(torch.randn(shape)).square().sum().backward()
    # A bias before an instance or batch norm cannot matter, so its gradient may be rounding only: it must be there.
    assert all(p.grad is not None for p in network.parameters())
    assert not any(isinstance(layer, nn.Sigmoid) for layer in network.modules())


@pytest.mark.parametrize(("generator", "discriminator"), PAIRS)
@pytest.mark.parametrize("resolution", [16, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_at_every_resolution(generator, discriminator, resolution, channels):
    images = generator(5, resolution, channels, 2)(torch.randn(2, 5))
    assert images.shape == (2, channels, resolution, resolution)
    assert images.abs().max() <= 1
    assert discriminator(resolution, channels, 2)(images).shape == (2,)


@pytest.mark.parametrize("generator", GENERATORS)
def test_generators_say_how_much_noise_they_take(generator):
    assert generator(latent_dim=7, width=2).latent_dim == 7


def test_dcgan_at_256():
    images = DCGANGenerator(5, 256, 3, 1)(torch.randn(2, 5))
    assert images.shape == (2, 3, 256, 256)
    assert DCGANDiscriminator(256, 3, 1)(images).shape == (2,)


@pytest.mark.parametrize("network", [*GENERATORS, *DISCRIMINATORS])
def test_an_impossible_resolution_says_what_to_type(network):
    with pytest.raises(ConfigError, match=rf"{network.__name__} cannot make a resolution of 48: .* type .*=32 or 64"):
        network(resolution=48)


def test_dcgan_widths_double():
    outputs = [layer.out_channels for layer in DCGANGenerator(width=2).layers if isinstance(layer, nn.ConvTranspose2d)]
    assert outputs == [16, 8, 4, 2, 3]
    outputs = [layer.out_channels for layer in DCGANDiscriminator(128, width=2).layers if isinstance(layer, nn.Conv2d)]
    assert outputs == [2, 4, 8, 16, 32, 1]


def test_dcgan_refuses_images_of_another_size():
    with pytest.raises(RuntimeError):
        DCGANDiscriminator(32, 3, 2)(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("case", ["resnet_d", "pyramid_d", "conv_d", "patch", "translator"])
def test_samples_do_not_see_each_other(case):
    """A per-sample gradient penalty has a meaning only without batch norm; so has CycleGAN's batch of one."""
    build, shape = SMALL[case]
    network, x = build().double(), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


@pytest.mark.parametrize("case", CRITICS)
def test_penalties_differentiate_twice_through_every_discriminator(case):
    build, shape = SMALL[case]
    network = build()
    real, fake = torch.randn(shape), torch.randn(shape)
    (gradient_penalty(network, real, fake, torch.rand(len(real))) + r1_penalty(network, real)).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert next(network.parameters()).grad.any()


@pytest.mark.parametrize("resample", ["up", "down", None])
def test_residual_block_is_the_papers_in_its_literal_order(resample):
    """The 1x1 shortcut after the upsampling and before the pooling, as in the code, gives the same."""
    torch.manual_seed(0)
    block = ResidualBlock(3, 5, resample, nn.BatchNorm2d).double()
    nn.init.normal_(block.shortcut.bias)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)

    def double(y: Tensor) -> Tensor:
        return y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def halve(y: Tensor) -> Tensor:
        return (y[..., ::2, ::2] + y[..., 1::2, ::2] + y[..., ::2, 1::2] + y[..., 1::2, 1::2]) / 4

    before = double if resample == "up" else nn.Identity()
    after = halve if resample == "down" else nn.Identity()
    h = block.conv1(before(F.relu(block.norm1(x))))
    h = after(block.conv2(F.relu(block.norm2(h))))
    expected = h + after(block.shortcut(before(x)))
    torch.testing.assert_close(block(x), expected)


def test_residual_block_keeps_its_input():
    x = torch.randn(2, 4, 8, 8)
    kept = x.clone()
    ResidualBlock(4, 4)(x)
    assert torch.equal(x, kept)
    assert isinstance(ResidualBlock(4, 4).shortcut, nn.Identity)


def test_same_padding_is_tensorflows():
    """With stride 2 and kernel 5 on an even side, output i looks at inputs 2i-1 .. 2i+3."""
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4, 4] = 1
    convolution = SameConv(1, 1)
    nn.init.ones_(convolution.weight)
    assert convolution(x)[0, 0].diagonal().tolist() == [0, 1, 1, 0]  # 4 lies in 1..5 and 3..7
    transposed = SameConvTranspose(1, 1)
    transposed.weight = convolution.weight
    y = torch.randn(1, 1, 4, 4)
    torch.testing.assert_close((convolution(x) * y).sum(), (x * transposed(y)).sum())  # each other's transpose


@pytest.mark.parametrize(("layers", "expected"), [(1, 16), (2, 34), (3, 70)])
def test_receptive_field_of_a_patch(layers, expected):
    torch.manual_seed(0)
    side = 128
    images = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    logits = PatchDiscriminator(3, 2, layers, norm="none").double()(images)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], images)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert (rows[-1] - rows[0] + 1).item() == expected


def test_patch_discriminator_gives_30_by_30_at_256():
    assert PatchDiscriminator(3, 2)(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)
    assert PatchDiscriminator(3, 2)(torch.zeros(1, 3, 24, 24)).shape == (1, 1, 1, 1)


@pytest.mark.parametrize("side", [8, 12, 32])
def test_translator_keeps_the_size(side):
    assert ResNetTranslator(1, 3, 2, blocks=1)(torch.randn(1, 1, side, side)).shape == (1, 3, side, side)


def test_translation_networks_say_what_they_need():
    with pytest.raises(ConfigError, match=r"30x30.*4 divides.*data\.resolution"):
        ResNetTranslator(3, 3, 2, blocks=1)(torch.zeros(1, 3, 30, 30))
    with pytest.raises(ConfigError, match=r"16x16.*24 pixels"):
        PatchDiscriminator(3, 2)(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ConfigError, match=r"norm=layer.*norm=instance"):
        PatchDiscriminator(norm="layer")


@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator, ResNetTranslator, PatchDiscriminator])
def test_normal_init_has_std_002(network):
    torch.manual_seed(0)
    weights = torch.cat([p.flatten() for p in network(width=16).parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.03)
