"""`gan-experiments translate`: photographs of any size by a trained model, with all that belongs to them."""

from __future__ import annotations

import errno
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageCms, ImageOps
from support import run, small, train, write_images
from test_stargan import attributes
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from gan_experiments import drawing
from gan_experiments.assembly import build, trained
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.masks import read_mask
from gan_experiments.data.photos import read_photo, write_photo
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.files import clean_name
from gan_experiments.layers import shared_statistics
from gan_experiments.models.image_to_image import Direction, ImageToImage
from gan_experiments.runs import configs
from gan_experiments.verbs import translate


class Negative(ImageToImage):
    """Turns images over, or enlarges them, or fills masks with black; adds a draw of its own where it is asked to."""

    def __init__(self, scale: int = 1, masked: bool = False, noise: float = 0.0, multiple: int = 8) -> None:
        super().__init__({"generator": torch.nn.Linear(1, 1)}, optimizers={})
        also = ("mask",) if masked else ()
        self.directions = {"b": Direction("input", "target", also=also), "dark": Direction("input", also=also)}
        self.scale, self.multiple, self.masked, self.noise = scale, multiple, masked, noise
        self.sizes: list[tuple[int, ...]] = []

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Any) -> Tensor:
        images = batch["input"]
        self.sizes.append(tuple(images.shape[2:]))
        if to == "dark":
            return images * 0 - 1
        if self.masked:
            return images * (1 - batch["mask"]) - batch["mask"]
        images = torch.nn.functional.interpolate(-images, scale_factor=float(self.scale))
        return images + self.noise * draw(torch.rand, len(images), 1, 1, 1)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a model in the place of a run's; returns how it is told which."""

    def use(made: AdversarialModule, channels: int = 3, folder: Path = Path()) -> Any:
        cfg = OmegaConf.create({"data": {"channels": channels}})
        monkeypatch.setattr(trained, "open_run", lambda *_: trained.TrainedRun(made, cfg, folder))
        return made

    return use


def verb(*words: str) -> int:
    """What `gan-experiments translate` does, in this process."""
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return translate.translate(hydra.compose("translate", ["run=r", "device=cpu", *words]))


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (40, 24), **options: Any) -> Image.Image:
    """Smooth noise, written in a mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = torch.randint(0, 256, (6, 6, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(len(mode)))
    image = Image.fromarray(coarse.numpy(), "RGBA").resize(size, Image.Resampling.BICUBIC)
    if "A" not in mode:
        image = image.convert("RGB")
    image = image.convert(mode)
    image.save(path, **options)
    return image


def pixels(path: Path) -> Tensor:
    return pil_to_tensor(Image.open(path)).int()


# ------------------------------------------------------------------------------------ a run, as a person types it


@pytest.fixture(scope="module")
def pix2pix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(small(folder, "pix2pix"), every=4)
    return folder


def test_a_run_translates_a_folder(pix2pix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes, neither a multiple; as the model itself does, its dropout from the seed; again is refused."""
    picture(tmp_path / "in" / "deep" / "a.png", size=(50, 33))
    picture(tmp_path / "in" / "b.jpg", size=(32, 32))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    words = (f"run={pix2pix}", "images=in", "out=out", "device=cpu", "seed=3")
    done = run(*words, verb="translate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")) == [
        "b.jpg",
        "deep/a.png",
    ]
    model = trained.open_run(str(pix2pix), "cpu").model
    given = read_photo(tmp_path / "in" / "deep" / "a.png", 3).pixels[None] / 127.5 - 1
    wanted = model.translate({"input": given}, seed=3)[0].add(1).mul(127.5).round()  # type: ignore[operator]
    assert (pixels(tmp_path / "out" / "deep" / "a.png") - wanted).abs().max() <= 1
    assert Image.open(tmp_path / "out-sheet.png").width > 2 * 256
    before = (tmp_path / "out" / "b.jpg").read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        verb(*words)
    assert refused.value.faults == (
        "out/b.jpg is there already, and 2 more: type existing=keep to leave what is there and make the rest,"
        " existing=replace to overwrite, or another out=",
    )
    assert (tmp_path / "out" / "b.jpg").read_bytes() == before


