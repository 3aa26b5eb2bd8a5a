"""The pages for people: tables hold all choices, links lead somewhere; test_docs_commands.py types the commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import REPOSITORY

from gan_experiments.launch import entry
from gan_experiments.runs import configs

README = (REPOSITORY / "README.md").read_text()
TABLES = README + (REPOSITORY / "docs" / "choices.md").read_text()
PAGES = [*REPOSITORY.glob("*.md"), *(REPOSITORY / name / "README.md" for name in ("benchmarks", "conf", "tests"))]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
GROUPS = sorted(path.name for path in configs.conf_dir().iterdir() if path.is_dir())


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_is_in_a_table(group: str) -> None:
    rows = "".join(line for line in TABLES.splitlines() if line.startswith("|"))
    assert f"`{group}=" in rows
    missing = [path.stem for path in (configs.conf_dir() / group).glob("*.yaml") if f"`{path.stem}`" not in rows]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)", page.read_text()):
        path, _, section = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not section or section in sections(target), link


def sections(page: Path) -> set[str]:
    """The names under which links find the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_front_page_is_short() -> None:
    assert len(README.encode()) < 11_000


def test_every_page_is_two_clicks_from_the_front_page() -> None:
    """Pages of the models are found in the table of models."""
    near = linked(REPOSITORY / "README.md")
    reached = near.union(*(linked(page) for page in near if page.suffix == ".md"))
    pages = {page.resolve() for page in (REPOSITORY / "docs").rglob("*.md")}
    assert pages <= reached
    listed = linked(REPOSITORY / "docs" / "README.md")
    assert {page for page in pages if page.parent.name == "docs" and page.stem != "README"} <= listed


def linked(page: Path) -> set[Path]:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    return {(page.parent / link).resolve() for link in links if "://" not in link}


def test_every_verb_is_on_the_front_page() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", README.partition("| verb |")[2], re.MULTILINE))
    assert told | {"run"} == set(entry.VERBS)


def test_every_test_file_has_its_place_in_the_list() -> None:
    tests = REPOSITORY / "tests"
    patterns = set(
        re.findall(r"`(test_\w+\*?\.py)`", (tests / "README.md").read_text().partition("## What is where")[2])
    )
    placed = [path.name for pattern in patterns for path in tests.glob(pattern)]
    assert sorted(placed) == sorted(path.name for path in tests.glob("test_*.py"))
    assert all(any(tests.glob(pattern)) for pattern in patterns)
