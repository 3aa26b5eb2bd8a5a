"""A person's files: what is understood of them is right, and is said before it is trained on."""

from __future__ import annotations

import io
import json
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import SMALL_DATA, compose, small_data

from gan_experiments import drawing
from gan_experiments.assembly import build, report
from gan_experiments.cameras import titled
from gan_experiments.captions import words_of
from gan_experiments.conditions import number_of
from gan_experiments.contracts import ConfigError
from gan_experiments.data.cache import VERIFIED, cached
from gan_experiments.data.decode import decode
from gan_experiments.data.download import without_downloads
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.images import MNIST, Folder
from gan_experiments.data.masked import Masked
from gan_experiments.data.met import About, lines
from gan_experiments.data.paired import Paired
from gan_experiments.data.shown import real_sheet
from gan_experiments.data.sources import Files, Settings, splits_of
from gan_experiments.data.stored import StoredImages
from gan_experiments.data.super_resolution import SuperResolution
from gan_experiments.data.unpaired import Unpaired
from gan_experiments.models.image_to_image import Direction, ImageToImage
from gan_experiments.models.noise_to_image import NoiseToImage

Tree = dict[str, bytes]
S = 8


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(value: int = 200) -> bytes:
    return encoded(Image.new("RGB", (S, S), (value, 0, 0)))


def ramp(low: float, high: float, dtype: Any = np.uint16, kind: str = "TIFF") -> bytes:
    """A grey file that runs from `low` to `high` in its own values."""
    return encoded(Image.fromarray(np.linspace(low, high, S * S).reshape(S, S).astype(dtype)), kind)


def deep_png(low: int, high: int) -> bytes:
    """A PNG of 16-bit colours, which PIL cannot write."""
    values = np.linspace(low, high, S * S).reshape(S, S, 1).astype(">u2").repeat(3, axis=2)
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", S, S, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def animated(number: int, kind: str = "GIF") -> bytes:
    """Frames of grey 20, 40, 60, ..."""
    first, *rest = (Image.new("L", (S, S), 20 * (i + 1)) for i in range(number))
    return encoded(first, kind, save_all=True, append_images=rest)


def listing(labels: Any) -> bytes:
    return json.dumps({"labels": labels}).encode()


def write(root: Path, tree: Tree, form: str) -> Path:
    """Write files into a folder or into a zip archive."""
    if form == "zip":
        root = root.with_suffix(".zip")
        with zipfile.ZipFile(root, "w") as archive:
            for name, raw in tree.items():
                archive.writestr(name, raw)
        return root
    for name, raw in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(raw)
    return root


def folder(root: Path, tmp_path: Path, **options: Any) -> Folder:
    return Folder(root=str(root), resolution=S, channels=1, cache=str(tmp_path / "cache"), **options)


def reds(data: ImageData, split: str = "train") -> list[int]:
    return data.reference(split).pixels[:, 0, 0, 0].tolist()


