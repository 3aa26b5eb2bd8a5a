"""Any torch Dataset: the forms of its items, what is refused or left out of them, its cache, and items read anew."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from support import batches, compose, difference, ready, require_exact, run
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from gan_experiments.assembly import check
from gan_experiments.contracts import ConfigError
from gan_experiments.data.dataset import TorchDataset
from gan_experiments.data.image_module import ImageData
from gan_experiments.runs import configs

S = 8


def colours(row: int, height: int = S, width: int = S) -> np.ndarray:
    """Pixels uint8 [height, width, 3], others for each row."""
    return np.random.RandomState(row).randint(0, 256, (height, width, 3)).astype(np.uint8)


class Numbered(Dataset):
    """Items made from their number by `make`."""

    def __init__(self, make: Any = None, n: int = 6, classes: Any = None) -> None:
        self.make, self.n = make or colours, n
        if classes is not None:
            self.classes = classes
        self.read = 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> Any:
        self.read += 1
        return self.make(row)


class Streamed(IterableDataset):
    """The same one after the other."""

    def __init__(self, make: Any, n: int = 6) -> None:
        self.make, self.n = make, n

    def __iter__(self) -> Iterator[Any]:
        return (self.make(row) for row in range(self.n))


def data(dataset: Any, tmp_path: Path, **options: Any) -> TorchDataset:
    return TorchDataset(dataset, **{"resolution": S, "cache": str(tmp_path / "cache"), "batch_size": 4} | options)


def pixels(dataset: Any, tmp_path: Path, **options: Any) -> torch.Tensor:
    return data(dataset, tmp_path, **options).reference().pixels


AS_THEY_ARE = torch.stack([torch.from_numpy(colours(row)).permute(2, 0, 1) for row in range(6)])
GREY = AS_THEY_ARE[:, :1]
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "PIL": (lambda row: Image.fromarray(colours(row)), {}),
    "PIL with a label": (lambda row: (Image.fromarray(colours(row)), row % 2), {"classes": 2}),
    "PIL of mode RGBA": (lambda row: Image.fromarray(colours(row)).convert("RGBA"), {}),
    "array, channels last": (colours, {}),
    "array, channels first": (lambda row: colours(row).transpose(2, 0, 1), {}),
    "array of four channels": (lambda row: np.dstack([colours(row), np.full((S, S), 255, np.uint8)]), {}),
    "tensor": (lambda row: AS_THEY_ARE[row], {}),
    "tensor and a tensor": (lambda row: (AS_THEY_ARE[row], torch.tensor([row % 2])), {"classes": 2}),
    "list of one": (lambda row: [AS_THEY_ARE[row]], {}),
    "dict": (lambda row: {"image": AS_THEY_ARE[row], "label": np.int64(row % 2), "name": "x"}, {"classes": 2}),
    "dict of other keys": (
        lambda row: {"x": AS_THEY_ARE[row], "y": float(row % 2)},
        {"classes": 2, "image": "x", "label": "y"},
    ),
    "tuple of three": (lambda row: ("x", AS_THEY_ARE[row], row % 2), {"classes": 2, "image": 1, "label": 2}),
    "a label that is not asked for": (lambda row: (AS_THEY_ARE[row], {"boxes": []}), {}),
    "float in [0, 1]": (lambda row: AS_THEY_ARE[row] / 255, {"range": [0, 1]}),
    "float in [-1, 1]": (lambda row: AS_THEY_ARE[row] / 127.5 - 1, {"range": [-1, 1]}),
    "bfloat16": (lambda row: AS_THEY_ARE[row].bfloat16(), {"range": [0, 255]}),
    "float64 array": (lambda row: colours(row) / 255.0, {"range": [0, 1]}),
    "int64": (lambda row: AS_THEY_ARE[row].long(), {"range": [0, 255]}),
    "16 bits": (lambda row: colours(row).astype(np.uint16) * 257, {"range": [0, 65535]}),
}


@pytest.mark.parametrize("kind", [Numbered, Streamed])
@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_items(form: str, kind: Any, tmp_path: Path) -> None:
    make, options = FORMS[form]
    found = data(kind(make), tmp_path, **options).reference()
    slack = 2 if form == "bfloat16" else 0
    assert (found.pixels.int() - AS_THEY_ARE.int()).abs().max() <= slack
    assert (found.labels is None) == ("classes" not in options)
    if found.labels is not None:
        assert found.labels.tolist() == [0, 1, 0, 1, 0, 1]
        assert found.class_names == ["0", "1"]


def test_grey_colour_and_size(tmp_path: Path) -> None:
    grey = Numbered(lambda row: GREY[row, 0])
    assert torch.equal(pixels(grey, tmp_path, channels=1), GREY)
    assert torch.equal(pixels(grey, tmp_path), GREY.expand(-1, 3, -1, -1))
    made = pixels(Numbered(lambda row: Image.fromarray(colours(row)).convert("L")), tmp_path, channels=1)
    assert torch.equal(made, pixels(Numbered(colours), tmp_path, channels=1))
    ones = pixels(Numbered(lambda row: np.eye(S) > 0), tmp_path, channels=1)
    assert ones.unique().tolist() == [0, 255]
    wide = Numbered(lambda row: colours(row, 2 * S, 3 * S))
    described = data(wide, tmp_path)
    assert described.reference().pixels.shape == (6, 3, S, S)
    assert f"sizes     all {3 * S}x{2 * S}" in described.understood()
    both = Numbered(lambda row: np.dstack([colours(row), np.full((S, S), 9 * row, np.uint8)]))
    made = data(both, tmp_path, channels=4).reference().pixels
    assert torch.equal(made[:, :3], AS_THEY_ARE)
    assert made[:, 3, 0, 0].tolist() == [9 * row for row in range(6)]
    bands = Numbered(lambda row: np.full((S + 1, S, 7), row, np.uint8))
    assert pixels(bands, tmp_path, channels=7).shape == (6, 7, S, S)
    wide = pixels(Numbered(lambda row: colours(row, 2 * S, S)), tmp_path, resolution=[2 * S, S])
    assert wide.shape == (6, 3, 2 * S, S)
    clear = Numbered(lambda row: np.dstack([colours(row), np.zeros((S, S), np.uint8)]))
    assert pixels(clear, tmp_path).unique().tolist() == [255]


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "floats without a range": (
        lambda row: AS_THEY_ARE[row] / 255,
        {},
        r"item 0 has a float32 tensor 3x8x8 with the values 0\S*..\S*: type the values that are black and white, as"
        r" data.range=\[0,1\] or data.range=\[-1,1\]$",
    ),
    "floats of both signs": (
        lambda row: AS_THEY_ARE[row] / 127.5 - 1,
        {},
        r"values -\S*: type .* data.range=\[-1,1\]$",
    ),
    "whole numbers without a range": (lambda row: AS_THEY_ARE[row].int(), {}, r"int32 tensor .*data.range=\[0,255\]$"),
    "a tuple of three": (
        lambda row: (AS_THEY_ARE[row], row, "x"),
        {},
        r"item 0 is a tuple of 3 \(a uint8 tensor 3x8x8 .*, 0, 'x'\), .*data.image=0 data.label=1",
    ),
    "no such key": (
        lambda row: {"x": 1, "y": 2},
        {},
        r"item 0 has no key 'image': type data.image= one of its keys, x, y",
    ),
    "no such label": (
        lambda row: {"image": AS_THEY_ARE[row], "y": 2},
        {"classes": 2},
        r"item 0 has no key 'label': type data.label= one of its keys, image, y, or data.classes=0",
    ),
    "no such place": (
        lambda row: (AS_THEY_ARE[row], 1),
        {"image": 5},
        r"item 0 is a tuple .*data.image= a place in it",
    ),
    "a path": (lambda row: "photos/1.png", {}, r"item 0 has 'photos/1.png' for an image: a PIL image, an array"),
    "ambiguous": (
        lambda row: np.zeros((3, S, 3), np.uint8),
        {},
        r"item 0 has a uint8 array 3x8x3 .*: type data.layout=chw or data.layout=hwc",
    ),
    "a key of no dict": (
        lambda row: AS_THEY_ARE[row],
        {"image": "x"},
        r"neither tuple nor dict: leave out data.image=",
    ),
    "all are None": (
        lambda row: None,
        {},
        r"none of the 6 items of data.dataset=\S*Numbered is an image \(item 0: is None\)",
    ),
    "two channels": (
        lambda row: np.zeros((S, S + 1, 2), np.uint8),
        {},
        r"is an image \(item 0: has 2 channels: 1 \(grey\), 3 \(RGB\) or 4",
    ),
    "no classes": (lambda row: AS_THEY_ARE[row], {"classes": 2}, "item 0 has no label: type data.classes=0, or"),
    "another number of classes": (lambda row: (AS_THEY_ARE[row], row), {"classes": 2}, "has 6 classes.*data.classes=6"),
    "numbers and names": (
        lambda row: (AS_THEY_ARE[row], "cat" if row < 3 else row),
        {"classes": 2},
        "the label of item 3 is 3, and those of others are names",
    ),
    "nothing in it": (colours, {"n": 0}, "none of the items of data.dataset="),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    make, options, said = REFUSED[case]
    options = dict(options)
    with pytest.raises(ConfigError, match=said) as refused:
        data(Numbered(make, options.pop("n", 6)), tmp_path, **options).setup()
    assert "\n" not in str(refused.value)
    assert "data." in str(refused.value)


def test_the_layout_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    made = {
        layout: pixels(Numbered(lambda row: np.arange(72, dtype=np.uint8).reshape(3, 8, 3)), tmp_path, layout=layout)
        for layout in ("chw", "hwc")
    }
    assert not torch.equal(made["chw"], made["hwc"])
    with pytest.raises(ConfigError, match=r"data.layout=nchw: type data.layout=chw or hwc"):
        data(Numbered(), tmp_path, layout="nchw")


def faulty(row: int) -> Any:
    """Item 1 is none, 2 raises, 3 holds no numbers, 4 has a label that is none."""
    if row == 2:
        raise OSError("disk away")
    image = AS_THEY_ARE[row] / 255
    return [(image, 0), None, None, (image * np.nan, 1), (image, [1, 2]), (image, 1)][row]


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_items_are_left_out_and_named(workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = data(Numbered(faulty), tmp_path, range=[0, 1], classes=2, workers=workers)
    assert made.reference().pixels.shape[0] == 2
    assert made.reference().labels.tolist() == [0, 1]
    for part in (
        "left out 4 of the 6 items of data.dataset=",
        "item 1 (is None)",
        "item 2 (raises OSError: disk away)",
        "item 3 (holds values that are no numbers)",
        "item 4 (has the label a list: a whole number or a name is needed)",
    ):
        assert part in caplog.text
    assert made.understood()[-1].startswith("left out  4 files: item 1 (is None)")


def test_an_iterable_that_raises_is_refused_where_it_ends(tmp_path: Path) -> None:
    def make(row: int) -> Any:
        if row == 3:
            raise ValueError("no more")
        return colours(row)

    with pytest.raises(ConfigError, match=r"item 3 cannot be read \(raises ValueError: no more\).*data.limit=3"):
        data(Streamed(make), tmp_path).setup()
    assert data(Streamed(make), tmp_path, limit=3).size == 3


def test_names_of_classes(tmp_path: Path) -> None:
    named = Numbered(lambda row: (colours(row), ["dog", "cat", "emu"][row % 3]))
    made = data(named, tmp_path, classes=3)
    assert (made.class_names, made.reference().labels.tolist()) == (["cat", "dog", "emu"], [1, 0, 2, 1, 0, 2])
    assert made.understood()[0] == "classes   3: cat 2, dog 2, emu 2"
    again = data(named, tmp_path, classes=3)  # out of the cache
    assert (again.class_names, again.reference().labels.tolist()) == (["cat", "dog", "emu"], [1, 0, 2, 1, 0, 2])
    own = data(Numbered(lambda row: (colours(row), row % 2), classes=["a", ("b", "B")]), tmp_path, classes=2)
    assert own.class_names == ["a", "b"]
    assert data(Subset(own.datasets["train"], [0, 2]), tmp_path, classes=2).class_names == ["a", "b"]
    # A test split has the numbers of the training, whatever its own are
    test = Numbered(lambda row: (colours(row), row % 2), classes=["b", "a"])
    both = data(own.datasets["train"], tmp_path, classes=2, test_dataset=test)
    assert both.reference("test").labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert both.has("test")
    assert not own.has("test")
    with pytest.raises(ConfigError, match=r"has no split 'test': type data.test_dataset._target_="):
        own.reference("test")


def test_the_cache_is_read_once_and_depends_on_the_content(tmp_path: Path) -> None:
    dataset = Numbered(n=80)
    data(dataset, tmp_path).setup()
    first = dataset.read
    data(dataset, tmp_path).setup()
    assert dataset.read - first == 34  # 32 of them, and the first two again
    folders = {
        data(made, tmp_path, **options).reference().folder
        for made, options in (
            (dataset, {}),
            (Numbered(n=80), {}),
            (Numbered(n=79), {}),
            (Numbered(lambda row: colours(row + 1), n=80), {}),
            (dataset, {"limit": 40}),
            (dataset, {"crop": 4}),
        )
    }
    assert len(folders) == 5


def test_a_generator_is_read_once(tmp_path: Path) -> None:
    class Once:
        def __init__(self) -> None:
            self.rows = (colours(row) for row in range(50))

        def __iter__(self) -> Iterator[Any]:
            return self.rows

    assert torch.equal(pixels(Once(), tmp_path)[:6], AS_THEY_ARE)
    assert pixels(Once(), tmp_path).shape[0] == 50
    assert pixels(Once(), tmp_path, limit=40).shape[0] == 40


def test_ranges_by_themselves(tmp_path: Path) -> None:
    made = data(Numbered(lambda row: AS_THEY_ARE[row].float() * 3 - 7), tmp_path, range="auto")
    low, high = made.reference().about.range
    assert (low, high) == (int(AS_THEY_ARE.min()) * 3 - 7, int(AS_THEY_ARE.max()) * 3 - 7)
    assert f"{low:.0f} becomes black and {high:.0f} white" in "\n".join(made.understood())
    with pytest.raises(ConfigError, match=r"only iterable: type data.range=\[black,white\]"):
        data(Streamed(lambda row: AS_THEY_ARE[row].float()), tmp_path, range="auto").setup()


def test_batches_are_exact_on_any_number_of_ranks(tmp_path: Path) -> None:
    dataset = TensorDataset(AS_THEY_ARE.repeat(3, 1, 1, 1), torch.arange(18) % 2)
    require_exact(lambda **options: data(dataset, tmp_path, classes=2, flip=True, **options))
    real = ready(data(dataset, tmp_path))["real"]
    assert (real.min() >= -1, real.max() <= 1, real.dtype) == (True, True, torch.float32)


# Items that are read anew


class Drawn(Dataset):
    """Items of Python's, NumPy's and torch's random numbers, and their labels beforehand."""

    def __init__(self) -> None:
        self.targets = [row % 3 for row in range(12)]

    def __len__(self) -> int:
        return 12

    def __getitem__(self, row: int) -> Any:
        if row == 5:
            raise OSError("away")
        values = random.randrange(256), np.random.randint(256), int(torch.randint(256, ()))
        return np.full((S, S, 3), values, np.uint8), row % 3


