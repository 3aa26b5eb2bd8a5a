"""Runs side by side: what is grouped, averaged, refused and written. The run folders are made by hand."""

from __future__ import annotations

import copy
import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image
from support import run as command
from support import small

from gan_experiments import drawing
from gan_experiments.assembly import build
from gan_experiments.comparison import figures, page, read, table
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import POINTS
from gan_experiments.launch import entry
from gan_experiments.verbs import compare

PASSPORT = {
    "extractor": "digits",
    "weights_hash": "4bc3f4be51a0c29b",
    "resize": "none",
    "num_fake": 500,
    "num_real": 5000,
    "split": "train",
    "real_fingerprint": "c224ceb3",
    "ema": True,
    "seed": 0,
    "versions": {"torch": "2.9.0"},
    "warnings": [],
}


def scored(n: int, passport: dict[str, Any] | None = None, **values: float) -> dict[str, Any]:
    passport = passport or PASSPORT
    return {
        "images": n,
        "scores": {
            name: {"name": name, "value": v, "std": None, "passport": {"estimator": name, **passport}}
            for name, v in values.items()
        },
    }


def make(
    folder: Path,
    seed: int = 0,
    lr: float = 1e-3,
    fid: float | None = None,
    passport: dict[str, Any] | None = None,
    n: int = 200,
    config: dict[str, Any] | None = None,
) -> Path:
    """A run of 200 images that was recorded twice, at 50 images/s and at 25; scored at 100 and at `n` images."""
    folder.mkdir(parents=True)
    whole = {
        "images": 200,
        "seed": seed,
        "output": "${outputs:}",
        "data": {"seed": seed, "resolution": 32},
        "metrics": {"seed": 0},
        "model": {"lr": lr, "width": 8},
        **(config or {}),
    }
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(whole)))
    rows = ["images,loss,images_per_second,fid", "100,1.5,50,", f"100,,,{fid or ''}", f"{n},0.5,25,"]
    (folder / "metrics.csv").write_text("\r\n".join(rows) + "\r\n")
    (folder / "parameters.json").write_text('{"generator": 1234}')
    if fid is not None:
        last, best = scored(n, passport, fid=fid), scored(100, passport, fid=fid - 1)
        history = [{"images": 100, "fid": fid - 1}, {"images": n, "fid": fid}]
        (folder / "scores.json").write_text(json.dumps({"last": last, "best": best, "history": history}))
    return folder


def compared(*folders: Path) -> tuple[list[table.Setting], list[table.Group], list[table.Table]]:
    found, _ = table.settings(read.runs([str(folder) for folder in folders])[0])
    made = table.groups(found)
    return found, made, table.tables(found, made)


def column(laid: table.Table, name: str) -> list[str]:
    index = laid.head.index(name)
    return [f"**{row[index].text}**" if row[index].bold else row[index].text for row in laid.rows]


# ------------------------------------------------------------------------------------------ numbers


def test_the_interval_is_students() -> None:
    mean, half = table.interval([10.0, 12.0, 14.0])
    assert mean == 12
    assert half == pytest.approx(4.302653 * 2 / 3**0.5, rel=1e-6)  # t of two degrees of freedom at 97.5%
    assert table.interval([3.0]) == (3.0, None)
    assert table.measured([10.0, 12.0, 14.0]) == "12.0 ± 5.0"
    assert table.measured([3.0]) == "3"
    assert table.measured([0.0123, 0.0125]) == "0.0124 ± 0.0013"


@pytest.mark.parametrize(
    ("columns", "higher", "expected"),
    [
        ([[1.0, 1.1, 1.2], [5.0, 5.1, 5.2]], False, 0),
        ([[1.0, 1.1, 1.2], [5.0, 5.1, 5.2]], True, 1),
        ([[1.0, 1.1, 1.2], [1.1, 1.2, 1.3]], False, None),  # they overlap
        ([[1.0], [5.0, 5.1, 5.2]], False, None),  # one seed tells no interval
        ([[1.0, 1.1, 1.2], [], [5.0, 5.1, 5.2]], False, 0),
        ([[1.0, 1.1, 1.2]], False, None),
        ([[float("nan")] * 3, [1.0, 1.1, 1.2], [5.0, 5.1, 5.2]], False, 1),
    ],
)
def test_bold_where_the_intervals_separate(columns: list[list[float]], higher: bool, expected: int | None) -> None:
    assert table.separated(columns, higher) == expected


