"""Techniques: the whole matrix on the variants, each one's own arithmetic, and the traps that must not come back."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from hydra.utils import get_class
from matrix import MARK, TECHNIQUES, TRANSLATORS, VARIANTS, Column, batches_of, drive, read_page
from omegaconf import OmegaConf
from support import REPOSITORY, model_class, small, train
from torch import Tensor, nn

from gan_experiments.assembly import build, check
from gan_experiments.callbacks.record import Record
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.spectral_norm import SpectralNorm
from gan_experiments.losses.logits import scales
from gan_experiments.losses.regularisers import top_k
from gan_experiments.models.noise_to_image import NoiseToImage, PlayerUpdate
from gan_experiments.models.technique import NEEDS
from gan_experiments.techniques.rhythm import CriticSchedule
from gan_experiments.techniques.targets import TopK


@pytest.mark.parametrize("model", VARIANTS)
def test_the_matrix(model: str, tmp_path: Path) -> None:
    """Each technique, loss and augmentation trains for two batches, or is refused as docs/techniques.md says."""
    column = Column(model, tmp_path / "run")
    assert column.cells() == read_page()[model]
    require_advice_that_can_be_typed(column)


@pytest.mark.parametrize("model", TRANSLATORS)
def test_the_matrix_of_translators(model: str, tmp_path: Path) -> None:
    """Each technique trains for two batches and changes what is learnt, or is refused as docs/techniques.md says."""
    column = Column(model, tmp_path / "run", batch_size=4)
    assert {choice: column.alone(choice) for choice in TECHNIQUES} == read_page()[model]
    require_advice_that_can_be_typed(column)


def require_advice_that_can_be_typed(column: Column) -> None:
    """What a penalty on batch norm advises: each discriminator once, and what has no other norm is left out."""
    reasons = column.reasons("technique", "r1")
    if any(" has batch norm" in reason for reason in reasons):
        words = re.findall(r"type (model\.\S+)", " ".join(reasons))
        assert words or all(reason.endswith("leave the penalty out, or take a critic without it") for reason in reasons)
        assert not words or not column.reasons("technique", "r1", tuple(words))


def test_the_page_is_what_models_and_techniques_declare() -> None:
    """What a technique needs and a model does not offer is refused for that reason, and nothing else is."""
    of_needs = {f"{reason}; leave it out": need for need, reason in NEEDS.items()}
    files = {choice: OmegaConf.load(REPOSITORY / "conf" / "technique" / f"{choice}.yaml") for choice in TECHNIQUES}
    needs = {choice: get_class(next(iter(file.values()))._target_).needs for choice, file in files.items()}  # type: ignore[union-attr]
    for model, cells in read_page().items():
        offers = model_class(model).offers
        for choice in TECHNIQUES:
            lacking = [need for need in NEEDS if need in needs[choice] - offers]
            assert [of_needs[reason] for reason in cells[choice] if reason in of_needs] == lacking[:1], (model, choice)
            assert not lacking or MARK not in cells[choice]
            assert not any("Error" in reason for reason in cells[choice]), "a fault, and no reason for a person"


def model_of(folder: Path, model: str, *overrides: str) -> tuple[NoiseToImage, Any]:
    """A small variant and its data, ready for `drive`."""
    cfg = small(folder, model, "data.batch_size=4", *overrides)
    check.require(cfg)
    data = build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    module = build.build_model(cfg)
    assert isinstance(module, NoiseToImage)
    return module, data


def first_batch(data: Any) -> dict[str, Tensor]:
    return next(batches_of(data, 1))


def update_of(module: NoiseToImage, data: Any, of_generator: bool = False) -> PlayerUpdate:
    """A turn on the first batch, with draws as in a phase."""
    module._seed_draws("discriminator")
    return PlayerUpdate(module, first_batch(data), of_generator)


# ------------------------------------------------------------------------------------------ the terms


def test_penalties_are_those_of_the_formulas(tmp_path: Path) -> None:
    """With a linear critic of slope w: R1 and R2 γ|w|²/2, WGAN-GP λ(|w| - 1)², zero-centred λ|w|²."""
    names = ["r1", "r2", "gradient_penalty", "zero_gp", "dragan"]
    module, data = model_of(tmp_path, "sngan", f"technique=[{','.join(names)}]")
    w = torch.randn(32 * 32, generator=torch.Generator().manual_seed(0))
    w *= 5 / w.norm()
    module.discriminator = _Linear(w)
    update = update_of(module, data)
    found = {name: module.techniques[name].term(update).item() for name in names}
    expected = {"r1": 125.0, "r2": 125.0, "gradient_penalty": 160.0, "zero_gp": 250.0, "dragan": 160.0}
    assert found == pytest.approx(expected, rel=1e-5)


class _Linear(nn.Module):
    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.w


def test_lazy_terms_are_multiplied_and_adam_is_corrected(tmp_path: Path) -> None:
    """StyleGAN2's at k = 16: the rate times 16/17, the betas to that power, a step of its own at each 16th batch."""
    module, data = model_of(tmp_path, "sngan", "technique=[r1]", "technique.r1.every=16", "images=128")
    drive(module, batches_of(data, 32))
    group = module._optimizers["discriminator"].param_groups[0]
    assert group["betas"] == pytest.approx((0.0, 0.9 ** (16 / 17)))
    assert module._base_rates["discriminator"] == pytest.approx([2e-4 * 16 / 17])
    logged = module._history
    assert [seen for seen, _ in logged["discriminator_r1/r1"]] == [15 * 4, 31 * 4]
    module.flush()


