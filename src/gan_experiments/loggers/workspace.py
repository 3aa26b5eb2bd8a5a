"""A workspace of W&B for the runs of this package: `gan-experiments --wandb-workspace outputs/2026-11-21/12-00-00`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_experiments.contracts import ConfigError
from gan_experiments.loggers.logged import logged_as
from gan_experiments.metrics.names import higher_is_better
from gan_experiments.runs import latest

NAME = "GANs"
OTHER = ("gradient_norm", "learning_rate", "health")
"""Beginnings of the names of numbers that are plotted together, one panel for each."""


def save(words: list[str]) -> str:
    """Save a workspace in the W&B project that a run was logged to, and return its address.

    Its panels are of what the run has logged. Raises ConfigError if the run was not logged to W&B or W&B cannot be
    reached.
    """
    if len(words) != 1:
        raise ConfigError("--wandb-workspace needs one run folder: type --wandb-workspace latest, or the folder")
    (word,) = latest.settled(words)
    folder = Path(word)
    told = logged_as(folder)
    summary: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        summary = json.loads((folder / "wandb" / "last-summary.json").read_text())
    if told is None or not isinstance(summary, dict) or not summary:
        raise ConfigError(f"{word}: it has no finished run of W&B; type the folder of a run with logger=wandb")
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError(
            "a workspace needs the package wandb-workspaces: type pip install wandb-workspaces"
        ) from error
    import wandb

    from gan_experiments.loggers.wandb_run import line_of, require_key

    require_key("online")
    scores = [name for name, value in summary.items() if isinstance(value, dict) and {"min", "max"} & value.keys()]
    try:
        view = ws.Workspace(
            entity=str(told.get("entity") or wandb.Api().default_entity),
            project=told["project"],
            name=NAME,
            sections=[*sections(summary, scores)],
            settings=ws.WorkspaceSettings(x_axis="images"),
            runset_settings=_runs(scores),
        )
        return str(view.save().url)
    except (wandb.errors.Error, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"W&B has not taken the workspace: {line_of(error)}") from error


def sections(summary: dict[str, Any], scores: list[str]) -> Iterator[Any]:
    """Yield the sections of the workspace of runs with such a summary: samples, scores, losses, health."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    media = {name for name, value in summary.items() if isinstance(value, dict) and "_type" in value}
    numbers = [name for name, value in summary.items() if isinstance(value, (int, float))]

    def plot(title: str, names: list[Any]) -> Any:
        return wr.LinePlot(title=title, x="images", y=names)

    def of(start: str) -> list[str]:
        return sorted(name for name in numbers if name.startswith(f"{start}/"))

    shown = [name for name in ("samples", "real", "training") if name in media]
    yield ws.Section("Samples", [wr.MediaBrowser(title=name, media_keys=[name]) for name in shown], is_open=True)
    yield ws.Section("Scores", [plot(name, [name]) for name in scores], is_open=True)
    says: list[str] = [name for name in ("D(real)", "D(fake)") if name in numbers]
    own = {*OTHER, "best", "evaluate", "usefulness", "trainer", "histogram"}
    players = sorted({name.partition("/")[0] for name in numbers if "/" in name} - own)
    losses = {"discriminator on real and fake": says, **{player: of(player) for player in players}}
    yield ws.Section("Losses", [plot(title, names) for title, names in losses.items() if names], is_open=True)
    others = {start.replace("_", " "): of(start) for start in OTHER}
    others["images a second"] = [name for name in ("images_per_second",) if name in numbers]
    yield ws.Section("Health", [plot(title, names) for title, names in others.items() if names], is_open=True)


def _runs(scores: list[str]) -> Any:
    """Return how the runs are listed: by the best value of the first score, beside those of the other scores."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    if not scores:
        return ws.RunsetSettings()
    first = scores[0]
    order = expr.Ordering(expr.Summary(f"best/{first}"), ascending=not higher_is_better(first))
    pinned = ["run:displayName", *(f"summary:best/{name}" for name in scores), "summary:best/images"]
    return ws.RunsetSettings(order=[order], pinned_columns=pinned)
