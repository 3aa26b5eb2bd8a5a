"""Every kind of input of inputs.py is trained on as it should be, or refused in one line that says why."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from inputs import INPUTS, inspect
from support import REPOSITORY, compose

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_read_as_it_should_be_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    of = INPUTS[name]
    words = of.words(tmp_path / "input")
    if not of.refused:
        cfg = compose(tmp_path / "run", *words)
        if of.shape != (3, 32, 32):
            check.require(cfg)  # the networks take them
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
    assert re.search(r"(?:type|give) |data\.\w+=", line), "it says what to do"


PAGE = REPOSITORY / "docs" / "data.md"
HEADS = ("| you have | you type |", "| input | before | now |")


def rows(head: str) -> list[list[str]]:
    """The cells of a table of the page, by its first line."""
    lines = PAGE.read_text().split(f"{head}\n")[1].split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_a_row_for_each_kind_of_input_and_each_choice_of_data() -> None:
    assert [name for name, _, _ in rows(HEADS[1])] == list(INPUTS)
    typed = " ".join(words for _, words in rows(HEADS[0]))
    choices = sorted(path.stem for path in (REPOSITORY / "conf" / "data").glob("*.yaml"))
    assert [name for name in choices if f"data={name}" not in typed] == []


def typed() -> list[str]:
    return [words for _, cell in rows(HEADS[0]) for words in re.findall(r"`([^`]+)`", cell) if "=" in words]


@pytest.mark.parametrize("words", typed())
def test_what_the_page_says_to_type_is_understood(words: str, tmp_path: Path) -> None:
    """As far as it can be without the files: keys, values, and the model that takes such data."""
    found = shlex.split(words)
    found = found if any(word.startswith("data=") for word in found) else ["data=folder", *found]
    compose(tmp_path, *[word.replace("mine.MyData", "inputs.Pairs") for word in found])
