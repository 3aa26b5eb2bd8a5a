"""Layouts that people have: archives of any kind, several as one, lists of classes, patterns, and splits."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import run

from gan_experiments.contracts import ConfigError
from gan_experiments.data import archives, limits
from gan_experiments.data.archives import expanded, open_store
from gan_experiments.data.domains import Domains
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.images import Folder
from gan_experiments.data.masked import Masked
from gan_experiments.data.paired import Paired
from gan_experiments.data.sources import Files, splits_of
from gan_experiments.data.splits import Choice, is_held_out, matcher
from gan_experiments.data.super_resolution import SuperResolution
from gan_experiments.data.unpaired import Unpaired

Tree = dict[str, bytes]
S = 8


def grey(value: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (S, S), value).save(file, kind)
    return file.getvalue()


def write(path: Path, tree: Tree) -> str:
    """Write files into a folder, or into the archive that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, raw in tree.items():
                archive.writestr(name, raw)
    elif path.suffix in (".tar", ".gz", ".tgz", ".bz2", ".xz"):
        with tarfile.open(path, "w:" + {".tar": "", ".tgz": "gz"}.get(path.suffix, path.suffix[1:])) as archive:
            for name, raw in tree.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(raw)
                archive.addfile(entry, io.BytesIO(raw))
    else:
        for name, raw in tree.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(raw)
    return str(path)


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def opened(root: Any, cache: str, **options: Any) -> Folder:
    return Folder(root=root, resolution=S, channels=1, cache=cache, **options)


def found(data: ImageData, split: str = "train") -> dict[int, str | None]:
    """The images by their grey value, with their classes."""
    images = data.reference(split)
    values = images.pixels[:, 0, 0, 0].tolist()
    assert len(set(values)) == len(values)
    labels = images.labels
    return {v: None if labels is None else images.class_names[labels[i]] for i, v in enumerate(values)}


def said(data: ImageData) -> str:
    return "\n".join(data.understood())


PETS = {"cats/a.png": grey(10), "cats/b.png": grey(20), "dogs/a.png": grey(30)}
OF_PETS = {10: "cats", 20: "cats", 30: "dogs"}


# Archives


@pytest.mark.parametrize(
    "name", ["pets", "pets.zip", "pets.tar", "pets.tar.gz", "pets.tgz", "pets.tar.bz2", "pets.tar.xz"]
)
def test_a_folder_and_every_archive_of_it_are_the_same_set(name: str, tmp_path: Path, cache: str) -> None:
    for wrapper in ("", "wrapped/"):
        root = write(tmp_path / (wrapper or "plain") / name, {wrapper * ("." in name) + k: v for k, v in PETS.items()})
        for _ in range(2):  # the second time out of the cache
            data = opened(root, cache, classes=2)
            assert found(data) == OF_PETS
            assert data.reference().skipped == 0


def test_a_tar_archive_is_read_by_its_places_and_nothing_is_unpacked(tmp_path: Path, cache: str) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as archive:

        def add(name: str, raw: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = len(raw), kind
            for key, value in more.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(raw))

        add("../../up.png", grey(10))
        add("/etc/at.png", grey(20))
        add("./cats//dot.png", grey(30))
        add("link.png", kind=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("hard.png", kind=tarfile.LNKTYPE, linkname="cats/dot.png")
        add("pipe", kind=tarfile.FIFOTYPE)
        add("._hidden.png", b"x")
        add("twice.png", grey(40))
        add("twice.png", grey(50))
    before = sorted(tmp_path.rglob("*"))
    store = open_store(str(path), "data.root")
    assert sorted(store.stamps) == ["cats/dot.png", "etc/at.png", "twice.png", "up.png"]
    names = sorted(store.stamps)
    random.Random(0).shuffle(names)
    assert {name: Image.open(io.BytesIO(store.read(name))).getpixel((0, 0)) for name in names} == {
        "up.png": 10,
        "etc/at.png": 20,
        "cats/dot.png": 30,
        "twice.png": 50,
    }
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_and_enormous_archives_are_refused_in_one_line(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(write(tmp_path / "a.tar", {f"{i}.png": grey(i) for i in range(9)})).read_bytes()
    broken = bytearray(whole)
    broken[1024 * 4 : 1024 * 4 + 100] = b"x" * 100  # the header of 4.png
    faults = {
        "short.tar": whole[:3000],
        "short.tar.gz": gzip.compress(random.Random(0).randbytes(1) + whole)[:0] + gzip.compress(whole)[:200],
        "header.tar": bytes(broken),
        "text.tar": b"hello",
        "empty.tar": b"",
    }
    for name, raw in faults.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ConfigError, match=rf"data\.root=.*{name} is (damaged|no zip archive, nor a tar)") as error:
            opened(str(tmp_path / name), cache).setup()
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"none\.tar holds no files"):
        opened(write(tmp_path / "none.tar", {}), cache).setup()
    # What an archive claims is believed before its bytes are
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("zeros.png")
        entry.size = 1 << 50
        archive.addfile(entry)
    with pytest.raises(ConfigError, match=r"bomb\.tar\.gz needs 1,125,899,906\.8 MB or more in .* unpack it"):
        opened(str(tmp_path / "bomb.tar.gz"), cache).setup()
    name = tarfile.TarInfo("././@LongLink")
    name.size, name.type = 1 << 40, tarfile.GNUTYPE_LONGNAME
    (tmp_path / "name.tar").write_bytes(name.tobuf() + bytes(10240))
    with pytest.raises(ConfigError, match=r"name\.tar is (damaged|no zip archive, nor a tar)"):
        opened(str(tmp_path / "name.tar"), cache).setup()
    # A compressed one needs room only while it is read
    root = write(tmp_path / "room.tar.gz", PETS)
    usage = namedtuple("usage", "total used free")
    assert found(opened(root, cache, classes=2)) == OF_PETS
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage(1, 1, 100))
    with pytest.raises(ConfigError, match=r"room\.tar\.gz needs .* MB or more in .*set TMPDIR"):
        opened(root, cache, classes=2).setup()


