"""`gan-experiments evaluate` on runs and on folders, as a person types it, and what it draws."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support import run, write_images
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers
from torchvision.transforms.functional import pil_to_tensor

from gan_experiments import drawing
from gan_experiments.contracts import ConfigError
from gan_experiments.data.images import Digits
from gan_experiments.data.stored import StoredImages
from gan_experiments.layers.standing_statistics import take_standing_statistics
from gan_experiments.metrics import pictures
from gan_experiments.metrics.evaluator import Evaluator, interval
from gan_experiments.metrics.extractors import DigitsExtractor
from gan_experiments.metrics.neighbours import nearest, nearest_real, realism
from gan_experiments.metrics.request import Request
from gan_experiments.models.dcgan import DCGAN
from gan_experiments.networks.dcgan import DCGANGenerator


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the default model that keeps its checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    small = ("model.generator.width=4", "model.discriminator.width=4", "trainer=cpu", "metrics=none", "logger=none")
    done = run(*small, "images=256", "callbacks.checkpoints.keep=128", "hydra.run.dir=one", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "one"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of real digits, 60 and 60 others, each in the folder of its class."""
    folder = tmp_path_factory.mktemp("digits")
    data = Digits().reference()
    assert data.labels is not None
    for c in range(10):
        for place, row in enumerate((data.labels == c).nonzero()[:12, 0].tolist()):
            where = folder / ("left", "right")[place % 2] / data.class_names[c] / f"{place // 2}.png"
            drawing.save_png(data.pixels[row], where, None)
    drawing.save_png(data.pixels[0], folder / "one" / "alone.png", None)
    return folder / "left", folder / "right"


