"""Translation: what every variant of it can do, and pix2pix and its losses by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from support import compose, small
from torch import Tensor, nn

from gan_experiments import build
from gan_experiments.contracts import ConfigError
from gan_experiments.models.image_to_image import side_by_side


def test_side_by_side_enlarges_and_colours() -> None:
    low, high = torch.tensor([[[[0.0, 1.0]]]]), torch.zeros(1, 3, 2, 4)
    cells = side_by_side(low, high)
    assert cells.shape == (1, 2, 3, 2, 4)
    assert cells[0, 0].tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]] * 3


def test_a_translation_depends_on_its_seed_alone_and_leaves_the_networks_as_they_were(tmp_path: Path) -> None:
    module = build.build_model(small(tmp_path / "run", "pix2pix"))
    module.train()
    batch = {"input": torch.rand(2, 3, 32, 32)}
    torch.manual_seed(0)
    first = module.translate(batch)
    torch.manual_seed(1)
    assert torch.equal(first, module.translate(batch, "target"))
    assert not torch.equal(first, module.translate(batch, seed=1)), "dropout is its noise, in use too"
    assert module.generator.training
    with pytest.raises(ConfigError, match=r"to=a: this model knows no such direction; type to=target$"):
        module.translate(batch, "a")


def test_what_should_have_come_of_it_stands_beside_it(tmp_path: Path) -> None:
    module = build.build_model(small(tmp_path / "run", "pix2pix"))
    batch = {"input": torch.rand(2, 3, 32, 32), "target": torch.rand(2, 3, 32, 32)}
    fake, real = module.pair(batch)
    assert torch.equal(real, batch["target"])
    assert torch.equal(fake, module.translate(batch))
    assert torch.equal(module.sheet(batch), torch.stack([batch["input"], fake, real], dim=1))
    unpaired = build.build_model(small(tmp_path / "other", "cyclegan"))
    with pytest.raises(ConfigError, match="metrics=paired has nothing to compare"):
        unpaired.pair({"real_a": batch["input"]})


def test_pix2pix_terms_by_hand(tmp_path: Path) -> None:
    """Half of the discriminator's loss, of pairs; λ = 100; one translation a batch, which both phases use."""
    module = build.build_model(small(tmp_path / "run", "pix2pix"))
    batch = {"input": torch.rand(2, 3, 32, 32), "target": torch.rand(2, 3, 32, 32)}
    calls = []

    class Halve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            return x / 2

    module.generator = Halve()
    module._seed_draws("discriminator")
    loss = module.discriminator_loss(batch)["adversarial"]
    logits = [
        module.discriminator(torch.cat([batch["input"], output], 1)) for output in (batch["target"], batch["input"] / 2)
    ]
    by_hand = (F.softplus(-logits[0]).mean() + F.softplus(logits[1]).mean()) / 2
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    terms = module.generator_loss(batch)
    assert terms["adversarial"].item() == pytest.approx(F.softplus(-logits[1]).mean().item(), rel=1e-5)
    difference = (batch["input"] / 2 - batch["target"]).abs().mean()
    assert terms["l1"].item() == pytest.approx(100 * difference.item(), rel=1e-5)
    assert len(calls) == 1


def test_pix2pix_as_configured_has_the_official_size(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = build.make(compose(tmp_path, "model=pix2pix", "data.resolution=256").model)
    sizes = [sum(p.numel() for p in getattr(module, name).parameters()) for name in ("generator", "discriminator")]
    assert sizes == [54_413_955, 2_768_705]
