"""Every picture that a verb writes says that a model made it, in files read here byte by byte; no pixel changes."""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import hydra
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from support import REPOSITORY, small, write_images

from gan_experiments import drawing, provenance
from gan_experiments.data.photos import read_photo, write_photo
from gan_experiments.kinds import IMAGE, Bands
from gan_experiments.provenance import Mark
from gan_experiments.runs import configs, resume
from gan_experiments.verbs import run as training

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
OURS = "{urn:gan_experiments:provenance#}"
CODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MADE, COMPOSITE = f"{CODES}trainedAlgorithmicMedia", f"{CODES}compositeWithTrainedAlgorithmicMedia"
MARK = Mark("DCGAN DCGANGenerator", "2026-11-22/12-00-00", "ab" * 32, 20_000, 7, 'a <b> & "ü"', composite=True)


# ------------------------------------------------------------------------ what lies in a file


def packet(raw: bytes) -> bytes:
    """The XMP of a picture, found as the standard has it for each format, without Pillow."""
    if raw[:8] == b"\x89PNG\r\n\x1a\n":
        return next((text for keyword, text in _png_texts(raw) if keyword == b"XML:com.adobe.xmp"), b"")
    if raw[:2] == b"\xff\xd8":
        return next((part[29:] for part in _segments(raw) if part[:29] == b"http://ns.adobe.com/xap/1.0/\0"), b"")
    if raw[:4] == b"RIFF":
        return next((part for name, part in _riff(raw) if name == b"XMP "), b"")
    if raw[:2] in (b"II", b"MM"):
        with tifffile.TiffFile(io.BytesIO(raw)) as file:
            tag = file.pages[0].tags.get(700)
            return bytes(tag.value) if tag else b""
    if raw[:3] == b"GIF":
        return raw.partition(b"\x21\xff\x0bXMP DataXMP")[2].partition(b"\x01\xff\xfe\xfd")[0]
    raise AssertionError(raw[:8])