def test_the_limit_of_a_file_holds_in_tar_archives(tmp_path: Path, cache: str) -> None:
    root = write(tmp_path / "a.tar", {"a.png": grey(10), "large.png": bytes(1_100_000)})
    data = opened(root, cache, max_pixels=1000)
    assert found(data) == {10: None}
    assert "large.png (1.1 MB, more than 4 bytes for each of data.max_pixels=1000" in said(data)
    assert limits.pixels() == limits.PIXELS


def test_identities_of_folders_and_zip_archives_are_those_of_before(tmp_path: Path) -> None:
    """The names of their caches depend on these lists, which older versions wrote as they stand here."""
    root = Path(write(tmp_path / "pets", {**PETS, "notes.txt": b"x"}))
    stamps = [[n, (root / n).stat().st_size, (root / n).stat().st_mtime_ns] for n in [*sorted(PETS), "notes.txt"]]
    assert Files(root).identity() == [[*sorted(PETS), "notes.txt"], [0, 0, 1, -1], stamps, ["cats", "dogs"]]
    path = write(tmp_path / "pets.zip", {f"in/{name}": raw for name, raw in PETS.items()})
    infos = {info.filename: info for info in zipfile.ZipFile(path).infolist()}
    names = sorted(infos)
    stamps = [[name, infos[name].file_size, infos[name].CRC] for name in names]
    assert Files(path).identity() == [names, [0, 0, 1], stamps, ["cats", "dogs"]]
    for options in ({}, {"choice": Choice(split_seed=3)}):
        assert Files(root, splits=("train",), **options).identity() == Files(root).identity()
    tree = {"00000/a.png": grey(1), "dataset.json": b'{"labels": [["00000/a.png", 0], ["missing.png", 2]]}'}
    assert Files(write(tmp_path / "nvidia", tree)).identity()[1:] == [
        [0],
        [["00000/a.png", len(grey(1)), (tmp_path / "nvidia/00000/a.png").stat().st_mtime_ns]],
        ["0", "1", "2"],
    ]


# Several as one


@pytest.mark.parametrize("kind", ["list", "folder", "stars", "braces", "folders"])
def test_several_are_one_set_with_classes_by_name(kind: str, tmp_path: Path, cache: str) -> None:
    suffix = "" if kind == "folders" else ".zip"
    write(tmp_path / f"in/set-000{suffix}", {"x/cats/a.png": grey(10), "x/dogs/b.png": grey(20)})
    write(tmp_path / f"in/set-001{suffix}", {"cats/a.png": grey(30), "birds/c.png": grey(40)})
    if kind == "folders":  # no wrappers around what is in a folder
        os.rename(tmp_path / "in/set-000/x/cats", tmp_path / "in/set-000/cats")
        os.rename(tmp_path / "in/set-000/x/dogs", tmp_path / "in/set-000/dogs")
        os.rmdir(tmp_path / "in/set-000/x")
    (tmp_path / "in" / "README.md").write_text("two parts")
    each = [str(tmp_path / f"in/set-00{i}{suffix}") for i in (0, 1)]
    root = {
        "list": each,
        "folders": each,
        "folder": str(tmp_path / "in"),
        "stars": str(tmp_path / "in/set-*.zip"),
        "braces": str(tmp_path / "in/set-{000..001}.zip"),
    }[kind]
    for _ in range(2):
        data = opened(root, cache, classes=3)
        assert found(data) == {10: "cats", 20: "dogs", 30: "cats", 40: "birds"}
        assert f"2 are read as one set: set-000{suffix}, set-001{suffix}" in said(data)
    assert Files(root).file(0) == f"set-000{suffix}/{'' if kind == 'folders' else 'x/'}cats/a.png"


