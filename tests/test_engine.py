"""The engine against loops written out by hand, and each of its promises apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from support import compose, difference, shrink, small, train
from torch import Tensor, nn

from gan_experiments import distributed
from gan_experiments.assembly import build
from gan_experiments.contracts import Batch, TrainingFailure
from gan_experiments.engine.averages import WeightAverage
from gan_experiments.engine.module import AdversarialModule, RunSettings
from gan_experiments.engine.optimizers import fuse
from gan_experiments.engine.phases import Phase
from gan_experiments.losses.adversarial import NonSaturating
from gan_experiments.losses.penalties import gradient_penalty
from gan_experiments.models.cyclegan import ImagePool
from gan_experiments.schedules import Cosine, Linear


class Toy(AdversarialModule):
    """Two linear players; what they lose is set by the test."""

    def __init__(self, every: int = 1, **engine: Any) -> None:
        torch.manual_seed(0)
        networks = {"generator": nn.Linear(2, 3), "discriminator": nn.Linear(3, 1)}
        sgd = {name: lambda parameters: torch.optim.SGD(parameters, lr=0.1) for name in networks}
        super().__init__(networks, engine.pop("optimizers", sgd), **engine)
        self.every = every
        self.trainable: list[tuple[bool, bool]] = []
        self.poison = -1

    def phases(self) -> list[Phase]:
        return [
            Phase("discriminator", self.discriminator_loss, self.discriminator),
            Phase("generator", self.generator_loss, self.generator, every=self.every),
        ]

    def _note(self) -> None:
        self.trainable.append((self.generator.weight.requires_grad, self.discriminator.weight.requires_grad))

    def discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        self._note()
        fake = self.generator(self.draw(torch.randn, len(batch["real"]), 2))
        poison = float("nan") if self.batches == self.poison else 1.0
        return {
            "adversarial": self.discriminator(fake).mean() - self.discriminator(batch["real"]).mean(),
            "decay": poison * 0.5 * self.discriminator.weight.square().sum(),
        }

    def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        self._note()
        return {
            "adversarial": -self.discriminator(self.generator(self.draw(torch.randn, len(batch["real"]), 2))).mean()
        }


class Rows(torch.utils.data.IterableDataset):
    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1)
        while True:
            yield {"real": torch.randn(4, 3, generator=generator)}


def fit(module: AdversarialModule, batches: int, *callbacks: L.Callback, plugins: Any = None) -> AdversarialModule:
    build.quieten()
    module.run = RunSettings(images=4 * batches, log_every=1)
    trainer = L.Trainer(
        plugins=plugins,
        accelerator="cpu",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, StopAtEnd()],
    )
    trainer.fit(module, torch.utils.data.DataLoader(Rows(), batch_size=None))
    return module


class StopAtEnd(L.Callback):
    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:  # type: ignore[override]
        trainer.should_stop = module.at_end()


def test_every_counts_batches_and_idle_networks_ask_for_no_gradient() -> None:
    module = fit(Toy(every=3), 7)
    discriminator, generator = (False, True), (True, False)
    assert module.trainable == [discriminator] * 3 + [generator] + [discriminator] * 3 + [generator] + [discriminator]
    assert (module.batches, module.images_seen) == (7, 28)


def test_the_same_steps_as_a_loop_by_hand() -> None:
    module = fit(Toy(every=2), 4)
    by_hand = Toy(every=2)
    by_hand.run = RunSettings(images=16)
    rows = iter(Rows())
    for _ in range(4):
        batch = next(rows)
        for phase in by_hand.phases():
            if (by_hand.batches + 1) % phase.every == 0:
                by_hand._seed_draws(phase.name)
                gradients = torch.autograd.grad(sum(phase.loss(batch).values()), phase.parameters())
                with torch.no_grad():
                    for parameter, gradient in zip(phase.parameters(), gradients, strict=True):
                        parameter.sub_(0.1 * gradient)
        by_hand.batches += 1
    assert max(difference(dict(module.state_dict()), dict(by_hand.state_dict())).values(), default=0) < 1e-6


def test_terms_are_logged_apart_and_summed() -> None:
    module = fit(Toy(), 1)
    logged = module.flush()
    before = Toy()
    assert logged["discriminator/decay"] == pytest.approx(
        0.5 * before.discriminator.weight.square().sum().item(), rel=1e-6
    )
    assert {"discriminator/adversarial", "generator/adversarial"} <= set(logged)
    assert module.flush() == {}


def test_clipping_bounds_the_step() -> None:
    start, clipped, free = Toy(), fit(Toy(clip_grad_norm=1e-3), 1), fit(Toy(), 1)

    def step(module: AdversarialModule) -> float:
        pairs = zip(module.discriminator.parameters(), start.discriminator.parameters(), strict=True)
        return torch.cat([(a - b).flatten() for a, b in pairs]).norm().item()

    assert step(clipped) == pytest.approx(0.1 * 1e-3, rel=1e-4)
    assert step(free) > 10 * step(clipped)
    assert clipped.flush()["gradient_norm/discriminator"] > 1e-2  # logged before clipping


@pytest.mark.parametrize(
    ("make", "fused"),
    [
        (lambda p: torch.optim.Adam(p, 1e-2, (0.0, 0.99)), True),
        (lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1), True),
        (lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9), True),
        (lambda p: torch.optim.Adam(p, 1e-2, fused=False), False),
        (lambda p: torch.optim.Adam(p, 1e-2, foreach=True), None),
        (lambda p: torch.optim.RMSprop(p, 1e-2), None),
    ],
    ids=["adam", "adamw", "sgd", "not wanted", "another way wanted", "none known"],
)
def test_a_step_in_one_kernel_is_the_same_step(make: Any, fused: bool | None) -> None:
    torch.manual_seed(0)
    ours, plain = (nn.Parameter(start) for start in torch.randn(1, 1000).repeat(2, 1))
    optimizers = [make([ours]), make([plain])]
    fuse(optimizers[0])
    assert optimizers[0].param_groups[0].get("fused") == fused
    for _ in range(5):
        ours.grad = torch.randn(1000)
        plain.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(ours, plain, rtol=1e-6, atol=1e-7)


def test_a_backward_through_weights_that_have_moved_is_an_error() -> None:
    class Late(Toy):
        def phases(self) -> list[Phase]:
            return [
                Phase("discriminator", self.judged, self.discriminator, keeps=self.generator),
                *super().phases()[1:],
            ]

        def judged(self, batch: Batch) -> dict[str, Tensor]:
            fake = self.generator(self.draw(torch.randn, len(batch["real"]), 2))
            self.once("score", lambda: self.discriminator(fake).mean())
            return self.discriminator_loss(batch)

        def generator_loss(self, batch: Batch) -> dict[str, Tensor]:
            return {"adversarial": -self.once("score", lambda: torch.zeros(()))}

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        fit(Late(), 1)


def test_a_loss_that_is_not_finite_says_where_and_when() -> None:
    module = Toy()
    module.poison = 2
    fit(module, 4)
    with pytest.raises(
        TrainingFailure, match=r"the term 'decay' of the phase 'discriminator' became nan after 8 images"
    ):
        module.require_finite()


def test_learning_rates_follow_the_images_seen() -> None:
    rates: list[float] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:  # type: ignore[override]
            rates.append(module.learning_rates()["generator"])

    fit(Toy(schedules={"generator": Linear(start=8, end=16)}), 5, Watch())
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.0])


def test_stairs_are_those_of_the_cyclegan_code() -> None:
    """lr_lambda of pytorch-CycleGAN-and-pix2pix: 1 - max(0, epoch + 1 - 100) / 101, for epochs of 7 images."""
    factor = Linear(start=100 * 7, end=200 * 7, step=7)
    assert [factor(7 * e) for e in (0, 99, 100, 149, 199)] == pytest.approx(
        [1, 1, 0.990099, 0.504950, 0.009901], abs=1e-6
    )
    assert factor(7 * 149 + 6) == factor(7 * 149)


def test_cosine() -> None:
    factor = Cosine(end=100, floor=0.25)
    assert [factor(0), factor(50), factor(100), factor(500)] == pytest.approx([1.0, 0.625, 0.25, 0.25])


@pytest.mark.parametrize(
    ("settings", "images", "seen", "decay"),
    [
        ({"decay": 0.999}, 64, 10, 0.999),
        # stylegan2-ada: 0.5 ** (batch / (kimg * 1000)), kimg at most ramp_up of what has been seen
        ({"half_life": 10_000}, 64, 10**6, 0.5 ** (64 / 10_000)),
        ({"half_life": 10_000, "ramp_up": 0.05}, 64, 20_000, 0.5 ** (64 / 1_000)),
        ({"half_life": 500_000}, 512, 10**7, 0.999290),  # R3GAN at 64 pixels with batch 512
    ],
)
def test_decay_of_the_average(settings: dict[str, float], images: int, seen: int, decay: float) -> None:
    assert WeightAverage(nn.Linear(1, 1), **settings).decay_after(images, seen) == pytest.approx(decay, abs=1e-6)


def test_average_follows_the_steps_of_its_network_alone_and_copies_buffers() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(network, decay=0.75)
    assert difference(dict(average.network.state_dict()), dict(network.state_dict())) == {}
    old = network[0].weight.detach().clone()
    with torch.no_grad():
        network[0].weight += 1.0
    network(torch.randn(8, 2))  # moves the running statistics
    average.update(network, 1, 1)
    assert torch.allclose(average.network[0].weight, old + 0.25)
    assert torch.equal(average.network[1].running_mean, network[1].running_mean)
    assert not average.train().network.training

    module = fit(Toy(every=2, ema={"generator": {"half_life": 4}}), 3)
    # The one step of the generator came after the second batch: eight images, two half-lives.
    start = Toy().generator.weight
    expected = start + (1 - 0.5**2) * (module.generator.weight - start)
    assert torch.allclose(module.network("generator").weight, expected, atol=1e-7)
    assert module.network("generator", ema=False) is module.generator


def test_accumulation_gives_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    def run(parts: int) -> AdversarialModule:
        cfg = small(tmp_path / str(parts), "dcgan", "trainer.precision=64-true", f"trainer.accumulate={parts}")
        cfg.model.generator.batch_norm = cfg.model.discriminator.batch_norm = False
        return train(cfg)

    whole, halves = run(1), run(2)
    assert max(difference(dict(whole.state_dict()), dict(halves.state_dict())).values(), default=0) < 1e-9


def test_bf16_trains_in_float32_weights(tmp_path: Path) -> None:
    module = train(small(tmp_path, "wgan_gp_dcgan", "trainer.precision=bf16-mixed"))
    assert all(torch.isfinite(p).all() and p.dtype == torch.float32 for p in module.parameters())


def test_fp16_unscales_before_clipping_and_skips_an_overflow() -> None:
    """With a loss scale, the step is that of float32; a scale that overflows leaves the weights alone and is halved."""
    start, plain = Toy(), fit(Toy(clip_grad_norm=1e-3), 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = fit(Toy(clip_grad_norm=1e-3), 1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert max(difference(dict(plain.state_dict()), dict(scaled.state_dict())).values()) < 1e-5
    assert difference(dict(plain.state_dict()), dict(start.state_dict()))

    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    skipped = fit(Toy(), 1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    assert difference(dict(skipped.state_dict()), dict(start.state_dict())) == {}
    assert scaler.get_scale() < 3e38


def test_channels_last_changes_the_layout_and_not_the_result(tmp_path: Path) -> None:
    plain = train(small(tmp_path / "a", "dcgan", "trainer.precision=64-true"))
    last = train(small(tmp_path / "b", "dcgan", "trainer.precision=64-true", "trainer.channels_last=true"))
    assert last.generator.layers[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert max(difference(dict(plain.state_dict()), dict(last.state_dict())).values(), default=0) < 1e-9


# ------------------------------------------------------------------------------------------ the variants' own steps


def _draws(module: AdversarialModule, phase: str) -> torch.Generator:
    module._seed_draws(phase)
    assert module._rng is not None
    return module._rng


def test_dcgan_is_the_loop_of_its_paper(tmp_path: Path) -> None:
    """Two batches, written out: one fake for both steps, Adam, real and fake apart, the average after the generator."""
    cfg = small(tmp_path, "dcgan", "images=8")
    cfg.model.ema = {"generator": {"decay": 0.999}}
    ours, hand = train(cfg), build.build_model(cfg)
    data = build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    generator, discriminator = hand.generator, hand.discriminator
    adam = {name: torch.optim.Adam(getattr(hand, name).parameters(), 2e-4, (0.5, 0.999)) for name in hand.network_names}
    bce = nn.functional.binary_cross_entropy_with_logits
    average = [p.detach().clone() for p in generator.parameters()]
    for _, raw in zip(range(2), data.train_dataloader(), strict=False):
        real = data.on_after_batch_transfer(raw, 0)["real"]
        z = torch.randn(4, 8, generator=_draws(hand, "discriminator"))
        ones, zeros = torch.ones(4), torch.zeros(4)
        fake = generator(z)
        adam["discriminator"].zero_grad()
        (bce(discriminator(real), ones) + bce(discriminator(fake.detach()), zeros)).backward()
        adam["discriminator"].step()
        adam["generator"].zero_grad()
        bce(discriminator(fake), ones).backward()
        adam["generator"].step()
        average = [0.999 * a + 0.001 * p.detach() for a, p in zip(average, generator.parameters(), strict=True)]
        hand.batches += 1
    assert max(difference(dict(ours.generator.state_dict()), dict(generator.state_dict())).values(), default=0) < 1e-6
    assert (
        max(difference(dict(ours.discriminator.state_dict()), dict(discriminator.state_dict())).values(), default=0)
        < 1e-6
    )
    averaged = list(ours.network("generator").parameters())
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(averaged, average, strict=True))


def test_wgan_gp_is_algorithm_1(tmp_path: Path) -> None:
    """Two critic steps and one of the generator, written out, with one alpha for each sample."""
    cfg = small(tmp_path, "wgan_gp_dcgan", "images=8", "trainer.precision=64-true")
    ours, hand = train(cfg), build.build_model(cfg).double()
    data = build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    generator, critic = hand.generator, hand.discriminator
    adam = {name: torch.optim.Adam(getattr(hand, name).parameters(), 1e-4, (0.5, 0.9)) for name in hand.network_names}
    for _, raw in zip(range(2), data.train_dataloader(), strict=False):
        real = data.on_after_batch_transfer(raw, 0)["real"].double()
        rng = _draws(hand, "discriminator")
        fake = generator(torch.randn(4, 8, generator=rng, dtype=torch.float64)).detach()
        alpha = torch.rand(4, generator=rng, dtype=torch.float64)
        between = alpha[:, None, None, None] * real + (1 - alpha[:, None, None, None]) * fake
        between.requires_grad_()
        slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0].flatten(1).norm(dim=1)
        adam["discriminator"].zero_grad()
        (critic(fake).mean() - critic(real).mean() + 10 * ((slope - 1) ** 2).mean()).backward()
        adam["discriminator"].step()
        hand.batches += 1
    hand.batches -= 1
    adam["generator"].zero_grad()
    z = torch.randn(4, 8, generator=_draws(hand, "generator"), dtype=torch.float64)
    (-critic(generator(z)).mean()).backward()
    adam["generator"].step()
    assert max(difference(dict(ours.discriminator.state_dict()), dict(critic.state_dict())).values(), default=0) < 1e-12
    weights = difference(dict(ours.generator.named_parameters()), dict(generator.named_parameters()))
    assert max(weights.values(), default=0) < 1e-9  # biases before a batch norm have no gradient but rounding


def test_cyclegan_terms_by_hand(tmp_path: Path) -> None:
    """Translators that change nothing cost 0; ones that negate 0 for the cycle and 5 |2x| for the identity."""
    cfg = small(tmp_path / "run", "cyclegan")
    module = build.build_model(cfg)
    batch = {"real_a": torch.rand(2, 3, 32, 32), "real_b": -torch.rand(2, 3, 32, 32)}

    class Scale(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, x: Tensor) -> Tensor:
            return self.by * x

    for by, cycle, identity in ((1.0, 0.0, 0.0), (-1.0, 0.0, 10.0)):
        module._once.clear()
        module.generator_ab = module.generator_ba = Scale(by)
        terms = module.generator_loss(batch)
        assert terms["cycle_a"].item() == pytest.approx(cycle)
        assert terms["identity_b"].item() == pytest.approx(identity * batch["real_b"].abs().mean().item(), rel=1e-5)
    module._once.clear()
    module.generator_ab, module.generator_ba = Scale(1.0), Scale(0.5)
    terms = module.generator_loss(batch)
    assert terms["cycle_a"].item() == pytest.approx(10 * 0.5 * batch["real_a"].abs().mean().item(), rel=1e-5)
    logits = module.discriminator_b(batch["real_a"])
    assert terms["adversarial_ab"].item() == pytest.approx((logits - 1).square().mean().item(), rel=1e-5)  # no half
    module._seed_draws("discriminator")
    losses = module.discriminator_loss(batch)
    real, fake = module.discriminator_a(batch["real_a"]), module.discriminator_a(0.5 * batch["real_b"])
    by_hand = 0.5 * ((real - 1).square().mean() + fake.square().mean())
    assert losses["adversarial_a"].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_pool_passes_fifty_then_swaps_half() -> None:
    pool = ImagePool(50)
    generator = torch.Generator().manual_seed(0)

    def ask(value: float) -> float:
        draws = torch.rand(2, 1, generator=generator)
        return float(pool(torch.full((1, 1, 1, 1), value), *draws))

    assert [ask(v) for v in range(50)] == list(range(50))
    fresh = sum(ask(v) == v for v in range(50, 2050))
    assert 0.45 < fresh / 2000 < 0.55
    assert len(pool.images) == 50
    again = ImagePool(50)
    again.set_extra_state(pool.get_extra_state())
    assert difference(again.images, pool.images) == {}
    assert float(ImagePool(0)(torch.ones(1, 1, 1, 1), torch.zeros(1), torch.zeros(1))) == 1.0


def test_draws_do_not_depend_on_the_parts() -> None:
    """A part of an accumulated batch gets its rows of what the whole batch draws."""
    module = Toy()
    module.run = RunSettings(accumulate=1)
    module._seed_draws("x")
    whole = module.draw(torch.randn, 6, 2)
    module.run.accumulate = 3
    parts = []
    for module._micro in range(3):
        module._seed_draws("x")
        parts.append(module.draw(torch.randn, 2, 2))
    assert torch.equal(torch.cat(parts), whole)
    assert distributed.world_size() == 1


def test_one_alpha_for_the_whole_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        gradient_penalty(nn.Flatten(), torch.rand(4, 3), torch.rand(4, 3), torch.rand(1))


def test_official_sizes_are_what_the_configs_build(tmp_path: Path) -> None:
    """The paper's networks at the paper's sizes, from the configs as they stand."""
    counts = {
        "dcgan": (64, 3, {"generator": 3_576_704, "discriminator": 2_765_568}),
        "wgan_gp": (32, 3, {"generator": 1_204_483, "discriminator": 1_053_825}),
        "wgan_gp_64": (64, 3, {"generator": 8_540_483, "discriminator": 7_491_841}),
        "wgan_gp_dcgan": (32, 3, {"generator": 5_179_907, "discriminator": 4_114_689}),
        "cyclegan": (256, 3, {"generator_ab": 11_378_179, "discriminator_b": 2_764_737}),
    }
    for model, (resolution, channels, expected) in counts.items():
        cfg = compose(tmp_path, f"model={model}", f"data.resolution={resolution}", f"data.channels={channels}")
        with torch.device("meta"):
            module = build.make(cfg.model)
        for name, count in expected.items():
            assert sum(p.numel() for p in getattr(module, name).parameters()) == count, (model, name)
        if model == "cyclegan":
            assert sum(p.numel() for p in module.parameters()) == 28_285_832


def test_losses_of_a_first_step_are_those_of_the_papers_at_rest(tmp_path: Path) -> None:
    """Logits near zero: 2 ln 2 and ln 2 for the non-saturating loss."""
    cfg = shrink(compose(tmp_path, "metrics=none", "images=64"))
    for network in (cfg.model.generator, cfg.model.discriminator):
        network.batch_norm = False
    module = build.build_model(cfg)
    zero = torch.zeros(4)
    assert isinstance(module.loss, NonSaturating)
    assert module.loss.discriminator(zero, zero).item() == pytest.approx(1.386294, abs=1e-6)
    logits = module.discriminator(module.sample(torch.randn(8, module.latent_dim)))
    assert logits.abs().max() < 0.1
