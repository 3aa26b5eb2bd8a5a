"""Techniques: the whole matrix on the variants, each one's own arithmetic, and the traps that must not come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from matrix import CHOICES, VARIANTS, cell, drive, read_page, variant
from omegaconf import OmegaConf
from support import difference, small, train
from torch import Tensor, nn

from gan_experiments import build, check
from gan_experiments.contracts import ConfigError
from gan_experiments.models.noise_to_image import NoiseToImage, Turn


@pytest.mark.parametrize("model", VARIANTS)
def test_the_matrix(model: str, tmp_path: Path) -> None:
    """Each technique, loss and augmentation trains two batches of the variant, or is refused as docs/techniques.md says."""
    base = variant(model, tmp_path / "run")
    assert {choice: cell(base, group, choice) for group, choice in CHOICES} == read_page()[model]


def model_of(folder: Path, model: str, *overrides: str, width: int = 4) -> tuple[NoiseToImage, Any]:
    """A small variant in float64 and its data, ready for `drive`."""
    cfg = small(folder, model, "data.batch_size=4", "trainer.precision=64-true", *overrides)
    check.require(cfg)
    data = build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    module = build.build_model(cfg)
    assert isinstance(module, NoiseToImage)
    return module, data


def first_batch(data: Any) -> dict[str, Tensor]:
    return data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)


def turn_of(module: NoiseToImage, data: Any, of_generator: bool = False) -> Turn:
    """A turn on the first batch, with draws as in a phase."""
    module._seed_draws("discriminator")
    batch = {key: rows.double() if rows.is_floating_point() else rows for key, rows in first_batch(data).items()}
    return Turn(module, batch, of_generator)


# ------------------------------------------------------------------------------------------ the terms


def test_penalties_are_those_of_the_formulas(tmp_path: Path) -> None:
    """With a linear critic of slope w: R1 and R2 γ|w|²/2, WGAN-GP λ(|w| - 1)², zero-centred λ|w|²."""
    names = ["r1", "r2", "gradient_penalty", "zero_gp", "dragan"]
    module, data = model_of(tmp_path, "sngan", f"technique=[{','.join(names)}]")
    w = torch.randn(32 * 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w *= 5 / w.norm()
    module.discriminator = _Linear(w)
    turn = turn_of(module, data)
    found = {name: module.techniques[name].term(turn).item() for name in names}
    expected = {"r1": 125.0, "r2": 125.0, "gradient_penalty": 160.0, "zero_gp": 250.0, "dragan": 160.0}
    assert found == pytest.approx(expected)


class _Linear(nn.Module):
    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.w


def test_lazy_terms_are_multiplied_and_adam_is_corrected(tmp_path: Path) -> None:
    """StyleGAN2's constants at k = 16: rate times 16/17 and beta2 = 0.99^(16/17); the term times 16 at each 16th batch."""
    module, data = model_of(tmp_path, "sngan", "technique=[r1]", "technique.r1.every=16", "images=128")
    module.make_optimizer["discriminator"].__closure__  # noqa: B018 - wrapped
    drive(module, data, 32)
    group = module._optimizers["discriminator"].param_groups[0]
    assert group["betas"] == pytest.approx((0.0, 0.9 ** (16 / 17)))
    assert group["initial_lr"] if "initial_lr" in group else True
    logged = module._history
    assert [seen for seen, _ in logged["discriminator_r1/r1"]] == [15 * 4, 31 * 4]
    module.flush()


def test_lazy_once_a_batch_is_the_plain_one_in_expectation(tmp_path: Path) -> None:
    module, data = model_of(tmp_path, "sngan", "technique=[r1]", "technique.r1.every=4")
    lazy = next(phase for phase in module.phases() if phase.name == "discriminator_r1")
    batch = turn_of(module, data).batch
    module._seed_draws("x")
    plain = module.techniques["r1"].term(Turn(module, batch))
    assert lazy.loss(batch)["r1"].item() == pytest.approx(4 * plain.item())
    assert (lazy.every, lazy.optimizer) == (4, "discriminator")