def test_a_lazy_term_is_the_plain_one_times_its_interval(tmp_path: Path) -> None:
    module, data = model_of(tmp_path, "sngan", "technique=[r1]", "technique.r1.every=4")
    lazy = next(phase for phase in module.phases() if phase.name == "discriminator_r1")
    update = update_of(module, data)
    assert lazy.loss(update.batch)["r1"].item() == pytest.approx(4 * module.techniques["r1"].term(update).item())
    assert (lazy.every, lazy.optimizer) == (4, "discriminator")


def test_clipping_leaves_every_weight_of_the_critic_within_the_bound(tmp_path: Path) -> None:
    module, data = model_of(tmp_path, "wgan")
    drive(module, batches_of(data, 2))
    assert max(p.abs().max().item() for p in module.discriminator.parameters()) <= 0.01
    assert max(p.abs().max().item() for p in module.generator.parameters()) > 0.01


def test_wgans_schedule_is_that_of_its_code(tmp_path: Path) -> None:
    """100 steps of the critic for each of the generator's first 25 and for each 500th, else 5."""
    module, _ = model_of(tmp_path, "wgan")
    module.n_critic = 5
    schedule = CriticSchedule(steps=100, first=25, period=500)
    critic, generator = module.phases()
    steps, counts = 0, []
    while len(counts) < 1001:
        schedule.after_step(module, critic)
        steps += 1
        if schedule.due(module, generator):
            schedule.after_step(module, generator)
            counts.append(steps)
            steps = 0
    assert counts == [100 if i < 25 or i % 500 == 0 else 5 for i in range(1001)]


def test_a_player_that_rests_is_looked_at_and_not_stepped(tmp_path: Path) -> None:
    """Not even by the momentum of its optimizer."""
    module, data = model_of(tmp_path, "dcgan", "technique=[adaptive_balance]")
    drive(module, batches_of(data, 1))
    before = [p.detach().clone() for p in module.discriminator.parameters()]
    module.techniques["adaptive_balance"].balance.accuracy.fill_(0.9)
    batch = {"real": first_batch(data)["real"]}
    module.training_step(batch, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, module.discriminator.parameters(), strict=True))
    assert len(module._history["discriminator/adversarial"]) == 2
    assert module.techniques["adaptive_balance"].balance.accuracy != 0.9


def test_the_generator_waits_for_the_warm_up(tmp_path: Path) -> None:
    module, data = model_of(tmp_path, "dcgan", "technique=[warm_up]", "technique.warm_up.images=8")
    before = module.generator.layers[0].weight.detach().clone()
    drive(module, batches_of(data, 2))
    assert torch.equal(module.generator.layers[0].weight, before)
    drive(module, batches_of(data, 1))
    assert not torch.equal(module.generator.layers[0].weight, before)