def scores(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["scores"]


# ------------------------------------------------------------------------------------ runs


def test_a_run_by_every_option(trained: Path, tmp_path: Path) -> None:
    options = ("n=120", "truncation=[0.5,2]", "standing_statistics=2", "bootstrap=4", "pictures=true", "out=here")
    done = run(f"run={trained}", "metrics=digits", *options, verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for truncation in (0.5, 2):
        tag = f"00000256-truncation{truncation}-standing_statistics2"
        told = scores(tmp_path / "here" / f"scores-{tag}.json")
        assert told["fid_digits"]["passport"]["truncation"] == truncation
        assert told["fid_digits"]["passport"]["standing_statistics"] == "2 batches of 64"
        assert told["fid_digits"]["passport"]["num_fake"] == 120
        low, high = told["fid_digits"]["interval"]
        assert low < told["fid_digits"]["value"] < high
        for name in ("nearest", "best", "worst", "classes"):
            assert Image.open(tmp_path / "here" / f"pictures-{tag}" / f"{name}.png").width > 100
    assert Image.open(tmp_path / "here" / "scores-over-truncation.png").width > 300


def test_all_checkpoints_of_a_run_as_a_curve(trained: Path, tmp_path: Path) -> None:
    assert {path.name for path in (trained / "checkpoints").iterdir()} >= {"00000128.ckpt", "00000256.ckpt"}
    words = ("metrics=digits", "n=50", "checkpoints=true", "out=.")
    done = run(f"run={trained}", *words, verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    values = [scores(tmp_path / f"scores-{n:08d}.json")["fid_digits"]["value"] for n in (128, 256)]
    assert values[0] != values[1]
    assert (tmp_path / "scores-over-images-seen.png").exists()


def test_the_live_generator_does_not_overwrite_the_averaged_ones_scores(trained: Path, tmp_path: Path) -> None:
    words = ("metrics=digits", "n=50", "ema=false", "out=.")
    done = run(f"run={trained}", *words, verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "scores-00000256-live.json")["fid_digits"]["passport"]["ema"] is False


def test_the_path_length_of_a_run(trained: Path, tmp_path: Path) -> None:
    """By a VGG with random weights, which the passport says."""
    torch.manual_seed(0)
    torch.save(make_layers(cfgs["D"]).state_dict(prefix="features."), tmp_path / "vgg.pth")
    words = ("metrics=digits", "n=20", "path_length=20", "lpips_weights=vgg.pth", "out=.")
    done = run(f"run={trained}", *words, verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = scores(tmp_path / "scores-00000256.json")["ppl_z"]
    assert told["value"] > 0
    assert told["passport"]["num_paths"] == 20
    assert told["passport"]["warnings"] == ["the network's weights are not those that are published"]
    again = ("path_length_in=w", "existing=replace")
    refused = run(f"run={trained}", *words, *again, verb="evaluate", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.strip() == "path_length_in=w: this generator has no styles; type path_length_in=z"


# ------------------------------------------------------------------------------------ folders


def test_two_folders_class_by_class(digits: tuple[Path, Path], tmp_path: Path) -> None:
    fake, real = digits
    words = (f"fake={fake}", f"real={real}", "metrics=digits", "by_class=true", "pictures=true", "out=here")
    done = run(*words, verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "here" / "scores.json").read_text())
    by_class = [values["fid_digits"] for values in told["by_class"].values()]
    assert len(by_class) == 10
    assert told["scores"]["intra_fid_digits"]["value"] == pytest.approx(sum(by_class) / 10)
    assert told["scores"]["fid_digits"]["passport"]["ema"] is None
    right = [values["accuracy_digits"] for values in told["by_class"].values()]  # folders are what is asked for
    assert told["scores"]["accuracy_digits"]["value"] == pytest.approx(sum(right) / 10)
    assert min(right) > 0.8
    assert told["scores"]["memorised_digits"]["passport"]["warnings"]
    assert Image.open(tmp_path / "here" / "pictures-00000000" / "classes.png").height > 10 * 32


def test_pairs_of_images_of_equal_names(digits: tuple[Path, Path], tmp_path: Path) -> None:
    fake, real = digits
    done = run(f"fake={fake}", f"real={real}", "metrics=paired", "out=.", verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = scores(tmp_path / "scores.json")
    ours, theirs = (StoredImages(str(path), "fake").images(0, 60) / 255 for path in digits)  # type: ignore[operator]
    assert told["l1"]["value"] == pytest.approx((ours - theirs).abs().mean().item(), rel=1e-5)
    assert told["psnr"]["passport"]["num_pairs"] == 60


def test_scores_of_a_class_are_those_of_its_images_alone(digits: tuple[Path, Path], tmp_path: Path) -> None:
    fake, real = (StoredImages(str(path), "fake") for path in digits)
    judge = Evaluator(DigitsExtractor(), num_fake=60, cache=str(tmp_path))
    whole = judge.measure(fake.images, real, Request("cpu", ema=None, labels=fake.labels))
    threes = [StoredImages(str(path / "3"), "fake") for path in digits]
    one = Evaluator(DigitsExtractor(), num_fake=6, cache=str(tmp_path))
    alone = one.measure(threes[0].images, threes[1], Request("cpu", ema=None)).scores
    for name in ("fid_digits", "precision_digits", "density_digits"):
        assert whole.by_class["3"][name] == pytest.approx(alone[name].value, rel=1e-6)


def test_a_zip_scores_as_its_folder(digits: tuple[Path, Path], tmp_path: Path) -> None:
    fake, _ = digits
    archive = shutil.make_archive(str(tmp_path / "left"), "zip", fake)
    ours, theirs = StoredImages(str(fake), "fake"), StoredImages(archive, "fake")
    assert ours.fingerprint == theirs.fingerprint
    assert torch.equal(ours.images(0, 60), theirs.images(0, 60))  # type: ignore[arg-type]
    assert ours.class_names == theirs.class_names


def test_images_of_several_sizes_count_as_each_alone(tmp_path: Path) -> None:
    sizes = (30, 41, 30, 57)
    for i, size in enumerate(sizes):
        write_images(tmp_path / "odd" / str(i), 1, size=size, seed=i)
    stored = StoredImages(str(tmp_path / "odd"), "fake")
    assert [image.shape[-1] for image in stored.images(0, 4)] == list(sizes)
    judge = Evaluator(DigitsExtractor(), num_fake=4, batch_size=4, cache=str(tmp_path), scores=["fid"])
    features = judge.measure(stored.images, stored, Request("cpu", ema=None)).fake
    assert features is not None
    for i in range(4):
        alone, _ = DigitsExtractor().extract(stored.images(i, i + 1))  # type: ignore[arg-type]
        assert torch.allclose(features[i], alone[0], atol=1e-5)


def test_what_is_no_image_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path / "some", 3)
    (tmp_path / "some" / "notes.txt").write_text("no image")
    with caplog.at_level("WARNING"):
        assert len(StoredImages(str(tmp_path / "some"), "fake")) == 3
    assert "notes.txt" in caplog.text
    whole = (tmp_path / "some" / "1.png").read_bytes()
    (tmp_path / "some" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"1\.png cannot be decoded"):
        StoredImages(str(tmp_path / "some"), "fake").images(0, 3)


MISTAKES = {
    "nothing": ((), "neither run= nor fake="),
    "both": (("run=a", "fake=b"), "both run= and fake="),
    "no real": (("fake=left", "metrics=digits"), "real images are missing"),
    "no metrics": (("fake=left", "real=right"), "metrics= is missing"),
    "no weights": (("fake=left", "real=right", "metrics=torchvision"), "metrics.extractor.weights is not given"),
    "no folder": (("fake=nowhere", "real=right", "metrics=digits"), "fake=nowhere does not exist"),
    "no generator": (("fake=left", "real=right", "metrics=digits", "truncation=1"), "has no generator"),
    "pairs of what": (("fake=left", "metrics=paired", "data=digits"), "real images are missing"),
    "pairs by class": (("fake=left", "real=right", "metrics=paired", "by_class=true"), "does not read it"),
    "truncation": (("run=x", "truncation=-1"), "truncation=-1"),
    "truncations": (("run=x", "truncation=[1,null]"), "truncation=[1,null]: a number above 0"),
    "paths in what": (("run=x", "path_length_in=v"), "path_length_in=v: one of z, w is needed"),
    "paths where": (("run=x", "path_length_at=start"), "path_length_at=start: one of full, end is needed"),
    "no device": (("fake=left", "real=right", "metrics=digits", "device=tpu7"), "device=tpu7 is not here"),
    "too many": (("fake=left", "real=right", "metrics=digits", "n=1000"), "holds 60 images"),
    "one image": (("fake=left/3", "real=right", "metrics=digits", "n=1"), "n=1: a whole number from 2"),
    "a single image": (("fake=one", "real=right", "metrics=digits"), "fake=one holds a single image"),
    "a single real image": (("fake=left", "real=one", "metrics=digits"), "the split folder holds 1 image, and"),
    "no classes": (
        ("fake=left/3", "real=right", "metrics=digits", "by_class=true"),
        "images in a folder for each class",
    ),
}


def test_scores_of_two_runs_do_not_meet_in_one_folder(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "two")
    words = (f"run=[{trained},two]", "metrics=digits", "n=20", "out=here")
    refused = run(*words, verb="evaluate", folder=tmp_path)
    assert refused.returncode == 2
    assert "several runs would meet" in refused.stderr


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_line(digits: tuple[Path, Path], mistake: str, tmp_path: Path) -> None:
    words, said = MISTAKES[mistake]
    refused = run(*words, verb="evaluate", folder=digits[0].parent)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


# ------------------------------------------------------------------------------------ parts


class Conditional(nn.Module):
    """A generator whose images say which class they are asked for."""

    latent_dim, classes = 4, 3

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return (self.gain * label.to(z)).view(-1, 1, 1, 1).expand(-1, 1, 32, 32) / 2


def model(generator: nn.Module) -> DCGAN:
    return DCGAN(loss=None, generator=generator, discriminator=nn.Identity(), optimizers={})  # type: ignore[arg-type]


def test_a_conditional_generator_gets_the_labels_that_the_scores_are_told(tmp_path: Path) -> None:
    sampler = model(Conditional()).sampler(seed=3)
    labels = sampler.labels(5, 200)
    assert labels is not None
    assert torch.equal(sampler(5, 200)[:, 0, 0, 0] * 2, labels.float())
    assert labels.bincount().min() > 40
    assert model(DCGANGenerator(4, 16, 1, 4)).sampler(seed=3).labels(5, 200) is None


def test_path_lengths_are_of_images_without_bounds() -> None:
    """As in StyleGAN2-ADA's perceptual_path_length.py; scores and sheets are of images in [-1, 1]."""
    generator = Conditional()
    nn.init.constant_(generator.gain, 3.0)
    sampler = model(generator).sampler(seed=3)
    assert sampler(0, 200).max() == 1
    assert sampler.along(torch.randn(200, 4)).max() == 3


def test_another_seed_draws_other_noise() -> None:
    """A generator on the CPU reads 32 bits of its seed: what lies above them would count for nothing."""
    drawn = model(DCGANGenerator(4, 16, 1, 4))
    seeds = {drawn.sampler(seed).chunk_seed(index) for seed in range(5) for index in range(1000)}
    assert len(seeds) == 5000
    assert max(seeds) < 2**32
    assert not torch.equal(drawn.sampler(0)(0, 2), drawn.sampler(1)(0, 2))


def test_truncation_resamples_what_is_beyond() -> None:
    drawn = model(DCGANGenerator(64, 16, 1, 4)).fixed_noise(2000, seed=1, truncation=0.7).flatten().double()
    assert drawn.abs().max() <= 0.7
    with pytest.raises(ConfigError, match="truncation=-1: the largest"):
        model(DCGANGenerator(4, 16, 1, 4)).fixed_noise(2, seed=1, truncation=-1)
    # the variance of a normal cut at ±t: 1 - 2 t φ(t) / (2 Φ(t) - 1)
    t = torch.tensor(0.7, dtype=torch.float64)
    normal = torch.distributions.Normal(torch.zeros_like(t), 1)
    expected = 1 - 2 * t * normal.log_prob(t).exp() / (2 * normal.cdf(t) - 1)
    assert drawn.var().item() == pytest.approx(expected.item(), rel=0.02)


def test_standing_statistics_are_the_means_over_the_batches() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    network[1].running_mean.fill_(7)
    network.eval()
    batches = [torch.randn(16, 3, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    assert take_standing_statistics(network, [(batch,) for batch in batches]) == 1
    with torch.no_grad():
        hidden = [network[0](batch) for batch in batches]
    assert torch.allclose(network[1].running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0), atol=1e-6)
    assert torch.allclose(network[1].running_var, torch.stack([h.var(0) for h in hidden]).mean(0), atol=1e-6)
    assert not network[1].training
    assert network[1].momentum == 0.1
    assert take_standing_statistics(nn.Linear(3, 2), []) == 0


def test_the_interval_is_as_wide_as_new_samples_differ() -> None:
    """Of a mean, whose spread over new samples is known."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2000, generator=generator, dtype=torch.float64)
    halves = [torch.randperm(2000, generator=generator)[:1000] for _ in range(2000)]
    low, high = interval({"x": (drawn.mean().item(), None)}, [{"x": (drawn[h].mean().item(), None)} for h in halves])[
        "x"
    ]
    assert high - low == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.08)
    assert interval({"x": (1.0, None)}, []) == {}


def test_nearest_real_and_realism_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    fake = torch.tensor([[0.9], [2.9], [6.0], [10.0]])
    distance, which = nearest_real(real, fake)
    assert which.tolist() == [1, 2, 2, 3]
    assert torch.allclose(distance, torch.tensor([0.1, 0.1, 3.0, 0.0], dtype=torch.float64), atol=1e-6)
    reach = nearest(real, 1)[:, 0]  # squared radii 1, 1, 4, 49: the median is 1, so the first two balls count
    grade = realism(real, fake, reach)
    assert torch.allclose(grade, torch.tensor([10, 1 / 1.9, 1 / 5, 1 / 9], dtype=torch.float64), atol=1e-4)


def test_pictures_show_the_images_meant(digits: tuple[Path, Path], tmp_path: Path) -> None:
    """Copies come first among the pairs, and what is unlike all real images first among the worst."""
    fake, real = (StoredImages(str(path), "fake") for path in digits)
    mixed = fake.images(0, 60).clone()  # type: ignore[union-attr]
    mixed[17] = real.images(31, 32)[0]
    mixed[5] = torch.randint(0, 256, (1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    judge = Evaluator(DigitsExtractor(), num_fake=60, batch_size=25, cache=str(tmp_path))

    def sample(index: int, n: int) -> Tensor:
        return mixed[index * 25 : index * 25 + n]

    measured = judge.measure(sample, real, Request("cpu", ema=None))
    assert measured.fake is not None
    assert torch.equal(
        torch.stack(pictures.pick(sample, torch.tensor([40, 3, 59, 17]), 60, 25)), mixed[[40, 3, 59, 17]]
    )
    written = pictures.write_sheets(measured, judge, sample, real, tmp_path / "sheets")
    assert [path.name for path in written] == ["nearest.png", "best.png", "worst.png", "classes.png"]
    distance, which = nearest_real(measured.real.features, measured.fake)  # type: ignore[union-attr]
    assert distance.argmin() == 17
    assert which[17] == 31
    sheet = pil_to_tensor(Image.open(written[0]))
    step = 32 + pictures.GAP + 2
    factor = sheet.shape[-1] // (8 * step)  # four pairs a row
    first, second = (
        sheet[0, 2 * factor :, x * factor :][: 32 * factor, : 32 * factor] for x in (2 + pictures.GAP, 2 + step)
    )
    assert torch.equal(first, second)
    assert torch.equal(first[::factor, ::factor], mixed[17, 0])


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="no zip archive"):
        StoredImages(str(tmp_path / "a.zip"), "fake")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("x.txt", "no image")
    with pytest.raises(ConfigError, match="is an image"):
        StoredImages(str(tmp_path / "b.zip"), "fake")
