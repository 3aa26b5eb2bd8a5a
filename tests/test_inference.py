"""A trained model as Python uses it: samples and translations in any form, networks of their own, scores."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from support import GENERATIVE, Variant, run, write_images
from test_translate import Negative
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torchmetrics import Metric

import gan_experiments as gx
from gan_experiments.inference.contract import Facts
from gan_experiments.inference.run import Run
from gan_experiments.models.image_to_image import Direction

Variants = Callable[[str], Variant]


@pytest.mark.parametrize("model", GENERATIVE)
def test_every_variant_is_opened_and_used(model: str, variants: Variants) -> None:
    """A row of samples depends on its own noise and label alone, up to rounding, so that requests can be batched."""
    folder, cfg = variants(model).folder, variants(model).cfg
    opened = gx.load(folder, "cpu")
    facts = opened.facts
    assert (facts.images_seen, facts.channels, opened.name) == (cfg.images, cfg.data.channels, folder.name)
    if facts.task == "translate":
        also = facts.directions[opened.direction()].also
        if facts.kind == "clips":
            with pytest.raises(gx.ConfigError, match="this model makes clips of others, and this is of images"):
                opened.translate(np.zeros((32, 32, 1), np.uint8))
            return
        hole = np.zeros((37, 50), bool)
        hole[14:18, 14:18] = True  # in the middle of 32 x 32, which all networks of a fixed size have here
        side = slice(None) if facts.resolution is None else slice(0, 32)
        image = np.random.default_rng(0).integers(0, 256, (37, 50, facts.channels), np.uint8)[side, side]
        given = {"mask": hole[side, side] if "mask" in also else None, "label": 0 if "label" in also else None}
        made = opened.translate(image, **given)
        assert made.dtype == np.uint8
        assert made.shape == (facts.scale * image.shape[0], facts.scale * image.shape[1], facts.channels)
        assert np.array_equal(opened.translate(image, **given), made)
        return
    z, labels = opened.noise(5, 3), opened.labels(5, 3)
    drawn = opened.draw(z, labels, exact=True)
    assert drawn.shape == (5, facts.channels, *(facts.resolution or ()))
    rows = slice(1, 3)
    alone = opened.draw(z[rows], None if labels is None else labels[rows], exact=True)
    assert (alone - drawn[rows]).abs().max() < 1e-5
    assert not torch.equal(drawn[0], drawn[1])
    samples = opened.sample(5, 3, form="tensor")
    assert samples.dtype == (torch.uint8 if facts.kind == "images" else torch.float32)
    assert (samples.float() - ((drawn + 1) * 127.5 if facts.kind == "images" else drawn)).abs().max() <= 0.51
    network = opened.generator
    made = network(z, *opened.model.told(labels))  # type: ignore[operator]
    assert torch.allclose(opened.model.kind.bounded(made), drawn, atol=1e-6)  # type: ignore[union-attr]
    assert not network.training
    assert all(p.is_contiguous() and not p.requires_grad for p in network.parameters())


# -------------------------------------------------------------------- translations


PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
RGB = Image.fromarray(PIXELS)
CHW = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())


def negative(channels: int = 3, **model: Any) -> Run:
    return Run(Negative(**model), OmegaConf.create({"data": {"channels": channels}}), Path("r"))


CAME_BACK: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "array": (PIXELS, 255 - PIXELS, {}),
    "array [C, H, W]": (PIXELS.transpose(2, 0, 1), 255 - PIXELS.transpose(2, 0, 1), {}),
    "grey": (PIXELS[..., 0], np.repeat(255 - PIXELS[..., :1], 3, axis=2), {}),
    "grey [H, W, 1]": (PIXELS[..., :1], np.repeat(255 - PIXELS[..., :1], 3, axis=2), {}),
    "one pixel": (PIXELS[:1, :1], 255 - PIXELS[:1, :1], {}),
    "opaque": (np.dstack([PIXELS, np.full((9, 12), 255, np.uint8)]), 255 - PIXELS, {}),
    "transparent": (np.dstack([PIXELS, np.zeros((9, 12), np.uint8)]), np.zeros_like(PIXELS), {}),
    "bool": (PIXELS > 99, 255 - 255 * (PIXELS > 99).astype(np.uint8), {}),
    "tensor": (CHW, 255 - CHW, {}),
    "batch": (np.stack([PIXELS] * 2), np.stack([255 - PIXELS] * 2), {}),
    "batch of tensors": (torch.stack([CHW] * 2), torch.stack([255 - CHW] * 2), {}),
    "floats": (PIXELS / 255, 1 - PIXELS / 255, {"range": (0, 1)}),
    "floats in [-1, 1]": (CHW / 127.5 - 1, 1 - CHW / 127.5, {"range": (-1, 1)}),
    "half": (CHW.bfloat16(), 255 - CHW.bfloat16(), {"range": (0, 255)}),
    "16 bits": (PIXELS.astype(np.uint16) * 257, (255 - PIXELS).astype(np.uint16) * 257, {"range": (0, 65535)}),
    "asked for as a tensor": (PIXELS, 255 - CHW, {"form": "tensor"}),
    "floats asked for as an array": (CHW / 255, 255 - PIXELS, {"form": "array", "range": (0, 1)}),
}


@pytest.mark.parametrize("case", CAME_BACK)
def test_an_image_comes_back_in_its_form(case: str) -> None:
    image, wanted, options = CAME_BACK[case]
    made = negative().translate(image, **options)
    assert (type(made), made.dtype, made.shape) == (type(wanted), wanted.dtype, wanted.shape)
    made, wanted = (value.float().numpy() if isinstance(value, Tensor) else value for value in (made, wanted))
    assert np.allclose(made, wanted, atol=1e-4, rtol=1e-2 if case == "half" else 0)


def test_pictures_and_files_come_back_as_pictures(tmp_path: Path) -> None:
    opened, deep = negative(), PIXELS[..., 0].astype(np.uint16) * 257
    for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK"):
        wanted = np.asarray(RGB.convert(mode).convert("RGB"))
        made = opened.translate(RGB.convert(mode))
        assert isinstance(made, Image.Image)
        assert np.array_equal(np.asarray(made), 255 - wanted), mode
    RGB.save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "b.png")
    for word in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(np.asarray(opened.translate(word)), 255 - PIXELS)
    grey = negative(1)
    assert grey.translate(RGB).mode == "L"
    assert np.array_equal(grey.translate(tmp_path / "b.png"), 65535 - deep)
    assert grey.translate(PIXELS[..., 0]).shape == (9, 12)
    made = opened.translate([PIXELS, RGB, tmp_path / "a.png"])
    assert [type(one) for one in made] == [np.ndarray, Image.Image, Image.Image]
    assert opened.translate([]) == []
    assert len(grey.translate(tmp_path)) == len(grey.translate(f"{tmp_path}/*.png")) == 2
    assert [one.mode for one in opened.translate([PIXELS, CHW], form="pil")] == ["RGB", "RGB"]


def test_tiles_and_masks_are_those_of_the_verb() -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    assert np.array_equal(negative().translate(image, tile=32), negative().translate(image, tile=None))
    hole = np.zeros((9, 12), bool)
    hole[2:5, 3:7] = True
    filled = np.where(hole[..., None], 0, PIXELS)
    opened = negative(masked=True)
    for mask in (
        hole,
        hole.astype(np.uint8),
        0.5 * hole,
        hole[..., None],
        torch.from_numpy(hole)[None],
        Image.fromarray(hole),
    ):
        assert np.array_equal(opened.translate(PIXELS, mask=mask), filled)
    made = opened.translate([PIXELS, PIXELS], mask=[hole, ~hole])
    assert np.array_equal(made[1], np.where(hole[..., None], PIXELS, 0))


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": (None, {}, "None is no image: give a PIL image, an array, a tensor or a path"),
    "bytes": (b"abc", {}, "a bytes is no image"),
    "floats": (PIXELS / 255, {}, r"values 0..1: say which values are black and white, range=\(0,1\) or range=\(-1,1\)"),
    "16 bits": (PIXELS.astype(np.uint16) * 257, {}, r"say which values are black and white, range=\(0,65535\)"),
    "no numbers": (PIXELS / np.nan, {"range": (0, 1)}, "cannot be read .holds values that are no numbers"),
    "range": (PIXELS / 255, {"range": (1, 0)}, r"range=\(1, 0\): the values of black and of white are needed"),
    "range of one": (PIXELS / 255, {"range": 1}, "range=1: the values of black and of white are needed"),
    "two channels": (PIXELS[..., :2], {}, r"\[H, W, C\] or \[C, H, W\] of 1 or 3 or 4 channels is needed"),
    "five dimensions": (PIXELS[None, None], {}, "is no image"),
    "no pixels": (PIXELS[:0], {}, "is no image"),
    "empty batch": (PIXELS[None][:0], {}, "holds no image"),
    "no file": ("nowhere.png", {}, "images=nowhere.png: there is no such image"),
    "second of a list": ([PIXELS, 3], {}, "image 1 of 2: 3 is no image"),
    "form": (PIXELS, {"form": "numpy"}, "form='numpy': there are form='array', form='tensor' and form='pil'"),
    "direction": (PIXELS, {"to": "zebra"}, "to=zebra: this model knows no such direction"),
    "label": (PIXELS, {"label": 1}, "label=1: this model does not read it"),
    "mask": (PIXELS, {"mask": PIXELS[..., 0] > 9}, "mask: this model does not read it"),
    "tile": (PIXELS, {"tile": 0}, "tile=0: a whole number of 1 or more is needed"),
    "seed": (PIXELS, {"seed": 0.5}, "seed=0.5: a whole number of 0 or more is needed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_translated_is_refused_in_one_line(case: str) -> None:
    image, options, said = REFUSED[case]
    with pytest.raises(gx.ConfigError, match=said) as refused:
        negative().translate(image, **options)
    assert "\n" not in str(refused.value)


def test_masks_that_are_none_are_refused_in_one_line() -> None:
    opened, whole = negative(masked=True), np.ones((9, 12), bool)
    for mask, said in (
        (None, "this model reads mask too"),
        (whole, "mask: all of the image would be hole"),
        (~whole, "mask: none of the image would be hole"),
        (PIXELS, r"mask: .* is given, and \[H, W\] is needed"),
        (3, "mask: 3 is no mask"),
        ("nowhere.png", "mask: nowhere.png does not exist"),
        (np.eye(4), "its mask is 4x4 and it is 12x9"),
    ):
        with pytest.raises(gx.ConfigError, match=said) as refused:
            opened.translate(PIXELS, mask=mask)
        assert "\n" not in str(refused.value)


# -------------------------------------------------------------------- samples


def test_samples_are_those_of_the_verb(variants: Variants, tmp_path: Path) -> None:
    folder = variants("cdcgan").folder
    words = [f"run={folder}", "n=12", "seed=4", "truncation=0.7", "singles=true", "device=cpu", f"out={tmp_path}/o"]
    assert run("sample", *words, folder=tmp_path).returncode == 0
    files = sorted((tmp_path / "o" / "images").rglob("*.png"), key=lambda path: path.name)
    opened = gx.load(folder, "cpu")
    images = opened.sample(12, seed=4, truncation=0.7)
    assert np.array_equal(images[..., 0], np.stack([np.asarray(Image.open(file)) for file in files]))
    assert [int(file.parent.name) for file in files] == opened.labels(12).tolist()  # type: ignore[union-attr]


def test_samples_are_those_of_the_verb_where_classes_are_uneven(variants: Variants, tmp_path: Path) -> None:
    folder = shutil.copytree(variants("cdcgan").folder, tmp_path / "uneven")
    file = folder / "checkpoints" / "last.ckpt"
    saved = torch.load(file, weights_only=True)
    saved["gan_experiments"]["class_counts"] = [90, 10] + [1] * 8
    torch.save(saved, file)
    opened = gx.load(folder, "cpu")
    for law, told in (([], "data"), (["labels=uniform"], "uniform")):
        out = tmp_path / told
        words = [f"run={folder}", "n=40", "seed=4", "singles=true", *law]
        assert run("sample", *words, f"out={out}", "device=cpu", folder=tmp_path).returncode == 0
        files = sorted((out / "images").rglob("*.png"), key=lambda path: path.name)
        images = opened.sample(40, seed=4, labels=told)
        assert np.array_equal(images[..., 0], np.stack([np.asarray(Image.open(file)) for file in files]))
    assert opened.labels(40, 4, law="data").eq(0).sum() > 20  # type: ignore[union-attr]
    for asked, message in (
        ((None, "often"), "labels=often: type labels=data or uniform"),
        ((3, "data"), "label= says all"),
    ):
        with pytest.raises(gx.ConfigError, match=message):
            opened.sample(2, label=asked[0], labels=asked[1])


def test_samples_in_every_form(variants: Variants) -> None:
    opened = gx.load(variants("cdcgan").folder, "cpu")
    array, tensor = opened.sample(3), opened.sample(3, form="tensor")
    assert (array.shape, array.dtype, tensor.shape, tensor.dtype) == (
        (3, 32, 32, 1),
        np.uint8,
        (3, 1, 32, 32),
        torch.uint8,
    )
    assert np.array_equal(array, tensor.movedim(1, -1).numpy())
    pictures = opened.sample(3, form="pil")
    assert np.array_equal(np.stack([np.asarray(one) for one in pictures]), array[..., 0])
    exact = opened.sample(3, exact=True)
    assert exact.dtype == np.float32
    assert np.abs((exact + 1) * 127.5 - array).max() <= 0.5001
    assert opened.sample(2**3 * 9).shape[0] == 72  # more than one chunk
    points = gx.load(variants("unrolled_gan").folder, "cpu")
    assert (points.sample(5).shape, points.sample(5).dtype) == ((5, 2), np.float32)
    with pytest.raises(gx.ConfigError, match="form='pil': points of the plane are no images"):
        points.sample(5, form="pil")
    with pytest.raises(gx.ConfigError, match="this model draws samples from noise; ask it to sample, not to translate"):
        points.translate(PIXELS)
    with pytest.raises(gx.ConfigError, match="this model translates images; ask it to translate, not to sample"):
        negative().sample(1)


def test_classes_by_number_by_name_and_one_for_each(variants: Variants) -> None:
    opened = gx.load(variants("cdcgan").folder, "cpu")
    one = opened.sample(2, label=3)
    for label in ("3", [3, "3"], np.array([3, 3]), torch.tensor([3, 3]), np.int64(3)):
        assert np.array_equal(opened.sample(2, label=label), one)
    assert opened.labels(12).tolist() == [*range(10), 0, 1]  # type: ignore[union-attr]
    assert opened.labels(200, law="data").bincount(minlength=10).min() > 0  # type: ignore[union-attr]
    for label, said in (
        ("cat", "label=cat: type a number of 0 to 9, or a name: 0, 1"),
        (10, "label=10: type a number"),
        (-1, "label=-1: type a number"),
        (True, "label=True: type a number"),
        ([1, 2, 3], "label has 3 classes for 2 samples: give one, or one for each"),
    ):
        with pytest.raises(gx.ConfigError, match=said):
            opened.sample(2, label=label)
    for given, said in (
        ({"n": 0}, "n=0: a whole"),
        ({"n": 1.5}, "n=1.5: a whole"),
        ({"truncation": 0}, "truncation=0"),
    ):
        with pytest.raises(gx.ConfigError, match=said):
            opened.sample(**{"n": 2, **given})
    with pytest.raises(gx.ConfigError, match="this generator needs the label of each sample"):
        opened.draw(opened.noise(2))


def test_a_network_of_its_own_shares_nothing_with_the_run(variants: Variants) -> None:
    opened = gx.load(variants("sagan").folder, "cpu")
    z, labels = opened.noise(2), opened.labels(2)
    before = opened.draw(z, labels, exact=True)
    network = opened.generator
    assert any(parametrize.is_parametrized(layer) for layer in opened.model.network("generator").modules())
    assert not any(parametrize.is_parametrized(layer) for layer in network.modules())
    same = pickle.loads(pickle.dumps(network))(z, labels)
    assert (same - before).abs().max() < 1e-6
    nn.init.zeros_(next(network.parameters()))
    assert torch.equal(opened.draw(z, labels, exact=True), before)
    state = torch.get_rng_state()
    _ = opened.generator
    assert torch.equal(torch.get_rng_state(), state)
    several = gx.load(variants("cyclegan").folder, "cpu")
    with pytest.raises(gx.ConfigError, match=r"this model has generator_ab and generator_ba: run\.network"):
        _ = several.generator
    assert isinstance(several.network("generator_ba"), nn.Module)
    with pytest.raises(gx.ConfigError, match="network 'g': this model has generator_ab, generator_ba, discr"):
        several.network("g")


def test_the_facts_are_plain_and_the_hash_is_that_of_the_file(variants: Variants, tmp_path: Path) -> None:
    folder = variants("stylegan2").folder
    opened = gx.load(folder / "checkpoints" / "last.ckpt", "cpu")
    assert repr(opened) == f"Run({str(folder)!r}, NoiseToImage, 16 images)"
    assert (opened.facts.model, opened.facts.truncation, opened.facts.latent_dim) == ("StyleGAN2", "w", 8)
    assert opened.checkpoint == hashlib.sha256((folder / "checkpoints" / "last.ckpt").read_bytes()).hexdigest()
    assert opened.config["images"] == 16
    copy = tmp_path / "a.ckpt"
    copy.write_bytes((folder / "checkpoints" / "last.ckpt").read_bytes())
    other = gx.load(copy, "cpu")
    copy.write_bytes(b"replaced")
    assert other.checkpoint == ""
    told = Facts("translate", "Pix2Pix", "images", 1, 3, directions={"target": Direction("input", also=("mask",))})
    assert json.loads(json.dumps(asdict(told)))["directions"]["target"]["also"] == ["mask"]


def test_what_cannot_be_opened_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RGB.save("a.png")
    for given, said in (
        ("nowhere", "run=nowhere: there is no such file or folder"),
        (None, "run=None: the path of a run or of a checkpoint is needed"),
        ("latest", "latest: outputs/ here has no run with a checkpoint"),
        ("a.png", "run=a.png: not a whole checkpoint"),
    ):
        with pytest.raises(gx.ConfigError, match=said) as refused:
            gx.load(given)  # type: ignore[arg-type]
        assert "\n" not in str(refused.value)


# -------------------------------------------------------------------- scores


def test_scores_are_those_of_the_verb(tmp_path: Path, variants: Variants) -> None:
    for name, seed in (("fake", 1), ("real", 2)):
        write_images(tmp_path / name, 8, size=32, seed=seed)
    words = ["metrics.scores=[fid,kid]", "bootstrap=4"]
    verb = ["evaluate", "fake=fake", "real=real", "metrics=digits", *words, "device=cpu", "out=o"]
    assert run(*verb, folder=tmp_path).returncode == 0
    told = json.loads((tmp_path / "o" / "scores.json").read_text())["scores"]
    folders = gx.evaluate(tmp_path / "fake", str(tmp_path / "real"), "digits", words)
    assert {name: json.loads(json.dumps(score.to_dict())) for name, score in folders.items()} == told
    fake, real = (
        np.stack([np.asarray(Image.open(tmp_path / name / f"{i}.png")) for i in range(8)]) for name in ("fake", "real")
    )
    tensor, pictures = torch.from_numpy(real).movedim(-1, 1), [Image.fromarray(image) for image in fake]
    for given in (gx.evaluate(fake, tensor, "digits", words), gx.evaluate(pictures, real, "digits", words)):
        assert {name: float(score) for name, score in given.items()} == {n: s["value"] for n, s in told.items()}
    assert "passport" not in repr(folders)
    pairs = [gx.evaluate(tmp_path / "fake", tmp_path / "real", "paired"), gx.evaluate(fake, real, metrics="paired")]
    values = [{name: float(score) for name, score in scores.items()} for scores in pairs]
    assert values[0] == pytest.approx(values[1])
    opened = gx.load(variants("dcgan").folder, "cpu")
    scores = gx.evaluate(opened, real, "digits", ["n=8", "metrics.scores=[fid]", "metrics.batch_size=8"])
    again = opened.draw(opened.noise(8, 0))
    assert float(scores["fid_digits"]) == float(gx.evaluate(again, real, "digits", words)["fid_digits"])
    assert scores["fid_digits"].passport["num_fake"] == 8


GREY = PIXELS[None, ..., :1]
NOT_SCORED: dict[str, tuple[tuple[Any, ...], str]] = {
    "no metrics": ((GREY, GREY), "metrics= is missing: type metrics=inception"),
    "no real images": ((GREY, None, "digits"), "real images are missing"),
    "metrics": ((GREY, GREY, "fidd"), "metrics=fidd: there is no such metrics"),
    "key": ((GREY, GREY, "digits", ["nn=3"]), "nn: there is no such key"),
    "value": ((GREY, GREY, "digits", "n=0"), "n=0: a whole number from 2"),
    "of the command": ((GREY, GREY, "digits", ["run=latest"]), "run=latest: that is for the command"),
    "sweep": ((GREY, GREY, "digits", ["-m"]), "-m: options and sweeps are for the command"),
    "of a generator": ((GREY, GREY, "digits", ["truncation=1"]), "truncation=1: a folder of images has no generator"),
    "one image": ((GREY, GREY, "digits"), "fake=... holds a single image"),
    "floats": ((GREY / 255, GREY, "digits"), "fake: a float64 array .* uint8 is needed"),
    "no batch": ((PIXELS, GREY, "digits"), "fake: a uint8 array 9x12x3 .* a folder, a list of images or a batch"),
    "empty list": (([], GREY, "digits"), "fake: the list is empty"),
    "nothing": ((None, GREY, "digits"), "fake: None is given"),
    "no folder": (("nowhere", GREY, "digits"), "fake=nowhere does not exist"),
    "unequal pairs": ((GREY, [PIXELS, PIXELS], "paired"), "fake has 1 images and real 2"),
}


@pytest.mark.parametrize("case", NOT_SCORED)
def test_what_cannot_be_scored_is_refused_in_one_line(case: str) -> None:
    given, said = NOT_SCORED[case]
    with pytest.raises(gx.ConfigError, match=said) as refused:
        gx.evaluate(*given)
    assert "\n" not in str(refused.value)


def test_the_metrics_are_there_and_nothing_is_imported_before_it_is_used() -> None:
    names = "gx.load, gx.evaluate, gx.train, gx.metrics, gx.metrics.higher_is_better"
    code = f"import sys, gan_experiments as gx; {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(gx.metrics.FrechetDistance(), Metric)
    assert (Path(gx.__file__).parent / "py.typed").is_file()
