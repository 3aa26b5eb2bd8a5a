"""ESRGAN, and the stage before it: terms by hand as in BasicSR, sizes and rates as published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from support import bare_checkpoint, compose, difference, random_vgg19, small, train
from test_srgan import batch_of, opened, seen_at
from torch import Tensor, nn

from gan_experiments.assembly import build, check, trained
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.spectral_norm import spectral_norm
from gan_experiments.networks.esrgan import interpolate as weights_between
from gan_experiments.verbs import interpolate


def test_the_first_stage_is_the_absolute_error_of_images_in_0_1(tmp_path: Path) -> None:
    module, batch = opened(small(tmp_path / "run", "rrdb_psnr")), batch_of()
    terms = module.generator_loss(batch)
    error = (module.generator(batch["low"]) - batch["high"]) / 2
    assert terms.keys() == {"pixel"}
    assert terms["pixel"].item() == pytest.approx(error.abs().mean().item(), rel=1e-5)


def relativistic(logits: Tensor, others: Tensor, real: bool) -> Tensor:
    """BasicSR's cross-entropy of logits less the mean of the others."""
    apart = logits - others.mean()
    return F.binary_cross_entropy_with_logits(apart, torch.full_like(apart, float(real)))


def test_esrgan_terms_by_hand(tmp_path: Path) -> None:
    """5e-3 of half of both relativistic terms, an absolute error of conv5_4 before its ReLU, 1e-2 of one of pixels."""
    path = tmp_path / "vgg19.pth"
    body = random_vgg19(path)
    words = ("perceptual=vgg19_esrgan", f"perceptual.weights={path}")
    module, batch = opened(small(tmp_path / "run", "esrgan", *words)), batch_of()
    terms = module.generator_loss(batch)
    assert terms.keys() == {"adversarial", "perceptual", "pixel"}
    fake, high = module.fake(batch), batch["high"]
    mine, theirs = module.discriminator(fake), module.discriminator(high)
    by_hand = (relativistic(theirs, mine, False) + relativistic(mine, theirs, True)) / 2
    assert terms["adversarial"].item() == pytest.approx(5e-3 * by_hand.item(), rel=1e-4)
    seen, wanted = (seen_at(body, "conv5_4", images) for images in (fake, high))
    assert terms["perceptual"].item() == pytest.approx(F.l1_loss(seen, wanted).item(), rel=1e-4)
    assert terms["pixel"].item() == pytest.approx(1e-2 * ((fake - high) / 2).abs().mean().item(), rel=1e-5)
    loss = module.discriminator_loss(batch)["adversarial"]
    by_hand = (relativistic(theirs, mine, True) + relativistic(mine, theirs, False)) / 2
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_the_real_logits_are_constants_in_the_generators_step(tmp_path: Path) -> None:
    """Else the discriminator would be differentiated for nothing."""
    module, batch, asked = opened(small(tmp_path / "run", "esrgan")), batch_of(), []
    module.discriminator.register_forward_hook(lambda _, images, logits: asked.append(logits.requires_grad))
    module.generator_loss(batch)
    assert sorted(asked) == [False, True]
    asked.clear()
    module.discriminator_loss(batch)
    assert asked == [True, True]


def test_as_configured_it_has_the_official_size_and_rates(tmp_path: Path) -> None:
    with torch.device("meta"):
        first, second = (
            build.make(compose(tmp_path, f"model={model}", "images=400_000").model) for model in ("rrdb_psnr", "esrgan")
        )
    count = {name: sum(p.numel() for p in getattr(second, name).parameters()) for name in second.network_names}
    assert count == {"generator": 16_697_987, "discriminator": 14_499_401}
    assert sum(p.numel() for p in first.generator.parameters()) == 16_697_987
    for name in ("generator", "discriminator"):
        at = (0, 49_999, 50_000, 100_000, 200_000, 299_999, 300_000)
        assert [second.schedules[name](images) for images in at] == [1, 1, 0.5, 0.25, 0.125, 0.125, 0.0625]
    assert [first.schedules["generator"](images) for images in (0, 79_999, 80_000, 399_999)] == [1, 1, 0.5, 0.0625]
    assert second.averages["generator"].decay == 0.999