A, B, C = plain(10), plain(20), plain(30)
NVIDIA = {"00000/img00000000.png": A, "00000/img00000001.png": B, "00001/img00001000.png": C}
CASES: dict[str, tuple[Tree, int, list[str], list[int], str]] = {
    # what lies there, data.classes, the names of the classes, the labels, what is said
    "plain": ({"a.png": A, "b.png": B}, 0, [], [], r"sizes     all 8x8\npixels    2 of 8-bit RGB"),
    "classes": ({"cat/a.png": A, "dog/b.png": B}, 2, ["cat", "dog"], [0, 1], r"classes   2: cat 1, dog 1"),
    "classes not used": ({"cat/a.png": A, "dog/b.png": B}, 0, [], [], r"2 classes \(cat, dog\) are not used, as"),
    "splits": (
        {"train/cat/a.png": A, "train/dog/b.png": B, "val/cat/c.png": C, "val/dog/d.png": C},
        2,
        ["cat", "dog"],
        [0, 1],
        r"train, val are splits, not classes: train is taken, val held out",
    ),
    "splits, other spellings": (
        {"Training/a.png": A, "TEST/b.png": B, "validation/c.png": C},
        0,
        [],
        [],
        "are splits.*Training is taken",
    ),
    "not only splits": ({"bus/a.png": A, "train/b.png": B}, 2, ["bus", "train"], [0, 1], "classes   2: bus 1, train 1"),
    "dataset.json": (
        {**NVIDIA, "dataset.json": listing([[name, i % 2] for i, name in enumerate(NVIDIA)])},
        2,
        ["0", "1"],
        [0, 1, 0],
        r"dataset.json gives the classes of 3 of 3 files\nclasses   2: 0 2, 1 1",
    ),
    "dataset.json, one-hot": (
        {**NVIDIA, "dataset.json": listing([[name, [0.0, 1.0]] for name in NVIDIA])},
        2,
        ["0", "1"],
        [1, 1, 1],
        "classes   2: 0 0, 1 3",
    ),
    "dataset.json, null": ({**NVIDIA, "dataset.json": listing(None)}, 0, [], [], "dataset.json names no classes"),
    "shards": (NVIDIA, 0, [], [], "00000 to 00001 are parts of one set, not classes"),
    "another dataset.json": (
        {"cat/a.png": A, "dog/b.png": B, "dataset.json": b"[1, 2]"},
        2,
        ["cat", "dog"],
        [0, 1],
        r"dataset.json is no list of NVIDIA's dataset tool",
    ),
    "a folder of text": (
        {"cat/a.png": A, "dog/b.png": B, "notes/read.txt": b"hello"},
        2,
        ["cat", "dog"],
        [0, 1],
        r"no class  notes: no image in it, left out",
    ),
    "a folder of broken images": (
        {"bad/a.png": A[:40], "cat/a.png": A, "dog/b.png": B},
        2,
        ["cat", "dog"],
        [0, 1],
        r"no class  bad: .*\n(.*\n)*left out  1 file: bad/a.png \(",
    ),
    "frames": (
        {"a.gif": animated(3), "b.png": A, "c.tif": animated(4, "TIFF")},
        0,
        [],
        [],
        r"frames    2 files with 7 frames; the first of each is taken; data.frames=all takes all",
    ),
    "16 bits": (
        {"a.png": ramp(0, 65535, kind="PNG")},
        0,
        [],
        [],
        r"1 of 16-bit grey \(values 0..65535\)",
    ),
    "nearly black": ({"a.png": plain(9)}, 0, [], [], r"trained on as 3..3 of 0..255: NEARLY BLACK"),
    "palette": (
        {"a.gif": encoded(Image.new("P", (S, S), 1), "GIF"), "b.png": A},
        0,
        [],
        [],
        "1 of palette, 1 of 8-bit RGB",
    ),
}


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_understood(case: str, form: str, tmp_path: Path) -> None:
    tree, classes, names, labels, said = CASES[case]
    root = write(tmp_path / "images", tree, form)
    for _ in range(2):  # the second time out of the cache
        data = folder(root, tmp_path, classes=classes)
        data.setup()
        assert data.class_names == names
        found = data.reference().labels
        assert ([] if found is None else found.tolist()) == labels
        assert re.search(said, "\n".join(data.understood())), data.understood()
        skipped = {"a folder of text": 1, "a folder of broken images": 1, "another dataset.json": 1}.get(case, 0)
        assert data.reference().skipped == skipped
        assert "dataset.json" not in data.reference().about.left_out or skipped
    assert StoredImages(str(root), "real").class_names == (names or StoredImages(str(root), "real").class_names)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_splits_are_held_out(form: str, tmp_path: Path) -> None:
    tree = {"train/cat/a.png": plain(80), "train/dog/b.png": plain(90), "valid/cat/c.png": plain(100), "x.txt": b"x"}
    tree |= {"valid/dog/d.png": plain(110)}
    root = write(tmp_path / "images", tree, form)
    assert splits_of(root) == {"train", "val"}
    data = folder(root, tmp_path, classes=2)
    trained, held = reds(data), reds(data, "test")
    assert len(trained) == len(held) == 2
    assert max(trained) < min(held)
    assert reds(data, "val") == held
    assert data.has("test")
    assert data.reference("test").class_names == ["cat", "dog"]
    (more,) = (plain(120),)
    root = write(tmp_path / "more", {**tree, "test/cat/e.png": more, "test/dog/f.png": more}, form)
    data = folder(root, tmp_path, classes=2)
    assert min(reds(data, "test")) > max(reds(data, "val")) > max(reds(data))
    # Another root for the test wins, and its own splits count
    other = folder(
        root, tmp_path, classes=2, test_root=str(write(tmp_path / "own", {"a/1.png": A, "b/1.png": B}, form))
    )
    assert max(reds(other, "test")) < min(reds(other))
    masked = Masked(root=str(root), resolution=S, overlap=0, cache=str(tmp_path / "cache"), flip=False)
    assert masked.held_out().split == "test"
    large = SuperResolution(root=str(root), resolution=S, cache=str(tmp_path / "cache"))
    assert (large.size, len(large.images("test"))) == (2, 2)
    two = Unpaired(
        root=None, root_a=str(root), root_b=str(root), resolution=S, cache=str(tmp_path / "cache"), flip=False
    )
    assert (len(two.reference("train_a")), len(two.reference("test_b")), len(two.fixed(5)["real_a"])) == (2, 2, 5)