def test_a_folder_of_archives_may_have_folders_for_splits_and_classes(tmp_path: Path, cache: str) -> None:
    write(tmp_path / "in/train/cats/0.tar", {"a.png": grey(10)})
    write(tmp_path / "in/train/dogs/0.tar", {"deep/a.png": grey(20), "b.png": grey(30)})
    write(tmp_path / "in/val/cats/0.tar", {"a.png": grey(40)})
    write(tmp_path / "in/val/dogs/0.tar", {"a.png": grey(50)})
    data = opened(str(tmp_path / "in"), cache, classes=2)
    assert found(data) == {10: "cats", 20: "dogs", 30: "dogs"}
    assert found(data, "test") == {40: "cats", 50: "dogs"}
    # A folder of images with an archive beside them is a folder of images
    write(tmp_path / "mixed", {"a.png": grey(10)})
    write(tmp_path / "mixed/old.zip", {"b.png": grey(20)})
    assert found(opened(str(tmp_path / "mixed"), cache)) == {10: None}


def test_what_several_roots_may_be(tmp_path: Path, cache: str) -> None:
    for name in ("x", "y"):
        write(tmp_path / name / "photos.zip", {"a.png": grey(10 if name == "x" else 20)})
    both = [str(tmp_path / name / "photos.zip") for name in ("x", "y")]
    assert [*open_store(both, "data.root").stamps] == ["x/photos.zip/a.png", "y/photos.zip/a.png"]
    assert expanded([both[0], both[0]]) == [Path(both[0])]
    assert [str(path) for path in expanded("no-{a,b}-{08..10}")] == [
        f"no-{x}-{n}" for x in "ab" for n in ("08", "09", "10")
    ]
    odd = write(tmp_path / "a{1,2}[x].zip", {"a.png": grey(10)})
    assert expanded(odd) == [Path(odd)]  # what is there is meant as it stands
    with pytest.raises(ConfigError, match=r"data\.root=.*/z\.zip does not exist: give"):
        opened([both[0], str(tmp_path / "z.zip")], cache).setup()
    with pytest.raises(ConfigError, match=r"data\.root=.*none-\*\.tar does not exist"):
        opened(str(tmp_path / "none-*.tar"), cache).setup()
    with pytest.raises(ConfigError, match=r"names more than 100,000 archives: type a folder"):
        opened("set-{0..99999999999}.tar", cache).setup()
    with pytest.raises(ConfigError, match=r"data\.root=\[\] names nothing"):
        opened([], cache).setup()
    assert "[" in opened(both, cache).title


# Lists of classes


def test_webdataset_archives(tmp_path: Path, cache: str) -> None:
    for shard in (0, 1):
        tree = {}
        for i in range(3):
            key = f"{shard}{i:04}"
            tree |= {f"{key}.jpg": grey(10 + 90 * shard + 30 * i, "JPEG"), f"{key}.txt": b"a caption"}
            tree |= {f"{key}.cls": f"{i}\n".encode(), f"{key}.json": b'{"label": "not this"}'}
        write(tmp_path / f"in/set-{shard:03}.tar", tree)
    data = opened(str(tmp_path / "in/set-{000..001}.tar"), cache, classes=3)
    assert found(data) == {10: "0", 40: "1", 70: "2", 100: "0", 130: "1", 160: "2"}
    assert data.reference().skipped == 0
    assert ".json and .cls give the classes of 6 of 6 images" in said(data)
    assert "6 .txt beside the images are not used" in said(data)
    # With names in .json, in a compressed archive, whose images have several suffixes
    tree = {}
    for i, name in enumerate(("tabby", "husky", "tabby")):
        tree |= {f"part/{i}.rgb.png": grey(10 + i), f"part/{i}.json": json.dumps({"class": name, "x": [1]}).encode()}
    data = opened(write(tmp_path / "names.tar.gz", tree), cache, classes=2)
    assert found(data) == {10: "tabby", 11: "husky", 12: "tabby"}
    # Those without any class are images all the same, and a pattern for the images does not lose the classes
    data = opened(write(tmp_path / "no.tar", {"a.png": grey(10), "a.json": b'{"url": "x"}', "b.json": b"{"}), cache)
    assert found(data) == {10: None}
    assert "1 .json beside the images are not used" in said(data)
    data = opened(str(tmp_path / "in"), cache, classes=3, include="*.jpg")
    assert found(data)[130] == "1"


def nvidia(labels: list[Any], tmp_path: Path, below: str = "", **more: bytes) -> str:
    names = [f"0000{i // 2}/img{i}.png" for i in range(len(labels))]
    tree = {f"{below}{name}": grey(10 * i) for i, name in enumerate(names)}
    listing = {"labels": list(zip(names, labels, strict=True))}
    return write(tmp_path / "nvidia", {**tree, f"{below}dataset.json": json.dumps(listing).encode(), **more})


