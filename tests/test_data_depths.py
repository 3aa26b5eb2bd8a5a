"""Files of more than 8 bits, or of fewer: the values that become black and white, by numbers, by name, by the files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageCms
from test_data_channels import encoded, noise, npy, tiff
from test_translate import Negative, verb

from gan_experiments import drawing
from gan_experiments.assembly import trained
from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Reading, UnreadableImageError, exact_of, pixels_of, values_of
from gan_experiments.data.images import Folder
from gan_experiments.data.met import About
from gan_experiments.kinds import IMAGE, Bands

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
    with pytest.raises(UnreadableImageError, match=r"needs tifffile: pip install tifffile"):
        pixels_of(raw)
    assert torch.equal(pixels_of(npy(np.zeros((8, 8), np.uint8))), torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_a_tiff_that_claims_more_pixels_than_allowed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tiff(np.zeros((64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnreadableImageError, match=r"more than data.max_pixels=200"):
        pixels_of(raw)
    assert tifffile.imread(io.BytesIO(raw)).shape == (64, 64)


# -------------------------------------------------------------------- results as the files were


@pytest.fixture
def negative(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a model that turns images over in the place of a run's, with these settings of the data."""

    def use(**data: object) -> Negative:
        made = Negative()
        cfg = OmegaConf.create({"data": {"channels": 1, **data}})
        monkeypatch.setattr(trained, "open_run", lambda *_: trained.TrainedRun(made, cfg, Path()))
        return made

    return use


WIDE = np.linspace(0, 65535, 16 * 24).astype(np.uint16).reshape(16, 24)


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_sixteen_bits_stay_sixteen(suffix: str, negative: Any, tmp_path: Path) -> None:
    negative()
    path = tmp_path / f"a.{suffix}"
    np.save(path, WIDE) if suffix == "npy" else Image.fromarray(WIDE).save(path, dpi=(300, 300))
    verb(f"images={path}", f"out={tmp_path}/b")
    result = tmp_path / "b" / path.name
    made = np.load(result) if suffix == "npy" else np.asarray(Image.open(result))
    assert made.dtype == np.uint16
    assert np.abs(made.astype(int) - (65535 - WIDE.astype(int))).max() <= 1  # 8 bits would be 128 off
    if suffix != "npy":
        assert Image.open(result).info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_the_range_of_the_training_is_the_range_of_the_result(negative: Any, tmp_path: Path) -> None:
    twelve = WIDE // 16
    Image.fromarray(twelve).save(tmp_path / "a.png")
    negative(range=[0, 4095])
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/b")
    assert np.abs(np.asarray(Image.open(tmp_path / "b" / "a.png")).astype(int) - (4095 - twelve)).max() <= 1
    negative(range="auto").values = (0.0, 4095.0)  # as a checkpoint tells
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/c")
    assert (tmp_path / "c" / "a.png").read_bytes() == (tmp_path / "b" / "a.png").read_bytes()


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_numbers_of_other_types_stay_in_their_units(dtype: str, kind: str, negative: Any, tmp_path: Path) -> None:
    values = (np.arange(16 * 24).reshape(16, 24) * 5 - 1000).astype(dtype)
    (tmp_path / f"a.{kind}").write_bytes(npy(values) if kind == "npy" else tiff(values))
    negative(range=[-1000, 1000])
    verb(f"images={tmp_path}/a.{kind}", f"out={tmp_path}/b")
    result = tmp_path / "b" / f"a.{kind}"
    made = np.load(result) if kind == "npy" else tifffile.imread(result)
    assert made.dtype == ("f4" if dtype == "f8" else dtype)
    assert np.abs(made + values.clip(-1000, 1000)).max() <= (1 if dtype[0] == "i" else 1e-3)