def test_feature_matching_replaces_the_generators_loss_or_joins_it(tmp_path: Path) -> None:
    for words, names in (([], {"feature_matching"}), (["false"], {"feature_matching", "adversarial"})):
        more = [f"technique.feature_matching.replaces_generator_loss={word}" for word in words]
        module, data = model_of(tmp_path, "dcgan", "technique=[feature_matching]", *more)
        drive(module, batches_of(data, 1))
        assert {name.partition("/")[2] for name in module._history if name.startswith("generator/")} == names


def test_ada_follows_the_discriminator(tmp_path: Path) -> None:
    """p moves by the images of four batches over `speed`, up where all real logits are positive."""
    module, data = model_of(tmp_path, "dcgan", "augment=ada", "augment.speed=160")
    module.observe(real=torch.ones(4), fake=torch.ones(4))
    drive(module, batches_of(data, 0))
    module.augment.signs.zero_()
    for batches in range(1, 5):
        module.observe(real=torch.ones(4), fake=-torch.ones(4))
        module.augment.adjust(batches)
    assert module.augment.p.item() == pytest.approx(16 / 160)


def test_classes_reach_both_players(tmp_path: Path) -> None:
    """Fakes of all classes by uniform draws, or of the batch's own; both networks look at them."""
    module, data = model_of(tmp_path, "cdcgan")
    update = update_of(module, data)
    assert update.fake_label is not None
    assert 0 <= int(update.fake_label.min()) <= int(update.fake_label.max()) < 10
    z, other = update.z, (update.fake_label + 1) % 10
    assert not torch.equal(module.generate(z, update.fake_label), module.generate(z, other))
    assert not torch.equal(module.logits(update.real, update.fake_label), module.logits(update.real, other))
    own, data = model_of(tmp_path, "cdcgan", "model.fake_labels=batch")
    update = update_of(own, data)
    assert torch.equal(update.fake_label, update.batch["label"])  # type: ignore[arg-type]


def test_points_between_two_classes_are_refused(tmp_path: Path) -> None:
    words = ["technique=[gradient_penalty]"]
    with pytest.raises(
        ConfigError, match=r"technique=gradient_penalty: points between .* type model\.fake_labels=batch"
    ):
        model_of(tmp_path, "sngan_projection", *words)
    model_of(tmp_path, "sngan_projection", *words, "model.fake_labels=batch")


def test_the_classifier_learns_from_reals_and_fakes(tmp_path: Path) -> None:
    """At chance, ln 10 for each of the two; for the generator's fakes alone."""
    module, data = model_of(tmp_path, "acgan", "technique.auxiliary_classifier.generator_weight=0.1")
    nn.init.zeros_(module.discriminator.classifier.weight)
    nn.init.zeros_(module.discriminator.classifier.bias)
    classifier = module.techniques["auxiliary_classifier"]
    assert classifier.term(update_of(module, data)).item() == pytest.approx(2 * math.log(10))
    assert classifier.term(update_of(module, data, of_generator=True)).item() == pytest.approx(0.1 * math.log(10))


@pytest.mark.parametrize("model", ["dcgan", "sngan", "r3gan"])
def test_the_discriminator_update_gives_the_generator_no_gradient(model: str, tmp_path: Path) -> None:
    module, data = model_of(tmp_path, model)
    update = update_of(module, data)
    torch.stack(list(module.discriminator_loss(update).values())).sum().backward()
    assert all(parameter.grad is None for parameter in module.generator.parameters())
    assert any(parameter.grad is not None for parameter in module.discriminator.parameters())


def test_r3gan_anneals_by_half_a_cosine(tmp_path: Path) -> None:
    """The paper's values at the middle of the burn-in, and the augmentation's at a quarter of it."""
    module, data = model_of(tmp_path, "r3gan")
    drive(module, batches_of(data, 0))
    module.images_seen = 10_000_000
    assert module.now(module.gamma) == pytest.approx(0.0275)
    assert module.now(module.beta2) == pytest.approx(0.945)
    assert module.schedules["generator"](10_000_000) * 2e-4 == pytest.approx(1.25e-4)
    module.images_seen = 5_000_000
    assert module.now(module.augment_p) == pytest.approx(0.080546, abs=1e-6)


