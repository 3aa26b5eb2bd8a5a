"""Kinds of input that people bring, each made small: what is typed for it, and what is right.

`benchmarks/inputs.py` trains on each with any checkout and prints what came of it; `test_inputs.py` holds that here all
is right. A new kind is one function with `@kind`.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from gan_experiments.assembly import build
from gan_experiments.data.module import DataModule

Maker = Callable[[Path], Sequence[str]]
PLAIN = ("data=folder", "data.root={root}")
"""What is typed for a folder by somebody who has not read anything."""
SMALL = ("data.resolution=32", "data.batch_size=4", "metrics=none", "logger=csv", "trainer=cpu", "images=8")
SMALL += ("model.generator.width=4", "model.discriminator.width=4")
"""A DCGAN of a few channels, for two batches; what an input's own words say comes later, and so wins."""


@dataclass(frozen=True)
class Input:
    """One kind of input.

    `make` writes it into an empty folder and returns the words to type. `refused` are words of the line that refuses
    it, empty if it is trained on. If it is, `says` are words of what is said before the training, `images` the number
    of training images, `classes` the names of the classes, or their number, and `shape` that of an image. `right` looks
    at the images [n, C, H, W] in [-1, 1], in their order. `plain` are the words of somebody who has not read anything,
    with {root} for the folder.
    """

    name: str
    make: Maker
    refused: str = ""
    says: tuple[str, ...] = ()
    images: int | None = None
    classes: int | tuple[str, ...] = 0
    shape: tuple[int, ...] = (3, 32, 32)
    right: Callable[[Tensor], object] | None = None
    plain: tuple[str, ...] | None = PLAIN
    needs: str = ""

    def words(self, folder: Path) -> list[str]:
        """Write the input below a new folder; return the whole command but for the program."""
        folder.mkdir(parents=True)
        return [*SMALL, *self.make(folder)]

    def plain_words(self, folder: Path) -> list[str]:
        """Return what a person would type first for the input in that folder."""
        return [*SMALL, *(word.format(root=folder) for word in self.plain or ())]

    def faults(self, data: DataModule) -> list[str]:
        """Return what is not as it should be of data that were opened."""
        found = []
        said = "\n".join(build.understood(data))
        found += [f"does not say {word!r}" for word in self.says if word not in said]
        if self.images is not None and data.size != self.images:
            found.append(f"{data.size} images, not {self.images}")
        names = data.class_names if "label" in data.provides else []
        wanted = self.classes
        if (len(names) if isinstance(wanted, int) else tuple(names)) != wanted:
            shown = ", ".join(names[:5]) or "none"
            found.append(f"classes {shown}, not {wanted if isinstance(wanted, int) else ', '.join(wanted)}")
        real = data.fixed(self.images or 4)["real"]
        if tuple(real.shape[1:]) != self.shape:
            found.append(f"{'x'.join(map(str, real.shape[1:]))}, not {'x'.join(map(str, self.shape))}")
        elif not torch.isfinite(real).all():
            found.append("values that are not finite")
        elif self.right is not None and not self.right(real):
            found.append("other pixels than in the file")
        return found


INPUTS: dict[str, Input] = {}


def kind(name: str, **right: Any) -> Callable[[Maker], Maker]:
    """Register a maker as a kind of input."""

    def register(make: Maker) -> Maker:
        INPUTS[name] = Input(name, make, **right)
        return make

    return register


def inspect(of: Input, cfg: DictConfig) -> list[str]:
    """Open the data of a config; return the faults. What opening raises is raised."""
    data = build.open_data(cfg.data)
    data.setup()
    return of.faults(data)


# -------------------------------------------------------------------- pictures


def pixels(index: int, size: tuple[int, int] = (48, 48), channels: int = 3) -> np.ndarray:
    """A smooth picture, uint8 [height, width, channels], other for each index."""
    random = np.random.default_rng(index)
    coarse = [Image.fromarray(random.integers(0, 256, (4, 4), np.uint8)).resize(size, 2) for _ in range(channels)]
    return np.stack([np.asarray(one) for one in coarse], axis=-1)


