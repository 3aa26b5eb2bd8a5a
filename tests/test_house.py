"""The order of the layers, and what every file of some folders must hold."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import REPOSITORY, compose

from gan_experiments.assembly import check

SOURCE = REPOSITORY / "src" / "gan_experiments"
LAYERS = [  # from the ground up; a file imports from its own room or from a row below
    {"contracts", "bounds", "imports"},
    {"files", "provenance"},
    {"processes"},
    {"signals", "drawing", "rendering", "films", "sound", "schedules", "captions", "cameras"},
    {"kinds", "conditions"},
    {"runs"},
    {"distributed"},
    {"layers"},
    {"networks", "losses", "augment"},
    {"engine"},
    {"data"},
    {"models"},
    {"techniques", "metrics"},
    {"loggers", "comparison"},
    {"callbacks", "official"},
    {"assembly"},
    {"exploration"},
    {"inference"},
    {"export"},
    {"service"},
    {"launch"},
    {"verbs"},
    {"__main__", "run", "api"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


def _part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module(path): path for path in FILES}


def _imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in it; not what only its type hints name."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gan_experiments":
            base = node.module.removeprefix("gan_experiments").lstrip(".")
            names = {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {name if name in MODULES else base for name in names}
    return found - {"", _module(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    """From its own room or from a row below."""
    room = _part(path)
    parts = {name.partition(".")[0] for name in _imports(path)} - {room}
    above = {part for part in parts if LEVEL[part] >= LEVEL[room]}
    assert not above, f"{_module(path)} imports {above}, which is not below it"


def test_the_table_of_contributing_is_this_order() -> None:
    table = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("| rooms | |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    assert [set(row) for row in rows] == LAYERS[::-1]


def test_there_is_no_circle() -> None:
    """Not even within a room, nor by an import inside a function."""
    order = graphlib.TopologicalSorter({name: _imports(path) for name, path in MODULES.items()})
    assert len([*order.static_order()]) == len(MODULES)


def test_no_file_at_the_root_is_named_like_another_module() -> None:
    taken = {name for name in (*sys.stdlib_module_names, *packages_distributions()) if name != "gan_experiments"}
    assert not taken & {path.stem for path in SOURCE.glob("*.py")} - {
        "build"
    }  # PyPA's build is a tool, not a dependency


@pytest.mark.parametrize("path", [p for p in FILES if _part(p) in ("models", "networks")], ids=lambda path: path.stem)
def test_a_papers_file_says_which_paper_and_what_differs(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    shared = ("__init__", "noise_to_image", "text_to_image", "text", "image_to_image", "technique", "game", "latents")
    shared += ("scenes",)
    if path.stem not in shared:
        assert "arXiv:" in text
        assert "Differs from the paper: " in text


EXPERIMENTS = sorted(path.stem for path in (REPOSITORY / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_passes_the_check(experiment: str, tmp_path: Path) -> None:
    check.require(compose(tmp_path, f"experiment={experiment}"))


@pytest.mark.parametrize(
    "group", ["data", "loss", "perceptual", "metrics", "augment", "logger", "trainer", "callbacks"]
)
def test_every_choice_composes(group: str, tmp_path: Path) -> None:
    for path in sorted((REPOSITORY / "conf" / group).glob("*.yaml")):
        of_waves = ["model=wavegan"] if path.stem in ("drums", "waves", "vggish") else []
        cfg = compose(tmp_path, *of_waves, f"{group}={path.stem}")
        OmegaConf.to_container(cfg, resolve=True)
