"""Translation: what every variant of it can do, and pix2pix and its losses by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import compose, run, small, small_data, write_images
from torch import Tensor, nn

from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError
from gan_experiments.data.resize import imresize
from gan_experiments.drawing import to_uint8
from gan_experiments.metrics.evaluator import Score
from gan_experiments.metrics.paired import PairedEvaluator
from gan_experiments.metrics.ranks import Ranks
from gan_experiments.metrics.request import Request
from gan_experiments.models.image_to_image import Direction, side_by_side


def test_side_by_side_enlarges_and_colours() -> None:
    low, high = torch.tensor([[[[0.0, 1.0]]]]), torch.zeros(1, 3, 2, 4)
    cells = side_by_side(low, high)
    assert cells.shape == (1, 2, 3, 2, 4)
    assert cells[0, 0].tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]] * 3


def test_a_translation_depends_on_its_seed_alone_and_leaves_the_networks_as_they_were(tmp_path: Path) -> None:
    module = build.build_model(small(tmp_path / "run", "pix2pix"))
    module.train()
    batch = {"input": torch.rand(2, 3, 32, 32)}
    torch.manual_seed(0)
    first = module.translate(batch)
    torch.manual_seed(1)
    assert torch.equal(first, module.translate(batch, "target"))
    assert not torch.equal(first, module.translate(batch, seed=1)), "dropout is its noise, in use too"
    assert module.generator.training
    with pytest.raises(ConfigError, match=r"to=a: this model knows no such direction; type to=target$"):
        module.translate(batch, "a")


def test_what_should_have_come_of_it_stands_beside_it(tmp_path: Path) -> None:
    module = build.build_model(small(tmp_path / "run", "pix2pix"))
    batch = {"input": torch.rand(2, 3, 32, 32), "target": torch.rand(2, 3, 32, 32)}
    fake, real = module.pair(batch)
    assert torch.equal(real, batch["target"])
    assert torch.equal(fake, module.translate(batch))
    assert torch.equal(module.sheet(batch), torch.stack([batch["input"], fake, real], dim=1))
    unpaired = build.build_model(small(tmp_path / "other", "cyclegan"))
    with pytest.raises(ConfigError, match="metrics=paired has nothing to compare"):
        unpaired.pair({"real_a": batch["input"]})


def test_pix2pix_terms_by_hand(tmp_path: Path) -> None:
    """Half of the discriminator's loss, of pairs; λ = 100; one translation a batch, which both phases use."""
    module = build.build_model(small(tmp_path / "run", "pix2pix"))
    batch = {"input": torch.rand(2, 3, 32, 32), "target": torch.rand(2, 3, 32, 32)}
    calls = []

    class Halve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            return x / 2

    module.generator = Halve()
    module._seed_draws("discriminator")
    loss = module.discriminator_loss(batch)["adversarial"]
    logits = [
        module.discriminator(torch.cat([batch["input"], output], 1)) for output in (batch["target"], batch["input"] / 2)
    ]
    by_hand = (F.softplus(-logits[0]).mean() + F.softplus(logits[1]).mean()) / 2
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    terms = module.generator_loss(batch)
    assert terms["adversarial"].item() == pytest.approx(F.softplus(-logits[1]).mean().item(), rel=1e-5)
    difference = (batch["input"] / 2 - batch["target"]).abs().mean()
    assert terms["l1"].item() == pytest.approx(100 * difference.item(), rel=1e-5)
    assert len(calls) == 1


