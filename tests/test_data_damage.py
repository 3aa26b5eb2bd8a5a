"""Whatever is kept on disk and has been damaged is made again, in one line, with the same content."""

from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import difference, write_images

from gan_experiments.contracts import ConfigError
from gan_experiments.data import cache as cache_module
from gan_experiments.data.cache import VERIFIED, cached
from gan_experiments.data.sources import Files, Settings
from gan_experiments.data.super_resolution import SuperResolution
from gan_experiments.metrics.real_statistics import RealStatistics

# -------------------------------------------------------------------- what is kept: its content, and its files


def images(folder: Path) -> tuple[Any, Path]:
    """Images of one size, in two classes."""
    found = cached(Files(folder / "photos"), Settings(8, 3), str(folder / "kept"))
    return [found.pixels, found.labels, found.class_names, found.fingerprint], found.folder


def whole_images(folder: Path) -> tuple[Any, Path]:
    """Images of the sizes that they have."""
    found = SuperResolution(str(folder / "photos"), 16, cache=str(folder / "kept")).images()
    return [[found.image(row) for row in range(len(found))], found.sizes, found.fingerprint], found.folder


def features(folder: Path) -> tuple[Any, Path]:
    """What scores need of the real images."""
    path = folder / "kept" / "features.pt"
    found = RealStatistics.load(path, torch.device("cpu"))
    if found is None:
        found = RealStatistics.of(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
        found.save(path)
    return vars(found), path.parent


READERS = {reader.__name__: reader for reader in (images, whole_images, features)}

# -------------------------------------------------------------------- damage of any file


def empty(raw: bytes) -> bytes:
    return b""


def like_a_zip(raw: bytes) -> bytes:
    return b"PK\x03\x04" + bytes(len(raw))


def truncated(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def flipped(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


def noughts(raw: bytes) -> bytes:
    return bytes(len(raw))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    damage.__name__: damage for damage in (empty, like_a_zip, truncated, flipped, noughts)
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        write_images(tmp_path / "photos" / name, 3, seed=number)
    return tmp_path


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def require_made_again(
    reader: str, folder: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    content, place = copy.deepcopy(READERS[reader](folder))  # the damage will be done to what is mapped
    damage(place)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again, _ = READERS[reader](folder)
    assert difference(again, content) == {}
    [said] = warnings_of(caplog)
    assert "damaged" in said
    assert "again" in said
    assert "\n" not in said
    caplog.clear()
    assert difference(READERS[reader](folder)[0], content) == {}
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
def test_any_damage_of_any_file(reader: str, kind: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, place = READERS[reader](folder)
    for path in sorted(place.iterdir()):
        raw, times = path.read_bytes(), path.stat()
        if path.name == VERIFIED:
            continue

        def harm(_: Path, path: Path = path, raw: bytes = raw, times: os.stat_result = times) -> None:
            path.write_bytes(DAMAGES[kind](raw))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk does it

        require_made_again(reader, folder, harm, caplog)


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda place: np.save(place / name, change(np.load(place / name)))


def facts(text: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        path = place / "facts.json"
        path.write_text(json.dumps(text(json.loads(path.read_text()))))

    return change


def swapped(place: Path) -> None:
    """A whole and sound cache of other images."""
    other = cached(Files(place.parents[1] / "photos"), Settings(4, 3), str(place.parent))
    for path in other.folder.iterdir():
        path.replace(place / path.name)


OF_IMAGES = {
    "another resolution": array("images.npy", lambda a: a[..., ::2, ::2]),
    "floats": array("images.npy", lambda a: a.astype(np.float32)),
    "other floats": array("labels.npy", lambda a: a.astype(np.float64)),
    "fewer": array("images.npy", lambda a: a[:-1]),
    "out of range": array("labels.npy", lambda a: a + 7),
    "of another shape": array("labels.npy", lambda a: a[:, None]),
    "objects": array("labels.npy", lambda a: a.astype(object)),
    "a list": facts(lambda kept: []),
    "null": facts(lambda kept: None),
    "a text": facts(lambda kept: "x"),
    "another number": facts(lambda kept: kept | {"number": 5}),
    "a negative number": facts(lambda kept: kept | {"number": -1}),
    "other classes": facts(lambda kept: kept | {"class_names": ["cat"]}),
    "without a key": facts(lambda kept: {key: value for key, value in kept.items() if key != "fingerprint"}),
    "another cache": swapped,
    "a folder": lambda place: [(place / "images.npy").unlink(), (place / "images.npy").mkdir()],
    "without a file": lambda place: (place / "labels.npy").unlink(),
}


@pytest.mark.parametrize("kind", OF_IMAGES)
def test_damage_that_a_program_does(kind: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    require_made_again("images", folder, OF_IMAGES[kind], caplog)


# -------------------------------------------------------------------- what is sound is not looked at twice


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were verified."""
    found: list[str] = []
    read = cache_module.last_bytes
    monkeypatch.setattr(cache_module, "last_bytes", lambda path, n: found.append(path.name) or read(path, n))
    return found


def test_what_has_not_changed_is_verified_once_a_day(folder: Path, looks: list[str]) -> None:
    content, place = copy.deepcopy(images(folder))
    images(folder)
    assert looks == []  # it was hashed when it was written
    (place / "images.npy").touch()
    for _ in range(2):
        assert difference(images(folder)[0], content) == {}
        assert looks == ["images.npy"]
    yesterday = time.time() - cache_module.DAY - 1
    os.utime(place / VERIFIED, (yesterday, yesterday))
    for _ in range(2):
        images(folder)
        assert looks == ["images.npy"] * 2


@pytest.mark.parametrize("text", ["", "[]", "null", "{}"])
def test_a_damaged_mark_is_none(text: str, folder: Path, looks: list[str]) -> None:
    _, place = images(folder)
    (place / VERIFIED).write_text(text)
    images(folder)
    images(folder)
    assert looks == ["images.npy"]


def test_a_cache_of_before_there_were_checksums(folder: Path, looks: list[str], caplog: Any) -> None:
    content, place = copy.deepcopy(images(folder))
    (place / VERIFIED).unlink()
    facts(lambda kept: {key: value for key, value in kept.items() if key != "checksum"})(place)
    assert difference(images(folder)[0], content) == {}
    assert looks == ["images.npy"]
    assert warnings_of(caplog) == []


def test_of_processes_that_start_together_one_verifies(folder: Path) -> None:
    _, place = images(folder)
    (place / "images.npy").touch()
    fork = multiprocessing.get_context("fork")
    seen = fork.Queue()
    read = cache_module.last_bytes

    def slowly(path: Path, number: int) -> Any:
        seen.put(path.name)
        time.sleep(0.2)
        return read(path, number)

    def open_it() -> None:
        cache_module.last_bytes = slowly
        images(folder)

    both = [fork.Process(target=open_it) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert seen.get(timeout=10) == "images.npy"
    assert seen.empty()


def test_where_nothing_can_be_written(folder: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    content, place = copy.deepcopy(images(folder))
    (place / VERIFIED).unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for number in (1, 2):
        assert difference(images(folder)[0], content) == {}
        assert looks == ["images.npy"] * number
    (place / "labels.npy").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"damaged .* nothing can be written there; .*data\.cache=<") as caught:
        images(folder)
    assert "\n" not in str(caught.value)
