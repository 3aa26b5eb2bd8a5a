"""Images that a table lists, and sets of the hub: columns found and named, and each fault in one line."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import compose, require_exact, run, shrink

from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.data.domains import Domains
from gan_experiments.data.download import NotDownloadedError, without_downloads
from gan_experiments.data.hub import Hub
from gan_experiments.data.table import Table

S = 8
PEOPLE = [  # path, species, smiling, male, part, name
    ("a.png", "cat", "1", "0", "train", "A"),
    ("b.png", "dog", "0", "yes", "train", "B"),
    ("in/c.png", "cat", "true", "-1", "val", "C, the third"),
    ("in/d.png", "dog", "No", "TRUE", "Training", "D"),
]
COLUMNS = ("path", "species", "smiling", "male", "part", "name")


def images(root: Path) -> Path:
    for row, (name, *_) in enumerate(PEOPLE):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (S, S), (10 * row + 10, 0, 0)).save(root / name)
    return root


def written(root: Path, kind: str = "csv", rows: Any = PEOPLE, columns: Any = COLUMNS, name: str = "people") -> Path:
    """The table of the people as a file of a kind, with its images beside it."""
    path = images(root) / f"{name}.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(columns, row, strict=False))) for row in rows))
    elif kind == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({name: [row[i] for row in rows] for i, name in enumerate(columns)}), path)
    else:
        quote = (lambda value: f'"{value}"' if "," in value else value) if kind == "csv" else str
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join(quote(value) for value in row) for row in [columns, *rows]]
        path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    return path


def table(file: Path, tmp_path: Path, **options: Any) -> Table:
    return Table(str(file), **{"resolution": S, "cache": str(tmp_path / "cache"), "batch_size": 2} | options)


def reds(data: Table, split: str = "train") -> list[int]:
    return data.reference(split).pixels[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_of_any_kind(kind: str, tmp_path: Path) -> None:
    file = written(tmp_path / "set", kind)
    data = table(file, tmp_path, image="path", label="species", classes=2)
    assert (data.class_names, data.reference().labels.tolist()) == (["cat", "dog"], [0, 1, 0, 1])
    assert reds(data) == [10, 20, 30, 40]
    assert data.provides == {"real", "label", "domain"}
    assert data.understood()[0] == "classes   2: cat 2, dog 2"
    plain = table(file, tmp_path)
    assert plain.provides == {"real"}
    assert plain.understood()[0] == f"folders   column path has the paths; of the columns {', '.join(COLUMNS)}"
    # The paths are relative to the table, or to a root, or to nothing
    moved = file.rename(tmp_path / file.name)
    assert reds(table(moved, tmp_path, root=str(tmp_path / "set"))) == [10, 20, 30, 40]
    absolute = [(str(tmp_path / "set" / name), *rest) for name, *rest in PEOPLE]
    assert reds(table(written(tmp_path / "other", kind, absolute), tmp_path)) == [10, 20, 30, 40]


def test_splits_by_a_column_or_a_second_table(tmp_path: Path) -> None:
    file = written(tmp_path / "set")
    data = table(file, tmp_path, split="part", label="species", classes=2)
    assert (reds(data), reds(data, "val"), reds(data, "test")) == ([10, 20, 40], [30], [30])
    assert data.reference("test").labels.tolist() == [0]
    assert (data.has("test"), data.has("val"), table(file, tmp_path).has("test")) == (True, True, False)
    assert "folders   column part: 3 of 4 rows are train" in data.understood()
    with pytest.raises(ConfigError, match=r"no split 'test': type data.split= a column, or data.test_file="):
        table(file, tmp_path).reference("test")
    second = written(tmp_path / "set", rows=PEOPLE[3:], name="test")
    both = table(file, tmp_path, label="species", classes=2, test_file=str(second))
    assert (reds(both, "test"), both.reference("test").labels.tolist()) == ([40], [1])


def test_numbers_are_classes_by_their_names(tmp_path: Path) -> None:
    rows = [(name, number) for (name, *_), number in zip(PEOPLE, ("10", "2", "2", "10"), strict=True)]
    data = table(written(tmp_path / "set", rows=rows, columns=("file", "label")), tmp_path, classes=2)
    assert (data.class_names, data.reference().labels.tolist()) == (["2", "10"], [1, 0, 0, 1])


def test_attributes_are_domains(tmp_path: Path) -> None:
    data = table(written(tmp_path / "set"), tmp_path, attributes=["smiling", "male"], classes=2, split="part")
    assert data.provides == {"real", "domain"}
    assert data.fixed(3)["domain"].tolist() == [[1, 0], [0, 1], [0, 1]]
    assert data.shapes["domain"] == (2,)
    assert data.understood()[-3] == "classes   2: smiling 1, male 2"
    outside, inside = data.unpaired("real", 0, "train")
    assert (outside.split, outside.number, len(inside)) == ("test", 0, 1)
    outside, inside = data.unpaired("real", 1, "train")
    assert (outside.number, len(inside)) == (1, 2)
    assert outside.batch(0)["domain"].tolist() == [[1, 0]]
    labelled = table(written(tmp_path / "set"), tmp_path, label="species", classes=2)
    folders = Domains(str(tmp_path / "set"), S, 2, cache=str(tmp_path / "cache"))  # the same in the base
    assert labelled.fixed(2)["domain"].tolist() == torch.eye(2).tolist()
    assert set(labelled.fixed(2)) == {*folders.provides}
    require_exact(lambda **options: table(written(tmp_path / "set"), tmp_path, label="species", classes=2, **options))


@pytest.mark.parametrize("words", [["data.attributes=[smiling,male]"], ["data.label=species"]])
def test_stargan_trains_on_a_table(words: list[str], tmp_path: Path) -> None:
    file = written(tmp_path / "set")
    size = ["data.resolution=32", "data.batch_size=2", "images=4", "data.classes=2"]
    cfg = shrink(compose(tmp_path / "r", "model=stargan", "data=table", f"data.file={file}", *words, *size))
    run = build.build(cfg)
    run.train(None)
    assert run.model.images_seen == 4
    assert list(run.model.directions) == (["smiling", "male"] if "attributes" in words[0] else ["cat", "dog"])


def test_a_model_of_domains_without_any_is_refused(tmp_path: Path) -> None:
    words = ["model=stargan", "data=table", f"data.file={written(tmp_path / 'set')}", "data.resolution=32"]
    cfg = shrink(compose(tmp_path / "r", *words, "data.classes=0"))
    cfg.model.generator.classes = cfg.model.discriminator.classes = 2
    with pytest.raises(ConfigError, match=r"batches of real, and StarGAN trains on domain, real: type data.label="):
        build.build(cfg)


def with_value(row: int, column: str, value: str) -> list[tuple[str, ...]]:
    rows = [list(row) for row in PEOPLE]
    rows[row][COLUMNS.index(column)] = value
    return [tuple(row) for row in rows]


LABELLED = {"image": "path", "label": "species", "classes": 2}
FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a missing file": (
        with_value(1, "path", "no.png"),
        LABELLED,
        r"people.csv: line 3, column path is no.png: there is no file \S*no.png \(1 of 4 are missing\)",
    ),
    "an empty path": (with_value(1, "path", ""), LABELLED, "people.csv: line 3, column path is empty"),
    "an empty label": (with_value(3, "species", ""), LABELLED, "line 5, column species is empty"),
    "no such column": (PEOPLE, {"image": "pth"}, "data.image=pth: .* type data.image= one of path, species, smiling"),
    "no such label": (
        PEOPLE,
        {"label": "x", "classes": 2},
        "data.label=x: .*no such column; type data.label= one of path",
    ),
    "no such attribute": (PEOPLE, {"attributes": ["x"], "classes": 1}, "data.attributes=x: .* one of path"),
    "no such split": (PEOPLE, {"split": "x"}, "data.split=x: .* one of path"),
    "no label column": (
        PEOPLE,
        {"classes": 2},
        "data.classes=2 needs a column of labels; type data.label= one of path",
    ),
    "another number": (
        PEOPLE,
        {"label": "species", "classes": 3},
        r"has 2 classes \(cat, dog\).*: type data.classes=2",
    ),
    "perhaps": (
        with_value(2, "male", "perhaps"),
        {"attributes": ["smiling", "male"], "classes": 2},
        "line 4, column male is perhaps: yes or no is needed, as 1 or 0, true or false",
    ),
    "no split": (
        with_value(2, "part", "b"),
        {"split": "part"},
        "line 4, column part is b: one of train, training, val,",
    ),
    "nothing to train on": (
        [("a.png", "cat", "1", "0", "test", "A")],
        {"split": "part"},
        "column part is train; call some",
    ),
    "attributes and classes": (
        PEOPLE,
        {"attributes": ["male"], "classes": 2},
        "1 data.attributes: type data.classes=1",
    ),
    "attributes and label": (PEOPLE, {"attributes": ["male"], "classes": 1, "label": "x"}, "leave out one"),
    "no rows": ([], {}, "people.csv has no rows"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_name_the_line_and_the_column(case: str, tmp_path: Path) -> None:
    rows, options, said = FAULTS[case]
    with pytest.raises(ConfigError, match=said) as refused:
        table(written(tmp_path / "set", rows=rows), tmp_path, **options).setup()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.xlsx", b"PK", r"a table is needed, a file that ends in .csv, .tsv, .jsonl"),
        ("t.csv", b"path,label\na.png\n", r"line 2 has 1 values, and the header has 2 columns \(path, label\)"),
        ("t.csv", b'path,label\n"a.png,1\n', r"line \d cannot be read \("),
        ("t.csv", b"path,path\na.png,b.png\n", r"the column path is there twice"),
        ("t.csv", b"", r"t.csv has no rows"),
        ("t.csv", b"x,y\na.png,b.png\n", r"not clear; type data.image= one of x, y"),
        ("t.csv", b"path\n\xff\xfe.png\n", r"is not written in UTF-8 \(byte \d+\)"),
        ("t.jsonl", b'{"path": "a.png"}\n{"path": \n', r"line 2 is no JSON"),
        ("t.jsonl", b'["a.png"]\n', r"line 1 is no object"),
        ("t.jsonl", b'{"path": "a.png"}\n{"label": 1}\n', r"line 2, column path is empty"),
        ("t.jsonl", b'{"path": ["a.png"]}\n', r"line 1, column path is a list, and text or a number is needed"),
        ("t.parquet", b"PAR1 not", r"is no whole parquet file"),
        ("no.csv", None, r"data.file=\S*no.csv: there is no such file"),
    ],
)
def test_damaged_tables(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    images(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refused:
        table(tmp_path / name, tmp_path).setup()
    assert "\n" not in str(refused.value)


def test_other_marks_than_commas(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "t.csv").write_text("path;label\na.png;x\nb.png;y\n\n")
    assert table(tmp_path / "t.csv", tmp_path, classes=2).class_names == ["x", "y"]


def test_the_cache_depends_on_labels_and_files(tmp_path: Path) -> None:
    file = written(tmp_path / "set")

    def folder(**options: Any) -> Any:
        return table(file, tmp_path, **options).reference().folder

    plain, labelled = folder(), folder(label="species", classes=2)
    Image.new("RGB", (S, S)).save(tmp_path / "set" / "a.png")
    assert len({plain, labelled, folder()}) == 3
    assert folder() == folder()
    assert reds(table(file, tmp_path, limit=2)) == [0, 30]


def test_broken_images_of_a_table_are_left_out(tmp_path: Path) -> None:
    file = written(tmp_path / "set")
    (tmp_path / "set" / "b.png").write_text("no")
    data = table(file, tmp_path, label="species", classes=2)
    assert data.reference().labels.tolist() == [0, 0, 1]
    assert data.understood()[-1] == "left out  1 file: b.png (not an image)"


def test_the_command(tmp_path: Path) -> None:
    written(tmp_path)
    words = ["model=gan", "data=table", "data.file=people.csv", "data.image=path", "data.label=species"]
    words += ["data.resolution=8", "data.batch_size=4", "images=4", "metrics=none", "logger=none", "callbacks=none"]
    done = run(*words, "data.classes=2", "hydra.run.dir=r", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Table people.csv: 4 images 3x8x8, 2 classes\n  classes   2: cat 2, dog 2\n" in done.stdout


# The hub


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets in the forms that the library reads without a network."""
    import datasets

    folder = tmp_path_factory.mktemp("sets")
    pictures = [Image.new("RGB", (S, S), (10 * row + 10, 0, 0)) for row in range(6)]
    for row, picture in enumerate(pictures):
        place = folder / "images" / ("dog" if row % 2 else "cat")
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{row}.png")
    types = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["emu", "ape"])}
    types |= {"word": datasets.Value("string"), "number": datasets.Value("int64")}
    columns = {"picture": pictures, "kind": [0, 1] * 3, "word": ["x", "y", "z"] * 2, "number": [2, 0, 1] * 2}
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(types))
    made.save_to_disk(str(folder / "saved"))
    parts = datasets.DatasetDict({"train": made, "test": made.select([4, 5])})
    parts.save_to_disk(str(folder / "parts"))
    (folder / "parquet" / "data").mkdir(parents=True)
    for name, part in parts.items():
        part.to_parquet(str(folder / "parquet" / "data" / f"{name}-00000.parquet"))
    both = {"a": pictures, "b": pictures}
    features = datasets.Features({"a": datasets.Image(), "b": datasets.Image()})
    datasets.Dataset.from_dict(both, features=features).save_to_disk(str(folder / "two"))
    return folder