# ------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("tile", ["512", "16", "null"])
@pytest.mark.parametrize("size", [(40, 24), (37, 53), (5, 90)])
def test_any_size_in_tiles_or_whole(model: Any, tmp_path: Path, tile: str, size: tuple[int, int]) -> None:
    made = model(Negative())
    picture(tmp_path / "a.png", size=size)
    assert verb(f"images={tmp_path}/a.png", f"tile={tile}", f"out={tmp_path}/b") == 0
    assert torch.equal(pixels(tmp_path / "b" / "a.png"), 255 - pixels(tmp_path / "a.png"))
    assert all(side % 8 == 0 for size in made.sizes for side in size)
    if tile == "16":
        assert {side for size in made.sizes for side in size} <= {8, 16}
    if tile == "null":
        assert len(made.sizes) == 1


def test_what_is_left_to_chance_is_the_same_for_every_tile(model: Any, tmp_path: Path) -> None:
    model(Negative(noise=0.5))
    picture(tmp_path / "a.png", size=(64, 64))
    for name, words in {"whole": (), "tiles": ("tile=16",), "other": ("seed=1",)}.items():
        verb(f"images={tmp_path}/a.png", f"out={tmp_path}/{name}", *words)
    assert torch.equal(pixels(tmp_path / "whole" / "a.png"), pixels(tmp_path / "tiles" / "a.png"))
    assert not torch.equal(pixels(tmp_path / "whole" / "a.png"), pixels(tmp_path / "other" / "a.png"))


def test_enlarged_with_its_transparency(model: Any, tmp_path: Path) -> None:
    """Over white, as the training saw it; the alpha grows with the image."""
    model(Negative(scale=2))
    given = picture(tmp_path / "a.png", "RGBA")
    verb(f"images={tmp_path}/a.png", "tile=16", f"out={tmp_path}/b")
    made = Image.open(tmp_path / "b" / "a.png")
    assert (made.mode, made.size) == ("RGBA", (80, 48))
    white = Image.alpha_composite(Image.new("RGBA", given.size, "white"), given).convert("RGB")
    assert torch.equal(pil_to_tensor(made.convert("RGB"))[:, ::2, ::2], 255 - pil_to_tensor(white))
    alpha = pil_to_tensor(given.getchannel("A").resize((80, 48), Image.Resampling.BICUBIC)).int()
    assert (pil_to_tensor(made.getchannel("A")).int() - alpha).abs().max() <= 2


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.png"), ("P", "a.gif"), ("1", "a.png"), ("CMYK", "a.tif"), ("LA", "a.png")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_as_the_model_takes_it(model: Any, tmp_path: Path, mode: str, name: str, channels: int) -> None:
    model(Negative(), channels)
    picture(tmp_path / name, mode)
    verb(f"images={tmp_path}/{name}", f"out={tmp_path}/b")
    made = Image.open(tmp_path / "b" / f"a{'.png' if name == 'a.gif' else Path(name).suffix}")
    wanted = read_photo(tmp_path / name, channels)
    assert len(made.getbands()) == channels + (mode == "LA")
    assert torch.equal(pil_to_tensor(made)[:channels], 255 - wanted.pixels)


def test_masks_are_cut_as_the_image_is(model: Any, tmp_path: Path) -> None:
    model(Negative(masked=True))
    picture(tmp_path / "a.png", size=(70, 50))
    with pytest.raises(ConfigError, match=r"this model reads mask too \(float .*\): type mask="):
        verb(f"images={tmp_path}/a.png")
    mask = Image.new("L", (70, 50))
    mask.paste(255, (13, 7, 55, 40))
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks" / "a.png")
    verb(f"images={tmp_path}/a.png", f"mask={tmp_path}/masks", "tile=16", f"out={tmp_path}/b")
    inside = pil_to_tensor(mask) > 0
    assert torch.equal(pixels(tmp_path / "b" / "a.png"), pixels(tmp_path / "a.png") * ~inside)
    taller = Image.new("L", (70, 51))
    taller.paste(mask)
    taller.save(tmp_path / "masks" / "a.png")
    with pytest.raises(ConfigError, match=r"a\.png is left out: its mask is 70x51 and it is 70x50"):
        verb(f"images={tmp_path}/a.png", f"mask={tmp_path}/masks/a.png", f"out={tmp_path}/out")


def written(path: Path, values: Any, mode: str | None = None, palette: list[int] | None = None) -> Path:
    """An image of an array, as it is."""
    image = Image.fromarray(values, mode)
    if palette:
        image.putpalette(palette + [0] * (768 - len(palette)))
    image.save(path)
    return path


