"""The scores as metrics: in anybody's Lightning module, on any number of ranks, beside torchmetrics' own."""

from __future__ import annotations

import inspect
import math
import os
import re
import socket
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from support import REPOSITORY
from test_metrics import Images, noise
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore as TheirInceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from gan_experiments import metrics
from gan_experiments.contracts import ConfigError
from gan_experiments.data.images import Digits
from gan_experiments.metrics import (
    L1,
    PSNR,
    SSIM,
    ConditionalAccuracy,
    DensityCoverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    Memorised,
    ModeCoverage,
    MongeInceptionDistance,
    PathLength,
    PrecisionRecall,
    collection,
    names,
)
from gan_experiments.metrics import metric as metric_module
from gan_experiments.metrics.clip_extractors import MovingDigitsExtractor
from gan_experiments.metrics.evaluator import SCORES, USUAL, Evaluator
from gan_experiments.metrics.extractors import DigitsExtractor
from gan_experiments.metrics.metric import FeatureMetric, gather, in_order
from gan_experiments.metrics.module_extractors import ModuleExtractor
from gan_experiments.metrics.neighbours import SquaredDistances
from gan_experiments.metrics.of_scenes import SceneEvaluator
from gan_experiments.metrics.paired import PairedEvaluator
from gan_experiments.metrics.request import Request
from gan_experiments.metrics.scores import kernel_distance


def features(n: int, seed: int, shift: float = 0.0) -> Tensor:
    """Features [n, 6], float32."""
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)) + shift


REAL, FAKE = features(41, 0), features(37, 1, 0.3)


def fed(metric: Any, parts: int = 3) -> Any:
    """The metric after it was given all, in batches."""
    for real, table in ((True, REAL), (False, FAKE)):
        for batch in table.chunk(parts):
            metric.update(features=batch, real=real)
    return metric


# -------------------------------------------------------------------------------- as torchmetrics has them


class Same(nn.Module):
    """Images as their own features."""

    num_features = 6

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).double() / 50


