"""Plots as SVG, for HTML pages: small, without a library, in the page's own colours by day and by night.

Nothing here takes longer than a millisecond or two, so that a training can afford a page of them at its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7570B3", "#8C6D31")
"""Colours that the colour-blind can tell apart (Okabe and Ito 2008, without black and yellow), on white and black."""
Dashes = Literal["-", "--", ":", "-."]
DASHES: tuple[Dashes, ...] = ("-", "--", ":", "-.")
MOST_PLACES = 300
"""The largest number of points of a drawn curve; of a longer one the mean and the extremes of each part are drawn."""
WIDE, HIGH = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 26
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass
class Curve:
    """One quantity of one setting against images seen: the mean over seeds, the lowest and the highest."""

    setting: int
    images: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    label: str = ""


@dataclass
class Panel:
    """The curves of one quantity, for all settings that have it."""

    title: str
    curves: list[Curve]

    @property
    def telling(self) -> bool:
        """Whether there is something to see: more than one point, and not only zeros (an alarm that never came)."""
        return any(len(c.images) > 1 for c in self.curves) and any(any((*c.low, *c.high)) for c in self.curves)

    @property
    def logarithmic(self) -> bool:
        """Whether the axis is logarithmic: the values are positive and the largest is over 30 times the smallest."""
        values = [v for curve in self.curves for v in (*curve.low, *curve.high) if math.isfinite(v)]
        return bool(values) and min(values) > 0 and max(values) / min(values) > 30


def style(setting: int) -> tuple[str, Dashes]:
    """Return the colour and the dashes of a setting, by its index."""
    return COLOURS[setting % len(COLOURS)], DASHES[setting // len(COLOURS) % len(DASHES)]


def mark(index: int) -> Markup:
    """Return a short line in the colour and the dashes of a setting."""
    colour, dashes = style(index)
    line = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "double"}[dashes]
    return Markup('<i style="border-top-color:{};border-top-style:{}"></i>').format(colour, line)


# ------------------------------------------------------------------------------------------ curves


@dataclass
class _Axis:
    """Values from `low` to `high`, laid out from pixel `first` to pixel `last`."""

    low: float
    high: float
    first: float
    last: float
    logarithmic: bool = False
    ticks: list[float] = field(default_factory=list)

    def __call__(self, value: float) -> float:
        low, high, x = ((math.log(v) if self.logarithmic else v) for v in (self.low, self.high, value))
        return round(self.first + (x - low) / ((high - low) or 1) * (self.last - self.first), 1)


def curves(panel: Panel) -> Markup:
    """Return a panel as SVG; values that are not finite are left out."""
    drawn = [curve for curve in map(_thinned, panel.curves) if curve.images]
    values = [v for curve in drawn for v in (*curve.low, *curve.high)]
    if not values:
        return Markup("")
    x = _linear(0.0, max(c.images[-1] for c in drawn), LEFT, WIDE - RIGHT)
    y = (_logarithmic if panel.logarithmic else _padded)(min(values), max(values), HIGH - BOTTOM, TOP)
    parts = [_grid(x, y)]
    for curve in drawn:
        colour, dashes = style(curve.setting)
        if curve.low != curve.high:
            there = [f"{x(i)},{y(v)}" for i, v in zip(curve.images, curve.high, strict=True)]
            back = [f"{x(i)},{y(v)}" for i, v in zip(curve.images, curve.low, strict=True)]
            parts.append(f'<path class="band" fill="{colour}" d="M{" ".join([*there, *reversed(back)])}z"/>')
        points = [(x(i), y(v)) for i, v in zip(curve.images, curve.mean, strict=True)]
        line = {"-": "", "--": "7 4", ":": "2 3", "-.": "8 3 2 3"}[dashes]
        given = f' stroke-dasharray="{line}"' if line else ""
        path = " ".join(f"{a},{b}" for a, b in points)
        parts.append(f'<path class="line" stroke="{colour}"{given} d="M{path}"/>')
        if len(points) < 12:
            parts += [f'<circle cx="{a}" cy="{b}" r="2.6" fill="{colour}"/>' for a, b in points]
    return _svg("".join(parts), panel.title, WIDE, HIGH)


def _svg(inside: str, title: str, wide: float, high: float) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        wide, high, title, Markup(inside)
    )


def _grid(x: _Axis, y: _Axis) -> str:
    bottom = HIGH - BOTTOM
    lines = [f"M{LEFT},{y(tick)}H{WIDE - RIGHT}" for tick in y.ticks]
    parts = [f'<path class="grid" d="{"".join(lines)}"/><path class="axis" d="M{LEFT},{TOP}V{bottom}H{WIDE - RIGHT}"/>']
    for tick, label in zip(y.ticks, labels(y.ticks), strict=True):
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:g}" text-anchor="end">{label}</text>')
    for tick in x.ticks:
        anchor = "end" if x(tick) > WIDE - RIGHT - 14 else "middle"
        parts.append(f'<text x="{x(tick)}" y="{HIGH - 8}" text-anchor="{anchor}">{number(tick)}</text>')
    return "".join(parts)


def _thinned(curve: Curve) -> Curve:
    """Return a curve of at most MOST_PLACES finite points, for each of them the mean and the extremes of a part."""
    rows = zip(curve.images, curve.mean, curve.low, curve.high, strict=True)
    finite = [row for row in rows if all(map(math.isfinite, row))]
    size = -(-len(finite) // MOST_PLACES) or 1
    parts = [finite[start : start + size] for start in range(0, len(finite), size)]
    images, mean = ([sum(row[i] for row in part) / len(part) for part in parts] for i in (0, 1))
    if finite:
        images[-1] = finite[-1][0]
    low, high = [min(row[2] for row in part) for part in parts], [max(row[3] for row in part) for part in parts]
    return Curve(curve.setting, images, mean, low, high, curve.label)


def _steps(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from `low` to `high`, at most `most` + 1 of them."""
    rough = (high - low) / most
    if rough <= 0 or not math.isfinite(rough):
        return [low]
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next((unit * times for times in (1, 2, 2.5, 5) if unit * times >= rough * 0.999), 10 * unit)
    return [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _linear(low: float, high: float, first: float, last: float) -> _Axis:
    return _Axis(low, high, first, last, ticks=_steps(low, high))


def _padded(low: float, high: float, first: float, last: float) -> _Axis:
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    room = max(room, max(abs(low), abs(high)) * 1e-3)  # what varies by less is drawn as level
    return _linear(low - room, high + room, first, last)


def _logarithmic(low: float, high: float, first: float, last: float) -> _Axis:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = -(-len(decades) // 6)
    times = (1, 2, 5) if len(decades) < 4 else (1,)
    ticks = [10.0**d * t for d in decades if d % every == 0 for t in times if low <= 10.0**d * t <= high]
    return _Axis(low, high * 1.05, first, last, True, ticks)


def number(value: float, digits: int = 3) -> str:
    """Return a number as short text: 20k, 1.5M, 0.02."""
    for size, unit in UNITS:
        if abs(value) >= size:
            return f"{value / size:.{digits + 1}g}{unit}"
    return f"{value:.{digits}g}" if value else "0"


def labels(values: Sequence[float]) -> list[str]:
    """Return numbers as texts of as few digits as tell them apart."""
    texts = ([number(value, digits) for value in values] for digits in range(3, 8))
    return next((some for some in texts if len({*some}) == len(some)), [number(value) for value in values])


# ------------------------------------------------------------------------------------------ parallel coordinates


@dataclass
class Coordinate:
    """One axis of parallel coordinates: a value of each run, numbers or words."""

    title: str
    values: Sequence[float | str]
    logarithmic: bool = False

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(value, (int, float)) for value in self.values)

    def places(self) -> tuple[list[float], list[tuple[float, str]]]:
        """Return the place of each run from 0 (below) to 1, and the labels beside the axis with their places."""
        if not self.numeric:
            words = sorted(dict.fromkeys(map(str, self.values)))
            place = {word: (i + 0.5) / len(words) for i, word in enumerate(words)}
            return [place[str(value)] for value in self.values], [(place[word], word) for word in words]
        numbers = [float(value) for value in self.values]
        axis = _Axis(min(numbers), max(numbers), 0.0, 1000.0, self.logarithmic)
        if axis.low == axis.high:
            return [0.5] * len(self.values), [(0.5, number(axis.low))]
        few = sorted(set(numbers))
        ticks = few if len(few) <= 5 else [axis.low, axis.high]
        return [axis(value) / 1000 for value in numbers], [(axis(t) / 1000, number(t)) for t in ticks]


def parallel(axes: Sequence[Coordinate], names: Sequence[str], down: bool) -> Markup:
    """Return parallel coordinates as SVG: a line for each run; the last axis is the score, by which they are coloured.

    `names` are the runs' names, shown under the pointer. With `down` the lower score is better, and is drawn above.
    Axes run down the page, one below the other, so that names of any length fit beside them on a narrow screen.
    """
    pitch, left, right, top = 62, 14, 14, 22
    wide, high = WIDE, top + pitch * (len(axes) - 1) + 40
    placed = [axis.places() for axis in axes]
    good = [1 - p if down else p for p in placed[-1][0]]
    order = sorted(range(len(names)), key=lambda run: good[run])  # the best on top
    parts = []
    span = wide - left - right
    for run in order:
        points = [f"{left + span * where[run]:.1f},{top + pitch * i}" for i, (where, _) in enumerate(placed)]
        colour = _shade(good[run])
        strong = ' class="line best"' if run == order[-1] else ' class="line"'
        parts.append(
            f'<path{strong} stroke="{colour}" d="M{" ".join(points)}"><title>{escape(names[run])}</title></path>'
        )
    for i, (axis, (_, labels)) in enumerate(zip(axes, placed, strict=True)):
        y = top + pitch * i
        parts.append(f'<path class="axis" d="M{left},{y}H{wide - right}"/>')
        parts.append(f'<text class="name halo" x="{left}" y="{y - 8}">{escape(_cut(axis.title, 52))}</text>')
        room = max(4, int(62 / max(1, len(labels))) - 1)
        for place, word in labels:
            x = left + span * place
            anchor = "start" if place < 0.08 else "end" if place > 0.92 else "middle"
            text = escape(_cut(word, room))
            parts.append(f'<text class="halo" x="{x:.1f}" y="{y + 16}" text-anchor="{anchor}">{text}</text>')
    return _svg("".join(parts), "parallel coordinates", wide, high)


def _shade(good: float) -> str:
    """Return a colour from orange (0, the worst) over grey to blue (1, the best), legible on white and black."""
    worst, middle, best = (213, 94, 0), (140, 140, 140), (0, 114, 178)
    one, other, share = (worst, middle, 2 * good) if good < 0.5 else (middle, best, 2 * good - 1)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(one, other, strict=True))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def bars(rows: Iterable[tuple[str, float, float]]) -> Markup:
    """Return horizontal bars as HTML: the name, the value from 0 to 1, and its spread, a row each."""
    row = Markup(
        '<div class="bar"><span>{}</span><div><b style="width:{}%"></b><span class="soft">{}% ± {}%</span></div></div>'
    )
    return Markup("").join(
        row.format(name, round(60 * max(0.0, share), 1), round(100 * share), round(100 * spread))
        for name, share, spread in rows
    )
