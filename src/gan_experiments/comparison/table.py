"""Settings (the runs of one config with several seeds), groups of scores with equal passports, and their tables."""

from __future__ import annotations

import csv
import json
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gan_experiments import files
from gan_experiments.comparison.read import Run, Scored, matters, natural
from gan_experiments.contracts import UNIFORM
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.metrics.passports import UNSTATED, measurement, short_name

DASH = "–"


# ------------------------------------------------------------------------------------------ settings


@dataclass
class Setting:
    """Runs whose configs differ only in the seed."""

    runs: list[Run]
    name: str = ""

    @property
    def seeds(self) -> list[Any]:
        """The seeds of its runs."""
        return [run.seed for run in self.runs]


def settings(runs: Sequence[Run]) -> tuple[list[Setting], list[str]]:
    """Group runs to settings, in the given order, each with a unique name. Also returns notes on runs left out."""
    found: list[Setting] = []
    notes = []
    for run in runs:
        setting = next((s for s in found if repeats(s.runs[0], run)), None)
        if setting is None:
            found.append(Setting([run]))
        else:
            setting.runs.append(run)
    _name(found)
    for setting in found:
        furthest: dict[Any, Run] = {}
        for run in setting.runs:
            other = furthest.get(run.seed)
            taken = run if other is None or run.images > other.images else other
            furthest[run.seed] = taken
            if other:
                left = other if taken is run else run
                notes.append(
                    f"{setting.name}: seed {run.seed} was run twice; {left.folder} is left out for {taken.folder}."
                )
        setting.runs = sorted(furthest.values(), key=lambda run: natural(str(run.seed)))
    return found, notes


def repeats(a: Run, b: Run) -> bool:
    """Return True if two configs differ only in the seed, and in other seeds that equal it."""
    return not differences([a, b])


def differences(runs: Sequence[Run]) -> list[str]:
    """Return the keys whose values differ between the runs' configs, without the seed and other seeds that equal it."""
    keys = dict.fromkeys(key for run in runs for key in run.flat)
    unlike = [key for key in keys if not _alike([run.flat[key] for run in runs if key in run.flat], len(runs))]
    return [key for key in unlike if not (key.endswith("seed") and all(run.flat.get(key) == run.seed for run in runs))]


def _alike(values: list[Any], number: int) -> bool:
    """Return True if so many runs agree on a key; a newer one, which some of them lack, must be off in the others."""
    return all(value == values[0] for value in values) and (len(values) == number or not values[0])


def _name(found: list[Setting]) -> None:
    """Name each setting by what was typed, for any of them, and differs; if names are equal, by what else differs."""
    first = [setting.runs[0] for setting in found]
    keys = [*unlike(first)] if len(found) > 1 else [key for key in CHOICES if key in first[0].choices] if first else []
    for setting in found:
        setting.name = " ".join(_words(setting.runs[0], keys))
    for name in {setting.name for setting in found}:
        alike = [setting for setting in found if setting.name == name]
        keys = differences([setting.runs[0] for setting in alike])
        for setting in alike:
            words = _words(setting.runs[0], keys)
            more = [f"and {len(words) - 3} more"] if len(words) > 4 else words[3:]
            setting.name = " ".join(filter(None, [name, *words[:3], *more])) or setting.runs[0].folder.name
    for setting in found:
        alike = [other for other in found if other.name == setting.name]
        for number, other in enumerate(alike[1:], start=2):
            other.name += f" ({number})"


CHOICES = ("model", "data")
"""The groups that every run chooses from, typed or not."""


def unlike(runs: Sequence[Run]) -> dict[str, str]:
    """Return the keys that were typed for any of the runs, or are CHOICES, and differ; each with its shortest name."""
    chosen = [key for key in CHOICES if any(key in run.choices for run in runs)]
    typed = [key for run in runs for key in run.typed if matters(key) and not key.startswith(("seed", "hydra"))]
    keys = [k for k in dict.fromkeys([*chosen, *typed]) if any(run.value(k) != runs[0].value(k) for run in runs)]
    return {key: _shortest(key, runs[0]) for key in keys}


