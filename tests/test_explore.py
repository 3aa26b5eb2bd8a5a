"""`gan-experiments explore`: each kind on generators whose answers are known, and on runs as a person types it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from PIL import Image
from support import REPOSITORY, run, small, train, write_images
from torch import Tensor, nn
from torchvision.models import squeezenet1_1
from torchvision.models.vgg import cfgs, make_layers
from torchvision.transforms.functional import pil_to_tensor

from gan_experiments.assembly import trained
from gan_experiments.contracts import ConfigError
from gan_experiments.drawing import to_uint8
from gan_experiments.exploration import attributes, captions, directions, projection, sefa
from gan_experiments.exploration.directions import Directions
from gan_experiments.exploration.latent_space import LatentSpace, truncated
from gan_experiments.exploration.mixing import mixed
from gan_experiments.models.dcgan import DCGAN
from gan_experiments.models.latents import closed_walk
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.networks.dcgan import DCGANGenerator
from gan_experiments.networks.stylegan2 import StyleGAN2Generator
from gan_experiments.runs import configs
from gan_experiments.verbs import evaluate, explore

TINY = {"latent_dim": 8, "w_dim": 8, "channel_base": 128, "channel_max": 16, "mapping_layers": 2}


def explored(generator: nn.Module, **options: Any) -> LatentSpace:
    model = DCGAN(loss=None, generator=generator, discriminator=nn.Identity(), optimizers={})  # type: ignore[arg-type]
    return LatentSpace(model, **options)


def styled(classes: int = 0, resolution: int = 16, **options: Any) -> LatentSpace:
    """A StyleGAN2 with random weights, its noise maps seen and its average moved."""
    torch.manual_seed(0)
    generator = StyleGAN2Generator(resolution=resolution, channels=1, classes=classes, **TINY)
    for name, values in generator.named_parameters():
        if name.endswith("strength"):
            nn.init.constant_(values, 0.1)
    nn.init.normal_(generator.mapping.average)
    return explored(generator, **options)


def plain() -> LatentSpace:
    torch.manual_seed(0)
    return explored(DCGANGenerator(8, 16, 1, 4).eval())


def pixels(path: Path) -> Tensor:
    return pil_to_tensor(Image.open(path)).int()


def cell(sheet: Tensor, row: int, column: int, columns: int, side: int, top: int = 22) -> Tensor:
    """The pixels of an image on a sheet."""
    margin = sheet.shape[2] - columns * (side + 4)
    y, x = top + row * (side + 4) + 2, margin + column * (side + 4)
    return sheet[:, y : y + side, x : x + side]


# ------------------------------------------------------------------------------------ the generator


def test_latents_are_those_that_the_generator_itself_would_take() -> None:
    """The same images as of z by the generator's forward, ψ and the class included."""
    for options in ({}, {"truncation": 0.3}):
        generator = styled(classes=3, only=2, **options)
        images = generator.draw(generator.latents(5), generator.labels(5))
        wanted = generator.network(generator.noise(5), torch.full((5,), 2), truncation=options.get("truncation"))
        assert torch.allclose(images, wanted.clamp(-1, 1), atol=1e-5)
    assert torch.equal(plain().draw(plain().latents(5), None), plain().network(plain().noise(5)))
    assert not torch.equal(styled().noise(5), styled().noise(5, stream=1))
    assert torch.equal(styled(classes=3).labels(5), torch.tensor([0, 1, 2, 0, 1]))  # type: ignore[arg-type]


def test_the_mean_and_the_covariance_of_w() -> None:
    generator = styled()
    mean, covariance = generator.spread(2_000)
    w = generator.mapped(generator.noise(2_000, stream=1))
    assert torch.allclose(mean, w.mean(0), atol=1e-5)
    assert torch.allclose(covariance.diagonal(), w.var(0), rtol=1e-4)
    assert torch.equal(plain().spread()[1], torch.eye(8))


def test_ranges_of_styles() -> None:
    """Karras et al. 2019, section 3.1: two styles for each of 4x4 and 8x8, 16x16 and 32x32, and from 64x64 on."""
    assert [styled().styles(word) for word in ("coarse", "middle", "all", "2-5", 3)] == [
        (0, 4),
        (4, 6),
        (0, 6),
        (2, 6),
        (3, 4),
    ]
    large = styled(resolution=128)
    assert [large.styles(word) for word in ("coarse", "middle", "fine")] == [(0, 4), (4, 8), (8, 12)]
    for word, says in (
        ("fine", "has the styles 0 to 5"),
        ("5-3", "type for"),
        ("9", "0 to 5"),
        ("thin", "type coarse"),
    ):
        with pytest.raises(ConfigError, match=f"what.styles={word}.*{says}"):
            styled().styles(word)


def test_truncation_of_z_has_the_truncated_distribution() -> None:
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    for largest in (0.5, 2.0):
        found = truncated(z, largest)
        assert found.abs().max() <= largest
        density = math.exp(-(largest**2) / 2) / math.sqrt(2 * math.pi)
        variance = 1 - 2 * largest * density / math.erf(largest / math.sqrt(2))
        assert found.var().item() == pytest.approx(variance, rel=0.02)
        assert torch.equal(found.sort().indices, z.sort().indices) or (found.diff() * z.diff() >= 0).all()
    assert torch.allclose(truncated(z, 9.0), z, atol=1e-5)


# ------------------------------------------------------------------------------------ mixing, walks


def test_mixing_takes_a_range_of_styles_from_the_other() -> None:
    left, top = torch.zeros(2, 1, 6, 3), torch.ones(1, 4, 6, 3)
    ws = mixed(left, top, 2, 4)
    assert ws.shape == (2, 4, 6, 3)
    assert ws[1, 2, :, 0].tolist() == [0, 0, 1, 1, 0, 0]
    assert torch.equal(mixed(left, top, 0, 6), top.expand(2, 4, 6, 3))
    assert (left == 0).all()


def test_walks_are_closed_and_pass_their_places() -> None:
    stations = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    straight, arcs = (list(closed_walk(stations, 4, arcs)) for arcs in (False, True))
    assert len(straight) == len(arcs) == 12
    for index, station in enumerate(stations):
        assert torch.allclose(straight[4 * index], station)
        assert torch.allclose(arcs[4 * index], station, atol=1e-5)
    assert torch.allclose(straight[10], (stations[2] + stations[0]) / 2)
    assert not torch.allclose(arcs[10], straight[10], atol=0.1)


# ------------------------------------------------------------------------------------ directions


def test_sefa_of_a_known_matrix() -> None:
    """A = U diag(3, 2, 1) Vᵀ has the columns of V for directions and 9, 4 and 1 of 14 for shares."""
    torch.manual_seed(0)
    V, U = (torch.linalg.qr(torch.randn(n, 3, dtype=torch.float64)).Q for n in (5, 10))
    A = U @ torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)) @ V.T
    vectors, shares = sefa.sefa(A.split(4), 3)
    assert torch.allclose((vectors @ V).abs(), torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(shares, torch.tensor([9.0, 4.0, 1.0], dtype=torch.float64) / 14)
    assert (vectors.gather(1, vectors.abs().argmax(1, keepdim=True)) > 0).all()


def test_the_style_layers_and_the_styles_that_they_read() -> None:
    """Of 16x16: at 4x4 a convolution, then two for each resolution; toRGB reads the style of the next convolution."""
    generator = styled()
    found = sefa.affines(generator)
    assert sorted(style for style, _ in found) == [0, 1, 1, 2, 3, 3, 4, 5]
    conv0 = generator.network.synthesis.blocks[1].conv0.conv.affine
    assert any(style == 1 and torch.equal(weight, conv0.weight * conv0.scale) for style, weight in found)
    assert not any(layer._forward_pre_hooks for layer in generator.network.modules())


def test_a_linear_model_finds_the_direction_that_separates() -> None:
    """Where y = [d · x > 1] the normal is d, and the offset -1 in its length; where y is chance, so are the answers."""
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(4_000, 5, generator=generator, dtype=torch.float64) + 1
    d = torch.tensor([2.0, -1.0, 3.0, 0.0, 0.0], dtype=torch.float64)
    y = x @ d + 0.1 * torch.randn(4_000, generator=generator, dtype=torch.float64) > 4
    normal, offset = attributes.logistic_regression(x[:3000], y[:3000])
    assert torch.cosine_similarity(normal, d, dim=0) > 0.998
    assert (offset / normal.norm() * d.norm()).item() == pytest.approx(-4, abs=0.3)
    assert attributes.balanced_accuracy(x[3000:] @ normal + offset, y[3000:]) > 0.97
    shuffled = y[torch.randperm(4_000, generator=generator)]
    normal, offset = attributes.logistic_regression(x[:3000], shuffled[:3000])
    assert attributes.balanced_accuracy(x[3000:] @ normal + offset, shuffled[3000:]) == pytest.approx(0.5, abs=0.06)


def test_of_two_signs_of_a_class_the_direction_is_the_larger() -> None:
    """Both components tell y alike; the one that varies ten times as much moves images more."""
    side = torch.arange(1_000) % 2
    generator = torch.Generator().manual_seed(0)
    x = (2.0 * side[:, None] - 1 + 0.5 * torch.randn(1_000, 2, generator=generator)) * torch.tensor([1.0, 0.1])
    normal, _ = attributes.logistic_regression(x.double(), side == 1)
    assert normal[0] > 5 * normal[1] > 0


def test_moving_goes_so_many_deviations_in_those_styles_alone(tmp_path: Path) -> None:
    generator = styled()
    found = Directions.of(generator, torch.randn(2, 8), ["one", "two"], (1, 3))
    latents = generator.latents(50)
    moved = found.moved(latents, 1, -2) - latents
    w = generator.mapped(generator.noise(5_000, stream=7))
    deviation = (w @ found.vectors[1]).std()
    assert (moved[:, [0, 3, 4, 5]] == 0).all()
    assert torch.allclose((moved[:, 2] @ found.vectors[1]), -2 * deviation.expand(50), rtol=0.05)
    found.write(tmp_path / "found.pt")
    again = Directions.read(str(tmp_path / "found.pt"))
    assert torch.equal(again.vectors, found.vectors)
    assert (again.names, again.styles, again.space) == (["one", "two"], [1, 3], "w")
    in_z = Directions.of(plain(), torch.tensor([[0.0, 2, 0, 0, 0, 0, 0, 0]]), ["one"], None)
    assert in_z.moved(torch.zeros(1, 8), 0, 3).tolist() == [[0, 3, 0, 0, 0, 0, 0, 0]]
    with pytest.raises(ConfigError, match=r"what.directions=x is of another generator: of w of 8 .* z of 8"):
        again.require_fit(plain(), "x")


# ------------------------------------------------------------------------------------ projection


@pytest.mark.parametrize("space", ["w", "w+", "z"])
def test_a_projection_finds_what_the_generator_made(space: str) -> None:
    generator = plain() if space == "z" else styled()
    target = generator.images(generator.latents(1, stream=5), None)

    def distance(image: Tensor) -> Tensor:
        return (image - target).square().mean()

    found = projection.project(generator, distance, space=space, steps=200, lr=0.2 if space == "z" else 0.1)
    assert found.latent.shape == (1, *generator.form)
    assert found.distances[-1] < found.distances[0] / 10
    assert distance(generator.images(found.latent, None)) < found.distances[0] / 10
    if space == "w":
        assert (found.latent == found.latent[:, :1]).all()
    again = projection.project(generator, distance, space=space, steps=3)
    assert again.distances == projection.project(generator, distance, space=space, steps=3).distances
    assert all(p.grad is None for p in generator.network.parameters())


def test_noise_maps_are_optimised_and_stay_noise() -> None:
    generator = styled()
    target = generator.images(generator.latents(1, stream=5), None)
    before = {name: values.clone() for name, values in generator.network.synthesis.named_buffers()}
    found = projection.project(generator, lambda image: (image - target).square().mean(), steps=20, noise_weight=1e5)
    assert {tuple(values.shape) for values in found.noise.values()} == {(4, 4), (8, 8), (16, 16)}
    for values in found.noise.values():
        assert abs(values.mean()) < 1e-5
        assert values.square().mean().item() == pytest.approx(1, abs=1e-4)
    for name, values in generator.network.synthesis.named_buffers():
        assert torch.equal(values, before[name])
    kept = generator.draw(found.latent, None, found.noise)
    assert not torch.allclose(kept, generator.draw(found.latent, None), atol=1e-3)


def test_autocorrelation_by_hand() -> None:
    """A map of equal columns correlates down by its mean square; white noise of 64x64 hardly."""
    wave = torch.tensor([1.0, -1.0]).repeat(4).expand(8, 8)
    assert projection.autocorrelation([wave]) == 2  # each neighbour: 1 along the columns, -1 along the rows
    flat = torch.ones(16, 16)
    assert projection.autocorrelation([flat]) == 4  # of two sizes and two axes each
    assert projection.autocorrelation([torch.randn(64, 64, generator=torch.Generator().manual_seed(0))]) < 0.01


def test_the_learning_rate_rises_and_falls() -> None:
    assert [projection.rate(passed) for passed in (0, 0.025, 0.05, 0.5, 0.75)] == pytest.approx([0, 0.5, 1, 1, 1])
    assert projection.rate(0.875) == pytest.approx(0.5)
    assert projection.rate(1.0) == 0


def test_ctrl_c_leaves_what_there_is() -> None:
    generator = styled()
    steps = iter(range(5))

    def distance(image: Tensor) -> Tensor:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return image.square().mean()

    found = projection.project(generator, distance, steps=100)
    assert found.stopped
    assert len(found.distances) == 5
    assert not torch.equal(found.latent[0, 0], generator.spread()[0])


def test_ctrl_c_writes_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the second of three images after two steps, and before the first step of all."""
    for steps, files in ((5, {"projected.png", "projected.pt"}), (0, set())):
        counted = iter(range(steps))

        class Distance(nn.Module):
            def forward(self, image: Tensor, target: Tensor, counted: Any = counted) -> Tensor:
                if next(counted, None) is None:
                    raise KeyboardInterrupt
                return (image - target).square().mean()

        images = [str(write_images(tmp_path / "in", 3))]
        made = projection.Projection(images, steps=3, pixel_weight=0, perceptual=Distance)
        assert made.explore(styled(), tmp_path / str(steps)) == 130
        assert {path.name for path in (tmp_path / str(steps)).glob("*")} == files
    assert directions.load(str(tmp_path / "5" / "projected.pt"), "x")["names"] == ["0.png", "1.png"]
    assert "stopped: 2 of 3 images, the last after 2 of 3 steps" in capsys.readouterr().out


# ------------------------------------------------------------------------------------ the verb


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with styles and one without, both of the digits; a conditional one with styles; a translator."""
    folder = tmp_path_factory.mktemp("explored")
    tiny = [f"model.generator.{key}={value}" for key, value in TINY.items()]
    tiny += ["data.resolution=16"]
    train(small(folder / "styled", "stylegan2", *tiny, "data.classes=0", "metrics=digits"), every=16)
    train(small(folder / "classes", "stylegan2", *tiny), every=16)
    train(small(folder / "plain", "dcgan", "metrics=digits"), every=16)
    train(small(folder / "cdcgan", "cdcgan"), every=16)
    return folder


def verb(*words: str) -> int:
    """What `gan-experiments explore` does, in this process."""
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return explore.explore(hydra.compose("explore", ["device=cpu", *words]))


def test_a_truncation_sheet(runs: Path, tmp_path: Path) -> None:
    """All are alike at ψ = 0, and as drawn at 1."""
    assert verb(f"run={runs / 'styled'}", "what=truncation", "what.rows=3", "what.values=[0,1]", f"out={tmp_path}") == 0
    sheet = pixels(tmp_path / "truncation.png")
    cells = [[cell(sheet, row, column, 2, 96) for column in range(2)] for row in range(3)]
    assert torch.equal(cells[0][0], cells[1][0])
    assert torch.equal(cells[0][0], cells[2][0])
    assert not torch.equal(cells[0][1], cells[1][1])
    assert verb(f"run={runs / 'plain'}", "what=truncation", f"out={tmp_path / 'z'}") == 0
    assert (tmp_path / "z" / "truncation.png").exists()


def test_a_mixing_sheet(runs: Path, tmp_path: Path) -> None:
    """With all styles an image is its column's source; with some neither source."""
    words = (f"run={runs / 'styled'}", "what=mixing", "what.rows=2", "what.columns=3", f"out={tmp_path}")
    assert verb(*words, "what.styles=[all,coarse]") == 0
    sheet = pixels(tmp_path / "mixing-all.png")
    for row in (1, 2):
        for column in (1, 2, 3):
            assert (cell(sheet, row, column, 4, 96, top=0) - cell(sheet, 0, column, 4, 96, top=0)).abs().max() <= 1
    sheet = pixels(tmp_path / "mixing-coarse.png")
    mixture = cell(sheet, 1, 1, 4, 96, top=0)
    assert not torch.equal(mixture, cell(sheet, 0, 1, 4, 96, top=0))
    assert not torch.equal(mixture, cell(sheet, 1, 0, 4, 96, top=0))
    assert verb(*words, "existing=replace") == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"mixing-{w}.png" for w in ("all", "coarse", "middle")}


def test_a_walk(runs: Path, tmp_path: Path) -> None:
    words = ("what=walk", "what.places=2", "what.steps=3", "what.cells=4", f"out={tmp_path}")
    assert verb(f"run={runs / 'styled'}", *words, "what.frames=true") == 0
    assert Image.open(tmp_path / "walk-w.gif").n_frames == 6
    assert len(list((tmp_path / "walk-w").glob("*.png"))) == 6
    assert verb(f"run={runs / 'cdcgan'}", *words, "class=3") == 0
    assert Image.open(tmp_path / "walk-z.gif").n_frames == 6


def test_directions_by_sefa_and_edits_along_them(runs: Path, tmp_path: Path) -> None:
    given = f"run={runs / 'styled'}"
    words = ("what.rows=2", "what.strengths=[-1,0,1]", f"out={tmp_path}")
    assert verb(given, "what=sefa", "what.k=2", "what.styles=coarse", *words) == 0
    found = Directions.read(str(tmp_path / "sefa-coarse.pt"))
    assert found.vectors.shape == (2, 8)
    assert found.styles == [0, 4]
    assert verb(given, "what=edit", f"what.directions={tmp_path / 'sefa-coarse.pt'}", "what.named=2", *words) == 0
    sheet, edited = pixels(tmp_path / "sefa-coarse-2.png"), pixels(tmp_path / "edit-2.png")
    assert sheet.shape == edited.shape
    assert not (tmp_path / "edit-1.png").exists()
    cells = [cell(sheet, 0, column, 3, 96) for column in range(3)]
    assert not torch.equal(cells[0], cells[1])
    assert not torch.equal(cells[1], cells[2])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("styled", ()),
        ("styled", ("what.labels=data", "data=digits")),
        ("classes", ("what.labels=generator", "what.classes=[3,8]")),
    ],
)
def test_directions_by_a_classifier(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: tuple[str, ...]
) -> None:
    words = (*words, "what.samples=400", "what.rows=2", "what.strengths=[-1,1]")
    assert verb(f"run={runs / name}", "what=attributes", *words, f"out={tmp_path}") == 0
    found = Directions.read(str(tmp_path / "attributes.pt"))
    assert torch.allclose(found.vectors.norm(dim=1), torch.ones(len(found.names)))
    sheets = {path.stem.removeprefix("attributes-") for path in tmp_path.glob("*.png")}
    assert sheets == set(found.names)
    told = capsys.readouterr().out
    assert all(f"{name}: " in told for name in found.names)
    assert "right on 100 held-out images" in told
    if name == "classes":
        assert found.names == ["3", "8"]
    if "what.labels=data" in words:
        assert "the classes of the data, by digits: 9" in told


def test_a_photograph_is_projected_and_edited(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files, in w+ with noise maps; the edit of strength 0 shows the projections again."""
    write_images(tmp_path / "photos", 2, size=50)
    given = f"run={runs / 'styled'}"
    words = (f"what.images={tmp_path / 'photos'}", "what.steps=10", "what.space=w+", "what.noise=true", "what.lr=0.02")
    assert verb(given, "what=project", *words, f"out={tmp_path}") == 0
    assert capsys.readouterr().out.count("after 10 steps") == 2
    kept = directions.load(str(tmp_path / "projected.pt"), "x")
    assert kept["latents"].shape == (2, 6, 8)
    assert kept["names"] == ["0.png", "1.png"]
    assert verb(given, "what=sefa", "what.k=1", "what.rows=1", f"out={tmp_path}") == 0
    words = (f"what.directions={tmp_path / 'sefa-all.pt'}", f"what.latents={tmp_path / 'projected.pt'}")
    assert verb(given, "what=edit", *words, "what.strengths=[0]", f"out={tmp_path}") == 0
    projected, edited = pixels(tmp_path / "projected.png"), pixels(tmp_path / "edit-1.png")
    for row in range(2):
        assert torch.equal(cell(projected, row, 1, 2, 96), cell(edited, row, 0, 1, 96))


def test_a_perceptual_distance_is_looked_through(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `perceptual=` names is made, moved and asked; with no weight it is not made at all."""
    asked = []

    class Distance(nn.Module):
        def forward(self, image: Tensor, target: Tensor) -> Tensor:
            asked.append(image.shape)
            return (image - target).abs().mean()

    made = projection.Projection([str(write_images(tmp_path / "in", 1))], steps=2, pixel_weight=0, perceptual=Distance)
    assert made.explore(styled(), tmp_path) == 0
    assert asked == [(1, 1, 16, 16)] * 2
    projection.Projection([str(tmp_path / "in")], perceptual=made.explore, perceptual_weight=0)  # type: ignore[arg-type]


def test_as_a_person_types_it(runs: Path, tmp_path: Path) -> None:
    words = (f"run={runs / 'plain'}", "what=truncation", "what.rows=2", "device=cpu")
    done = run(*words, verb="explore", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).match("explored/00000016/truncation.png")
    assert Path(done.stdout.strip()).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_path_length_in_w(runs: Path, tmp_path: Path) -> None:
    """What is sampled of w(z) is what is sampled of z, with ψ and the classes that the seed says."""
    model = trained.open_run(str(runs / "classes"), "cpu").model
    assert isinstance(model, NoiseToImage)
    sampler = model.sampler(3, truncation=0.5)
    sample, mapping = evaluate._in_w(sampler)
    z = model.fixed_noise(7, 0)
    assert torch.allclose(sample(mapping(z)), sampler.along(z), atol=1e-5)
    torch.manual_seed(0)
    torch.save(make_layers(cfgs["D"]).state_dict(prefix="features."), tmp_path / "vgg.pth")
    torch.save(squeezenet1_1().state_dict(), tmp_path / "squeeze.pth")
    words = ["metrics=digits", "n=20", "path_length=6", f"lpips_weights={tmp_path / 'vgg.pth'}", f"out={tmp_path}"]
    words += [f"run={runs / 'styled'}", "path_length_in=w", "path_length_at=end", "device=cpu"]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        assert evaluate.evaluate(hydra.compose("evaluate", words)) == 0
        with pytest.raises(ConfigError, match="lpips_net=squeeze needs images of 17 pixels, and these have 16"):
            words = [*words[:3], "lpips_net=squeeze", *words[4:]]
            words += ["existing=replace", f"lpips_weights={tmp_path / 'squeeze.pth'}"]
            evaluate.evaluate(hydra.compose("evaluate", words))
    found = json.loads((tmp_path / "scores-00000016.json").read_text())["scores"]["ppl_w_end"]
    assert found["value"] > 0
    assert "at the beginning of a straight line in w" in found["passport"]["estimator"]


MISTAKES = {
    "nothing": (
        ("run=styled",),
        "what= is not given: type what= one of attention, attributes, captions, edit, mixing, orbit, project, sefa",
    ),
    "no scenes": (("run=plain", "what=orbit"), "draws images and no scenes to walk around; leave it out"),
    "no shapes": (("run=plain", "what=shape"), "draws images and no scenes to walk around; leave it out"),
    "no camera": (("run=plain", "what=walk", "camera=[30,10]"), "draws images and no scenes to walk around"),
    "no run": (("what=walk",), "run is not given"),
    "no such run": (("run=nowhere", "what=walk"), "run=nowhere"),
    "a number": (("run=styled", "what=walk", "what.places=1"), "what.places=1: a whole number from 2"),
    "values": (
        ("run=styled", "what=truncation", "what.values=[a]"),
        r"what.values=\[a\]: a list, each a number",
    ),
    "its own": (("run=styled", "what=truncation", "truncation=0.5"), "what.values; leave it out"),
    "below 0": (("run=plain", "what=truncation", "what.values=[0,1]"), "the largest .z. is above 0"),
    "cutoff": (("run=plain", "what=truncation", "what.cutoff=2"), "what.cutoff: this generator has no styles"),
    "truncation": (("run=plain", "what=walk", "truncation=-1"), "truncation=-1: the largest .z. is above 0"),
    "fine": (("run=styled", "what=mixing", "what.styles=[coarse,fine]"), "what.styles=fine: this generator of 16x16"),
    "space": (("run=styled", "what=walk", "what.space=v"), "type what.space=z or what.space=w"),
    "no w": (("run=plain", "what=walk", "what.space=w"), "needs a generator with styles"),
    "no sefa": (("run=plain", "what=sefa"), "what=sefa needs a generator with styles"),
    "too many": (("run=styled", "what=sefa", "what.k=9"), "what.k=9: w has 8 components"),
    "one caption": (("run=plain", "what=captions", "what.captions=[one]"), "two or more are needed"),
    "no captions": (("run=plain", "what=captions", "what.captions=[a,b]"), "this generator reads no captions"),
    "no class": (("run=plain", "what=walk", "class=1"), "this generator knows no classes"),
    "which class": (("run=cdcgan", "what=walk", "class=10"), "type a number of 0 to 9"),
    "class of photo": (("run=cdcgan", "what=project", "what.images=a.png"), "of which class are the images"),
    "no photo": (("run=plain", "what=project", "what.images=b.png"), "what.images=b.png: there is no such image"),
    "no images": (("run=plain", "what=project"), "what.images is not given"),
    "a text": (("run=plain", "what=project", "what.images=a.txt"), "a.txt cannot be decoded"),
    "w of z": (("run=plain", "what=project", "what.images=a.png", "what.space=w+"), "type what.space=z"),
    "noise": (("run=plain", "what=project", "what.images=a.png", "what.noise=true"), "has no noise maps"),
    "rate": (("run=plain", "what=project", "what.images=a.png", "what.lr=0"), "what.lr=0"),
    "no distance": (("run=plain", "what=project", "what.images=a.png", "what.pixel_weight=0"), "nothing compares"),
    "labels": (("run=plain", "what=attributes", "what.labels=me"), "what.labels= one of network, data, generator"),
    "own labels": (("run=plain", "what=attributes", "what.labels=generator"), "with styles and classes"),
    "no network": (("run=cdcgan", "what=attributes"), "needs a network that looks at images"),
    "no such class": (
        ("run=plain", "what=attributes", "what.classes=cat", "what.samples=64"),
        "what.classes=cat: there is no such class; type some of 0, 1",
    ),
    "rare": (
        ("run=plain", "what=attributes", "what.samples=16", "what.classes=[1]"),
        "what.classes=1: .* of 16 images are of it",
    ),
    "no directions": (("run=styled", "what=edit", "what.directions=no.pt"), "no.pt: there is no such file"),
    "no file of them": (("run=styled", "what=edit", "what.directions=a.txt"), "what.directions=a.txt cannot be read"),
}


def test_a_generator_of_captions_is_explored(tmp_path: Path) -> None:
    """Each image has a caption of the data, or all have the one that is typed; a projection has to know it."""
    train(small(tmp_path / "run", "gan_int_cls"), every=8)
    given, photo = f"run={tmp_path / 'run'}", write_images(tmp_path / "in", 2)
    generator = LatentSpace(trained.open_run(str(tmp_path / "run"), "cpu").model)  # type: ignore[arg-type]
    tokens = generator.labels(5)
    assert tokens is not None
    assert len({tuple(row) for row in tokens.tolist()}) > 1
    one = LatentSpace(trained.open_run(str(tmp_path / "run"), "cpu").model, caption="a seven")  # type: ignore[arg-type]
    assert one.labels(2).tolist() == [one.conditions.vocabulary.encode(["a seven"])[0].tolist()] * 2  # type: ignore[union-attr]
    assert not generator.fit(tokens + 10_000, 5)
    assert not generator.fit(None, 5)
    between = ["what=captions", "what.captions=[a thin seven,a thick two]", "what.rows=2", "what.steps=3"]
    for words in (["what=walk", "what.steps=1", "what.cells=4"], ["what=truncation", "caption=a thin seven"], between):
        assert verb(given, *words, f"out={tmp_path / 'out'}") == 0
    project = [given, "what=project", f"what.images={photo}", "what.steps=2", f"out={tmp_path / 'out'}"]
    with pytest.raises(ConfigError, match="of which caption are the images"):
        verb(*project)
    assert verb(*project, "caption=a seven") == 0
    Directions.of(generator, torch.eye(generator.dim)[:1], ["one"]).write(tmp_path / "one.pt")
    words = [f"what.directions={tmp_path / 'one.pt'}", f"what.latents={tmp_path / 'out' / 'projected.pt'}"]
    assert verb(given, "what=edit", *words, f"out={tmp_path / 'out'}") == 0
    with pytest.raises(ConfigError, match="needs a generator that attends to words, as model=attngan"):
        verb(given, "what=attention", f"out={tmp_path / 'out'}")
    with pytest.raises(ConfigError, match=r"what\.captions=purple: none of its words is known"):
        verb(given, *between[:1], "what.captions=[a seven,purple]")
    (text,) = one.told(torch.stack([tokens[0], tokens[1]]))
    halfway, end = (captions._between(text, 0, share, 2) for share in (0.5, 0.0))
    torch.testing.assert_close(halfway.sentence, text.sentence.mean(0).expand(2, -1))
    assert torch.equal(end.sentence, text.sentence[:1].expand(2, -1))
    assert end.mask is not None
    assert text.mask is not None
    assert torch.equal(end.mask[1], text.mask[0])
    assert {"captions.png", "edit-one.png", "projected.png", "truncation.png", "walk-z.gif"} <= {
        p.name for p in tmp_path.glob("out/*")
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    words, answer = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path, 1)
    (tmp_path / "0.png").rename("a.png")
    (tmp_path / "a.txt").write_text("no image")
    given = [f"run={runs / word[4:]}" if word.startswith("run=") and word != "run=nowhere" else word for word in words]
    with pytest.raises(ConfigError, match=answer) as raised:
        verb(*given, "out=here")
    assert len(raised.value.faults) == 1
    assert "\n" not in raised.value.faults[0]
    assert not (tmp_path / "here").exists()


def test_points_and_translators_are_refused(tmp_path: Path) -> None:
    train(small(tmp_path / "points", "wgan_gp_toy"), every=16)
    with pytest.raises(ConfigError, match="makes points of the plane and no images"):
        verb(f"run={tmp_path / 'points'}", "what=walk")
    train(small(tmp_path / "pairs", "pix2pix"), every=4)
    with pytest.raises(ConfigError, match="this model translates images; type gan-experiments translate"):
        verb(f"run={tmp_path / 'pairs'}", "what=walk")


def test_every_kind_is_in_the_conf_folder_and_takes_its_keys() -> None:
    kinds = sorted(path.stem for path in (REPOSITORY / "conf" / "what").glob("*.yaml"))
    assert kinds == [
        "attention",
        "attributes",
        "captions",
        "edit",
        "mixing",
        "orbit",
        "project",
        "sefa",
        "shape",
        "truncation",
        "walk",
    ]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        for kind in kinds:
            node = hydra.compose("explore", [f"what={kind}"]).what
            parameters = explored_parameters(node._target_)
            assert {str(key) for key in node} - {"_target_", "_recursive_"} == parameters


def explored_parameters(target: str) -> set[str]:
    import inspect

    from hydra.utils import get_class

    return set(inspect.signature(get_class(target)).parameters)


def test_images_of_sheets_are_the_images(tmp_path: Path) -> None:
    """Pixels of a sheet are those of the images, enlarged by a whole factor."""
    generator = styled()
    from gan_experiments.exploration import sheets

    images = generator.draw(generator.latents(2), None)
    sheets.write([images], tmp_path / "sheet.png", None, ["a", "b"], ["name"])
    shown = cell(pixels(tmp_path / "sheet.png"), 0, 1, 2, 96)
    assert torch.equal(shown[:, ::6, ::6], to_uint8(images[1]).expand(3, -1, -1).int())