def hub(name: Any, tmp_path: Path, **options: Any) -> Hub:
    return Hub(str(name), **{"resolution": S, "cache": str(tmp_path / "cache"), "batch_size": 2} | options)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["saved", "parts", "parquet", "images"])
def test_a_set_of_the_library(form: str, streaming: bool, sets: Path, tmp_path: Path) -> None:
    data = hub(sets / form, tmp_path, classes=2, streaming=streaming and form in ("parquet", "images"))
    order = [10, 30, 50, 20, 40, 60] if form == "images" else [10, 20, 30, 40, 50, 60]
    assert data.reference().pixels[:, 0, 0, 0].tolist() == order
    assert data.class_names == (["cat", "dog"] if form == "images" else ["emu", "ape"])
    assert data.reference().labels.tolist() == [value // 10 % 2 == 0 for value in order]
    said = "\n".join(data.understood())
    assert "pixels    6 of 8-bit RGB" in said
    column = "image has the images, label the labels" if form == "images" else "picture has the images, kind the labels"
    assert f"folders   column {column}" in said
    again = hub(sets / form, tmp_path, classes=2)
    assert again.reference().fingerprint == data.reference().fingerprint


def test_splits_and_columns_of_the_library(sets: Path, tmp_path: Path) -> None:
    data = hub(sets / "parquet", tmp_path, test_split="test", label="word", classes=3)
    assert (data.class_names, data.reference("test").labels.tolist()) == (["x", "y", "z"], [1, 2])
    assert data.has("test")
    part = hub(sets / "parquet", tmp_path, split="train[:50%]", label="number", classes=3)
    assert part.reference().labels.tolist() == [2, 0, 1]
    assert hub(sets / "two", tmp_path, image="b").size == 6
    anew = hub(sets / "saved", tmp_path, classes=2, cached=False)
    assert anew.fixed(2)["label"].tolist() == [0, 1]
    assert anew.stream().batch(0)["real"].shape == (2, 3, S, S)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "saved",
            {"image": "x"},
            r"data.image=x: .* has the columns picture \(Image\), kind \(ClassLabel\), word \(string\)",
        ),
        ("two", {}, r"which column is the image is not clear; type data.image= one of a \(Image\), b \(Image\)"),
        ("two", {"image": "a", "classes": 2}, r"which column is the label is not clear; type data.label= one of"),
        ("parts", {"split": "dev"}, r"has no split dev: type data.split= one of train, test"),
        ("parquet", {"split": "dev"}, r"cannot be opened \(.*dev.*\): look at data.subset=null and data.split=dev"),
        ("parquet", {"subset": "x"}, r"cannot be opened \(BuilderConfig 'x' not found.*: look at data.subset=x"),
        ("nowhere", {}, r"data.name=\S*nowhere: there is no such folder; type data.name=owner/set, or a folder"),
        ("saved", {"image": "word"}, r"item 0 has 'x' for an image: a PIL image, an array"),
        ("saved", {"classes": 5}, r"has 2 classes \(emu, ape\).*: type data.classes=2"),
    ],
)
def test_faults_about_a_set_are_one_line(
    name: str, options: dict[str, Any], said: str, sets: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        hub(sets / name, tmp_path, **options).setup()
    assert "\n" not in str(refused.value)


def test_no_code_of_a_set_is_run(tmp_path: Path) -> None:
    place = tmp_path / "evil"
    images(place)
    for name in ("evil.py", "images.py", "__init__.py"):
        (place / name).write_text(f"from pathlib import Path\nPath({str(tmp_path / 'marker')!r}).touch()\n")
    with contextlib.suppress(ConfigError):
        hub(place, tmp_path).setup()
    assert not (tmp_path / "marker").exists()


def test_without_a_network_the_answer_comes_soon(tmp_path: Path) -> None:
    from huggingface_hub import constants

    start = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"nobody/nothing is not in the cache of datasets .*fetch it where there is a"
    ):
        hub("nobody/nothing", tmp_path).setup()
    with without_downloads(), pytest.raises(NotDownloadedError, match="it is downloaded when the run begins"):
        hub("nobody/nothing", tmp_path).setup()
    assert time.monotonic() - start < 20
    assert not constants.HF_HUB_OFFLINE


def test_the_hub_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match="data=hub needs what is not installed: type pip install datasets"):
        hub(tmp_path, tmp_path).setup()
    old: Any = type(sys)("datasets")
    old.__version__ = "3.6.0"
    monkeypatch.setitem(sys.modules, "datasets", old)
    with pytest.raises(ConfigError, match=r"version 4 or later, which runs no code of others, and 3.6.0 is installed"):
        hub(tmp_path, tmp_path).setup()