def test_pairs_are_split_by_folders_of_any_of_the_names(tmp_path: Path) -> None:
    both = encoded(Image.new("RGB", (2 * S, S)))
    write(tmp_path / "side", {"training/a.png": both, "valid/b.png": both, "valid/c.png": both}, "folder")
    data = Paired(root=str(tmp_path / "side"), resolution=S, cache=str(tmp_path / "cache"))
    assert (data.size, data.held_out().split, data.held_out().number) == (1, "val", 2)


def test_splits_without_one_to_train_on(tmp_path: Path) -> None:
    root = write(tmp_path / "images", {"test/a.png": A, "val/b.png": B}, "folder")
    with pytest.raises(ConfigError, match=r"has the folders test, val, which are splits.*call one of them train"):
        folder(root, tmp_path).setup()
    assert not folder(write(tmp_path / "no", {"cat/a.png": A}, "folder"), tmp_path).has("test")


def test_the_number_of_classes_counts_those_left(tmp_path: Path) -> None:
    tree = {"cat/a.png": A, "dog/b.png": B, "notes/read.txt": b"hello"}
    root = write(tmp_path / "images", tree, "folder")
    with pytest.raises(
        ConfigError, match=r"classes=3, but .* has 2 classes \(cat, dog\); no image in notes: type .*=2"
    ):
        folder(root, tmp_path, classes=3).setup()
    root = write(tmp_path / "shards", NVIDIA, "folder")
    with pytest.raises(ConfigError, match=r"classes=2, but .* has 0 classes; 00000 to 00001 are parts of one set"):
        folder(root, tmp_path, classes=2).setup()
    # A class of which a limit takes no image, or a broken one, stays
    tree = {"cat/a.png": A, "cat/b.png": B, "dog/a.png": b"", "dog/b.png": B}
    data = folder(write(tmp_path / "limited", tree, "folder"), tmp_path, classes=2, limit=2)
    data.setup()
    assert data.class_names == ["cat", "dog"]
    assert data.reference().labels.tolist() == [0]


