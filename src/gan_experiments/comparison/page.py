"""A self-contained HTML page: sortable tables, curves, sheets, what differs in the configs, and links to the runs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from gan_experiments.comparison.figures import MOST, Panel, Sheet, style, svg
from gan_experiments.comparison.table import DASH, Cell, Setting, Table, differences, duration, shown

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c636b; --line: #d8dce1; --paper: #fff; --raised: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --soft: #a0a7b0; --line: #353a41; --paper: #15171a; --raised: #1e2125; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1500px; padding: 1.5rem clamp(.8rem, 3vw, 2.5rem); background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .3rem 0; max-width: 75rem; overflow-wrap: anywhere; } .soft { color: var(--soft); font-size: .88rem; }
.why { border-left: 3px solid #d55e00; padding-left: .7rem; }
.scroll { overflow-x: auto; margin: .7rem 0; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .left td, .left th { text-align: left; } tbody tr:last-child td { border-bottom: 0; }
td:first-child { white-space: normal; min-width: min(17rem, 45vw); overflow-wrap: break-word; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); }
th, th:first-child { background: var(--raised); font-weight: 600; font-size: .85rem; white-space: normal; }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid #0072b2; }
th[aria-sort=ascending] button::after { content: " ▲"; } th[aria-sort=descending] button::after { content: " ▼"; }
i { display: inline-block; width: 1.1rem; margin-right: .45rem; vertical-align: middle; border-top: 3px; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: .8rem; }
.sheets { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr)); gap: 1.2rem; }
figure { margin: 0; display: flex; flex-direction: column; justify-content: flex-end; }
img { width: 100%; height: auto; display: block; } .sheets img { border-radius: 4px; }
figcaption { margin-bottom: .35rem; } ul.legend { list-style: none; padding: 0; margin: .4rem 0 1rem; }
ul.legend li { display: inline-block; margin-right: 1.4rem; } a { color: inherit; } code { font-size: .9em; }
"""

SORT = """
document.querySelectorAll("th button").forEach(button => button.onclick = () => {
  const th = button.parentElement, body = th.closest("table").tBodies[0], column = th.cellIndex;
  const down = th.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  th.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  th.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.key, number = text => text === "" ? Infinity : Number(text);
  const order = (a, b) => isNaN(number(a)) || isNaN(number(b)) ? a.localeCompare(b) : number(a) - number(b) || 0;
  [...body.rows].sort((a, b) => down * order(key(a), key(b))).forEach(row => body.append(row));
});
"""


def page(
    found: Sequence[Setting],
    tables: Sequence[Table],
    notes: Sequence[str],
    panels: Sequence[Panel],
    sheets: Sequence[Sheet],
    out: Path,
) -> str:
    """Return the HTML of the page; its links to runs are relative to the folder `out`."""
    marks = {setting.name: _mark(index) for index, setting in enumerate(found[:MOST])}
    count = sum(len(setting.runs) for setting in found)
    parts = [
        "<h1>Comparison</h1>",
        f'<p class="soft">{_many(count, "run")} of {_many(len(found), "setting")}. A click on a head sorts.</p>',
        *(f'<p class="why">{escape(note)}</p>' for note in notes),
        *(_section(table, marks) for table in tables),
    ]
    if panels:
        legend = "".join(f"<li>{mark}{escape(name)}</li>" for name, mark in marks.items())
        figures = "".join(f'<figure><img src="{svg(panel)}" alt="{escape(panel.title)}"></figure>' for panel in panels)
        said = "Against images seen: the mean over seeds; the band is from the lowest to the highest seed."
        parts += [f'<h2>Curves</h2><p class="soft">{said}</p>', f'<ul class="legend">{legend}</ul>']
        parts += [f'<div class="curves">{figures}</div>']
    if sheets:
        parts += ["<h2>Samples</h2>", f'<div class="sheets">{"".join(_sheet(sheet) for sheet in sheets)}</div>']
    if len(found) > 1:
        parts += [_section(_differences(found), marks, "left")]
    parts += [_runs(found, marks, out)]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>Comparison</title><style>{STYLE}</style>"
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n<script>{SORT}</script></body></html>\n'
    )


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _mark(index: int) -> str:
    colour, dashes = style(index)
    line = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "double"}[dashes]
    return f'<i style="border-top-color:{colour};border-top-style:{line}"></i>'


def _section(table: Table, marks: dict[str, str], kind: str = "") -> str:
    before = "".join(
        f'<p class="{"why" if line.startswith("Not set") else "soft"}">{_text(line)}</p>' for line in table.before
    )
    after = "".join(f'<p class="soft">{_text(line)}</p>' for line in table.after)
    head = "".join(f'<th scope="col"><button>{escape(name)}</button></th>' for name in table.head)
    rows = "".join(f"<tr>{''.join(_cell(cell, marks) for cell in row)}</tr>" for row in table.rows)
    laid = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    return f'<h2>{escape(table.title)}</h2>{before}<div class="scroll">{laid}</div>{after}'


def _text(line: str) -> str:
    """Return the HTML of a line in which backticks enclose code."""
    return "".join(
        f"<code>{escape(part)}</code>" if index % 2 else escape(part) for index, part in enumerate(line.split("`"))
    )


def _cell(cell: Cell, marks: dict[str, str]) -> str:
    key = "" if isinstance(cell.key, float) and not math.isfinite(cell.key) else str(cell.key)
    text = f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text)
    return f'<td data-key="{escape(key)}">{marks.get(cell.text, "")}{text}</td>'


def _sheet(sheet: Sheet) -> str:
    name, told = (escape(line) for line in sheet.lines)
    caption = f'<figcaption>{_mark(sheet.setting)}{name}<br><span class="soft">{told}</span></figcaption>'
    return f'<figure>{caption}<img src="{sheet.data()}" alt="samples of {name}"></figure>'


def _differences(found: Sequence[Setting]) -> Table:
    runs = [setting.runs[0] for setting in found]
    rows = []
    for key in sorted(differences(runs)):
        values = [shown(run.flat[key]) if key in run.flat else DASH for run in runs]
        if key.endswith("_target_"):
            values = [value.rpartition(".")[2] for value in values]
        rows.append([Cell(text, text) for text in (key, *values)])
    return Table("What differs in the configs", ["key", *(setting.name for setting in found)], rows)


def _runs(found: Sequence[Setting], marks: dict[str, str], out: Path) -> str:
    rows = []
    for setting in found:
        for run in setting.runs:
            where = os.path.relpath(run.folder, out.resolve())
            link = f'<a href="{escape(quote(where.replace(os.sep, "/")))}/">{escape(where)}</a>'
            status = run.status + (f": {run.outcome['message']}" if run.outcome.get("message") else "")
            time = duration([run.seconds]) if run.seconds is not None else DASH
            cells = [str(run.seed), status, f"{run.images:,}", time]
            rows.append(
                f"<tr><td>{marks.get(setting.name, '')}{escape(setting.name)}</td>"
                + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
                + f"<td>{link}</td></tr>"
            )
    head = "".join(f"<th>{name}</th>" for name in ("setting", "seed", "status", "images", "time", "folder"))
    laid = f'<table class="left"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<h2>Runs</h2><div class="scroll">{laid}</div>'
