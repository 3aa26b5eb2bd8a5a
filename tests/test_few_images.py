"""Few images: what a run on them says of copies, of its scores, and of what cannot be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import compose, run, shrink, train, write_images

from gan_experiments.assembly import build, report, scoring
from gan_experiments.callbacks.memorisation import Memorisation, compared
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import IMAGE
from gan_experiments.models.dcgan import DCGAN

FOLDER = ["data=folder", "data.resolution=32", "data.batch_size=4", "images=8"]
NARROW = ["model.generator.width=4", "model.discriminator.width=4"]


def on_a_line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float32)[:, None]


def test_copies_are_less_than_half_as_far_as_the_next_training_image() -> None:
    real = on_a_line(0, 10, 30, 70)
    found, part, which = compared(on_a_line(1, 4, 6, 20, 70, 74), [real])
    assert which.tolist() == [0, 0, 1, 1, 3, 3]
    assert part.tolist() == pytest.approx([0.1, 0.4, 0.4, 1, 0, 0.1])  # 0 and 10 are 10 apart, 70 is 40 from 30
    assert found.copies == pytest.approx(5 / 6)
    assert found.distance == pytest.approx(0.1)
    # 0 is 10 from 10, which is then 20 from 30; 10 is 10 from 0, then 30 from 30; 30 is 20 from 10, then 10 from 0; ...
    assert found.real == pytest.approx(1 / 4)  # 10 / 20, 10 / 30, 20 / 10, 40 / 20


def test_new_images_of_the_same_kind_are_no_copies_and_blurred_ones_neither() -> None:
    images = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    new, _, _ = compared(images[100:], [images[:100]])
    assert (new.copies, new.real) == (0, 0)
    assert new.distance == pytest.approx(1, abs=0.15)
    blurred, _, _ = compared(images[:100].mean(dim=0, keepdim=True), [images[:100]])
    assert blurred.copies == 0
    assert compared(images[:100] + 0.1, [images[:100]])[0].copies == 1


def test_a_training_image_that_is_there_twice_is_compared_with_others() -> None:
    found, part, _ = compared(on_a_line(1), [on_a_line(0, 0, 10, 20)])
    assert part.tolist() == pytest.approx([0.1])
    assert found.real == 0  # and not a half, of the two that are equal


def test_mirror_images_count_where_the_data_flip() -> None:
    real = torch.tensor([[0.0, 9.0], [3.0, 3.0], [20.0, 20.0]])
    assert compared(real[:1].flip(1), [real])[0].copies == 0
    assert compared(real[:1].flip(1), [real, real.flip(1)])[0].copies == 1


def test_a_pale_copy_is_one() -> None:
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pale = 0.2 * images - 0.5
    assert compared(pale.flatten(1), [images.flatten(1)])[0].copies == 0
    assert compared(IMAGE.traits(pale), [IMAGE.traits(images)])[0].copies == 1
    assert IMAGE.traits(torch.ones(1, 1, 8, 8)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("real", "said"),
    [
        (on_a_line(3), "1 training image: nothing but copies can be learnt of it"),
        (on_a_line(3, 3), "2 training images, all alike: nothing but copies can be learnt of it"),
        (on_a_line(0, 10), "50% of 2 samples are copies of one of the 2 training images; what helps"),
        (on_a_line(0, 10, 11), "50% of 2 samples are copies of one of the 3 training images (67% of these are, of one"),
    ],
)
def test_what_is_said(real: torch.Tensor, said: str) -> None:
    found, part, _ = compared(on_a_line(-1, -8), [real])
    assert str(found).startswith(said)
    assert part.isfinite().all()


def test_a_run_on_few_images_shows_how_many_samples_are_copies(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", 5)
    words = [*FOLDER, f"data.root={tmp_path}/photos", *NARROW, "metrics=digits", "metrics.num_fake=8", "logger=csv"]
    done = run(*words, "trainer=cpu", "hydra.run.dir=run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "  copies   0% of 256 samples are copies of one of the 5 training images" in done.stdout
    for said in (
        "fid_digits: 5 real and 8 generated samples in 64 feature dimensions: biased upwards",
        "kid_digits: each subset holds all 5 real images",
        "memorised_digits: of 5 training samples, the two that are nearest stand for 1 in 100",
    ):
        assert said in done.stdout
    with Image.open(tmp_path / "run" / "samples" / "nearest.png") as sheet:
        assert min(sheet.size) > 300
    told = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert told["memorisation"]["images"] == 5
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["memorisation/copies"]]
    assert [float(row["memorisation/copies"]) for row in last] == [told["memorisation"]["copies"]] == [0]


@pytest.mark.parametrize(("most", "looks"), [(5, True), (4, False), (0, False)])
def test_a_generator_of_copies_is_found_up_to_so_many_images(
    most: int, looks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images(tmp_path / "photos", 5)
    cfg = shrink(compose(tmp_path / "run", *FOLDER, f"data.root={root}", "metrics=none", "data.flip=true"))
    data = build.open_data(cfg.data)
    real = data.fixed(5)["real"].flip(-1)
    monkeypatch.setattr(DCGAN, "sampler", lambda *_: lambda index, n: real[(64 * index + torch.arange(n)) % 5])
    looking = Memorisation(str(tmp_path / "run"), most=most, n=100)
    train(cfg, extra=[looking])
    assert looking.path.exists() == looks
    assert (looking.found is not None) == looks
    if looking.found is not None:
        assert (looking.found.copies, looking.found.distance) == (1, 0)
        assert "augment=ada" in str(looking.found)


def test_scores_that_nobody_asked_for_are_left_out_where_there_is_one_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images(tmp_path / "photos", 1)
    monkeypatch.setattr(scoring, "_choose", lambda *_: ("digits", "of the test"))
    words = [*FOLDER, f"data.root={root}", "callbacks=default"]
    made = build.build(shrink(compose(tmp_path / "run", *words, "metrics=auto")))
    assert made.missing == "no scores: they need two real images"
    asked = shrink(compose(tmp_path / "other", *words, "metrics=digits"))
    for begin in (build.build, report.tell_forecast):
        with pytest.raises(ConfigError, match="the split train holds 1 image, and scores need two"):
            begin(asked)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("choice", ["folder", "unpaired", "paired", "domains", "super_resolution", "masked"])
@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_may_be_larger_than_the_set(choice: str, n: int, tmp_path: Path) -> None:
    folders = {"unpaired": ("trainA", "trainB"), "paired": ("trainA", "trainB"), "domains": ("a", "b")}
    for name in folders.get(choice, (".",)):
        write_images(tmp_path / "photos" / name, n, seed=len(name) + ord(name[-1]))
    model = {
        "folder": "dcgan",
        "unpaired": "cyclegan",
        "paired": "pix2pix",
        "domains": "stargan",
        "super_resolution": "srresnet",
        "masked": "context_encoder",
    }[choice]
    words = [f"model={model}", f"data={choice}", f"data.root={tmp_path}/photos", "data.resolution=32"]
    words += ["data.load_resolution=36"] if choice in ("unpaired", "paired") else []
    cfg = compose(tmp_path, *words, "data.batch_size=8", *(["data.classes=2"] if choice == "domains" else []))
    data = build.open_data(cfg.data)
    for rank in range(2):
        batch = data.on_after_batch_transfer(data.stream(rank, 2).batch(3), 0)
        assert {len(rows) for rows in batch.values()} == {4}
    assert all(len(rows) == 8 for rows in data.fixed(8).values())
