"""Every choice of data= whose files can be of any form: a few of them, through the config, to a model's batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import REPOSITORY, SMALL_DATA, compose, ready, small_data

from gan_experiments.assembly import build, report
from gan_experiments.contracts import BATCH_KEYS, Batch
from gan_experiments.data.images import ImageData

CHOICES = {path.stem for path in (REPOSITORY / "conf" / "data").glob("*.yaml")}
FIXED_FORM = {"mnist", "fashion_mnist", "cifar10", "celeba"}  # see test_data_images.py
INLINE = {"digits", "ring", "grid"}  # with the package


def described(batch: Batch) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {key: (rows.dtype, tuple(rows.shape[1:])) for key, rows in batch.items()}


def test_every_choice_is_known() -> None:
    assert SMALL_DATA.keys() | FIXED_FORM | INLINE == CHOICES


@pytest.mark.parametrize("choice", sorted(CHOICES - FIXED_FORM))
def test_batches_are_as_the_data_say(choice: str, tmp_path: Path) -> None:
    """What a batch holds, what sheets are made from, and what `check=true` measures with are of one form."""
    words = [] if choice in INLINE else small_data(tmp_path / "run", choice)
    data = build.make(compose(tmp_path / "run", f"data={choice}", "metrics=none", *words).data)
    shapes = data.shapes  # before a file is read
    data.prepare_data()
    data.setup("fit")
    batch = ready(data)
    assert batch.keys() == shapes.keys() == data.provides
    assert data.provides <= BATCH_KEYS.keys()
    assert {len(rows) for rows in batch.values()} == {data.batch_size}
    forms = described(batch)
    assert {key: shape for key, (_, shape) in forms.items()} == shapes
    assert described(data.fixed(3)) == forms
    assert described(report._Noise(shapes, 2).batch(4)) == forms
    for key, rows in {**batch, **report._Noise(shapes, 2).batch(4)}.items():
        if key in ("domain", "mask"):
            assert set(rows.unique().tolist()) <= {0.0, 1.0}
        elif rows.is_floating_point() and isinstance(data, ImageData):
            assert -1 <= rows.min() < rows.max() <= 1
