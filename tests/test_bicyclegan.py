"""BicycleGAN: a step of the authors' code, each term by hand, and who learns from what."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from support import compose, small
from test_steps_official import Recorded, filled, formula
from torch import Tensor

from gan_experiments.assembly import build, check
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.losses.latent import kl_to_standard_normal
from gan_experiments.models.bicyclegan import BicycleGAN


def made(folder: Path, *words: str) -> BicycleGAN:
    module = build.build_model(small(folder, "bicyclegan", *words)).double()
    assert isinstance(module, BicycleGAN)
    module._seed_draws("generator")
    return module


def pairs(n: int) -> Batch:
    return {"input": 2 * formula(2000, n, 3, 32, 32), "target": 2 * formula(2001, n, 3, 32, 32)}


def values(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


# The losses and fingerprints of the gradients of one optimize_parameters() of BicycleGAN 40b9d52's BiCycleGANModel, at
# float64, 128 pixels and widths of 4, for batches of 2 and of 4: generator and encoder, then both discriminators.
OFFICIAL = {
    2: (
        [14.594493040856541, 24.15733196848288, 9.533796437991583, 0.6674373974771358, 0.11684904971714495],
        [28.11549829526838, 39.80600497331642],
        (50.96470241072025, -8.035186924652159, 5.530683544727254),
        (60.99958842456251, -32.07013504102716, 20.302686449313953),
    ),
    4: (
        [15.368717458325216, 23.24729988505268, 9.247248153266472, 0.6702532661097538, 0.23592169777162444],
        [28.585914372776042, 39.87085741539846],
        (34.88256200546516, -8.228787694979564, 3.7462266602151493),
        (59.041277174578696, -26.91726578117786, 14.59649438118216),
    ),
}


@pytest.mark.parametrize("n", OFFICIAL)
def test_a_batch_is_a_step_of_the_authors_model(n: int, tmp_path: Path) -> None:
    module = made(tmp_path, "data.resolution=128")
    for name in module.network_names:
        filled(getattr(module, name))
    for k, parameter in enumerate(module.discriminator_random.parameters()):
        parameter.data = formula(k + 100, *parameter.shape)
    optimizers = [Recorded(optimizer) for optimizer in module.configure_optimizers()]
    module.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment, misc]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment, misc]
    numbers = iter((1001, 1002))
    module.draw = lambda sampler, *shape: 3 * formula(next(numbers), *shape)  # type: ignore[method-assign, assignment]
    module.on_fit_start()
    module.train()
    batch = {"input": 2 * formula(2000, n, 3, 128, 128), "target": 2 * formula(2001, n, 3, 128, 128)}
    module.training_step(batch, 0)

    losses = {name: rows[0][1].item() for name, rows in module._history.items() if "/" in name and "norm" not in name}
    names = [f"generator/{name}" for name in ("adversarial_encoded", "adversarial_random", "l1", "latent", "kl")]
    names += ["discriminator/adversarial_encoded", "discriminator/adversarial_random"]
    assert losses == pytest.approx(dict(zip(names, [*OFFICIAL[n][0], *OFFICIAL[n][1]], strict=True)), rel=1e-9)
    for optimizer, gradient in zip(("generator", "discriminator"), OFFICIAL[n][2:], strict=True):
        assert module._optimizers[optimizer].seen == pytest.approx(gradient, rel=1e-8)  # type: ignore[attr-defined]


def test_the_terms_by_hand(tmp_path: Path) -> None:
    """Of pairs 0 and 2 the inputs are translated; the discriminator of random codes sees the targets of 1 and 3."""
    module, batch = made(tmp_path), pairs(4)
    fakes = module.fakes(batch)
    terms = values(module.generator_loss(batch))
    assert fakes is module.fakes(batch)
    inputs, encoded, others = batch["input"][[0, 2]], batch["target"][[0, 2]], batch["target"][[1, 3]]
    with torch.no_grad():
        mean, log_variance = module.encoder(encoded)
        torch.testing.assert_close(fakes.random, module.generator(inputs, fakes.z))
        kl = 0.5 * sum(
            m**2 + math.exp(v) - 1 - v
            for m, v in zip(mean.flatten().tolist(), log_variance.flatten().tolist(), strict=True)
        )
        latent = (module.encoder(fakes.random)[0] - fakes.z).abs().mean().item()
        fooled = [
            sum((logits - 1).square().mean().item() for logits in judge(images))
            for judge, images in (
                (module.discriminator_encoded, fakes.encoded),
                (module.discriminator_random, fakes.random),
            )
        ]
    by_hand = [*fooled, 10 * (fakes.encoded - encoded).abs().mean().item(), 0.5 * latent, 0.01 * kl]
    assert list(terms.values()) == pytest.approx(by_hand)
    told_apart = [
        sum(
            (real - 1).square().mean().item() + fake.square().mean().item()
            for real, fake in zip(judge(reals), judge(images), strict=True)
        )
        for judge, reals, images in (
            (module.discriminator_encoded, encoded, fakes.encoded),
            (module.discriminator_random, others, fakes.random),
        )
    ]
    assert list(values(module.discriminator_loss(batch)).values()) == pytest.approx(told_apart)


def test_kl_is_a_sum_over_all_parts_of_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, log_variance = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 2)
    assert kl_to_standard_normal(mean, log_variance).sum().item() == 2.5
    module = made(tmp_path)
    monkeypatch.setattr(module.encoder, "forward", lambda _: (mean.double(), log_variance.double()))
    module.latent_dim = 2
    monkeypatch.setattr(module.generator, "forward", lambda images, z: images * (1 + z[:, :1, None, None]))
    assert module.generator_loss(pairs(4))["kl"].item() == pytest.approx(0.025)
    module.run.accumulate = 3  # the mean of three such parts is what the engine minimises
    module._once.clear()
    assert module.generator_loss(pairs(4))["kl"].item() == pytest.approx(0.075)


def test_a_code_without_variance_is_its_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = made(tmp_path), []
    mean = formula(1, 1, 8)
    monkeypatch.setattr(module.encoder, "forward", lambda _: (mean, torch.full_like(mean, -200)))
    monkeypatch.setattr(module.generator, "forward", lambda images, z: seen.append(z) or images)
    module.fakes(pairs(2))
    torch.testing.assert_close(seen[0], mean, atol=1e-12, rtol=0)
    assert (seen[1] - mean).abs().max() > 0.1


def learners(module: BicycleGAN, loss: Tensor) -> set[str]:
    """The networks that a term has gradients for."""
    module._once.clear()
    module.zero_grad()
    loss.backward()
    named = {name: [p.grad for p in getattr(module, name).parameters()] for name in module.network_names}
    return {name for name, grads in named.items() if any(grad is not None and grad.any() for grad in grads)}


def test_who_learns_from_what(tmp_path: Path) -> None:
    """The latent distance moves the generator alone; translations as they are shown to the discriminators move none."""
    module, batch, both = made(tmp_path), pairs(2), {"generator", "encoder"}
    for which in ("encoded", "random"):
        term = module.discriminator_loss(batch)[f"adversarial_{which}"]
        assert learners(module, term) == {f"discriminator_{which}"}
    module.discriminator_encoded.requires_grad_(False)  # as the engine does
    module.discriminator_random.requires_grad_(False)
    expected = {
        "adversarial_encoded": both,
        "adversarial_random": {"generator"},
        "l1": both,
        "latent": {"generator"},
        "kl": {"encoder"},
    }
    for name, who in expected.items():
        assert learners(module, module.generator_loss(batch)[name]) == who, name


def test_the_seed_of_a_translation_is_its_code(tmp_path: Path) -> None:
    """One code for all images of a call: what the tiles of one photograph need, and a column of a sheet."""
    module, batch = made(tmp_path), pairs(3)
    torch.manual_seed(0)
    first = module.translate(batch, seed=5)
    z = torch.randn(1, 8, generator=torch.Generator().manual_seed(5)).double()
    with torch.no_grad():
        torch.testing.assert_close(first, module.generator(batch["input"], z.expand(3, 8)))
    torch.testing.assert_close(module.translate({"input": batch["input"][1:2]}, seed=5), first[1:2])
    assert (module.translate(batch, seed=6) - first).abs().max() > 1e-6
    cells = module.sheet(batch)
    assert cells.shape == (3, 6, 3, 32, 32)
    assert torch.equal(cells[:, [0, 5]], torch.stack([batch["input"], batch["target"]], dim=1))
    assert torch.equal(cells[:, 3], module.translate(batch, seed=2))


def test_an_odd_number_of_pairs_is_a_mistake(tmp_path: Path) -> None:
    module = made(tmp_path)
    module.run.accumulate = 2
    with pytest.raises(ConfigError, match=r"data\.batch_size=2 is 1 at once: .* type data\.batch_size=4$"):
        module.fakes(pairs(1))


def test_as_configured_it_is_the_official_one(tmp_path: Path) -> None:
    """Two images a batch, and 256 pixels."""
    cfg = compose(tmp_path, "model=bicyclegan")
    assert (cfg.data.batch_size, cfg.data.resolution) == (2, 256)
    assert compose(tmp_path, "model=bicyclegan", "data.batch_size=8").data.batch_size == 8
    with torch.device("meta"):
        module = build.make(cfg.model)
    assert build.parameters(module) == {
        "generator": 54_794_627,
        "encoder": 2_590_032,
        "discriminator_encoded": 3_458_978,
        "discriminator_random": 3_458_978,
    }
    assert module.discriminator_encoded is not module.discriminator_random
    assert (module.l1_weight, module.latent_weight, module.kl_weight) == (10, 0.5, 0.01)
    check.require(cfg)
