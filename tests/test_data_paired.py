"""Pairs of images, which are cut and mirrored alike."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from support import batches, ready, require_exact

from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.paired import Paired
from gan_experiments.data.unpaired import Unpaired


def half(number: int, blue: int, size: tuple[int, int] = (24, 16)) -> Image.Image:
    """Red is the image's number times ten, green grows to the right and downwards; blue tells A (0) from B (255)."""
    image = Image.new("RGB", size)
    image.putdata([(10 * number, 7 * x + 3 * y, blue) for y in range(size[1]) for x in range(size[0])])
    return image


def side_by_side(folder: Path, number: int) -> None:
    folder.mkdir(parents=True)
    for i in range(number):
        image = Image.new("RGB", (48, 16))
        image.paste(half(i, 0), (0, 0))
        image.paste(half(i, 255), (24, 0))
        image.save(folder / f"{i}.png")


def two_folders(root: Path, split: str, number: int) -> None:
    for letter, blue, suffix in (("A", 0, "png"), ("B", 255, "bmp")):
        (root / f"{split}{letter}").mkdir(parents=True)
        for i in range(number):
            half(i, blue).save(root / f"{split}{letter}" / f"{i}.{suffix}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, number in (("train", 7), ("test", 3)):
        side_by_side(tmp_path / "one" / split, number)
        two_folders(tmp_path / "two", split, number)
    return tmp_path


def paired(root: Path | None, cache: Path, **settings: Any) -> Paired:
    given = {"resolution": 16, "batch_size": 6, "cache": str(cache), **settings}
    return Paired(root=None if root is None else str(root), **given)


@pytest.mark.parametrize("layout", ["one", "two"])
def test_the_layouts_hold_the_same_pairs(root: Path, tmp_path: Path, layout: str) -> None:
    data = paired(root / layout, tmp_path / "cache")
    data.prepare_data()
    data.setup("fit")
    assert data.describe() == "Paired: 7 pairs 3x16x16"
    assert (data.size, data.provides, data.class_names) == (7, {"input", "target"}, [])
    batch = ready(data)
    assert batch.keys() == {"input", "target"}
    assert batch["input"].shape == batch["target"].shape == (6, 3, 16, 16)
    assert (batch["input"][:, 2] == -1).all()
    assert (batch["target"][:, 2] == 1).all()
    assert torch.equal(batch["input"][:, :2], batch["target"][:, :2])
    assert len(data.pairs("test")) == 3
    targets = data.reference("test")
    assert targets.pixels.shape == (3, 3, 16, 16)
    assert targets.images(0, 3)[:, 2].min() == 255
    fixed = data.fixed(3)
    assert torch.equal(fixed["target"], to_float(targets.pixels))
    with pytest.raises(ConfigError, match="has no folder val of images side by side, nor valA and valB"):
        data.pairs("val")
    swapped = ready(paired(root / layout, tmp_path / "cache", direction="ba"))
    assert torch.equal(swapped["input"], batch["target"])
    assert torch.equal(swapped["target"], batch["input"])


def test_two_roots(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for path in (root / "two" / "trainB").iterdir():
            archive.write(path, f"photos/{path.name}")
    roots = {"root_a": str(root / "two" / "trainA"), "root_b": str(tmp_path / "b.zip")}
    data = paired(None, tmp_path / "cache", **roots)
    assert torch.equal(ready(data)["target"], ready(paired(root / "two", tmp_path / "cache"))["target"])
    assert data.fixed(9)["input"].shape == (9, 3, 16, 16)
    for letter in "AB":
        for split in ("train", "test"):
            (tmp_path / letter).mkdir(exist_ok=True)
            (root / "two" / f"{split}{letter}").rename(tmp_path / letter / split)
    data = paired(None, tmp_path / "cache", root_a=str(tmp_path / "A"), root_b=str(tmp_path / "B"), limit=5)
    assert (len(data.pairs()), len(data.pairs("test"))) == (5, 3)


def test_both_of_a_pair_are_cut_and_mirrored_alike(root: Path, tmp_path: Path) -> None:
    data = paired(root / "one", tmp_path / "cache", resolution=12, load_resolution=16, flip=True, batch_size=28)
    raw = batches(data, 1)[0]
    assert raw["real"].shape == (28, 6, 16, 16)
    batch = data.on_after_batch_transfer(raw, 0)
    assert batch.keys() == {"input", "target"}
    assert torch.equal(batch["input"][:, :2], batch["target"][:, :2])
    corners = ((batch["input"][:, 1, 0] + 1) * 127.5).round()
    first = torch.where(raw["flip"], corners[:, -1], corners[:, 0]) - 7 * 4  # the centred square begins at column 4
    assert torch.equal(first.long(), 3 * raw["crop"][:, 0] + 7 * raw["crop"][:, 1])
    assert len(raw["crop"].unique(dim=0)) > 10
    assert raw["flip"].any()
    assert not raw["flip"].all()
    assert data.fixed(2)["input"].shape == (2, 3, 12, 12)
    assert torch.equal(ready(data)["input"], batch["input"])
    assert data.on_after_batch_transfer(batch, 0)["input"] is batch["input"]  # floats pass unchanged


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_workers_and_going_on(root: Path, tmp_path: Path, workers: int) -> None:
    settings = {"flip": True, "resolution": 12, "load_resolution": 16}
    require_exact(lambda **more: paired(root / "two", tmp_path / "cache", **settings, **more), workers)


def test_a_pair_is_left_out_as_a_whole(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    two = root / "two"
    (two / "trainB" / "2.bmp").write_bytes(b"broken")
    (two / "trainA" / "4.png").unlink()
    half(5, 255, (16, 24)).save(two / "trainB" / "5.bmp")
    data = paired(two, tmp_path / "cache")
    data.setup()
    assert data.describe() == "Paired: 4 pairs 3x16x16, 3 files left out"
    for said in ("2.png (not an image)", "4 (has no pair)", "5.png (24x16, but its pair 16x24"):
        assert said in caplog.text
    pixels = data.pairs().pixels
    assert (pixels[:, 0, 0, 0] // 10).tolist() == (pixels[:, 3, 0, 0] // 10).tolist() == [0, 1, 3, 6]
    half(9, 0, (25, 16)).save(root / "one" / "train" / "odd.png")
    odd = paired(root / "one", tmp_path / "cache")
    assert odd.describe() == "Paired: 7 pairs 3x16x16, 1 file left out"


def test_grey_pairs(root: Path, tmp_path: Path) -> None:
    batch = ready(paired(root / "one", tmp_path / "cache", channels=1))
    assert batch["input"].shape == (6, 1, 16, 16)
    assert (batch["target"] > batch["input"]).all()


def test_mistakes(root: Path, tmp_path: Path) -> None:
    for given, said in (
        ({"root_a": "x"}, r"data\.root_a and data\.root_b belong together"),
        ({"direction": "AtoB"}, r"data\.direction=AtoB: type data\.direction=ab or ba"),
        ({"classes": 2}, r"type data\.classes=0"),
        ({"load_resolution": 8}, r"data\.load_resolution=8 is less than data\.resolution=16"),
    ):
        with pytest.raises(ConfigError, match=said):
            paired(root, tmp_path, **given)
    with pytest.raises(ConfigError, match=r"has no folder train of images side by side.*type data\.root="):
        paired(root, tmp_path).setup()
    with pytest.raises(ConfigError, match="has no split 'valid': type one of train, val, test"):
        paired(root, tmp_path).pairs("valid")
    two = {"root_a": str(root / "two" / "trainA"), "root_b": str(root / "none")}
    with pytest.raises(ConfigError, match=r"data\.root_b=.*none does not exist"):
        paired(None, tmp_path, **two).setup()
    half(1, 0).save(tmp_path / "other.png")
    (tmp_path / "others").mkdir()
    (tmp_path / "other.png").rename(tmp_path / "others" / "other.png")
    with pytest.raises(ConfigError, match=r"no two files of equal names \(0\.png, other\.png\)"):
        paired(None, tmp_path, **{**two, "root_b": str(tmp_path / "others")}).setup()


@pytest.mark.parametrize(
    ("kind", "name", "file"), [(Paired, "facades", "facades.tar.gz"), (Unpaired, "horse2zebra", "horse2zebra.zip")]
)
def test_public_sets(kind: Any, name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(url: str, folder: str, **options: Any) -> None:
        asked.append((url.rpartition("/")[2], folder))
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fail)
    with pytest.raises(
        ConfigError, match=rf"{name} does not exist and cannot be downloaded .*no route.*{file}"
    ) as caught:
        kind(root=str(tmp_path / "data" / name), cache=str(tmp_path / "cache")).setup()
    assert "\n" not in str(caught.value)
    assert asked == [(file, str(tmp_path / "data"))]

    def fetch(url: str, folder: str, **options: Any) -> None:
        side_by_side(Path(folder, name, "train"), 2)
        two_folders(Path(folder, name), "train", 2)

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fetch)
    data = kind(root=str(tmp_path / "data" / name), resolution=16, cache=str(tmp_path / "cache"))
    data.setup()
    assert data.size == 2