def typed_value(key: str, run: Run) -> str:
    """Return a value as it was typed for a run, or as it would be."""
    return _cut(run.typed.get(key, shown(run.value(key))))


def _words(run: Run, keys: list[str]) -> list[str]:
    return [f"{_shortest(key, run)}={typed_value(key, run)}" for key in keys if run.value(key) is not None]


def _cut(text: str, most: int = 48) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shortest(key: str, run: Run) -> str:
    """Return the shortest end of a key that no other key has."""
    parts = key.split(".")
    for n in range(1, len(parts)):
        tail = ".".join(parts[-n:])
        if sum(f".{other}".endswith(f".{tail}") for other in run.flat) == 1:
            return tail
    return key


def shown(value: Any) -> str:
    """Return a config's value as it is typed; for a node, the name of its class; for a group of nodes, their names."""
    if isinstance(value, dict) and "_target_" in value:
        return str(value["_target_"]).rpartition(".")[2]
    if isinstance(value, dict) and all(isinstance(node, dict) and "_target_" in node for node in value.values()):
        return f"[{','.join(value)}]" if value else "none"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


# ------------------------------------------------------------------------------------------ passports


@dataclass
class Group:
    """Scores that were measured in the same way: for each run those after the most images, and the best.

    `passports` holds for each score, by name, what describes its measurement.
    """

    passports: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: dict[Path, Scored] = field(default_factory=dict)
    best: dict[Path, Scored] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    versions: list[dict[str, str]] = field(default_factory=list)

    @property
    def passport(self) -> dict[str, Any]:
        """What all of its scores have in common, but for how each is estimated."""
        return _common(self.passports.values())

    @property
    def hash(self) -> str:
        """The short name of the passport."""
        return short_name(self.passport)

    @property
    def line(self) -> str:
        """The passport in one line; after it, what concerns single scores."""
        common = self.passport
        own = {
            name: [f"{key}={_brief(v)}" for key, v in told.items() if key not in (*common, "estimator")]
            for name, told in self.passports.items()
        }
        words = ", ".join(f"{key}={_brief(value)}" for key, value in common.items())
        return "; ".join(
            [f"Passport {self.hash}: {words}", *(f"{name}: {', '.join(told)}" for name, told in own.items() if told)]
        )

    @property
    def names(self) -> list[str]:
        """The names of the scores."""
        return list(self.passports)

    def takes(self, passports: dict[str, dict[str, Any]]) -> list[str]:
        """Return those of an evaluation's scores that belong here.

        These are the scores that were measured as those of the same name here, and then also those that are not here
        yet; where no score is in both, all of them if they have the same in common as those here.
        """
        here = self.passports
        alike = [name for name, told in passports.items() if here.get(name) == told]
        new = [name for name in passports if name not in here]
        joins = alike or (len(new) == len(passports) and _common(passports.values()) == self.passport)
        return [name for name in passports if name in alike or name in new] if joins else []

    def differs(self, other: Group) -> list[str]:
        """Return lines on the fields in which the passports of another group differ, each with both values.

        In the lines "there" is this group and "here" the other. Estimators are named only if nothing else differs.
        """
        both = [name for name in self.passports if name in other.passports]
        pairs = [(name, self.passports[name], other.passports[name]) for name in both]
        lines: dict[bool, dict[str, None]] = {True: {}, False: {}}
        for name, there, here in pairs or [("", self.passport, other.passport)]:
            for key in dict.fromkeys([*there, *here]):
                one, two = there.get(key, UNSTATED), here.get(key, UNSTATED)
                if one != two:
                    what = f"estimator of {name}" if key == "estimator" else key
                    lines[key == "estimator"][f"{what} is {_brief(one)} there and {_brief(two)} here"] = None
        return [*(lines[False] or lines[True])]


def _common(passports: Iterable[dict[str, Any]]) -> dict[str, Any]:
    first, *others = passports
    return {
        key: value
        for key, value in first.items()
        if key != "estimator" and all(key in other and other[key] == value for other in others)
    }