def test_a_table_of_two_settings(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        make(tmp_path / "a" / str(seed), seed, 1e-3, 10.0 + 2 * seed)
        make(tmp_path / "b" / str(seed), seed, 1e-4, 50.0 + 2 * seed)
    found, made, (last, best) = compared(tmp_path)
    assert [setting.name for setting in found] == ["lr=0.001", "lr=0.0001"]
    assert len(made) == 1
    assert column(last, "seeds") == ["3 (0, 1, 2)"] * 2
    assert column(last, "fid ↓") == ["**12.0 ± 5.0**", "52.0 ± 5.0"]
    assert column(last, "images") == ["200"] * 2
    assert column(last, "time") == ["6 ± 0 s"] * 2  # 100 at 50 images/s and 100 at 25
    assert column(last, "generator parameters") == ["1,234"] * 2
    assert "status" not in last.head
    assert column(best, "best at") == ["100"] * 2
    assert column(best, "fid ↓") == ["**11.0 ± 5.0**", "51.0 ± 5.0"]
    lines = last.markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1, "columns are not aligned"


# ------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("config", "together"),
    [
        ({}, True),
        ({"logger": {"wandb": {"group": "x"}}}, True),
        ({"metrics": {"seed": 1}}, True),  # follows the seed
        ({"metrics": {"seed": 7}}, False),
        ({"images": 400}, False),
        ({"model": {"lr": 1e-3, "width": 8, "more": None}}, True),  # a key with no value
        ({"model": {"lr": 1e-3, "width": 9}}, False),
    ],
)
def test_seeds_of_one_config_are_repetitions(tmp_path: Path, config: dict[str, Any], together: bool) -> None:
    first = {"metrics": {"seed": 0}} if config.get("metrics") else {}
    found, _, _ = compared(make(tmp_path / "a", 0, config=first), make(tmp_path / "b", 1, config=config))
    assert len(found) == (1 if together else 2)
    assert len({setting.name for setting in found}) == len(found)