HOLE = np.zeros((20, 30), np.uint8)
HOLE[5:9, 3:18] = 1
WHITE, RED = [np.stack([HOLE * value for value in colour], axis=2) for colour in ((255, 255, 255), (255, 0, 0))]
LAYER = np.concatenate([np.full((20, 30, 3), 255, np.uint8), 255 * HOLE[..., None]], axis=2)
SOFT = 255 * HOLE
SOFT[4], SOFT[9] = 100, 130  # an edge on either side of the middle
UNDERSTOOD: dict[str, tuple[Callable[[Path], Path], int]] = {
    "black and white": (lambda p: written(p, 255 * HOLE), 60),
    "soft edges": (lambda p: written(p, SOFT), 60 + 30),
    "0 and 1": (lambda p: written(p, HOLE), 60),
    "two greys": (lambda p: written(p, 100 + 20 * HOLE), 60),
    "bits": (lambda p: written(p, HOLE.astype(bool)), 60),
    "16 bits": (lambda p: written(p, HOLE.astype(np.uint16) * 700), 60),
    "in colour": (lambda p: written(p, WHITE), 60),
    "red on black": (lambda p: written(p, RED), 60),
    "red on white": (lambda p: written(p, RED + 255 * (1 - HOLE[..., None])), 60),
    "dark in a palette": (lambda p: written(p, HOLE, "P", [0, 0, 0, 128, 0, 0]), 60),
    "labels of a palette": (lambda p: written(p, HOLE + HOLE[::-1], "P", [0, 0, 0, 128, 0, 0, 0, 64, 0]), 120),
    "a white brush on a transparent layer": (lambda p: written(p, LAYER), 60),
    "a black brush on a transparent layer": (lambda p: written(p, LAYER * np.array([0, 0, 0, 1], np.uint8)), 60),
    "a layer without transparency": (lambda p: written(p, np.dstack([WHITE, np.full_like(HOLE, 255)])), 60),
}
USELESS: dict[str, tuple[Any, str]] = {
    "one grey": (np.full_like(HOLE, 128), "all of the image would be hole (its one value is 128)"),
    "black": (0 * HOLE, "none of the image would be hole (its one value is 0)"),
    "faint": (HOLE + HOLE[::-1] + HOLE[:, ::-1], "none of the image would be hole (its values are 0 to 2)"),
}


@pytest.mark.parametrize("hole", ["white", "black"])
@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_a_mask_is_understood_as_it_was_meant(tmp_path: Path, kind: str, hole: str) -> None:
    make, number = UNDERSTOOD[kind]
    mask = read_mask(make(tmp_path / "mask.png"), hole)
    assert mask.pixels.unique().tolist() == [0, 255]
    assert mask.share == pytest.approx(number / 600 if hole == "white" else 1 - number / 600)
    assert bool(mask.pixels[0, 6, 10]) == (hole == "white")
    assert bool(mask.pixels[0, 0, 0]) == (hole == "black")


@pytest.mark.parametrize("kind", USELESS)
def test_a_mask_of_nothing_or_of_all_is_refused(model: Any, tmp_path: Path, kind: str) -> None:
    """Before anything is done, where it is that of all images; where it is of one, that one is left out."""
    values, said = USELESS[kind]
    model(Negative(masked=True))
    for name in ("0.png", "1.png"):
        picture(tmp_path / "in" / name, size=(30, 20))
    (tmp_path / "masks").mkdir()
    written(tmp_path / "masks" / "0.png", values)
    words = (f"images={tmp_path}/in", f"out={tmp_path}/out", "sheet=0")
    with pytest.raises(ConfigError) as shared:
        verb(*words, f"mask={tmp_path}/masks/0.png")
    assert said in str(shared.value)
    assert "give a mask that is white in the hole and black elsewhere" in str(shared.value)
    assert not (tmp_path / "out").exists()
    written(tmp_path / "masks" / "1.png", 255 * HOLE)
    with pytest.raises(ConfigError) as alone:
        verb(*words, f"mask={tmp_path}/masks")
    assert len(alone.value.faults) == 1
    assert "0.png is left out" in str(alone.value)
    assert names(tmp_path / "out") == ["1.png"]


