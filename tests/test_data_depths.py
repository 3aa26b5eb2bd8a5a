"""Files of more than 8 bits, or of fewer: the values that become black and white, by numbers, by name, by the files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from test_data_channels import npy, tiff

from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Reading, UnreadableImageError, pixels_of, values_of
from gan_experiments.data.images import Folder
from gan_experiments.data.met import About

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def folder(root: Path, files: dict[str, bytes], **settings: object) -> Folder:
    root.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (root / name).write_bytes(raw)
    return Folder(root=str(root), resolution=8, channels=1, cache=str(root.parent / "cache"), **settings)


@pytest.mark.parametrize("kind", ["npy", "tif"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_of_numbers_is_scaled_by_the_range(dtype: str, kind: str) -> None:
    low = -50 if dtype[0] != "u" else 0
    values = np.linspace(low, 100, 64).round().reshape(8, 8).astype(dtype)
    raw = npy(values) if kind == "npy" else tiff(values)
    wanted = (values.astype(np.float64) - low) * 255 / (100 - low)
    if dtype == "u1":  # a range changes none of 8 bits
        wanted, found = values, None
    else:
        found = values_of(raw)
        assert found == (low, 100)
    made = pixels_of(raw, 1, Reading((float(low), 100.0)))
    assert np.abs(made[0].numpy() - wanted).max() < 0.5001, kind
    assert found is None or pixels_of(raw, 1, Reading((float(low), 100.0))).max() == 255


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    raw = io.BytesIO()
    Image.fromarray(values).save(raw, "PNG")
    data = folder(tmp_path / "a", {"a.png": raw.getvalue()})
    with pytest.raises(ConfigError, match=r"nearly black on the scale of 0\.\.65535: type data\.range=auto"):
        data.prepare_data()
    data = folder(tmp_path / "a", {}, range=[0, 4095])
    assert data.training().pixels.max() == 255
    assert data.values == (0.0, 4095.0)


def test_the_largest_unsigned_number_is_not_minus_one() -> None:
    values = np.full((8, 8), 2**32 - 1, np.uint32)
    values[0] = 0
    assert values_of(tiff(values)) == (0, 2**32 - 1)
    assert pixels_of(tiff(values), 1, Reading((0.0, 2.0**32)))[0, 1].min() == 255


def test_white_is_zero_is_turned_over() -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    bands = np.stack([values] * 5, axis=-1)
    raw = tiff(bands, photometric="miniswhite", planarconfig="contig")
    assert np.array_equal(
        pixels_of(raw, 5, Reading((65535.0 - 63, 65535.0), bands=5))[0], np.rint((63 - values) * 255 / 63)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["npy", "tif"])
def test_a_file_with_values_that_are_no_numbers_is_left_out_and_does_not_count(
    bad: float, kind: str, tmp_path: Path
) -> None:
    good = np.linspace(2, 5, 64).reshape(8, 8)
    broken = good.copy()
    broken[3, 3] = bad
    write = npy if kind == "npy" else tiff
    data = folder(tmp_path / "a", {f"a.{kind}": write(good), f"b.{kind}": write(broken)}, range="auto")
    images = data.training()
    assert (len(images), images.skipped) == (1, 1)
    assert "holds values that are no numbers" in str(images.about.left_out)
    assert images.about.range == (2.0, 5.0)
    assert (images.pixels.min(), images.pixels.max()) == (0, 255)


def test_a_window_of_hounsfield_units_is_for_files_in_that_unit(tmp_path: Path) -> None:
    raw = npy(np.full((8, 8), -600, np.int16))
    data = folder(tmp_path / "a", {"a.npy": raw}, range="lung")
    with pytest.raises(ConfigError, match=r"is 16-bit signed array, and data.range=lung is in Hounsfield units"):
        data.prepare_data()
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    with pytest.raises(UnreadableImageError, match=r"is 8-bit grey, and data.range=lung"):
        pixels_of(png.getvalue(), 1, Reading("lung"))
    with pytest.raises(ConfigError, match=r"type the values that become black and white, as .* lung, mediastinum"):
        Folder(range="lungs")


def test_the_names_of_windows_are_centre_and_width() -> None:
    assert Reading("lung").bounds == (-1350.0, 150.0)
    assert Reading("brain").bounds == (0.0, 80.0)
    assert Reading("dicom").bounds is None


def test_the_values_of_black_and_white_are_known_where_all_files_agree() -> None:
    def values(kinds: dict[str, dict[str, object]], **more: object) -> object:
        return About(met={"kinds": kinds, **more}).values

    deep = {"images": 1, "values": [0, 900], "white": 65535.0}
    assert values({"16-bit grey": deep}) == (0.0, 65535.0)
    assert values({"16-bit grey": deep}, range=[10.0, 900.0]) == (10.0, 900.0)
    assert values({"16-bit grey": deep, "8-bit grey": {"images": 1}}) is None
    assert values({"16-bit grey": deep, "32-bit grey": deep | {"white": 255.0}}) is None
    assert values({"16-bit grey": deep}, window="dicom") is None
    assert About().values is None


def test_a_tiff_that_needs_a_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tiff(np.zeros((8, 8)))
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(UnreadableImageError, match=r"needs tifffile: pip install 'gan-experiments\[science\]'"):
        pixels_of(raw)
    assert torch.equal(pixels_of(npy(np.zeros((8, 8), np.uint8))), torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_a_tiff_that_claims_more_pixels_than_allowed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tiff(np.zeros((64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match=r"more than data.max_pixels=200"):
        pixels_of(raw)
    assert tifffile.imread(io.BytesIO(raw)).shape == (64, 64)
