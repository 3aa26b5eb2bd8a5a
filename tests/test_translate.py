"""`translate.py`: photographs of any size by a trained model, with all that belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageCms, ImageOps
from support import run, small, train, write_images
from test_stargan import attributes
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from gan_experiments import build, images, launch, trained, translate
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data import photos
from gan_experiments.data.photos import read_photo, write_photo
from gan_experiments.engine import AdversarialModule
from gan_experiments.layers import shared_statistics
from gan_experiments.models.image_to_image import Direction, ImageToImage


class Negative(ImageToImage):
    """Turns images over, or enlarges them, or fills masks with black; adds a draw of its own where it is asked to."""

    def __init__(self, scale: int = 1, masked: bool = False, noise: float = 0.0, multiple: int = 8) -> None:
        super().__init__({"generator": torch.nn.Linear(1, 1)}, {})
        self.directions = {"b": Direction("input", "target"), "dark": Direction("input")}
        self.scale, self.multiple, self.masked, self.noise = scale, multiple, masked, noise
        self.sizes: list[tuple[int, ...]] = []

    def turn(self, batch: Batch, to: str, ema: bool, draw: Any) -> Tensor:
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

    def use(made: AdversarialModule, channels: int = 3) -> Any:
        cfg = OmegaConf.create({"data": {"channels": channels}})
        monkeypatch.setattr(trained, "open_run", lambda *_: trained.Trained(made, cfg, Path()))
        return made

    return use


def verb(*words: str) -> int:
    """What `translate.py` does, in this process."""
    with hydra.initialize_config_dir(str(launch.conf_dir()), version_base="1.3"):
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
        "sheet-target.png",
    ]
    model = trained.open_run(str(pix2pix), "cpu").model
    given = read_photo(tmp_path / "in" / "deep" / "a.png", 3).pixels[None] / 127.5 - 1
    wanted = model.translate({"input": given}, seed=3)[0].add(1).mul(127.5).round()  # type: ignore[operator]
    assert (pixels(tmp_path / "out" / "deep" / "a.png") - wanted).abs().max() <= 1
    assert Image.open(tmp_path / "out" / "sheet-target.png").width > 2 * 256
    before = (tmp_path / "out" / "b.jpg").read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        verb(*words)
    assert refused.value.faults == (
        "out/b.jpg is there already, and 2 others: type existing=skip, existing=overwrite or another out=",
    )
    assert (tmp_path / "out" / "b.jpg").read_bytes() == before


# ------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("tile", ["512", "16", "null"])
@pytest.mark.parametrize("size", [(40, 24), (37, 53), (5, 90)])
def test_any_size_in_tiles_or_whole(model: Any, tmp_path: Path, tile: str, size: tuple[int, int]) -> None:
    made = model(Negative())
    picture(tmp_path / "a.png", size=size)
    assert verb(f"images={tmp_path}/a.png", f"tile={tile}") == 0
    assert torch.equal(pixels(tmp_path / "a-b.png"), 255 - pixels(tmp_path / "a.png"))
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
    verb(f"images={tmp_path}/a.png", "tile=16")
    made = Image.open(tmp_path / "a-b.png")
    assert (made.mode, made.size) == ("RGBA", (80, 48))
    white = Image.alpha_composite(Image.new("RGBA", given.size, "white"), given).convert("RGB")
    assert torch.equal(pil_to_tensor(made.convert("RGB"))[:, ::2, ::2], 255 - pil_to_tensor(white))
    alpha = pil_to_tensor(given.getchannel("A").resize((80, 48), Image.Resampling.BICUBIC)).int()
    assert (pil_to_tensor(made.getchannel("A")).int() - alpha).abs().max() <= 2


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.png"), ("P", "a.gif"), ("1", "a.png"), ("CMYK", "a.tif"), ("I;16", "a.tif"), ("LA", "a.png")],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_as_the_model_takes_it(model: Any, tmp_path: Path, mode: str, name: str, channels: int) -> None:
    model(Negative(), channels)
    picture(tmp_path / name, mode)
    verb(f"images={tmp_path}/{name}")
    made = Image.open(tmp_path / f"a-b{'.png' if name == 'a.gif' else Path(name).suffix}")
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
    verb(f"images={tmp_path}/a.png", f"mask={tmp_path}/masks", "tile=16")
    inside = pil_to_tensor(mask) > 0
    assert torch.equal(pixels(tmp_path / "a-b.png"), pixels(tmp_path / "a.png") * ~inside)
    Image.new("L", (70, 51)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(ConfigError, match=r"is 70x51 and .*a\.png 70x50"):
        verb(f"images={tmp_path}/a.png", f"mask={tmp_path}/masks/a.png", f"out={tmp_path}/out")


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

    def turn(self, batch: Batch, to: str, ema: bool, draw: Any) -> Tensor:
        return self.generator(batch["input"])


def test_tiles_have_the_tones_of_the_whole(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dark plain beside bright noise: each alone, instance norm makes the one as lively as the other."""
    model(Normalising())
    noise = torch.rand(3, 192, 384, generator=torch.Generator().manual_seed(0))
    noise[:, :, :192] = noise[:, :, :192] * 0.05 + 0.1
    images.save_png((noise * 255).to(torch.uint8), tmp_path / "a.png")
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
    images.save_png(pixels.to(torch.uint8), tmp_path / "a.png")
    verb(f"images={tmp_path}/a.png", "to=Male", "tile=32")
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
    verb(f"images={path}")
    made = Image.open(tmp_path / f"a-b{suffix}")
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
    verb(f"images={tmp_path}/a.png")
    assert "icc_profile" not in Image.open(tmp_path / "a-b.png").info


