"""DICOM and NIfTI: values in their units, windows by name or of the file, slices of volumes."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from gan_experiments.contracts import ConfigError
from gan_experiments.data.decode import Reading, UnreadableImageError, decode, frames_of, pixels_of, values_of
from gan_experiments.data.images import Folder


def dicom(values: np.ndarray, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """A DICOM file of one frame [H, W] or of several [n, H, W], or of colours [H, W, 3]."""
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
    colour = values.shape[-1] == 3
    data.Rows, data.Columns = values.shape[:2] if colour else values.shape[-2:]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data.PlanarConfiguration = 0
    elif values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.BitsAllocated = data.BitsStored = 8 * values.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    data.Modality = "CT"
    for name, value in attributes.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    if syntax == JPEGLSLossless:
        data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 no such thing"])
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def ct(hounsfield: np.ndarray, **attributes: Any) -> bytes:
    return dicom((hounsfield + 1024).astype(np.uint16), RescaleSlope=1, RescaleIntercept=-1024, **attributes)


def nifti(values: np.ndarray, affine: np.ndarray | None = None, packed: bool = False) -> bytes:
    raw = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes()
    return gzip.compress(raw, 1) if packed else raw


def folder(root: Path, files: dict[str, bytes], **settings: Any) -> Folder:
    root.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        (root / name).write_bytes(raw)
    return Folder(root=str(root), resolution=8, channels=1, cache=str(root.parent / "cache"), **settings)


RAMP = np.linspace(-1000, 1000, 64).round().reshape(8, 8)


def test_values_are_rescaled_and_read_through_a_window() -> None:
    raw = ct(RAMP, WindowCenter=40, WindowWidth=400)
    assert values_of(raw) == (-1000, 1000)
    for window, low, high in (("lung", -1350, 150), ("brain", 0, 80), ((-100.0, 100.0), -100, 100)):
        wanted = np.clip(np.rint((RAMP - low) * 255 / (high - low)), 0, 255)
        assert np.array_equal(pixels_of(raw, 1, Reading(window))[0], wanted), window
    # PS3.3 C.11.2.1.2.1: (x - (c - 0.5)) / (w - 1) + 0.5
    wanted = np.clip(np.rint(((RAMP - 39.5) / 399 + 0.5) * 255), 0, 255)
    assert np.array_equal(pixels_of(raw, 1, Reading("dicom"))[0], wanted)
    exact = ct(RAMP, WindowCenter=[40, 300], WindowWidth=[400, 1500], VOILUTFunction="LINEAR_EXACT")
    assert np.array_equal(
        pixels_of(exact, 1, Reading("dicom"))[0], np.clip(np.rint(((RAMP - 40) / 400 + 0.5) * 255), 0, 255)
    )


def test_a_file_without_a_window_has_none_to_read_it_by() -> None:
    with pytest.raises(UnreadableImageError, match=r"names no window of its own"):
        pixels_of(ct(RAMP), 1, Reading("dicom"))


def test_a_window_of_tissue_is_not_for_other_modalities() -> None:
    raw = dicom(np.zeros((8, 8), np.uint16), Modality="MR")
    with pytest.raises(UnreadableImageError, match=r"is 16-bit DICOM MR, and data.range=bone is in Hounsfield units"):
        pixels_of(raw, 1, Reading("bone"))


def test_a_range_has_to_be_chosen_and_is_said(tmp_path: Path) -> None:
    files = {f"{index}.dcm": ct(RAMP[:, ::-1] if index else RAMP) for index in range(2)}
    with pytest.raises(ConfigError, match=r"type data.range=lung or bone, brain, ..., data.range=dicom .*data.range="):
        folder(tmp_path / "a", files).prepare_data()
    data = folder(tmp_path / "a", {}, range="soft_tissue")
    (pixels,) = (line for line in data.understood() if line.startswith("pixels"))
    assert "2 of 16-bit DICOM CT in Hounsfield units (values -1000..1000); window soft_tissue; -150 becomes" in pixels
    assert data.values == (-150.0, 250.0)
    data = folder(tmp_path / "a", {}, range="auto")
    assert data.training().about.range == (-1000.0, 1000.0)


def test_monochrome1_is_turned_over() -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    usual, turned = dicom(values), dicom(values, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(pixels_of(usual)[0], values)
    assert np.array_equal(pixels_of(turned)[0], 255 - values)
    deep = dicom(values.astype(np.uint16), PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(pixels_of(deep, 1, Reading((0.0, 255.0)))[0], 255 - values)


def test_colours_stay_colours() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    assert np.array_equal(pixels_of(dicom(colours, Modality="US")).permute(1, 2, 0), colours)


def test_frames_of_dicom() -> None:
    values = np.arange(5 * 64, dtype=np.uint16).reshape(5, 8, 8)
    values[4] = 7
    raw = dicom(values, Modality="MR")
    assert frames_of(raw) == 5
    reading = Reading((0.0, 255.0))
    assert np.array_equal(decode(raw, 8, 1, reading=reading)[0], values[2])  # the middle one
    several = decode(raw, 8, 1, reading=reading, frames=range(5))
    assert np.array_equal(several[:3, 0], values[:3])
    assert len(several) == 4  # the last one is empty
    assert reading.met.empty == 1


def test_what_needs_a_plugin_is_left_out_with_what_to_install() -> None:
    with pytest.raises(UnreadableImageError, match=r"is compressed as JPEG-LS.*, which needs a plugin: pip"):
        pixels_of(dicom(np.zeros((8, 8), np.uint8), JPEGLSLossless))


def test_dicom_that_is_no_image_or_too_large_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = ct(RAMP)
    data = pydicom.dcmread(io.BytesIO(raw))
    del data.PixelData
    file = io.BytesIO()
    pydicom.dcmwrite(file, data)
    with pytest.raises(UnreadableImageError, match=r"is DICOM without an image"):
        pixels_of(file.getvalue())
    with pytest.raises(UnreadableImageError):
        pixels_of(raw[:-20])
    assert torch.equal(pixels_of(raw[128 + 4 :]), pixels_of(raw))  # without a preamble
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    with pytest.raises(UnreadableImageError, match=r"more than data.max_pixels=32"):
        pixels_of(raw)


# -------------------------------------------------------------------- NIfTI

# Of [right, front, up]: a value for each direction.
RIGHT, FRONT, UP = np.meshgrid(np.arange(6), np.arange(7), np.arange(8), indexing="ij")
BODY = (RIGHT * 100 + FRONT * 10 + UP).astype(np.int16)
SLICES = {
    "axial": (8, lambda i: BODY[::-1, ::-1, i].T),  # from below: front above, the right side left
    "coronal": (7, lambda i: BODY[::-1, i, ::-1].T),
    "sagittal": (6, lambda i: BODY[i, ::-1, ::-1].T),
}


@pytest.mark.parametrize("axis", SLICES)
@pytest.mark.parametrize("packed", [False, True])
def test_slices_are_cut_by_what_the_affine_says(axis: str, packed: bool) -> None:
    number, wanted = SLICES[axis]
    turned = np.diag([-1.0, 1.0, 1.0, 1.0])  # the first direction is to the left
    swapped = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])  # the first is up, the last right
    stored = [(BODY, np.eye(4)), (BODY[::-1], turned), (BODY.transpose(2, 1, 0), swapped)]
    for values, affine in stored:
        raw = nifti(np.ascontiguousarray(values), affine, packed)
        assert frames_of(raw, axis) == number
        reading = Reading((0.0, 1000.0), axis=axis)
        found = pixels_of(raw, 1, reading)[0]
        assert np.array_equal(found, np.rint(wanted(number // 2) * 0.255))


def test_all_slices_but_the_empty_ones(tmp_path: Path) -> None:
    body = BODY.copy()
    body[:, :, :2] = 0
    data = folder(tmp_path / "a", {"a.nii.gz": nifti(body, packed=True)}, range="auto", frames="all")
    said = data.understood()
    assert len(data.training()) == 6
    assert "empty     2 slices of one value throughout are left out" in said
    assert any(line.startswith("frames    1 file with 8 frames; all are taken") for line in said)
    assert data.training().about.range == (0.0, 567.0)
    other = folder(tmp_path / "a", {}, range="auto", frames="all", axis="sagittal")
    assert len(other.training()) == 6
    assert not torch.equal(other.training().pixels, data.training().pixels)
    one = folder(tmp_path / "a", {}, range="auto")
    assert len(one.training()) == 1
    with pytest.raises(ConfigError, match=r"data.axis=side: type data.axis=axial or coronal or sagittal"):
        folder(tmp_path / "a", {}, axis="side")


def test_a_scale_in_the_header_and_a_fourth_dimension() -> None:
    image = nibabel.Nifti1Image(np.stack([BODY, BODY * 0], axis=-1), np.eye(4))
    image.header.set_slope_inter(0.5, 3)
    assert values_of(image.to_bytes(), every=True) == (3, 3 + 567 / 2)


def test_what_is_no_volume_is_left_out() -> None:
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for raw in (nifti(BODY)[:-50], nifti(BODY, packed=True)[:-50], gzip.compress(b"text"), nifti(colours)):
        with pytest.raises(UnreadableImageError):
            pixels_of(raw)


def test_a_volume_that_unpacks_to_more_than_is_allowed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    raw = nifti(np.zeros((100, 100, 100), np.int16), packed=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(UnreadableImageError, match=r"more than 4 bytes for each"):
        pixels_of(raw)


@pytest.mark.parametrize(("package", "raw"), [("pydicom", ct(RAMP)), ("nibabel", nifti(BODY))], ids=["dicom", "nifti"])
def test_a_missing_package_is_named(package: str, raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(UnreadableImageError, match=rf"needs {package}: pip install {package}"):
        pixels_of(raw + b"\0")  # not the bytes of another test, which may be remembered
