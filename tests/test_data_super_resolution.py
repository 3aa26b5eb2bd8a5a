"""MATLAB's imresize, images of any size in one file, and crops of both resolutions that belong together."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from support import batches, ready, require_exact, small, write_images
from torch.nn import functional as F

from gan_experiments.assembly import check
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import to_float, turned
from gan_experiments.data.resize import contributions, imresize
from gan_experiments.data.super_resolution import SCALES, SuperResolution, crop
from gan_experiments.networks import srgan

# The upper left corner of the red channel of a photograph, and that of what MATLAB wrote for
# imwrite(imresize(im2double(photograph), scale, 'bicubic')).
CORNER = bytes.fromhex(
    "06060606060606060606060606060606549c4c172c70676e37702c3454542815548f4c4f2c4f4f673636345467746e34"
    "2c4f2c4f4c342c5474272c54549c5454342c7474174c2c2c909c377054489c676e4f549c152c17172c9cb054b0958eb0"
    "342c17346e4c1737342c67d370b0b3c4674c172c4f70342c70702c4f4c378c9c744c172c172c4f2c2c2c54542c2c546f"
    "54b08e5472252c2c344f4f4c2c9090486e54af9074742c17544c2c272c2c67b08d4f95908f95572c545436252c34746f"
    "8d4c70b0565490374f9c2c2c152c9cc48f37364f6f4f676e2c2c2c172c17374f4f364f374c362c4f34482c172c067067"
    "2c174c70564f182c4848543618172c54"
)
MATLAB = [
    (1 / 2, [[57, 30, 36, 51, 38], [86, 77, 66, 85, 77], [66, 99, 52, 38, 110], [70, 41, 79, 48, 73],
             [109, 80, 61, 49, 61]]),
    (1 / 3, [[62, 43, 59], [77, 69, 67], [72, 59, 54]]),
    (1 / 4, [[62, 56], [71, 57]]),
    (2, [[0, 0, 0, 0], [20, 25, 35, 35], [63, 82, 119, 118], [83, 108, 156, 155]]),
    (3, [[0, 0, 0, 0], [6, 6, 6, 6], [27, 29, 36, 46], [55, 61, 78, 101]]),
]  # fmt: skip


@pytest.mark.parametrize(("scale", "wanted"), MATLAB)
def test_matlabs_values(scale: float, wanted: list[list[int]]) -> None:
    pixels = torch.frombuffer(bytearray(CORNER), dtype=torch.uint8).view(16, 16)
    found = imresize(pixels, scale)
    assert found.dtype == torch.uint8
    assert found[: len(wanted), : len(wanted)].tolist() == wanted
    exact = imresize(pixels.double() / 255, scale)
    assert exact.dtype == torch.float64
    assert torch.equal(exact.mul(255).add(0.5).floor().clamp(0, 255).to(torch.uint8), found)


def test_the_weights() -> None:
    """Keys' kernel at ±1/4, ±3/4, ±5/4, ±7/4, halved for a scale of one half."""
    _, weights = contributions(32, 0.5)
    middle = weights[:, 8][weights[:, 8] != 0]
    side = [-0.01171875, -0.03515625, 0.11328125, 0.43359375]
    assert middle.tolist() == [*side, *side[::-1]]
    for length, scale, number in ((10, 1 / 3, 4), (9, 1 / 3, 3), (7, 0.5, 4), (5, 3, 15), (1, 0.25, 1)):
        indices, weights = contributions(length, scale)
        assert indices.shape[1] == number
        assert indices.min() >= 0
        assert indices.max() < length
        assert torch.allclose(weights.sum(0), torch.ones(number, dtype=torch.float64))
    mirrored = imresize(torch.arange(12.0).view(1, 12).flip(1), 0.5).flip(1)
    assert torch.allclose(mirrored, imresize(torch.arange(12.0).view(1, 12), 0.5), atol=1e-6)


def photograph(path: Path, width: int, height: int, seed: int) -> None:
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    pixels = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy()).save(path)