def picture(index: int, size: tuple[int, int] = (48, 48)) -> Image.Image:
    return Image.fromarray(pixels(index, size))


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pictures(folder: Path, n: int, first: int = 0, suffix: str = "png") -> list[Path]:
    """n pictures 0.png, ... in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.{suffix}" for index in range(n)]
    for index, path in enumerate(paths):
        picture(first + index).save(path)
    return paths


def root(folder: Path, *words: str) -> list[str]:
    return ["data=folder", f"data.root={folder}", *words]


def ramp(real: Tensor) -> bool:
    """All images run from black at the left to white at the right."""
    columns = real.mean(dim=(0, 1, 2))
    return bool(columns[0] < -0.9 and columns[-1] > 0.9 and abs(columns.mean()) < 0.05)


def ramps(folder: Path, low: float, high: float, dtype: Any, suffix: str, n: int = 4) -> None:
    """Grey files that run from `low` at the left to `high` at the right."""
    for index in range(n):
        row = np.linspace(low, high, 64).astype(dtype)
        Image.fromarray(np.tile(row, (64, 1))).save(folder / f"{index}.{suffix}")


def tiff(values: np.ndarray) -> bytes:
    """An uncompressed TIFF of [height, width, channels] of any number of channels, uint8 or uint16."""
    height, width, channels = values.shape
    data, bits = values.astype("<u2" if values.itemsize == 2 else "u1").tobytes(), 8 * values.itemsize
    at = 8 + 2 + 10 * 12 + 4  # behind the header and the directory
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, at), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, at + 4 * channels), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data))]
    entries += [(338, 3, channels - 1, at + 2 * channels)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return head + bytes(4) + struct.pack(f"<{channels}H", *[bits] * channels) + bytes(2 * channels) + data


# -------------------------------------------------------------------- kinds of pixels


@kind("12-bit PNG, as microscopes write them", images=4, right=ramp, says=("0..4095",))
def twelve_bits(folder: Path) -> Sequence[str]:
    ramps(folder, 0, 4095, np.uint16, "png")
    return root(folder, "data.range=[0,4095]")


@kind("float TIFF from 0 to 1", images=4, right=ramp)
def float_tiff(folder: Path) -> Sequence[str]:
    ramps(folder, 0, 1, np.float32, "tif")
    return root(folder)


@kind("float TIFF from -1 to 1", images=4, right=ramp, says=("-1..1",))
def signed_tiff(folder: Path) -> Sequence[str]:
    ramps(folder, -1, 1, np.float32, "tif")
    return root(folder, "data.range=[-1,1]")


@kind("int32 TIFF of counts", images=4, right=ramp, says=("0..100000",))
def int_tiff(folder: Path) -> Sequence[str]:
    ramps(folder, 0, 100_000, np.int32, "tif")
    return root(folder, "data.range=auto")


@kind("float TIFF with NaN where nothing was measured", refused="nan|NaN|not finite|no number")
def nan_tiff(folder: Path) -> Sequence[str]:
    values = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    values[:8] = np.nan
    for index in range(4):
        Image.fromarray(values).save(folder / f"{index}.tif")
    return root(folder)


@kind("DICOM in Hounsfield units, signed", images=4, shape=(1, 32, 32), right=ramp, needs="pydicom")
def dicom(folder: Path) -> Sequence[str]:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    for index in range(4):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        file.Modality, file.PatientID, file.InstanceNumber = "CT", "1", index
        file.Rows = file.Columns = 64
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
        file.RescaleSlope, file.RescaleIntercept = "1", "-24"
        file.PixelData = np.tile(np.linspace(-976, 1024, 64), (64, 1)).astype(np.int16).tobytes()
        file.save_as(folder / f"{index}.dcm", enforce_file_format=True)
    return root(folder, "data.channels=1", "data.range=[-1000,1000]")


@kind("NIfTI volume", shape=(1, 32, 32), needs="nibabel")
def nifti(folder: Path) -> Sequence[str]:
    import nibabel

    volume = np.stack([pixels(i, channels=1)[..., 0] for i in range(6)], axis=-1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "brain.nii.gz")
    return root(folder, "data.channels=1", "data.frames=all", "data.range=[0,255]")


@kind("stickers with alpha (RGBA)", images=4, shape=(4, 32, 32), right=lambda real: real[:, 3, 0, 0].max() < -0.9)
def stickers(folder: Path) -> Sequence[str]:
    for index in range(4):
        image = picture(index)
        alpha = Image.new("L", image.size)
        alpha.paste(255, (12, 12, 36, 36))
        image.putalpha(alpha)
        image.save(folder / f"{index}.png")
    return root(folder, "data.channels=4")


@kind("multispectral TIFF of five bands", images=4, shape=(5, 32, 32))
def multispectral_tiff(folder: Path) -> Sequence[str]:
    for index in range(4):
        (folder / f"{index}.tif").write_bytes(tiff(pixels(index, channels=5)))
    return root(folder, "data.channels=5")


@kind("multispectral .npy of six bands", images=4, shape=(6, 32, 32))
def multispectral_npy(folder: Path) -> Sequence[str]:
    for index in range(4):
        np.save(folder / f"{index}.npy", pixels(index, channels=6))
    return root(folder, "data.channels=6")


@kind("GIF animation with a palette, all frames", images=6, says=("6 frames",))
def animation(folder: Path) -> Sequence[str]:
    first, *rest = (picture(i).convert("P") for i in range(6))
    first.save(folder / "dance.gif", save_all=True, append_images=rest)
    return root(folder, "data.frames=all")


@kind("CMYK JPEG, as printers send them", images=4, right=lambda real: real[:, 0].mean() > 0.5 > real[:, 1].mean())
def cmyk(folder: Path) -> Sequence[str]:
    for index in range(4):
        Image.new("CMYK", (48, 48), (0, 255, 255, 0)).save(folder / f"{index}.jpg")
    return root(folder)


@kind("photographs that a phone turned by EXIF", images=4, right=lambda real: real[..., :4, :].mean() > 0.5)
def exif(folder: Path) -> Sequence[str]:
    for index in range(4):
        image = Image.new("L", (64, 64))
        image.paste(255, (0, 0, 32, 64))  # white at the left, which is the top of what was seen
        tags = Image.Exif()
        tags[0x0112] = 6
        image.convert("RGB").save(folder / f"{index}.jpg", exif=tags)
    return root(folder)


@kind("scans of 1 bit", images=4, shape=(1, 32, 32), right=lambda real: real.min() < -0.9 and real.max() > 0.9)
def scans(folder: Path) -> Sequence[str]:
    for index in range(4):
        image = Image.new("1", (64, 64), 1)
        image.paste(0, (16, 16, 48, 48))
        image.save(folder / f"{index}.tif", compression="group4")
    return root(folder, "data.channels=1")


@kind("masks whose values are class numbers", images=4, says=("NEARLY BLACK",))
def masks(folder: Path) -> Sequence[str]:
    for index in range(4):
        Image.fromarray(pixels(index, channels=1)[..., 0] // 52).save(folder / f"{index}.png")
    return root(folder)


@kind("a palette with one transparent colour, over white", images=4, right=lambda real: real[..., 0, 0].min() > 0.9)
def transparent_palette(folder: Path) -> Sequence[str]:
    for index in range(4):
        image = Image.new("P", (48, 48))
        image.putpalette([0, 0, 0, 200, 30, 30])
        image.paste(1, (12, 12, 36, 36))
        image.save(folder / f"{index}.png", transparency=0)
    return root(folder)


@kind("BMP, PPM, TGA, WebP and a JPEG 2000 side by side", images=5)
def many_forms(folder: Path) -> Sequence[str]:
    for index, suffix in enumerate(("bmp", "ppm", "tga", "webp", "jp2")):
        picture(index).save(folder / f"{index}.{suffix}")
    return root(folder)


# -------------------------------------------------------------------- shapes


def _panorama(folder: Path) -> None:
    for index in range(4):
        Image.fromarray(np.tile(np.linspace(0, 255, 256, dtype=np.uint8), (64, 1))).save(folder / f"{index}.png")


@kind("panoramas of 64 x 256", images=4, shape=(3, 32, 128), right=ramp)
def panoramas(folder: Path) -> Sequence[str]:
    _panorama(folder)
    return root(folder, "data.resolution=[32,128]")


@kind("panoramas of 64 x 256, cut to squares", images=4, says=("lose more than half",))
def cut_panoramas(folder: Path) -> Sequence[str]:
    _panorama(folder)
    return root(folder)


@kind("images of 1 x 1 and of 10000 x 3", images=4, says=("1x1", "lose more than half"))
def odd_shapes(folder: Path) -> Sequence[str]:
    for index, size in enumerate(((1, 1), (10_000, 3), (3, 10_000), (48, 48))):
        picture(index, size).save(folder / f"{index}.png")
    return root(folder)


# -------------------------------------------------------------------- what lies among the files


@kind("HEIC of a phone among JPEGs", images=3, says=("left out  1 file: 3.heic",))
def heic(folder: Path) -> Sequence[str]:
    pictures(folder, 3, suffix="jpg")
    (folder / "3.heic").write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(500))
    return root(folder)


@kind("JPEGs that are called .heic", images=4)
def called_heic(folder: Path) -> Sequence[str]:
    for index in range(4):
        (folder / f"{index}.heic").write_bytes(file_of(picture(index), "JPEG"))
    return root(folder)


@kind("empty files and cut-off ones among images", images=3, says=("left out  2 files",))
def empty_files(folder: Path) -> Sequence[str]:
    pictures(folder, 3)
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(file_of(picture(9))[:300])
    return root(folder)


@kind("texts, a video and a PDF among images", images=3, says=("left out  3 files",))
def other_files(folder: Path) -> Sequence[str]:
    pictures(folder, 3)
    for name, content in (("readme.txt", b"hello"), ("a.mp4", b"\0\0\0\x18ftypmp42"), ("b.pdf", b"%PDF-1.4")):
        (folder / name).write_bytes(content)
    return root(folder)


@kind("a folder of PDFs", refused="is an image")
def pdfs(folder: Path) -> Sequence[str]:
    for index in range(3):
        (folder / f"{index}.pdf").write_bytes(b"%PDF-1.4\n%%EOF")
    return root(folder)


@kind("images that are there twice", images=6)
def duplicates(folder: Path) -> Sequence[str]:
    for path in pictures(folder, 3):
        shutil.copyfile(path, path.with_stem(f"copy {path.stem}"))
    return root(folder)


@kind("endings .JPG, .jpeg, .JPEG.PNG and none", images=4)
def endings(folder: Path) -> Sequence[str]:
    for index, name in enumerate(("a.JPG", "b.jpeg", "c.JPEG.PNG", "d")):
        (folder / name).write_bytes(file_of(picture(index), "JPEG"))
    return root(folder)


@kind(
    "names with spaces, accents, =, brackets and quotes",
    images=4,
    classes=("a b", "it's 50%", "naïve", "x=[1,2]"),
    plain=("data=folder", "data.root={root}/my photos"),
)
def names(folder: Path) -> Sequence[str]:
    for index, name in enumerate(("a b", "naïve", "x=[1,2]", "it's 50%")):
        (place := folder / "my photos" / name).mkdir(parents=True)
        picture(index).save(place / "# 1 = {x} ü ' \".png")
    return root(folder / "my photos", "data.classes=4")


@kind("links to files, to the folder itself and to nothing", images=3)
def links(folder: Path) -> Sequence[str]:
    pictures(folder / "stored", 3)
    (set_of := folder / "set").mkdir()
    for path in (folder / "stored").iterdir():
        (set_of / path.name).symlink_to(path)
    (set_of / "circle").symlink_to(set_of)
    (set_of / "broken.png").symlink_to(folder / "nothing.png")
    return root(set_of)


@kind("a folder that may only be read", images=3)
def read_only(folder: Path) -> Sequence[str]:
    place = pictures(folder / "set", 3)[0].parent
    for path in (*place.iterdir(), place):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return root(place)


# -------------------------------------------------------------------- layouts


@kind("folders in folders", images=8, classes=("cats", "dogs"), plain=(*PLAIN, "data.classes=2"))
def nested(folder: Path) -> Sequence[str]:
    for index, name in enumerate(itertools.product(("cats", "dogs"), ("2023", "2024"), ("jan", "feb"))):
        (place := folder.joinpath(*name)).mkdir(parents=True)
        picture(index).save(place / "0.png")
    return root(folder, "data.classes=2")


@kind("ImageNet's folders with classes.txt", images=4, classes=("tench", "goldfish"), plain=(*PLAIN, "data.classes=2"))
def imagenet(folder: Path) -> Sequence[str]:
    for index, (split, name) in enumerate(itertools.product(("train", "val"), ("n01440764", "n01443537"))):
        for path in pictures(folder / split / name, 2, 2 * index):
            path.rename(path.with_name(f"{name}_{path.stem}.JPEG"))
    (folder / "classes.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    return root(folder, "data.classes=2")


def _listed(folder: Path, labels: Sequence[Any]) -> None:
    for index in range(len(labels)):
        path = folder / "00000" / f"img{index:08}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index).save(path)
    listed = [[f"00000/img{index:08}.png", label] for index, label in enumerate(labels)]
    (folder / "dataset.json").write_text(json.dumps({"labels": listed}))


@kind("dataset.json with class numbers", images=4, classes=2, says=("dataset.json",), plain=(*PLAIN, "data.classes=2"))
def dataset_json(folder: Path) -> Sequence[str]:
    _listed(folder, [0, 1, 0, 1])
    return root(folder, "data.classes=2")


@kind("dataset.json with vectors", images=4, says=("dataset.json",))
def dataset_vectors(folder: Path) -> Sequence[str]:
    _listed(folder, [[0.5, 1.5, -1.0]] * 4)
    return root(folder)


def _zip(path: Path, names: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)


@kind("two zip archives", images=4, plain=("data=folder", "data.root={root}/a.zip,{root}/b.zip"))
def two_zips(folder: Path) -> Sequence[str]:
    for index, name in enumerate("ab"):
        _zip(folder / f"{name}.zip", {f"{i}.png": file_of(picture(2 * index + i)) for i in range(2)})
    return ["data=folder", f"data.root=[{folder}/a.zip,{folder}/b.zip]"]


@kind("a zip of a Mac, which brings __MACOSX", images=3, plain=("data=folder", "data.root={root}/a.zip"))
def mac_zip(folder: Path) -> Sequence[str]:
    names = {f"my set/{i}.png": file_of(picture(i)) for i in range(3)}
    _zip(folder / "a.zip", {**names, **{f"__MACOSX/my set/._{i}.png": b"mac" for i in range(3)}, ".DS_Store": b"x"})
    return root(folder / "a.zip")


@kind("a zip in a zip", refused=r"zip", plain=("data=folder", "data.root={root}/outer.zip"))
def zip_in_zip(folder: Path) -> Sequence[str]:
    _zip(folder / "inner.zip", {f"{i}.png": file_of(picture(i)) for i in range(3)})
    _zip(folder / "outer.zip", {"inner.zip": (folder / "inner.zip").read_bytes()})
    return root(folder / "outer.zip")


@kind("a 7z archive, called .zip", refused="no zip archive|archive", plain=("data=folder", "data.root={root}/a.zip"))
def seven_zip(folder: Path) -> Sequence[str]:
    (folder / "a.zip").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(200))
    return root(folder / "a.zip")


def _tar(path: Path, names: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@kind("webdataset tars of images with .cls", images=6, classes=2, plain=("data=folder", "data.root={root}"))
def webdataset(folder: Path) -> Sequence[str]:
    for shard in range(2):
        rows = range(3 * shard, 3 * shard + 3)
        files = {f"{i:05}.jpg": file_of(picture(i), "JPEG") for i in rows}
        files |= {f"{i:05}.cls": str(i % 2).encode() for i in rows}
        _tar(folder / f"shard-{shard:06}.tar", dict(sorted(files.items())))
    return root(folder, "data.classes=2")


@kind("a .tar.gz of a folder", images=3, plain=("data=folder", "data.root={root}/set.tar.gz"))
def tar_gz(folder: Path) -> Sequence[str]:
    _tar(folder / "set.tar.gz", {f"set/{i}.png": file_of(picture(i)) for i in range(3)}, "w:gz")
    return root(folder / "set.tar.gz")


@kind("one picture, not a folder", refused="folder", plain=("data=folder", "data.root={root}/0.png"))
def one_file(folder: Path) -> Sequence[str]:
    return root(pictures(folder, 1)[0])


@kind(
    "an address on the web", refused="folder|exist", plain=("data=folder", "data.root=https://example.org/photos.zip")
)
def address(folder: Path) -> Sequence[str]:
    return ["data=folder", "data.root=https://example.org/photos.zip"]


@kind("lists train.txt and test.txt", images=3, says=("train.txt",))
def list_files(folder: Path) -> Sequence[str]:
    pictures(folder / "images", 5)
    (folder / "train.txt").write_text("0.png\n1.png\n2.png\n")
    (folder / "test.txt").write_text("3.png\n4.png\n")
    return root(folder / "images", f"data.split_list={{train:{folder}/train.txt,test:{folder}/test.txt}}")


@kind("some files by pattern", images=3, says=("*_rgb.png",))
def patterns(folder: Path) -> Sequence[str]:
    for path in pictures(folder, 3):
        path.rename(path.with_stem(f"{path.stem}_rgb"))
    for path in pictures(folder, 3, 3):
        path.rename(path.with_stem(f"{path.stem}_depth"))
    return root(folder, "data.include=*_rgb.png")


@kind("a fifth held out, by a seed", images=8, says=("2 of 10 files are held out",))
def share(folder: Path) -> Sequence[str]:
    pictures(folder, 10)
    return root(folder, "data.test_fraction=0.2", "data.split_seed=3")


@kind("3,000 classes of one image each", images=3000, classes=3000, plain=(*PLAIN, "data.classes=3000"))
def many_classes(folder: Path) -> Sequence[str]:
    content = file_of(picture(0, (8, 8)))
    for index in range(3000):
        (place := folder / f"{index:04}").mkdir()
        (place / "0.png").write_bytes(content)
    return root(folder, "data.classes=3000", "model=cdcgan", "data.batch_size=4")


# -------------------------------------------------------------------- tables


def _table(folder: Path) -> list[dict[str, Any]]:
    paths = pictures(folder / "images", 6)
    return [{"path": f"images/{p.name}", "label": "cat" if i % 2 else "dog"} for i, p in enumerate(paths)]


@kind("a CSV of paths and labels", images=6, classes=("cat", "dog"), plain=("data=folder", "data.root={root}/set.csv"))
def csv_table(folder: Path) -> Sequence[str]:
    rows = _table(folder)
    with (folder / "set.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return ["data=table", f"data.file={folder}/set.csv", "data.label=label", "data.classes=2"]


@kind(
    "JSON lines of paths and labels",
    images=6,
    classes=("cat", "dog"),
    plain=("data=folder", "data.root={root}/set.jsonl"),
)
def jsonl(folder: Path) -> Sequence[str]:
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _table(folder)))
    return ["data=table", f"data.file={folder}/set.jsonl", "data.label=label", "data.classes=2"]


@kind(
    "a table that names files that are not there",
    refused="not there|lacks|no such|missing|does not exist",
    plain=("data=folder", "data.root={root}/set.csv"),
)
def table_without_files(folder: Path) -> Sequence[str]:
    (folder / "set.csv").write_text("path,label\na.png,x\nb.png,y\n")
    return ["data=table", f"data.file={folder}/set.csv"]


@kind(
    "a data set of Hugging Face, saved to disk",
    images=6,
    needs="datasets",
    plain=("data=folder", "data.root={root}/set"),
)
def saved_set(folder: Path) -> Sequence[str]:
    import datasets

    rows = {"image": [picture(i) for i in range(6)], "label": [i % 2 for i in range(6)]}
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(str(folder / "set"))
    return ["data=hub", f"data.name={folder}/set"]


# -------------------------------------------------------------------- Python


class Pairs(Dataset):
    """(float image in [0, 1], label) of 6 pictures."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(pixels(index)).permute(2, 0, 1) / 255, index % 2


