"""The package from Python: batches of a plain loader."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from support import compose, shrink, small
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import AdversarialModule

PIXELS = torch.randint(0, 256, (16, 1, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(16) % 10


class Dicts(Dataset):
    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return 16

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: rows[row] for name, rows in self.columns.items()}


def model_of(tmp_path: Path, model: str, *words: str) -> AdversarialModule:
    """A model as a person may build one by hand: no run, no images, no data."""
    cfg = shrink(compose(tmp_path / "r", f"model={model}", "metrics=none", *words))
    torch.manual_seed(0)
    made: AdversarialModule = build.make(cfg.model)
    return made


def fit(model: AdversarialModule, loader: Any, logger: Any = False, epochs: int = 1) -> dict[str, Tensor]:
    build.quieten()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    return {name: value.clone() for name, value in model.state_dict().items()}


LOADERS: dict[str, Any] = {
    "uint8": TensorDataset(PIXELS),
    "pairs": TensorDataset(PIXELS, LABELS),
    "labels [n, 1] of int32": TensorDataset(PIXELS, LABELS[:, None].int()),
    "floats": TensorDataset(PIXELS / 127.5 - 1, LABELS),
    "float64": TensorDataset(PIXELS.double() / 127.5 - 1, LABELS),
    "dicts of image and label": Dicts(image=PIXELS, label=LABELS),
    "dicts as ours": Dicts(real=PIXELS / 127.5 - 1, label=LABELS),
    "tensors": PIXELS,
}


@pytest.mark.parametrize("model", ["dcgan", "cdcgan"])
def test_the_batches_of_any_loader_train_the_same(model: str, tmp_path: Path) -> None:
    words = ["data.classes=10"] if model == "cdcgan" else []
    weights = {}
    for name, dataset in LOADERS.items():
        labelled = name not in ("uint8", "tensors")
        if model == "cdcgan" and not labelled:
            continue
        made = model_of(tmp_path, model, *words)
        weights[name] = fit(made, DataLoader(dataset, batch_size=4))
        assert (made.batches, made.images_seen) == (4, 16)
    first = weights.pop("pairs")
    for name, others in weights.items():
        gaps = [(first[key].double() - others[key].double()).abs().max().item() for key in first]
        assert max(gaps) < 1e-5, name


REFUSED: dict[str, tuple[str, Any, str]] = {
    "pairs for CycleGAN": (
        "cyclegan",
        TensorDataset(PIXELS.expand(-1, 3, -1, -1), LABELS),
        "CycleGAN needs real_a, real_b, and the loader gives batches of 2 parts: give dicts with 'real_a', images of",
    ),
    "no labels": ("cdcgan", TensorDataset(PIXELS), "needs label, and the loader gives batches of 1 parts: give dicts"),
    "three parts": ("dcgan", TensorDataset(PIXELS, LABELS, LABELS), "gives batches of 3 parts: \\(image, label\\) is"),
    "other keys": (
        "dcgan",
        Dicts(x=PIXELS),
        "DCGAN needs real, and the loader gives dicts of x: give dicts with 'real'",
    ),
    "beyond": (
        "dcgan",
        TensorDataset(PIXELS.float()),
        r"values 0..255, and \[-1, 1\] is needed: give uint8, or x / 127",
    ),
    "normalised otherwise": (
        "dcgan",
        TensorDataset(PIXELS / 50 - 2),
        r"give uint8, or floats by Normalize\(0.5, 0.5\)",
    ),
    "no numbers": ("dcgan", TensorDataset(PIXELS / 0.0), r"has the values nan..nan, and \[-1, 1\] is needed"),
    "labels beyond": (
        "cdcgan",
        TensorDataset(PIXELS, LABELS + 1),
        "labels 1 to 4, and the model has 2 classes: give 0 to 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_batches_that_a_model_cannot_take_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    name, dataset, said = REFUSED[case]
    model = build.make(small(tmp_path / "r", name, *(["data.classes=2"] if name == "cdcgan" else [])).model)
    with pytest.raises(ConfigError, match=said) as refused:
        fit(model, DataLoader(dataset, batch_size=4))
    assert "\n" not in str(refused.value)


def test_values_from_0_to_1_are_taken_as_they_are_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(model_of(tmp_path, "dcgan"), DataLoader(TensorDataset(PIXELS / 255), batch_size=4), epochs=2)
    (line,) = [line for line in caplog.text.splitlines() if "the loader's" in line]
    assert "they are taken as [-1, 1]; if they are meant as [0, 1], as ToTensor makes them, give 2 * x - 1" in line


def test_a_loader_of_names_for_labels_is_refused(tmp_path: Path) -> None:
    named: Any = [(PIXELS[row], "cat") for row in range(4)]
    with pytest.raises(
        ConfigError, match="the loader gives a tuple for 'label': a tensor is needed, class of each real"
    ):
        fit(model_of(tmp_path, "cdcgan", "data.classes=10"), DataLoader(named, batch_size=4))


def test_the_numbers_reach_lightnings_logger_and_do_not_pile_up(tmp_path: Path) -> None:
    told: dict[int, dict[str, float]] = {}

    class Told(L.pytorch.loggers.CSVLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            told[step or 0] = metrics

    model = model_of(tmp_path, "dcgan")
    model.run.log_every = 2
    fit(model, DataLoader(TensorDataset(PIXELS), batch_size=4), logger=Told(tmp_path))
    assert list(told) == [8, 16]
    assert {"discriminator/adversarial", "generator/adversarial", "D(real)"} <= set(told[8])
    assert model._history == {}