def test_a_scale_that_it_cannot_make_is_one_line(tmp_path: Path) -> None:
    check.require(small(tmp_path / "run", "rrdb_psnr", "data.scale=2"))
    with pytest.raises(ConfigError, match=r"^RRDBNet cannot enlarge 3 times: type data\.scale=2 or data\.scale=4$"):
        check.require(small(tmp_path / "run", "rrdb_psnr", "data.scale=3", "data.resolution=48"))


def test_what_is_no_weight_is_that_of_the_second() -> None:
    """The extra state of spectral norm, a number, and the counters of batch norm."""
    ends = [nn.Sequential(spectral_norm(nn.Linear(2, 2)), nn.BatchNorm1d(2)) for _ in range(2)]
    for steps, end in enumerate(ends):
        for _ in range(1 + steps):
            end(torch.randn(4, 2))
    states = [end.state_dict() for end in ends]
    between = weights_between(*states, 0.25)
    assert between["1.num_batches_tracked"] == 2
    (extra,) = [name for name, value in states[1].items() if not isinstance(value, Tensor)]
    assert between[extra] == states[1][extra] != states[0][extra]
    first, second = (state["1.running_mean"] for state in states)
    torch.testing.assert_close(between["1.running_mean"], 0.75 * first + 0.25 * second)
    ends[0].load_state_dict(between)


def test_between_two_runs_is_a_run(tmp_path: Path) -> None:
    """(1 - α) of the first stage and α of the second, of what either shows, which is its average if it has one."""
    first, second = tmp_path / "first", tmp_path / "second"
    train(small(first, "rrdb_psnr", "images=2"), every=1)
    train(small(second, "esrgan", "images=2"), every=1)
    words = {"a": str(first), "b": str(second), "alpha": 0.25, "out": str(tmp_path / "between"), "existing": "refuse"}
    assert interpolate.interpolate(OmegaConf.create(words)) == 0
    a, b, between = (trained.open_run(str(folder)) for folder in (first, second, tmp_path / "between"))
    assert between.folder == tmp_path / "between"
    assert between.model.images_seen == b.model.images_seen
    x, y = (one.model.network("generator").state_dict() for one in (a, b))
    wanted = {name: 0.75 * x[name] + 0.25 * y[name] for name in x}
    for ema in (True, False):
        torch.testing.assert_close(dict(between.model.network("generator", ema).state_dict()), wanted)
    state = between.model.discriminator.state_dict()
    assert difference(state, b.model.discriminator.state_dict()) == {}

    words["alpha"] = 1
    with pytest.raises(
        ConfigError,
        match=r"is there already, and 1 more: type existing=keep to .* or another out=$",
    ):
        interpolate.interpolate(OmegaConf.create(words))
    words["existing"] = "replace"
    assert interpolate.interpolate(OmegaConf.create(words)) == 0
    again = trained.open_run(str(tmp_path / "between")).model.network("generator").state_dict()
    torch.testing.assert_close(dict(again), dict(y))


def test_what_has_nothing_in_between_is_one_line(tmp_path: Path) -> None:
    for name, key, shape in (("a", "generator.w", 1), ("b", "generator.w", 2), ("c", "generator_ab.w", 1)):
        torch.save(bare_checkpoint({key: torch.zeros(shape)}), tmp_path / f"{name}.ckpt")
    for words, message in (
        ({"alpha": 1.5}, r"^alpha=1\.5: a number from 0 to 1"),
        ({"existing": "skip"}, r"^existing=skip: "),
        ({"a": "nowhere"}, r"^a=nowhere: there is no such file"),
        ({"b": f"{tmp_path / 'c.ckpt'}"}, r"^b=.*c\.ckpt: that run has no generator; type b= another one$"),
        ({}, r"^the two networks differ in w: only networks alike"),
    ):
        cfg = {"a": f"{tmp_path / 'a.ckpt'}", "b": f"{tmp_path / 'b.ckpt'}", "alpha": 0.5, "out": None}
        cfg |= {"existing": "refuse", **words}
        with pytest.raises(ConfigError, match=message) as caught:
            interpolate.interpolate(OmegaConf.create(cfg))
        assert len(caught.value.faults) == 1
