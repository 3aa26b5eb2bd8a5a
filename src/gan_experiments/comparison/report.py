"""The self-contained HTML page of one run: its samples, scores, curves, warnings, command and config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_experiments import files, provenance
from gan_experiments.comparison import figures, page, read, table
from gan_experiments.comparison.plots import Curve, Panel
from gan_experiments.comparison.table import DASH, Cell, Table
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.runs import quoting, resume
from gan_experiments.runs.run_folder import Outcome

STRIP, TALLEST = 6, 700
"""The number of sheets from first to last, and the largest height of a picture in pixels."""
NOT_DRAWN = ("images", "learning_rate/")
WARNING = re.compile(r"^\S+ \S+ WARNING gan_experiments\.\S+: (.*)$")
"""A line of a run's log in which something of this package warns."""


def write(folder: Path, ended: Outcome) -> None:
    """Write `report.html` into the folder of a run that ends so."""
    run = read.read(folder)
    run.outcome = asdict(ended)
    files.write_text(folder / "report.html", html(run))


def html(run: read.Run, out: Path | None = None) -> str:
    """Return the page of a run, to lie in `out` or in the run's folder. Pictures are in it, films and sounds linked."""
    (setting,), _ = table.settings([run])
    groups = table.groups([setting])
    last, strip = _pictures(run)
    return page.render(
        "report.html",
        title=setting.name if run.choices else _classes(run) or setting.name,
        summary=_summary(run),
        ended=[message] if (message := _message(run)) else [],
        command=_command(run),
        pictures=last,
        strip=strip,
        played=page.players(run.sheet, out or run.folder) if run.sheet else [],
        gif=page.link(run.folder / "samples" / "training.gif", out or run.folder),
        scores=_scores(run),
        passports=groups,
        panels=panels(run),
        warnings=warnings(run),
        health=_health(run),
        parameters={name: f"{count:,}" for name, count in run.parameters.items()},
        config=(run.folder / "config.yaml").read_text(errors="replace"),
    )


def _summary(run: read.Run) -> str:
    words = [f"{run.status.capitalize()} at {run.images:,} of {run.config.get('images') or 0:,} images"]
    words += [f"{table.duration([run.seconds])} in training"] if run.seconds is not None else []
    words += [f"{run.images / run.seconds:,.0f} images/s"] if run.seconds else []
    words += [f"seed {run.seed}", str(run.folder.name)]
    return ", ".join(words)


def _classes(run: read.Run) -> str:
    """Return the classes of the model and the data, for a run that Hydra did not start."""
    nodes = [run.config.get(key) for key in ("model", "data")]
    return ", ".join(table.shown(node) for node in nodes if isinstance(node, dict) and "_target_" in node)


def _message(run: read.Run) -> str:
    """Return why a run failed, or ended before its images had been seen."""
    early = run.images < (run.config.get("images") or 0)
    return str(run.outcome.get("message") or "") if run.status == "failed" or early else ""


def _command(run: read.Run) -> str:
    """Return the command that trains such a run again, in a folder of its own; empty if Hydra did not start it."""
    words = [word for word in run.words if resume.key_of(word) not in resume.ONCE]
    return quoting.run_again(words) if (run.folder / ".hydra").is_dir() else ""


# ------------------------------------------------------------------------------------------ samples


