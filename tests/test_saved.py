"""A checkpoint that is damaged, or lacks something, is refused in one line by every verb that opens one."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from support import compose, difference, small, train

from gan_experiments.assembly import pretrained
from gan_experiments.assembly import trained as trained_run
from gan_experiments.contracts import ConfigError
from gan_experiments.exploration import directions
from gan_experiments.exploration.edit import Edit
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.runs import configs, resume, saved
from gan_experiments.verbs import evaluate, explore, interpolate, sample, translate, usefulness


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(small(folder, "dcgan", "metrics=none"), every=16)
    (folder / "config.yaml").write_text("images: 16\n")
    return folder / "checkpoints" / "last.ckpt"


def test_a_flipped_bit_is_refused_or_changes_nothing(whole: Path, tmp_path: Path) -> None:
    """In each part of the file, as a disk or a copy might leave it."""
    right, data = resume.load(whole), whole.read_bytes()
    step = len(data) // 60
    places = [*range(0, len(data), step), *range(len(data) - 400, len(data), 10)]
    path, refused = tmp_path / "flipped.ckpt", 0
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        saved._require_undamaged.cache_clear()  # a file that changes twice within a tick of its clock
        try:
            found = resume.load(path)
        except ConfigError as error:
            refused, said = refused + 1, str(error)
            pattern = rf"ckpt={path}: not a whole checkpoint \(.*\); type ckpt= another one"
            assert re.fullmatch(pattern, said), place
            continue
        assert difference(found, right) == {}, place
    assert refused > 40


def test_a_cut_file_and_one_without_checksums_are_refused(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    path.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="not a whole checkpoint"):
        resume.load(path)
    torch.save(resume.load(whole), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ConfigError, match="not a whole checkpoint"):
        resume.load(path)


def test_a_file_is_read_against_its_checksums_once_a_command(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved._require_undamaged.cache_clear()
    for _ in range(3):
        resume.load(whole)
    assert saved._require_undamaged.cache_info().misses == 1


# -------------------------------------------------------------------- keys

WRONG = ("x",)


def _paths(node: Any, depth: int, where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        yield (*where, key)
        if isinstance(value, dict) and depth > 1:
            yield from _paths(value, depth - 1, (*where, key))


def damaged(checkpoint: dict[str, Any], wrong: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The checkpoint without each of its keys, and with values of other kinds there."""
    mine = {"state_dict", "gan_experiments"}
    paths = [(key,) for key in checkpoint]
    paths += [("gan_experiments", *path) for path in _paths(checkpoint["gan_experiments"], 2 if wrong else 1)]
    trainer = saved.CHECKPOINT["gan_experiments"]["config"]["trainer"]
    paths += [("gan_experiments", "config", "trainer", key) for key in trainer]
    paths += [("gan_experiments", "config", name, "_target_") for name in ("model", "data")]
    paths += [("state_dict", next(iter(checkpoint["state_dict"])))]
    for path in paths:
        for number in range(1 + len(wrong) * (path[0] in mine)):
            other = {**checkpoint, "gan_experiments": copy.deepcopy(checkpoint["gan_experiments"])}
            other["state_dict"] = dict(checkpoint["state_dict"])
            *way, last = path
            place: Any = other
            for part in way:
                place = place[part]
            if number:
                place[last] = wrong[number - 1]
            else:
                del place[last]
            yield f"{'.'.join(path)} {wrong[number - 1]!r}" if number else ".".join(path), other


class Opened(BaseException):
    """The run was opened: what follows is not of this test."""


@cache
def _composed(name: str, *words: str) -> Any:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return hydra.compose(name, list(words))


def _verb(verb: Callable[[Any], int], *words: str) -> None:
    verb(copy.deepcopy(_composed(verb.__name__, *words)))


def _goes_on(path: Path, cfg: Any) -> None:
    resume.command_line([f"ckpt={path}"])
    cfg.ckpt = str(path)
    resume.prepare(cfg)


OPENING: dict[str, Callable[[Path, Any], object]] = {
    "sample": lambda path, _: _verb(sample.sample, f"run={path}", "device=cpu"),
    "evaluate": lambda path, _: _verb(evaluate.evaluate, f"run={path}", "device=cpu", "metrics=digits"),
    "evaluate_all": lambda path, _: _verb(
        evaluate.evaluate, f"run={path}", "device=cpu", "metrics=digits", "checkpoints=true"
    ),
    "explore": lambda path, _: _verb(explore.explore, f"run={path}", "what=walk", "device=cpu"),
    "translate": lambda path, _: _verb(translate.translate, f"run={path}", "images=x.png", "device=cpu"),
    "usefulness": lambda path, _: _verb(usefulness.usefulness, f"run={path}", "device=cpu"),
    "interpolate": lambda path, _: _verb(
        interpolate.interpolate, f"a={path}", f"b={path}", f"out={path.parent / 'out'}", "existing=replace"
    ),
    "pretrained": lambda path, _: pretrained.weights(str(path), ("generator",)),
    "ckpt": _goes_on,
}
"""Each way of opening a checkpoint."""


