"""Set runs side by side: `python src/gan_experiments/compare.py outputs/sweeps/2026-11-22/12-00-00 outputs/...`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: import the package, not its files
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from gan_experiments import launch

WITH_A_WORD = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-name", "-cn", "--config-dir", "-cd")


def compare(cfg: DictConfig) -> int:
    """Print the tables; write them, the curves, the sheets and a page that holds them all."""
    from gan_experiments import check
    from gan_experiments.comparison import figures, page, read, table
    from gan_experiments.contracts import ConfigError

    check.require_options(cfg, "compare")
    given = [str(word) for word in ([cfg.runs] if isinstance(cfg.runs, str) else cfg.runs or [])]
    if not given:
        raise ConfigError("nothing to compare: type the folders of runs or of sweeps after the command")
    runs, notes = read.runs(given)
    settings, doubled = table.settings(runs)
    notes += doubled
    groups = table.groups(settings)
    if len(settings) > figures.MOST:
        settings = table.ranked(settings, groups)
        notes.append(f"Of {len(settings)} settings the first {figures.MOST} by score are drawn.")
    drawn = settings[: figures.MOST]
    tables = table.tables(settings, groups)
    out = Path(
        cfg.out or (Path(given[0]) if given[1:] == [] and Path(given[0]).is_dir() else Path("outputs")) / "comparison"
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out}: that folder cannot be made ({error.strerror}); type out= another") from error
    panels, sheets = figures.panels(drawn, groups), figures.sheets(drawn)
    text = "\n".join([*(f"{note}\n" for note in notes), *(laid.markdown() for laid in tables)])
    written = ["table.md", "table.csv", "index.html"]
    pictures = []
    if panels:
        figures.write_curves(out / "curves.png", panels, drawn)
        pictures.append("curves.png")
    if sheets:
        figures.write_sheets(out / "samples.png", sheets)
        pictures.append("samples.png")
    shown = "".join(f"![{name.partition('.')[0]}]({name})\n\n" for name in pictures)
    (out / "table.md").write_text(f"# Comparison\n\n{text}\n{shown}")
    table.write_csv(out / "table.csv", settings, groups)
    (out / "index.html").write_text(page.page(settings, tables, notes, panels, sheets, out))
    print(text)
    print(f"{out}: {', '.join([*written, *pictures])}")
    return 0


def words(typed: list[str]) -> list[str]:
    """The words of a command with its bare ones, which are folders, gathered to `runs=[...]`."""
    bare: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *typed], typed, strict=False):
        option = before in WITH_A_WORD or (not Path(word).exists() and ("=" in word or word.startswith(("-", "~"))))
        (others if option else bare).append(word)
    quoted = ",".join(QuotedString(word, Quote.single).with_quotes() for word in bare)
    return [*others, f"runs=[{quoted}]"] if bare else others


def main() -> None:
    """Start the verb."""
    sys.argv[1:] = words(sys.argv[1:])
    launch.main(compare, config="compare")


if __name__ == "__main__":
    main()
