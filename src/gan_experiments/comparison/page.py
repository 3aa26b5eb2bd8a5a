"""The self-contained HTML page of a comparison: sheets, curves, sortable tables, what differs, links to the runs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from gan_experiments.comparison import plots
from gan_experiments.comparison.figures import MOST, Sheet
from gan_experiments.comparison.search import Search
from gan_experiments.comparison.table import DASH, Cell, Setting, Table, differences, duration, shown

if TYPE_CHECKING:
    from jinja2 import Environment


def page(
    found: Sequence[Setting],
    tables: Sequence[Table],
    notes: Sequence[str],
    panels: Sequence[plots.Panel],
    sheets: Sequence[Sheet],
    out: Path,
    searched: Search | None = None,
) -> str:
    """Return the HTML of the page; its links to runs are relative to the folder `out`."""
    count = sum(len(setting.runs) for setting in found)
    return render(
        "index.html",
        title="Comparison",
        summary=f"{many(count, 'run')} of {many(len(found), 'setting')}.",
        marks={setting.name: plots.mark(index) for index, setting in enumerate(found[:MOST])},
        notes=notes,
        tables=tables,
        panels=panels,
        sheets=[(sheet, players(sheet.path, out)) for sheet in sheets],
        search=searched,
        differences=_differences(found) if len(found) > 1 else None,
        runs=[_run(setting, run, out) for setting in found for run in setting.runs],
    )


def render(template: str, **values: Any) -> str:
    """Return a page; whatever a run's files hold is escaped, and no character can make the file unwritable."""
    html = _environment().get_template(template).render(values)
    return html.encode("utf-8", "replace").decode()  # a folder can have any name


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"code": _code, "key": _key, "mark": plots.mark, "plot": plots.curves}
    return made


def many(n: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _code(line: str) -> Markup:
    """Return the HTML of a line in which backticks enclose code."""
    parts = (f"<code>{escape(part)}</code>" if i % 2 else escape(part) for i, part in enumerate(line.split("`")))
    return Markup("".join(parts))


def _key(key: float | str) -> str:
    return "" if isinstance(key, float) and not math.isfinite(key) else str(key)


def _differences(found: Sequence[Setting]) -> Table:
    runs = [setting.runs[0] for setting in found]
    rows = []
    for key in sorted(differences(runs)):
        values = [shown(run.flat[key]) if key in run.flat else DASH for run in runs]
        if key.endswith("_target_"):
            values = [value.rpartition(".")[2] for value in values]
        rows.append([Cell(text, text) for text in (key, *values)])
    return Table("What differs in the configs", ["key", *(setting.name for setting in found)], rows)


def _run(setting: Setting, run: Any, out: Path) -> dict[str, str]:
    return {
        "setting": setting.name,
        "seed": str(run.seed),
        "status": run.status + (f": {run.outcome['message']}" if run.outcome.get("message") else ""),
        "images": f"{run.images:,}",
        "time": duration([run.seconds]) if run.seconds is not None else DASH,
        "where": os.path.relpath(run.folder, out.resolve()),
        "link": link(run.folder, out) + "/",
    }


def players(sheet: Path, out: Path) -> list[dict[str, str]]:
    """Return what a page in the folder `out` plays of a sheet: the film or the sounds that lie beside it, if any."""
    found = {tag: sheet.with_suffix(suffix) for tag, suffix in (("img", ".gif"), ("audio", ".wav"))}
    return [{"tag": tag, "link": link(path, out), "name": path.name} for tag, path in found.items() if path.is_file()]


def link(path: Path, out: Path) -> str:
    """Return the address of a file for a page in the folder `out`; empty if there is no such file."""
    where = os.path.relpath(path.resolve(), out.resolve())
    return quote(where.replace(os.sep, "/"), errors="replace") if path.exists() else ""