def _brief(value: Any) -> str:
    """Return a value as short text; a hash is cut to its beginning."""
    text = shown(value)
    return f"{text[:8]}…" if len(text) > 12 and all(c in "0123456789abcdef" for c in text) else text


def groups(found: Sequence[Setting]) -> list[Group]:
    """Group the scores of all runs by passport; the group with the most runs comes first."""
    made: list[Group] = []
    runs = [run for setting in found for run in setting.runs]
    passports = [s["passport"] for run in runs for scored in _all(run) for s in scored.scores.values()]
    uneven = {passport.get("real_fingerprint") for passport in passports if "labels" in passport}
    for run in runs:
        for scored in _all(run):
            _state_labels(run, scored, uneven)
        for scored in filter(None, (run.last, *run.again)):
            for group, part in _sorted(made, scored):
                if run.folder not in group.last or part.images > group.last[run.folder].images:
                    group.last[run.folder] = part
        for group, part in _sorted(made, run.best) if run.best else ():
            group.best[run.folder] = part
    return sorted(made, key=lambda group: -len(group.last))


def _all(run: Run) -> list[Scored]:
    return [scored for scored in (run.last, run.best, *run.again) if scored]


def _state_labels(run: Run, scored: Scored, uneven: set[Any]) -> None:
    """Add to older passports, where it matters, that the classes of generated images were drawn uniformly.

    These are passports without `labels` while others of the same real data have them.
    """
    classes, conditioning = (run.value(f"model.generator.{key}") for key in ("classes", "conditioning"))
    for score in scored.scores.values() if classes and conditioning != "none" else ():
        if score["passport"].get("real_fingerprint") in uneven:
            score["passport"].setdefault("labels", UNIFORM)


def _sorted(made: list[Group], scored: Scored) -> list[tuple[Group, Scored]]:
    """Split scores measured together by the group that they belong to; add a group to `made` for those of a new one."""
    parts: list[tuple[Group, Scored]] = []
    left = {name: measurement(score["passport"]) for name, score in scored.scores.items()}
    groups = iter([*made])
    while left:
        group = next(groups, None) or Group()
        taken = group.takes(left) if group.passports else [*left]
        if not taken:
            continue
        if not group.passports:
            made.append(group)
        group.passports |= {name: left.pop(name) for name in taken}
        for name in taken:
            told = scored.scores[name]["passport"]
            group.notes |= {f"{name}: {warning}.": None for warning in told.get("warnings") or []}
            if told.get("versions") and told["versions"] not in group.versions:
                group.versions.append(told["versions"])
        parts.append((group, Scored(scored.images, {name: scored.scores[name] for name in taken})))
    return parts


def ranked(found: list[Setting], made: list[Group]) -> list[Setting]:
    """Return the settings sorted by the mean of the first score, the best first; those without it come last."""
    if not made:
        return found
    group, name = made[0], made[0].names[0]

    def place(setting: Setting) -> float:
        scored = [group.last[run.folder].scores.get(name) for run in setting.runs if run.folder in group.last]
        mean = float(np.mean([score["value"] for score in scored if score] or [math.nan]))
        return math.inf if math.isnan(mean) else -mean if higher_is_better(name) else mean

    return sorted(found, key=place)


# ------------------------------------------------------------------------------------------ numbers


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and half the width of its 95% interval by Student's t; None as width for a single value."""
    n = len(values)
    mean = float(np.mean(values))
    if n == 1:
        return mean, None
    from scipy.special import stdtrit

    return mean, float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(n))


def measured(values: Sequence[float], unit: str = "") -> str:
    """Return "mean ± half the interval" as text, rounded to the digits that the interval supports."""
    mean, half = interval(values)
    if half is None or not math.isfinite(half):
        return f"{mean:.4g}{unit}"
    digits = max(0, 1 - math.floor(math.log10(half))) if half else 9
    if digits > 6:
        return f"{mean:.4g} ± {half:.2g}{unit}"
    return f"{mean:.{digits}f} ± {half:.{digits}f}{unit}"