def test_the_list_of_nvidias_tool_at_any_depth(tmp_path: Path, cache: str) -> None:
    root = nvidia([0, 1, [0, 1]], tmp_path, "sets/faces/")
    data = opened(root, cache, classes=2)
    assert found(data) == {0: "0", 10: "1", 20: "1"}
    assert "sets/faces/dataset.json gives the classes of 3 of 3 files" in said(data)
    os.rename(tmp_path / "nvidia/sets/faces/dataset.json", tmp_path / "nvidia/sets/dataset.json")
    assert found(opened(root, cache, classes=2)) == found(data)  # beside the folder of images that it lists


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (
            [[0.5, -1.5], [1, 2], [0, 1]],
            "dataset.json holds vectors of 2 numbers, which are no classes, and are not used",
        ),
        (
            [[1, 1, 0], [0, 0, 0], [0, 1, 0]],
            "dataset.json gives 3 attributes of 3 of 3 files, which are no classes and are not used; data=domains with",
        ),
    ],
)
def test_vectors_are_no_classes(labels: list[Any], note: str, tmp_path: Path, cache: str) -> None:
    root = nvidia(labels, tmp_path)
    data = opened(root, cache)
    assert len(found(data)) == 3
    assert note in said(data)
    with pytest.raises(ConfigError, match=f"has 0 classes; {note}"):
        opened(root, cache, classes=2).setup()


def test_vectors_of_zeros_and_ones_are_attributes(tmp_path: Path, cache: str) -> None:
    root = nvidia([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]], tmp_path)
    names = ["smiling", "young", "hat"]
    data = Domains(root, S, attributes=names, classes=3, batch_size=4, cache=cache)
    assert data.provides == {"real", "domain"}
    assert data.class_names == names
    assert data.counts(data.training()) == {"smiling": 2, "young": 2, "hat": 0}
    assert data.fixed(4)["domain"].tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]]
    batch = data.on_after_batch_transfer(data.stream().batch(0), 0)
    grey = ((batch["real"][:, 0, 0, 0] + 1) * 12.75).round().int().tolist()
    assert batch["domain"].tolist() == [data.fixed(4)["domain"][value].tolist() for value in grey]
    assert "dataset.json gives 3 attributes of 4 of 4 files" in said(data)
    for wrong, words in (
        (names[:2], "but .* has lists of 3 zeros and ones"),
        (["a"] * 4, "has lists of 3 zeros and ones"),
    ):
        with pytest.raises(ConfigError, match=rf"data\.attributes=\[.*{words} for its files in a dataset.json: type"):
            Domains(root, S, attributes=wrong, classes=len(wrong), cache=cache).setup()
    with pytest.raises(ConfigError, match=r"data\.classes=2 with 3 data\.attributes: type data\.classes=3"):
        Domains(root, S, attributes=names, cache=cache)
    plain = write(tmp_path / "pets", PETS)
    with pytest.raises(ConfigError, match=r"has no list of zeros and ones for its files"):
        Domains(plain, S, attributes=names, classes=3, cache=cache).setup()
    classes = nvidia([0, 1], tmp_path / "other")
    with pytest.raises(ConfigError, match=r"has no list of zeros and ones"):
        Domains(classes, S, attributes=names, classes=3, cache=cache).setup()


IMAGENET = {"train/n02012849/a.JPEG": grey(10, "JPEG"), "train/n03126707/b.JPEG": grey(40, "JPEG")}
IMAGENET |= {"train/n01440764/c.JPEG": grey(70, "JPEG"), "val/n01440764/d.JPEG": grey(100, "JPEG")}
IMAGENET |= {f"val/{wnid}/e.JPEG": grey(130 + i, "JPEG") for i, wnid in enumerate(("n02012849", "n03126707"))}
WORDS = b"n01440764%stench, Tinca tinca\nn02012849%scrane\nn03126707%scrane, lifting\nn09999999%sunused\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("LOC_synset_mapping.txt", WORDS.replace(b"%s", b" ")),
        ("words.txt", WORDS.replace(b"%s", b"\t")),
        ("classes.txt", WORDS.replace(b"%s", b" ")),
        ("classes.txt", b"tench, Tinca tinca\ncrane\ncrane, lifting\n"),
        ("train/classes.txt", b"tench\ncrane\ncrane\n"),
    ],
    ids=["mapping", "words", "classes", "in order", "in the split"],
)
def test_lists_name_the_folders_of_imagenet(file: str, text: bytes, tmp_path: Path, cache: str) -> None:
    data = opened(write(tmp_path / "imagenet", {**IMAGENET, file: text}), cache, classes=3)
    assert data.class_names == ["tench", "crane (n02012849)", "crane (n03126707)"]
    assert found(data) == {10: "crane (n02012849)", 40: "crane (n03126707)", 70: "tench"}
    assert f"{file.removeprefix('train/')} names the classes: n01440764 is tench" in said(data)
    assert "left out" not in said(data)
    if "/" not in file:
        assert found(data, "test")[100] == "tench"