def test_an_old_cache_opens_and_one_with_classes_of_no_image_is_built_anew(tmp_path: Path) -> None:
    def aged(tree: Tree, name: str) -> tuple[Folder, int]:
        root = write(tmp_path / name, tree, "folder")
        images = cached(Files(root), Settings(S, 1), str(tmp_path / "cache"))
        facts = json.loads((images.folder / "facts.json").read_text())
        del facts["met"], facts["empty_classes"], facts["checksum"]
        facts["class_names"] = sorted({path.split("/")[0] for path in tree if "/" in path})
        (images.folder / "facts.json").write_text(json.dumps(facts))
        (images.folder / VERIFIED).unlink()
        return folder(root, tmp_path, classes=2), (images.folder / "images.npy").stat().st_ino

    data, before = aged({"cat/a.png": A, "dog/b.png": B}, "right")
    assert data.understood() == ["classes   2: cat 1, dog 1"]
    assert (data.training().folder / "images.npy").stat().st_ino == before
    data, before = aged({"cat/a.png": A, "dog/b.png": B, "notes/read.txt": b"x"}, "wrong")
    assert data.class_names == ["cat", "dog"]


def test_keys_of_caches_are_those_of_before(tmp_path: Path) -> None:
    """Two settings that came later are in the key only where they are used."""
    root = write(tmp_path / "images", {"a.gif": animated(2)}, "folder")
    assert Settings(S, 1).plain() == {"resolution": S, "channels": 1, "crop": None}
    assert len(Files(root).identity()) == 4
    places = {
        cached(Files(root, frames=frames), Settings(S, 1, range=given), str(tmp_path / "cache")).folder
        for frames in ("first", "all")
        for given in (None, "auto", (0.0, 99.0))
    }
    assert len(places) == 6


# Values


@pytest.mark.parametrize(
    ("raw", "said", "typed"),
    [
        ([ramp(0, 2000, kind="PNG")], r"1 files of 16-bit grey hold the values 0..2000, nearly black", (0, 2000)),
        ([ramp(0, 4095)], r"hold the values 0..4095, nearly black on the scale of 0..65535", (0, 4095)),
        ([deep_png(0, 4095)], r"1 files of 16-bit RGB hold the values 0..4095, nearly black", (0, 4095)),
        (
            [ramp(-1000, 3000, np.int32)],
            r"32-bit grey hold the values -1000..3000, which would be cut off",
            (-1000, 3000),
        ),
        ([ramp(0, 70000, np.int32)], r"values 0..70000, which would be cut off at 0 and 65535", (0, 70000)),
        ([ramp(-1, 1, np.float32)], r"floating-point grey hold the values -1..1, which would be cut off", (-1, 1)),
        ([ramp(0, 1.5, np.float32)], r"values 0..1.5, nearly black on the scale of 0..255", (0, 1.5)),
        ([ramp(0, 300, np.float32)], r"values 0..300, which would be cut off at 0 and 255", (0, 300)),
        ([ramp(0, 1, np.float32), ramp(0, 255, np.float32)], r"some of which would be read as of 1, others", (0, 255)),
    ],
    ids=["2000", "12 bits", "12 bits in colour", "signed", "beyond 16 bits", "-1 to 1", "1.5", "300", "two scales"],
)
def test_values_that_would_be_cut_off_or_black_are_refused_and_a_range_sets_them_right(
    raw: list[bytes], said: str, typed: tuple[float, float], tmp_path: Path
) -> None:
    root = write(tmp_path / "images", {f"{i}.x": part for i, part in enumerate(raw)}, "folder")
    words = re.escape(f"data.range=[{typed[0]},{typed[1]}]")
    with pytest.raises(ConfigError, match=f"{said}.*: type data.range=auto .*{words}"):
        folder(root, tmp_path).setup()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    wanted = np.rint(np.linspace(0, 255, S * S)).reshape(S, S)
    for given in ("auto", typed, [float(value) for value in typed]):
        data = folder(root, tmp_path, range=given)
        assert np.abs(data.reference().pixels[-1, 0].numpy() - wanted).max() <= 1
        assert f"; {typed[0]} becomes black and {typed[1]} white" in data.understood()[1]
    half = folder(root, tmp_path, range=[typed[0], (typed[0] + typed[1]) / 2])
    assert (half.reference().pixels[-1] == 255).float().mean() > 0.4
    with pytest.raises(ConfigError, match="write them as 8-bit images first"):
        cached(Files(root, "fake"), Settings(S, 1), str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "raw",
    [
        ramp(0, 65535),
        ramp(0, 65535, kind="PNG"),
        ramp(0, 255, np.int32),
        ramp(0, 1, np.float32),
        ramp(0, 255, np.float32),
        deep_png(0, 65535),
    ],
)
def test_whole_scales_need_no_range(raw: bytes, tmp_path: Path) -> None:
    data = folder(write(tmp_path / "images", {"a.x": raw}, "folder"), tmp_path)
    assert np.abs(data.reference().pixels[0, 0].numpy() - np.linspace(0, 255, S * S).reshape(S, S)).max() <= 1.01


