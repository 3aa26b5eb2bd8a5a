"""The order of the layers, and what every file of some folders must hold."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import REPOSITORY, compose

from gan_experiments import check

SOURCE = REPOSITORY / "src" / "gan_experiments"
LAYERS = [  # from the ground up; a file imports from its own row or below
    {"contracts", "files", "quoting", "bounds"},
    {"layers", "distributed", "images", "schedules", "world", "signals"},
    {"networks", "losses", "augment"},
    {"engine"},
    {"models", "techniques", "data", "callbacks", "metrics", "loggers"},
    {
        "build",
        "check",
        "options",
        "launch",
        "resume",
        "report",
        "scoring",
        "pretrained",
        "trained",
        "subjects",
        "sweeps",
        "study",
        "run_folder",
        "saved",
        "trust",
        "comparison",
        "official",
    },
    {"exploration"},
    {"run", "evaluate", "sample", "translate", "explore", "compare", "interpolate", "convert", "usefulness"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]


def _part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The parts of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gan_experiments":
            rest = node.module.split(".")[1:]
            found |= {rest[0]} if rest else {alias.name for alias in node.names} - {"__version__"}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("gan_experiments.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    above = {name for name in _imports(path) if LEVEL[name] > LEVEL[_part(path)]}
    assert not above, f"{_part(path)} imports {above} from above it"


def test_no_file_at_the_root_is_named_like_another_module() -> None:
    taken = {name for name in (*sys.stdlib_module_names, *packages_distributions()) if name != "gan_experiments"}
    assert not taken & {path.stem for path in SOURCE.glob("*.py")} - {
        "build"
    }  # PyPA's build is a tool, not a dependency


@pytest.mark.parametrize("path", [p for p in FILES if _part(p) in ("models", "networks")], ids=lambda path: path.stem)
def test_a_papers_file_says_which_paper_and_what_differs(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    if path.stem not in ("__init__", "noise_to_image", "image_to_image"):
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
        cfg = compose(tmp_path, f"{group}={path.stem}")
        OmegaConf.to_container(cfg, resolve=True)