def test_a_list_that_does_not_fit_the_folders_changes_nothing(tmp_path: Path, cache: str) -> None:
    for i, text in enumerate((b"dogs\ncats\n", b"one\ntwo\nthree\n", b"cats Katze\n", b"\xff\xfe")):
        data = opened(write(tmp_path / f"pets{i}", {**PETS, "classes.txt": text}), cache, classes=2)
        assert data.class_names == ["cats", "dogs"]
        assert data.reference().skipped == 1


NESTED = {"animals/cats/a.png": grey(10), "animals/dogs/b.png": grey(20), "things/cats/x/c.png": grey(30)}


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        (None, ["animals", "animals", "things"]),
        ("first", ["animals", "animals", "things"]),
        ("last", ["cats", "dogs", "x"]),
        (2, ["cats", "dogs", "cats"]),
        ("path", ["animals/cats", "animals/dogs", "things/cats/x"]),
    ],
)
def test_nested_folders(folder: str | int | None, names: list[str], tmp_path: Path, cache: str) -> None:
    root = write(tmp_path / "nested", NESTED)
    data = opened(root, cache, classes=len(set(names)), classes_from=folder)
    assert found(data) == dict(zip((10, 20, 30), names, strict=True))
    assert ("by data.classes_from" in said(data)) == (folder is not None)
    data = Domains(root, S, classes=len(set(names)), classes_from=folder, cache=cache)
    assert data.class_names == sorted(set(names))


def test_an_archive_for_each_class(tmp_path: Path, cache: str) -> None:
    """As ImageNet's training images are packed."""
    for i, name in enumerate(("n02012849", "n03126707", "n01440764")):
        write(tmp_path / "in" / f"{name}.tar", {f"{name}_{k}.png": grey(10 * i + k) for k in (0, 1)})
    write(tmp_path / "in", {"words.txt": WORDS.replace(b"%s", b"\t")})
    data = opened(str(tmp_path / "in"), cache, classes=3, classes_from="archive")
    assert data.class_names == ["tench", "crane (n02012849)", "crane (n03126707)"]
    assert found(data)[11] == "crane (n03126707)"
    assert "3 are read as one set: n01440764.tar, n02012849.tar, n03126707.tar" in said(data)
    assert data.reference().skipped == 0
    assert "the class of a file is its archive, by data.classes_from=archive" in said(data)
    data = opened(
        [str(tmp_path / f"in/{n}.tar") for n in ("n02012849", "n03126707")], cache, classes=2, classes_from="archive"
    )
    assert found(data) == {0: "n02012849", 1: "n02012849", 10: "n03126707", 11: "n03126707"}
    data = opened(str(tmp_path / "in/n02012849.tar"), cache, classes=1, classes_from="archive")
    with pytest.raises(ConfigError, match="has 0 classes"):
        data.setup()


def test_mistakes_about_classes(tmp_path: Path, cache: str) -> None:
    for wrong in ("middle", 0, -1, True):
        with pytest.raises(ConfigError, match=f"data.classes_from={wrong}: type data.classes_from=first, last, path"):
            opened("x", cache, classes_from=wrong)
    root = write(tmp_path / "nested", NESTED)
    with pytest.raises(ConfigError, match=r"some images of Folder .* lie in no class folder"):
        opened(root, cache, classes=1, classes_from=3).setup()
    with pytest.raises(ConfigError, match=r"data.classes_from=last: Masked has none"):
        Masked(root, 64, classes_from="last")


# Patterns


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.png", "a/b.PNG", True),
        ("*.png", "a/b.png.txt", False),
        ("thumbs", "a/Thumbs/b.png", True),
        ("thumb", "a/thumbs/b.png", False),
        ("a/*", "a/b/c.png", True),
        ("a/*", "x/a/c.png", False),
        ("./A/", "a/b/c.png", True),
        ("/a/b.*", "a/b.png", True),
        ("*/b*/*", "a/b1/c.png", True),
        ("img[0-2].png", "img1.png", True),
        ("?.png", "10.png", False),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert matcher(pattern)(path) is matches
    assert matcher(["no", pattern])(path) is matches