def test_they_agree_with_torchmetrics_own() -> None:
    pixels = torch.randint(0, 256, (60, 6, 1, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    real, fake, same = pixels[:35], pixels[35:] // 2 + 40, Same()
    pairs: list[tuple[Any, Any]] = [
        (FrechetDistance(), FrechetInceptionDistance(same)),
        (KernelDistance(subsets=2, subset_size=25), KernelInceptionDistance(same, subsets=2, subset_size=25)),
    ]
    real = real[:25]  # every subset is the whole
    for ours, theirs in pairs:
        theirs.set_dtype(torch.float64)
        for which, images in ((True, real), (False, fake)):
            ours.update(same(images), real=which)
            theirs.update(images, real=which)
        expected = theirs.compute()
        expected = expected[0] if isinstance(expected, tuple) else expected
        assert ours.compute().dtype == torch.float64
        assert ours.compute().item() == pytest.approx(expected.item(), rel=1e-9)
    mine, other = InceptionScore(splits=1), TheirInceptionScore(same, splits=1).set_dtype(torch.float64)
    mine.update(same(fake))
    other.update(fake)
    with torch.random.fork_rng():
        assert mine.compute().item() == pytest.approx(other.compute()[0].item(), rel=1e-9)


def test_the_mean_comes_with_its_standard_deviation() -> None:
    kid = fed(KernelDistance(subsets=9, subset_size=20, seed=3))
    generator = torch.Generator().manual_seed(3)
    expected = kernel_distance(in_order(REAL), in_order(FAKE), 9, 20, generator)
    assert (kid.compute().item(), kid.std["kid"]) == expected


def test_a_scalar_for_one_score_and_a_dict_for_several() -> None:
    both = fed(PrecisionRecall()).compute()
    assert list(both) == ["precision", "recall"]
    assert fed(PrecisionRecall(scores=["recall"])).compute() == both["recall"]
    with pytest.raises(ValueError, match=r"scores=\['density'\]: give some of \['precision', 'recall'\]"):
        PrecisionRecall(scores=["density"])


def test_a_collection_shares_what_it_can_and_scores_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    monkeypatch.setattr(metric_module, "SquaredDistances", lambda *both: passes.append(both) or SquaredDistances(*both))
    whole = collection([*USUAL, "mind"], {"kid_subsets": 4, "density_k": 2})
    assert isinstance(whole, MetricCollection)
    logits = features(37, 2)
    for start in range(0, 45, 15):
        whole.update(features=REAL[start : start + 15], real=True)
        whole.update(features=FAKE[start : start + 15], logits=logits[start : start + 15], real=False)
    found = whole.compute()
    assert (len(passes), whole.compute()) == (1, found)
    kept = [metric.fake_features for metric in whole.values(copy_state=False) if isinstance(metric, FeatureMetric)]
    assert len({state[0].data_ptr() for state in kept}) == 1
    alone = [FrechetDistance(), KernelDistance(subsets=4), PrecisionRecall(), DensityCoverage(2), Memorised()]
    expected = {}
    for metric in [*alone, MongeInceptionDistance()]:
        value = fed(metric).compute()
        expected |= value if isinstance(value, dict) else {metric.chosen[0]: value}
    score = InceptionScore()
    score.update(logits)
    assert found == {**expected, "is": score.compute()}
    whole.reset()
    assert not any(state for metric in whole.values() for state in metric.metric_state.values())


def test_real_features_can_be_kept_from_one_epoch_to_the_next() -> None:
    fid = fed(FrechetDistance(reset_real_features=False))
    first = fid.compute()
    fid.reset()
    fid.update(FAKE, real=False)
    assert fid.compute() == first
    forgetful = fed(FrechetDistance())
    forgetful.reset()
    forgetful.update(FAKE, real=False)
    with pytest.raises(ValueError, match="0 real and 37 fake images: FrechetDistance needs two of each"):
        forgetful.compute()


def test_what_is_not_finite_scores_nan_and_half_precision_is_widened() -> None:
    for kind in names.classes().values():
        if kind.of in ("features", "neighbours"):
            broken = fed(kind())
            broken.update(torch.full((1, 6), torch.nan), real=False)
            value = broken.compute()
            assert all(map(math.isnan, value.values() if isinstance(value, dict) else [value]))
    fid = FrechetDistance()
    fid.update(FAKE.bfloat16(), real=False)
    assert fid.fake_features[0].dtype == torch.float32


# -------------------------------------------------------------------------------- in a Lightning module, on ranks


class Anybodys(L.LightningModule):
    """Logs scores of the tables in its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.fid, self.kid, self.score = FrechetDistance(), KernelDistance(subsets=5, subset_size=20), InceptionScore(2)
        self.more = collection(["recall", "memorised", "mind"])

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        for features, real in zip(batch, (True, False), strict=True):
            self.more.update(features=features, real=real)
            for name in ("fid", "kid"):
                getattr(self, name).update(features, real=real)
        self.score.update(batch[1])
        self.log("fid", self.fid)
        self.log("kid", self.kid)
        self.log("is", self.score)
        self.log_dict(self.more)


SHARED = ["recall", "fid", "density", "kid"]


def logged(rows: tuple[list[Tensor], list[Tensor]], folder: Path, **settings: Any) -> dict[str, Tensor]:
    """What Lightning has logged of tables in batches."""
    loader: Any = DataLoader(list(zip(*rows, strict=True)), batch_size=None)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "barebones": False}
    trainer = L.Trainer(accelerator="cpu", use_distributed_sampler=False, default_root_dir=folder, **quiet, **settings)
    trainer.validate(Anybodys(), loader, verbose=False)
    return dict(trainer.callback_metrics)


def _rank(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    # The first rank has 30 real and 9 fake images, in two batches, the second the others, in one.
    mine = slice(None, 30) if rank == 0 else slice(30, None)
    ours = slice(None, 9) if rank == 0 else slice(9, None)
    parts = 2 - rank
    rows = list(REAL.flip(0)[mine].chunk(parts)), list(FAKE[ours].chunk(parts))
    found = logged(rows, folder, devices=2, strategy="ddp", num_nodes=1)
    shared = collection(SHARED)
    for real, tables in zip((True, False), rows, strict=True):
        for table in tables:
            shared.update(features=table, real=real)
    together = shared.compute()
    assert sum(map(len, shared["fid"].real_features)) == sum(map(len, rows[0]))  # its own again
    empty = torch.zeros(0) if rank == 0 else FAKE
    torch.save((found, together, gather(empty), gather(torch.zeros(0))), folder / f"{rank}.pt")


def test_in_anybodys_module_two_ranks_score_as_one_to_the_last_bit(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = torch.multiprocessing.start_processes  # by forks, which have imported everything
    start(_rank, (port, tmp_path), nprocs=2, start_method="fork")
    one = logged(([REAL], [FAKE]), tmp_path, devices=1)
    assert set(one) == {"fid", "kid", "is", "recall", "memorised", "mind"}
    assert one["fid"] == fed(FrechetDistance()).compute()
    for rank in range(2):
        found, together, gathered, nothing = torch.load(tmp_path / f"{rank}.pt")
        assert found == one
        assert together == fed(collection(SHARED)).compute()
        assert torch.equal(torch.cat(gathered), FAKE)
        assert not any(map(len, nothing))


# -------------------------------------------------------------------------------- of pairs, paths and points


def test_pairs_score_as_torchmetrics_has_them() -> None:
    real = torch.randint(0, 256, (5, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fake = (real // 2 + 50).to(torch.uint8)
    error = ((fake.double() - real.double()) / 255).square().flatten(1).mean(dim=1)
    inner = [images[..., 2:-2, 2:-2].double() for images in (fake, real)]
    expected_of = {PSNR(): (-10 * error.log10()).mean(), L1(crop_border=2): (inner[0] - inner[1]).abs().mean() / 255}
    metric: Any
    for metric, expected in expected_of.items():
        for images in zip(fake.split(2), real.split(2), strict=True):
            metric.update(*images)
        assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-12)
    metric = SSIM()
    metric.update(fake, real)
    theirs = structural_similarity_index_measure(fake.double(), real.double(), data_range=255)
    assert metric.compute().item() == pytest.approx(theirs.item(), abs=0.02)  # which reflects the borders
    with pytest.raises(ValueError, match="ssim needs 11 pixels a side"):
        metric.update(fake[..., :10, :], real[..., :10, :])


def test_paths_and_points() -> None:
    metric = PathLength(lambda x, y: (x - y).square().flatten(1).mean(dim=1), epsilon=0.5)
    here = torch.zeros(4, 1, 2, 2)
    for k in (1, 2, 3):
        metric.update(here, here + k)
    assert metric.compute() == 4 * 14 / 3
    modes = ModeCoverage(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), 0.1)
    modes.update(torch.tensor([[0.1, 0.0], [5.0, 0.0]]))
    assert modes.compute() == {"modes": 1, "high_quality": 0.5}


# -------------------------------------------------------------------------------- of classes that were asked for


def test_accuracy_counts_what_is_taken_for_the_class_asked_for() -> None:
    metric = ConditionalAccuracy()
    metric.update(torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), torch.tensor([0, 0]))
    metric.update(torch.tensor([[0.0, 3.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([1, 2]))
    assert metric.compute() == 3 / 4
    metric.update(torch.tensor([[0.0, torch.nan, 0.0]]), torch.tensor([1]))
    assert metric.compute().isnan()
    with pytest.raises(ValueError, match="no fake samples"):
        ConditionalAccuracy().compute()


class Asked:
    """Real digits in chunks of 50, each asked for as what it is, or for every fifth as the next one."""

    def __init__(self, names: list[str], wrong: int = 5) -> None:
        digits = Digits().reference()
        self.pixels, labels = digits.pixels[:200], digits.labels[:200].long()
        self.labels = torch.where(torch.arange(200) % wrong == 0, (labels + 1) % 10, labels)
        self.names = names

    def __call__(self, index: int, n: int) -> Tensor:
        return self.pixels[50 * index :][:n]

    def asked(self, n: int, batch_size: int) -> tuple[Tensor, list[str]]:
        return self.labels[:n], self.names


def test_an_extractor_that_knows_the_classes_scores_what_was_asked_for(tmp_path: Path) -> None:
    real = Images(Digits().reference().pixels[200:400])
    judge = Evaluator(DigitsExtractor(), ["fid", "accuracy"], num_fake=200, batch_size=50, cache=str(tmp_path))
    request = Request("cpu", ema=True, bootstrap=3)
    found = judge.measure(Asked(list("0123456789")), real, request).scores["accuracy_digits"]
    assert 0.75 < found.value < 0.82, "160 of 200 are what was asked for, and nearly all of them are known"
    assert found.interval is not None
    assert found.passport["estimator"].startswith("share of 200 whose most probable class")
    unknown = judge.measure(Asked([*"012345678", "nine"]), real, Request("cpu", ema=True)).scores
    assert [*unknown] == ["fid_digits"], "nine is no class that the classifier knows"
    judge = Evaluator(DigitsExtractor(), ["accuracy"], num_fake=200, batch_size=50, cache=str(tmp_path))
    with pytest.raises(ConfigError, match=r"scores=\[accuracy\]: these samples are of no classes that digits knows"):
        judge.measure(Asked([*"012345678", "nine"]), real, Request("cpu", ema=True))


def test_the_classifier_of_clips_is_asked_for_directions_alone() -> None:
    logits = torch.full((1, 80), -9.0)
    logits[0, 2 * 10 + 7], logits[0, 4 * 10 : 5 * 10] = 1.0, -1.0  # down with a 7, or left with any digit
    found = MovingDigitsExtractor().class_logits(logits)
    assert found.shape == (1, len(MovingDigitsExtractor.class_names))
    assert MovingDigitsExtractor.class_names[int(found.argmax())] == "left"


def test_a_network_of_ones_own_has_names_for_its_classes() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert ModuleExtractor(net, "own", classes=True, class_names=["red", "green", "blue"]).class_names[2] == "blue"
    with pytest.raises(ConfigError, match="class_names has 2 names, and own tells 3 classes"):
        ModuleExtractor(net, "own", classes=True, class_names=["red", "green"])
    with pytest.raises(ConfigError, match="'accuracy' needs a classifier whose classes have names, and own is none"):
        Evaluator(ModuleExtractor(net, "own", classes=True), ["fid", "accuracy"])


# -------------------------------------------------------------------------------- MIND


def test_mind_on_the_line() -> None:
    """In one dimension every direction is +1 or -1, and the images pair in their order: 3 (1 + 1 + 4) / 3."""
    mind = MongeInceptionDistance(projections=7)
    mind.update(torch.tensor([[3.0], [0.0], [1.0]]), real=True)
    mind.update(torch.tensor([[1.0], [5.0], [2.0]]), real=False)
    assert mind.compute().item() == pytest.approx(6, rel=1e-14)


def test_mind_of_a_shift_is_three_times_its_square() -> None:
    """The mean of the squared projection of a vector on directions of the sphere is its square over D."""
    mind = MongeInceptionDistance(projections=20_000)
    shift = torch.tensor([0.0, 3.0, 0.0, -4.0, 0.0, 0.0])
    mind.update(REAL, real=True)
    mind.update(REAL + shift, real=False)
    assert mind.compute().item() == pytest.approx(3 * 25, rel=0.02)


def test_mind_of_unequal_sides_by_loops_in_float32() -> None:
    """torch-fidelity's own draws, from one generator: the rows of the larger side, then the directions."""
    mind = fed(MongeInceptionDistance(projections=30, seed=5))
    real, fake = in_order(REAL), in_order(FAKE)
    generator = torch.Generator().manual_seed(5)
    real = real[torch.randperm(41, generator=generator)[:37]]
    total = 0.0
    for direction in torch.randn(30, 6, generator=generator):
        along = direction / direction.norm()
        x, y = sorted((real @ along).tolist()), sorted((fake @ along).tolist())
        total += sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 37
    assert mind.compute().item() == pytest.approx(3 * 6 * total / 30, rel=1e-5)


def test_a_score_is_one_class_and_a_config_can_name_it(tmp_path: Path) -> None:
    pixels = Digits().reference().pixels[::20]
    judge = Evaluator(
        DigitsExtractor(), scores=["fid", "mind"], num_fake=150, batch_size=100, cache=str(tmp_path), seed=4
    )
    found = judge.evaluate(noise, Images(pixels), "cpu", ema=True)
    assert list(found) == ["fid_digits", "mind_digits"]
    told = found["mind_digits"].passport["estimator"]
    assert told == "squared Wasserstein distance over 1000 directions, times 3 D, 150 images a side"
    assert found["mind_digits"].value > found["fid_digits"].value / 10
    others = [path for path in (REPOSITORY / "src").rglob("*.py") if path.name != "mind.py"]
    assert not [path for path in others if re.search(r"\bmind\b|MongeInception", path.read_text())]


# -------------------------------------------------------------------------------- what follows from the classes


def test_every_score_declares_what_others_ask() -> None:
    assert (*USUAL, "accuracy", "fvd", "mind") == SCORES
    judges = (Evaluator, PairedEvaluator, SceneEvaluator)
    settings = {name for judge in judges for name in inspect.signature(judge).parameters}
    for kind in names.classes().values():
        assert issubclass(kind, Metric)
        assert set(kind.keys) <= set(inspect.signature(kind).parameters)
        assert set(kind.keys.values()) <= settings
        assert kind.higher_is_better in (True, False)
        assert kind.of in (
            "features",
            "neighbours",
            "logits",
            "classes",
            "pairs",
            "paths",
            "points",
            "captions",
            "volumes",
            "scenes",
        )
        assert getattr(metrics, kind.__name__) is kind


def test_a_name_is_that_of_its_score_whatever_follows_it() -> None:
    better = {
        "is": True,
        "intra_fid_digits": False,
        "precision_inception_0123abcd_clean": True,
        "memorised": False,
        "isolation": False,
        "what_is": False,
    }
    assert {name: names.higher_is_better(name) for name in better} == better


def test_the_table_of_the_page_is_of_the_scores_that_there_are() -> None:
    text = (REPOSITORY / "docs" / "scores.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \| (lower|higher) \|", text.partition("| score | better |")[2], re.MULTILINE)
    told = {name: better for row, better in rows for name in re.findall(r"`(.*?)`", row)}
    assert {name: "higher" if names.higher_is_better(name) else "lower" for name in told} == told
    classes = {kind for name in told if (kind := names.class_of(name))}
    assert {kind.__name__ for kind in classes} >= {kind.__name__ for kind in names.classes().values()}
    assert {name for name in SCORES} <= set(told)
