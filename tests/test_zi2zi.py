"""zi2zi by hand: its losses, its two steps of the generator for one of the discriminator, its fonts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support import compose, ready, small, train
from torch import Tensor, nn

from gan_experiments.assembly import build
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.models.zi2zi import Zi2Zi


def built(folder: Path, *words: str) -> tuple[Zi2Zi, Batch]:
    """A small model of two fonts, and a batch of two characters in them."""
    cfg = small(folder / "run", "zi2zi", *words)
    data, module = build.make(cfg.data), build.build_model(cfg)
    data.prepare_data()
    data.setup("fit")
    return module, {**ready(data), "label": torch.tensor([0, 1])}


class Halve(nn.Module):
    """Characters of half the ink, whose code is their first row."""

    def forward(self, images: Tensor, label: Tensor, draw: object) -> Tensor:
        return images / 2

    def with_code(self, images: Tensor, label: Tensor, draw: object) -> tuple[Tensor, Tensor]:
        return images / 2, self.encode(images)

    def encode(self, images: Tensor) -> Tensor:
        return images[:, :, 16]


def says(module: Zi2Zi, source: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """The discriminator's logits, and what is lost by the fonts: the mean over all of them, the wanted one beside."""
    features = module.discriminator.features(torch.cat([source, output], dim=1))
    (a, b), (c, d) = module.discriminator.classify(features)
    lost = (F.softplus(-a) + F.softplus(b) + F.softplus(c) + F.softplus(-d)) / 4
    return module.discriminator.head(features), lost


def test_terms_by_hand(tmp_path: Path) -> None:
    module, batch = built(tmp_path, "model.tv_weight=2")
    source, target = batch["input"], batch["target"]
    module.generator = Halve()
    (real, real_lost), (fake, fake_lost) = says(module, source, target), says(module, source, source / 2)
    loss = module.discriminator_loss(batch)
    wanted = {
        "adversarial": (F.softplus(-real) + F.softplus(fake)).mean(),
        "category": (real_lost + fake_lost) / 2,
    }
    assert {k: v.item() for k, v in loss.items()} == pytest.approx({k: v.item() for k, v in wanted.items()}, rel=1e-5)
    down, across = (source / 2).diff(dim=2), (source / 2).diff(dim=3)
    wanted = {
        "adversarial": F.softplus(-fake).mean(),
        "l1": 100 * (source / 2 - target).abs().mean(),
        "constancy": 15 * (source[:, :, 16] / 2).square().mean(),
        "category": fake_lost,
        "total_variation": 2 * 0.5 * (down.square().sum() + across.square().sum()) / 32 / 2,
    }
    terms = module.generator_loss(batch)
    assert {k: v.item() for k, v in terms.items()} == pytest.approx({k: v.item() for k, v in wanted.items()}, rel=1e-5)


def test_the_generator_steps_twice_and_the_table_of_fonts_never(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "zi2zi")
    before = build.build_model(cfg)
    module = train(cfg)
    steps = {
        name: {int(state["step"]) for state in optimizer.state.values()}
        for name, optimizer in zip(module._optimizer_names, module.trainer.optimizers, strict=True)
    }
    assert steps == {"discriminator": {4}, "generator": {8}}
    assert torch.equal(before.generator.embedding, module.generator.embedding)


def test_each_step_draws_its_own_dropout_and_each_loss_reaches_its_network(tmp_path: Path) -> None:
    module, batch = built(tmp_path)
    terms = {}
    for phase in module.phases():
        module._seed_draws(phase.name)
        terms[phase.name] = phase.loss(batch)
    assert "total_variation" not in terms["generator"]
    assert terms["generator"]["l1"].item() != terms["generator_again"]["l1"].item()
    generator = [*module.generator.parameters()]
    for term in terms["discriminator"].values():
        assert all(g is None for g in torch.autograd.grad(term, generator, allow_unused=True, retain_graph=True))
    for term in terms["generator"].values():  # constancy too, through what is drawn
        (gradient,) = torch.autograd.grad(term, [module.generator.decoder[-1].weight], retain_graph=True)
        assert gradient.abs().sum() > 0


def test_the_constancy_moves_both_codes(tmp_path: Path) -> None:
    """The encoder is to see in what is drawn what it saw in the source, and neither of the two stands still."""
    module, batch = built(tmp_path)
    weight = module.generator.encoder[0].weight
    module._seed_draws("generator")
    (gradient,) = torch.autograd.grad(module.generator_loss(batch)["constancy"], [weight])
    module._seed_draws("generator")
    fake = module.generator(batch["input"], batch["label"], module.draw)
    codes = module.generator.encode(batch["input"]), module.generator.encode(fake)
    (by_hand,) = torch.autograd.grad(15 * (codes[0] - codes[1]).square().mean(), [weight])
    torch.testing.assert_close(gradient, by_hand, rtol=1e-3, atol=1e-6)


def test_a_font_by_its_number_by_its_name_or_by_the_label(tmp_path: Path) -> None:
    module, batch = built(tmp_path)
    module.generator.embedding.mul_(100)
    assert list(module.directions) == ["label", "0", "1"]
    both = [module.translate({"input": batch["input"]}, to) for to in ("0", "1")]
    assert not torch.allclose(*both)
    drawn = module.translate(batch)
    torch.testing.assert_close(drawn, torch.stack([both[0][0], both[1][1]]))
    assert not torch.equal(drawn, module.translate(batch, seed=1)), "dropout stays on"
    assert torch.equal(module.sheet(batch), torch.stack([batch["input"], drawn, batch["target"]], dim=1))
    assert torch.equal(module.pair(batch)[1], batch["target"])
    with pytest.raises(ConfigError, match="no image is known"):
        module.pair(batch, "1")
    module.name_classes(["DejaVuSerif", "DejaVuSans-Bold"])
    assert list(module.directions) == ["label", "DejaVuSerif", "DejaVuSans-Bold"]
    for to in ("DejaVuSans-Bold", "1"):
        assert torch.equal(module.translate({"input": batch["input"]}, to), both[1])
    with pytest.raises(ConfigError, match=r"to=2: .* type to=label or to=DejaVuSerif or to=DejaVuSans-Bold$"):
        module.translate(batch, "2")
    module = built(tmp_path)[0]
    module.name_classes(["Regular", "Regular"])  # of two families
    assert list(module.directions) == ["label", "0", "1"]


def test_as_configured_it_has_the_authors_sizes_and_rates(tmp_path: Path) -> None:
    """Counts added up from unet.py; the rate is halved down to a floor (train.py's --lr, --schedule)."""
    cfg = compose(tmp_path, "model=zi2zi", "data.channels=3", "data.classes=40", "images=1000")
    assert (cfg.data.resolution, cfg.data.batch_size) == (256, 16)
    with torch.device("meta"):
        module = build.make(cfg.model)
    sizes = [sum(p.numel() for p in getattr(module, name).parameters()) for name in ("generator", "discriminator")]
    assert sizes == [86_661_187, 25_809_001]
    for name in ("generator", "discriminator"):
        optimizer = module.make_optimizer[name](getattr(module, name).parameters())
        rates = [optimizer.defaults["lr"] * module.schedules[name](images) for images in (0, 99, 100, 200, 300, 1000)]
        assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 2e-4, 2e-4])
        assert optimizer.defaults["betas"] == (0.5, 0.999)
