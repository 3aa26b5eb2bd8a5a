"""What a person sees of a run while it trains: scores as a table, curves."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from gan_experiments.callbacks import curves, progress
from gan_experiments.callbacks.scores import Scores

NAMES = ["fid_digits", "kid_digits", "is_digits", "precision_digits", "recall_digits", "density_digits"]


def _told(rows: list[dict[str, float]], looks: int = 2) -> None:
    """Have a bar's owner look `looks` times after each measurement."""
    scores = Scores("nowhere", None, every=1)
    trainer: Any = SimpleNamespace(callbacks=[scores], is_global_zero=True)
    shown = progress.Progress()
    for row in rows:
        scores.history.append(row)
        for batch in range(looks):
            module: Any = SimpleNamespace(images_seen=int(row["images"]) + batch)
            shown._tell_scores(trainer, module)


def test_scores_are_a_row_each_and_are_not_told_twice(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _told([{"images": n, **dict.fromkeys(NAMES, n / 3)} for n in (0, 5000, 200_000)])
    heads, *rows = [record.getMessage() for record in caplog.records]
    assert heads.split() == ["images", *NAMES[:5]]  # as many as have room
    assert [row.split()[0] for row in rows] == ["0", "5,000", "200,000"]
    assert {len(row) for row in (heads, *rows)} == {len(heads)}
    assert len(heads) <= 80


def test_curves_have_a_panel_for_each_kind_of_number(tmp_path: Path) -> None:
    columns = ["images", "D(real)", "D(fake)", "generator/adversarial", "generator/r1", "gradient_norm/generator"]
    columns += ["fid", "learning_rate/generator", "images_per_second", "health/twins"]
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns, *([n, *[n + 1.0] * 5, "", 1, 1, 0] for n in (8, 16, 24)), [24, *[""] * 5, 3.0]])
    found = curves.read(tmp_path / "metrics.csv", ["generator"])
    assert {panel: [*lines] for panel, lines in found.items()} == {
        "generator": ["adversarial", "r1"],
        "logits": ["D(real)", "D(fake)"],
        "gradient norms": ["generator"],
    }  # one score is no curve
    assert found["generator"]["r1"] == [(8, 9.0), (16, 17.0), (24, 25.0)]
    curves.draw(found, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (1020, 250)


def test_a_run_that_goes_on_does_not_repeat_what_was_measured_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scores = Scores("nowhere", None, every=1)
    scores.history.append({"images": 8, "fid": 1.0})
    data = SimpleNamespace(batch_size=8)
    trainer: Any = SimpleNamespace(callbacks=[scores], is_global_zero=True, datamodule=data)
    for batches, rows in ((2, 0), (0, 2)):  # of one that begins: the names and the values
        module: Any = SimpleNamespace(batches=batches, images_seen=8, run=SimpleNamespace(images=16))
        progress.Progress().on_train_start(trainer, module)
        assert len(caplog.records) == rows


def test_the_bar_is_full_at_the_end_of_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 images in batches of 8 are 24, and no more than all."""
    monkeypatch.setattr(progress.sys, "stderr", screen := io.StringIO())
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    trainer: Any = SimpleNamespace(callbacks=[], is_global_zero=True, datamodule=SimpleNamespace(batch_size=8))
    module: Any = SimpleNamespace(batches=0, images_seen=0, run=SimpleNamespace(images=20, log_every=100))
    shown = progress.Progress()
    shown.on_train_start(trainer, module)
    module.images_seen, module.batches = 24, 3
    shown.on_train_batch_end(trainer, module)
    shown.on_train_end(trainer, module)
    assert "100% |" in screen.getvalue().splitlines()[-1].rpartition("\r")[2]
    assert "24.0/24.0" in screen.getvalue()
