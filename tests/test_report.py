"""What `check=true` says of a run that is not begun."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import small

from gan_experiments.assembly import report, stopwatch


def test_a_step_that_takes_long_is_measured_on_a_part_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One cycle of all phases, as many images as a model needs, and it is said beside the numbers."""
    cfg = small(tmp_path / "run", "stargan", "data.batch_size=16")
    assert "of the 16 images" not in report.forecast(cfg)
    monkeypatch.setattr(stopwatch, "PATIENCE", 0.0)
    words = report.forecast(cfg)
    assert re.search(r"time of a step .* images/s\), measured on 2 of the 16 images\n", words)
    assert "MiB, the highest so far, measured on 2 of the 16 images\n" in words


def test_the_time_of_a_step_is_that_of_the_largest_batches() -> None:
    clock = stopwatch.Stopwatch(8, 1, 2)
    clock.plan = [2, 2, 4, 4, 8, 8, 8, 8]
    for times, seconds, measured in (
        ([1, 3], 8, 2),
        ([1, 3, 2, 6], 8, 4),
        ([1, 3, 2, 6, 9, 9], 9, 8),
        ([1, 3, 2, 6, 9, 9, 4, 6], 5, 8),
    ):
        clock.times = list(map(float, times))
        assert (clock.seconds, clock.measured) == (seconds, measured)


def test_long_names_of_scores_stand_in_line() -> None:
    name = "precision_" + "moving_" * 3 + "digits"
    lines = report._table({"images": 0, "fid": 3.0, name: 1.0}, {"images": 64, "fid": 2.0, name: 0.5})
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == [name, "1", "0.5"]
    assert report._table({"images": 0}, {"images": 64})[0].split() == ["0", "images", "64", "images"]
