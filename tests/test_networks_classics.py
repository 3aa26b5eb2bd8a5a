"""The networks of GAN, conditional GAN, the toys, and what a DCGAN can have besides the paper's."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.layers.dropout import DrawnDropout
from gan_experiments.layers.maxout import Maxout
from gan_experiments.layers.virtual_batch_norm import VirtualBatchNorm
from gan_experiments.losses.penalties import gradient_penalty, r1_penalty
from gan_experiments.networks.cgan import CGANDiscriminator, CGANGenerator
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.gan import GANDiscriminator, GANGenerator
from gan_experiments.networks.toy import ToyDiscriminator, ToyGenerator

G64, D64 = 3_576_704, 2_765_568  # DCGAN at 64x64
COUNTS = {
    "GAN G": (GANGenerator, 2_503_984),
    "GAN D": (GANDiscriminator, 1_231_441),
    "cGAN G": (
        CGANGenerator,
        2_413_984,
    ),  # [M]: of the paper's text, there is no code
    "cGAN D": (CGANDiscriminator, 1_224_351),
    "unrolled G": (ToyGenerator, 49_666),
    "unrolled D": (ToyDiscriminator, 17_025),
    # The rest by hand: what is added to the official DCGAN, whose last layer sees 512·4·4 = 8,192 features.
    "DCGAN G, label": (lambda: DCGANGenerator(classes=10, conditioning="concatenation"), G64 + 10 * 512 * 16),
    "DCGAN G, virtual": (lambda: DCGANGenerator(reference_batch=4), G64),
    "DCGAN D, maps": (lambda: DCGANDiscriminator(classes=10, conditioning="concatenation"), D64 + 10 * 64 * 16),
    "DCGAN D, projection": (lambda: DCGANDiscriminator(classes=10, conditioning="projection"), D64 + 10 * 8192),
    "DCGAN D, auxiliary": (lambda: DCGANDiscriminator(classes=10, conditioning="auxiliary"), D64 + 10 * 8193),
    "DCGAN D, virtual": (lambda: DCGANDiscriminator(reference_batch=4), D64),
    "DCGAN D, discrimination": (lambda: DCGANDiscriminator(minibatch="discrimination"), D64 + 8192 * 500 + 100),
    "DCGAN D, deviation": (lambda: DCGANDiscriminator(minibatch="standard_deviation"), D64 + 16),
}


@pytest.mark.parametrize("case", COUNTS)
def test_parameter_counts(case):
    build, expected = COUNTS[case]
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == expected


def dcgan_d(**choices: object) -> Callable[[], nn.Module]:
    return lambda: DCGANDiscriminator(32, 1, 2, **choices)


def with_reference(network: DCGANDiscriminator) -> DCGANDiscriminator:
    labels = torch.arange(3) if network.classes else None
    network.set_reference(torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(5)), labels)
    return network


concatenated = {"classes": 3, "conditioning": "concatenation"}
# Small networks; those of CONDITIONAL look at the label.
GENERATORS: dict[str, Callable[[], nn.Module]] = {
    "gan": lambda: GANGenerator(5, 32, 1, 7),
    "cgan": lambda: CGANGenerator(5, 32, 1, 3, 7, 4, 20),
    "toy": lambda: ToyGenerator(5, 7),
    "dcgan": lambda: DCGANGenerator(5, 32, 1, 2),
    "dcgan_label": lambda: DCGANGenerator(5, 32, 1, 2, **concatenated),
    "dcgan_virtual": lambda: DCGANGenerator(5, 32, 1, 2, reference_batch=3),
    "dcgan_virtual_label": lambda: DCGANGenerator(5, 32, 1, 2, reference_batch=3, **concatenated),
}
DISCRIMINATORS: dict[str, Callable[[], nn.Module]] = {
    "gan": lambda: GANDiscriminator(32, 1, 7, 3),
    "cgan": lambda: CGANDiscriminator(32, 1, 3, 7, 20),
    "toy": lambda: ToyDiscriminator(7),
    "dcgan": dcgan_d(),
    "dcgan_label": dcgan_d(**concatenated),
    "dcgan_projection": dcgan_d(classes=3, conditioning="projection"),
    "dcgan_auxiliary": dcgan_d(classes=3, conditioning="auxiliary"),
    "dcgan_discrimination": dcgan_d(minibatch="discrimination"),
    "dcgan_deviation": dcgan_d(minibatch="standard_deviation"),
    "dcgan_everything": lambda: with_reference(
        DCGANDiscriminator(32, 1, 2, True, 3, "projection", "discrimination", reference_batch=3)
    ),
    "dcgan_virtual_label": lambda: with_reference(DCGANDiscriminator(32, 1, 2, reference_batch=3, **concatenated)),
}
CONDITIONAL = ["cgan", "dcgan_label", "dcgan_virtual_label", "dcgan_projection", "dcgan_everything"]
LABEL = torch.tensor([0, 2, 1, 0])


def points_or_images(case: str, **options: object) -> Tensor:
    return torch.randn((4, 2, 1, 1) if case == "toy" else (4, 1, 32, 32), **options)


def input_for(case: str, build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    network = build()
    return network, torch.randn(4, 5) if build is GENERATORS.get(case) else points_or_images(case)


EITHER = [pytest.param(case, build, id=f"{case}_g") for case, build in GENERATORS.items()]
EITHER += [pytest.param(case, build, id=f"{case}_d") for case, build in DISCRIMINATORS.items()]


@pytest.mark.parametrize(("case", "build"), EITHER)
def test_labels_matter_to_conditional_networks_and_to_no_other(case, build):
    network, x = input_for(case, build)
    network.eval()
    one, two = network(x, LABEL), network(x, (LABEL + 1) % 3)
    if case in CONDITIONAL:
        assert network.classes == 3
        assert not torch.isclose(one, two, rtol=1e-6, atol=0).flatten(1 if one.dim() > 1 else 0).all(-1).any()
        with pytest.raises(ConfigError, match=rf"{type(network).__name__} is conditional and was given no labels"):
            network(x)
    else:
        assert network.classes == (3 if case == "dcgan_auxiliary" else 0)
        assert torch.equal(one, two)
        assert torch.equal(one, network(x))


@pytest.mark.parametrize(("case", "build"), EITHER)
def test_every_parameter_learns_and_none_ends_in_a_sigmoid(case, build):
    network, x = input_for(case, build)
    out = network(x, LABEL)
    total = out.square().sum()
    if case == "dcgan_auxiliary":
        total = total + network.classify(network.features(x)).square().sum()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert not any(isinstance(layer, nn.Sigmoid) for layer in network.modules())
    assert out.requires_grad


# The weights that read each of the three labels, [3, ...].
OF_LABEL: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]] = {
    "cgan_g": (GENERATORS["cgan"], lambda n: n.of_label.weight.grad.T),
    "cgan_d": (DISCRIMINATORS["cgan"], lambda n: n.of_label.weight.grad.T),
    "dcgan_g": (GENERATORS["dcgan_label"], lambda n: n.layers[0].weight.grad[5:]),
    "dcgan_virtual_g": (GENERATORS["dcgan_virtual_label"], lambda n: n.layers[0].weight.grad[5:]),
    "dcgan_d": (DISCRIMINATORS["dcgan_label"], lambda n: n.layers[0].weight.grad[:, 1:].transpose(0, 1)),
    "dcgan_projection": (DISCRIMINATORS["dcgan_projection"], lambda n: n.embedding.weight.grad),
}


@pytest.mark.parametrize("case", OF_LABEL)
def test_the_weights_of_a_label_get_a_gradient_where_it_was_seen(case):
    torch.manual_seed(0)
    build, of_label = OF_LABEL[case]
    network = build().eval()  # without dropout
    x = torch.randn((4, 5) if case.endswith("_g") else (4, 1, 32, 32))
    network(x, torch.ones_like(LABEL)).square().sum().backward()
    seen = [bool(rows.any()) for rows in of_label(network)]
    # The reference batch of a virtual batch norm has all labels in it.
    assert seen == ([True] * 3 if "virtual" in case else [False, True, False])


@pytest.mark.parametrize(("case", "build"), EITHER)
def test_float64_and_state_dict_round_trip(case, build):
    network, x = input_for(case, build)
    network(x, LABEL)  # moves batch norm's averages
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = build()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(network.eval()(x, LABEL), other.eval()(x, LABEL))
    assert network.double()(x.double(), LABEL).dtype == torch.float64


@pytest.mark.parametrize(("case", "build"), EITHER)
def test_the_sizes_are_known_on_meta(case, build):
    """Where the config is checked; what is NaN until it is set must not hinder."""
    network, x = input_for(case, build)
    with torch.device("meta"):
        if case not in ("dcgan_everything", "dcgan_virtual_label"):
            network = build()
    assert network.to("meta")(x.to("meta"), LABEL.to("meta")).shape == build()(x, LABEL).shape


@pytest.mark.parametrize("case", DISCRIMINATORS)
def test_a_logit_is_the_head_of_the_features(case):
    network, x = input_for(case, DISCRIMINATORS[case])
    network.double().eval()
    x = x.double()
    features = network.features(x, LABEL)
    assert features.shape[0] == 4
    assert features.dim() == 2
    logits = network(x, LABEL)
    assert logits.shape == (4,)
    assert torch.equal(network.head(features, LABEL), logits)
    # The head is linear: what the last layer sees is all that it sees.
    bias = network.head(torch.zeros_like(features), LABEL)
    torch.testing.assert_close(network.head(3 * features, LABEL) - bias, 3 * (logits - bias))


@pytest.mark.parametrize("case", DISCRIMINATORS)
def test_penalties_differentiate_twice(case):
    network, real = input_for(case, DISCRIMINATORS[case])
    critic = lambda x: network(x, LABEL)  # noqa: E731
    (gradient_penalty(critic, real, points_or_images(case), torch.rand(4)) + r1_penalty(critic, real)).backward()
    first = next(network.parameters())
    assert first.grad.any()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("resolution", [28, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_perceptrons_at_every_resolution(resolution, channels):
    z, label = torch.randn(2, 5), torch.tensor([1, 0])
    for G, D in (
        (GANGenerator(5, resolution, channels, 3), GANDiscriminator(resolution, channels, 2, 2)),
        (CGANGenerator(5, resolution, channels, 2, 3, 2, 2), CGANDiscriminator(resolution, channels, 2, 2, 2)),
    ):
        images = G(z, label)
        assert images.shape == (2, channels, resolution, resolution)
        assert images.abs().max() <= 1
        assert D(images, label).shape == (2,)


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_conditional_dcgan_at_every_resolution(resolution, channels):
    label = torch.tensor([1, 0])
    images = DCGANGenerator(5, resolution, channels, 1, classes=2, conditioning="concatenation")(
        torch.ones(2, 5), label
    )
    assert images.shape == (2, channels, resolution, resolution)
    for conditioning in ("concatenation", "projection", "auxiliary"):
        D = DCGANDiscriminator(resolution, channels, 1, classes=2, conditioning=conditioning)
        assert D(images, label).shape == (2,)


# GAN


def test_images_in_minus_one_to_one_are_the_papers_in_another_range():
    torch.manual_seed(0)
    G, D = GANGenerator(5, 8, 1, 7).double(), GANDiscriminator(8, 1, 7, 3).double().eval()
    z = torch.randn(4, 5, dtype=torch.float64)
    paper = torch.sigmoid(G.layers(z))  # the paper's images, in [0, 1]
    torch.testing.assert_close(G(z), (2 * paper - 1).view(4, 1, 8, 8))
    torch.testing.assert_close(D(G(z)), D.output(D.layers(paper)).squeeze(1))


def test_gan_starts_as_the_authors_code_does():
    torch.manual_seed(0)
    for network, bound in ((GANGenerator(), 0.05), (GANDiscriminator(), 0.005), (CGANDiscriminator(), 0.005)):
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        weights = torch.cat([layer.weight.flatten() for layer in layers])
        assert weights.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
        assert not any(layer.bias.any() for layer in layers)
        assert len(layers) >= 3


def test_dropout_keeps_what_the_paper_keeps_and_can_be_off():
    torch.manual_seed(0)
    layers = GANDiscriminator().layers
    pixels = layers[0](torch.ones(100_000))
    units = layers[2](torch.ones(100_000))
    assert sorted(set(pixels.tolist())) == [0, 1.25]
    assert sorted(set(units.tolist())) == [0, 2]
    assert (pixels > 0).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (units > 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    x = torch.randn(2, 1, 28, 28)
    still = GANDiscriminator(keep_input=1, keep_hidden=1)
    assert torch.equal(still(x), still.eval()(x))
    for network, given in ((CGANGenerator, torch.randn(2, 100)), (CGANDiscriminator, x)):
        still = network(dropout=0)
        assert torch.equal(still(given, LABEL[:2]), still.eval()(given, LABEL[:2]))
        moving = network()
        assert not torch.equal(moving(given, LABEL[:2]), moving.eval()(given, LABEL[:2]))


@pytest.mark.parametrize("training", [True, False])
def test_given_draws_decide_what_is_dropped(training):
    """In evaluation mode too; where a draw is below p nothing is left, the rest is scaled by 1 / (1 - p)."""
    dropout, x = DrawnDropout(0.2).train(training), torch.full((2, 3), 4.0)
    draws = torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.19, 1.0]])
    assert dropout(x, lambda sampler, *shape: draws).tolist() == [[0, 0, 5], [5, 0, 5]]
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize(("build", "draws"), [(GANDiscriminator, 3), (CGANGenerator, 2), (CGANDiscriminator, 3)])
def test_networks_with_dropout_take_all_their_draws_from_outside(build, draws):
    """Rows for each of the batch's; without draws, in evaluation mode, nothing is dropped."""
    torch.manual_seed(0)
    network, given = build(), torch.randn((2, 100) if build is CGANGenerator else (2, 1, 28, 28))
    shapes = []

    def draw(sampler, *shape):
        shapes.append(shape)
        return torch.rand(shape, generator=torch.Generator().manual_seed(len(shapes)))

    first, shapes[:] = network(given, LABEL[:2], draw=draw), []
    assert torch.equal(network(given, LABEL[:2], draw=draw), first)
    assert [shape[0] for shape in shapes] == [2] * draws
    assert torch.equal(network.eval()(given, LABEL[:2]), network(given, LABEL[:2]))
    assert not torch.equal(network(given, LABEL[:2]), first)