def test_a_range_leaves_8_bits_alone(tmp_path: Path) -> None:
    tree = {"a.png": plain(50), "b.jpg": encoded(Image.new("RGB", (S, S), (90, 90, 90)), "JPEG")}
    root = write(tmp_path / "images", tree, "folder")
    assert reds(folder(root, tmp_path)) == reds(folder(root, tmp_path, range=[0, 10]))
    assert "data.range changes none of 8 bits" in folder(root, tmp_path, range=[0, 10]).understood()[1]
    assert "range" not in folder(root, tmp_path, range="auto").training().about.met


def test_what_is_held_out_has_the_range_of_what_is_trained_on(tmp_path: Path) -> None:
    tree = {"train/a.png": ramp(0, 2000, kind="PNG"), "test/a.png": ramp(0, 1000, kind="PNG")}
    root = str(write(tmp_path / "images", tree, "folder"))
    options: dict[str, Any] = {"resolution": S, "channels": 1, "cache": str(tmp_path / "cache"), "range": "auto"}
    for data in (
        Folder(root=root, **options),
        Masked(root=root, overlap=0, **options),
        Unpaired(root=None, root_a=root, root_b=root, **options),
        SuperResolution(root=root, **options),
        Paired(root=None, root_a=root, root_b=root, **options),
    ):
        test = data.held_out().batch(0) if isinstance(data, (SuperResolution, Paired)) else None
        pixels = (
            data.reference("test").pixels
            if test is None
            else (test["high" if "high" in test else "target"] + 1) * 127.5
        )
        assert pixels.max().item() == pytest.approx(127.5, abs=1), data.title


@pytest.mark.parametrize(
    "given", [[1], [5, 5], [9, 1], "banana", 7, [0, float("inf")], [0, True], ["a", "b"], [0, 1, 2]]
)
def test_ranges_that_are_none(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"data.range=.*as data.range=\[0,4095\], or data.range=auto"):
        Folder(range=given)


def test_values_that_are_no_numbers_leave_a_file_out(tmp_path: Path) -> None:
    tree = {"a.tif": ramp(0, np.nan, np.float32), "b.tif": ramp(0, 1, np.float32)}
    data = folder(write(tmp_path / "images", tree, "folder"), tmp_path)
    assert data.understood()[-1] == "left out  1 file: a.tif (holds values that are no numbers)"