def duration(seconds: Sequence[float]) -> str:
    """Return a time as text, in hours, minutes or seconds depending on its mean."""
    unit, size = next((u, s) for u, s in (("h", 3600), ("min", 60), ("s", 0)) if np.mean(seconds) >= 2 * s)
    return measured([value / (size or 1) for value in seconds], f" {unit}")


def separated(columns: Sequence[Sequence[float]], higher: bool) -> int | None:
    """Return the index of the best mean if its interval overlaps no other; None if it does, or one has no interval."""
    spans = [interval(values) if values else (math.nan, None) for values in columns]
    known = [(mean, half) for mean, half in spans if not math.isnan(mean)]
    if len(known) < 2 or any(half is None for _, half in known):
        return None
    sign = -1 if higher else 1
    ranked = sorted(
        (sign * mean, half or 0.0, index) for index, (mean, half) in enumerate(spans) if not math.isnan(mean)
    )
    best, half, index = ranked[0]
    return index if all(best + half < other - width for other, width, _ in ranked[1:]) else None


# ------------------------------------------------------------------------------------------ tables


@dataclass
class Cell:
    """The text of a cell, and the key by which it is sorted."""

    text: str
    key: float | str
    bold: bool = False


@dataclass
class Table:
    """A table, with the paragraphs before and after it."""

    title: str
    head: list[str]
    rows: list[list[Cell]]
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown with aligned columns, under its title and with its paragraphs."""
        lines = [[_escape(cell) for cell in self.head]]
        lines += [[_escape(f"**{cell.text}**" if cell.bold else cell.text) for cell in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines[1:1] = [rule]
        laid = ["| " + " | ".join(self._pad(cell, widths, i) for i, cell in enumerate(line)) + " |" for line in lines]
        return "\n".join(
            [f"## {prose(self.title)}", "", *_paragraphs(self.before), *laid, "", *_paragraphs(self.after)]
        )

    def text(self, width: int) -> str:
        """Return the table for a terminal of `width` columns, what does not fit beside the rest below it.

        The first column is repeated; its texts and the heads are broken into lines.
        """
        rows = [[f"*{cell.text}" if cell.bold else cell.text for cell in row] for row in self.rows]
        first = min(max(map(len, (row[0] for row in rows)), default=0), max(12, width // 3))
        heads = [max(map(len, head.split()), default=0) for head in self.head]
        widths = [min(width - first - 2, max([heads[i], *(len(row[i]) for row in rows)])) for i in range(len(heads))]
        blocks: list[list[int]] = [[]]
        for i in range(1, len(self.head)):
            if blocks[-1] and first + sum(widths[j] + 2 for j in (*blocks[-1], i)) > width:
                blocks.append([])
            blocks[-1].append(i)
        lines = [prose(self.title), "", *_paragraphs(self.before)]
        for block in blocks:
            for row in (self.head, *rows):
                cells = [textwrap.wrap(row[0], first) or [""], *(textwrap.wrap(row[i], widths[i]) for i in block)]
                sizes = [first, *(widths[i] for i in block)]
                for k in range(max(map(len, cells))):
                    parts = [cell[k] if k < len(cell) else "" for cell in cells]
                    laid = [parts[0].ljust(first), *(p.rjust(n) for p, n in zip(parts[1:], sizes[1:], strict=True))]
                    lines.append("  ".join(laid).rstrip())
                if row is self.head:
                    lines.append("-" * (first + sum(widths[i] + 2 for i in block)))
            lines.append("")
        return "\n".join([*lines, *_paragraphs(self.after)])

    @staticmethod
    def _pad(cell: str, widths: list[int], index: int) -> str:
        return cell.rjust(widths[index]) if index else cell.ljust(widths[index])


def _escape(text: str) -> str:
    """Escape a name or value for a cell, whatever characters a run's files have put into it."""
    return prose(re.sub(r"[\\`|]", r"\\\g<0>", text))