def test_layers_of_the_conditional_gan():
    D = CGANDiscriminator()
    assert [(m.in_features, m.out_features // m.pieces, m.pieces) for m in D.modules() if isinstance(m, Maxout)] == [
        (784, 240, 5),
        (10, 50, 5),
        (290, 240, 4),
    ]
    G = CGANGenerator()
    assert [(m.in_features, m.out_features) for m in G.modules() if isinstance(m, nn.Linear)] == [
        (100, 200),
        (10, 1000),
        (1200, 1200),
        (1200, 784),
    ]


def test_a_conditional_network_needs_classes():
    for network in (CGANGenerator, CGANDiscriminator):
        with pytest.raises(ConfigError, match=rf"{network.__name__} .* classes=0: .* type .*data\.classes=10"):
            network(classes=0)
    for network in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(ConfigError, match=rf"{network.__name__} .* classes=0"):
            network(conditioning="concatenation")
        assert network(width=1, classes=10).classes == 0  # data with labels, a network that leaves them


# Toys


def test_toy_networks_are_the_demonstrations():
    torch.manual_seed(0)
    for network in (ToyGenerator().double(), ToyDiscriminator().double()):
        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        assert len(linear) == 3
        for layer in linear:
            W = layer.weight if layer.out_features <= layer.in_features else layer.weight.T
            torch.testing.assert_close(W @ W.T, 1.96 * torch.eye(len(W), dtype=torch.float64), atol=1e-5, rtol=0)
            assert not layer.bias.any()
        assert sum(isinstance(layer, nn.Tanh) for layer in network.modules()) == 2
    assert ToyGenerator()(torch.randn(500, 256)).abs().max() > 1.5  # not bounded
    assert ToyGenerator()(torch.randn(5, 256)).shape == (5, 2, 1, 1)
    assert ToyDiscriminator()(torch.randn(5, 2, 1, 1)).shape == (5,)


# DCGAN


def test_names_in_the_state_of_a_plain_dcgan_stay_as_they_were():
    """Checkpoints have them."""
    G, D = DCGANGenerator(5, 32, 1, 2), DCGANDiscriminator(32, 1, 2)
    weights = [f"layers.{i}.weight" for i in (0, 3, 6, 9)]
    assert [name for name in G.state_dict() if name in weights] == weights
    assert {name.split(".")[1] for name in G.state_dict()} == {"0", "1", "3", "4", "6", "7", "9"}
    assert {name.split(".")[1] for name in D.state_dict()} == {"0", "2", "3", "5", "6", "8"}
    assert {name.split(".")[0] for name in [*G.state_dict(), *D.state_dict()]} == {"layers"}


def test_concatenation_gives_the_discriminator_one_map_a_class():
    D = DCGANDiscriminator(32, 1, 2, **concatenated)
    seen = []
    D.layers[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    D(torch.full((2, 1, 32, 32), 0.5), torch.tensor([2, 0]))
    assert seen[0].shape == (2, 4, 32, 32)
    assert seen[0].amax((2, 3)).tolist() == seen[0].amin((2, 3)).tolist() == [[0.5, 0, 0, 1], [0.5, 1, 0, 0]]


def test_projection_is_miyatos():
    D = DCGANDiscriminator(32, 1, 2, classes=3, conditioning="projection").double()
    phi = torch.randn(4, 128, dtype=torch.float64)  # 8·4·4 features
    psi = phi @ D.layers[-1].weight.flatten()
    torch.testing.assert_close(D.head(phi, LABEL), psi + torch.einsum("nf,nf->n", D.embedding.weight[LABEL], phi))
    assert D.embedding.weight.std().item() == pytest.approx(0.02, rel=0.15)


def test_the_auxiliary_classifier_reads_the_same_features():
    D = DCGANDiscriminator(32, 1, 2, classes=3, conditioning="auxiliary")
    assert D.classify(D.features(torch.randn(4, 1, 32, 32))).shape == (4, 3)
    assert not D.classifier.bias.any()


@pytest.mark.parametrize("case", ["dcgan_discrimination", "dcgan_deviation"])
def test_minibatch_layers_see_the_rest_of_the_batch(case):
    torch.manual_seed(0)
    choice = {"dcgan_discrimination": "discrimination", "dcgan_deviation": "standard_deviation"}[case]
    make = lambda minibatch: DCGANDiscriminator(32, 1, 2, batch_norm=False, minibatch=minibatch).double()  # noqa: E731
    x = torch.randn(4, 1, 32, 32, dtype=torch.float64)
    others = torch.cat([x[:1], x[:1], x[:1], x[:1]])
    seeing, blind = make(choice), make("none")
    torch.testing.assert_close(blind(x)[0], blind(others)[0])
    assert (seeing(x)[0] - seeing(others)[0]).abs() > 1e-7
    added = {"discrimination": 100, "standard_deviation": 16}[choice]
    assert seeing.features(x).shape[1] == blind.features(x).shape[1] + added


def test_minibatch_layers_do_not_count_the_reference_batch():
    D = with_reference(DCGANDiscriminator(32, 1, 2, minibatch="discrimination", reference_batch=3))
    copies = torch.randn(1, 1, 32, 32).expand(5, -1, -1, -1)
    assert D.features(copies)[:, -100:].flatten().tolist() == pytest.approx([5] * 500, rel=1e-3)


def test_virtual_batch_norm_takes_the_place_of_batch_norm():
    G, D = DCGANGenerator(5, 32, 1, 2, reference_batch=3), DCGANDiscriminator(32, 1, 2, reference_batch=3)
    for virtual, usual in ((G, DCGANGenerator(5, 32, 1, 2)), (D, DCGANDiscriminator(32, 1, 2))):
        norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in usual.modules())
        assert norms == sum(isinstance(layer, VirtualBatchNorm) for layer in virtual.modules()) > 0
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in virtual.modules())


