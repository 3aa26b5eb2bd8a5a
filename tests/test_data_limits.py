"""What is small on disk and large in memory: each reader of archives and images has a limit and names what met it."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from PIL import Image
from support import REPOSITORY, write_images

from gan_experiments.bounds import OPTIONS
from gan_experiments.contracts import ConfigError
from gan_experiments.data import limits
from gan_experiments.data.cache import cached
from gan_experiments.data.decode import decode, pixels_of
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.images import Folder, read_idx
from gan_experiments.data.limits import UnreadableImageError, at_most
from gan_experiments.data.masks import read_mask
from gan_experiments.data.photos import read_photo
from gan_experiments.data.sources import Files, Settings
from gan_experiments.data.stored import StoredImages
from gan_experiments.data.super_resolution import SuperResolution
from gan_experiments.exploration import directions
from gan_experiments.losses import perceptual
from gan_experiments.metrics import extractors, module_extractors
from gan_experiments.metrics.usefulness import open_folder
from gan_experiments.official import files
from gan_experiments.runs import configs


def header_only(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


# -------------------------------------------------------------------- images of folders and archives


def of_cache(path: Path, tmp_path: Path) -> None:
    cached(Files(path), Settings(8, 3), str(tmp_path / "cache"))


def of_enlarging(path: Path, tmp_path: Path) -> None:
    SuperResolution(str(path), 16, cache=str(tmp_path / "cache")).images()


def of_scores(path: Path, tmp_path: Path) -> None:
    StoredImages(str(path), "fake")


def of_usefulness(path: Path, tmp_path: Path) -> None:
    open_folder("real", str(path), 8, 3)


READERS = {reader.__name__: reader for reader in (of_cache, of_enlarging, of_scores, of_usefulness)}


def archive(photos: Path, name: str, raw: bytes) -> Path:
    path = photos.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for photo in sorted(photos.iterdir()):
            file.write(photo, photo.name)
        file.writestr(name, raw)
    return path


def beside(photos: Path, name: str, raw: bytes) -> Path:
    (photos / name).write_bytes(raw)
    return photos


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were read of each entry of an archive."""
    found: list[int] = []
    original = zipfile.ZipFile.read

    def counted(self: zipfile.ZipFile, *args: object) -> bytes:
        found.append(len(raw := original(self, *args)))
        return raw

    monkeypatch.setattr(zipfile.ZipFile, "read", counted)
    return found


@pytest.mark.parametrize("place", [archive, beside])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_too_large_is_named_and_not_read(
    reader: str, place: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, read: list[int]
) -> None:
    path = place(write_images(tmp_path / "photos", 3), "big.png", bytes(3_000_000))
    with at_most(500_000):
        READERS[reader](path, tmp_path)
    [said] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "big.png" in said
    assert "type data.max_pixels=750000" in said
    assert max(read, default=0) < 10_000


