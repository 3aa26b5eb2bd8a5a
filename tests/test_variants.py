"""Every model config goes through the same: compose, check, train, sheets; test_exactness.py has stops and ranks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from support import MODELS, Variant, small, train

from gan_experiments.assembly import build, check
from gan_experiments.kinds import POINTS
from gan_experiments.models.noise_to_image import NoiseToImage


@pytest.mark.parametrize("model", MODELS)
def test_passes_its_own_check(model: str, tmp_path: Path) -> None:
    check.require(small(tmp_path / "run", model))


@pytest.mark.parametrize("model", MODELS)
def test_a_network_without_the_classes_of_the_others_is_refused_or_trains(model: str, tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", model)
    nodes = {name: node for name, node in cfg.model.items() if isinstance(node, DictConfig)}
    for key in [f"model.{name}.{key}" for name in nodes for key in ("classes", "categories") if nodes[name].get(key)]:
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, key, 0)
        if not [*check.faults(changed)]:
            train(changed)


@pytest.mark.parametrize("model", MODELS)
def test_each_network_learns_and_every_term_is_finite(model: str, variants: Callable[[str], Variant]) -> None:
    cfg, after = variants(model).cfg, variants(model).model
    before = build.build_model(cfg)
    assert after.images_seen == cfg.images
    assert after.batches == cfg.images // cfg.data.batch_size
    for name in after.network_names:
        pairs = zip(getattr(before, name).parameters(), getattr(after, name).parameters(), strict=True)
        moved = [not torch.equal(old, new) for old, new in pairs]
        asks = [parameter.requires_grad for parameter in getattr(before, name).parameters()]
        assert [parameter.requires_grad for parameter in getattr(after, name).parameters()] == asks
        learnt = [did for did, asked in zip(moved, asks, strict=True) if asked]
        assert sum(learnt) > len(learnt) / 2 or not learnt, f"{name} did not learn"
        assert sum(moved) == sum(learnt), f"{name} is frozen and learnt"
        assert all(torch.isfinite(p).all() for p in getattr(after, name).parameters())


@pytest.mark.parametrize("model", MODELS)
def test_sheets_and_samples(model: str, variants: Callable[[str], Variant]) -> None:
    module = variants(model).model
    data: Any = module.trainer.datamodule  # type: ignore[attr-defined]
    cells = module.sheet(module.sheet_inputs(data.fixed(4), 4))
    assert cells.shape[0] == 4
    assert cells.shape[2:] == data.kind.shape(data)
    if data.kind != POINTS:  # they have no bounds
        assert cells.min() >= -1
        assert cells.max() <= 1
    if isinstance(module, NoiseToImage):
        draw = module.sampler(seed=3)
        assert torch.equal(draw(5, 2), draw(5, 2))
        assert not torch.equal(draw(5, 2), draw(6, 2))