@pytest.mark.parametrize("name", ["pets", "pets.zip", "pets.tar"])
def test_include_and_exclude(name: str, tmp_path: Path, cache: str) -> None:
    tree = {**PETS, "cats/b_mask.PNG": grey(40), "thumbs/cats/a.png": grey(50), "notes.txt": b"x"}
    root = write(tmp_path / name, tree)
    data = opened(root, cache, classes=2, include="*.png", exclude=["*_mask.png", "thumbs"])
    assert found(data) == OF_PETS
    assert "left out by data.include=*.png: 1 file" in said(data)
    assert "left out by data.exclude=[*_mask.png,thumbs]: 2 files" in said(data)
    for key, pattern, words in (
        ("include", "*.jpg", r"data\.include=\*\.jpg matches none of the 6 files of .*, such as cats/a\.png"),
        ("exclude", "*", r"data\.exclude=\* matches all of the 6 files of .*, such as cats/a\.png"),
    ):
        with pytest.raises(ConfigError, match=words):
            opened(root, cache, **{key: pattern}).setup()
    for wrong in ("", [""], [3]):
        with pytest.raises(ConfigError, match=r"data\.include=.*: a pattern is needed"):
            opened(root, cache, include=wrong)
    assert "held out" not in said(opened(root, cache, exclude="cats/*"))


def test_patterns_leave_lists_of_classes_and_splits_apart(tmp_path: Path, cache: str) -> None:
    root = nvidia([1, 0], tmp_path, notes=b"x")
    assert found(opened(root, cache, classes=2, include="*.png")) == {0: "1", 10: "0"}
    with pytest.raises(ConfigError, match="has 0 classes"):
        opened(root, cache, classes=2, exclude="dataset.json").setup()
    tree = {"train/a.png": grey(10), "test/b.png": grey(20)}
    root = write(tmp_path / "split", tree)
    assert not opened(root, cache, exclude="test").has("test")
    assert opened(root, cache, exclude="*.jpg").has("test")
    both = {"x/a.png": grey(1), "x/b.png": grey(2), "y/a.jpg": grey(3, "JPEG"), "y/b.jpg": grey(4, "JPEG")}
    write(tmp_path / "pairs", both)
    pairs = {"root_a": str(tmp_path / "pairs/x"), "root_b": str(tmp_path / "pairs/y")}
    assert Paired(None, S, **pairs, exclude="b.*", cache=cache).size == 1
    with pytest.raises(ConfigError, match=r"data\.test_fraction=0\.1: Paired has none"):
        Paired(None, S, **pairs, test_fraction=0.1)


# Splits


MANY = {f"{'cats' if i % 2 else 'dogs'}/{i:03}.png": grey(i) for i in range(100)}


def test_a_share_is_held_out_by_names_alone(tmp_path: Path, cache: str) -> None:
    data = opened(write(tmp_path / "many", MANY), cache, classes=2, test_fraction=0.2)
    train, test = found(data), found(data, "test")
    assert not train.keys() & test.keys()
    assert {**train, **test} == {i: "cats" if i % 2 else "dogs" for i in range(100)}
    assert 10 <= len(test) <= 30
    assert f"{len(test)} of 100 files are held out by data.test_fraction=0.2, drawn by data.split_seed" in said(data)
    # Computed by hand, it is the same everywhere and always
    assert sorted(test) == [i for i in range(100) if is_held_out(f"{'cats' if i % 2 else 'dogs'}/{i:03}", 0.2, 0)]
    assert [i for i in range(20) if is_held_out(str(i), 0.5, 0)] == HELD_OUT
    # A zip archive and several, another order, more and fewer files: none of the others moves
    names = [*MANY]
    random.Random(0).shuffle(names)
    for part in (names, names[:50]):
        root = write(tmp_path / f"part{len(part)}.zip", {name: MANY[name] for name in part} | {"rats/1.png": grey(200)})
        more = opened(root, cache, test_fraction=0.2)
        assert found(more, "test").keys() - {200} == {int(name[5:8]) for name in part} & test.keys()
    halves = [write(tmp_path / f"{i}.tar", {n: MANY[n] for n in names[50 * i : 50 * i + 50]}) for i in (0, 1)]
    assert found(opened(halves, cache, test_fraction=0.2), "test").keys() == test.keys()
    # A larger share holds out the same and more; another seed others
    assert found(opened(halves, cache, test_fraction=0.5), "test").keys() > test.keys()
    assert found(opened(halves, cache, test_fraction=0.2, split_seed=1), "test").keys() != test.keys()


HELD_OUT = [0, 4, 6, 10, 11, 13, 14, 16, 18]  # sha256 of "0/0", "0/1", ... begins with less than 128


