"""What lies in `out=` is a person's: every verb that writes there leaves it, unless `existing=` says otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from support import small, train

from gan_experiments import files
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import configs, resume
from gan_experiments.verbs import compare, convert, evaluate, explore, interpolate, sample, usefulness

CLASSES = ["../../../x", "/x", "a|`<b>", "a_`_b_", "x", "", ".", "a b", "é", "."]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small model, whose classes are called as nobody's are."""
    folder = tmp_path_factory.mktemp("existing") / "run"
    train(small(folder, "cdcgan", "metrics=digits", "metrics.num_fake=8", "metrics.num_real=16"), every=16)
    path = folder / "checkpoints" / "last.ckpt"
    checkpoint = resume.load(path)
    checkpoint["gan_experiments"]["class_names"] = CLASSES
    torch.save(checkpoint, path)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(checkpoint["gan_experiments"]["config"])))
    (folder / "metrics.csv").write_text("images,D(real)\n8,1\n16,1\n")
    return folder


WRITING: dict[str, tuple[Callable[[Any], int], Callable[[Path], list[str]]]] = {
    "sample": (sample.sample, lambda run: [f"run={run}", "n=2", "singles=true", "interpolation=1", "device=cpu"]),
    "compare": (compare.compare, lambda run: [f"runs=[{run}]"]),
    "evaluate": (evaluate.evaluate, lambda run: [f"run={run}", "pictures=true", "device=cpu"]),
    "explore": (explore.explore, lambda run: [f"run={run}", "what=truncation", "what.rows=1", "device=cpu"]),
    "interpolate": (interpolate.interpolate, lambda run: [f"a={run}", f"b={run}"]),
}
"""Each verb that writes into `out=`, with what is typed."""


def do(name: str, run: Path, *words: str) -> int:
    verb, typed = WRITING[name]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose(name, [*typed(run), *words])
    return verb(cfg)


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", WRITING)
def test_a_persons_files_in_the_way_survive(
    run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert do(name, run, "out=new") == 0
    made = contents(Path("new"))
    assert made
    assert not [path for path in made if "unfinished" in path or path.endswith(".tmp")]
    mine = {path: b"mine" for path in made} | {"sheet.tmp": b"mine", "a": b"mine"}
    for path, data in mine.items():
        (Path("own") / path).parent.mkdir(parents=True, exist_ok=True)
        (Path("own") / path).write_bytes(data)

    with pytest.raises(ConfigError, match=r"is there already.*: type existing=keep .*existing=replace") as refused:
        do(name, run, "out=own")
    assert len(refused.value.faults) == 1
    assert contents(Path("own")) == mine
    if name != "evaluate":  # which reads the scores that it keeps
        assert do(name, run, "out=own", "existing=keep") == 0
        assert contents(Path("own")) == mine
    assert do(name, run, "out=own", "existing=replace") == 0
    after = contents(Path("own"))
    assert {path: after.pop(path) for path in ("sheet.tmp", "a")} == {"sheet.tmp": b"mine", "a": b"mine"}
    assert set(after) == set(made)
    assert b"mine" not in after.values()
    with pytest.raises(ConfigError, match="existing=overwrite: "):
        do(name, run, "out=own", "existing=overwrite")


@pytest.mark.parametrize("name", ["sample", "explore", "interpolate", "evaluate", "compare"])
def test_what_nobody_has_given_a_place_gets_a_new_one(
    run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["interpolation=0"] if name == "sample" else ["pictures=false"] if name == "evaluate" else []
    before = contents(run)
    assert do(name, run, *words) == 0
    first = contents(run)
    assert do(name, run, *words) == 0
    second = contents(run)
    assert {path: second[path] for path in first} == first
    new, newer = set(first) - set(before), set(second) - set(first)
    assert new
    assert {path.replace("-2", "") for path in newer} == {path.replace("-2", "") for path in new}


def test_keep_makes_what_is_missing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_bytes(b"mine")
    assert do("sample", run, f"out={tmp_path}", "existing=keep", "interpolation=0") == 0
    assert (tmp_path / "sheet.png").read_bytes() == b"mine"
    assert len(list((tmp_path / "images").rglob("*.png"))) == 2
    assert do("evaluate", run, f"out={tmp_path}", "pictures=false") == 0
    scores = next(tmp_path.glob("scores-*.json"))
    told = scores.read_bytes()
    assert do("evaluate", run, f"out={tmp_path}", "existing=keep", "pictures=false") == 0
    assert scores.read_bytes() == told


def test_a_link_where_a_file_would_be_is_not_followed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("sheet.png", "sheet.tmp"):
        (out / name).symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match=r"sheet\.png is there already"):
        do("sample", run, f"out={out}", "interpolation=0")
    assert do("sample", run, f"out={out}", "existing=replace", "interpolation=0") == 0
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert not os.path.islink(out / "sheet.png")


def test_names_of_classes_stay_inside(run: Path, tmp_path: Path) -> None:
    """And those that would be the same stay apart."""
    out = tmp_path / "a" / "b" / "c" / "out"
    assert do("sample", run, f"out={out}", "n=10", "interpolation=0") == 0
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (out.parent).iterdir()] == ["out"]
    folders = [path for path in (out / "images").iterdir() if path.is_dir()]
    assert len(folders) == len(list((out / "images").rglob("*.png"))) == 10
    assert all(not path.name.startswith(".") for path in folders)


