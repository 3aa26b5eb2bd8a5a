"""benchmarks/orderings.py: every training of it can begin, and a row is of all seeds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

import learning
import orderings
from learning import Cell

CELLS = [(name, title) for name, cells in orderings.ORDERINGS.items() for title in cells]


@pytest.mark.parametrize(("name", "title"), CELLS)
def test_every_training_can_begin(name: str, title: str) -> None:
    model, label, words = orderings.ORDERINGS[name][title]
    cell = Cell(model, "digits", 0, 0.0, Path("out"), label, words, 60_000)
    assert learning.refused(cell) == []
    assert cell.folder.name == "-".join(filter(None, [model, label, "digits-0-60000images"]))


def test_a_row_has_means_and_the_fid_and_the_coverage_of_each_seed() -> None:
    runs = [{"fid": 1.0, "recall": 0.2, "coverage": 0.5}, {"fid": 3.0, "recall": 0.4, "coverage": 0.75}]
    told = "| ADA | 2 |  |  |  |  | 0.3 | 0.625 |  | 1.00, 3.00 | 0.500, 0.750 |"
    assert orderings.row("ADA", runs) == told


def test_a_training_has_the_length_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, tuple[str, ...]]] = []

    def note(cell: Cell, seconds: float, folder: Path, *words: str) -> None:
        folder.mkdir()
        asked.append((seconds, words))

    monkeypatch.setattr(Cell, "_train", note)
    monkeypatch.setattr(Cell, "_read", lambda cell, images: {"images": images})
    assert Cell("dcgan", "digits", 0, 0.0, tmp_path, length=128).result() == {"images": 128}
    ((seconds, words),) = asked
    assert seconds == float("inf")
    assert "images=128" in words
