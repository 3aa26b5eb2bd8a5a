"""The pages of runs: a run's own when it ends, and that of a comparison. The folders are those of old_runs or made."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support import REPOSITORY
from test_compare import make, scored

from gan_experiments import drawing
from gan_experiments.callbacks.report import Report
from gan_experiments.comparison import figures, page, plots, read, report, search, table
from gan_experiments.comparison.plots import Curve, Panel
from gan_experiments.contracts import NotFinite
from gan_experiments.runs import resume

OLD = REPOSITORY / "tests" / "old_runs"
OUTSIDE = r'(?:src|href)="(?!data:|samples/training\.gif)[^"]*"|url\(|@import|<link|https?://'


def with_samples(folder: Path) -> Path:
    """A run of 200 images with sheets, scores, a log and what was typed."""
    make(folder, fid=5.0, config={"data": {"resolution": 32}, "images": 200})
    for images in (0, 50, 100, 150, 200):
        cells = torch.rand(64, 1, 3, 32, 32, generator=torch.Generator().manual_seed(images)) * 2 - 1
        drawing.save_png(drawing.sheet(cells), folder / "samples" / f"{images:08d}.png", None)
    shutil.copy(folder / "samples" / "00000000.png", folder / "samples" / "real.png")
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("- model=dcgan\n- existing=replace\n- name='a b'\n")
    log = ["2026-01-01 00:00:00,000 WARNING gan_experiments.callbacks.health: the samples have collapsed: 90%"] * 2
    log += ["2026-01-01 00:00:00,000 INFO gan_experiments.callbacks.progress: 8 images"]
    log += ["2026-01-01 00:00:00,000 WARNING urllib: no"]
    (folder / "run.log").write_text("\n".join(log))
    return folder


# ------------------------------------------------------------------------------------------ a run's own page


def test_a_report_holds_all_that_a_run_left_and_needs_nothing_else(tmp_path: Path) -> None:
    run = read.read(with_samples(tmp_path / "r"))
    html = report.html(run)
    assert not re.findall(OUTSIDE, html)
    assert len(html) < 3_000_000
    assert "gan-experiments model=dcgan &#39;name=" in html, "the command"
    assert "existing=replace" not in html
    assert html.count("the samples have collapsed: 90%") == 1
    assert "urllib" not in html
    (run.folder / "samples" / "training.gif").touch()
    assert '<a href="samples/training.gif">' in report.html(run)
    assert '<a href="../r/samples/training.gif">' in report.html(run, tmp_path / "elsewhere")
    assert html.count("data:image/jpeg") == 2 + 5, "made and real, and five sheets from first to last"
    for said in ("Finished at 200 of 200 images", "1,234", "fid ↓", "weights_hash", "config.yaml", 'aria-label="loss"'):
        assert said in html, said


@pytest.mark.parametrize("family", sorted(path.parent.name for path in OLD.glob("*/config.yaml")))
def test_every_family_has_a_report(family: str) -> None:
    html = report.html(read.read(OLD / family))
    assert not re.findall(OUTSIDE, html)
    assert re.search(r"<h1>\w+, \w+</h1>", html), "they have no .hydra"
    assert f"{yaml.safe_load((OLD / family / 'config.yaml').read_text())['images']:,} images" in html


def test_a_report_escapes_what_a_runs_files_hold(tmp_path: Path) -> None:
    bad = '<script>alert("x")</script>'
    folder = make(tmp_path / "r", fid=1.0, config={"model": {"lr": bad}})
    (folder / "run.log").write_text(f"2026-01-01 00:00:00,000 WARNING gan_experiments.x: {bad}\n")
    (folder / "metrics.csv").write_text(f"images,{bad}\n1,2\n2,3\n".replace('"', ""))
    html = report.html(read.read(folder))
    assert "alert" in html
    assert "<script>alert" not in html


def _trainer(first: bool = True) -> Any:
    return SimpleNamespace(is_global_zero=first, callbacks=[])


@pytest.mark.parametrize(("seen", "status"), [(200, "Finished"), (150, "Stopped")])
def test_a_run_that_ends_writes_its_report(tmp_path: Path, seen: int, status: str) -> None:
    module: Any = SimpleNamespace(images_seen=seen, at_end=lambda: seen >= 200)
    folder = make(tmp_path / "r", n=seen)
    Report(str(folder)).on_train_end(_trainer(first=False), module)
    assert not (folder / "report.html").exists(), "ranks beside the first write nothing"
    Report(str(folder)).on_train_end(_trainer(), module)
    assert f"{status} at " in (folder / "report.html").read_text()


def test_a_run_that_fails_says_so_on_its_report(tmp_path: Path) -> None:
    module: Any = SimpleNamespace(images_seen=120, at_end=lambda: False)
    folder = make(tmp_path / "r", n=120)
    Report(str(folder)).on_exception(_trainer(), module, KeyboardInterrupt())
    assert not (folder / "report.html").exists()
    Report(str(folder)).on_exception(_trainer(), module, NotFinite("generator/adversarial is not finite"))
    assert '<p class="why">generator/adversarial is not finite</p>' in (folder / "report.html").read_text()


def test_a_report_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make(tmp_path / "r")
    (folder / "scores.json").write_text("{torn")
    module: Any = SimpleNamespace(images_seen=200, at_end=lambda: True)
    with caplog.at_level(logging.WARNING):
        Report(str(folder)).on_train_end(_trainer(), module)
    assert "report.html cannot be written (ConfigError" in caplog.text
    assert not (folder / "report.html").exists()


def test_training_writes_it_and_an_older_run_has_not_changed_by_it(bare_machine: Path) -> None:
    folder = bare_machine / "runs" / "dcgan"
    assert "Finished at 8 of 8 images" in (folder / "report.html").read_text()
    now = resume.flat(yaml.safe_load((folder / "config.yaml").read_text()))
    then = {key: value for key, value in now.items() if not key.startswith("callbacks.report.")}
    assert then != now
    assert resume.changed(now, then) == []
    without = {key: value for key, value in now.items() if not key.startswith("callbacks.")}
    assert "callbacks.report._target_" in resume.changed(now, without), "callbacks=none is another choice"
    assert resume.changed(now | {"callbacks.report.every": 3}, then) == ["callbacks.report.every"]


# ------------------------------------------------------------------------------------------ plots


def test_a_plot_leaves_out_what_is_not_finite_and_keeps_the_extremes_of_long_curves() -> None:
    n = 10_000
    values = [1.0] * n
    values[5_000], values[7_000] = 500.0, float("nan")
    long = plots._thinned(Curve(0, [float(i) for i in range(n)], values, values, values))
    assert len(long.images) <= plots.MOST_PLACES
    assert (max(long.high), min(long.low), long.images[-1]) == (500.0, 1.0, n - 1.0)
    drawn = plots.curves(Panel("a <b>", [Curve(0, [1, 2, 3], *[[1.0, float("inf"), 3.0]] * 3)]))
    assert drawn.count("<circle") == 2
    assert "a &lt;b&gt;" in drawn
    assert plots.curves(Panel("x", [Curve(0, [1], *[[float("nan")]] * 3)])) == ""


def test_axes_have_round_numbers() -> None:
    assert plots._steps(0, 12_800) == [0, 5000, 10_000]
    assert plots._steps(-0.1, 1.1) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert [plots.number(v) for v in (0, 20_000, 1.5e6, 0.0213)] == ["0", "20k", "1.5M", "0.0213"]
    assert plots.labels([61.6, 61.65, 61.7]) == ["61.6", "61.65", "61.7"]
    level = plots._padded(1.0, 1.000002, 0, 1)
    assert len({*plots.labels(level.ticks)}) == len(level.ticks) > 1
    assert plots._logarithmic(0.01, 100.0, 0, 1).ticks == [0.01, 0.1, 1.0, 10.0, 100.0]


# ------------------------------------------------------------------------------------------ tables and names


def test_all_scores_of_one_evaluation_stand_in_one_table(tmp_path: Path) -> None:
    """Also where their passports say more of some of them, as that of LPIPS of its network."""
    for index in range(2):
        folder = make(tmp_path / str(index), lr=index)
        told = scored(200, fid=float(index), psnr=2.0)
        told["scores"]["psnr"]["passport"]["luma"] = True
        (folder / "scores.json").write_text(json.dumps({"last": told}))
    found, _ = table.settings(read.runs([str(tmp_path)])[0])
    (group,) = table.groups(found)
    (laid,) = table.tables(found, [group])
    assert group.names == ["fid", "psnr"]
    assert {"fid ↓", "psnr ↑"} <= set(laid.head)
    assert laid.before[0].endswith("; psnr: luma=true")
    assert "luma" not in group.passport
    # one of them measured otherwise goes to a table of its own, the other stays
    told["scores"]["psnr"]["passport"]["luma"] = False
    (folder / "scores.json").write_text(json.dumps({"last": told}))
    found, _ = table.settings(read.runs([str(tmp_path)])[0])
    first, second = table.groups(found)
    assert (first.names, second.names) == (["fid", "psnr"], ["psnr"])
    assert [len(group.last) for group in (first, second)] == [2, 1]
    assert first.differs(second) == ["luma is true there and false here"]


def test_settings_are_named_by_the_words_that_were_typed(tmp_path: Path) -> None:
    node = {"_target_": "gan_experiments.techniques.r1.R1", "gamma": 10.0}
    typed: dict[str, tuple[list[str], Any]] = {
        "a": (["technique=[r1,lecam]", "model.lr=1e-4"], {"r1": node, "lecam": node}),
        "b": (["technique=none"], {}),
        "c": ([], {"r2": node}),
    }
    for name, (words, technique) in typed.items():
        folder = make(tmp_path / name, lr=1e-4, config={"technique": technique})
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    found, _ = table.settings(read.runs([str(tmp_path)])[0])
    assert [setting.name for setting in found] == ["technique=[r1,lecam]", "technique=none", "technique=[r2]"]


def test_a_table_fits_a_terminal(tmp_path: Path) -> None:
    for seed in (0, 1):
        for lr in (1, 2):
            words = {"name": "a rather long value of a setting, of many words"}
            make(tmp_path / f"{lr}{seed}", seed, lr, fid=1.0 + lr + seed, config={"model": {"lr": lr, **words}})
    found, _ = table.settings(read.runs([str(tmp_path)])[0])
    for setting in found:
        setting.name += " and=words that go on and on until there is no room left on a line"
    for laid in table.tables(found, table.groups(found)):
        for width in (40, 100):
            shown = laid.text(width)
            rows = [line for line in shown.split("Passport")[-1].splitlines()[1:] if "  " in line or "---" in line]
            assert rows
            assert max(map(len, rows)) <= width
            cells = [cell.text for row in laid.rows for cell in row[1:]]
            assert all(cell in shown or width == 40 for cell in cells)


# ------------------------------------------------------------------------------------------ what settings do


def test_a_setting_that_decides_the_score_matters_most() -> None:
    draw = np.random.default_rng(3)
    lr, width = draw.uniform(size=40), draw.integers(1, 4, size=40).astype(float)
    loss = [("hinge", "minimax")[i % 2] for i in range(40)]
    of_lr = search.importance({"width": [*width], "lr": [*lr], "loss": loss}, np.argsort(np.argsort(lr)).astype(float))
    assert next(iter(of_lr.shares)) == "lr"
    assert of_lr.shares["lr"][0] > 0.9
    assert of_lr.explained > 0.8
    target = np.array([float(word == "hinge") for word in loss])
    of_word = search.importance({"lr": [*lr], "loss": loss}, target)
    assert of_word.shares["loss"][0] > 0.9
    assert sum(share for share, _ in of_word.shares.values()) == pytest.approx(1)
    nothing = search.importance({"lr": [*lr], "loss": loss}, draw.permutation(40).astype(float))
    assert nothing.explained < search.NOTHING


def searched(folder: Path, n: int) -> tuple[list[table.Setting], search.Search | None]:
    for index in range(n):
        lr = 10.0 ** (-5 + 0.25 * index)
        technique = "[r1,lecam]" if index % 2 else "<none>"
        words = [f"model.lr={lr:.2g}", f"technique={technique}", "seed=0"]
        run = make(folder / str(index), lr=lr, fid=50.0 + index)
        (run / ".hydra").mkdir()
        (run / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
        config = yaml.safe_load((run / "config.yaml").read_text()) | {"technique": technique}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    found, _ = table.settings(read.runs([str(folder)])[0])
    return found, search.search(found, table.groups(found))


def test_the_page_of_a_sweep_shows_what_its_settings_do(tmp_path: Path) -> None:
    found, told = searched(tmp_path, 16)
    assert told is not None
    assert (told.score, told.runs) == ("fid ↓", 16)
    assert told.lines[0].startswith("How much each setting matters for fid: lr ")
    assert "it rests on 16 runs" in told.lines[1]
    html = page.page(found, [], [], [], [], tmp_path, told)
    shown = html.partition('aria-label="parallel coordinates"')[2].partition("</svg>")[0]
    assert shown.count("<title>") == 16
    assert shown.count('class="line best"') == 1
    assert "seed 0: fid 49" in shown.rpartition('class="line best"')[2], "the lowest of the best checkpoints"
    assert "[r1,lecam]" in shown
    assert "<none>" not in html
    assert html.count('class="bar"') == 2
    assert html.index("parallel coordinates") < html.index("<h2>Runs</h2>")


def test_few_runs_and_chance_say_nothing_of_what_matters(tmp_path: Path) -> None:
    few = searched(tmp_path / "few", 5)[1]
    assert few is not None
    assert few.parallel
    assert few.bars is None
    assert few.lines == ["How much each setting matters is not estimated: 5 runs are too few, 8 are needed."]
    assert searched(tmp_path / "two", 2)[1] is None
    make(tmp_path / "same" / "0", fid=1.0)
    make(tmp_path / "same" / "1", 1, fid=2.0)
    make(tmp_path / "same" / "2", 2, fid=2.0)
    found, _ = table.settings(read.runs([str(tmp_path / "same")])[0])
    assert search.search(found, table.groups(found)) is None, "seeds alone"
    assert search.search(found, []) is None


# ------------------------------------------------------------------------------------------ the page of a comparison


def test_pictures_come_first(tmp_path: Path) -> None:
    folders = [with_samples(tmp_path / "a"), make(tmp_path / "b", lr=2, fid=6.0)]
    found, _ = table.settings(read.runs(list(map(str, folders)))[0])
    made = table.groups(found)
    html = page.page(found, table.tables(found, made), [], figures.panels(found, made), figures.sheets(found), tmp_path)
    places = [html.index(f"<h2>{title}</h2>") for title in ("Samples", "Curves", "Last scores", "Runs")]
    assert places == sorted(places)