def _pictures(run: read.Run) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the last sheet and the real images; and some sheets from the first to the last, more of the early ones."""
    sheets = run.sheets
    chosen = sorted({round(place) - 1 for place in np.geomspace(1, len(sheets), STRIP)}) if sheets else []
    strip = [(f"{int(sheets[i].stem):,} images", sheets[i]) for i in chosen] if len(sheets) > 1 else []
    large = [(f"made, after {int(sheets[-1].stem):,} images", sheets[-1])] if sheets else []
    real = run.folder / "samples" / "real.png"
    large += [("real, as the networks are shown them", real)] if real.is_file() else []
    nearest = run.folder / "samples" / "nearest.png"
    large += [("made, beside the nearest that was trained on", nearest)] if nearest.is_file() else []
    resolution = run.value("data.resolution")
    shown = [
        [{"title": title, "data": data} for title, path in some if (data := _picture(path, resolution, rows))]
        for some, rows in ((large, 2 * figures.ROWS), (strip, figures.ROWS))
    ]
    return shown[0], shown[1]


def _picture(path: Path, resolution: Any, rows: int) -> str:
    """Return the first rows of a sheet as a data URI; empty for a damaged file."""
    try:
        whole, mark = Image.open(path).convert("RGB"), provenance.read(path)
        picture = figures.crop(whole, resolution if isinstance(resolution, int) else None, rows)
    except OSError:
        return ""
    if picture.height > TALLEST:
        picture.thumbnail((figures.WIDEST, TALLEST))
    return figures.embedded(picture, mark)


# ------------------------------------------------------------------------------------------ scores


def _scores(run: read.Run) -> Table | None:
    """Return a table of the scores: first, last and best, with the interval or spread of the last."""
    if run.last is None:
        return None
    first = run.history[0] if len(run.history) > 1 else None
    head = ["score", *([f"at {first['images']:,.0f} images"] if first else []), f"at {run.last.images:,} images"]
    head += ["interval or spread", *([f"best, at {run.best.images:,} images"] if run.best else [])]
    rows = []
    for name, score in run.last.scores.items():
        cells = [_named(name), *([_value(first.get(name))] if first else []), _value(score["value"]), _spread(score)]
        best = run.best.scores.get(name) if run.best else None
        rows.append([*cells, *([_value(best["value"] if best else None)] if run.best else [])])
    notes = [f"{name}: {note}." for name, s in run.last.scores.items() for note in s["passport"].get("warnings") or []]
    for scored in run.again:
        told = ", ".join(f"{name} {score['value']:.4g}" for name, score in scored.scores.items())
        notes.append(f"Scored again at {scored.images:,} images: {told}.")
    return Table("Scores", head, rows, after=notes)


def _named(name: str) -> Cell:
    return Cell(f"{name} {'↑' if higher_is_better(name) else '↓'}", name)


def _value(value: float | None) -> Cell:
    return Cell(DASH, float("inf")) if value is None else Cell(f"{value:.4g}", value)


def _spread(score: dict[str, Any]) -> Cell:
    if score.get("interval"):
        low, high = score["interval"]
        return Cell(f"{low:.4g} to {high:.4g} (95%)", high - low)
    return Cell(f"± {score['std']:.2g} (std)", score["std"]) if score.get("std") is not None else Cell(DASH, 0.0)


# ------------------------------------------------------------------------------------------ curves


def panels(run: read.Run) -> list[Panel]:
    """Return a panel for each score, and one for all numbers recorded under one name, as the terms of a loss."""
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {}
    scores = {name for row in run.history for name in row}
    for rows, wanted in ((run.history, True), (run.rows, False)):
        for row in rows:
            for name, value in row.items():
                if name not in ("images",) and (name in scores) == wanted and not name.startswith(NOT_DRAWN):
                    title, label = _place(name)
                    lines.setdefault(title, {}).setdefault(label, []).append((row["images"], value))
    made = []
    for title, each in sorted(lines.items(), key=lambda item: (item[0] not in scores, item[0] == "health")):
        alone = next(iter(each)) if len(each) == 1 else ""
        name = _arrow(title) if title in scores else f"{title}/{alone}" if alone else title
        drawn = {"": each[alone]} if alone else each
        made.append(Panel(name, [_curve(i, *item) for i, item in enumerate(drawn.items())]))
    return [panel for panel in made if panel.telling]


def _arrow(name: str) -> str:
    return f"{name} {'↑' if higher_is_better(name) else '↓'}"


def _place(name: str) -> tuple[str, str]:
    """Return the panel of a recorded number and the name of its curve there; none where it is alone."""
    if name.startswith("D("):
        return "mean logits of the discriminator", name
    first, _, rest = name.partition("/")
    return (first.replace("_", " "), rest) if rest else (name, "")


def _curve(index: int, label: str, points: Sequence[tuple[float, float]]) -> Curve:
    images, values = (list(column) for column in zip(*points, strict=True))
    return Curve(index, images, values, values, values, label)


# ------------------------------------------------------------------------------------------ warnings


def warnings(run: read.Run) -> list[str]:
    """Return what this package has warned of in the run's log, each line once."""
    try:
        lines = (run.folder / "run.log").read_text(errors="replace").splitlines()
    except OSError:  # a run that Hydra did not start has none
        return []
    return list(dict.fromkeys(found[1] for line in lines if (found := WARNING.match(line))))


def _health(run: read.Run) -> str:
    looks = [row for row in run.rows if "health/twins" in row]
    if not looks:
        return "The samples were not looked at for signs of failure."
    signs = {key.removeprefix("health/"): 0 for row in looks for key in row if key.startswith("health/")}
    seen = {sign: sum(row.get(f"health/{sign}", 0) > 0 for row in looks) for sign in signs if sign != "twins"}
    told = ", ".join(f"{sign} in {n}" for sign, n in seen.items() if n) or "none of the signs of failure"
    twins = looks[-1]["health/twins"]
    return f"{page.many(len(looks), 'look')} at the training: {told}. {twins:.0%} of the last samples had a twin."