def test_clean_names_are_distinct_on_any_disk() -> None:
    names = ["A", "a", "a/b", "a_b", "a_b-2", "", ".", "x" * 300, "x" * 301]
    cleaned = files.clean_names(names)
    assert len({name.casefold() for name in cleaned}) == len(names)
    assert cleaned[:4] == ["A", "a-2", "a_b", "a_b-2"]
    assert files.clean_names(["0", "1", "cat"]) == ["0", "1", "cat"]


def test_converted_weights_replace_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table's other row: its weights are made in `test_convert`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/last.ckpt"):
        (tmp_path / "own" / name).write_text("mine")
    before = contents(tmp_path)
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("convert", ["weights=nowhere.pt", "out=own"])
    with pytest.raises(ConfigError, match=r"is there already, and 1 more: type existing=keep"):
        convert.convert(cfg)
    cfg.existing = "keep"
    assert convert.convert(cfg) == 0
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "mine", ["not json", "[]", "null", '{"a": 1}', '{"a": {"accuracy": {"x": "y"}, "scores": {}}}']
)
def test_a_usefulness_that_is_another_file_survives(run: Path, tmp_path: Path, mine: str) -> None:
    (tmp_path / "usefulness.json").write_text(mine)
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("usefulness", [f"run={run}", f"out={tmp_path}", "device=cpu"])
    with pytest.raises(ConfigError, match=r"usefulness\.json does not hold results .* type existing=replace"):
        usefulness.usefulness(cfg)
    assert contents(tmp_path) == {"usefulness.json": mine.encode()}


def test_tables_and_pages_escape_what_a_run_says(run: Path, tmp_path: Path) -> None:
    """Names, messages and values of a run's files are text: no HTML, no links, no lines of their own."""
    evil = "<script>alert(1)</script>"
    folders = []
    for number in (1, 2):
        folder = tmp_path / f"{evil.replace('/', '_')}{number}"
        folder.mkdir()
        config = OmegaConf.load(run / "config.yaml")
        config.model.name = f"{evil}\n# head | `code` [x](javascript:alert({number}))\x1b[31m"
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
        (folder / "metrics.csv").write_text("images\n16\n")
        (folder / "outcome.json").write_text(f'{{"status": "failed", "images": 8, "message": "{evil}"}}')
        (folder / "parameters.json").write_text('{"generator": 1}')
        folders.append(str(folder))
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("compare")
    cfg.runs, cfg.out = folders, str(tmp_path / "out")
    assert compare.compare(cfg) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "&lt;script&gt;alert" in page
    assert page.count("<script>") == 1  # of the page's own
    table = (tmp_path / "out" / "table.md").read_text()
    assert r"\<script>" in table
    assert table.count("<script>") == table.count(r"\<script>")
    assert "](javascript" not in table
    assert "\n# head" not in table
    assert "\x1b" not in table
