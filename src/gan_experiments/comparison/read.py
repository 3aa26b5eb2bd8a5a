"""Reading of run folders: the config, what was typed, what was recorded, and the scores with their passports."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from gan_experiments import processes
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import resume
from gan_experiments.runs.quoting import value_of

A_RUN = "a run folder holds config.yaml beside metrics.csv, scores.json or checkpoints/"
MIRRORS = ("callbacks.scores.evaluator.", "model.loss.", "model.augment.")
"""Keys that repeat others: `metrics`, `loss`, `augment`."""
ASIDE = (
    *("output.", "ckpt.", "check.", "logger.", "trainer.log_every.", "trainer.chosen.", "provenance."),
    *("data.workers.", "data.cache.", "metrics.cache."),
    "callbacks.early_stopping._target_.",
    *(f"callbacks.{name}." for name in ("samples", "checkpoints", "curves", "report", "memorisation", "ranks")),
    "callbacks.progress.",
)
"""Keys, with all below them, that do not change what is learnt or measured."""


def matters(key: str) -> bool:
    """Return True if a key of the config counts in a comparison."""
    return not f"{key}.".startswith((*MIRRORS, *ASIDE))


@dataclass(frozen=True)
class Scored:
    """Scores measured together after `images` images.

    Each, by name, is {"value", "std", "passport"}, and "interval" where one was asked for.
    """

    images: int
    scores: dict[str, dict[str, Any]]


@dataclass
class Run:
    """The contents of one run folder."""

    folder: Path
    config: dict[str, Any]
    rows: list[dict[str, float]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    last: Scored | None = None
    best: Scored | None = None
    again: list[Scored] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The values of the config by their dotted keys, only those that count in a comparison."""
        return {key: value for key, value in _flatten(self.config) if matters(key)}

    @property
    def seed(self) -> Any:
        """The seed of the run."""
        return self.config.get("seed")

    @cached_property
    def images(self) -> int:
        """The number of images that the run has seen, as far as its files tell."""
        seen = [self.outcome.get("images") or 0, self.last.images if self.last else 0]
        return int(max([*seen, *(row["images"] for row in self.rows)]))

    @property
    def status(self) -> str:
        """How the run ended: "stopped", "failed" or "finished"; else "unfinished", if images are left to see."""
        if self.outcome.get("status") in ("stopped", "failed", "finished"):
            return str(self.outcome["status"])
        return "finished" if self.images >= (self.config.get("images") or 0) else "unfinished"

    @cached_property
    def seconds(self) -> float | None:
        """The training time over all resumes, without sheets, scores and checkpoints; None if none was recorded."""
        timed = [row for row in self.rows if row.get("images_per_second", 0) > 0]
        steps = pairwise([{"images": 0.0}, *timed])
        seconds = sum((row["images"] - before["images"]) / row["images_per_second"] for before, row in steps)
        return seconds if timed else None

    @cached_property
    def choices(self) -> dict[str, Any]:
        """The choice for each config group; empty if Hydra did not start the run."""
        choices = (_yaml(self.folder / ".hydra" / "hydra.yaml") or {}).get("hydra", {}).get("runtime", {})
        return choices.get("choices") or {}

    @cached_property
    def words(self) -> list[str]:
        """The words that were typed for the run; empty if Hydra did not start it."""
        return [str(word) for word in _yaml(self.folder / ".hydra" / "overrides.yaml") or []]

    @cached_property
    def typed(self) -> dict[str, str]:
        """The values that were typed for the run, by their keys, as they were typed."""
        return {resume.key_of(word): value_of(word) for word in self.words if "=" in word}

    def value(self, key: str) -> Any:
        """Return the choice for a group, or the config's value at a key; None if there is none."""
        node: Any = self.choices.get(key)
        if node is None:
            node = self.config
            for part in key.split("."):
                node = node.get(part) if isinstance(node, dict) else None
        return node

    @cached_property
    def parameters(self) -> dict[str, int]:
        """The parameter count of each network, as the run recorded it; empty for runs from before they did."""
        return _json(self.folder / "parameters.json")

    @property
    def sheets(self) -> list[Path]:
        """The sample sheets, the first one first."""
        return sorted((path for path in (self.folder / "samples").glob("[0-9]*.png") if path.stem.isdigit()), key=_at)

    @property
    def sheet(self) -> Path | None:
        """The last sample sheet; None if there is none."""
        return max(self.sheets, key=_at, default=None)


