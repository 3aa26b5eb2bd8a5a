"""Two folders whose images do not belong together."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import require_exact

from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float
from gan_experiments.data.unpaired import Unpaired


def gradients(folder: Path, number: int, blue: int) -> None:
    """Write images 24x16 whose red is the image's number times ten, and whose green grows to the right."""
    folder.mkdir(parents=True)
    for i in range(number):
        image = Image.new("RGB", (24, 16))
        image.putdata([(10 * i, 10 * x, blue) for _ in range(16) for x in range(24)])
        image.save(folder / f"{i:03d}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, number, blue in (("trainA", 7, 0), ("trainB", 5, 255), ("testA", 3, 0), ("testB", 2, 255)):
        gradients(tmp_path / "set" / name, number, blue)
    return tmp_path / "set"


def unpaired(root: Path | None, cache: Path, **settings: Any) -> Unpaired:
    return Unpaired(
        root=None if root is None else str(root), **{"resolution": 16, "batch_size": 6, "cache": str(cache), **settings}
    )


def test_cyclegans_layout(root: Path, tmp_path: Path) -> None:
    data = unpaired(root, tmp_path / "cache")
    data.prepare_data()
    data.setup("fit")
    assert data.describe() == "Unpaired: 7 and 5 images 3x16x16, not paired"
    assert data.size == 7
    assert data.provides == {"real_a", "real_b"}
    assert data.class_names == []
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.keys() == {"real_a", "real_b"}
    assert batch["real_a"].shape == (6, 3, 16, 16)
    assert (batch["real_a"][:, 2] == -1).all()
    assert (batch["real_b"][:, 2] == 1).all()
    for split, number in (("train_a", 7), ("train_b", 5), ("test_a", 3), ("test_b", 2), ("train", 5), ("test", 2)):
        assert len(data.reference(split)) == number
    assert data.reference("train").split == "train_b"
    fixed = data.fixed(3)
    assert torch.equal(fixed["real_a"], to_float(data.reference("test_a").pixels))
    assert fixed["real_b"].shape == (3, 3, 16, 16)
    assert unpaired(root, tmp_path / "cache", limit=2).describe() == "Unpaired: 2 and 2 images 3x16x16, not paired"


def test_the_domains_are_shuffled_and_flipped_apart(root: Path, tmp_path: Path) -> None:
    data = unpaired(root, tmp_path / "cache", flip=True, batch_size=35)
    batch = next(iter(data.train_dataloader()))
    a, b = ((batch[key][:, 0, 0, 0] // 10).tolist() for key in ("real_a", "real_b"))
    assert sorted(a) == sorted(list(range(7)) * 5)
    assert sorted(b) == sorted(list(range(5)) * 7)
    assert not torch.equal(batch["flip_a"], batch["flip_b"])
    done = data.on_after_batch_transfer(batch, 0)
    for domain in "ab":
        grows = done[f"real_{domain}"][:, 1, 0, 0] < done[f"real_{domain}"][:, 1, 0, -1]
        assert torch.equal(grows, ~batch[f"flip_{domain}"])
    same = unpaired(root, tmp_path / "cache", root_a=str(root / "trainA"), root_b=str(root / "trainA"), batch_size=7)
    both = next(iter(same.train_dataloader()))
    assert not torch.equal(both["real_a"], both["real_b"])


def test_random_crops(root: Path, tmp_path: Path) -> None:
    data = unpaired(root, tmp_path / "cache", resolution=12, load_resolution=16)
    data.setup()
    raw = next(iter(data.train_dataloader()))
    assert raw["real_a"].shape == (6, 3, 16, 16)
    batch = data.on_after_batch_transfer(raw, 0)
    assert batch.keys() == {"real_a", "real_b"}
    for domain in "ab":
        pixels = batch[f"real_{domain}"]
        assert pixels.shape == (6, 3, 12, 12)
        first = ((pixels[:, 1, 0, 0] + 1) * 127.5).round() / 10 - 4  # the centre crop begins at column 4
        assert torch.equal(first.long(), raw[f"crop_{domain}"][:, 1])
    assert data.reference("train_a").pixels.shape[-1] == 12
    assert data.fixed(2)["real_b"].shape == (2, 3, 12, 12)
    with pytest.raises(ConfigError, match=r"data\.load_resolution=8 is less than data\.resolution=16"):
        unpaired(root, tmp_path, load_resolution=8)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_workers_and_going_on(root: Path, tmp_path: Path, workers: int) -> None:
    settings = {"flip": True, "resolution": 12, "load_resolution": 16}
    require_exact(lambda **more: unpaired(root, tmp_path / "cache", **settings, **more), workers)


def test_two_folders_or_archives(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for path in (root / "trainB").iterdir():
            archive.write(path, path.name)
    data = unpaired(None, tmp_path / "cache", root_a=str(root / "trainA"), root_b=str(tmp_path / "b.zip"))
    data.setup()
    assert data.describe().startswith("Unpaired: 7 and 5 images")
    assert data.fixed(4)["real_b"].shape == (4, 3, 16, 16)
    with pytest.raises(ConfigError, match=r"has no split 'test_a'"):
        data.reference("test_a")


def test_mistakes(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root_a and data\.root_b belong together"):
        unpaired(root, tmp_path, root_a="x")
    with pytest.raises(ConfigError, match=r"data\.root_a=x does not exist"):
        unpaired(root, tmp_path, root_a="x", root_b="y").setup()
    with pytest.raises(ConfigError, match=r"has no folder trainA: type data\.root=<folder with trainA and trainB>"):
        unpaired(root / "trainA", tmp_path).setup()
    with pytest.raises(ConfigError, match=r"type data\.classes=0"):
        unpaired(root, tmp_path, classes=2)
    with pytest.raises(ConfigError, match="has no split 'valid'"):
        unpaired(root, tmp_path).reference("valid")
    data = unpaired(root, tmp_path / "cache", batch_size=5)
    with pytest.raises(ConfigError, match=r"data\.batch_size=5 cannot be shared by 2"):
        data.stream(0, 2)
