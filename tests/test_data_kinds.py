"""Every choice of data= whose files can be of any form: a few of them, through the config, to a model's batches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from support import REPOSITORY, SMALL_DATA, compose, ready, small_data

from gan_experiments import cameras, contracts
from gan_experiments.assembly import build, check
from gan_experiments.contracts import BATCH_KEYS, Batch
from gan_experiments.data import module
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.module import DataModule
from gan_experiments.kinds import Kind
from gan_experiments.runs import configs

CHOICES = {path.stem for path in (REPOSITORY / "conf" / "data").glob("*.yaml")}
FIXED_FORM = {"mnist", "fashion_mnist", "cifar10", "celeba"}  # see test_data_images.py
INLINE = {"digits", "captioned_digits", "ring", "grid", "drums", "shapes"}  # with the package

HELD_OUT = sorted(choice for choice in CHOICES if "test_root" in configs.of_choice("data", choice))


def described(batch: Batch) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {key: (rows.dtype, tuple(rows.shape[1:])) for key, rows in batch.items()}


def test_every_choice_is_known() -> None:
    assert SMALL_DATA.keys() | FIXED_FORM | INLINE == CHOICES


@pytest.mark.parametrize("choice", sorted(CHOICES))
def test_every_choice_fulfils_the_contract(choice: str) -> None:
    """As a class, before any file is read: what `check` and a model ask."""
    data = get_class(configs.of_choice("data", choice)._target_)
    assert issubclass(data, DataModule)
    assert not data.__abstractmethods__
    assert isinstance(data.kind, Kind)
    assert data.provides <= BATCH_KEYS.keys()


@pytest.mark.parametrize("choice", HELD_OUT)
def test_held_out_files_that_are_not_there_are_told_before_anything_is_read(choice: str, tmp_path: Path) -> None:
    words = [*small_data(tmp_path / "run", choice), f"data.test_root={tmp_path / 'typo'}"]
    data = build.make(compose(tmp_path / "run", f"data={choice}", "metrics=none", *words).data)
    caches = Path(os.environ["GAN_EXPERIMENTS_CACHE"])
    before = set(caches.glob("*"))
    with pytest.raises(contracts.ConfigError, match=r"^data.test_root=\S+typo (does not exist|is no folder):"):
        data.prepare_data()
    assert set(caches.glob("*")) == before


def test_a_class_that_is_no_data_module_is_refused(tmp_path: Path) -> None:
    cfg = compose(tmp_path, "metrics=none")
    cfg.data._target_ = "types.SimpleNamespace"
    assert [fault for fault in check.faults(cfg) if "this is no data module; derive the class from" in fault]


def test_a_data_module_says_what_its_own_keys_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "BATCH_KEYS", known := dict(BATCH_KEYS))
    monkeypatch.setattr(module, "BATCH_KEYS", known)

    def declare(**attributes: Any) -> type:
        return type("Captioned", (DataModule,), attributes)

    declare(keys={"tokens": "words, int64 [N, 77]"}, provides=frozenset({"real", "tokens"}))
    assert known["tokens"] == "words, int64 [N, 77]"
    with pytest.raises(TypeError, match="Captioned provides tone: say in `keys` what that is"):
        declare(provides=frozenset({"real", "tone"}))
    with pytest.raises(ValueError, match="batches have a key 'tokens' already: words"):
        declare(keys={"tokens": "coins"})


@pytest.mark.parametrize("choice", sorted(CHOICES - FIXED_FORM))
def test_batches_are_as_the_data_say(choice: str, tmp_path: Path) -> None:
    """What a batch holds, what sheets are made from, and what `check=true` measures with are of one form."""
    words = [] if choice in INLINE else small_data(tmp_path / "run", choice)
    data = build.make(compose(tmp_path / "run", f"data={choice}", "metrics=none", *words).data)
    shapes = data.shapes  # before a file is read
    data.prepare_data()
    data.setup("fit")
    caches = Path(os.environ["GAN_EXPERIMENTS_CACHE"])
    before = set(caches.glob("*"))
    assert data.fingerprint
    assert set(caches.glob("*")) == before, "what is trained on is known, and nothing more is decoded"
    batch = ready(data)
    assert batch.keys() == shapes.keys() == data.provides
    assert data.provides <= BATCH_KEYS.keys()
    assert {len(rows) for rows in batch.values()} == {data.batch_size}
    forms = described(batch)
    assert {key: shape for key, (_, shape) in forms.items()} == shapes
    assert described(data.fixed(3)) == forms
    noise = data.noise(4, data.provides)
    assert described(noise) == forms
    for key, rows in {**batch, **noise}.items():
        if key in ("domain", "mask"):
            assert set(rows.unique().tolist()) <= {0.0, 1.0}
        elif key == "camera":
            assert cameras.faults_of(rows) is None
        elif rows.is_floating_point() and isinstance(data, ImageData):
            assert -1 <= rows.min() < rows.max() <= 1
