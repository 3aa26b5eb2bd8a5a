"""A disk that is full or takes nothing: one line that says which file, and what to type; nothing half-written."""

from __future__ import annotations

import errno
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from PIL import Image
from support import required

from gan_experiments import files
from gan_experiments.bounds import OPTIONS
from gan_experiments.contracts import ConfigError
from gan_experiments.launch import command
from gan_experiments.runs import run_folder

CASES = [(verb, errno.EROFS) for verb in sorted(OPTIONS)]
CASES += [("sample", number) for number in (*run_folder.FULL, *run_folder.REFUSED) if number != errno.EROFS]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as a disk does that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def tensors(path: Path) -> None:
    torch.save({"a": torch.randn(50_000)}, path)


def tensors_through_a_file(path: Path) -> None:
    with path.open("wb") as file:
        torch.save({"a": torch.randn(50_000)}, file)


def text(path: Path) -> None:
    path.write_text("x" * 200_000)


def picture(path: Path) -> None:
    Image.effect_noise((500, 500), 90).save(path, format="PNG")


WRITERS = [tensors, tensors_through_a_file, text, picture]


@pytest.mark.parametrize("before", [None, b"before"])
@pytest.mark.parametrize("write", WRITERS)
def test_a_file_is_whole_or_as_it_was_and_the_error_names_it(
    write: Callable[[Path], None], before: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(OSError) as caught, at_most(20_000), files.whole(path) as unfinished:
        write(unfinished)
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert caught.value.filename == str(path)
    assert [found.read_bytes() for found in tmp_path.iterdir()] == ([] if before is None else [before])
    known = run_folder.mistake(caught.value)
    assert isinstance(known, ConfigError)
    assert str(path) in str(known)


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hydra sets the logs of the process that it runs in."""
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    level, handlers = logging.root.level, [*logging.root.handlers]
    yield
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers


def answer(
    verb: Callable[[DictConfig], int], config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str]:
    """The exit status of a command, and what it prints."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", [config, *(["hydra.run.dir=here"] if config == "run" else required(config))])
    with pytest.raises(SystemExit) as caught:
        command.main(verb, config)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("config", "number"), CASES, ids=lambda value: errno.errorcode.get(value, value))
def test_each_verb_says_what_to_type(
    config: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(cfg: DictConfig) -> int:
        raise OSError(number, os.strerror(number), "there/file")

    monkeypatch.chdir(tmp_path)
    status, said = answer(verb, config, monkeypatch, capsys)
    assert status == 2
    assert said.count("\n") == 1
    assert "there/file" in said
    assert said.endswith(f"type {'hydra.run.dir' if config == 'run' else 'out'}=<a folder elsewhere>\n")
    assert [*tmp_path.iterdir()] == []


def test_a_log_on_a_full_disk_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.chdir(tmp_path)

    def verb(cfg: DictConfig) -> int:
        handler = logging.FileHandler("/dev/full" if Path("/dev/full").exists() else os.devnull)
        logger = logging.getLogger("of another library")
        logger.addHandler(handler)
        for _ in range(100):
            logger.error("a line")
        logger.removeHandler(handler)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    status, said = answer(verb, "sample", monkeypatch, capsys)
    assert status == 2
    assert [line for line in said.splitlines() if "a line" not in line] == [
        "no space left on the device that holds the results: free some and type the command again, or type"
        " out=<a folder elsewhere>"
    ]


def test_a_run_folder_on_a_disk_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of `ckpt=` there: not even the lock can be made, nor anything be removed."""
    monkeypatch.chdir(tmp_path)

    def refused(path: Path, *args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(run_folder, "held", refused)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refused)
        status, said = answer(lambda cfg: 0, "run", monkeypatch, capsys)
    assert status == 2
    assert (
        said == f"{tmp_path}/here cannot be written (Read-only file system): type hydra.run.dir=<a folder elsewhere>\n"
    )


def test_a_log_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Hydra's `run.log` in the folder of a run on a disk that takes nothing."""
    monkeypatch.chdir(tmp_path)

    def log_to(config: object, verbose: object = None) -> None:
        try:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), "there/run.log")
        except OSError as error:
            raise ValueError("Unable to configure handler 'file'") from error

    monkeypatch.setattr("hydra.core.utils.configure_log", log_to)
    monkeypatch.setattr("hydra._internal.hydra.configure_log", log_to)
    status, said = answer(lambda cfg: 0, "sample", monkeypatch, capsys)
    assert status == 2
    assert said.startswith("there/run.log cannot be written (Read-only file system): type ")
    assert said.count("\n") == 1
