"""Files appear whole or not at all, overwrite nothing unasked, and have safe names."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_experiments import files
from gan_experiments.contracts import ConfigError


def test_a_failure_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError), files.whole(path) as unfinished:
        unfinished.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    files.write_text(path, "after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_files_of_other_names_beside_it_and_the_target_of_a_link_stay(tmp_path: Path) -> None:
    theirs = tmp_path / "a.tmp"
    theirs.write_text("mine")
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "a.png").symlink_to(target)
    files.write_text(tmp_path / "a.png", "new")
    assert (theirs.read_text(), target.read_text()) == ("mine", "mine")
    assert (tmp_path / "a.png").read_text() == "new"
    assert not (tmp_path / "a.png").is_symlink()


def test_what_is_there_is_refused_kept_or_replaced(tmp_path: Path) -> None:
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_text("mine")
    assert files.to_write([old, new], "keep") == [new]
    assert files.to_write([old, new], "replace") == [old, new]
    assert files.to_write([new], "refuse") == [new]
    with pytest.raises(ConfigError, match=r"old\.png is there already: type existing=keep"):
        files.to_write([old, new], "refuse")
    with pytest.raises(ConfigError, match="existing=skip: type existing= one of refuse, keep, replace"):
        files.to_write([new], "skip")


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("blond hair", "blond hair"),
        ("../../../x", "_._.._.._x"),
        ("/x", "_x"),
        ("a/b\\c\0d", "a_b_c_d"),
        ("..", "_"),
        ("", "_"),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("x" * 500, "x" * 100),
        (3, "3"),
        ("日本", "日本"),
    ],
)
def test_a_name_out_of_a_file_is_one_safe_name(name: object, cleaned: str) -> None:
    assert files.clean_name(name) == cleaned
    assert Path("out", files.clean_name(name)).parent == Path("out")