# ------------------------------------------------------------------------------------ files


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_beside_the_images_and_again(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was made is not translated again, whichever direction it was; a skipped image stays as it is."""
    model(Negative())
    write_images(tmp_path, 2)
    verb(f"images={tmp_path}", "sheet=1")
    assert names(tmp_path) == ["0-b.png", "0.png", "1-b.png", "1.png", "sheet-b.png"]
    with pytest.raises(ConfigError, match="is there already, and 2 others"):
        verb(f"images={tmp_path}")
    verb(f"images='{tmp_path}/*.png'", "to=dark", "sheet=0")
    assert len(names(tmp_path)) == 7
    (tmp_path / "0-b.png").write_bytes(b"mine")
    (tmp_path / "1-b.png").unlink()
    verb(f"images={tmp_path}", "existing=skip")
    assert (tmp_path / "0-b.png").read_bytes() == b"mine"
    assert "(1 image to b" in capsys.readouterr().out
    verb(f"images={tmp_path}", "existing=skip")
    assert "all of them are there already" in capsys.readouterr().out
    verb(f"images={tmp_path}", "existing=overwrite")
    assert torch.equal(pixels(tmp_path / "0-b.png"), 255 - pixels(tmp_path / "0.png"))
    assert len(names(tmp_path)) == 7


def test_a_class_by_its_name_or_its_number(model: Any, tmp_path: Path) -> None:
    """Results bear its name either way."""
    made = model(Negative())
    made.directions = {"b": Direction("input"), **{str(n): Direction("input", number=n) for n in range(2)}}
    made.name_classes(["pale", "dark"])
    write_images(tmp_path, 1)
    verb(f"images={tmp_path}", "to=0", "sheet=0")
    assert names(tmp_path) == ["0-pale.png", "0.png"]
    with pytest.raises(ConfigError, match=r"0-pale\.png is there already"):
        verb(f"images={tmp_path}", "to=pale", "sheet=0")
    verb(f"images={tmp_path}", "to=dark", "sheet=0")
    assert names(tmp_path) == ["0-dark.png", "0-pale.png", "0.png"]
    with pytest.raises(ConfigError, match=r"^to=2: .* type to=b or to=pale or to=dark$"):
        verb(f"images={tmp_path}", "to=2")


def test_stopped_and_broken_images_leave_nothing_half_written(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model(Negative())
    write_images(tmp_path / "in", 3)
    (tmp_path / "in" / "1.png").write_bytes((tmp_path / "in" / "1.png").read_bytes()[:900])
    words = (f"images={tmp_path}/in", f"out={tmp_path}/out", "sheet=0")
    with pytest.raises(ConfigError, match=r"1\.png cannot be decoded") as caught:
        verb(*words)
    assert len(caught.value.faults) == 1
    assert names(tmp_path / "out") == ["0.png", "2.png"]

    def interrupted(*_: Any, **__: Any) -> None:
        (tmp_path / "out" / "2.png.tmp").write_bytes(b"half")
        raise KeyboardInterrupt

    (tmp_path / "out" / "2.png").unlink()
    monkeypatch.setattr(photos.os, "replace", interrupted)
    (tmp_path / "in" / "1.png").unlink()
    assert verb(*words, "existing=skip") == 130
    assert "stopped: 0 of 1 images are done; the same command with existing=skip goes on" in capsys.readouterr().out
    assert names(tmp_path / "out") == ["0.png"]


MISTAKES = {
    "no such image": (("images=nowhere/*.png",), "images=nowhere/*.png: there is no such image"),
    "no such direction": (("images=in", "to=c"), "to=c: this model knows no such direction; type to=b or to=dark"),
    "itself": (("images=in", "out=in"), "in/0.png is itself to be translated"),
    "two of a name": (("images=[in/0.png,in/deep/0.png]", "out=out"), "would both become out/0.png"),
    "existing": (("images=in", "existing=keep"), "existing=keep: type existing=refuse or existing=skip or"),
    "tile": (("images=in", "tile=0"), "tile=0: a whole number of 1 or more"),
    "label": (("images=in", "label=-1"), "label=-1: a whole number of 0 or more"),
    "no mask": (("images=in", "mask=nowhere"), "mask=nowhere: nowhere does not exist"),
    "out is a file": (("images=in/0.png", "out=in/1.png"), "type out=<another folder>"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    model(Negative())
    write_images(tmp_path / "in", 2)
    write_images(tmp_path / "in" / "deep", 1)
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
    assert refused.value.faults == ("run=run: this model draws images from noise; type sample.py run=run",)
    with pytest.raises(ConfigError) as missing:
        verb()
    assert missing.value.faults == ("images is not given: type images=...",)


def test_a_written_file_is_whole_or_not_there(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png", 3)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_photo(photo.pixels, tmp_path / "taken" / "b.png", photo)