def test_what_was_taken_for_the_hole_is_said(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for each of a few images; of many those that stand out, and what they have in common."""
    model(Negative(masked=True))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(translate, "FEW", 2)
    Path("masks").mkdir()
    for i in range(3):
        picture(Path(f"in/{i}.png"), size=(30, 20))
        written(Path(f"masks/{i}.png"), HOLE if i else 1 - HOLE)
    verb("images=[in/1.png,in/2.png]", "mask=masks", "out=few", "sheet=0")
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"{i}.png: 10% of it is hole, the value 1, not 0 in the mask" for i in (1, 2)]
    verb("images=in", "mask=masks", "out=many", "sheet=0")
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "0.png: 90% of it is hole, the value 1, not 0 in the mask",
        "of an image, 10% to 90% is hole, 10% of half of them or less",
        "where a mask is black in the hole, type hole=black",
    ]
    assert not torch.equal(pixels(Path("many/1.png")), pixels(Path("in/1.png")))


def test_a_network_of_one_size_gets_tiles_of_it(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = model(Negative(multiple=16))
    made.only = 16
    picture(tmp_path / "a.png", size=(45, 20))
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/b", "sheet=0")
    assert torch.equal(pixels(tmp_path / "b" / "a.png"), 255 - pixels(tmp_path / "a.png"))
    assert set(made.sizes) == {(16, 16)}
    assert "takes 16x16 pixels alone" in capsys.readouterr().out
    made.only, made.multiple = None, 8
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/c", "sheet=0", "tile=3")
    assert "tile=3: this network takes sides that 8 divides; tiles have 16 pixels" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(1, 1), (300, 3)])
@pytest.mark.parametrize("kind", ["cyclegan", "stargan"])
def test_an_image_of_few_pixels_is_mirrored(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    made = build.build_model(small(tmp_path / "run", kind)).eval()
    to = made.direction("")
    reads = made.directions[to].reads
    assert made.translate({reads: torch.zeros(1, 3, *size)}, to).shape == (1, 3, *size)


LOST = {
    "frames": ("a.gif", "of several frames or pages the first is taken"),
    "pages": ("a.tif", "of several frames or pages the first is taken"),
    "print": ("a.jpg", "CMYK becomes RGB"),
}


@pytest.mark.parametrize("kind", LOST)
def test_what_a_result_lacks_is_said(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    model(Negative())
    name, said = LOST[kind]
    for place in (tmp_path / name, tmp_path / f"b{name}"):
        if kind in ("frames", "pages"):
            frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
            frames[0].save(place, save_all=True, append_images=frames[1:])
        elif kind == "16 bits":
            written(place, (HOLE.astype(np.uint16) + 1) * 9000)
        else:
            picture(place, "CMYK")
    picture(tmp_path / "plain.jpg")
    verb(f"images={tmp_path}", f"out={tmp_path}/out", "sheet=0")
    assert f"{name} and 1 others: {said}" in capsys.readouterr().out


class Normalising(Negative):
    """Translates by a network with instance norm."""

    def __init__(self) -> None:
        super().__init__(multiple=1)
        torch.manual_seed(0)
        self.generator = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.InstanceNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.InstanceNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1),
            nn.Tanh(),
        )

    def translate_batch(self, batch: Batch, to: str, ema: bool, draw: Any) -> Tensor:
        return self.generator(batch["input"])


def test_tiles_have_the_tones_of_the_whole(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dark plain beside bright noise: each alone, instance norm makes the one as lively as the other."""
    model(Normalising())
    noise = torch.rand(3, 192, 384, generator=torch.Generator().manual_seed(0))
    noise[:, :, :192] = noise[:, :, :192] * 0.05 + 0.1
    drawing.save_png((noise * 255).to(torch.uint8), tmp_path / "a.png", None)
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/whole", "tile=null")
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/tiles", "tile=128")
    monkeypatch.setattr(shared_statistics, "takes_statistics", lambda layer: False)
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/alone", "tile=128")
    whole, tiles, alone = (pixels(tmp_path / name / "a.png") for name in ("whole", "tiles", "alone"))
    away = [(made - whole).abs().float().mean().item() for made in (tiles, alone)]
    assert away[0] < 0.2 * away[1], away
    assert away[1] > 10


@torch.no_grad()
def test_statistics_of_all_parts_together_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    image = torch.randn(1, 3, 8, 12) + torch.arange(12)
    wanted = network(image)
    with shared_statistics.shared_statistics(network, lambda: network(torch.cat(image.split(4, dim=-1)))):
        made = network(image[..., :5])
    assert torch.allclose(made, wanted[..., :5], atol=1e-5)
    assert not torch.allclose(network(image[..., :5]), wanted[..., :5], atol=0.1), "and are gone afterwards"


def test_the_attributes_of_a_photograph_are_those_of_all_of_it(model: Any, tmp_path: Path) -> None:
    """Dark at the left and bright at the right: being bright is an attribute of the whole, taken from every tile."""
    made = model(build.build_model(attributes(tmp_path / "run")))
    asked = []
    made.judge = lambda images: (None, images.mean((1, 2, 3))[:, None].expand(-1, 2))  # Male and Young where bright
    made.generator.register_forward_pre_hook(lambda _, given: asked.append(given[1]))
    pixels = torch.cat([torch.zeros(3, 48, 70), torch.full((3, 48, 90), 255.0)], dim=2)
    drawing.save_png(pixels.to(torch.uint8), tmp_path / "a.png", None)
    verb(f"images={tmp_path}/a.png", "to=Male", "tile=32", f"out={tmp_path}/b")
    assert len(asked) > 8
    assert {tuple(row.tolist()) for rows in asked for row in rows} == {(0, 1)}


# ------------------------------------------------------------------------------------ what belongs to a photograph


def described(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", orientation
    exif.get_ifd(0x8769)[0x829A] = 0.125  # exposure
    exif.get_ifd(0x8769)[0xA002] = 1
    exif.get_ifd(0x8825)[1] = "N"  # where it was taken
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_stay_and_orientation_is_carried_out(model: Any, tmp_path: Path, suffix: str) -> None:
    model(Negative(scale=2))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"a{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    picture(path, exif=described(6).tobytes(), icc_profile=profile, dpi=(300, 300), **lossless)
    before = path.read_bytes()
    verb(f"images={path}", f"out={tmp_path}/b")
    made = Image.open(tmp_path / "b" / f"a{suffix}")
    assert made.size == (48, 80), "a quarter turn, and twice the side"
    exif = made.getexif()
    assert exif[0x010F] == "Maker"
    assert exif.get(0x0112, 1) == 1
    assert exif.get_ifd(0x8769)[0x829A] == 0.125
    assert exif.get_ifd(0x8769)[0xA002] == 48
    assert exif.get_ifd(0x8825)[1] == "N"
    assert made.info["icc_profile"] == profile
    if suffix != ".webp":
        assert [round(float(value)) for value in made.info["dpi"]] == [300, 300]
    assert path.read_bytes() == before
    if suffix in (".png", ".tif"):
        upright = pil_to_tensor(ImageOps.exif_transpose(Image.open(path)))
        assert torch.equal(pil_to_tensor(made)[:, ::2, ::2], 255 - upright)


def test_a_profile_of_other_colours_is_left_out(model: Any, tmp_path: Path) -> None:
    """The profile of a grey image does not fit the coloured one that is made of it."""
    model(Negative())
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    picture(tmp_path / "a.png", "L", icc_profile=bytes(profile))
    verb(f"images={tmp_path}/a.png", f"out={tmp_path}/b")
    assert "icc_profile" not in Image.open(tmp_path / "b" / "a.png").info


# ------------------------------------------------------------------------------------ files


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_of_its_own_and_again(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written among the originals, and what was made is not translated again; a kept image stays as it is.

    The run, and so its results, lies in the folder of the images.
    """
    model(Negative(), folder=tmp_path / "run")
    write_images(tmp_path, 2)
    given, made = f"images={tmp_path}", tmp_path / "run" / "translated"
    verb(given, "sheet=1")
    assert names(tmp_path) == ["0.png", "1.png", *(f"run/translated/{name}" for name in names(made))]
    assert names(made) == ["b-sheet.png", "b/0.png", "b/1.png"]
    with pytest.raises(ConfigError, match="is there already, and 2 more"):
        verb(given)
    verb(f"images='{tmp_path}/**/*.png'", "to=dark", "sheet=0")
    verb(given, f"out={tmp_path}/again", "sheet=2")
    verb(given, f"out={tmp_path}/again", "existing=replace", "sheet=1")
    assert names(tmp_path / "again") == ["0.png", "1.png"], "nor its sheet, which lies among the originals"
    verb(f"images={tmp_path}/again", f"out={tmp_path}/third", "sheet=0")
    assert names(tmp_path / "third") == ["0.png", "1.png"], "results by their name"
    shutil.rmtree(tmp_path / "third")
    assert len(names(tmp_path)) == 2 + 5 + 3
    (made / "b" / "0.png").write_bytes(b"mine")
    (made / "b" / "1.png").unlink()
    capsys.readouterr()
    verb(given, "existing=keep", "sheet=0")
    assert (made / "b" / "0.png").read_bytes() == b"mine"
    assert "(1 image to b" in capsys.readouterr().out
    verb(given, "existing=keep")
    assert "all of them are there already" in capsys.readouterr().out
    verb(given, "existing=replace")
    assert torch.equal(pixels(made / "b" / "0.png"), 255 - pixels(tmp_path / "0.png"))


def test_a_sheet_shows_what_was_kept_too(model: Any, tmp_path: Path) -> None:
    model(Negative())
    write_images(tmp_path / "in", 2)
    words = (f"images={tmp_path}/in", f"out={tmp_path}/out")
    verb(*words)
    whole = pixels(tmp_path / "out-sheet.png")
    (tmp_path / "out-sheet.png").unlink()
    (tmp_path / "out" / "1.png").unlink()
    verb(*words, "existing=keep")
    assert torch.equal(pixels(tmp_path / "out-sheet.png"), whole)


def test_a_class_by_its_name_or_its_number(model: Any, tmp_path: Path) -> None:
    """Results lie in a folder of its name either way, which does not lead elsewhere."""
    made = model(Negative(), folder=tmp_path / "run")
    made.directions = {"b": Direction("input"), **{str(n): Direction("input", number=n) for n in range(2)}}
    made.name_classes(["pale", "../../dark"])
    write_images(tmp_path / "in", 1)
    verb(f"images={tmp_path}/in", "to=0", "sheet=0")
    assert names(tmp_path / "run") == ["translated/pale/0.png"]
    with pytest.raises(ConfigError, match=r"pale/0\.png is there already"):
        verb(f"images={tmp_path}/in", "to=pale", "sheet=0")
    verb(f"images={tmp_path}/in", "to=1")
    cleaned = clean_name("../../dark")
    assert names(tmp_path) == [
        "in/0.png",
        *(f"run/translated/{name}" for name in sorted([f"{cleaned}-sheet.png", f"{cleaned}/0.png", "pale/0.png"])),
    ]
    with pytest.raises(ConfigError, match=r"^to=2: .* type to=b or to=pale or to=\.\./\.\./dark$"):
        verb(f"images={tmp_path}/in", "to=2")


JUNK = (".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/._0.png", "@eaDir/0.png", "deep/.cache/0.png", "Thumbs.db")


TAKEN = {
    "in": ["0.png", "deep/1.png"],
    "'in/**/*.png'": ["0.png", "1.png"],
    "[in/0.png,in/deep]": ["0.png", "1.png"],
    "in/.ipynb_checkpoints": ["0-checkpoint.png"],
}


@pytest.mark.parametrize("images", TAKEN)
def test_what_systems_keep_beside_images_is_passed_over(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str
) -> None:
    """But not where it is named itself."""
    model(Negative())
    monkeypatch.chdir(tmp_path)
    for name in ("0.png", "deep/1.png", *JUNK):
        picture(Path("in") / name, format="PNG")
    verb(f"images={images}", "out=out")
    assert names(tmp_path / "out") == TAKEN[images]


def test_what_cannot_be_done_is_left_out_and_the_rest_goes_on(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = model(Negative())
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "in", 4)
    (tmp_path / "in" / "1.png").write_bytes((tmp_path / "in" / "1.png").read_bytes()[:900])
    turn = made.translate_batch
    picture(tmp_path / "in" / "3.png", size=(17, 9))

    def no_small_ones(batch: Batch, *rest: Any) -> Tensor:
        if batch["input"].shape[-1] < 32:
            raise ConfigError("too few pixels")
        return turn(batch, *rest)

    made.translate_batch = no_small_ones
    with pytest.raises(ConfigError) as caught:
        verb("images=in", "out=out")
    assert caught.value.faults[0].startswith("in/1.png is left out: it cannot be decoded (")
    assert caught.value.faults[1:] == ("in/3.png is left out: too few pixels",)
    assert names(tmp_path / "out") == ["0.png", "2.png"]
    assert "(2 images to b" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_whole_files_and_says_how_to_go_on(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    model(Negative())
    write_images(tmp_path / "in", 3)
    words = (f"images={tmp_path}/in", f"out={tmp_path}/out")
    save, before = Image.Image.save, signal.getsignal(number)

    def stopped(image: Image.Image, path: Path, *rest: Any, **options: Any) -> None:
        save(image, path, *rest, **options)
        if (tmp_path / "out" / "0.png").exists():
            signal.raise_signal(number)

    monkeypatch.setattr(Image.Image, "save", stopped)
    assert verb(*words) == 128 + number
    assert "stopped: 1 of 3 images are done; the same command with existing=keep goes on" in capsys.readouterr().out
    assert names(tmp_path) == ["in/0.png", "in/1.png", "in/2.png", "out/0.png"]
    assert signal.getsignal(number) == before
    monkeypatch.setattr(Image.Image, "save", save)
    assert verb(*words, "existing=keep") == 0
    assert names(tmp_path / "out") == ["0.png", "1.png", "2.png"]
    assert "(2 images to b" in capsys.readouterr().out


def test_a_full_disk_ends_it_with_what_is_done(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model(Negative())
    write_images(tmp_path / "in", 3)
    write = Path.write_bytes

    def full(path: Path, raw: bytes) -> int:
        if (tmp_path / "out" / "0.png").exists():
            write(path, raw[: len(raw) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, raw)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError) as caught:
        verb(f"images={tmp_path}/in", f"out={tmp_path}/out")
    assert caught.value.faults == (
        f"{tmp_path}/out/1.png cannot be written (No space left on device); type out=<another folder>;"
        " 1 of 3 images are done, existing=keep goes on",
    )
    assert names(tmp_path / "out") == ["0.png"]


def test_a_link_in_the_place_of_a_result_is_replaced_and_not_followed(model: Any, tmp_path: Path) -> None:
    model(Negative())
    write_images(tmp_path / "in", 1)
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0.png").symlink_to(tmp_path / "mine.png")
    words = (f"images={tmp_path}/in", f"out={tmp_path}/out", "sheet=0")
    with pytest.raises(ConfigError, match="is there already"):
        verb(*words)
    verb(*words, "existing=replace")
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
    assert not (tmp_path / "out" / "0.png").is_symlink()


MISTAKES = {
    "no such image": (("images=nowhere/*.png",), "images=nowhere/*.png: there is no such image"),
    "no such direction": (("images=in", "to=c"), "to=c: this model knows no such direction; type to=b or to=dark"),
    "itself": (("images=in", "out=in"), "in/0.png is itself to be translated"),
    "two of a name": (("images=[in/0.png,in/deep/0.png]", "out=out"), "would both become out/0.png"),
    "existing": (("images=in", "existing=skip"), "existing=skip: one of refuse, keep, replace is needed"),
    "hole": (("images=in", "hole=red"), "hole=red: one of white, black is needed"),
    "nothing": (("images=[]",), "images is not given: type images=..."),
    "an archive": (("images=in.zip",), "images=in.zip is an archive: unpack it"),
    "no class": (("images=in", "label=0"), "label=0: this model does not read it to make b of an image"),
    "tile": (("images=in", "tile=0"), "tile=0: a whole number from 1"),
    "label": (("images=in", "label=-1"), "label=-1: a whole number of 0 or more"),
    "no mask": (("images=in", "mask=in"), "mask=in: this model does not read it to make b of an image; leave it out"),
    "out is a file": (("images=in/0.png", "out=in/1.png"), "type out=<another folder>"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    model(Negative())
    write_images(tmp_path / "in", 2)
    write_images(tmp_path / "in" / "deep", 1)
    shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    words, said = MISTAKES[mistake]
    before = names(tmp_path)
    with pytest.raises(ConfigError) as caught:
        verb(*words)
    assert said in caught.value.faults[0]
    assert "\n" not in caught.value.faults[0]
    assert names(tmp_path) == before


def test_a_model_of_noise_and_what_was_not_typed(model: Any) -> None:
    model(AdversarialModule({}, {}))
    with pytest.raises(ConfigError) as refused:
        verb("run=run", "images=0.png")
    assert refused.value.faults == ("run=run: this model draws images from noise; type gan-experiments sample run=run",)
    with pytest.raises(ConfigError) as missing:
        verb()
    assert missing.value.faults == ("images is not given: type images=...",)


def test_a_written_file_is_whole_or_not_there(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png", 3)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_photo(photo.pixels, tmp_path / "taken" / "b.png", photo, None)