def test_colours_of_sixteen_bits_keep_transparency_and_what_belongs_to_them(negative: Any, tmp_path: Path) -> None:
    negative(channels=3)
    values = np.stack([WIDE, WIDE[::-1], WIDE[:, ::-1], np.full_like(WIDE, 65535)], axis=-1)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a field"
    options = {"icc_profile": profile, "dpi": (300, 300), "exif": exif.tobytes()}
    for number, channels in enumerate((3, 4)):
        (tmp_path / "a.png").write_bytes(drawing.png_of(values[..., :channels], options))
        verb(f"images={tmp_path}/a.png", f"out={tmp_path}/{number}")
        raw = (tmp_path / str(number) / "a.png").read_bytes()
        assert raw[24:26] == bytes([16, 2 if channels == 3 else 6])
        with Image.open(io.BytesIO(raw)) as image:
            assert image.info["icc_profile"] == profile
            assert image.getexif()[0x010E] == "a field"
            assert image.mode == ("RGB" if channels == 3 else "RGBA")
        made = pixels_of(raw, 3)
        assert (made.int() + pixels_of((tmp_path / "a.png").read_bytes(), 3).int() - 255).abs().max() <= 1
    (tmp_path / "a.tif").write_bytes(tiff(values[..., :3], photometric="rgb"))
    verb(f"images={tmp_path}/a.tif", f"out={tmp_path}/b")
    made = tifffile.imread(tmp_path / "b" / "a.tif")
    assert np.abs(made.astype(int) - (65535 - values[..., :3].astype(int))).max() <= 1


def test_a_png_of_sixteen_bits_is_what_was_encoded() -> None:
    for channels in (1, 3):
        values = np.random.default_rng(0).integers(0, 65536, (7, 5, channels), dtype=np.uint16)
        raw = drawing.png_of(values)
        if channels == 1:
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(raw))), values[..., 0])
        found = pixels_of(raw, channels, Reading((0.0, 65535.0)))  # reads both bytes
        assert np.array_equal(found.permute(1, 2, 0), np.rint(values / 257))


def test_a_sample_of_sixteen_bits_has_the_values_of_the_data(tmp_path: Path) -> None:
    ramp = torch.linspace(-1, 1, 4096).view(1, 64, 64)
    IMAGE.save(ramp, tmp_path / "a.png", None, (0.0, 4095.0))
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image).ravel(), np.arange(4096))
    IMAGE.save(ramp.expand(3, -1, -1), tmp_path / "b.png", None, (0.0, 65535.0))
    assert (tmp_path / "b.png").read_bytes()[24:26] == bytes([16, 2])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_files_are_turned_upright_as_others_are(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for channels, values in ((1, WIDE[..., None]), (3, np.stack([WIDE, WIDE // 2, WIDE // 3], axis=-1))):
        raw = drawing.png_of(values, {"exif": exif.tobytes()})
        exact, _ = exact_of(raw, channels, Reading()) or pytest.fail("it has 16 bits")
        assert (drawing.to_uint8(exact).int() - pixels_of(raw, channels).int()).abs().max() <= 1


def test_transparency_as_a_channel_is_translated_and_written(negative: Any, tmp_path: Path) -> None:
    negative(channels=4)
    rgba = noise(16, 24, 4)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    Image.fromarray(rgba[..., :3]).save(tmp_path / "b.jpg")
    verb(f"images={tmp_path}/*.*", f"out={tmp_path}/out")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), 255 - rgba)
    assert Image.open(tmp_path / "out" / "b.jpg").mode == "RGB"


def test_bands_are_translated_and_shown(negative: Any, tmp_path: Path) -> None:
    negative(channels=5, range=[0, 255], bands=[5, 3, 1]).data_kind = Bands((5, 3, 1))
    bands = noise(16, 24, 5).astype(np.float32)
    np.save(tmp_path / "a.npy", bands)
    verb(f"images={tmp_path}/a.npy", f"out={tmp_path}/out")
    made = np.load(tmp_path / "out" / "a.npy")
    assert made.dtype == np.float32
    assert np.abs(made - (255 - bands)).max() < 1e-3
    assert Image.open(tmp_path / "out-sheet.png").mode == "RGB"


def test_grey_becomes_the_models_colours_or_stays_grey(
    negative: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    negative(channels=3)
    grey = noise(16, 24)
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(grey)))
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/out")
    assert Image.open(tmp_path / "out" / "a.png").mode == "RGB"
    assert "a.png: grey becomes the colours that the model makes; grey=true writes grey" in capsys.readouterr().out
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/grey", "grey=true")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "grey" / "a.png")), 255 - grey)