def _at(sheet: Path) -> int:
    return int(sheet.stem)


def runs(given: list[str]) -> tuple[list[Run], list[str]]:
    """Return the runs in the given folders, each once, and notes on folders without a run or with one that never began.

    Raises ConfigError if a folder does not exist, no folder has a run, or a file cannot be read.
    """
    folders: dict[Path, None] = {}
    empty, notes = [], []
    for word in given:
        path = Path(word)
        if not path.exists():
            raise ConfigError(f"{word}: there is no such folder; type the folders of runs or of sweeps")
        if path.suffix == ".ckpt":
            path = resume.folder_of(path) or path
        elif path.name == "checkpoints":
            path = path.parent
        found = list(_run_folders(path))
        folders |= dict.fromkeys(folder.resolve() for folder in found if (folder / "config.yaml").is_file())
        unborn = [folder for folder in found if not (folder / "config.yaml").is_file()]
        notes += [
            f"{folder} did not come to train: {_json(folder / 'outcome.json').get('message')}" for folder in unborn
        ]
        empty += [] if found else [word]
    if not folders and empty:
        raise ConfigError(f"runs={','.join(empty)}: there is no run: {A_RUN}; type such folders, or sweeps of them")
    if not folders:
        raise ConfigError(*notes)
    read_ones = [read(folder) for folder in processes.watched([*folders], "runs")]
    return read_ones, [*notes, *(f"No run in {word}: {A_RUN}." for word in empty)]


def _run_folders(path: Path) -> Iterator[Path]:
    """Yield the run folders in a folder, also of runs that failed before they began; none inside another."""
    for folder, inside, files in os.walk(path):
        begun = {"metrics.csv", "scores.json"} & set(files) or "checkpoints" in inside
        if "outcome.json" in files or ("config.yaml" in files and begun):
            yield Path(folder)
            inside.clear()
        inside[:] = sorted((name for name in inside if not name.startswith((".", "earlier-"))), key=natural)


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in texts by value, 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def read(folder: Path) -> Run:
    """Read a run folder; a half-written line that a killed run has left is ignored.

    Raises ConfigError if a file cannot be read.
    """
    config = _yaml(folder / "config.yaml")
    if not isinstance(config, dict):
        raise ConfigError(f"{folder / 'config.yaml'} is not a run's config; leave that folder out")
    run = Run(folder, config, _rows(folder / "metrics.csv"), outcome=_json(folder / "outcome.json"))
    told = _json(folder / "scores.json")
    run.last, run.best = (_scored(told.get(which), folder / "scores.json") for which in ("last", "best"))
    try:
        run.history = [{name: float(value) for name, value in row.items()} for row in told.get("history") or []]
    except (AttributeError, TypeError, ValueError) as error:
        raise _unreadable(folder / "scores.json", error) from error
    for path in sorted(folder.glob("scores-*.json")):
        scored = _scored(_json(path), path)
        run.again += [scored] if scored else []
    return run


def _rows(path: Path) -> list[dict[str, float]]:
    """Return the numbers of each complete row of a metrics.csv by name, without empty cells."""
    if not path.is_file():
        return []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = []
    for row in csv.DictReader(whole):
        try:
            numbers = {name: float(cell) for name, cell in row.items() if name is not None and cell}
        except (TypeError, ValueError):
            continue
        if math.isfinite(numbers.get("images", math.nan)):
            rows.append(numbers)
    return rows


def _scored(told: Any, path: Path) -> Scored | None:
    if not told:
        return None
    try:
        scores = {
            name: {**s, "value": float(s["value"]), "std": s.get("std"), "passport": dict(s.get("passport") or {})}
            for name, s in told["scores"].items()
        }
        return Scored(int(told["images"]), scores)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error


def _json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is no file. Raises ConfigError if it cannot be read."""
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text())
        if not isinstance(told, dict):
            raise ValueError("not an object")
        return told
    except ValueError as error:
        raise _unreadable(path, error) from error


def _yaml(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ConfigError:
    why = " ".join(f"{type(error).__name__}: {error}".split())[:80]
    return ConfigError(f"{path} cannot be read ({why}); mend it, move it away, or leave the folder of that run out")


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and (node or not prefix):
        for key, value in node.items():
            yield from _flatten(value, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), node
