"""Known mistakes in re-implementations, put in on purpose: what holds without them must fail with them.

Each claim computes what should come out one sample, one pair or one number at a time. Other traps have their test where
the thing itself has: unrolling in test_unrolled.py, pooling by a mean and in-place ReLUs in test_networks*.py, ADA over
the ranks in test_augment_ada.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from matrix import drive
from support import small
from torch import Tensor, nn

from gan_experiments.assembly import build, check
from gan_experiments.engine.averages import WeightAverage
from gan_experiments.layers import attention, spectral_norm
from gan_experiments.layers.conditional_batch_norm import ConditionalBatchNorm2d
from gan_experiments.losses import adversarial, penalties, regularisers
from gan_experiments.losses.adversarial import Hinge, LeastSquares, NonSaturating, RelativisticPaired, Wasserstein
from gan_experiments.models import noise_to_image
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.models.r3gan import R3GAN
from gan_experiments.models.wgan_gp import WGANGP
from gan_experiments.networks import resnet_blocks, wgan_gp
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.sagan import SAGANGenerator
from gan_experiments.techniques import consistency, statistics, weights
from gan_experiments.techniques import penalties as penalty_techniques

Put = pytest.MonkeyPatch
Trap = Callable[[Put], None]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(value: float | Tensor, expected: float | Tensor) -> None:
    torch.testing.assert_close(
        torch.as_tensor(value).double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-7
    )


def model(kind: type[NoiseToImage] = NoiseToImage, classes: int = 0, **game: Any) -> NoiseToImage:
    """A game on images of 3x16x16, ready to draw."""
    label = {"classes": classes, "conditioning": "concatenation"} if classes else {}
    made = kind(
        generator=DCGANGenerator(4, 16, 3, 2, **label),  # type: ignore[arg-type]
        discriminator=DCGANDiscriminator(16, 3, 2, **label),  # type: ignore[arg-type]
        optimizers={
            p: lambda parameters: torch.optim.RMSprop(parameters, 5e-5) for p in ("generator", "discriminator")
        },
        **{"loss": NonSaturating(), **game},
    )
    made._seed_draws("discriminator")
    return made


def of(x: Tensor) -> Tensor:
    """A critic whose gradient is x itself."""
    return 0.5 * x.flatten(1).square().sum(1)


# ---------------------------------------------------------------- penalties


def each_sample_has_its_own_alpha() -> None:
    real, fake, alpha = rand(3, 2, 4, 4), rand(3, 2, 4, 4, seed=1), torch.tensor([0.1, 0.5, 0.8]).double()
    by_hand = [((a * r + (1 - a) * f).norm() - 1) ** 2 for a, r, f in zip(alpha, real, fake, strict=True)]
    near(penalties.gradient_penalty(of, real, fake, alpha), sum(by_hand) / 3)


def one_alpha(put: Put) -> None:
    usual = penalties._per_sample
    put.setattr(penalties, "_per_sample", lambda alpha, images: usual(alpha[:1].expand(len(alpha)), images))


def norm_of_each_pixel(put: Put) -> None:
    def trap(critic: Any, points: Tensor, center: float) -> Tensor:
        (gradient,) = penalties._gradients(critic, points)
        return (gradient.norm(2, dim=1) - center).square().mean()

    put.setattr(penalties, "_distance_of_norms", trap)


def r1_is_half_the_squared_slope() -> None:
    x, h = rand(2, 1, 2, 2), 1e-5
    slopes = [(of(x + h * e) - of(x - h * e)) / (2 * h) for e in torch.eye(4).double().view(4, 1, 2, 2)]  # [4][2]
    update: Any = SimpleNamespace(judge_as_real=of, real_parts=(x,), of_parts=lambda one: one)
    near(penalty_techniques.R1(gamma=10).term(update), 5 * torch.stack(slopes).square().sum(0).mean())


def without_the_half(put: Put) -> None:
    usual = penalties.r1_penalty
    put.setattr(penalty_techniques, "r1_penalty", lambda *arguments: 2 * usual(*arguments))


# ---------------------------------------------------------------- blocks


def mean_of_four(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def blocks_pool_after_their_convolutions() -> None:
    x = rand(2, 3, 8, 8)
    for block in (wgan_gp.ResidualBlock(3, 4, "down").double(), resnet_blocks.DiscriminatorBlock(3, 4).double()):
        main = block.conv2(F.relu(block.conv1(F.relu(x))))
        near(block(x), mean_of_four(main) + mean_of_four(block.shortcut(x)))


def pooled_before(put: Put) -> None:
    def trap(self: Any, x: Tensor, label: Tensor | None = None) -> Tensor:
        h = F.avg_pool2d(F.relu(self.conv1(F.relu(x))), 2)
        return self.conv2(h) + self.shortcut(F.avg_pool2d(x, 2))

    for block in (wgan_gp.ResidualBlock, resnet_blocks.DiscriminatorBlock):
        put.setattr(block, "forward", trap)


def blocks_double_before_their_convolutions() -> None:
    x = rand(2, 3, 4, 4)
    for block in (wgan_gp.ResidualBlock(3, 4, "up").double(), resnet_blocks.GeneratorBlock(3, 4, nn.Identity).double()):
        twice = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        near(block(x), block.conv2(F.relu(block.conv1(F.relu(twice)))) + block.shortcut(twice))


def doubled_after(put: Put) -> None:
    def trap(self: Any, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = resnet_blocks.double(self.conv1(F.relu(x)))
        return self.conv2(F.relu(h)) + resnet_blocks.double(self.shortcut(x))

    for block in (wgan_gp.ResidualBlock, resnet_blocks.GeneratorBlock):
        put.setattr(block, "forward", trap)


def attention_changes_nothing_at_first() -> None:
    torch.manual_seed(0)
    generator = SAGANGenerator(4, 32, 3, 2).double().eval()
    z = rand(2, 4)
    images = generator(z)
    generator.attend = nn.ModuleList(nn.Identity() for _ in generator.attend)
    near(images, generator(z))


def gamma_of_one(put: Put) -> None:
    usual = attention.SelfAttention.__init__

    def trap(self: attention.SelfAttention, channels: int) -> None:
        usual(self, channels)
        nn.init.ones_(self.gamma)

    put.setattr(attention.SelfAttention, "__init__", trap)


def a_condition_of_zeros_is_plain_batch_norm() -> None:
    norm, x = ConditionalBatchNorm2d(3, 5).double(), rand(4, 3, 2, 2)
    channels = x.transpose(0, 1).flatten(1)
    normal = (x - channels.mean(1).view(3, 1, 1)) / (channels.var(1, correction=0) + 1e-5).sqrt().view(3, 1, 1)
    near(norm(x, torch.zeros(4, 5).double()), normal)


def gain_without_the_one(put: Put) -> None:
    def trap(self: ConditionalBatchNorm2d, x: Tensor, condition: Tensor) -> Tensor:
        return self.norm(x) * self.gain(condition)[:, :, None, None] + self.bias(condition)[:, :, None, None]

    put.setattr(ConditionalBatchNorm2d, "forward", trap)


# ---------------------------------------------------------------- weights


def u_moves_once_for_an_update_and_in_training_alone() -> None:
    layer: Any = spectral_norm.spectral_norm(nn.Linear(4, 3).double())
    (norm,), matrix = layer.parametrizations.weight, layer.parametrizations.weight.original.detach()
    u = norm.u.clone()
    layer.eval()(rand(1, 4))
    near(norm.u, u)
    layer.train()(rand(1, 4))  # the discriminator's turn
    once = F.normalize(matrix @ F.normalize(u @ matrix, dim=0), dim=0)
    near(norm.u, once)
    layer(rand(1, 4))  # the generator's
    near(norm.u, once)


def u_moves_at_each_forward(put: Put) -> None:
    def trap(self: spectral_norm.SpectralNorm, matrix: Tensor, checksum: Tensor) -> Tensor:
        u = F.normalize(matrix @ F.normalize(self.u @ matrix, dim=0), dim=0)
        if self.training:
            self.u.copy_(u)
        return u

    put.setattr(spectral_norm.SpectralNorm, "_left", trap)


def u_moves_in_evaluation(put: Put) -> None:
    usual = spectral_norm.SpectralNorm._left

    def trap(self: spectral_norm.SpectralNorm, matrix: Tensor, checksum: Tensor) -> Tensor:
        u = usual(self, matrix, checksum)
        self.u.copy_(u)
        return u

    put.setattr(spectral_norm.SpectralNorm, "_left", trap)


def the_critic_alone_is_clipped_after_its_step() -> None:
    torch.manual_seed(0)
    game = model(loss=Wasserstein(), techniques={"weight_clipping": weights.WeightClipping()}, n_critic=1)
    drive(game, [{"real": rand(4, 3, 16, 16).float()}])
    assert max(p.abs().max() for p in game.discriminator.parameters()) <= 0.01
    assert max(p.abs().max() for p in game.generator.parameters()) > 0.01


def both_clipped(put: Put) -> None:
    def trap(self: weights.WeightClipping, game: NoiseToImage, phase: Any) -> None:
        for parameter in game.parameters():
            parameter.data.clamp_(-self.bound, self.bound)

    put.setattr(weights.WeightClipping, "after_step", trap)


def clipped_before(put: Put) -> None:
    def trap(self: weights.WeightClipping, game: NoiseToImage, phase: Any) -> bool:
        for parameter in game.discriminator.parameters() if phase.name == "discriminator" else ():
            parameter.data.clamp_(-self.bound, self.bound)
        return True

    put.setattr(weights.WeightClipping, "due", trap)
    put.setattr(weights.WeightClipping, "after_step", lambda *_: None)


def the_average_is_of_weights_and_copies_statistics() -> None:
    network = nn.BatchNorm1d(2).double()
    average = WeightAverage(network, decay=0.9)
    with torch.no_grad():
        network.weight.fill_(2.0)
        network.running_mean.fill_(5.0)  # type: ignore[union-attr]
    for _ in range(2):
        average.update(network, 4, 4)
    near(average.network.weight, torch.full((2,), 0.81 * 1 + 0.19 * 2))  # type: ignore[arg-type]
    near(average.network.running_mean, torch.full((2,), 5.0))  # type: ignore[arg-type]


def statistics_averaged_too(put: Put) -> None:
    def trap(self: WeightAverage, network: nn.Module, images: int, seen: int) -> None:
        for old, new in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            old.copy_(old + (1 - self.decay_after(images, seen)) * (new - old))

    put.setattr(WeightAverage, "update", trap)


def statistics_left_as_they_were(put: Put) -> None:
    def trap(self: WeightAverage, network: nn.Module, images: int, seen: int) -> None:
        for old, new in zip(self.network.parameters(), network.parameters(), strict=True):
            old.data.lerp_(new.data, 1 - self.decay_after(images, seen))

    put.setattr(WeightAverage, "update", trap)


def orthogonal_filters_of_any_length_cost_nothing() -> None:
    layer = nn.Conv2d(1, 3, 2, bias=False).double()
    rows = layer.weight.detach().flatten(1)
    pairs = [(rows[i] @ rows[j]) ** 2 for i in range(3) for j in range(3) if i != j]
    near(regularisers.orthogonal_regularisation(layer).detach(), sum(pairs))
    nn.init.orthogonal_(layer.weight, gain=3.0)
    assert regularisers.orthogonal_regularisation(layer) < 1e-20


def with_the_diagonal(put: Put) -> None:
    def trap(weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        return (rows @ rows.T - torch.eye(len(rows))).square().sum()

    put.setattr(regularisers, "_off_diagonal", trap)


# ---------------------------------------------------------------- the game


def reals_are_normalised_without_the_fakes() -> None:
    game = model()
    turns = [PlayerUpdate(game, {"real": rand(4, 3, 16, 16).float()}) for _ in range(2)]  # each has other fakes
    assert not torch.equal(turns[0].fake, turns[1].fake)
    near(turns[0].real_logits.detach(), turns[1].real_logits.detach())


def judged_in_one_batch(put: Put) -> None:
    def trap(self: PlayerUpdate) -> tuple[Tensor, None]:
        both = self.model.logits(torch.cat([self.real, self.fake]))
        return both[: len(self.real)], None

    put.setattr(noise_to_image.PlayerUpdate, "_real", property(trap))


def fakes_are_of_every_class() -> None:
    game = model(classes=10)
    update = PlayerUpdate(game, {"real": rand(64, 3, 16, 16).float(), "label": torch.full((64,), 3)})
    assert update.fake_label is not None
    assert len(update.fake_label.unique()) > 5


def labels_of_the_reals(put: Put) -> None:
    usual = PlayerUpdate._make_fakes

    def trap(self: PlayerUpdate) -> Any:
        self.model.fake_labels = "batch"
        return usual(self)

    put.setattr(PlayerUpdate, "_make_fakes", trap)


def each_real_image_has_one_partner() -> None:
    real, fake = rand(5), rand(5, seed=1)
    by_hand = [math.log1p(math.exp(f - r)) for r, f in zip(real.tolist(), fake.tolist(), strict=True)]
    near(RelativisticPaired().discriminator(real, fake), sum(by_hand) / 5)


def shuffled_pairs(put: Put) -> None:
    usual = RelativisticPaired.discriminator
    put.setattr(RelativisticPaired, "discriminator", lambda self, real, fake: usual(self, real, fake.roll(1)))


def mean_of_the_others(put: Put) -> None:
    put.setattr(
        RelativisticPaired, "discriminator", lambda self, real, fake: adversarial._says_real(real - fake.mean())
    )


def every_fake_pulls_alike() -> None:
    logits = torch.tensor([-3.0, 0.5, 4.0], requires_grad=True)
    Hinge().generator(logits).backward()
    assert logits.grad is not None
    near(logits.grad, torch.full((3,), -1 / 3))


def hinged_generator(put: Put) -> None:
    put.setattr(Hinge, "generator", lambda self, fake, real=None: F.relu(1 - fake).mean())


def equation_8_wants_each_logit_at_its_label() -> None:
    loss = LeastSquares(a=-1, b=1, c=0)
    near(loss.discriminator(torch.ones(3), -torch.ones(3)), 0.0)
    near(loss.generator(torch.zeros(3)), 0.0)


def generator_wants_the_reals_label(put: Put) -> None:
    put.setattr(LeastSquares, "generator", lambda self, fake, real=None: 0.5 * (fake - self.b).square().mean())


def labels_exchanged(put: Put) -> None:
    put.setattr(
        LeastSquares,
        "discriminator",
        lambda self, real, fake: 0.5 * ((real - self.a).square().mean() + (fake - self.b).square().mean()),
    )


def lecams_averages_have_seen_this_batch() -> None:
    technique = statistics.LeCam(weight=1.0, decay=0.9, start=3).double()
    game = SimpleNamespace(images_seen=0)
    batches = [(torch.tensor([2.0, 0.0]).double(), torch.tensor([-1.0, 1.0]).double())] * 2
    batches[1] = (batches[0][0] + 10, batches[0][1] - 10)
    for game.images_seen, (real, fake) in zip((0, 4), batches, strict=True):
        update: Any = SimpleNamespace(model=game, name="discriminator", real_logits=real, fake_logits=fake)
        term = technique.term(update)
    ema_real, ema_fake = 0.9 * 1 + 0.1 * 11, 0.9 * 0 + 0.1 * -10
    too_real = sum(max(r - ema_fake, 0) ** 2 for r in (12.0, 10.0)) / 2
    near(term, too_real + sum(max(ema_real - f, 0) ** 2 for f in (-11.0, -9.0)) / 2)


def compared_with_the_averages_before(put: Put) -> None:
    def trap(self: statistics.LeCam, update: Any) -> Tensor:
        logits = (update.real_logits, update.fake_logits)
        term = self.lecam(*logits, update.model.images_seen)
        self.lecam.update(*logits, update.model.images_seen)
        return self.weight * term

    put.setattr(statistics.LeCam, "term", trap)


def near_noise_makes_other_images_and_like_logits() -> None:
    game, technique = model(), consistency.ZCR(sigma=0.5, weight=20, generator_weight=0.5)
    for of_generator in (True, False):
        update = PlayerUpdate(game, {"real": rand(4, 3, 16, 16).float()}, of_generator)
        update.fake_logits  # noqa: B018  draws z
        state = game._rng.get_state()  # type: ignore[union-attr]
        term = technique.term(update)
        game._rng.set_state(state)  # type: ignore[union-attr]
        images = game.generate(update.z + 0.5 * game.draw(torch.randn, 4, 4))
        if of_generator:
            near(term.detach(), -0.5 * ((update.fake - images) ** 2).mean().detach())
        else:
            term.backward()
            assert term > 0
            assert all(p.grad is None for p in game.generator.parameters())


def drawn_together(put: Put) -> None:
    put.setattr(consistency, "latent_diversity", lambda a, b: (a - b).square().mean())


def generator_learns_in_ds_turn(put: Put) -> None:
    def trap(self: consistency.ZCR, update: PlayerUpdate) -> Tensor:
        if update.of_generator:
            return usual(self, update)
        near = update.z + self.sigma * update.model.draw(torch.randn, *update.z.shape)
        return self.weight * (update.fake_logits - update.judge_as_fake(update.model.generate(near))).square().mean()

    usual = consistency.ZCR.term
    put.setattr(consistency.ZCR, "term", trap)


def grey_levels_fill_what_tanh_can_make() -> None:
    game = model(WGANGP, loss=Wasserstein(), dequantize=1 / 128)
    levels = torch.arange(256).double().view(1, 1, 16, 16).expand(1, 3, 16, 16) / 127.5 - 1
    real = game.real({"real": levels})
    assert -1 <= real.min() < real.max() <= 1
    assert torch.equal(((real + 1) * 128).floor()[0, 0].flatten(), torch.arange(256).double())  # bins of 1/128


def noise_on_top(put: Put) -> None:
    put.setattr(
        WGANGP,
        "real",
        lambda self, batch: batch["real"] + self.dequantize * self.draw(torch.rand, *batch["real"].shape),
    )


def what_r3gan_shows_is_within_bounds() -> None:
    game = model(R3GAN, loss=RelativisticPaired(), burn_in=1)
    layers: Any = game.generator.layers
    layers[-1] = nn.Identity()  # R3GAN's own ends without a tanh
    with torch.no_grad():
        layers[-2].weight.mul_(1e4)
    z = game.fixed_noise(4, seed=0)
    images = game.sample(z)
    assert images.abs().max() == 1
    assert game.sheet({"z": z}).abs().max() == 1
    assert game.sampler(seed=0)(0, 4).abs().max() == 1


def shown_as_they_are(put: Put) -> None:
    put.setattr(torch.Tensor, "clamp", lambda images, *_: images)


TRAPS: list[tuple[Callable[[], None], Trap]] = [
    (each_sample_has_its_own_alpha, one_alpha),
    (each_sample_has_its_own_alpha, norm_of_each_pixel),
    (r1_is_half_the_squared_slope, without_the_half),
    (blocks_pool_after_their_convolutions, pooled_before),
    (blocks_double_before_their_convolutions, doubled_after),
    (attention_changes_nothing_at_first, gamma_of_one),
    (a_condition_of_zeros_is_plain_batch_norm, gain_without_the_one),
    (u_moves_once_for_an_update_and_in_training_alone, u_moves_at_each_forward),
    (u_moves_once_for_an_update_and_in_training_alone, u_moves_in_evaluation),
    (the_critic_alone_is_clipped_after_its_step, both_clipped),
    (the_critic_alone_is_clipped_after_its_step, clipped_before),
    (the_average_is_of_weights_and_copies_statistics, statistics_averaged_too),
    (the_average_is_of_weights_and_copies_statistics, statistics_left_as_they_were),
    (orthogonal_filters_of_any_length_cost_nothing, with_the_diagonal),
    (reals_are_normalised_without_the_fakes, judged_in_one_batch),
    (fakes_are_of_every_class, labels_of_the_reals),
    (each_real_image_has_one_partner, shuffled_pairs),
    (each_real_image_has_one_partner, mean_of_the_others),
    (every_fake_pulls_alike, hinged_generator),
    (equation_8_wants_each_logit_at_its_label, generator_wants_the_reals_label),
    (equation_8_wants_each_logit_at_its_label, labels_exchanged),
    (lecams_averages_have_seen_this_batch, compared_with_the_averages_before),
    (near_noise_makes_other_images_and_like_logits, drawn_together),
    (near_noise_makes_other_images_and_like_logits, generator_learns_in_ds_turn),
    (grey_levels_fill_what_tanh_can_make, noise_on_top),
    (what_r3gan_shows_is_within_bounds, shown_as_they_are),
]


@pytest.mark.parametrize(("claim", "trap"), TRAPS, ids=lambda function: function.__name__)
def test_a_trap_shows(claim: Callable[[], None], trap: Trap, monkeypatch: Put) -> None:
    torch.manual_seed(0)
    claim()
    trap(monkeypatch)
    with pytest.raises(AssertionError):
        claim()


# ---------------------------------------------------------------- WGAN-GP with labels


def test_wgan_gp_with_labels_has_the_codes_parameters() -> None:
    """By hand from gan_cifar_resnet.py, not from a run of it: ten rows in the place of six batch norms' scales
    and offsets, and a linear layer for the classes.
    """
    with torch.device("meta"):
        generator = wgan_gp.ResNetGenerator(classes=10)
        critic = wgan_gp.ResNetCritic(classes=10, conditioning="auxiliary")
    assert sum(p.numel() for p in generator.parameters()) == 1_204_483 + 6 * 128 * 2 * 9 == 1_218_307
    assert sum(p.numel() for p in critic.parameters()) == 1_053_825 + 10 * 128 + 10 == 1_055_115


def test_wgan_gps_classifier_learns_from_real_images_alone(tmp_path: Path) -> None:
    """ACGAN_SCALE 1 on the real half of the critic's batch, ACGAN_SCALE_G 0.1 on the generator's fakes."""
    game = build.build_model(small(tmp_path, "wgan_gp_conditional"))
    assert isinstance(game, NoiseToImage)
    label = torch.tensor([0, 3, 9, 3])
    game._seed_draws("discriminator")
    for of_generator, scale in ((False, 1.0), (True, 0.1)):
        update = PlayerUpdate(game, {"real": rand(4, 1, 32, 32).float(), "label": label}, of_generator)
        images, classes = (update.fake, update.fake_label) if of_generator else (update.real, label)
        scores = game.discriminator.classify(game.discriminator.features(images)).exp().tolist()  # type: ignore[operator]
        assert classes is not None
        costs = [-math.log(row[c] / sum(row)) for row, c in zip(scores, classes, strict=True)]
        near(game.techniques["auxiliary_classifier"].term(update).detach(), scale * sum(costs) / len(costs))


# ---------------------------------------------------------------- labels that are not there

CONDITIONAL = ["acgan", "biggan", "cdcgan", "cgan", "r3gan", "sagan", "sngan_projection", "wgan_gp_conditional"]


@pytest.mark.parametrize("name", CONDITIONAL)
def test_what_data_without_labels_is_told_to_type_works(name: str, tmp_path: Path) -> None:
    """One line; each of the two ways out that it names passes the check."""
    photos = ["data=folder", "data.resolution=32"]
    (fault,) = check.faults(small(tmp_path, name, *photos))
    assert "has no labels (data.classes=0)" in fault
    assert [*check.faults(small(tmp_path, name, *photos, "data.classes=2"))] == []
    words = fault.rpartition(", or ")[2].split()
    if name == "cgan":
        assert words == ["another", "model,", "as", "model=dcgan"]
    else:
        assert [*check.faults(small(tmp_path, name, *photos, *words))] == []
