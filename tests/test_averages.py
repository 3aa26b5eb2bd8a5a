"""Weight averages: where they start, and whether a run of a length leaves that behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support import MODELS, compose, inherited
from torch import nn

from gan_experiments.assembly import check
from gan_experiments.engine.averages import WeightAverage

OWN = [model for model in MODELS if (next(iter(inherited(model))).get("ema") or {}).get("generator")]
SLOW = [model for model in OWN if "ramp_up" not in next(iter(inherited(model))).ema.generator]  # others leave at once
COPIES = ("biggan", "biggan_deep")


def test_until_its_start_an_average_is_a_copy() -> None:
    """As in BigGAN-PyTorch: copies while the step, counted from one, is below the start."""
    network = nn.Linear(2, 2)
    average = WeightAverage(network, decay=0.5, start=30)
    assert [average.decay_after(10, images) for images in (10, 20, 30, 40)] == [0, 0, 0.5, 0.5]
    with torch.no_grad():
        network.weight.fill_(1)
        average.update(network, 10, 20)
        assert torch.equal(average.network.weight, network.weight)  # type: ignore[arg-type]
        network.weight.fill_(3)
        average.update(network, 10, 30)
    assert torch.equal(average.network.weight, torch.full((2, 2), 2.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "images", "step", "share"),
    [
        ({"decay": 0.9999}, 200_000, 128, 0.9999**1563),  # 85%: biggan's, before it had a start
        ({"decay": 0.9999, "start": 128_000}, 200_000, 128, 0.9999**564),
        ({"decay": 0.9999, "start": 2_560_000}, 200_000, 128, 0.0),
        ({"half_life": 10_000}, 20_000, 100, 0.25),
        ({"half_life": 10_000, "ramp_up": 0.05}, 200_000, 64, 0.0),
        ({"half_life": 1e9}, 100_000_000, 64, 0.5**0.1),
    ],
)
def test_the_share_of_the_start(settings: dict[str, float], images: int, step: int, share: float) -> None:
    found = WeightAverage(nn.Linear(1, 1), **settings).share_of_start(images, step)
    assert found == pytest.approx(share, abs=1e-9, rel=1e-6)


def remarks(cfg: Any, **ema: float) -> list[str]:
    """Of two players of one weight."""

    class Model(nn.Module):
        pretrained = None

        def __init__(self) -> None:
            super().__init__()
            self.generator = nn.Linear(1, 1)
            settings = {**cfg.model.ema.generator, **ema}
            self.averages = nn.ModuleDict({"generator": WeightAverage(self.generator, **settings)})

        def phases(self) -> list[Any]:
            from gan_experiments.engine.phases import Phase

            return [Phase("generator", lambda batch: {}, self.generator, every=cfg.model.get("n_critic", 1))]

    return list(check.remarks(cfg, Model()))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", SLOW)
def test_every_models_average_has_left_its_start_after_the_usual_run(model: str, tmp_path: Path) -> None:
    found = remarks(compose(tmp_path, f"model={model}"))
    assert [line.partition(": ")[2].partition(",")[0] for line in found] == (
        ["a copy of the weights until 2"] if model in COPIES else []
    )


def test_an_average_that_has_not_left_its_start_is_told(tmp_path: Path) -> None:
    cfg = compose(tmp_path, "model=biggan")
    (line,) = remarks(cfg, start=0)
    assert re.fullmatch(
        r"model\.ema\.generator: at the end of images=200000 86% of the average are still the untrained weights;"
        r" type model\.ema\.generator\.decay=0\.996, or more images=",
        line,
    )
    assert remarks(cfg, start=0, decay=0.996) == []
    (line,) = remarks(cfg, start=100_000)
    assert "are still the weights at 100,000 images" in line
