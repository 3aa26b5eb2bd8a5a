"""README.md: its tables hold all choices, its commands are understood, its links and those of docs/ lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig
from support import REPOSITORY

from gan_experiments import launch

README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
GROUPS = sorted(path.name for path in launch.conf_dir().iterdir() if path.is_dir())


def commands(section: str) -> list[tuple[str, tuple[str, ...]]]:
    """The verbs that a section shows, each with its words; the first value of what is swept over."""
    shown = re.findall(r"^(?:python|srun .*? python) src/gan_experiments/(\w+)\.py(.*)$", section, re.MULTILINE)
    found = []
    for verb, rest in shown:
        words = [word for word in shlex.split(rest, comments=True) if word not in ("-m", "|")]
        parsed = OverridesParser.create().parse_overrides([word for word in words if "=" in word])
        swept = [override.is_sweep_override() for override in parsed]
        first = [
            f"{o.key_or_group}={next(iter(o.sweep_string_iterator()))}" if sweeps else o.input_line
            for o, sweeps in zip(parsed, swept, strict=True)
        ]
        found.append((verb, tuple(word for word in first if not word.startswith("hydra"))))
    return list(dict.fromkeys(found))


def composed(verb: str, words: tuple[str, ...]) -> DictConfig:
    with hydra.initialize_config_dir(str(launch.conf_dir()), version_base="1.3"):
        return hydra.compose(verb, overrides=list(words))


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_is_in_a_table(group: str) -> None:
    rows = "".join(line for line in README.splitlines() if line.startswith("|"))
    assert f"`{group}=" in rows
    missing = [path.stem for path in (launch.conf_dir() / group).glob("*.yaml") if f"`{path.stem}`" not in rows]
    assert not missing


@pytest.mark.parametrize(("verb", "words"), commands(README), ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_a_command_is_understood(verb: str, words: tuple[str, ...]) -> None:
    assert composed(verb, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken
