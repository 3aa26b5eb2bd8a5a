"""Images of any height and width: how files get that shape, every model on them, and that [64,64] is 64."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exactness import Case, gap, on_two_ranks, place, resumed, straight
from hydra.errors import ConfigCompositionException
from hydra.utils import get_class
from PIL import Image
from support import MODELS, REPOSITORY, batches, difference, ready, require_exact, run, small, train, write_images
from torch import Tensor

from gan_experiments.assembly import build
from gan_experiments.augment.ada import ADA
from gan_experiments.bounds import settled, shown, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.cache import cached
from gan_experiments.data.decode import decode, fit, shortened
from gan_experiments.data.image_module import ImageData
from gan_experiments.data.images import Digits, Folder
from gan_experiments.data.masked import KINDS, Masked
from gan_experiments.data.paired import Paired
from gan_experiments.data.sources import Files, Settings
from gan_experiments.data.super_resolution import SuperResolution
from gan_experiments.data.tiles import number_of_tiles, tiled, tiling
from gan_experiments.data.unpaired import Unpaired
from gan_experiments.kinds import IMAGE, kind_of
from gan_experiments.layers.resolution import doublings_from_4, halvings_of, start_of
from gan_experiments.metrics.usefulness import Classifier
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.networks.context_encoder import ContextEncoder
from gan_experiments.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_experiments.networks.pix2pix import UNet
from gan_experiments.networks.sngan import SNGANGenerator
from gan_experiments.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_experiments.runs import resume
from gan_experiments.runs.resolvers import RESOLVERS

WIDE = (32, 64)


def ramp(height: int, width: int) -> Tensor:
    """An image whose red is the row and whose green is the column, uint8 [3, H, W]."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)


def encode(pixels: Tensor, kind: str = "PNG", orientation: int = 1) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, kind, exif=exif, quality=95)
    return file.getvalue()


def photos(folder: Path, height: int, width: int, number: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        (folder / f"{index}.png").write_bytes(encode((ramp(height, width) + index).contiguous()))
    return folder


# ------------------------------------------------------------------------------------------ one form for each shape


def test_a_square_has_one_form() -> None:
    assert (settled(64), settled([64, 64]), settled([64, 256])) == (64, 64, (64, 256))
    assert (sides(64), sides([64, 256])) == ((64, 64), (64, 256))
    assert shown((64, 256)) == "[64,256]"
    assert Settings([16, 16], 3, [8, 8]) == Settings(16, 3, 8)
    assert Settings(16, 3).plain() == {"resolution": 16, "channels": 3, "crop": None}
    assert Settings([16, 32], 3, fit="pad").plain() == {
        "resolution": (16, 32),
        "channels": 3,
        "crop": None,
        "fit": "pad",
    }


def test_a_square_pair_has_the_same_cache_and_batches(tmp_path: Path) -> None:
    root, cache = photos(tmp_path / "photos", 40, 56), str(tmp_path / "cache")
    one, other = (Folder(str(root), size, batch_size=4, cache=cache) for size in (16, [16, 16]))
    assert one.training().folder == other.training().folder
    assert "-16x3-" in one.training().folder.name
    assert difference(batches(one, 3), batches(other, 3)) == {}
    wide = Folder(str(root), (16, 32), batch_size=4, cache=cache).training()
    assert "-16x32x3-" in wide.folder.name
    assert cached(Files(root), Settings((16, 32), 3, fit="pad"), cache).folder != wide.folder


def test_a_run_of_a_square_pair_is_a_run_of_the_square(tmp_path: Path) -> None:
    words = ["model=dcgan", "metrics=none", "logger=none", "images=4", "data.batch_size=4", "model.generator.width=4"]
    done = run(*words, "model.discriminator.width=4", "data.resolution=[16,16]", "output=r", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resolution: 16\n" in (tmp_path / "r" / "config.yaml").read_text()


def test_resolvers_of_rectangles() -> None:
    assert RESOLVERS["times"](1.1171875, 256) == 286
    assert RESOLVERS["times"](0.5, [64, 256]) == [32, 128]
    assert RESOLVERS["below"]([64, 1024], 1024, "a", "b") == "b"
    assert RESOLVERS["r1_gamma"]([32, 128], 4) == RESOLVERS["r1_gamma"](64, 4)


# ------------------------------------------------------------------------------------------ how files get a shape


def test_crop_keeps_the_largest_piece_of_the_shape_in_the_middle() -> None:
    image = ramp(60, 60)
    wide, tall = fit(image, (10, 30)), fit(image, (30, 10))
    assert (wide.shape, tall.shape) == ((3, 10, 30), (3, 30, 10))
    assert torch.equal(wide, fit(image[:, 20:40], (10, 30), how="stretch"))  # 20 of 60 rows, all columns
    assert torch.equal(tall, wide.transpose(1, 2)[[1, 0, 2]])
    assert torch.equal(fit(image, (20, 40), crop=(20, 40)), image[:, 20:40, 10:50])
    assert torch.equal(fit(image, (20, 40), crop=40), image[:, 20:40, 10:50])


def test_stretch_shows_all_of_it() -> None:
    made = fit(ramp(60, 60), (10, 30), how="stretch").int()
    assert (made[0, 0].max(), made[0, -1].min()) == (3, 56)
    assert (made[1, :, 0].max(), made[1, :, -1].min()) == (1, 58)


def test_pad_repeats_the_outermost_pixels() -> None:
    image = ramp(60, 60)
    made = fit(image, (20, 60), how="pad")
    assert torch.equal(made[:, :, 20:40], fit(image, 20))
    assert (made[:, :, :20] == made[:, :, 20:21]).all()
    assert (made[:, :, 40:] == made[:, :, 39:40]).all()
    assert torch.equal(fit(image, 60, how="pad"), image)


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_files_are_turned_upright_before_they_are_cut(kind: str, how: str) -> None:
    """A photograph of a phone lies on its side in the file; large JPEGs are shrunk as they are read."""
    for height, width in ((60, 90), (640, 960)):
        smooth = fit(ramp(60, 90), (height, width), how="stretch")
        lying = encode(smooth.rot90(1, (1, 2)), kind, orientation=6)  # a quarter turn clockwise shows it
        made, wanted = decode(lying, (8, 24), 3, how=how).int(), fit(smooth, (8, 24), how=how).int()
        assert (made - wanted).abs().max() <= (0 if kind == "PNG" else 12)


def test_shortened_covers_the_shape() -> None:
    for size in ((60, 90), (90, 60), (33, 200)):
        made = shortened(ramp(*size), (16, 32))
        assert made.shape[1] == 16 or made.shape[2] == 32
        assert made.shape[1] >= 16
        assert made.shape[2] >= 32
        assert abs(made.shape[2] / made.shape[1] / (size[1] / size[0]) - 1) < 0.05


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            "crop",
            "cut       50% of all is cut off: the largest piece of the shape 16x32 (height x width) in the middle",
        ),
        ("pad", "padded    to 16x32 (height x width) by their outermost pixels: 50% of all"),
        ("stretch", "stretched to 16x32 (height x width), whatever their shape is"),
    ],
)
def test_what_is_done_is_said(how: str, said: str, tmp_path: Path) -> None:
    root, cache = photos(tmp_path / "photos", 40, 40), str(tmp_path / "cache")
    data = Folder(str(root), (16, 32), cache=cache, fit=how)
    assert data.describe() == f"Folder {root}: 5 images 3x16x32"
    assert any(line.startswith(said) for line in data.understood()), data.understood()
    whole = photos(tmp_path / "whole", 20, 40)
    assert len(Folder(str(whole), (16, 32), cache=cache, fit=how).understood()) == len(data.understood()) - 1
    strips = photos(tmp_path / "strips", 10, 80)
    said_of_strips = Folder(str(strips), (16, 32), cache=cache, fit=how).understood()
    assert how == "stretch" or any("of 5 images more than half" in line for line in said_of_strips)


def test_digits_padded_to_a_wide_image() -> None:
    pixels = Digits((32, 64), fit="pad", limit=20).training().pixels
    assert pixels.shape == (20, 1, 32, 64)
    assert torch.equal(pixels[..., 16:48], Digits(32, limit=20).training().pixels)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Folder("x", 16, fit="squeeze"), "data.fit=squeeze: type data.fit=crop or pad or stretch"),
        (lambda: Folder("x", (16, 0)), "data.resolution=0: a positive number"),
        (
            lambda: Unpaired("x", (32, 64), load_resolution=48),
            r"data.load_resolution=48 is less.*load_resolution=\[35,71\]",
        ),
        (lambda: Unpaired("x", 32, crop="random", fit="pad"), "data.fit=pad with data.crop=random"),
        (
            lambda: SuperResolution("x", (32, 66), 4),
            r"resolution=\[32,66\] is no multiple.*type data.resolution=\[32,64\]",
        ),
        (lambda: SuperResolution("x", (32, 64), 4, fit="pad"), "data.fit=pad: crops are cut out"),
        (lambda: Masked("x", (16, 64), overlap=4), r"data.overlap=4 of \[16,64\] pixels"),
    ],
)
def test_mistakes_in_one_line(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")) as error:
        make()
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------ batches


def of_kind(name: str, root: Path) -> Any:
    """A function of settings that makes the data module of a kind, in [32, 64] out of images a little larger."""
    given: dict[str, Any] = {"cache": str(root.parent / "cache"), "batch_size": 6, "flip": True}
    if name == "paired":
        for letter in "AB":
            photos(root / f"train{letter}", 80, 100, 6)
        return lambda **more: Paired(str(root), WIDE, load_resolution=(36, 70), **given | more)
    if name == "random pieces":
        for letter in "AB":
            photos(root / f"train{letter}", 80, 100, 6)
        return lambda **more: Unpaired(str(root), WIDE, load_resolution=(36, 70), crop="random", **given | more)
    photos(root, 80, 100, 6)
    if name == "masked":
        return lambda **more: Masked(str(root), WIDE, "strokes", load_resolution=(36, 70), **given | more)
    return lambda **more: SuperResolution(str(root), WIDE, 2, **given | more)


@pytest.mark.parametrize("name", ["paired", "random pieces", "masked", "super-resolution"])
def test_batches_of_every_kind(name: str, tmp_path: Path) -> None:
    make = of_kind(name, tmp_path / "data")
    require_exact(make)
    data: ImageData = make()
    batch = ready(data)
    assert {key: tuple(rows.shape[1:]) for key, rows in batch.items() if rows.ndim == 4} == data.shapes
    key = next(name for name in ("real", "real_a", "input", "high") if name in data.shapes)
    corners = [(ready(data, number)[key][:, :2, 0, 0] * 1000).round() for number in range(8)]
    assert len(torch.cat(corners).unique(dim=0)) > 20  # other pieces, not the same one
    fixed = IMAGE.data_sheet(data.fixed(4), ["a"] * 4)
    assert max(fixed.shape[1:]) < 6 * min(fixed.shape[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_rectangles(kind: str) -> None:
    masks = torch.from_numpy(np.stack([KINDS[kind]((32, 96), np.random.default_rng(i)) for i in range(60)])).float()
    assert masks.shape == (60, 32, 96)
    seen = masks.amax(0)
    if kind == "centre":
        assert seen[12:20, 28:68].all()
        assert seen.sum() == 8 * 40
    else:
        assert seen[:, 64:].mean() > 0.8  # the right third, too
        assert seen[:, :32].mean() > 0.8


# ------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize(
    ("resolution", "start", "halvings"),
    [(64, (4, 4), 6), ((64, 256), (4, 16), 6), ((256, 64), (16, 4), 6), ((32, 96), (4, 12), 5), ((32, 40), (4, 5), 3)],
)
def test_the_start_of_a_rectangle(resolution: Any, start: tuple[int, int], halvings: int) -> None:
    doublings = doublings_from_4(resolution, "a network")
    assert start_of(resolution, doublings) == start
    assert halvings_of(resolution, "a network") == halvings


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DCGANGenerator(resolution=(48, 96)), r"resolution of \[48,96\].*type data.resolution=\[32,96\]"),
        (lambda: DCGANGenerator(resolution=(100, 32)), r"type data.resolution=\[96,32\]"),
        (lambda: DCGANGenerator(resolution=(8, 64)), r"type data.resolution=\[16,64\]"),
        (lambda: SNGANGenerator(resolution=(40, 80)), r"shorter side.*type data.resolution=\[32,80\]"),
        (lambda: SNGANGenerator(resolution=(48, 100)), r"that 8 divides; type data.resolution=\[48,96\]"),
        (lambda: UNet(resolution=32)(torch.zeros(1, 3, 32, 80)), r"images of 32x80.*type data.resolution=\[32,64\]"),
        (lambda: ContextEncoder((32, 64), 1, 4, 8).eval()(torch.zeros(2, 1, 32, 32)), r"for 32x64; .*=\[32,64\]"),
    ],
)
def test_what_to_type_instead(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_longer_side_adds_to_the_first_and_the_last_layer_alone() -> None:
    """A network of [16, 48] has those weights of [16, 16] that do not touch the smallest maps."""
    tiny: dict[str, Any] = {"channel_base": 64, "channel_max": 8}
    for square, wide, grown in (
        (DCGANGenerator(8, 16, 1, 4), DCGANGenerator(8, (16, 48), 1, 4), {"layers.0.weight"}),
        (DCGANDiscriminator(16, 1, 4), DCGANDiscriminator((16, 48), 1, 4), {"layers.5.weight"}),
        (StyleGAN2Discriminator(16, 1, **tiny), StyleGAN2Discriminator((16, 48), 1, **tiny), {"linear.weight"}),
    ):
        pairs = zip(square.named_parameters(), wide.parameters(), strict=True)
        assert {name for (name, a), b in pairs if a.shape != b.shape} == grown
    generator = StyleGAN2Generator(8, (16, 48), 1, w_dim=8, mapping_layers=1, **tiny)
    assert generator.synthesis.const.shape[1:] == (4, 12)
    noise = [tuple(maps.shape) for name, maps in generator.named_buffers() if name.endswith(".noise")]
    assert noise == [(4, 12), (8, 24), (8, 24), (16, 48), (16, 48)]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_on_rectangles_or_says_why_not(model: str, tmp_path: Path) -> None:
    """Two batches, and a sheet. [16, 32], or twice that where the smallest square is 32 too."""
    if "resolution" not in small(tmp_path / "run", model).data:  # sounds have no sides
        with pytest.raises(ConfigCompositionException, match=r"data\.resolution"):
            small(tmp_path / "run", model, "data.resolution=[16,32]")
        return
    for size in ([16, 32], [32, 64]):
        cfg = small(tmp_path / "run", model, f"data.resolution={shown(size)}")
        if cfg.data.get("load_resolution"):
            cfg.data.load_resolution = [side + 4 for side in size]
        cfg.images = 2 * cfg.data.batch_size
        try:
            module, data = train(cfg), build.make(cfg.data)
            break
        except ConfigError as error:
            (said,) = str(error).splitlines()
        if kind_of(get_class(cfg.data._target_)) != IMAGE:
            points = "data.resolution=[16,32] data.channels=2: a point of the plane is an image of one pixel"
            assert points in said or "data.resolution=[16,32]: volumes are cubes" in said
            return
        if "renders are squares" in said:  # photographs with cameras need not be, see test_eg3d.py
            return
        assert "[16,32]" in said
        assert "type data." in said
    assert module.images_seen == cfg.images
    cells = module.sheet(module.sheet_inputs(data.fixed(2), 2))
    assert cells.shape[2:] == data.kind.shape(data)
    if not isinstance(data.kind, type(IMAGE)):
        return
    assert cells.shape[2:] == (cfg.data.channels, *size)
    sheet = IMAGE.sheet(cells, smallest=1)
    across = sheet.shape[2] // (size[1] + 2)
    assert sheet.shape == (3, 2 + len(cells) * cells.shape[1] // across * (size[0] + 2), 2 + across * (size[1] + 2))
    if isinstance(module, NoiseToImage):
        assert module.sampler(seed=3)(0, 2).shape == (2, cfg.data.channels, *size)


def test_the_page_has_every_model() -> None:
    table = (REPOSITORY / "docs" / "rectangles.md").read_text().partition("## Which models")[2].partition("\n## ")[0]
    assert [model for model in MODELS if f"`{model}`" not in table] == []


# ------------------------------------------------------------------------------------------ resumed, on two ranks


class Wide(Case):
    """A variant on rectangles."""

    def config(self, folder: Path, ranks: int = 1) -> Any:
        cfg = super().config(folder, ranks)
        cfg.data.resolution = [16, 32]
        if cfg.data.get("load_resolution"):
            cfg.data.load_resolution = [20, 40]
        return cfg


def state(path: Path) -> dict[str, Any]:
    found = resume.load(path)
    found["gan_experiments"].pop("config")
    return found


def test_stopped_and_resumed_and_on_two_ranks(tmp_path: Path) -> None:
    cases: list[Case] = [Wide("dcgan", "plain"), Wide("cyclegan", "plain")]
    on_two_ranks(tmp_path, cases, resume=(), others=False)
    for case in cases:
        folder = place(tmp_path, case)
        alone = straight(case, folder / "one", stops=[2])
        last = folder / "one" / "checkpoints" / "last.ckpt"
        assert difference(state(last), state(resumed(case, folder / "one", 2))) == {}
        made = [torch.load(folder / f"rank-{rank}.pt")["tensors"] for rank in (0, 1)]
        assert difference(*made) == {}
        assert gap(alone, made[0]) <= (1e-10 if case.keeps_batch_norm else 1e-12)  # as on squares, test_exactness.py


# ------------------------------------------------------------------------------------------ beside the training


def test_augmentations_of_rectangles() -> None:
    """Half turns and flips are exact; there are no quarter turns, which would show a part of the image twice."""
    torch.manual_seed(0)
    images = (torch.rand(64, 3, 16, 32) * 2 - 1).double().float()
    made = ADA(policy="xflip,rotate90", target=None, p=1.0)(images)
    turns = [(), (3,), (2, 3), (2,)]
    found = [
        next(t for t in turns if torch.equal(one, image.flip([d - 1 for d in t]) if t else image))
        for one, image in zip(made, images, strict=True)
    ]
    assert set(found) == {*turns}
    for policy in ("xint", "bgc", "cutout"):
        assert ADA(policy=policy, target=None, p=0.8)(images).shape == images.shape
    # A whole shift moves by an eighth of each side at most.
    bright = torch.zeros(200, 1, 16, 32)
    bright[:, :, 8, 16] = 1
    moved = ADA(policy="xint", target=None, p=1.0)(bright)
    places = moved.flatten(1).argmax(1)
    down, right = places // 32 - 8, places % 32 - 16
    assert (down.abs().max(), right.abs().max()) == (2, 4)


def test_tiles_of_two_sides() -> None:
    image = ramp(50, 90)
    tile, overlap = tiling((16, 32), 50, 90, 1)
    assert (tile, overlap) == ((16, 32), (4, 8))
    seen: list[tuple[int, int]] = []

    def same(rows: Tensor) -> Tensor:
        seen.append((rows.shape[2], rows.shape[3]))
        return rows

    assert torch.equal(tiled(same, image, tile, overlap), image)
    assert {*seen} == {(16, 32)}
    assert len(seen) == number_of_tiles(50, 90, tile, overlap)


def test_a_context_encoder_fills_images_of_other_sizes_in_its_own_tiles(tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", "context_encoder_random", "data.resolution=[32,64]")
    model = build.build_model(cfg)
    batch = {"real": torch.zeros(2, 3, 20, 50), "mask": torch.zeros(2, 1, 20, 50)}
    assert model.translate(batch).shape == (2, 3, 20, 50)


def test_a_classifier_of_rectangles() -> None:
    assert Classifier(1, (32, 96), 5)(torch.zeros(2, 1, 32, 96)).shape == (2, 5)
    assert sum(p.numel() for p in Classifier(1, (32, 96), 5).parameters()) == sum(
        p.numel() for p in Classifier(1, 32, 5).parameters()
    )


def test_verbs_on_a_run_of_rectangles(tmp_path: Path) -> None:
    """A run as it is typed; samples one by one, a sheet of mixed styles, and the scores of its folders."""
    write_images(tmp_path / "photos", 12, 40)
    words = ["model=stylegan2", "data=folder", "data.root=photos", "data.resolution=[16,32]", "data.channels=3"]
    words += ["images=8", "data.batch_size=4", "metrics=none", "logger=none", "model.generator.channel_base=64"]
    words += ["model.discriminator.channel_base=64", "model.generator.mapping_layers=1", "output=r"]
    for words_of, verb in (
        (words, "run"),
        (["run=r", "n=4", "singles=true", "out=samples", "device=cpu"], "sample"),
        (["run=r", "what=mixing", "out=mixed", "device=cpu"], "explore"),
    ):
        done = run(*words_of, verb=verb, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert {Image.open(path).size for path in (tmp_path / "samples").rglob("0*.png")} == {(32, 16)}
    real = Image.open(tmp_path / "r" / "samples" / "real.png")
    assert real.width < 4 * real.height
