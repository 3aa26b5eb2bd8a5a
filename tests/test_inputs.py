"""Every kind of input of inputs.py is trained on as it should be, or refused in one line that says why."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from inputs import INPUTS, inspect
from support import compose

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError

WAITING = (  # for what is being built
    *("DICOM", "NIfTI", "stickers", "multispectral", "panoramas of 64 x 256"),
    *("a CSV", "JSON", "a table", "a data set of Hugging", "a Dataset"),
    "an iterable",
)


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_read_as_it_should_be_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    of = INPUTS[name]
    if name.startswith(WAITING) and "cut" not in name:
        pytest.xfail("not built yet")
    if of.needs and find_spec(of.needs) is None:
        pytest.skip(f"{of.needs} is not installed")
    words = of.words(tmp_path / "input")
    if not of.refused:
        cfg = compose(tmp_path / "run", *words)
        check.require(cfg)
        assert inspect(of, cfg) == []
        data = build.open_data(cfg.data)
        batch = data.on_after_batch_transfer(data.stream().batch(0), 0)
        assert batch["real"].shape == (cfg.data.batch_size, *of.shape)
        return
    with pytest.raises(ConfigError) as refused:
        inspect(of, compose(tmp_path / "run", *words))
    (line,) = refused.value.faults
    assert "\n" not in line
    assert re.search(of.refused, line)
    assert re.search(r"(?:type|give) ", line), "it says what to do"
