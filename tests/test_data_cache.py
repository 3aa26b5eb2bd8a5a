"""The cache of decoded images: built once, whole or not there, keyed by files and settings."""

from __future__ import annotations

import errno
import io
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_experiments.contracts import ConfigError
from gan_experiments.data import cache as cache_module
from gan_experiments.data import sources
from gan_experiments.data.cache import ImageArray, cache_root, cached
from gan_experiments.data.sources import Block, Files, Settings, spread

SETTINGS = Settings(8, 3)


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


def pictures(folder: Path, number: int = 5) -> Path:
    """Write pictures of one colour each: red is the picture's number."""
    folder.mkdir(parents=True)
    for i in range(number):
        (folder / f"{i:03d}.png").write_bytes(png(i))
    return folder


def reds(images: ImageArray) -> list[int]:
    return images.images(0, len(images))[:, 0, 0, 0].tolist()


def build(folder: Path, cache: Path, **options: Any) -> ImageArray:
    return cached(Files(folder, **options), SETTINGS, str(cache))


def folders(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files decoded from now on."""
    names: list[str] = []
    read = Files._read
    monkeypatch.setattr(Files, "_read", lambda self, name: names.append(name) or read(self, name))
    return names


def test_builds_then_reads(tmp_path: Path, decoded: list[str]) -> None:
    folder = pictures(tmp_path / "photos")
    images = build(folder, tmp_path / "cache")
    assert len(decoded) == 5
    assert images.pixels.shape == (5, 3, 8, 8)
    assert images.pixels.dtype == torch.uint8
    assert reds(images) == [0, 1, 2, 3, 4]
    assert images.images(1, 3)[:, 2, 7, 7].tolist() == [254, 253]
    again = build(folder, tmp_path / "cache")
    assert len(decoded) == 5
    assert reds(again) == reds(images)
    assert again.fingerprint == images.fingerprint
    facts = json.loads((again.folder / "facts.json").read_text())
    assert (facts["number"], facts["skipped"], facts["settings"]["resolution"]) == (5, 0, 8)


def test_changed_files_and_settings_build_anew(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos")
    first = build(folder, tmp_path / "cache")
    (folder / "002.png").write_bytes(png(77))
    changed = build(folder, tmp_path / "cache")
    assert reds(changed) == [0, 1, 77, 3, 4]
    assert changed.fingerprint != first.fingerprint
    (folder / "005.png").write_bytes(png(5))
    assert len(build(folder, tmp_path / "cache")) == 6
    for settings in (Settings(4, 3), Settings(8, 1), Settings(8, 3, crop=6)):
        other = cached(Files(folder), settings, str(tmp_path / "cache"))
        assert other.pixels.shape == (6, settings.channels, settings.resolution, settings.resolution)
    assert len(folders(tmp_path / "cache")) == 6


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one, two = (build(pictures(tmp_path / name), tmp_path / "cache") for name in ("one", "two"))
    assert one.folder != two.folder
    assert one.fingerprint == two.fingerprint
    labelled = pictures(tmp_path / "three" / "class")
    assert build(labelled.parent, tmp_path / "cache").fingerprint != one.fingerprint


def test_files_that_are_no_images_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = pictures(tmp_path / "photos")
    (folder / "000.png").write_bytes(png(0)[:-30])
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.jpg").touch()
    (folder / ".DS_Store").write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        images = build(folder, tmp_path / "cache")
    assert reds(images) == [1, 2, 3, 4]
    assert images.skipped == 3
    assert np.load(images.folder / "images.npy").shape == (4, 3, 8, 8)
    named = json.loads((images.folder / "facts.json").read_text())["skipped_files"]
    assert named.keys() == {"000.png", "notes.txt", "empty.jpg"}
    assert named["notes.txt"] == "not an image"
    assert "left out 3 of the 7 files" in caplog.text
    assert "notes.txt (not an image)" in caplog.text
    assert build(folder, tmp_path / "cache").skipped == 3


def test_a_file_that_may_not_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self.name == "001.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert reds(build(pictures(tmp_path / "photos"), tmp_path / "cache")) == [0, 2, 3, 4]


def test_nothing_left_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    with pytest.raises(ConfigError, match=r"none of the 1 files of data.root=.*a.txt: not an image.*data.root=\.\.\."):
        build(tmp_path / "notes", tmp_path / "cache")
    assert folders(tmp_path / "cache") == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no files"):
        Files(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"data.root_a=.*nowhere does not exist"):
        Files(tmp_path / "nowhere", "data.root_a")
    with pytest.raises(ConfigError, match="no zip archive"):
        Files(tmp_path / "notes" / "a.txt")


def test_many_blocks_and_threads_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_experiments.data.sources.BLOCK", 16)
    monkeypatch.setattr("gan_experiments.data.sources.TASK", 3)
    folder = pictures(tmp_path / "photos", 50)
    for broken in (0, 15, 16, 49):
        (folder / f"{broken:03d}.png").write_bytes(b"")
    wanted = [i for i in range(50) if i not in (0, 15, 16, 49)]
    for threads in (1, 3):
        images = cached(Files(folder), SETTINGS, str(tmp_path / str(threads)), threads=threads)
        assert reds(images) == wanted


def test_zip_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i, name in enumerate(["top/cat/a.png", "top/cat/deep/er/b.png", "top/dog/c.png"]):
            archive.writestr(name, png(i))
        archive.writestr("__MACOSX/top/cat/._a.png", b"junk")
        archive.writestr("top/cat/.hidden", b"junk")
        archive.writestr("top/dog/readme.txt", b"hello")
        archive.mkdir("top/bird")
    source = Files(tmp_path / "photos.zip")
    assert source.class_names == ["cat", "dog"]
    images = cached(source, SETTINGS, str(tmp_path / "cache"), threads=2)
    assert reds(images) == [0, 1, 2]
    assert images.labels.tolist() == [0, 0, 1]
    assert images.skipped == 1


def test_a_broken_member_of_a_zip_archive_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(3):
            archive.writestr(f"{i}.png", png(i))
    raw = bytearray(path.read_bytes())
    place = raw.find(png(1)) + 40
    raw[place] ^= 255
    path.write_bytes(raw)
    assert reds(build(path, tmp_path / "cache")) == [0, 2]


def test_classes_are_the_uppermost_folders(tmp_path: Path) -> None:
    for i, name in enumerate(["b", "a/deep", "c"]):
        pictures(tmp_path / "photos" / name, i + 1)
    (tmp_path / "photos" / "stray.png").write_bytes(png(9))
    (tmp_path / "photos" / ".git").mkdir()
    (tmp_path / "photos" / ".git" / "x.png").write_bytes(png(9))
    (tmp_path / "photos" / "c" / "round").symlink_to(tmp_path / "photos")  # a circle must not hang
    images = build(tmp_path / "photos", tmp_path / "cache")
    assert images.class_names == ["a", "b", "c"]
    assert images.labels.tolist() == [0, 0, 1, 2, 2, 2, -1]


def test_limit_is_evenly_spread(tmp_path: Path, decoded: list[str]) -> None:
    assert spread(10, None) == spread(10, 99) == list(range(10))
    assert spread(10, 4) == [0, 2, 5, 7]
    assert reds(build(pictures(tmp_path / "photos", 10), tmp_path / "cache", limit=4)) == [0, 2, 5, 7]
    assert len(decoded) == 4


def test_a_copy_in_another_process_opens_the_same_file(tmp_path: Path) -> None:
    images = build(pictures(tmp_path / "photos", 100), tmp_path / "cache")
    raw = pickle.dumps(images)
    assert len(raw) < 2000 < images.pixels.numel()
    copy = pickle.loads(raw)
    assert torch.equal(copy.pixels, images.pixels)
    assert copy.fingerprint == images.fingerprint
    images.labels = None
    assert pickle.loads(pickle.dumps(images)).labels is None


def test_a_damaged_cache_is_built_again(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos")
    for name in ("images.npy", "labels.npy", "facts.json"):
        images = build(folder, tmp_path / "cache")
        path = images.folder / name
        path.write_bytes(path.read_bytes()[:-20])
        assert reds(build(folder, tmp_path / "cache")) == [0, 1, 2, 3, 4]
    shutil.rmtree(images.folder)
    images.folder.mkdir()
    assert reds(build(folder, tmp_path / "cache")) == [0, 1, 2, 3, 4]


def slowly(folder: Path, cache: Path, reads: Any, results: Any) -> None:
    """Build with 0.05 s for each file, saying so; runs in a process of its own."""
    read = Files._read

    def wait(self: Files, name: str) -> bytes:
        reads.put(name)
        time.sleep(0.05)
        return read(self, name)

    Files._read = wait
    sources.BLOCK = 4
    results.put(cached(Files(folder), SETTINGS, str(cache), threads=1).fingerprint)


@pytest.fixture
def fork() -> Any:
    return multiprocessing.get_context("fork")  # has imported everything already


def test_processes_that_start_together_build_once(tmp_path: Path, fork: Any) -> None:
    folder, reads, results = pictures(tmp_path / "photos", 20), fork.Queue(), fork.Queue()
    both = [fork.Process(target=slowly, args=(folder, tmp_path / "cache", reads, results)) for _ in range(2)]
    for process in both:
        process.start()
    prints = {results.get(timeout=60) for _ in both}
    names = [reads.get(timeout=60) for _ in range(20)]
    for process in both:
        process.join(60)
    assert len(set(names)) == 20
    assert reads.empty()
    assert prints == {build(folder, tmp_path / "cache").fingerprint}


def test_a_killed_build_leaves_no_cache_and_is_cleaned_up(tmp_path: Path, fork: Any) -> None:
    folder, cache, reads = pictures(tmp_path / "photos", 20), tmp_path / "cache", fork.Queue()
    process = fork.Process(target=slowly, args=(folder, cache, reads, fork.Queue()))
    process.start()
    for _ in range(7):  # the first block of four is written
        reads.get(timeout=60)
    process.kill()
    process.join(60)
    assert [path.name.partition(".")[2][:4] for path in folders(cache)] == ["tmp-"]
    images = build(folder, cache)
    assert reds(images) == list(range(20))
    assert folders(cache) == [images.folder]


def test_a_source_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blocks(self: Files, settings: Settings, threads: int) -> Iterator[Block]:
        yield Block(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), [])
        raise KeyboardInterrupt

    monkeypatch.setattr(Files, "blocks", blocks)
    with pytest.raises(KeyboardInterrupt):
        build(pictures(tmp_path / "photos"), tmp_path / "cache")
    assert folders(tmp_path / "cache") == []


def test_too_little_space_is_said_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(ConfigError, match=r"needs 0\.0 MB in .*cache: 0\.0 MB are free; .*data\.cache=<") as caught:
        build(pictures(tmp_path / "photos"), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert decoded == []
    assert folders(tmp_path / "cache") == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module, "flush", full)
    with pytest.raises(ConfigError, match=r"No space left on device; .*data\.cache=<"):
        build(pictures(tmp_path / "photos"), tmp_path / "cache")
    assert folders(tmp_path / "cache") == []
    monkeypatch.undo()
    assert reds(build(tmp_path / "photos", tmp_path / "cache")) == [0, 1, 2, 3, 4]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_device_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "photos")
    make = cache_module.tempfile.mkdtemp

    def on_full(**options: Any) -> str:
        work = make(**options)
        (Path(work) / "images.npy").symlink_to("/dev/full")
        return work

    monkeypatch.setattr(cache_module.tempfile, "mkdtemp", on_full)
    with pytest.raises(ConfigError, match="No space left on device"):
        build(folder, tmp_path / "cache")
    assert folders(tmp_path / "cache") == []


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"data\.cache=<another folder>"):
        build(pictures(tmp_path / "photos"), tmp_path / "file" / "cache")


def test_where_caches_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GAN_EXPERIMENTS_CACHE", str(tmp_path / "there"))
    assert cache_root(None) == tmp_path / "there"
    assert cache_root(str(tmp_path / "here")) == tmp_path / "here"
    monkeypatch.delenv("GAN_EXPERIMENTS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root(None) == tmp_path / ".cache" / "gan_experiments"


def test_opening_is_quick(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photos", 100)
    build(folder, tmp_path / "cache")
    began = time.perf_counter()
    build(folder, tmp_path / "cache")
    assert time.perf_counter() - began < 0.5