SIZES = [(50, 41), (37, 64), (24, 24), (61, 33), (20, 90)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, their small ones as MATLAB makes them, and two for tests."""
    folder = tmp_path_factory.mktemp("super_resolution")
    for name in ("high", "low", "test"):
        (folder / name).mkdir()
    for i, (width, height) in enumerate(SIZES):
        photograph(folder / "high" / f"{i:04d}.png", width, height, i)
        with Image.open(folder / "high" / f"{i:04d}.png") as image:
            image.crop((0, 0, width // 2 * 2, height // 2 * 2)).reduce(2).save(folder / "low" / f"{i:04d}x2.png")
    for i in range(2):
        photograph(folder / "test" / f"{i}.png", 31, 45, 9 + i)
    return folder


def data_of(root: Path, **settings: Any) -> SuperResolution:
    given = {"resolution": 24, "scale": 2, "batch_size": 4, "cache": str(root / "cache"), **settings}
    return SuperResolution(str(root / "high"), **given)


def test_images_of_any_size_are_kept_whole(root: Path, tmp_path: Path) -> None:
    data = data_of(root, cache=str(tmp_path / "cache"))
    data.prepare_data()
    data.setup("fit")
    assert data.describe() == "SuperResolution: 4 images, crops 3x24x24 from 3x12x12, 1 file left out"  # 20 wide
    images = data.images()
    assert images.sizes[:, 0].tolist() == [[h // 2 * 2, w // 2 * 2] for w, h in SIZES]
    for row, (width, height) in enumerate(SIZES):
        with Image.open(root / "high" / f"{row:04d}.png") as stored:
            wanted = torch.frombuffer(bytearray(stored.tobytes()), dtype=torch.uint8).view(height, width, 3)
        assert torch.equal(images.image(row).permute(1, 2, 0), wanted[: height // 2 * 2, : width // 2 * 2])
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again.image(3), images.image(3))
    folder = images.folder
    (folder / "pixels.bin").write_bytes((folder / "pixels.bin").read_bytes()[:-1])
    mended = data_of(root, cache=str(tmp_path / "cache")).images()
    assert mended.fingerprint == images.fingerprint
    assert len((folder / "pixels.bin").read_bytes()) == sum(3 * h * w for h, w in images.sizes[:, 0].tolist())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_crop_is_that_of_the_whole_image(root: Path, scale: int) -> None:
    data = data_of(root, scale=scale)
    images, side = data.images(), 24 // scale
    for row in (0, 1, 3):
        low, high = data.pair(row, "train")
        assert torch.equal(low, imresize(high, 1 / scale))
        for place in ((0.0, 0.0), (0.4, 0.7), (0.999, 0.999), (0.0, 0.999)):
            small, large = crop(images, row, 24, scale, place)
            top, left = (int(p * (n // scale - side + 1)) for p, n in zip(place, high.shape[1:], strict=True))
            assert torch.equal(small, low[:, top : top + side, left : left + side])
            assert torch.equal(large, high[:, scale * top :, scale * left :][:, :24, :24])


def test_batches(root: Path) -> None:
    data = data_of(root, batch_size=64, flip=True)
    raw = batches(data, 1)[0]
    assert raw["turn"].unique().tolist() == list(range(8))
    batch = data.on_after_batch_transfer(raw, 0)
    assert batch.keys() == data.provides == {"low", "high"}
    assert batch["high"].shape == (64, 3, 24, 24)
    assert batch["low"].shape == (64, 3, 12, 12)
    assert len(batch["high"].flatten(1).unique(dim=0)) > 40
    # Both are turned alike: the inner part, which the kernel sees whole, is imresize of the turned crop.
    inner = (slice(None), slice(None), slice(3, -3), slice(3, -3))
    small = imresize(batch["high"].double(), 0.5)[inner]
    assert (batch["low"][inner] - small).abs().max() < 0.6 / 127.5
    assert data.on_after_batch_transfer(batch, 0)["low"] is batch["low"]
    assert batches(data_of(root, flip=True, rotate=False, batch_size=64), 1)[0]["turn"].unique().tolist() == [0, 1]
    assert batches(data_of(root, rotate=False), 1)[0]["turn"].unique().tolist() == [0]


def test_eight_turns() -> None:
    pixels = torch.arange(9).view(1, 1, 3, 3).expand(8, -1, -1, -1)
    found = turned(pixels, torch.arange(8))
    assert len(found.flatten(1).unique(dim=0)) == 8
    assert torch.equal(found[0], pixels[0])
    assert torch.equal(found[1, 0], pixels[0, 0].flip(1))
    assert torch.equal(found[2, 0], pixels[0, 0].flip(0))
    assert torch.equal(found[4, 0], pixels[0, 0].T)
    assert torch.equal(found[5, 0], torch.rot90(pixels[0, 0]))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_workers_and_going_on(root: Path, workers: int) -> None:
    require_exact(lambda **more: data_of(root, flip=True, **more), workers)


def test_two_folders(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = data_of(root, low_root=str(root / "low"), cache=str(tmp_path / "cache"))
    images = data.images()
    assert images.sizes.shape == (5, 2, 2)
    for row in range(5):
        low, high = data.pair(row, "train")
        assert (2 * low.shape[1], 2 * low.shape[2]) == tuple(high.shape[1:])
        assert (F.avg_pool2d(high.float(), 2) - low).abs().max() <= 0.5
    batch = data.on_after_batch_transfer(batches(data, 1)[0], 0)
    assert (F.avg_pool2d(batch["high"], 2) - batch["low"]).abs().max() < 0.51 / 127.5
    (tmp_path / "low").mkdir()
    for path in sorted((root / "low").iterdir())[1:]:
        (tmp_path / "low" / path.name).write_bytes(path.read_bytes())
    photograph(tmp_path / "low" / "0001x2.png", 20, 40, 0)
    data = data_of(root, low_root=str(tmp_path / "low"), cache=str(tmp_path / "cache"))
    assert len(data.images()) == 3
    assert "0000 (has no pair)" in caplog.text
    assert "0001.png (37x64, but 20x40 in low resolution, which is not smaller by 2)" in caplog.text


def test_the_test_split(root: Path) -> None:
    data = data_of(root, test_root=str(root / "test"), scale=3)
    assert len(data.images("test")) == 2
    assert data.pair(1)[0].shape == (3, 15, 10)
    fixed = data.fixed(2)
    assert fixed["low"].shape == (2, 3, 8, 8)
    assert torch.equal(fixed["high"], to_float(data.reference("test").pixels))
    assert len(data.reference("train")) == 4
    assert ready(data_of(root, channels=1))["low"].shape == (4, 1, 12, 12)


def test_mistakes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, said in (
        ({"scale": 5}, r"data\.scale=5: type data\.scale=2, 3, 4"),
        ({"resolution": 25}, r"data\.resolution=25 is no multiple of data\.scale=2: type data\.resolution=24"),
        ({"classes": 2}, r"type data\.classes=0"),
    ):
        with pytest.raises(ConfigError, match=said):
            data_of(root, **given)
    with pytest.raises(ConfigError, match=r"data\.resolution=64, but no image .* type data\.resolution=40"):
        data_of(root, resolution=64).setup()
    with pytest.raises(ConfigError, match=r"no split 'test': type data\.test_root="):
        data_of(root).images("test")
    with pytest.raises(ConfigError, match="has no split 'val': type one of train, test"):
        data_of(root).images("val")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(ConfigError, match=r"none of the 1 files of data\.root=.*is an image"):
        SuperResolution(str(tmp_path / "empty"), cache=str(tmp_path)).setup()

    def fail(*given: Any, **options: Any) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", fail)
    with pytest.raises(ConfigError, match=r"cannot be downloaded .*fetch https://.*DIV2K_train_HR\.zip and unpack it"):
        SuperResolution(str(tmp_path / "DIV2K_train_HR"), cache=str(tmp_path)).setup()


def test_the_data_know_each_scale_of_the_networks(tmp_path: Path) -> None:
    assert tuple(srgan.FACTORS) == SCALES
    root = str(write_images(tmp_path / "photos", 2, size=64))
    for scale in SCALES:
        low, high = (
            ready(SuperResolution(root, 48, scale, batch_size=2, cache=str(tmp_path / "cache")))[key]
            for key in ("low", "high")
        )
        assert (low.shape, high.shape) == ((2, 3, 48 // scale, 48 // scale), (2, 3, 48, 48))


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("srresnet", "model.generator enlarges 8 times and data.scale=4: type data.scale=8, or leave model.generator."),
        ("rrdb_psnr", "RRDBNet cannot enlarge 8 times: type data.scale=2 or data.scale=4"),
    ],
)
def test_data_and_network_have_one_scale(model: str, wanted: str, tmp_path: Path) -> None:
    [fault] = check.faults(small(tmp_path, model, "model.generator.scale=8"))
    assert fault.startswith(wanted)
    assert [*check.faults(small(tmp_path, model, "data.scale=8"))] == ([fault] if model == "rrdb_psnr" else [])