def _answer(opening: Callable[[], object], what: str) -> ConfigError | None:
    try:
        opening()
    except Opened:
        return None
    except ConfigError as error:
        return error
    except Exception as error:
        raise AssertionError(what) from error
    return None


@pytest.mark.parametrize("name", OPENING)
def test_a_checkpoint_that_lacks_something_is_refused_in_one_line(
    whole: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or opened, where it can do without."""
    really = trained_run.open_run

    def opened(*given: Any, **named: Any) -> Any:
        really(*given, **named)
        raise Opened

    monkeypatch.setattr(trained_run, "open_run", opened)
    cfg = compose(tmp_path / "run", "model=dcgan", "images=64", "metrics=none")
    path, refused = tmp_path / "last.ckpt", 0
    checkpoint = resume.load(whole)
    for what, other in damaged(checkpoint, WRONG if name == "sample" else ()):  # one reader serves them all
        torch.save(other, path)
        saved._require_undamaged.cache_clear()
        found = _answer(lambda: OPENING[name](path, cfg), what)
        refused += found is not None
        assert found is None or (len(found.faults) == 1 and "\n" not in str(found)), (what, found)
    assert refused > 10


def test_a_checkpoint_without_a_training_says_how_to_begin_with_it(whole: Path, tmp_path: Path) -> None:
    """As `convert` writes it."""
    checkpoint = {k: v for k, v in resume.load(whole).items() if k != "optimizer_states"}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    cfg = compose(tmp_path / "run", "model=dcgan", "images=64", f"ckpt={tmp_path / 'last.ckpt'}")
    with pytest.raises(ConfigError, match=r"optimizer_states is missing; type model\.pretrained=.*last\.ckpt to begin"):
        resume.prepare(cfg)


# -------------------------------------------------------------------- directions


@pytest.fixture(scope="module")
def explored(whole: Path) -> LatentSpace:
    return LatentSpace(trained_run.open_run(str(whole), "cpu").model)


def test_odd_files_of_directions_are_refused_in_one_line(explored: LatentSpace, tmp_path: Path) -> None:
    dim = explored.dim
    right = {
        "space": "z",
        "vectors": torch.ones(2, dim),
        "deviations": torch.ones(2),
        "names": ["a", "b"],
        "styles": None,
    }
    path = tmp_path / "directions.pt"
    torch.save(right, path)
    assert directions.Directions.read(str(path)).names == ["a", "b"]
    odd: list[Any] = [{k: v for k, v in right.items() if k != name} for name in right]
    wrong = (None, "x", 3, [1, 2], torch.ones(3, 3, 3))
    odd += [right | {name: value} for name in right for value in wrong if name != "styles" or value is not None]
    odd += [right | {"styles": [3, 1]}, right | {"styles": [0]}, right | {"names": ["a"]}, right | {"more": 1}]
    odd += [right | {"vectors": torch.full((2, dim), float("nan"))}, [right], torch.ones(2), "x"]
    for found in odd:
        torch.save(found, path)
        with pytest.raises(ConfigError) as error:
            Edit(str(path)).explore(explored, tmp_path / "out")
        assert len(error.value.faults) == 1
    assert not (tmp_path / "out").exists()


def test_odd_files_of_latents_are_refused_in_one_line(explored: LatentSpace, tmp_path: Path) -> None:
    right = {"space": "z", "latents": torch.ones(2, explored.dim), "labels": None, "noise": None}
    path = tmp_path / "projected.pt"
    edit = Edit(str(path), str(path))
    torch.save(right, path)
    assert len(edit._projected(explored)[0]) == 2
    for name, value in [
        *((name, value) for name in ("space", "latents") for value in (None, "x", 3, [1, 2])),
        *(("labels", value) for value in ("x", torch.zeros(2), torch.full((2,), 99), torch.full((1,), 0))),
        *(("noise", value) for value in ("x", [1, 2], [{}], [{"a": torch.ones(1)}] * 2)),
    ]:
        torch.save(right | {name: value}, path)
        with pytest.raises(ConfigError, match="is not of this generator"):
            edit._projected(explored)


def test_damage_of_such_a_file_is_seen(explored: LatentSpace, tmp_path: Path) -> None:
    path = tmp_path / "directions.pt"
    torch.save({"vectors": torch.zeros(1000)}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="cannot be read"):
        directions.load(str(path), "what.directions")
