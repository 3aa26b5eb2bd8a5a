"""Every option of a verb that takes images of a person's, on every kind of file that is none: one line with its name.

A new option falls under it by a line in OPTIONS, a new kind of file by one in KINDS.
"""

from __future__ import annotations

import copy
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf
from support import write_images
from test_translate import Negative, names

from gan_experiments.assembly import trained
from gan_experiments.contracts import ConfigError
from gan_experiments.runs import configs
from gan_experiments.verbs import evaluate, translate, usefulness

OPTIONS = {
    "evaluate fake": (evaluate.evaluate, "fake={} real=good metrics=digits metrics.scores=[fid]"),
    "evaluate real": (evaluate.evaluate, "fake=good real={} metrics=digits metrics.scores=[fid]"),
    "evaluate fake paired": (evaluate.evaluate, "fake={} real=good metrics=paired"),
    "evaluate real paired": (evaluate.evaluate, "fake=good real={} metrics=paired"),
    "usefulness fake": (usefulness.usefulness, "fake={} real=classes steps=1 seeds=1 data.resolution=16"),
    "usefulness real": (usefulness.usefulness, "fake=classes real={} steps=1 seeds=1 data.resolution=16"),
    "usefulness test": (usefulness.usefulness, "fake=classes real=classes test={} steps=1 seeds=1 data.resolution=16"),
    "translate images": (translate.translate, "run=r images={}"),
    "translate mask": (translate.translate, "run=r images=good mask={}"),
}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge() -> bytes:
    """A PNG that says that it has 60000x60000 pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def archive(path: Path, encrypted: bool = False) -> Path:
    """A zip archive of the good images; `encrypted` as its headers say."""
    with zipfile.ZipFile(path, "w") as made:
        for file in sorted(Path("good").iterdir()):
            made.write(file, file.name)
    raw = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = raw.find(mark)
        while encrypted and place >= 0:
            raw[place + flags] |= 1
            place = raw.find(mark, place + 1)
    path.write_bytes(raw)
    return path


def folder_with(path: Path, content: bytes) -> Path:
    """The good images, but that one has this content."""
    shutil.copytree("good", path)
    (path / "1.png").write_bytes(content)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def empty(path: Path) -> Path:
    path.mkdir()
    return path


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


KINDS: dict[str, Callable[[], Path]] = {
    "missing": lambda: Path("bad"),
    "an empty folder": lambda: empty(Path("bad")),
    "a text": lambda: written(Path("bad.txt"), b"hello"),
    "an empty file": lambda: written(Path("bad.png"), b""),
    "half an image": lambda: written(Path("bad.png"), half(Path("good/0.png").read_bytes())),
    "a huge image": lambda: written(Path("bad.png"), huge()),
    "a folder with a huge image": lambda: folder_with(Path("bad"), huge()),
    "a folder with half an image": lambda: folder_with(Path("bad"), half(Path("good/0.png").read_bytes())),
    "an encrypted archive": lambda: archive(Path("bad.zip"), encrypted=True),
    "half an archive": lambda: written(Path("bad.zip"), half(archive(Path("whole.zip")).read_bytes())),
    "a broken entry": lambda: written(
        Path("bad.zip"), archive(Path("whole.zip")).read_bytes().replace(b"IDATx", b"IDAT!", 1)
    ),
}


@cache
def composed(verb: str, words: str) -> DictConfig:
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return hydra.compose(verb, [*words.replace("{}", "bad").split(), "device=cpu"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of good images, one with classes, and a model that fills holes in; it is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "good", 3, size=16)
    for name in ("cat", "dog"):
        write_images(tmp_path / "classes" / name, 3, size=16)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_bad_file_is_one_line_with_its_name(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    option: str,
    kind: str,
) -> None:
    verb, words = OPTIONS[option]
    model = Negative(masked="mask" in option)
    run = trained.TrainedRun(model, OmegaConf.create({"data": {"channels": 3}}), here / "r")
    monkeypatch.setattr(trained, "open_run", lambda *_, **__: run)
    bad = KINDS[kind]()
    cfg = copy.deepcopy(composed(verb.__name__, words))
    cfg[next(word for word in words.split() if "{}" in word).partition("=")[0]] = str(bad)
    before = names(here)
    try:
        assert verb(cfg) == 0
    except ConfigError as error:
        told = list(error.faults)
    else:  # the good ones are used, and the bad one is named
        told = [record.getMessage() for record in caplog.records]
        assert any(".png" in line for line in told)
    for line in told:
        assert "bad" in line
        assert "\n" not in line.strip()
        assert len(line) < 400
    assert "Traceback" not in capsys.readouterr().err
    made = [name for name in names(here) if name not in before and not name.startswith("cache/")]
    assert all(Path(name).stat().st_size for name in made)
    assert not [name for name in made if "unfinished" in name]


SPOILT = [
    "{",
    "[]",
    "null",
    '{"a": 1}',
    '{"a": {"accuracy": [], "scores": {}}}',
    '{"a": {"accuracy": {"real 1 seed 0": "x"}, "scores": {}}}',
]


@pytest.mark.parametrize("content", SPOILT)
def test_results_that_are_none_are_replaced_only_where_that_is_typed(here: Path, content: str) -> None:
    (here / "usefulness.json").write_text(content)
    words = "fake=classes real={} steps=1 seeds=1 parts=[1.0] data.resolution=16"

    def measured(existing: str = "refuse") -> int:
        cfg = copy.deepcopy(composed("usefulness", words))
        cfg.real, cfg.existing = "classes", existing
        return usefulness.usefulness(cfg)

    with pytest.raises(ConfigError, match=r"^usefulness.json does not hold results .* type existing=replace"):
        measured()
    assert (here / "usefulness.json").read_text() == content
    if content == SPOILT[0]:
        assert measured("replace") == 0
        assert measured() == 0, "and goes on with its own"