# Frames


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_all_frames(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_experiments.data.sources.TASK", 2)  # a file's frames are decoded some at a time
    tree = {
        "cat/a.gif": animated(5),
        "cat/b.png": encoded(Image.new("L", (S, S), 200)),
        "dog/c.tif": animated(3, "TIFF"),
    }
    root = write(tmp_path / "images", tree, form)
    first = folder(root, tmp_path, classes=2)
    assert reds(first) == [20, 200, 20]
    data = folder(root, tmp_path, classes=2, frames="all")
    assert reds(data) == [20, 40, 60, 80, 100, 200, 20, 40, 60]
    assert data.reference().labels.tolist() == [0] * 6 + [1] * 3
    assert "frames    2 files with 8 frames; all are taken" in data.understood()
    assert reds(folder(root, tmp_path, classes=2, frames="all", limit=3)) == [20, 80, 20]
    for kind in (Masked, Unpaired):
        given = {"root": None, "root_a": str(root), "root_b": str(root)} if kind is Unpaired else {"root": str(root)}
        data = kind(
            **given,
            resolution=S,
            cache=str(tmp_path / "cache"),
            frames="all",
            **({"overlap": 0} if kind is Masked else {}),
        )
        assert data.size == 9


def test_frames_that_are_none() -> None:
    with pytest.raises(ConfigError, match=r"data.frames=last: type data.frames=first or all"):
        Folder(frames="last")
    for kind in (Paired, SuperResolution):
        with pytest.raises(ConfigError, match=r"data.frames=all: type data.frames=first$"):
            kind(resolution=S, frames="all")


def test_frames_of_pairs_are_said(tmp_path: Path) -> None:
    for name in ("trainA", "trainB"):
        write(tmp_path / name, {"a.gif": animated(3)}, "folder")
    data = Paired(root=str(tmp_path), resolution=S, cache=str(tmp_path / "cache"))
    assert "frames    2 files with 6 frames; the first of each is taken" in data.understood()


def test_what_cannot_take_all_frames_does_not_advise_it(tmp_path: Path) -> None:
    root = write(tmp_path / "images", {"a.gif": animated(3)}, "folder")
    data = SuperResolution(root=str(root), resolution=S, cache=str(tmp_path / "cache"))
    assert data.understood()[-1] == "frames    1 file with 3 frames; the first of each is taken"


def test_frames_are_decoded_one_by_one_or_some_at_once() -> None:
    raw = animated(2)
    assert decode(raw, S, 1).shape == (1, S, S)
    assert decode(raw, S, 1, frames=(0, 1)).shape == (2, 1, S, S)


# Names and numbers


def test_a_name_wins_over_a_number(caplog: pytest.LogCaptureFixture) -> None:
    model = SimpleNamespace(classes=3, class_names=["1", "10", "2"])
    asked: Callable[[object], int] = lambda word: NoiseToImage.class_number(model, word)  # noqa: E731
    assert [asked(word) for word in (1, "1", 2, "2", 10)] == [0, 0, 2, 2, 1]
    assert "class=1 is the class of that name, number 0; number 1 is the class 10" in caplog.text
    caplog.clear()
    assert asked(0) == 0  # no class has that name
    model.class_names = ["cat", "dog", "emu"]
    assert [asked(word) for word in (1, "emu")] == [1, 2]
    model.class_names = ["0", "1", "2"]
    assert [asked(word) for word in (0, 1, 2)] == [0, 1, 2]
    assert caplog.text == ""
    with pytest.raises(ConfigError, match="type a number of 0 to 2, or a name: 0, 1, 2"):
        asked(3)


def test_a_direction_by_name_or_number(caplog: pytest.LogCaptureFixture) -> None:
    directions = {name: Direction("real", number=number) for number, name in enumerate(["1", "10", "2"])}
    model = SimpleNamespace(directions=directions)
    assert [ImageToImage.direction(model, word) for word in ("1", "10", "2", "0")] == ["1", "10", "2", "1"]
    assert "to=1 is the class of that name, number 0; number 1 is the class 10" in caplog.text
    assert number_of("10", ["1", "10"], "to=10") == 1


# What is shown


SETS = {
    **SMALL_DATA,
    "digits": lambda root: [],
    "ring": lambda root: [],
    "grid": lambda root: [],
    "drums": lambda root: [],
    "shapes": lambda root: [],
}


@pytest.mark.parametrize("choice", SETS)
def test_a_sheet_of_what_the_network_is_shown(choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[list[str]] = []

    def captioned(cells: torch.Tensor, below: list[str], titles: list[str], *side: int) -> torch.Tensor:
        said.extend([below, titles])
        return drawing.captioned(cells, below, titles, *side)

    for kind in ("image", "wave", "clip"):
        monkeypatch.setattr(f"gan_experiments.kinds.{kind}.captioned", captioned)
    words = small_data(tmp_path / "run", choice) if choice in SMALL_DATA else []
    data = build.make(compose(tmp_path / "run", f"data={choice}", *words, "metrics=none").data)
    data.prepare_data()
    data.setup("fit")
    picture = real_sheet(data)
    assert (picture.dtype, len(picture)) == (torch.uint8, 3)
    assert len(picture.unique()) >= 2
    keys = {"unpaired": ["real_a", "real_b"], "paired": ["input", "target"], "glyphs": ["input", "target"]}
    keys |= {key: ["low", "high"] for key in ("super_resolution", "super_resolution_128")}
    keys |= {key: ["real", "real and hole"] for key in ("masked", "masked_random")}
    keys |= {key: ["real", "wrong"] for key in ("captioned", "captioned_digits")}
    if choice in ("ring", "grid", "shapes", "voxels"):
        assert said == []
    elif choice in ("captioned", "captioned_digits"):
        assert said[0] == keys[choice]
        assert set(said[1]) <= {" ".join(words_of(one)) for some in data.captions_of("train") for one in some}
    else:
        assert said[0] == keys.get(choice, [""])
        names = ["Male", "Young"] if choice == "domains_celeba" else data.class_names
        names = titled(data.conditions.rows) if choice in ("posed", "posed_shapes") else names
        assert {name for title in said[1] for name in title.split(", ") if name} <= {*names}
        assert any(said[1]) == bool(names)
    assert build.understood(data)[0] == data.describe()
    if choice in SMALL_DATA and choice not in ("glyphs", "waves", "voxels", "clips", "moving_digits", "posed_shapes"):
        assert "8-bit RGB" in "\n".join(build.understood(data))


def test_a_long_list_of_classes_is_shortened() -> None:
    counts = {f"c{i}": i + 1 for i in range(40)}
    (line,) = lines(820, counts, About())
    assert line.startswith("classes   40: c0 1, c1 2, ")
    assert line.endswith("c9 10, ...; from 1 (c0) to 40 (c39)")


def test_the_check_shows_the_data_and_refuses_what_the_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "forecast", lambda cfg, data, *_: "\n".join(data))
    root = write(tmp_path / "images", {"cat/a.png": A, "dog/b.png": B}, "folder")
    words = ["data=folder", f"data.root={root}", f"data.cache={tmp_path / 'cache'}", "metrics=none"]
    report.tell_forecast(compose(tmp_path, *words, "data.classes=2"))
    shown = capsys.readouterr().out
    assert "2 images 3x64x64, 2 classes\n  classes   2: cat 1, dog 1\n  sizes     all 8x8\n" in shown
    with pytest.raises(ConfigError, match=r"type data\.classes=2"):
        report.tell_forecast(compose(tmp_path, *words, "data.classes=3"))
    assert capsys.readouterr().out == "data: not as asked for, see the last line\n"
    words = ["data=mnist", f"data.root={tmp_path / 'none'}", "metrics=none"]
    report.tell_forecast(compose(tmp_path, *words))
    assert "it is downloaded when the run begins" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_nothing_is_downloaded_where_it_is_not_wanted(tmp_path: Path) -> None:
    with without_downloads(), pytest.raises(ConfigError, match="it is downloaded when the run begins"):
        MNIST(root=str(tmp_path / "data")).prepare_data()
    assert not (tmp_path / "data").exists()


def test_a_run_says_and_shows_its_data_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(
        tmp_path / "images", {f"{name}/{i}.png": plain(40 * i) for name in ("cat", "dog") for i in range(4)}, "folder"
    )
    words = [
        f"data.root={root}",
        "data.resolution=8",
        "data.classes=2",
        "data.batch_size=4",
        "metrics=none",
        "images=4",
    ]
    run = build.build(compose(tmp_path / "run", "model=gan", "data=folder", *words))
    with caplog.at_level(logging.INFO):
        run.train(None)
    assert "2 classes\n  classes   2: cat 4, dog 4\n" in caplog.text
    picture = Image.open(tmp_path / "run" / "samples" / "real.png")
    assert picture.mode == "RGB"
    assert min(picture.size) > 64
