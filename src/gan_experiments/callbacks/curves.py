"""The run's numbers as curves over the images seen."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from gan_experiments import files
from gan_experiments.bounds import Place, Whole
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.metrics.names import class_of, higher_is_better

Line = list[tuple[int, float]]
FEWEST = 3  # values of a line that is drawn


class Curves(RunCallback):
    """The picture `curves.png`, drawn from `metrics.csv` every `every` images and after the last one.

    It has one panel for the terms of each phase's loss, one for D(real) and D(fake), one for the gradient norms, and
    one for each score. Nothing is drawn until some number has three values. Must come after the callbacks that log
    numbers.

    Args:
        folder: the run folder.
        every: images from one drawing to the next; 0 for the end alone.
    """

    def __init__(self, folder: Place, every: Whole = 50_000) -> None:
        self.folder, self.every = Path(folder), every

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Draw if it is due."""
        if trainer.is_global_zero and (module.passed(self.every) or module.at_end() or trainer.should_stop):
            with module.paused():
                panels = read(self.folder / "metrics.csv", [phase.name for phase in module.phases()])
                if panels:
                    draw(panels, self.folder / "curves.png")


def read(path: Path, phases: Sequence[str]) -> dict[str, dict[str, Line]]:
    """Return the lines of each panel, by name, that have three finite values or more; empty if there is no file."""
    if not path.exists():
        return {}
    panels: dict[str, dict[str, Line]] = {name: {} for name in (*phases, "logits", "gradient norms")}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                panel, line = _place(name, phases)
                if panel and text and math.isfinite(value := float(text)):
                    panels.setdefault(panel, {}).setdefault(line, []).append((int(row["images"]), value))
    drawn = {
        panel: {name: line for name, line in lines.items() if len(line) >= FEWEST} for panel, lines in panels.items()
    }
    return {panel: lines for panel, lines in drawn.items() if lines}


def _place(name: str, phases: Sequence[str]) -> tuple[str, str]:
    """Return the panel of a column and the name of its line there; ("", "") for one that is not drawn."""
    first, _, rest = name.partition("/")
    if first in phases and rest:
        return first, rest
    if name.startswith("D("):
        return "logits", name
    if first == "gradient_norm":
        return "gradient norms", rest
    return ("", "") if "/" in name or name.startswith("images") else (name, name)  # what is left are scores


def draw(panels: Mapping[str, Mapping[str, Line]], path: Path) -> None:
    """Write a picture of the panels, four in a row."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    across = min(4, len(panels))
    down = -(-len(panels) // across)
    wide, high = 3.4 * across, 2.5 * down
    figure = Figure(figsize=(wide, high), dpi=100)
    # By hand: matplotlib's own layout draws everything twice to find these margins, in inches here.
    figure.subplots_adjust(0.55 / wide, 0.5 / high, 1 - 0.15 / wide, 1 - 0.3 / high, wspace=0.22, hspace=0.45)
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, (panel, lines) in zip(grid, panels.items(), strict=False):
        for name, line in lines.items():
            axes.plot(*zip(*line, strict=True), linewidth=1.1, label=name, marker="o" if len(line) < 20 else "", ms=3)
        arrow = (" ↑" if higher_is_better(panel) else " ↓") if class_of(panel) else ""
        axes.set_title(f"{panel}{arrow}", fontsize=10, loc="left")
        if [*lines] != [panel]:
            axes.legend(fontsize=7, frameon=False)
        if panel == "gradient norms" and all(value > 0 for line in lines.values() for _, value in line):
            axes.set_yscale("log")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("images", fontsize=8)
    for axes in grid[len(panels) :]:
        axes.remove()
    with files.whole(path) as unfinished:
        figure.savefig(unfinished)