def prose(text: str) -> str:
    """Escape a line that may hold names from a run's files, so that they make no HTML, links or new lines."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line.replace("<", "\\<").replace("](", "]\\(")


def _paragraphs(lines: list[str]) -> list[str]:
    return [part for line in lines for part in (prose(line), "")]


def tables(found: list[Setting], made: list[Group]) -> list[Table]:
    """Return two tables for each passport, of the last and the best scores; without scores one table of the runs."""
    laid = []
    scored = {folder for group in made for folder in group.last}
    without = [setting for setting in found if not scored & {run.folder for run in setting.runs}]
    for number, group in enumerate(made):
        mine = [s for s in found if any(run.folder in group.last for run in s.runs) or (number == 0 and s in without)]
        if group.last:
            laid.append(_last(mine, made, number))
        if group.best:
            laid.append(_best(found, made, number))
    return laid or [Table("Runs", *_columns([_about(setting, found) for setting in found]), after=_ends(found))]


def _last(shown: list[Setting], made: list[Group], number: int) -> Table:
    group = made[number]
    columns = [_about(setting, shown) for setting in shown]
    taken = [_furthest([run for run in setting.runs if run.folder in group.last], group) for setting in shown]
    _add_scores(columns, group, [[group.last[run.folder] for run in runs] for runs in taken])
    after = [*group.notes, *_versions(group), *_left_out(shown, taken, group), *_ends(shown)]
    if any(len(runs) > 1 for runs in taken):
        after.append("± is the 95% interval of the mean over seeds, by Student's t.")
    if len(shown) > 1:
        bold = any(cell.bold for cells in columns for cell in cells.values())
        after.append(
            "Bold: the best mean, its interval apart from all others."
            if bold
            else "None is bold: the intervals of the best meet, or one setting has a single seed."
        )
    title = "Last scores" + (f", passport {group.hash}" if len(made) > 1 else "")
    return Table(title, *_columns(columns), _heading(made, number), after)


def _heading(made: list[Group], number: int) -> list[str]:
    """Return the passport's line; for all but the first, after the reason why its scores are in another table."""
    group = made[number]
    if not number:
        return [group.line]
    why = "; ".join(made[0].differs(group))
    how = "To compare them, score one again like the other: `gan-experiments evaluate run=... metrics=...`."
    return [f"Not set side by side with passport {made[0].hash}: {why}. {how}", group.line]


def _best(shown: list[Setting], made: list[Group], number: int) -> Table:
    group = made[number]
    shown = [setting for setting in shown if any(run.folder in group.best for run in setting.runs)]
    taken = [[run for run in setting.runs if run.folder in group.best] for setting in shown]
    columns: list[dict[str, Cell]] = []
    for setting, runs in zip(shown, taken, strict=True):
        at = [group.best[run.folder].images for run in runs]
        columns.append({"setting": Cell(setting.name, setting.name), "seeds": _seeds(runs), "best at": _images(at)})
    _add_scores(columns, group, [[group.best[run.folder] for run in runs] for runs in taken])
    before = [] if group.last else _heading(made, number)
    before += ["At the best checkpoint of each run (`best.ckpt`), which the first score decides."]
    return Table("Best scores" + (f", passport {group.hash}" if len(made) > 1 else ""), *_columns(columns), before)


def _about(setting: Setting, among: list[Setting]) -> dict[str, Cell]:
    """Return the cells of a setting's row, without its scores."""
    runs = setting.runs
    most = max(run.images for run in runs)
    seconds = [run.seconds for run in runs if run.seconds is not None and run.images == most]
    cells = {"setting": Cell(setting.name, setting.name), "seeds": _seeds(runs)}
    if any(run.status != "finished" for other in among for run in other.runs):
        ends = [run.status for run in runs]
        counts = [f"{ends.count(end)} {end}" if len(runs) > 1 else end for end in dict.fromkeys(ends)]
        cells["status"] = Cell(", ".join(counts), " ".join(ends))
    cells["images"] = _images([run.images for run in runs])
    cells["time"] = Cell(duration(seconds), float(np.mean(seconds))) if seconds else Cell(DASH, math.inf)
    for name, count in runs[0].parameters.items():
        cells[f"{name} parameters"] = Cell(f"{count:,}", count)
    return cells