def test_top_k_shrinks_by_the_epochs_of_the_data() -> None:
    """Sinha et al. 2020: γ = 0.99 an epoch, half of the batch at least; of 50,000 images .99, and .932 after 7."""
    technique = TopK()
    shares = [technique.share(SimpleNamespace(epoch=50_000, images_seen=50_000 * done)) for done in (0, 1, 7, 100)]  # type: ignore[arg-type]
    assert shares == pytest.approx([1, 0.99, 0.99**7, 0.5])
    assert pytest.approx(0.932, abs=1e-3) == 0.99**7
    endless = SimpleNamespace(epoch=None, images_seen=50_000)
    assert technique.share(endless) == 0.99  # type: ignore[arg-type]
    assert TopK(every=5_000).share(endless) == pytest.approx(0.99**10)  # type: ignore[arg-type]


def test_what_augmentations_and_techniques_tell_is_recorded(tmp_path: Path) -> None:
    cfg = small(tmp_path, "dcgan", "technique=[top_k,drift]", "augment=ada", "data.limit=8", "trainer.log_every=1")
    told: list[dict[str, float]] = []

    class Listener(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            told.extend(c.fresh for c in trainer.callbacks if isinstance(c, Record))  # type: ignore[attr-defined]

    module: Any = train(cfg, extra=[Listener()])
    assert [row["top_k/share"] for row in told] == [1, 0.99, 0.99, 0.99**2]  # 4 of 8 images a batch
    assert told[-1]["augment/p"] == pytest.approx(module.augment.p.item())
    assert not any(name.startswith("drift/") for name in told[-1])


# ------------------------------------------------------------------------------------------ translators


def translator_of(folder: Path, model: str, *overrides: str) -> tuple[Any, dict[str, Tensor]]:
    """A small translator ready to draw, and a batch of two."""
    cfg = small(folder / "run", model, *overrides)
    module = build.build_model(cfg)
    module._seed_draws("discriminator")
    generator = torch.Generator().manual_seed(1)
    return module, {key: torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1 for key in sorted(module.needs)}


def test_penalties_of_pairs_are_of_the_image_alone_and_of_its_patches(tmp_path: Path) -> None:
    """R1 is of the mean of an image's patches, the penalty between real and fake of their sum; the input stays."""
    words = ("model.discriminator.norm=instance", "technique=[r1,gradient_penalty]")
    module, batch = translator_of(tmp_path, "pix2pix", *words)
    (pairs,) = module.comparisons(batch)

    def slope(image: Tensor, row: int, count: Any) -> Tensor:
        image = image.detach().requires_grad_()
        (logits,) = module.discriminator(torch.cat([batch["input"][row], image])[None])
        assert logits.numel() > 1
        return torch.autograd.grad(count(logits), image)[0].square().sum()

    r1 = sum(slope(batch["target"][row], row, torch.mean) for row in range(2)) / 2
    assert module.techniques["r1"].term(pairs).item() == pytest.approx(10 / 2 * float(r1), rel=1e-4)
    module._seed_draws("discriminator")
    found = module.techniques["gradient_penalty"].term(pairs).item()
    module._seed_draws("discriminator")
    points = [a * r + (1 - a) * f for a, r, f in zip(module.draw(torch.rand, 2), pairs.real, pairs.fake, strict=True)]
    distances = [(slope(point, row, torch.sum).sqrt() - 1) ** 2 for row, point in enumerate(points)]
    assert found == pytest.approx(10 * float(sum(distances) / 2), rel=1e-4)


def test_noise_is_put_on_what_is_judged_and_not_on_the_input_beside_it(tmp_path: Path) -> None:
    module, batch = translator_of(tmp_path, "pix2pix", "technique=[instance_noise]")
    seen: list[Tensor] = []
    module.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    module.discriminator_loss(batch)
    for given, judged in (images.split(3, dim=1) for images in seen):
        assert torch.equal(given, batch["input"])
        assert not any(torch.equal(judged, images) for images in (batch["target"], module.fake(batch)))


@pytest.mark.parametrize(
    ("model", "others"), [("cyclegan", ["b_0"]), ("bicyclegan", ["encoded_1", "random_0", "random_1"])]
)
def test_each_discriminator_and_scale_has_averages_of_its_own(model: str, others: list[str], tmp_path: Path) -> None:
    module, batch = translator_of(tmp_path, model, "technique=[lecam]")
    lecam = module.techniques["lecam"]
    assert list(lecam.others) == [f"discriminator_{name}" for name in others]
    comparisons = module.comparisons(batch)
    for comparison in comparisons:
        lecam.term(comparison)
    logits = [one for c in comparisons for one in (c.real_logits if model == "bicyclegan" else [c.real_logits])]
    means = [averages.real_mean.item() for averages in (lecam.lecam, *lecam.others.values())]
    assert means == pytest.approx([one.mean().item() for one in logits], rel=1e-5)
    assert len({round(mean, 6) for mean in means}) == len(means)


@pytest.mark.parametrize(
    ("model", "n"), [("stackgan_1", 1), ("stackgan_2", 2), ("stackgan_v2", 6), ("stackgan_v2_unconditional", 3)]
)
def test_each_logit_of_captions_and_scales_has_averages_of_its_own(model: str, n: int, tmp_path: Path) -> None:
    module, data = model_of(tmp_path, model, "technique=[lecam]")
    lecam = module.techniques["lecam"]
    update = update_of(module, data)
    assert lecam.term(update).isfinite()
    averages = [lecam.lecam, *lecam.others.values()]
    means = [one.mean().item() for one in scales(update.real_logits)]
    assert len(averages) == n
    assert [one.real_mean.item() for one in averages] == pytest.approx(means, rel=1e-5)


def test_the_most_convincing_images_keep_all_their_patches() -> None:
    """By the mean over the patches, and by the sum of the scales' means."""
    fine = torch.tensor([[4.0, 0.0], [3.0, 3.0], [1.0, 1.0], [0.0, 2.5]])[:, None, None]
    assert torch.equal(top_k(fine, 0.5), fine[[1, 0]])  # type: ignore[arg-type]
    coarse = torch.tensor([0.0, 0.0, 9.0, 0.0])[:, None, None, None]
    chosen = top_k([fine, coarse], 0.5)
    assert torch.equal(chosen[0], fine[[2, 1]])
    assert torch.equal(chosen[1], coarse[[2, 1]])


def test_a_lazy_term_asks_the_pool_no_further_time(tmp_path: Path) -> None:
    """Nor does it change the discriminators' other steps: CycleGAN's pools hold the images of two batches."""
    words = ["technique=[r1]", "technique.r1.every=2"]
    module, batch = translator_of(tmp_path, "cyclegan", *words)
    drive(module, [batch, batch])
    assert len(module._history["discriminator_r1/r1"]) == 1
    assert len(module.pool_a.images) == len(module.pool_b.images) == 4
    assert module._base_rates["discriminator"] == pytest.approx([2e-4 * 2 / 3])
    assert module._base_rates["generator"] == [2e-4]


def test_every_discriminator_is_normalised_and_clipped(tmp_path: Path) -> None:
    module, batch = translator_of(tmp_path, "cyclegan", "technique=[weight_clipping,spectral_norm]")
    drive(module, [batch])
    for network in (module.discriminator_a, module.discriminator_b):
        assert sum(isinstance(layer, SpectralNorm) for layer in network.modules()) == 4
        assert max(p.abs().max().item() for p in network.parameters()) <= 0.01
    assert not any(isinstance(layer, SpectralNorm) for layer in module.generator_ab.modules())


@pytest.mark.parametrize(
    ("model", "technique", "reason"),
    [
        ("srresnet", "r1", "technique=r1: it works on a discriminator, and this model trains none; leave it out"),
        ("pix2pix", "cr", "no longer fit the input that it sees beside them; leave it out"),
        ("pix2pix", "r1", "mixes the samples .* type model.discriminator.norm=instance"),
        ("stargan", "zero_gp", "technique=zero_gp: this model has a gradient penalty of its own"),
    ],
)
def test_the_check_refuses_in_one_line(model: str, technique: str, reason: str, tmp_path: Path) -> None:
    (fault,) = check.faults(small(tmp_path / "run", model, f"technique=[{technique}]"))
    assert re.search(reason, fault)
