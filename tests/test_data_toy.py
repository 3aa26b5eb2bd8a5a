"""Gaussians in the plane: where they are, that the stream is a function of (seed, number), and what is counted."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from support import compose, train
from torch import Tensor

from gan_experiments.assembly import build, check
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import StreamLoader
from gan_experiments.data.toy import Grid, MixtureStream, Ring, mode_coverage


def take(stream: MixtureStream, number: int, start: int = 0) -> list[Batch]:
    return list(itertools.islice(StreamLoader(stream, lambda: start), number))


def equal(one: list[Batch], two: list[Batch]) -> bool:
    return all(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(one, two, strict=True))


def ring(**settings: Any) -> Ring:
    return Ring(**{"classes": 8, "batch_size": 64, **settings})


# The Gaussians


def test_the_ring_is_metzs_in_units_of_its_radius() -> None:
    data = ring()
    assert (data.unit, data.std) == pytest.approx((2, 0.01))
    assert len(data.centres.unique(dim=0)) == 8  # the authors' demonstration has its first mode twice
    assert data.centres.norm(dim=1).tolist() == pytest.approx([1] * 8)
    assert data.centres[0].tolist() == [1, 0]
    assert data.centres[1].tolist() == pytest.approx([math.sqrt(0.5)] * 2)
    neighbours = (data.centres - data.centres.roll(1, 0)).norm(dim=1)
    assert neighbours.tolist() == pytest.approx([2 * math.sin(math.pi / 8)] * 8)


def test_the_grid_has_25_modes_two_apart() -> None:
    data = Grid(classes=25)
    assert (data.unit, data.std) == pytest.approx((4, 0.0125))
    paper = {tuple(centre) for centre in (data.unit * data.centres).tolist()}
    assert paper == set(itertools.product([-4, -2, 0, 2, 4], repeat=2))
    assert len(Grid(side=4).centres) == 16


@pytest.mark.parametrize("data", [ring(), Grid(classes=25)], ids=["ring", "grid"])
def test_points_are_what_they_are_said_to_be(data: Any) -> None:
    batch = data.stream().batch(0) | {}
    assert batch["real"].shape == (data.batch_size, 2, 1, 1)
    assert batch["real"].dtype == torch.float32
    assert batch["label"].dtype == torch.int64
    batches = [data.stream().batch(i) for i in range(4000 // data.batch_size * 5)]
    points = torch.cat([b["real"] for b in batches])[:, :, 0, 0]
    label = torch.cat([b["label"] for b in batches])
    noise = (points - data.centres[label]) / data.std
    assert noise.mean(0).abs().max() < 5 / math.sqrt(len(points))
    assert noise.std(0).tolist() == pytest.approx([1, 1], abs=0.05)
    assert (noise[:, 0] * noise[:, 1]).mean().abs() < 5 / math.sqrt(len(points))
    share = torch.bincount(label, minlength=len(data.centres)) / len(label)
    p = 1 / len(data.centres)
    assert (share - p).abs().max() < 5 * math.sqrt(p / len(label))


# The stream


def test_seeds_and_numbers_differ_and_repeat() -> None:
    draw = lambda seed, number: ring(seed=seed).stream().batch(number)  # noqa: E731
    assert equal([draw(3, 7)], [draw(3, 7)])
    first = [draw(seed, number)["real"][0, 0, 0, 0].item() for seed in range(4) for number in range(4)]
    assert len(set(first)) == 16


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_batches_of_one(world: int) -> None:
    whole = take(ring().stream(), 3)
    shares = [take(ring().stream(rank, world), 3) for rank in range(world)]
    for number, batch in enumerate(whole):
        for key, rows in batch.items():
            assert torch.equal(torch.cat([share[number][key] for share in shares]), rows)


@pytest.mark.parametrize("start", [1, 5])
def test_going_on_equals_never_stopping(start: int) -> None:
    assert equal(take(ring().stream(), 8 - start, start), take(ring().stream(), 8)[start:])
    data = ring()
    module, strategy = SimpleNamespace(batches=start), SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(global_rank=1, world_size=2, lightning_module=module, strategy=strategy)
    assert equal([next(iter(data.train_dataloader()))], take(ring().stream(1, 2), 1, start))


def test_neither_reads_nor_moves_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ring().stream().batch(1)
    ring().samples(10)
    ring().fixed(10)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_that_ranks_cannot_share() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=10 cannot be shared by 4 processes.*data\.batch_size=8"):
        ring(batch_size=10).stream(0, 4)


# The data module


def test_labels_are_left_out_where_nobody_asked_for_them() -> None:
    labelled, bare = ring(), ring(classes=0)
    assert (labelled.provides, bare.provides) == ({"real", "label"}, {"real"})
    for data in (labelled, bare):
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())))
        assert batch.keys() == data.fixed(3).keys() == data.provides


def test_fixed_points_are_of_all_modes_in_turn() -> None:
    data = ring()
    fixed = data.fixed(20)
    assert fixed["label"].tolist() == [i % 8 for i in range(20)]
    assert equal([fixed], [ring().fixed(20)])
    gaps = fixed["real"][:, :, 0, 0] - data.centres[fixed["label"]]
    assert gaps.norm(dim=1).max() < 5 * data.std


def test_samples_are_new_points() -> None:
    data = ring()
    samples = data.samples(300)
    assert samples.shape == (300, 2, 1, 1)
    assert torch.equal(samples, data.samples(300))
    assert not torch.equal(samples, data.samples(300, seed=1))
    trained = torch.cat([data.stream().batch(i)["real"] for i in range(10)])
    assert not torch.isclose(samples[:, None], trained, rtol=0, atol=1e-9).all(2).any()


def test_impossible_values_say_what_to_type() -> None:
    for settings, answer in (
        ({"classes": 10}, r"data\.classes=10, but Ring has 8 Gaussians: type data\.classes=8"),
        ({"resolution": 32}, r"data\.resolution=32 .*type data\.resolution=1 data\.channels=2"),
        ({"channels": 3}, r"data\.channels=3: .*type data\.resolution=1 data\.channels=2"),
        ({"modes": 0}, r"data\.modes=0 .*type data\.modes=8"),
        ({"std": 0.0}, r"data\.std=0\.0: .*type data\.std=0\.02"),
    ):
        with pytest.raises(ConfigError, match=answer):
            ring(**settings)
    with pytest.raises(ConfigError, match=r"data\.side=1 .*type data\.side=5"):
        Grid(side=1)
    with pytest.raises(ConfigError, match=r"data=ring has points and no images to score: type metrics=modes"):
        len(ring().reference("train"))


def test_descriptions() -> None:
    assert ring().describe() == "Ring: new points of 8 Gaussians in the plane, standard deviation 0.02, in units of 2"
    assert Grid().describe().startswith("Grid: new points of 25 Gaussians in the plane, standard deviation 0.05")


# What is counted


def around(centre: list[float], *distances: float) -> Tensor:
    return torch.tensor([[centre[0] + d, centre[1]] for d in distances], dtype=torch.float64)


def test_coverage_by_hand() -> None:
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    points = torch.cat(
        [
            around([0, 0], 0, 2.9, 3.1),  # the last is not of high quality
            around([10, 0], 3.5),  # near one mode alone, and too far from it: it is not found
            around([0, 10], -2.9),
        ]
    )
    assert mode_coverage(points, centres, 1.0) == (2, 3 / 5)
    assert mode_coverage(points[:, :, None, None], centres, 1.0) == (2, 3 / 5)
    assert mode_coverage(points, centres, 2.0) == (3, 1)
    diagonal = torch.tensor([[2.5, 2.5]])  # each coordinate is near, the point is not
    assert mode_coverage(diagonal, centres, 1.0) == (0, 0)
    assert mode_coverage(torch.full((4, 2), torch.nan), centres, 1.0) == (0, 0)


@pytest.mark.parametrize("data", [ring(), Grid()], ids=["ring", "grid"])
def test_real_points_find_every_mode(data: Any) -> None:
    """Of a Gaussian in the plane 1 - exp(-9/2) lie within three standard deviations; of a line it would be 0.9973."""
    found = data.mode_coverage(data.samples(20_000))
    assert found == data.reference().coverage(data.samples(20_000)[:, :, 0, 0])
    assert found.modes == len(data.centres)
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.003)


def test_a_collapsed_generator_finds_one_mode_and_a_blurred_one_is_of_low_quality() -> None:
    data = ring()
    one = data.centres[:1] + data.std * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    assert data.mode_coverage(one).modes == 1
    disc = torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert data.mode_coverage(disc).high_quality < 0.02


# The configs


@pytest.mark.parametrize(("name", "kind", "classes"), [("ring", Ring, 8), ("grid", Grid, 25)])
def test_configs(name: str, kind: type, classes: int, tmp_path: Path) -> None:
    cfg = compose(tmp_path, f"data={name}", "seed=5")
    data = build.make(cfg.data)
    assert isinstance(data, kind)
    assert (data.seed, data.classes, data.resolution, data.channels, data.batch_size) == (5, classes, 1, 2, 512)
    assert cfg.metrics.scores == ["modes", "high_quality"]


def on_the_ring(folder: Path, *overrides: str) -> Any:
    cfg = compose(folder, "data=ring", "model=dcgan", *overrides)
    nets = "gan_experiments.networks.toy"
    cfg.model.generator = OmegaConf.create({"_target_": f"{nets}.ToyGenerator", "latent_dim": 16, "width": 32})
    cfg.model.discriminator = OmegaConf.create({"_target_": f"{nets}.ToyDiscriminator", "width": 32})
    return cfg


def test_a_gan_moves_its_points_towards_the_modes(tmp_path: Path) -> None:
    rates = [f"model.optimizers.{player}.lr=1e-3" for player in ("generator", "discriminator")]
    cfg = on_the_ring(tmp_path, "data.batch_size=64", "images=3200", *rates)
    check.require(cfg)
    data, z = build.make(cfg.data), torch.randn(500, 16, generator=torch.Generator().manual_seed(0))

    def distance(model: Any) -> float:
        points = model.sample(z, ema=False)[:, :, 0, 0]
        return torch.cdist(points, data.centres).min(1).values.mean().item()

    untrained = distance(build.build_model(cfg))
    model = train(cfg)
    assert model.images_seen == 3200
    assert distance(model) < 0.95 * untrained


def test_a_network_for_images_is_told_what_points_are(tmp_path: Path) -> None:
    cfg = on_the_ring(tmp_path, "data=digits", "metrics=none")
    assert any("makes images [2, 1, 1] and data has [1, 32, 32]" in fault for fault in check.faults(cfg))