def _seeds(runs: Sequence[Run]) -> Cell:
    return Cell(f"{len(runs)} ({', '.join(str(run.seed) for run in runs)})", len(runs))


def _images(images: Sequence[int]) -> Cell:
    low, high = min(images), max(images)
    return Cell(f"{low:,}" if low == high else f"{low:,} to {high:,}", high)


def _furthest(runs: list[Run], group: Group) -> list[Run]:
    """Return the runs scored after the most images; the others do not repeat the same measurement."""
    most = max((group.last[run.folder].images for run in runs), default=0)
    return [run for run in runs if group.last[run.folder].images == most]


def _left_out(shown: list[Setting], taken: list[list[Run]], group: Group) -> list[str]:
    lines = []
    for setting, runs in zip(shown, taken, strict=True):
        if runs and (images := group.last[runs[0].folder].images) < max(run.images for run in runs):
            lines.append(f"{setting.name}: scored at {images:,} images.")
        for run in (run for run in setting.runs if runs and run not in runs):
            scored = group.last.get(run.folder)
            why = f"scored last at {scored.images:,} images" if scored else "it has no such scores"
            lines.append(f"{setting.name}: seed {run.seed} is left out of the mean scores ({run.status}; {why}).")
    return lines


def _ends(shown: list[Setting]) -> list[str]:
    runs = [(setting, run) for setting in shown for run in setting.runs if run.status == "failed"]
    return [f"{setting.name}: seed {run.seed} failed: {run.outcome.get('message')}" for setting, run in runs]


def _versions(group: Group) -> list[str]:
    names = dict.fromkeys(name for versions in group.versions for name in versions)
    told = {name: list(dict.fromkeys(str(v.get(name, "none")) for v in group.versions)) for name in names}
    mixed = [f"{name} {' and '.join(values)}" for name, values in told.items() if len(values) > 1]
    return [f"Measured with different versions: {', '.join(mixed)}."] if mixed else []


def _add_scores(columns: list[dict[str, Cell]], group: Group, scored: list[list[Scored]]) -> None:
    for name in group.names:
        values = [[s.scores[name]["value"] for s in runs if name in s.scores] for runs in scored]
        best = separated(values, higher_is_better(name))
        for index, (cells, mine) in enumerate(zip(columns, values, strict=True)):
            mean = float(np.mean(mine)) if mine else math.inf
            text = measured(mine) if mine else DASH
            cells[f"{name} {'↑' if higher_is_better(name) else '↓'}"] = Cell(text, mean, bold=index == best)


def _columns(columns: list[dict[str, Cell]]) -> tuple[list[str], list[list[Cell]]]:
    head = list(dict.fromkeys(name for cells in columns for name in cells))
    return head, [[cells.get(name, Cell(DASH, math.inf)) for name in head] for cells in columns]


# ------------------------------------------------------------------------------------------ files


def write_csv(path: Path, found: list[Setting], made: list[Group]) -> None:
    """Write a CSV file with a row for each run and passport, and all numbers in full precision."""
    rows: list[dict[str, Any]] = []
    for setting in found:
        for run in setting.runs:
            about = {"setting": setting.name, "seed": run.seed, "folder": str(run.folder), "status": run.status}
            about |= {"message": run.outcome.get("message", ""), "images": run.images}
            about |= {"images_wanted": run.config.get("images"), "seconds": run.seconds}
            about |= {f"parameters/{name}": count for name, count in run.parameters.items()}
            mine = [group for group in made if run.folder in group.last or run.folder in group.best]
            for group in mine:
                row = {**about, "passport": group.hash}
                for which, scored in (("last", group.last.get(run.folder)), ("best", group.best.get(run.folder))):
                    if scored:
                        row[f"{which}/images"] = scored.images
                        for name, score in scored.scores.items():
                            row |= {f"{which}/{name}": score["value"], f"{which}/{name}/std": score["std"]}
                rows.append(row)
            rows += [] if mine else [about]
    with files.whole(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