def test_names_are_what_was_typed(tmp_path: Path) -> None:
    for name, lr, words in (("a", 1e-3, ["model=dcgan", "images=200"]), ("b", 1e-4, ["model=wgan", "images=200"])):
        folder = make(tmp_path / name, 0, lr) / ".hydra"
        folder.mkdir()
        (folder / "overrides.yaml").write_text(json.dumps([*words, "seed=0", "callbacks.samples.every=1"]))
        choices = {"model": words[0].partition("=")[2]}
        (folder / "hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"choices": choices}}}))
    found, _, _ = compared(tmp_path)
    assert [setting.name for setting in found] == ["model=dcgan", "model=wgan"]


def test_a_seed_run_twice_counts_once(tmp_path: Path) -> None:
    runs = [read.read(make(tmp_path / name, 0, n=n)) for name, n in (("a", 100), ("b", 200))]
    (setting,), (note,) = table.settings(runs)
    assert [run.folder.name for run in setting.runs] == ["b"]
    assert re.search("seed 0 was run twice.*/a is left out for .*/b", note)


def test_a_seed_that_stopped_early_is_left_out_of_the_means(tmp_path: Path) -> None:
    for seed, n in ((0, 200), (1, 200), (2, 150)):
        make(tmp_path / str(seed), seed, fid=10.0 + seed, n=n)
    (tmp_path / "2" / "outcome.json").write_text('{"status": "failed", "images": 160, "message": "not finite"}')
    _, _, (last, _) = compared(tmp_path)
    assert column(last, "status") == ["2 finished, 1 failed"]
    assert column(last, "images") == ["160 to 200"]
    assert column(last, "fid ↓")[0].startswith("10.5 ± ")
    assert any("seed 2 is left out of the mean scores (failed; scored last at 150 images)" in x for x in last.after)
    assert not any("scored at" in line for line in last.after)
    assert any("seed 2 failed: not finite" in line for line in last.after)


# ------------------------------------------------------------------------------------------ passports


@pytest.mark.parametrize("field", sorted(set(PASSPORT) - {"versions", "warnings"}))
def test_another_passport_is_never_set_side_by_side(tmp_path: Path, field: str) -> None:
    other = {**PASSPORT, field: "another"}
    _, made, tables = compared(make(tmp_path / "a", lr=1, fid=1.0), make(tmp_path / "b", lr=2, fid=2.0, passport=other))
    assert len(made) == 2
    assert [laid.title.split(",")[0] for laid in tables] == ["Last scores", "Best scores"] * 2
    assert all(len(laid.rows) == 1 for laid in tables)
    value = table._brief(PASSPORT[field])
    assert (
        f"Not set side by side with passport {made[0].hash}: {field} is {value} there and another here."
        in (tables[2].before[0])
    )
    assert tables[2].before[1].startswith(f"Passport {made[1].hash}: ")


def test_a_field_that_one_passport_lacks_and_another_estimator(tmp_path: Path) -> None:
    less = {key: value for key, value in PASSPORT.items() if key != "split"}
    how = {**PASSPORT, "estimator": "biased"}
    folders = [make(tmp_path / str(i), lr=i, fid=1.0, passport=p) for i, p in enumerate((PASSPORT, less, how))]
    _, made, tables = compared(*folders)
    assert len(made) == 3
    assert "split is train there and not stated here" in tables[2].before[0]
    assert "estimator of fid is fid there and biased here" in tables[4].before[0]


def test_other_versions_are_a_note(tmp_path: Path) -> None:
    other = {**PASSPORT, "versions": {"torch": "2.14.1"}, "warnings": ["few images"]}
    folders = make(tmp_path / "a", lr=1, fid=1.0), make(tmp_path / "b", lr=2, fid=2.0, passport=other)
    _, made, tables = compared(*folders)
    assert len(made) == 1
    assert column(tables[0], "fid ↓") == ["1", "2"]
    assert "Measured with different versions: torch 2.9.0 and 2.14.1." in tables[0].after
    assert "fid: few images." in tables[0].after


def test_a_run_scored_again_joins_those_scored_alike(tmp_path: Path) -> None:
    other = {**PASSPORT, "num_fake": 9}
    a, b = make(tmp_path / "a", lr=1, fid=1.0), make(tmp_path / "b", lr=2, fid=2.0, passport=other)
    (b / "scores-00000200.json").write_text(json.dumps(scored(200, fid=3.0)))
    found, made, tables = compared(a, b)
    assert column(tables[0], "fid ↓") == ["1", "3"]
    drawn = {panel.title: [curve.setting for curve in panel.curves] for panel in figures.panels(found, made)}
    assert drawn[f"fid ↓  ({made[0].hash})"] == [0], "the history of b was not measured like that"
    assert drawn[f"fid ↓  ({made[1].hash})"] == [1]


def test_a_run_that_went_on_after_its_last_score_says_so(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", fid=5.0)
    with (folder / "metrics.csv").open("a") as file:
        file.write("230,0.1,10,\r\n")
    _, _, (last, _) = compared(folder)
    assert column(last, "images") == ["230"]
    assert any(line.endswith(": scored at 200 images.") for line in last.after)


def test_a_history_under_two_passports_is_not_drawn(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", fid=5.0)
    told = json.loads((folder / "scores.json").read_text())
    told["best"]["scores"]["fid"]["passport"]["num_fake"] = 9
    (folder / "scores.json").write_text(json.dumps(told))
    found, made, tables = compared(folder)
    assert [laid.title.split(",")[0] for laid in tables] == ["Last scores", "Best scores"]
    assert "num_fake is 500 there and 9 here" in tables[1].before[0]
    assert column(tables[1], "fid ↓") == ["4"]
    assert [panel.title for panel in figures.panels(found, made)] == ["loss"]


# ------------------------------------------------------------------------------------------ folders


def test_a_torn_line_counts_for_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    path = folder / "metrics.csv"
    path.write_text(path.read_text() + "300,0.1,1,\r\nx,y\r\n40")
    run = read.read(folder)
    assert [row["images"] for row in run.rows] == [100, 100, 200, 300]
    assert run.seconds == pytest.approx(100 / 50 + 100 / 25 + 100 / 1)
    path.write_text("ima")
    assert (read.read(folder).rows, read.read(folder).seconds, read.read(folder).status) == ([], None, "unfinished")


def test_runs_are_found_wherever_they_lie(tmp_path: Path) -> None:
    runs = [make(tmp_path / "sweep" / name, seed) for seed, name in enumerate(("2", "10", "deep/er/model=x,lr=1"))]
    (runs[0] / "wandb" / "files").mkdir(parents=True)
    (runs[0] / "wandb" / "files" / "config.yaml").touch()
    (runs[0] / "checkpoints").mkdir()
    (runs[0] / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "aborted").mkdir()
    (tmp_path / "aborted" / "config.yaml").touch()
    folders = [run.folder for run in read.runs([str(tmp_path)])[0]]
    assert folders == [path.resolve() for path in runs]
    for word in (runs[0] / "checkpoints" / "last.ckpt", runs[0] / "checkpoints", runs[0]):
        assert [run.folder for run in read.runs([str(word), str(runs[0])])[0]] == [runs[0].resolve()]
    found, notes = read.runs([str(runs[0]), str(tmp_path / "aborted")])
    assert len(found) == 1
    assert notes == [f"No run in {tmp_path / 'aborted'}: {read.A_RUN}."]


def test_jobs_that_never_began_are_named(tmp_path: Path) -> None:
    (make(tmp_path / "sweep" / "a") / "earlier-1").mkdir()
    failed = tmp_path / "sweep" / "b"
    (failed / "earlier-1").mkdir(parents=True)
    (failed / "outcome.json").write_text('{"status": "failed", "images": 0, "message": "loss=x: no such loss"}')
    for folder in (failed, tmp_path / "sweep" / "a"):
        make(folder / "earlier-1" / "x")
    found, notes = read.runs([str(tmp_path)])
    assert [run.folder.name for run in found] == ["a"]
    assert notes == [f"{failed} did not come to train: loss=x: no such loss"]
    with pytest.raises(ConfigError, match="b did not come to train"):
        read.runs([str(failed)])


def test_of_many_settings_the_best_are_drawn(tmp_path: Path) -> None:
    for index in range(4):
        make(tmp_path / str(index), lr=index, fid=None if index == 0 else 10.0 - index)
    found, made, _ = compared(tmp_path)
    assert [setting.name for setting in table.ranked(found, made)] == ["lr=3", "lr=2", "lr=1", "lr=0"]


def test_mistakes_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such folder; type the folders of runs"):
        read.runs([str(tmp_path / "nowhere")])
    with pytest.raises(ConfigError, match=r"runs=.*: there is no run: a run folder holds config.yaml"):
        read.runs([str(tmp_path)])
    folder = make(tmp_path / "a", fid=1.0)
    for text in ("{torn", "[]", '{"last": {"images": 3}}', '{"history": [3]}', '{"last": {"images": 1, "scores": 3}}'):
        (folder / "scores.json").write_text(text)
        with pytest.raises(ConfigError, match=r"a/scores.json cannot be read \(.*\); mend it") as error:
            read.runs([str(folder)])
        assert "\n" not in str(error.value)
    (folder / "scores.json").write_text('{"last": {}, "best": {}, "history": []}')  # nothing scored yet
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"a/config.yaml cannot be read"):
        read.runs([str(folder)])


def test_parameters_of_a_run_that_did_not_write_them_down(tmp_path: Path) -> None:
    cfg = small(tmp_path, "dcgan")
    expected = build.parameters(build.build_model(cfg))
    assert compare.parameters(read.Run(tmp_path, build.plain(cfg))) == expected
    assert set(expected) == {"generator", "discriminator"}
    assert compare.parameters(read.Run(tmp_path, {"model": {"_target_": "gan_experiments.models.gone.Away"}})) == {}


# ------------------------------------------------------------------------------------------ pictures


def test_runs_without_scores_have_a_table_and_curves(tmp_path: Path) -> None:
    found, made, (only,) = compared(make(tmp_path / "a", 0), make(tmp_path / "b", 1))
    assert (only.title, column(only, "images")) == ("Runs", ["200"])
    (panel,) = figures.panels(found, made)
    assert (panel.title, panel.logarithmic) == ("loss", False)
    assert (panel.curves[0].images, panel.curves[0].mean) == ([100, 200], [1.5, 0.5])


def test_curves_are_the_mean_between_the_extremes(tmp_path: Path) -> None:
    for seed in (0, 1):
        make(tmp_path / str(seed), seed, fid=1.0 + 99 * seed)
    found, made, _ = compared(tmp_path)
    panel = figures.panels(found, made)[0]
    (curve,) = panel.curves
    assert (curve.mean, curve.low, curve.high) == ([49.5, 50.5], [0.0, 1.0], [99.0, 100.0])
    assert not panel.logarithmic  # it touches zero
    assert figures.Panel("", [figures.Curve(0, [1, 2], [1, 50], [1, 50], [1, 50])]).logarithmic


@pytest.mark.parametrize(
    ("shape", "cells"), [((64, 1, 1, 32, 32), (8, 4)), ((6, 1, 3, 32, 32), (2, 3)), ((25, 3, 3, 64, 64), (9, 4))]
)
def test_a_sheet_is_cut_between_its_cells(tmp_path: Path, shape: tuple[int, ...], cells: tuple[int, int]) -> None:
    drawing.save_png(drawing.sheet(torch.zeros(shape)), tmp_path / "00000001.png", None)
    sheet = Image.open(tmp_path / "00000001.png").convert("RGB")
    cut = figures.crop(sheet, shape[-1])
    size = shape[-1] + 2
    assert cut.width / cut.height == pytest.approx((cells[0] * size + 2) / (cells[1] * size + 2), rel=0.01)
    assert figures.crop(sheet, None).size[0] == min(sheet.width, figures.WIDEST)


def test_a_sheet_that_has_no_cells_stays_whole(tmp_path: Path) -> None:
    """Of points, whose pictures could be sheets of images of one pixel by their size."""
    drawing.save_png(POINTS.sheet(torch.randn(500, 1, 2, 1, 1) / 2), tmp_path / "00000001.png", None)
    plane = Image.open(tmp_path / "00000001.png").convert("RGB")
    assert figures.crop(plane, 1).size == (min(plane.width, figures.WIDEST),) * 2
    assert list(figures.crop(plane, 1).getdata()) == list(figures.crop(plane, None).getdata())


def test_what_a_config_says_is_escaped(tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>|$\\alpha'
    folders = [make(tmp_path / str(i), config={"model": {"lr": value}}) for i, value in enumerate((bad, "fine"))]
    found, made, tables = compared(*folders)
    drawn = figures.panels(found, made)
    html = page.page(found, tables, [bad], drawn, [], tmp_path)
    assert "<script>alert" not in html
    assert "\\|$" in tables[0].markdown()
    figures.write_curves(tmp_path / "curves.png", drawn, found)


# ------------------------------------------------------------------------------------------ the command


def test_bare_words_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = ["model=x,lr=1", "it's (1) [2] {3}", "a b,c:d", "back\\slash\\", "ü=1"]
    for name in odd:
        (tmp_path / name).mkdir()
    others, runs = ["out=x", "--cfg", "job"], ["gone", *odd]
    typed = entry.folders_gathered([*others[:1], *runs, *others[1:]])
    assert typed[:-1] == others
    (override,) = OverridesParser.create().parse_overrides(typed[-1:])
    assert override.key_or_group == "runs"
    assert override.value() == runs
    assert entry.folders_gathered(["runs=[a,b]"]) == ["runs=[a,b]"]


def test_compare(tmp_path: Path) -> None:
    for seed in (0, 1):
        a, b = make(tmp_path / "s, 1" / f"lr=1,seed={seed}", seed, 1e-3, 2.5), tmp_path / "b" / str(seed)
        make(b, seed, 1e-4, 3.5, passport={**copy.deepcopy(PASSPORT), "num_fake": 9})
        drawing.save_png(drawing.sheet(torch.zeros(16, 1, 3, 32, 32)), a / "samples" / "00000200.png", None)
    done = command("s, 1/lr=1,seed=0", "s, 1/lr=1,seed=1", "b", "out=here", verb="compare", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "num_fake is 500 there and 9 here" in done.stdout
    names = {"table.md", "table.csv", "index.html", "curves.png", "samples.png"}
    assert {path.name for path in (tmp_path / "here").iterdir()} == names
    assert {path.name for path in tmp_path.iterdir()} == {"s, 1", "b", "here"}, "something else was written"
    with (tmp_path / "here" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["setting"], row["seed"], float(row["last/fid"])) for row in rows] == [
        ("lr=0.001", "0", 2.5),
        ("lr=0.001", "1", 2.5),
        ("lr=0.0001", "0", 3.5),
        ("lr=0.0001", "1", 3.5),
    ]
    assert len({row["passport"] for row in rows}) == 2
    html = (tmp_path / "here" / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|\.\./)[^"]*"|url\(|@import|<link', html), "it needs other files"
    assert 'href="../s%2C%201/lr%3D1%2Cseed%3D0/"' in html

    empty = command("here", verb="compare", folder=tmp_path)
    assert empty.returncode == 2
    assert empty.stderr.splitlines() == [
        f"runs=here: there is no run: {read.A_RUN}; type such folders, or sweeps of them"
    ]
