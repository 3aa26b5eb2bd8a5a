"""Compare runs: `gan-experiments compare outputs/sweeps/2026-11-22/12-00-00 outputs/...`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    from gan_experiments.comparison.read import Run


def compare(cfg: DictConfig) -> int:
    """Print tables of the runs; write them, the curves, the sheets and a page with all of these. Return 0.

    The page of a single run is its report, see `comparison.report`.
    """
    import shutil

    from gan_experiments import files
    from gan_experiments.assembly import check
    from gan_experiments.comparison import figures, page, read, report, search, table
    from gan_experiments.contracts import ConfigError

    check.require_options(cfg, "compare")
    given = [str(word) for word in ([cfg.runs] if isinstance(cfg.runs, str) else cfg.runs or [])]
    if not given:
        raise ConfigError("nothing to compare: type the folders of runs or of sweeps after the command")
    runs, notes = read.runs(given)
    for run in runs:
        if not (run.folder / "parameters.json").is_file():
            run.parameters = parameters(run, cfg.trust)
    settings, doubled = table.settings(runs)
    notes += doubled
    groups = table.groups(settings)
    if len(settings) > figures.MOST:
        settings = table.ranked(settings, groups)
        notes.append(f"Of {len(settings)} settings the first {figures.MOST} by score are drawn.")
    drawn = settings[: figures.MOST]
    tables = table.tables(settings, groups)
    searched = search.search(settings, groups)
    usual = (Path(given[0]) if given[1:] == [] and Path(given[0]).is_dir() else Path("outputs")) / "comparison"
    out = files.place(cfg.out, usual, cfg.existing)
    panels, sheets = figures.panels(drawn, groups), figures.sheets(drawn)
    pictures = [*(["curves.png"] if panels else []), *(["samples.png"] if sheets else [])]
    written = ["table.md", "table.csv", "index.html", *pictures]
    wanted = [path.name for path in files.to_write((out / name for name in written), cfg.existing)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out}: that folder cannot be made ({error.strerror}); type out= another") from error
    before, after = (
        [f"{table.prose(line)}\n" for line in some] for some in (notes, searched.lines if searched else [])
    )
    text = "\n".join([*before, *(laid.markdown() for laid in tables), *after])
    if "curves.png" in wanted:
        figures.write_curves(out / "curves.png", panels, drawn)
    if "samples.png" in wanted:
        figures.write_sheets(out / "samples.png", sheets)
    shown = "".join(f"![{name.partition('.')[0]}]({name})\n\n" for name in pictures)
    if "table.md" in wanted:
        files.write_text(out / "table.md", f"# Comparison\n\n{text}\n{shown}")
    if "table.csv" in wanted:
        table.write_csv(out / "table.csv", settings, groups)
    if "index.html" in wanted:
        html = (
            report.html(runs[0], out)
            if len(runs) == 1
            else page.page(settings, tables, notes, panels, sheets, out, searched)
        )
        files.write_text(out / "index.html", html)
    wide = shutil.get_terminal_size((100, 24)).columns
    print("\n".join([*before, *(laid.text(wide) for laid in tables), *after]))
    print(f"{out}: {', '.join(written)}")
    return 0


def parameters(run: Run, trusted: Any = None) -> dict[str, int]:
    """Count the parameters of a run from before runs recorded them; empty if its code is gone.

    `trusted` is the option `trust=`: what else its config may name.
    """
    from gan_experiments.assembly import build, check

    config = build.from_plain(run.config, run.folder, str(run.folder / "config.yaml"), trusted)
    try:
        model: Any = check.on_meta(config.model)
        return build.parameters(model)
    except Exception:  # the code may have changed since the run
        return {}