def test_items_read_anew_are_other_in_each_epoch_and_exact(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def anew(**options: Any) -> ImageData:
        return data(Drawn(), tmp_path, cached=False, classes=3, **options)

    before = random.getstate(), torch.get_rng_state()
    require_exact(anew)
    require_exact(anew, workers=1)
    assert random.getstate() == before[0]
    made = anew()
    seen = torch.cat([batch["real"][:, :, 0, 0] for batch in batches(made, 9)])
    assert len(seen.unique(dim=0)) > 30
    assert not list((tmp_path / "cache").glob("*"))
    assert "item 5 is left out (raises OSError: away), and the next is taken" in caplog.text
    # What scores and sheets see stays the same
    real = made.reference()
    assert torch.equal(real.images(0, 12), real.images(0, 12))
    assert real.pixels.shape == (12, 3, S, S)
    assert difference(made.fixed(6), made.fixed(6)) == {}
    assert made.fixed(3)["label"].tolist() == [0, 1, 2]
    assert made.class_counts == [4, 4, 4]
    assert real.fingerprint == anew().reference().fingerprint
    assert "all items are read anew" in made.understood()[0]


def test_a_cache_of_random_items_says_so(tmp_path: Path) -> None:
    assert "an item is another each time" in data(Drawn(), tmp_path).understood()[0]
    assert "another each time" not in "".join(data(Numbered(), tmp_path).understood())


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        (Numbered(lambda row: (colours(row), 0)), {"classes": 1}, "has no `targets`.*data.cached=true"),
        (Streamed(colours), {}, "is only iterable"),
        (Numbered(), {"range": "auto"}, "with data.cached=false type numbers"),
        (Numbered(lambda row: None, 40), {}, r"item 15 and those before it are no images \(is None\)"),
        (Numbered(lambda row: AS_THEY_ARE[0] / 255), {}, r"item 0 has a float32.*data.range="),
    ],
)
def test_what_cannot_be_read_anew(dataset: Any, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        data(dataset, tmp_path, cached=False, **options).fixed(1)


# The command


MINE = """
import numpy as np
from torch.utils.data import Dataset

class MyData(Dataset):
    classes = ["dark", "light"]

    def __init__(self, root, n=12):
        self.root, self.n = root, n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        return np.full((9, 9, 3), 40 + 170 * (row % 2), np.uint8), row % 2
"""
WORDS = ["data=torch", "model=gan", "images=8", "data.batch_size=4", "data.resolution=8", "metrics=none"]


def test_a_class_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    mine = ["data.dataset._target_=mine.MyData", "data.dataset.root=here"]
    held = ["data.test_dataset._target_=mine.MyData", "data.test_dataset.root=there"]
    done = run(*WORDS, *mine, *held, "data.classes=2", "logger=csv", "hydra.run.dir=r", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MyData: 12 images 3x8x8, 2 classes\n  classes   2: dark 6, light 6\n" in done.stdout
    cfg = OmegaConf.load(tmp_path / "r" / "config.yaml")
    assert cfg.data.dataset == {"_target_": "mine.MyData", "root": "here"}
    refused = run("sample", "run=r", "n=4", folder=tmp_path)
    assert refused.returncode == 2
    assert "type trust=mine" in refused.stderr
    assert run("sample", "run=r", "n=4", "trust=mine", folder=tmp_path).returncode == 0
    more = run("ckpt=r", "images=16", "trust=mine", folder=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "done: 16 images" in more.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "data.dataset._target_ is not given: type data.dataset._target_=..."),
        (
            ["data.dataset._target_=mien.MyData"],
            "there is no module mien; if it is your own, put mien.py into the current",
        ),
        (["data.dataset._target_=mine.Other"], "data.dataset._target_=mine.Other: cannot be imported"),
        (["data.dataset._target_=mine.MyData"], "data.dataset.root is not given: MyData needs it"),
        (
            ["data.dataset._target_=mine.MyData", "data.dataset.rot=x", "data.dataset.root=x"],
            "data.dataset.rot: MyData takes no such argument (did you mean root?)",
        ),
    ],
)
def test_mistakes_about_the_class_are_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("mine", None)
    (tmp_path / "mine.py").write_text(MINE)
    (fault,) = check.faults(compose(tmp_path / "r", *WORDS, *configs.with_own_keys(words)))
    assert said in fault
    sys.modules.pop("mine", None)


def test_the_current_folder_is_looked_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "colorsys.py").write_text("raise SystemExit('not to be imported')")
    for target in ("colorsys.rgb_to_hsv", "nowhere.X", None, "os.path"):
        configs.reach(target)
    assert str(tmp_path) not in sys.path
    (tmp_path / "of_my_own.py").write_text("X = 1")
    configs.reach("of_my_own.X")
    assert sys.path[-1] == str(tmp_path)
