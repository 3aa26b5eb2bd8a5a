"""README.md: its tables hold all choices, its links and those of docs/ lead somewhere; test_docs_commands.py types."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import REPOSITORY

from gan_experiments.runs import configs

README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
GROUPS = sorted(path.name for path in configs.conf_dir().iterdir() if path.is_dir())


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_is_in_a_table(group: str) -> None:
    rows = "".join(line for line in README.splitlines() if line.startswith("|"))
    assert f"`{group}=" in rows
    missing = [path.stem for path in (configs.conf_dir() / group).glob("*.yaml") if f"`{path.stem}`" not in rows]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken
