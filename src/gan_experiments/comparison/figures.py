"""Curves over images seen and sheets of samples, as files and as pictures for the HTML page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gan_experiments import files, provenance
from gan_experiments.bounds import sides
from gan_experiments.comparison.plots import Curve, Panel, style
from gan_experiments.comparison.read import Run
from gan_experiments.comparison.table import Group, Setting
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.provenance import Mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#777777"  # legible on white and on black
MOST = 12
"""The largest number of settings that are drawn; the table has them all."""
NOT_DRAWN = ("images", "images_per_second", "learning_rate/")
ROWS, COLUMNS, WIDEST = 4, 9, 576


# ------------------------------------------------------------------------------------------ curves


def panels(found: Sequence[Setting], made: Sequence[Group]) -> list[Panel]:
    """Return a panel for each score of each passport, then one for each quantity recorded during training."""
    drawn = [
        _panel(_title(name, group, made), found, {folder: name for folder in _in_history(found, group)}, scores=True)
        for group in made
        for name in group.names
    ]
    scores = {name for group in made for name in group.names}
    names = dict.fromkeys(name for setting in found for run in setting.runs for row in run.rows for name in row)
    recorded = [name for name in names if not name.startswith(NOT_DRAWN) and name not in scores]
    recorded.sort(key=lambda name: name.startswith("health/"))  # last
    everyone = [run.folder for setting in found for run in setting.runs]
    drawn += [_panel(name, found, dict.fromkeys(everyone, name)) for name in recorded]
    return [panel for panel in drawn if panel.telling]


def _title(name: str, group: Group, made: Sequence[Group]) -> str:
    return f"{name} {'↑' if higher_is_better(name) else '↓'}" + (f"  ({group.hash})" if len(made) > 1 else "")


def _in_history(found: Sequence[Setting], group: Group) -> Iterator[Path]:
    """Yield the folders of runs whose history was measured like the group: its last and its best scores are in it."""
    for run in (run for setting in found for run in setting.runs):
        told = [scored for scored in (run.last, run.best) if scored]
        mine = [scored for scored in (group.last.get(run.folder), group.best.get(run.folder)) if scored]
        if told and all(any(s.images == m.images and s.scores == m.scores for m in mine) for s in told):
            yield run.folder


def _panel(title: str, found: Sequence[Setting], names: dict[Path, str], scores: bool = False) -> Panel:
    curves = []
    for index, setting in enumerate(found):
        at: dict[float, list[float]] = {}
        for run in (run for run in setting.runs if run.folder in names):
            name = names[run.folder]
            for images, value in _series(run, name, scores):
                at.setdefault(images, []).append(value)
        if at:
            mean, low, high = ([float(f(at[x])) for x in sorted(at)] for f in (np.mean, np.min, np.max))
            curves.append(Curve(index, sorted(at), mean, low, high))
    return Panel(title, curves)


def _series(run: Run, name: str, scores: bool) -> Iterator[tuple[float, float]]:
    rows = run.history if scores else run.rows
    return ((row["images"], row[name]) for row in rows if name in row and "images" in row)


def _draw(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    for curve in panel.curves:
        colour, dashes = style(curve.setting)
        marker = "o" if len(curve.images) < 12 else None
        axes.plot(curve.images, curve.mean, dashes, color=colour, linewidth=1.6, marker=marker, markersize=3)
        if curve.low != curve.high:
            axes.fill_between(curve.images, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlim(left=0)
    if panel.logarithmic:
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_title(panel.title.replace("$", r"\$"), fontsize=10, color=INK, loc="left")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(colors=INK, labelsize=8, which="both")
    axes.grid(color=INK, alpha=0.2, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)


def _grid(figure: Figure, across: int, down: int, above: float = 0.0) -> Any:
    """Return axes in a grid, with the same margins in inches around each; `above` inches are left free at the top."""
    left, right, bottom, top = 0.65, 0.15, 0.4, 0.35
    width, height = figure.get_size_inches()
    inner = (width / across - left - right, (height - above) / down - bottom - top)
    room = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height}
    room |= {
        "top": 1 - (top + above) / height,
        "wspace": (left + right) / inner[0],
        "hspace": (bottom + top) / inner[1],
    }
    return figure.subplots(down, across, squeeze=False, gridspec_kw=room)


def write_curves(path: Path, drawn: Sequence[Panel], found: Sequence[Setting]) -> None:
    """Write all panels to one PNG, under one legend."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    across = min(4, len(drawn))
    down = -(-len(drawn) // across)
    legend = 0.5 + 0.2 * len(found)
    figure = Figure(figsize=(max(4.2 * across, 7), 2.9 * down + legend), dpi=110)
    grid = _grid(figure, across, down, above=legend)
    for axes, panel in zip(grid.flat, drawn, strict=False):
        _draw(axes, panel)
    for axes in grid.flat[len(drawn) :]:
        axes.remove()
    lines = [Line2D([], [], color=colour, linestyle=dashes) for colour, dashes in map(style, range(len(found)))]
    labels = [setting.name.replace("$", r"\$") for setting in found]
    said = "Against images seen: the mean over seeds; the band is from the lowest to the highest seed."
    title = {"title": said, "title_fontsize": 9, "alignment": "left"}
    figure.legend(lines, labels, loc="upper left", fontsize=9, frameon=False, **title)
    with files.whole(path) as unfinished:
        figure.savefig(unfinished)


# ------------------------------------------------------------------------------------------ sheets


@dataclass
class Sheet:
    """The beginning of one run's last sample sheet, with its caption."""

    setting: int
    lines: list[str]
    picture: Image.Image
    mark: Mark | None
    path: Path

    def data(self) -> str:
        """Return the picture as a data URI."""
        return embedded(self.picture, self.mark)


def embedded(picture: Image.Image, mark: Mark | None) -> str:
    """Return a picture as the data URI of a JPEG, which holds samples in a tenth of a PNG's bytes."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=88, subsampling=0, **provenance.options("JPEG", mark))
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def sheets(found: Sequence[Setting]) -> list[Sheet]:
    """Return for each setting the last sheet of its first seed that has one."""
    cut = []
    for index, setting in enumerate(found):
        run = next((run for run in setting.runs if run.sheet), None)
        if run is None or run.sheet is None:
            continue
        try:
            picture = crop(Image.open(run.sheet).convert("RGB"), run.value("data.resolution"))
            mark = provenance.read(run.sheet)
        except OSError:  # a damaged file
            continue
        images = int(run.sheet.stem)
        score = next((row for row in run.history if row.get("images") == images), {})
        told = [f"{name} {value:.4g}" for name, value in score.items() if name != "images"][:1]
        lines = [setting.name, ", ".join([f"seed {run.seed}", f"{images:,} images", *told])]
        cut.append(Sheet(index, lines, picture, mark, run.sheet))
    return cut


def crop(picture: Image.Image, resolution: int | Sequence[int] | None, rows: int = ROWS) -> Image.Image:
    """Crop a sheet from `drawing.sheet` to its first `rows` and its first columns; any other sheet is kept whole.

    Either is reduced to at most WIDEST pixels in width.
    """
    tall, wide = sides(resolution or 0)
    for factor in range(1, 65):
        width, rest = divmod(picture.width, factor)
        cells, odd = divmod(width - 2, wide + 2)
        laid_out = cells and not rest and not odd and max(1, math.ceil(512 / width)) == factor
        pitch = factor * (wide + 2)
        if resolution and laid_out and _white_between(picture, pitch, 2 * factor):
            right = min(picture.width, COLUMNS * pitch + 2 * factor)
            below = min(picture.height, factor * (rows * (tall + 2) + 2))
            picture = picture.crop((0, 0, right, below))
            break
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
    return picture


def _white_between(picture: Image.Image, pitch: int, gap: int) -> bool:
    """Return True if cells are `pitch` pixels apart, with `gap` white pixels to the left of each."""
    pixels = np.asarray(picture)
    return all((pixels[:, left : left + gap] == 255).all() for left in range(0, picture.width, pitch))


def write_sheets(path: Path, cut: Sequence[Sheet]) -> None:
    """Write the sheets to one PNG, each under its caption, up to three in a row."""
    import matplotlib

    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 14)
    gap, head = 24, 46
    across = min(3, len(cut))
    width = max(sheet.picture.width for sheet in cut) + gap
    height = max(sheet.picture.height for sheet in cut) + head + gap
    page = Image.new("RGB", (across * width + gap, -(-len(cut) // across) * height + gap), "white")
    pen = ImageDraw.Draw(page)
    for index, sheet in enumerate(cut):
        x, y = gap + index % across * width, gap + index // across * height
        for row, line in enumerate(sheet.lines):
            while pen.textlength(line, font) > width - gap:
                line = line.removesuffix("…")[:-1] + "…"  # noqa: PLW2901
            pen.text((x, y + 19 * row), line, style(sheet.setting)[0] if row == 0 else "#444", font)
        page.paste(sheet.picture, (x, y + head))
    mark = provenance.together([sheet.mark for sheet in cut if sheet.mark])
    with files.whole(path) as unfinished:
        page.save(unfinished, format="PNG", **provenance.options("PNG", mark))