def test_pix2pix_as_configured_has_the_official_size(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = build.make(compose(tmp_path, "model=pix2pix", "data.resolution=256").model)
    sizes = [sum(p.numel() for p in getattr(module, name).parameters()) for name in ("generator", "discriminator")]
    assert sizes == [54_413_955, 2_768_705]


# ------------------------------------------------------------------------------------ scores of held-out pairs


class Heard(Exception):
    """Rank 1 has put its rows on the table, and would now hear of rank 0."""


class Judged:
    """Two ranks one after the other: rank 1 puts its rows on the table, rank 0 finds them there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tables: list[Tensor] = []
        monkeypatch.setattr(Ranks, "meeting_place", torch.device("cpu"))
        monkeypatch.setattr(Ranks, "tell", lambda _, value: value)
        monkeypatch.setattr(Ranks, "collect", self.collect)

    def collect(self, table: Tensor) -> Tensor:
        self.tables.append(table.clone())
        if len(self.tables) == 1:
            raise Heard
        return torch.stack(self.tables).sum(0)


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Any, Any]:
    """A small pix2pix, and its data."""
    cfg = small(tmp_path / "run", "pix2pix")
    return build.build_model(cfg), build.make(cfg.data)


def measured(judge: PairedEvaluator, module: Any, data: Any, **ranks: int) -> dict[str, Score]:
    return judge.measure(module.sampler(3, False), judge.real(data), Request("cpu", ema=False, **ranks)).scores


def test_scores_are_those_of_the_translations_one_by_one(
    scored: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    module, data = scored
    judge = PairedEvaluator()
    with caplog.at_level("INFO"):
        found = measured(judge, module, data)
    pairs = data.pairs("val").pixels
    fakes = [
        to_uint8(module.sampler(3).pair({"input": p[None, :3] / 127.5 - 1, "target": p[None, 3:] / 127.5 - 1}, i)[0])
        for i, p in enumerate(pairs)
    ]
    by_hand = PairedEvaluator().evaluate([(fake[0], pair[3:]) for fake, pair in zip(fakes, pairs, strict=True)])
    assert {k: s.value for k, s in found.items()} == {k: s.value for k, s in by_hand.items()}
    told = {key: found["psnr"].passport[key] for key in ("split", "direction", "seed", "ema", "num_pairs")}
    assert told == {"split": "val", "direction": "target", "seed": 3, "ema": False, "num_pairs": 3}
    assert found["psnr"].passport["real_fingerprint"] == data.pairs("val").fingerprint
    as_it_is = PairedEvaluator().evaluate([(pair[:3], pair[3:]) for pair in pairs])
    line = "   ".join(f"{name} {score.value:.4g}" for name, score in as_it_is.items())
    assert f"the images as they are: {line}   (3 against what they should be, of the split val)" in caplog.text
    caplog.clear()
    assert measured(judge, module, data) == found
    assert caplog.text == "", "told once"
    assert measured(PairedEvaluator(num_fake=2), module, data)["l1"].passport["num_pairs"] == 2


def test_scores_are_the_same_on_two_ranks(scored: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module, data = scored
    module.directions = {"target": Direction("target", "target")}  # nothing to say of images as they are
    module.translate_batch = lambda batch, to, ema, draw: batch["input"] * draw(torch.rand, 1, 1, 1, 1)
    alone = measured(PairedEvaluator(), module, data)
    judged = Judged(monkeypatch)
    with pytest.raises(Heard):
        measured(PairedEvaluator(), module, data, rank=1, world_size=2)
    assert judged.tables[0].count_nonzero(dim=1).tolist() == [0, 4, 0]
    assert measured(PairedEvaluator(), module, data, rank=0, world_size=2) == alone


def test_translations_that_are_not_finite_score_nan(scored: tuple[Any, Any]) -> None:
    module, data = scored
    module.translate_batch = lambda batch, to, ema, draw: batch["input"] / 0 * 0
    found = measured(PairedEvaluator(), module, data)
    assert all(math.isnan(score.value) for score in found.values())
    assert found["l1"].passport["warnings"] == ["some translations are not finite"]


def test_enlarged_images_are_compared_with_bicubic_ones(tmp_path: Path) -> None:
    """By the whole images of the test set, which differ in size."""
    write_images(tmp_path / "photos", 2, size=40)
    write_images(tmp_path / "test", 1, size=48)
    cfg = compose(
        tmp_path, "data=super_resolution", f"data.root={tmp_path}/photos", "data.resolution=32", "data.scale=2"
    )
    module = build.build_model(small(tmp_path / "run", "pix2pix"))
    module.directions, module.scale = {"high": Direction("low", "high")}, 2
    module.translate_batch = lambda batch, to, ema, draw: F.interpolate(batch["low"], scale_factor=2)
    data = build.make(cfg.data)
    with pytest.raises(ConfigError, match=r"has no split 'test': type data\.test_root="):
        PairedEvaluator().real(data)
    cfg.data.test_root = str(tmp_path / "test")
    real = PairedEvaluator().real(build.make(cfg.data))
    given, high = module.sampler(0).as_it_is(real.batch(0), 0)
    assert torch.equal(to_uint8(given)[0], imresize(to_uint8(real.batch(0)["low"])[0], 2))
    assert high.shape == given.shape == (1, 3, 48, 48)
    assert module.sampler(0).pair(real.batch(0), 0)[0].shape == high.shape


def test_held_out_of_every_kind(tmp_path: Path) -> None:
    """What has no held-out pairs says what to type."""
    for letter in "AB":
        write_images(tmp_path / "pairs" / f"train{letter}", 2)
    lacking = {
        "paired": (f"data.root={tmp_path}/pairs", r"has no split test or val of pairs .* or type metrics=none"),
        "masked": (f"data.root={tmp_path}/pairs", r"type data\.test_root="),
        "unpaired": (f"data.root={tmp_path}/pairs", r"type metrics=none"),
    }
    for kind, (word, said) in lacking.items():
        with pytest.raises(ConfigError, match=said):
            build.make(compose(tmp_path, f"data={kind}", word).data).held_out()
    words = (
        "data=masked",
        f"data.root={tmp_path}/pairs/trainA",
        f"data.test_root={tmp_path}/pairs/trainB",
        "data.mask=boxes",
    )
    held = build.make(compose(tmp_path, *words, "data.resolution=32").data).held_out()
    assert (held.split, held.number, held.batch(1)["mask"].shape) == ("test", 2, (1, 1, 32, 32))
    assert torch.equal(held.batch(1)["mask"], held.batch(1)["mask"])


@pytest.mark.parametrize(
    ("model", "metrics", "said"),
    [
        ("pix2pix", "paired", ""),
        ("pix2pix", "digits", "does not draw images from noise; type metrics=paired or metrics=none"),
        (
            "cyclegan",
            "paired",
            "no image is known that should come of another with this model; type metrics=incep",
        ),
        ("cyclegan", "digits", ""),
        ("dcgan", "paired", "compares pairs, and noise makes none"),
    ],
)
def test_which_scores_fit_which_model(model: str, metrics: str, said: str, tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", model)
    cfg.metrics = compose(tmp_path, f"metrics={metrics}").metrics
    assert [said in fault for fault in check.faults(cfg)] == ([True] if said else [])


def test_scored_while_it_trains_and_again_afterwards(tmp_path: Path) -> None:
    """As a person types it: the same scores, of the same pairs; and without pairs a line before anything is trained."""
    words = ["model=pix2pix", "metrics=paired", *small_data(tmp_path / "run", "paired"), "images=4", "data.cache=cache"]
    words += ["model.generator.width=4", "model.discriminator.width=4", "model.discriminator.layers=1"]
    words += ["logger=none", "trainer=cpu"]
    done = run(*words, "hydra.run.dir=run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the images as they are: psnr ") == 1
    told = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert [row["images"] for row in told["history"]] == [0, 4]
    again = run("run=run", verb="evaluate", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "4 images: 3 against what they should be, of the split val" in again.stdout
    assert json.loads((tmp_path / "run" / "scores-00000004.json").read_text())["scores"] == told["last"]["scores"]
    for letter in "AB":
        (tmp_path / "paired" / f"val{letter}").rename(tmp_path / f"away{letter}")
    refused = run(*words, "hydra.run.dir=other", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("Paired has no split test or val of pairs that were held out: ")
    assert not (tmp_path / "other").exists()