def test_every_kind_of_data_can_hold_out_a_share(tmp_path: Path, cache: str) -> None:
    root = write(tmp_path / "many", MANY)
    share = {"test_fraction": 0.2, "cache": cache, "channels": 1}
    test = found(opened(root, cache, test_fraction=0.2), "test").keys()
    domains = Domains(root, S, **share)
    assert found(domains, "test").keys() == test == found(Masked(root, S, overlap=0, **share), "test").keys()
    assert domains.unpaired("real", 0, "train")[0].split == "test"
    large = SuperResolution(root, S, **share)
    assert (large.size, len(large.images("test"))) == (100 - len(test), len(test))
    assert large.held_out().split == "test"
    two = Unpaired(None, S, root_a=root + "/cats", root_b=root + "/dogs", **share)
    assert [two._has_test(domain) for domain in "ab"] == [True, True]
    parts = [{*found(two, split)} for split in ("train_a", "test_a", "train_b", "test_b")]
    assert [sum(len(part) for part in parts), len(set().union(*parts))] == [100, 100]
    assert all(parts)


def test_mistakes_about_shares(tmp_path: Path, cache: str) -> None:
    for wrong in (1, -0.1, 2.5):
        with pytest.raises(ConfigError, match=rf"data\.test_fraction={wrong}: a part is needed"):
            opened("x", cache, test_fraction=wrong)
    root = write(tmp_path / "few", PETS)
    with pytest.raises(
        ConfigError, match=r"=1e-06 with data\.split_seed=0 has all 3 files of .* in the split train: type an"
    ):
        opened(root, cache, test_fraction=1e-6).setup()
    ten = write(tmp_path / "ten", {f"{i}.png": grey(i) for i in range(10)})
    with pytest.raises(ConfigError, match=r"has all 10 files of .* in the split train: type data\.split_seed=1$"):
        opened(ten, cache, test_fraction=0.2).setup()
    assert len(found(opened(ten, cache, test_fraction=0.2, split_seed=3), "test")) == 2
    other = write(tmp_path / "other", PETS)
    with pytest.raises(ConfigError, match=r"test_fraction=0\.5 with data\.test_root=.*: one or the other"):
        opened(root, cache, test_fraction=0.5, test_root=other).setup()
    split = write(tmp_path / "split", {"train/a.png": grey(1), "test/b.png": grey(2)})
    with pytest.raises(ConfigError, match=r"test_fraction=0\.5, but .* has the folders test, train, which are splits"):
        opened(split, cache, test_fraction=0.5).setup()
    with pytest.raises(ConfigError, match=r"test_fraction=0\.5 with data\.low_root="):
        SuperResolution(root, S, low_root=other, test_fraction=0.5, cache=cache).setup()
    only = write(tmp_path / "only", {f"train/{name}": raw for name, raw in MANY.items()})
    data = opened(only, cache, classes=2, test_fraction=0.2)
    assert len(found(data)) + len(found(data, "test")) == 100


LISTS: dict[str, tuple[Tree, Any]] = {
    "of those to train on": ({"l.txt": b"cats/a.png\ndogs/a.png\n"}, "l.txt"),
    "for each split": (
        {"1.txt": b"cats/a.png\ndogs/a.png\n", "2.txt": b"cats/b.png"},
        {"train": "1.txt", "test": "2.txt"},
    ),
    "of the test alone": ({"2.txt": b"cats/b.png\n"}, {"test": "2.txt"}),
    "without suffixes": ({"1.txt": b"cats/a\ndogs/a\n", "2.txt": b"cats/b"}, {"training": "1.txt", "VAL": "2.txt"}),
    "with folders in front": ({"2.txt": b"/data/pets/images/cats/b.png\n"}, {"test": "2.txt"}),
    "of names": ({"2.txt": b"b.png\n"}, {"test": "2.txt"}),
    "with a column": ({"l.txt": b"cats/a.png train\ncats/b.png test\ndogs/a.png train\n"}, "l.txt"),
    "csv": (
        {"l.csv": b"\xef\xbb\xbfpath,split\r\ncats/a.png,train\r\ncats/b.png,TEST\r\ndogs/a.png,train\r\n"},
        "l.csv",
    ),
    "tsv": ({"l.tsv": b"dogs/a.png\ttrain\ncats/a.png\ttrain\ncats/b.png\tvalid\n"}, "l.tsv"),
    "CUB's": (
        {"images.txt": b"1 cats/a.png\n2 cats/b.png\n3 dogs/a.png\n", "train_test_split.txt": b"1 1\n2 0\n3 1\n"},
        "train_test_split.txt",
    ),
}


@pytest.mark.parametrize("case", LISTS)
def test_lists_split_files(case: str, tmp_path: Path, cache: str) -> None:
    lists, given = LISTS[case]
    write(tmp_path / "lists", lists)
    where = str(tmp_path / "lists") + "/"
    typed = where + given if isinstance(given, str) else {split: where + file for split, file in given.items()}
    data = opened(write(tmp_path / "pets", PETS), cache, classes=2, split_list=typed)
    assert found(data) == {10: "cats", 30: "dogs"}
    if case == "of those to train on":
        assert not data.has("test")
        assert "l.txt lists train 2" in said(data)
        assert "1 file left out, as no list names them" in said(data)
    else:
        assert data.has("test")
        assert len(data.reference("test")) == 1 if data.classes == 2 else False


