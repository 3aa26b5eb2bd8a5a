"""What the settings of many runs do to their first score: parallel coordinates, and how much each setting matters.

A forest of regression trees is fitted to the ranks of the runs, whatever has chosen their settings: a search, a grid, a
person. A setting matters as much as the forest errs more about runs that it has not seen once the values of that
setting are shuffled among these (permutation importance on the samples left out of each tree, Breiman 2001).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from gan_experiments.comparison import plots
from gan_experiments.comparison.plots import Coordinate
from gan_experiments.comparison.read import Run
from gan_experiments.comparison.table import Group, Setting, typed_value, unlike
from gan_experiments.metrics.names import higher_is_better

FEWEST = 8
"""The smallest number of runs from which the importance of settings is estimated."""
FORESTS, TREES, LEAF = 8, 25, 2
"""The number of forests, whose disagreement is the spread; of trees in each; the smallest number of runs in a leaf."""
NOTHING = 0.05
"""A share of the variance below which a forest has explained nothing."""
Array = NDArray[np.float64]


@dataclass
class Importance:
    """How much each setting matters: its share of all, with the spread over forests, the largest first.

    `explained` is the share of the variance of ranks that the forest predicts of runs that it has not seen.
    """

    explained: float
    shares: dict[str, tuple[float, float]]


@dataclass
class Search:
    """What there is to show and to say of many runs."""

    score: str
    runs: int
    lines: list[str]
    parallel: Markup | None = None
    bars: Markup | None = None


def search(found: Sequence[Setting], made: Sequence[Group]) -> Search | None:
    """Return what the settings that differ do to the first score; None if none differ, or fewer than 3 runs have it."""
    runs, values, score = _scored(found, made)
    keys = unlike([run for _, run in runs])
    if len(runs) < 3 or not keys:
        return None
    axes = [Coordinate(name, _values(key, [run for _, run in runs])) for key, name in keys.items()]
    higher = higher_is_better(score)
    for axis in axes:
        axis.logarithmic = _wide(axis.values)
    names = [
        f"{setting.name}, seed {run.seed}: {score} {v:.4g}" for (setting, run), v in zip(runs, values, strict=True)
    ]
    told = Search(f"{score} {'↑' if higher else '↓'}", len(runs), [])
    last = Coordinate(told.score, values, _wide(values))
    told.parallel = plots.parallel([*axes, last], names, down=not higher)
    if len(runs) < FEWEST:
        told.lines = [
            f"How much each setting matters is not estimated: {len(runs)} runs are too few, {FEWEST} are needed."
        ]
        return told
    ranks = np.argsort(np.argsort(values)).astype(float)
    result = importance({axis.title: axis.values for axis in axes}, ranks)
    rests = f"it rests on {len(runs)} runs"
    if result.explained < NOTHING:
        told.lines = [
            f"Which setting matters cannot be told: a forest explains nothing of runs that it has not seen; {rests}."
        ]
        return told
    shares = {name: share for name, share in result.shares.items() if share[0] > 0}
    each = ", ".join(f"{name} {share:.0%} ± {spread:.0%}" for name, (share, spread) in shares.items())
    how = "a forest of trees, settings shuffled one by one; ± is the spread over forests"
    told.lines = [
        f"How much each setting matters for {score}: {each}.",
        f"By {how}. It explains {result.explained:.0%} of the ranks of runs that it has not seen; {rests}.",
    ]
    told.bars = plots.bars((name, *share) for name, share in result.shares.items())
    return told


def _scored(found: Sequence[Setting], made: Sequence[Group]) -> tuple[list[tuple[Setting, Run]], list[float], str]:
    """Return the runs with the first score, its best value in each, or else its last, and its name."""
    if not made:
        return [], [], ""
    group, score = made[0], made[0].names[0]
    runs, values = [], []
    for setting in found:
        for run in setting.runs:
            scored = group.best.get(run.folder) or group.last.get(run.folder)
            value = scored.scores.get(score, {}).get("value", math.nan) if scored else math.nan
            if math.isfinite(value):
                runs.append((setting, run))
                values.append(float(value))
    return runs, values, score


def _values(key: str, runs: Sequence[Run]) -> list[float | str]:
    """Return the values of a key: numbers where all are, else texts."""
    values: list[Any] = [run.value(key) for run in runs]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values]
    return [typed_value(key, run) for run in runs]


def _wide(values: Sequence[float | str]) -> bool:
    numbers = [value for value in values if isinstance(value, float)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) / min(numbers) > 30


# ------------------------------------------------------------------------------------------ the forest


def importance(settings: dict[str, Sequence[float | str]], target: Array) -> Importance:
    """Return how much each setting matters for the target; `settings` holds the values of each run by name."""
    columns, owner = _columns(settings)
    draw = np.random.default_rng(0)
    n = len(target)
    missed = np.zeros((FORESTS, len(settings)))
    guessed, count = np.zeros(n), np.zeros(n)
    for forest in range(FORESTS):
        for _ in range(TREES):
            rows = draw.integers(n, size=n)
            out = np.setdiff1d(np.arange(n), rows)
            if len(out) < 2:
                continue
            tree = _grow(columns[rows], target[rows], draw)
            guess = _guess(tree, columns[out])
            guessed[out] += guess
            count[out] += 1
            error = np.mean((guess - target[out]) ** 2)
            for setting in range(len(settings)):
                shuffled = columns[out]
                own = owner == setting
                shuffled[:, own] = columns[draw.permutation(out)][:, own]
                missed[forest, setting] += np.mean((_guess(tree, shuffled) - target[out]) ** 2) - error
    seen = count > 0
    left = np.mean((guessed[seen] / count[seen] - target[seen]) ** 2)
    positive = np.clip(missed, 0, None)
    parts = positive / np.maximum(positive.sum(axis=1, keepdims=True), 1e-12)
    shares = {name: (float(parts[:, i].mean()), float(parts[:, i].std())) for i, name in enumerate(settings)}
    ordered = dict(sorted(shares.items(), key=lambda item: -item[1][0]))
    return Importance(float(1 - left / max(float(np.var(target)), 1e-12)), ordered)


def _columns(settings: dict[str, Sequence[float | str]]) -> tuple[Array, NDArray[np.int64]]:
    """Return the settings as columns of numbers [n, k], a column for each word, and the setting that each is of."""
    columns, owner = [], []
    for index, values in enumerate(settings.values()):
        words = [] if all(isinstance(value, float) for value in values) else sorted({str(value) for value in values})
        made = [[float(str(value) == word) for value in values] for word in words] or [[float(v) for v in values]]
        columns += made
        owner += [index] * len(made)
    return np.array(columns).T, np.array(owner)


_Tree = tuple[int, float, Any, Any] | float


def _grow(columns: Array, target: Array, draw: np.random.Generator) -> _Tree:
    """Return a tree: a column, a threshold and what is below and above, or the mean of a leaf."""
    n, k = columns.shape
    mean = float(target.mean())
    if n < 2 * LEAF or target.min() == target.max():
        return mean
    some = draw.permutation(k)[: max(1, -(-2 * k // 3))]
    order = np.argsort(columns[:, some], axis=0, kind="stable")
    values = np.take_along_axis(columns[:, some], order, axis=0)
    below = np.cumsum(target[order], axis=0)[:-1]  # sums of the 1, 2, ... lowest
    count = np.arange(1, n)[:, None]
    gain = below**2 / count + (target.sum() - below) ** 2 / (n - count)
    gain[(values[:-1] == values[1:]) | (count < LEAF) | (n - count < LEAF)] = -np.inf
    place, column = np.unravel_index(np.argmax(gain), gain.shape)
    if not math.isfinite(gain[place, column]):
        return mean
    threshold = float(values[place, column] + values[place + 1, column]) / 2
    under = columns[:, some[column]] <= threshold
    low, high = (_grow(columns[side], target[side], draw) for side in (under, ~under))
    return int(some[column]), threshold, low, high


def _guess(tree: _Tree, columns: Array) -> Array:
    if not isinstance(tree, tuple):
        return np.full(len(columns), tree)
    column, threshold, low, high = tree
    under = columns[:, column] <= threshold
    guess = np.empty(len(columns))
    guess[under], guess[~under] = _guess(low, columns[under]), _guess(high, columns[~under])
    return guess