def test_with_virtual_batch_norm_samples_do_not_see_each_other():
    torch.manual_seed(0)
    G = DCGANGenerator(5, 32, 1, 2, reference_batch=3, **concatenated).double()
    D = with_reference(DCGANDiscriminator(32, 1, 2, reference_batch=3, **concatenated)).double()
    z = torch.randn(4, 5, dtype=torch.float64)
    images = G(z, LABEL)
    torch.testing.assert_close(G(z[1:2], LABEL[1:2]), images[1:2])
    torch.testing.assert_close(D(images[1:2], LABEL[1:2]), D(images, LABEL)[1:2])
    torch.testing.assert_close(G.eval()(z, LABEL), images)
    usual = DCGANGenerator(5, 32, 1, 2).double()
    assert not torch.allclose(usual(z[1:3]), usual(z)[1:3])


def test_a_reference_batch_is_chosen_once():
    G, D = GENERATORS["dcgan_virtual_label"](), DCGANDiscriminator(32, 1, 2, reference_batch=3)
    assert G.reference.rows[:, 5:, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    z = torch.randn(4, 5)
    before = G(z, LABEL)
    G.set_reference(torch.randn(3, 5), torch.tensor([1, 1, 1]))
    assert not torch.allclose(G(z, LABEL), before)
    x = torch.randn(4, 1, 32, 32)
    assert D(x).isnan().all()  # a forgotten one shows at once
    D.set_reference(torch.randn(3, 1, 32, 32))
    assert D(x).isfinite().all()
    with pytest.raises(ValueError, match="reference batch of shape"):
        D.set_reference(torch.randn(2, 1, 32, 32))


def test_what_does_not_fit_together_says_what_to_type():
    for network in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(ConfigError, match=rf"{network.__name__}.*batch_norm=false.*reference_batch=8.*type batch_"):
            network(batch_norm=False, reference_batch=8)
    with pytest.raises(ConfigError, match=r"conditioning=projection: type conditioning= one of none, concatenation$"):
        DCGANGenerator(classes=3, conditioning="projection")
    with pytest.raises(ConfigError, match=r"type conditioning= one of none, concatenation, projection, auxiliary"):
        DCGANDiscriminator(classes=3, conditioning="embedding")
    with pytest.raises(ConfigError, match=r"minibatch=stddev: type .* none, discrimination, standard_deviation"):
        DCGANDiscriminator(minibatch="stddev")


@pytest.mark.parametrize("choice", [{}, {"minibatch": "discrimination"}, {"minibatch": "standard_deviation"}])
def test_images_of_another_size_are_refused(choice):
    with pytest.raises(RuntimeError):
        DCGANDiscriminator(32, 1, 2, **choice)(torch.randn(4, 1, 64, 64))