def _png_texts(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(raw):
        (size,) = struct.unpack(">I", raw[at : at + 4])
        if raw[at + 4 : at + 8] == b"iTXt":
            keyword, rest = raw[at + 8 : at + 8 + size].split(b"\0", 1)
            assert rest[:2] == b"\0\0"  # not compressed
            yield keyword, rest[2:].split(b"\0", 2)[2]
        at += 12 + size


def _segments(raw: bytes) -> Iterator[bytes]:
    at = 2
    while raw[at + 1] != 0xDA:
        (size,) = struct.unpack(">H", raw[at + 2 : at + 4])
        if raw[at + 1] == 0xE1:
            yield raw[at + 4 : at + 2 + size]
        at += 2 + size


def _riff(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at < len(raw):
        (size,) = struct.unpack("<I", raw[at + 4 : at + 8])
        yield raw[at : at + 4], raw[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def told(raw: bytes) -> dict[str, str]:
    """The properties of a picture's XMP: each as text, by its full name; empty without XMP."""
    xmp = packet(raw)
    if not xmp:
        return {}
    found = {}
    for description in ElementTree.fromstring(xmp.decode().strip("\ufeff")).iter(f"{{{provenance.RDF}}}Description"):
        for one in description:
            assert one.tag not in found, "said twice"
            found[one.tag] = "".join(one.itertext()).strip()
    return found


def pixels(raw: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(raw)) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGBA") if image.format == "GIF" else image))
        return frames


# ------------------------------------------------------------------------ formats


PHOTO_XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="uuid:1"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" tiff:Orientation="6"
 xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" e:DigitalSourceType="http://x/digitalCapture">
 <dc:creator><rdf:Seq><rdf:li>Ann &lt;a@b.c&gt;</rdf:li></rdf:Seq></dc:creator><e:DigitalSourceType>http://x/digitalCapture
 </e:DigitalSourceType><tiff:Make>C</tiff:Make></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
CREATOR = "{http://purl.org/dc/elements/1.1/}creator"


def photograph(path: Path, xmp: bytes = PHOTO_XMP) -> Path:
    """A small one with XMP, EXIF, a colour profile and a resolution."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    kind = Image.registered_extensions()[path.suffix]
    options: dict[str, Any] = {"dpi": (300, 300)} if kind != "WEBP" else {}
    options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    elif kind == "TIFF":
        exif[700] = xmp
    else:
        options["xmp"] = xmp
    noise = torch.randint(0, 256, (12, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(path, kind, exif=exif.tobytes(), **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_translation_is_marked_beside_what_the_photograph_says_of_itself(suffix: str, tmp_path: Path) -> None:
    photo = read_photo(photograph(tmp_path / f"a{suffix}"), 3)
    assert photo.lost == ()
    for name, mark in (("marked", MARK), ("bare", None)):
        write_photo(photo.pixels, tmp_path / f"{name}{suffix}", photo, mark)
    marked, bare = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("marked", "bare"))
    said = told(marked)
    assert said.pop(CREATOR) == told(bare)[CREATOR] == "Ann <a@b.c>"
    assert said[IPTC] == COMPOSITE
    assert {key.removeprefix(OURS): value for key, value in said.items() if key.startswith(OURS)} == {
        "Model": MARK.model,
        "Run": MARK.run,
        "Checkpoint": MARK.checkpoint,
        "ImagesSeen": "20000",
        "Seed": "7",
        "Label": MARK.label,
    }
    assert set(told(bare)) == {CREATOR}  # neither what the photograph was, nor how it lay
    assert b"Orientation" not in packet(marked) + packet(bare)
    np.testing.assert_array_equal(pixels(marked), pixels(bare))
    with Image.open(io.BytesIO(marked)) as image:
        assert image.getexif()[0x010F] == "Camera"
        assert image.getexif().get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
        assert image.info["icc_profile"] == photo.profile
    assert provenance.read(tmp_path / f"marked{suffix}") == MARK
    assert provenance.read(tmp_path / f"bare{suffix}") is None
    again = read_photo(tmp_path / f"marked{suffix}", 3)  # translated once more
    write_photo(again.pixels, tmp_path / f"twice{suffix}", again, Mark("Other Network"))
    assert told((tmp_path / f"twice{suffix}").read_bytes())[f"{OURS}Model"] == "Other Network"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files_of_sixteen_bits_are_marked_too(channels: int, tmp_path: Path) -> None:
    wide = (np.arange(8 * 8 * channels).reshape(8, 8, channels) * 255).astype(np.uint16)
    for suffix in (".png", ".tif"):
        path = tmp_path / f"a{suffix}"
        if suffix == ".png":
            path.write_bytes(drawing.png_of(wide))
        else:
            tifffile.imwrite(path, wide.squeeze(), photometric="minisblack" if channels == 1 else "rgb")
        photo = read_photo(path, channels)
        for name, mark in (("marked", MARK), ("bare", None)):
            write_photo(photo.pixels, tmp_path / f"{name}{suffix}", photo, mark)
        marked, bare = ((tmp_path / f"{name}{suffix}") for name in ("marked", "bare"))
        assert told(marked.read_bytes())[IPTC] == COMPOSITE
        assert told(bare.read_bytes()) == {}
        torch.testing.assert_close(
            read_photo(marked, channels).pixels, read_photo(bare, channels).pixels, rtol=0, atol=0
        )


def test_formats_without_a_place_for_it_stay_as_they_were(tmp_path: Path) -> None:
    photo = read_photo(photograph(tmp_path / "a.jpg"), 3)
    for name, mark in (("marked", MARK), ("bare", None)):
        write_photo(photo.pixels, tmp_path / f"{name}.bmp", photo, mark)
        write_photo(photo.pixels, tmp_path / f"{name}.npy", photo, mark)
        Bands.of(3).save(photo.pixels, tmp_path / f"{name}-bands.npy", mark)
    for end in (".bmp", ".npy", "-bands.npy"):
        assert (tmp_path / f"marked{end}").read_bytes() == (tmp_path / f"bare{end}").read_bytes()


def test_a_png_and_a_gif_hold_the_fields_and_the_same_pixels(tmp_path: Path) -> None:
    frames = [torch.full((3, 4, 4), 40 * level, dtype=torch.uint8) for level in range(4)]
    for name, mark in (("marked", MARK), ("bare", None)):
        drawing.save_png(frames[1], tmp_path / f"{name}.png", mark)
        drawing.save_gif(frames, tmp_path / f"{name}.gif", mark, seconds=1)
    for suffix in ("png", "gif"):
        marked, bare = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("marked", "bare"))
        assert told(marked)[f"{OURS}Checkpoint"] == "ab" * 32
        assert told(bare) == {}
        np.testing.assert_array_equal(pixels(marked), pixels(bare))
        assert provenance.read(tmp_path / f"marked.{suffix}") == MARK
    fields = json.loads(dict(_png_texts((tmp_path / "marked.png").read_bytes()))[b"gan_experiments"])
    assert fields["digital_source_type"] == COMPOSITE
    assert (fields["run"], fields["label"], fields["seed"]) == (MARK.run, MARK.label, 7)
    drawing.save_png(frames[1], tmp_path / "again.png", MARK)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "marked.png").read_bytes()  # nothing of the moment


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&a;</x:xmpmeta>'
EMPTY = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
LONG = PHOTO_XMP.replace(b"Ann", b"A" * 60_500)
DEEP = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + b"<a>" * 8_000


@pytest.mark.parametrize(
    ("xmp", "lost"), [(b"no xml", 1), (BOMB, 1), (EMPTY, 0), (LONG, 1), (DEEP, 1), (b"\xff\xfe\x00", 1)]
)
def test_xmp_that_cannot_be_kept_is_left_out_with_a_word(xmp: bytes, lost: int, tmp_path: Path) -> None:
    photo = read_photo(photograph(tmp_path / "a.jpg", xmp), 3)
    assert photo.lost == ("its XMP cannot be read and is left out",) * lost
    write_photo(photo.pixels, tmp_path / "b.jpg", photo, MARK)
    assert told((tmp_path / "b.jpg").read_bytes())[IPTC] == COMPOSITE


def test_both_together_fit_into_a_jpeg(tmp_path: Path) -> None:
    photo = read_photo(photograph(tmp_path / "a.jpg", PHOTO_XMP.replace(b"Ann", b"A" * 59_200)), 3)
    write_photo(photo.pixels, tmp_path / "b.jpg", photo, MARK)
    assert CREATOR not in told((tmp_path / "b.jpg").read_bytes())
    assert told((tmp_path / "b.jpg").read_bytes())[IPTC] == COMPOSITE


def test_a_picture_of_several_runs_says_what_they_have_in_common() -> None:
    other = Mark(MARK.model, "another", "cd" * 32, 20_000, 7)
    assert provenance.together([MARK, other]) == Mark(MARK.model, images_seen=20_000, seed=7, composite=True)
    assert provenance.together([]) is None


def test_no_folder_above_a_run_is_told() -> None:
    assert provenance.name_of(Path("/home/ann/outputs/2026-11-22/12-00-00")) == "2026-11-22/12-00-00"
    assert provenance.name_of(Path("/home/ann/faces")) == "faces"


# ------------------------------------------------------------------------ verbs


def do(verb: str, *words: str) -> None:
    """What `gan-experiments VERB ...` does, in this process."""
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose(verb, [*words])
    assert getattr(importlib.import_module(f"gan_experiments.verbs.{verb}"), verb)(cfg) == 0


def written(folder: Path) -> dict[str, bytes]:
    """The pictures below a folder, by their paths there."""
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg", ".gif", ".webp", ".tif")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


EXPLORED = {
    "truncation": "what.rows=2",
    "mixing": "what.rows=2",
    "walk": "what.frames=true",
    "sefa": "what.rows=2",
    "project": "what.steps=2",
}
WORDS = {
    "sample cdcgan": ["n=4", "singles=true", "interpolation=2", "seed=3", "class=2"],
    "sample cyclegan": ["n=2", "singles=true"],
    "translate cyclegan": ["images={base}/photos"],
    "evaluate dcgan": ["pictures=true"],
    **{f"explore stylegan2 {what}": [f"what={what}", option] for what, option in EXPLORED.items()},
}
PHOTOS = ("a.png", "b.jpg", "c.webp", "d.tif")


@pytest.mark.parametrize("case", WORDS)
def test_every_picture_of_a_verb_is_marked(case: str, bare_machine: Path, tmp_path: Path) -> None:
    verb, model, *what = case.split()
    folder = bare_machine / "runs" / model
    (tmp_path / "photos").mkdir()
    for name in PHOTOS:
        photograph(tmp_path / "photos" / name)
    words = [f"run={folder}", *(word.format(base=tmp_path) for word in WORDS[case])]
    words += [f"what.images={tmp_path}/photos/a.png"] * (what == ["project"]) + ["what.steps=2"] * (what == ["walk"])
    for provided in ("iptc", "none"):
        do(verb, *words, f"out={tmp_path}/{provided}/out", f"provenance={provided}", "device=cpu")
    marked, bare = written(tmp_path / "iptc"), written(tmp_path / "none")
    assert list(marked) == list(bare)
    assert len(marked) >= (6 if model == "cdcgan" else 3 if model == "cyclegan" else 1)
    digest = hashlib.sha256(resume.find(str(folder)).read_bytes()).hexdigest()
    for name, raw in marked.items():
        said = told(raw)
        given = model == "cyclegan" or Path(name).stem in ("nearest", "projected")
        assert said[IPTC] == (COMPOSITE if given else MADE), name
        assert said[f"{OURS}Checkpoint"] == digest
        assert said[f"{OURS}Run"] == model
        assert said[f"{OURS}Seed"] == ("3" if model == "cdcgan" else "0")
        assert said.get(f"{OURS}Label") == {"cdcgan": "2"}.get(model, "b" if verb == "translate" else None), name
        left = {key for key in told(bare[name]) if key != CREATOR}
        assert not left, name
        for one, other in zip(pixels(raw), pixels(bare[name]), strict=True):
            np.testing.assert_array_equal(one, other)


def test_single_images_say_their_own_class(bare_machine: Path, tmp_path: Path) -> None:
    do("sample", f"run={bare_machine / 'runs' / 'cdcgan'}", "n=3", "singles=true", "depth=16", f"out={tmp_path}/o")
    said = {name: told(raw).get(f"{OURS}Label") for name, raw in written(tmp_path / "o").items()}
    assert said.pop("sheet.png") is None  # of several
    assert said == {name: name.split("/")[1] for name in said}
    assert len(said) == 3


def test_the_sheets_of_a_training_are_marked_and_those_of_its_data_are_not(bare_machine: Path) -> None:
    for model, source in (("dcgan", MADE), ("cyclegan", COMPOSITE)):
        found = {name: told(raw) for name, raw in written(bare_machine / "runs" / model / "samples").items()}
        assert found.pop("real.png") == {}
        assert {"training.gif", "00000000.png"} < set(found)
        for name, said in found.items():
            assert said[IPTC] == (COMPOSITE if name == "nearest.png" else source), name
            assert said[f"{OURS}Run"] == model
            assert f"{OURS}Checkpoint" not in said
        assert found["00000000.png"][f"{OURS}ImagesSeen"] == "0"
        assert found["training.gif"][f"{OURS}ImagesSeen"] == "8"


def test_a_training_can_leave_it_out(tmp_path: Path) -> None:
    sheets = "+callbacks.samples={_target_:gan_experiments.callbacks.samples.SampleSheets,folder:'${output}',every:8}"
    training.run(small(tmp_path / "run", "dcgan", "images=8", "data.limit=64", sheets, "provenance=none"))
    found = written(tmp_path / "run" / "samples")
    assert {"training.gif", "00000000.png", "00000008.png"} <= set(found)
    assert not any(map(told, found.values()))


def test_pages_and_comparisons_hold_the_marks_of_the_sheets(bare_machine: Path, tmp_path: Path) -> None:
    runs = [bare_machine / "runs" / model for model in ("dcgan", "cdcgan")]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("compare", [f"runs=[{runs[0]},{runs[1]}]", f"out={tmp_path}/out"])
    assert importlib.import_module("gan_experiments.verbs.compare").compare(cfg) == 0
    assert told((tmp_path / "out" / "samples.png").read_bytes())[IPTC] == MADE
    assert told((tmp_path / "out" / "curves.png").read_bytes()) == {}
    for page, least in ((tmp_path / "out" / "index.html", 2), (runs[0] / "report.html", 2)):
        pictures = [
            base64.b64decode(data) for data in re.findall(r"data:image/jpeg;base64,([^\"')]+)", page.read_text())
        ]
        assert sum(told(raw).get(IPTC) in (MADE, COMPOSITE) for raw in pictures) >= least


def test_scores_do_not_see_it(tmp_path: Path) -> None:
    write_images(tmp_path / "bare", 3)
    for path in (tmp_path / "bare").iterdir():
        IMAGE.save(read_photo(path, 3).pixels, tmp_path / "marked" / path.name, MARK)
    for path in (tmp_path / "bare").iterdir():
        assert torch.equal(read_photo(path, 3).pixels, read_photo(tmp_path / "marked" / path.name, 3).pixels)


WRITERS = {
    "drawing.py": 2,  # save_png, save_gif
    "data/photos.py": 2,  # encoded
    "service/pictures.py": 1,  # png
    "comparison/figures.py": 2,  # what is made of marked sheets
}
"""The files that write pictures with Pillow, with the number of places; each of them takes a mark."""


def test_pictures_are_written_in_these_places_alone() -> None:
    source = REPOSITORY / "src" / "gan_experiments"
    call = re.compile(r"\b(?:image|picture|page|pictures\[0\]|_pil\(image\)|canvas|img)\.save\(|\.save\([^)]*format=")
    found = {str(path.relative_to(source)): len([*call.finditer(path.read_text())]) for path in source.rglob("*.py")}
    assert {name: number for name, number in found.items() if number} == WRITERS
