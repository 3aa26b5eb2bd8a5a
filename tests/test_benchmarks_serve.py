"""`benchmarks/serve.py`: the runs that it trains when none are given are what the command takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY, compose

from gan_experiments.assembly import check

sys.path.append(str(REPOSITORY / "benchmarks"))

import serve


def test_its_own_runs_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: typed.append(command[3:]))
    assert [Path(folder).name for folder in serve.train(tmp_path)] == ["digits", "painted"]
    for words in typed:
        cfg: Any = compose(tmp_path, "callbacks=default", *(word for word in words if not word.startswith("hydra.")))
        check.require(cfg)
    assert len(typed) == 2
