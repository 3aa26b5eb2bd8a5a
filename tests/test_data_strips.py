"""Images that are much longer than wide: what is cut off is said, and squares can be cut out of all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import batches, ready, require_exact

from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import LONGEST, shortened
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.images import Folder
from gan_experiments.data.paired import Paired
from gan_experiments.data.unpaired import Unpaired

LENGTH = 200


def strip(number: int, blue: int, length: int = LENGTH, lying: bool = True) -> Image.Image:
    """Red is the image's number times ten, green is how far along it a pixel is."""
    image = Image.new("RGB", (length, 16))
    image.putdata([(10 * number, 250 * x // length, blue) for _ in range(16) for x in range(length)])
    return image if lying else image.transpose(Image.Transpose.TRANSPOSE)


def of_folders(root: Path, names: tuple[str, ...]) -> Path:
    for name, blue in zip(names, (0, 255), strict=True):
        (root / name).mkdir(parents=True)
        for i in range(7):
            strip(i, blue, lying=i % 2 == 0).save(root / name / f"{i}.png")
    return root


def unpaired(tmp_path: Path) -> Callable[..., ImageData]:
    root = of_folders(tmp_path / "unpaired", ("trainA", "trainB"))
    return lambda **options: Unpaired(str(root), **given(tmp_path, **options))


def two_folders(tmp_path: Path) -> Callable[..., ImageData]:
    root = of_folders(tmp_path / "two", ("trainA", "trainB"))
    return lambda **options: Paired(str(root), **given(tmp_path, **options))


def side_by_side(tmp_path: Path) -> Callable[..., ImageData]:
    (tmp_path / "one" / "train").mkdir(parents=True)
    for i in range(7):
        both = Image.new("RGB", (2 * LENGTH, 16))
        for place, blue in enumerate((0, 255)):
            both.paste(strip(i, blue), (place * LENGTH, 0))
        both.save(tmp_path / "one" / "train" / f"{i}.png")
    return lambda **options: Paired(str(tmp_path / "one"), **given(tmp_path, **options))


def given(tmp_path: Path, **options: Any) -> dict[str, Any]:
    return {"resolution": 16, "batch_size": 6, "cache": str(tmp_path / "cache"), **options}


SETS = {make.__name__: make for make in (unpaired, two_folders, side_by_side)}


def along(data: ImageData, number: int) -> torch.Tensor:
    """How far along their image the squares of some batches lie: [number * batch, 2], of A and of B, 0 to 1."""
    keys = ("real_a", "real_b") if isinstance(data, Unpaired) else ("input", "target")
    found = [ready(data, i) for i in range(number)]
    return torch.stack([torch.cat([batch[key][:, 1].mean((1, 2)) for batch in found]) for key in keys], 1) / 2 + 0.5


@pytest.mark.parametrize("kind", SETS)
def test_what_is_cut_off_is_said(kind: str, tmp_path: Path) -> None:
    make = SETS[kind](tmp_path)
    said = [line for line in make().understood() if "cut  " in line]
    number = {"unpaired": 7, "two_folders": 14, "side_by_side": 7}[kind]
    wanted = f"{number} images lose more than half of their area: the square in their middle is kept; data.crop=random"
    assert len(said) == (2 if kind == "unpaired" else 1)
    assert all(wanted in line for line in said)
    assert not any("cut  " in line for line in make(crop="random").understood())
    middle = along(make(), 1)
    assert 0.4 < middle.min() <= middle.max() < 0.6


def test_a_folder_says_so_too(tmp_path: Path) -> None:
    root = of_folders(tmp_path / "set", ("a", "b"))
    strip(0, 0, 32).save(root / "a" / "half.png")  # loses half, not more
    options = given(tmp_path)
    assert any("14 images lose more than half" in line for line in Folder(str(root), **options).understood())
    assert not any("lose" in line for line in Folder(str(root), **options, crop=8).understood())  # as was asked for


@pytest.mark.parametrize("kind", SETS)
def test_random_squares_of_all_of_each_image(kind: str, tmp_path: Path) -> None:
    data = SETS[kind](tmp_path)(crop="random")
    data.prepare_data()
    places = along(data, 8)
    assert places.min() < 0.15
    assert places.max() > 0.85
    together = (places[:, 0] - places[:, 1]).abs().max() < 1e-6  # of a pair the same square of both
    assert together == (kind != "unpaired")
    key = "real_a" if kind == "unpaired" else "input"
    for square in ready(data, 0)[key]:  # as they are in the file: green grows along them
        green = ((square[1] + 1) * 127.5).round()
        green = green.T if (green[0] == green[0, 0]).all() else green
        assert (green == green[0]).all()
        assert set(green[0].diff().tolist()) <= {1.0, 2.0}
    assert len(data.reference("train")) == 7  # what is scored: the squares in the middle


@pytest.mark.parametrize("load_resolution", [None, 20])
@pytest.mark.parametrize("kind", SETS)
def test_ranks_workers_and_going_on(kind: str, load_resolution: int | None, tmp_path: Path) -> None:
    make = SETS[kind](tmp_path)
    require_exact(lambda **more: make(crop="random", load_resolution=load_resolution, flip=True, **more))
    [batch] = batches(make(crop="random", load_resolution=load_resolution, flip=True), 1)
    assert {value.shape[2:] for key, value in batch.items() if "real" in key} == {(16, 16)}


def test_the_length_has_a_bound() -> None:
    pixels = torch.arange(LONGEST * 2 + 10, dtype=torch.uint8).expand(3, 2, -1)
    kept = shortened(pixels, 2)
    assert torch.equal(kept, pixels[:, :, 5:-5])
    assert shortened(pixels, 4).shape == (3, 4, LONGEST * 4)
    assert shortened(pixels.transpose(1, 2), 4).shape == (3, LONGEST * 4, 4)
    assert shortened(torch.zeros(3, 30, 40, dtype=torch.uint8), 20).shape == (3, 20, 27)


@pytest.mark.parametrize("kind", SETS)
def test_crops_that_are_none(kind: str, tmp_path: Path) -> None:
    make = SETS[kind](tmp_path)
    for crop in ("middle", 8, None, True):
        with pytest.raises(ConfigError, match=rf"^data\.crop={crop}: type data\.crop=centre or random$"):
            make(crop=crop)
    if kind == "unpaired":
        with pytest.raises(ConfigError, match=r"^data\.frames=all with data\.crop=random: "):
            make(crop="random", frames="all")