class Dicts(Pairs):
    """{"image": PIL image, "label"} of 6 pictures."""

    def __getitem__(self, index: int) -> Any:
        return {"image": picture(index), "label": index % 2}


class Broken(Pairs):
    """Raises at item 3."""

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise KeyError("patient 3")
        return super().__getitem__(index)


class Endless(IterableDataset):
    """PIL images, one after the other, of 6 pictures."""

    def __iter__(self) -> Iterator[Any]:
        return (picture(index) for index in range(6))


def of_python(name: str, *words: str) -> list[str]:
    return ["data=torch", f"data.dataset._target_=inputs.{name}", *words]


@kind("a Dataset of (float in [0, 1], label)", images=6, classes=2, plain=None)
def pairs_dataset(folder: Path) -> Sequence[str]:
    return of_python("Pairs", "data.range=[0,1]", "data.classes=2")


@kind("a Dataset of dicts with PIL images", images=6, plain=None)
def dicts_dataset(folder: Path) -> Sequence[str]:
    return of_python("Dicts")


@kind("an iterable Dataset", images=6, plain=None)
def iterable_dataset(folder: Path) -> Sequence[str]:
    return of_python("Endless")


@kind("a Dataset that raises at item 3", images=5, says=("item 3 (raises KeyError: 'patient 3')",), plain=None)
def broken_dataset(folder: Path) -> Sequence[str]:
    return of_python("Broken", "data.range=[0,1]")


# -------------------------------------------------------------------- few images


def _few(n: int) -> Maker:
    def make(folder: Path) -> Sequence[str]:
        pictures(folder, n)
        return root(folder)

    return make


for _n in (1, 2, 5, 37):
    kind(f"{_n} image{'s' if _n > 1 else ''}", images=_n)(_few(_n))