def test_lists_give_classes(tmp_path: Path, cache: str) -> None:
    flat = {f"my cat {i}.png": grey(10 * i) for i in range(4)}
    root = write(tmp_path / "flat", flat)
    table = b"file,label,set\nmy cat 0.png,tabby,train\nmy cat 1.png,siam,train\nmy cat 2.png,tabby,test\n"
    table += b"my cat 3.png,siam,test\nmissing.png,tabby,test\n"
    write(tmp_path, {"l.csv": table, "l.txt": b"0.png 10\n1.png 9\n"})
    data = opened(root, cache, classes=2, split_list=str(tmp_path / "l.csv"))
    assert found(data) == {0: "tabby", 10: "siam"}
    assert found(data, "test") == {20: "tabby", 30: "siam"}
    assert "l.csv lists train 2, test 2; 1 of its lines name no file; it gives the classes" in said(data)
    root = write(tmp_path / "numbers", {"0.png": grey(0), "1.png": grey(10), "2.png": grey(20)})
    data = opened(root, cache, classes=2, split_list=str(tmp_path / "l.txt"))
    assert data.class_names == ["9", "10"]
    assert found(data) == {0: "10", 10: "9"}


def test_mistakes_about_lists(tmp_path: Path, cache: str) -> None:
    root = write(tmp_path / "pets", PETS)
    files = {
        "none.txt": b"x/1.jpg\nx/2.jpg\n",
        "empty.txt": b"\n",
        "bytes.txt": b"\xff\xfe\x00",
        "both.txt": b"cats/a.png",
    }
    files["odd.csv"] = b"path,split\ncats/a.png,train\ncats/b.png,maybe\n"
    write(tmp_path, files)
    for given, words in {
        "none.txt": r"none of its 2 lines \(x/1\.jpg, x/2\.jpg\) is a file of .* \(cats/a\.png, .*: write a path below",
        "empty.txt": "empty.txt is empty: write a path",
        "bytes.txt": "is no text in UTF-8",
        "missing.txt": r"cannot be read \(No such file or directory\)",
        "odd.csv": r"the column of splits has 'maybe', which is none: write train, val or test there",
    }.items():
        with pytest.raises(ConfigError, match=words) as error:
            opened(root, cache, split_list=str(tmp_path / given)).setup()
        assert "\n" not in str(error.value)
    twice = {"train": str(tmp_path / "both.txt"), "test": str(tmp_path / "both.txt")}
    with pytest.raises(ConfigError, match=r"has cats/a\.png in test and in train: leave one of them"):
        opened(root, cache, split_list=twice).setup()
    with pytest.raises(ConfigError, match=r"data\.split_list=\{dev\}: a file for each split is needed"):
        opened(root, cache, split_list={"dev": "x"})
    with pytest.raises(ConfigError, match="a list or a share splits the files"):
        opened(root, cache, split_list="x", test_fraction=0.5)


def test_splits_of_what_is_not_there(tmp_path: Path) -> None:
    assert splits_of(str(tmp_path / "nowhere")) == set()
    assert splits_of([]) == set()


# Runs


def test_runs_on_layouts(tmp_path: Path) -> None:
    photos = {f"{c}/{i}.png": grey(40 * i + 20 * (c == "b")) for c in "ab" for i in range(6)}
    tree = {f"k{i:03}.{end}": raw for i in range(8) for end, raw in (("png", grey(20 * i)), ("cls", b"%d" % (i % 2)))}
    shards = [write(tmp_path / f"set-{i:03}.tar", {f"{i}{k}": v for k, v in tree.items()}) for i in (0, 1)]
    write(tmp_path / "photos.zip", photos)
    small = ["data=folder", "data.resolution=16", "data.channels=1", "data.batch_size=4", "images=8", "metrics=none"]
    small += [
        "model.generator.width=4",
        "model.discriminator.width=4",
        "trainer=cpu",
        f"data.cache={tmp_path / 'cache'}",
    ]
    several = [f"data.root=[{','.join(shards)}]", "model=acgan", "data.classes=2"]
    part = [f"data.root={tmp_path / 'photos.zip'}", "data.include=a/*", "data.test_fraction=0.3", "data.split_seed=1"]
    for output, words, line in (
        ("a", several, "2 are read as one set"),
        ("b", part, "left out by data.include=a/*: 6"),
    ):
        done = run(*words, *small, f"output={output}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert line in done.stdout + done.stderr
        assert (tmp_path / output / "samples" / "real.png").is_file()
    done = run(
        "data=folder", f"data.root={shards[0]}", f"data.root={shards[1]}", *small, folder=tmp_path
    )  # bash's {0,1}
    assert done.returncode == 2
    assert f"data.root is typed twice; type data.root=[{','.join(shards)}] for both" in done.stderr
