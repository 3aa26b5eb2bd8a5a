"""Images that are neither grey nor RGB: transparency as a channel of its own, and bands of any number."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from support import compose, run

from gan_experiments import drawing
from gan_experiments.assembly import check
from gan_experiments.augment.ada import ADA
from gan_experiments.augment.diffaugment import DiffAugment
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import HeldOut
from gan_experiments.data.decode import Reading, UnreadableImageError, decode, frames_of, pixels_of, values_of
from gan_experiments.data.images import Folder
from gan_experiments.kinds import Bands
from gan_experiments.kinds import Image as ImageKind
from gan_experiments.metrics.paired import PairedEvaluator
from gan_experiments.metrics.request import Request

RUN = ("model=dcgan", "trainer=cpu", "logger=none", "data=folder", "data.resolution=32", "data.batch_size=4")
RUN += ("images=8", "model.generator.width=4", "model.discriminator.width=4", "metrics=digits", "metrics.num_fake=12")
RUN += ("metrics.scores=[fid]",)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def npy(values: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values), **options)
    return file.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# -------------------------------------------------------------------- transparency


def test_four_channels_are_the_file_as_it_is() -> None:
    pixels = noise(16, 16, 4)
    reading = Reading()
    assert np.array_equal(decode(encoded(Image.fromarray(pixels)), 16, 4, reading=reading).permute(1, 2, 0), pixels)
    assert reading.met.opaque == 0
    for image in (Image.fromarray(pixels[..., :3]), Image.fromarray(pixels[..., 0])):
        rgba = decode(encoded(image), 16, 4, reading=reading)
        assert (rgba[3] == 255).all()
        assert np.array_equal(rgba[:3], decode(encoded(image), 16, 3))
    assert reading.met.opaque == 2
    assert decode(encoded(Image.fromarray(pixels[..., :3]), "JPEG"), 16, 4, reading=reading)[3].min() == 255


def test_what_lies_over_white_is_what_pillow_makes_of_it() -> None:
    value, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack([value, value[::-1], value.T, alpha], axis=-1)
    image = Image.fromarray(rgba)
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    ours = drawing.over_white(torch.from_numpy(rgba).permute(2, 0, 1))
    assert np.array_equal(ours.permute(1, 2, 0), white)


def test_colours_of_invisible_pixels_do_not_run_into_others() -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[..., 1] = 255  # invisible green
    rgba[8:24, 8:24] = (255, 0, 0, 255)
    small = decode(encoded(Image.fromarray(rgba)), 8, 4)
    seen = small[3] > 0
    assert small[0][seen].min() > 250
    assert small[1][seen].max() < 5


def test_a_sheet_shows_transparency_by_a_checkerboard_and_a_file_keeps_it(tmp_path: Path) -> None:
    rgba = torch.full((1, 1, 4, 16, 16), -1.0)
    rgba[0, 0, 3, :8] = 1  # black above, nothing below
    sheet = drawing.sheet(rgba, smallest=16)
    assert (sheet[:, :8] == 0).all()
    assert set(sheet[:, 8:].unique().tolist()) == {204, 255}
    ImageKind().save(rgba[0, 0], tmp_path / "a.png", None)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[..., 3], drawing.to_uint8(rgba[0, 0, 3]))


def test_augmentations_of_colours_leave_transparency_alone() -> None:
    torch.manual_seed(0)
    images = torch.rand(8, 4, 16, 16) * 2 - 1
    for augment in (DiffAugment("color"), ADA("color", p=1.0, target=None)):
        made = augment(images)
        assert torch.equal(made[:, 3], images[:, 3])
        assert not torch.equal(made[:, :3], images[:, :3])
    moved = ADA("blit", p=1.0, target=None)(images)
    assert not torch.equal(moved[:, 3], images[:, 3])


def test_a_run_on_transparency(tmp_path: Path) -> None:
    root = tmp_path / "icons"
    root.mkdir()
    for index in range(6):
        rgba = noise(40, 40, 4, seed=index)
        rgba[:, :20, 3] = 0
        Image.fromarray(rgba).save(root / f"{index}.png")
    Image.fromarray(noise(40, 40, 3)).save(root / "opaque.png")
    words = (*RUN, f"data.root={root}", "data.channels=4", "hydra.run.dir=run", "augment=ada")
    done = run(*words, folder=tmp_path, GAN_EXPERIMENTS_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "alpha     1 images have no transparency: they are opaque" in done.stdout
    passport = json.loads((tmp_path / "run" / "scores.json").read_text())["last"]["scores"]["fid_digits"]["passport"]
    assert passport["seen"] == "RGB over white"
    with Image.open(tmp_path / "run" / "samples" / "real.png") as image:
        left = np.asarray(image)[3:35, 3:17]  # of the first image, within its cell: nothing but the board
    assert set(np.unique(left)) <= {204, 255}
    environment = {"GAN_EXPERIMENTS_CACHE": str(tmp_path / "cache")}
    done = run("run=run", "n=3", "singles=true", "out=drawn", verb="sample", folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "drawn" / "images" / "000002.png") as image:
        assert image.mode == "RGBA"


# -------------------------------------------------------------------- bands


def test_arrays_of_bands_are_read_by_their_shape() -> None:
    bands = noise(20, 24, 5)
    wanted = torch.from_numpy(bands).permute(2, 0, 1)
    reading = Reading(bands=5)
    for raw in (npy(bands), npy(np.moveaxis(bands, 2, 0)), npy(np.asfortranarray(bands))):
        assert torch.equal(pixels_of(raw, 5, reading), wanted)
    assert torch.equal(pixels_of(npy(bands[..., 0]), 1), wanted[:1])
    assert torch.equal(pixels_of(npy(bands[..., 0]), 3), wanted[:1].expand(3, -1, -1))
    assert torch.equal(pixels_of(npy(bands[..., :3])), wanted[:3])
    big_endian = npy((bands.astype(">u2")) * 257)
    assert torch.equal(pixels_of(big_endian, 5, reading), wanted)


BROKEN = {
    "an ambiguous shape": (npy(noise(5, 9, 5)), "either end could be the bands"),
    "another number of bands": (npy(noise(20, 24, 7)), "is 20x24x7: type data.channels=7 if it has 7 bands"),
    "text": (npy(np.array([["a", "b"]])), "is an array of <U1"),
    "complex numbers": (npy(np.ones((4, 4), complex)), "is an array of complex128"),
    "objects": (npy(np.array([[None, 1]], object), allow_pickle=True), "is an array of object"),
    "four dimensions": (npy(noise(2, 8, 8, 5)), "one image a file is read"),
    "nothing": (npy(np.zeros((0, 4, 5))), "one image a file is read"),
    "a cut file": (npy(noise(20, 24, 5))[:-1], "is cut off, or longer than its header says"),
    "an RGB file": (encoded(Image.fromarray(noise(16, 16, 3))), "has 3 bands (R, G, B), and data.channels=5"),
    "a palette": (encoded(Image.fromarray(noise(16, 16, 3)).convert("P")), "has a palette"),
    "a TIFF of other bands": (
        tiff(noise(16, 16, 6), photometric="minisblack", planarconfig="contig"),
        "is 16x16x6: type data.channels=6",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_are_no_bands_is_refused_in_words(name: str) -> None:
    raw, why = BROKEN[name]
    with pytest.raises(UnreadableImageError) as error:
        decode(raw, 16, 5, reading=Reading(bands=5))
    assert why in str(error.value)


def test_an_array_whose_header_promises_more_than_any_memory_holds_is_refused() -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 30, 1 << 30, 5)})
    with pytest.raises(UnreadableImageError, match="is cut off"):
        decode(file.getvalue() + b"\0" * 64, 16, 5, reading=Reading(bands=5))


@pytest.mark.parametrize("bands", [2, 4, 5, 12])
@pytest.mark.parametrize("layout", ["contig", "separate", "pages"])
def test_multispectral_tiff(bands: int, layout: str) -> None:
    values = noise(16, 20, bands).astype(np.uint16) * 257
    separate = np.moveaxis(values, 2, 0).copy()
    if layout == "pages":
        raw = tiff(separate, photometric="minisblack")
    elif layout == "separate":
        raw = tiff(separate, photometric="minisblack", planarconfig="separate")
    else:
        raw = tiff(values, photometric="minisblack", planarconfig="contig")
    reading = Reading(bands=bands)
    made = pixels_of(raw, bands, reading)
    assert np.array_equal(made, separate // 257)
    assert values_of(raw, bands=bands) == (values.min(), values.max())
    assert frames_of(raw, bands=bands) == 1


def test_bands_that_pillow_would_drop_are_not_dropped() -> None:
    values = noise(16, 20, 5)
    raw = tiff(values, photometric="rgb")  # Pillow opens it as RGB
    assert np.array_equal(pixels_of(raw, 5, Reading(bands=5)).permute(1, 2, 0), values)
    two = tiff(values[..., :2].copy(), photometric="minisblack", planarconfig="contig")  # and this as grey
    assert np.array_equal(pixels_of(two, 2, Reading(bands=2)).permute(1, 2, 0), values[..., :2])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ({"channels": 3, "bands": [1, 2, 3]}, "images of data.channels=3 are shown as they are"),
        (
            {"channels": 5, "bands": [1, 2]},
            "three of the bands 1 to 5 are shown as red, green and blue",
        ),
        ({"channels": 5, "bands": [0, 1, 2]}, "type data.bands=[1,2,3]"),
        ({"channels": 2, "bands": [1, 2, 3]}, "type data.bands=[1]"),
    ],
)
def test_bands_that_cannot_be_shown_are_refused(words: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        Folder(**words)
    assert fault in str(error.value)


def test_bands_are_shown_as_chosen() -> None:
    images = noise(1, 5, 8, 8)
    kind = Bands.of(5, [3, 2, 1])
    assert np.array_equal(kind.viewed(torch.from_numpy(images)), images[:, [2, 1, 0]])
    assert kind.seen_as(5) == "bands 3, 2, 1 of 5"
    assert Bands.of(2).seen_as(2) == "band 1 of 2"
    assert Bands.of(12).shown == (1, 2, 3)
    assert Folder(channels=4).kind == ImageKind()
    assert Folder(channels=4, bands=[4]).kind == Bands((4,))


def test_colours_of_bands_are_not_augmented_by_ada(tmp_path: Path) -> None:
    words = ("data=folder", "data.channels=5", "metrics=none")
    assert [*check.faults(compose(tmp_path, *words, "augment=diffaugment"))] == []
    (fault,) = check.faults(compose(tmp_path, *words, "augment=ada"))
    assert "type augment.policy=bg" in fault
    assert [*check.faults(compose(tmp_path, *words, "augment=ada", "augment.policy=bg"))] == []


def test_a_run_on_five_bands(tmp_path: Path) -> None:
    root = tmp_path / "fields"
    root.mkdir()
    for index in range(6):
        values = noise(36, 36, 5, seed=index).astype(np.uint16) * 39
        (root / f"{index}.npy").write_bytes(npy(values)) if index % 2 else (root / f"{index}.tif").write_bytes(
            tiff(values, photometric="minisblack", planarconfig="contig")
        )
    words = (*RUN, f"data.root={root}", "data.channels=5", "data.bands=[5,3,1]", "hydra.run.dir=run")
    environment = {"GAN_EXPERIMENTS_CACHE": str(tmp_path / "cache")}
    done = run(*words, folder=tmp_path, **environment)
    assert done.returncode == 2
    assert "type data.range=auto" in done.stderr
    assert not (tmp_path / "run").exists()
    done = run(*words, "data.range=[0,10000]", folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "3 of 16-bit array (values " in done.stdout
    assert "0 becomes black and 10000 white" in done.stdout
    passport = json.loads((tmp_path / "run" / "scores.json").read_text())["last"]["scores"]["fid_digits"]["passport"]
    assert passport["seen"] == "bands 5, 3, 1 of 5"
    again = ("run=run", "n=2", "singles=true")
    done = run(*again, "out=drawn", verb="sample", folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    deep = run(*again, "out=deep", "depth=16", verb="sample", folder=tmp_path, **environment)
    assert deep.returncode == 0, deep.stderr
    values = np.load(tmp_path / "deep" / "images" / "000001.npy")
    assert values.dtype == np.float32
    eight = np.load(tmp_path / "drawn" / "images" / "000001.npy")
    assert np.abs(values / 10000 * 255 - eight).max() <= 0.51
    made = np.load(tmp_path / "drawn" / "images" / "000001.npy")
    assert made.shape == (32, 32, 5)
    with Image.open(tmp_path / "drawn" / "sheet.png") as image:
        assert image.mode == "RGB"
    done = run("run=run", verb="evaluate", folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr


def test_scores_of_pairs_see_what_lies_over_white() -> None:
    torch.manual_seed(0)
    truth = torch.rand(1, 4, 16, 16) * 2 - 1
    truth[:, 3, :8] = -1  # invisible, so that its colours do not matter
    fake = truth.clone()
    fake[:, :3, :8] = 0

    class Same:
        direction, seed, changes = "b", 0, False

        def pair(self, batch: Any, number: int) -> tuple[torch.Tensor, torch.Tensor]:
            return fake, truth

    evaluator = PairedEvaluator(scores=["l1"])
    held_out = HeldOut("test", "pairs", 1, lambda row: {})
    (score,) = evaluator.measure(Same(), held_out, Request("cpu", ema=None)).scores.values()
    assert score.passport["channel"] == "RGB over white"
    assert score.value == 0