@pytest.mark.parametrize("place", [archive, beside])
@pytest.mark.parametrize("reader", READERS)
def test_an_image_that_says_it_is_enormous(
    reader: str, place: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = place(write_images(tmp_path / "photos", 3), "bomb.png", header_only(60_000, 60_000))
    READERS[reader](path, tmp_path)
    [said] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert (
        "bomb.png (more than data.max_pixels=178956970; if it is a real image, type data.max_pixels=3600000000)" in said
    )


@pytest.mark.parametrize("reader", READERS)
def test_a_broken_entry_is_named(reader: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = archive(write_images(tmp_path / "photos", 3), "4.png", header_only(90, 90) + bytes(range(256)) * 9)
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        place = file.getinfo("4.png").header_offset + 30 + len("4.png")
    raw[place : place + 60] = b"\xff" * 60
    path.write_bytes(raw)
    READERS[reader](path, tmp_path)
    assert "4.png" in caplog.text


def encrypt(path: Path, entries: int) -> None:
    """Mark the last entries of an archive as encrypted, as they would be."""
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        chosen = file.infolist()[-entries:]
        place = file.start_dir
    for info in chosen:
        raw[info.header_offset + 6] |= 1
    names = {info.filename for info in chosen}
    while raw[place : place + 4] == b"PK\x01\x02":
        name, extra, comment = struct.unpack("<HHH", raw[place + 28 : place + 34])
        if raw[place + 46 : place + 46 + name].decode() in names:
            raw[place + 8] |= 1
        place += 46 + name + extra + comment
    path.write_bytes(raw)


@pytest.mark.parametrize("reader", READERS)
def test_an_encrypted_archive(reader: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = archive(write_images(tmp_path / "photos", 3), "4.png", b"")
    encrypt(path, 1)
    READERS[reader](path, tmp_path)
    assert "4.png (is encrypted)" in caplog.text
    encrypt(path, 4)
    with pytest.raises(ConfigError, match="is an encrypted archive: unpack it with its password, and type") as caught:
        READERS[reader](path, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_limit_can_be_raised_and_lowered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path / "photos", 3)
    write_images(tmp_path / "photos" / "larger", 2, size=50)
    options = {"root": str(tmp_path / "photos"), "resolution": 8, "cache": str(tmp_path / "cache")}
    assert len(Folder(**options, max_pixels=2499).training()) == 3
    assert (
        "larger/0.png (more than data.max_pixels=2499; if it is a real image, type data.max_pixels=2500)" in caplog.text
    )
    assert len(Folder(**options, max_pixels=2500).training()) == 5  # another cache
    assert len(Folder(**options).training()) == 5
    assert limits.pixels() == limits.PIXELS
    above = header_only(1, limits.PIXELS + 1)
    with pytest.raises(UnreadableImageError, match=f"type data.max_pixels={limits.PIXELS + 1}"):
        decode(above, 8, 3)
    with at_most(2501), pytest.raises(UnreadableImageError, match="truncated"):
        decode(header_only(1, 2501), 8, 3)


def test_the_word_is_the_verbs(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(header_only(60_000, 60_000))
    with at_most(None, "max_pixels"):
        path = tmp_path / "bomb.png"
        for read_it in (
            lambda: read_photo(path, 3),
            lambda: read_mask(path),
            lambda: pixels_of(path.read_bytes()),
        ):
            with pytest.raises(UnreadableImageError, match="type max_pixels=3600000000"):
                read_it()
    for value in (0, -1, 1.5, True, "many"):
        with pytest.raises(ConfigError, match=f"^max_pixels={value}: "), at_most(value, "max_pixels"):
            pass


@pytest.mark.parametrize("verb", ["translate", "evaluate", "usefulness"])
def test_every_verb_that_reads_a_persons_images_has_the_setting(verb: str) -> None:
    assert OmegaConf.load(REPOSITORY / "conf" / f"{verb}.yaml").max_pixels is None
    assert "max_pixels" in OPTIONS[verb]


@pytest.mark.parametrize("name", sorted(path.stem for path in (REPOSITORY / "conf" / "data").glob("*.yaml")))
def test_every_data_set_of_a_persons_files_has_the_setting(name: str) -> None:
    node = configs.of_choice("data", name)
    if "root" in node and issubclass(get_class(node._target_), ImageData):
        packed = name in ("mnist", "fashion_mnist", "cifar10", "glyphs", "voxels")
        assert ("max_pixels" in node) is not packed


# -------------------------------------------------------------------- packed tensors

TENSORS: dict[str, Callable[[Path], object]] = {
    "official": lambda path: files.read(path, "weights"),
    "directions": lambda path: directions.load(str(path), "directions"),
    "inception": extractors.clean_copy,
    "vgg": lambda path: perceptual._load(path, "vgg19", "", torch.nn.Sequential()),
    "timm": lambda path: module_extractors.load_weights(torch.nn.Linear(1, 1), str(path)),
}


@pytest.mark.parametrize("reader", TENSORS)
def test_tensors_that_are_packed(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"features.0.weight": torch.zeros(100_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in plain.infolist():
            packed.writestr(info.filename, plain.read(info))
    opened: list[object] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: opened.append(file) or load(file, **options))
    with pytest.raises((ConfigError, RuntimeError), match=r"0\.0 MB that unpack to 0\.4 MB|does not hold"):
        TENSORS[reader](tmp_path / "packed.pt")
    assert opened == []


def test_a_packed_list_of_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_experiments.data.images.LARGEST_IDX", 1000)
    for number in (900, 1_000_000):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(gzip.compress(struct.pack(">HBBi", 0, 8, 1, number) + bytes(number)))
    assert len(read_idx(tmp_path / "900.gz")) == 900
    with pytest.raises(ConfigError, match="is damaged"):
        read_idx(tmp_path / "1000000.gz")
    assert Image.open(io.BytesIO(header_only(3, 2))).size == (3, 2)
