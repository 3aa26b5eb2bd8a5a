"""What a sample is: only its kind knows; and a kind, networks and data of one's own are all that another one takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf
from support import REPOSITORY, compose, train
from torch import Tensor, nn

from gan_experiments import files
from gan_experiments.assembly import check
from gan_experiments.callbacks.health import Health
from gan_experiments.callbacks.samples import SampleSheets
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import Stream, generator
from gan_experiments.data.module import DataModule
from gan_experiments.data.shown import real_sheet
from gan_experiments.kinds import IMAGE, POINTS, Kind, scatter
from gan_experiments.runs import configs
from gan_experiments.verbs import sample

SOURCE = REPOSITORY / "src" / "gan_experiments"
OF_POINTS = {
    "kinds/points.py",
    "kinds/__init__.py",
    "data/toy.py",
    "networks/toy.py",
    "metrics/modes.py",
    "metrics/measures/mode_coverage.py",
}
"""What is of points by its subject: what they are, their data, their networks, their scores."""
KNOWN_BY = (
    r"\b(?:POINTS|Points|of_points|scatter)\b|(?<!stride=)[(\[]2, 1, 1|\(1, 1\)|of the plane|(?:-1\]|resolution) > 1\b"
)


def _code(path: Path) -> str:
    """A file without its comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.unparse(tree)


def test_nobody_else_knows_of_points() -> None:
    """Neither by name nor by their form."""
    for path in sorted(SOURCE.rglob("*.py")):
        if str(path.relative_to(SOURCE)) not in OF_POINTS:
            assert not re.findall(KNOWN_BY, _code(path)), path


def test_what_looks_at_images_refuses_points(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"technique=cr: .* of images, and this model makes points of the plane"):
        check.require(compose(tmp_path, "model=wgan_gp_toy", "technique=[cr]"))


def test_what_kinds_say() -> None:
    far = torch.full((3, 2, 1, 1), 5.0)
    assert torch.equal(POINTS.bounded(far), far)
    assert IMAGE.bounded(far).max() == 1
    digits = OmegaConf.create({"channels": 1, "resolution": 32})
    assert (IMAGE.shape(digits), POINTS.shape(digits)) == ((1, 32, 32), (2, 1, 1))
    assert (IMAGE.suffix, POINTS.suffix) == (".png", "")
    assert POINTS.vectors(far).shape == (3, 2)
    assert IMAGE.vectors(torch.zeros(3, 1, 32, 32)).shape == (3, 64)


# A kind of one's own, by what the contracts say alone


class Waves(Kind):
    """Waves [n, 1, length] in [-1, 1]."""

    name, dims, suffix = "waves", 3, ".pt"

    def shape(self, data: Any) -> tuple[int, ...]:
        return 1, data.length

    def bounded(self, samples: Tensor) -> Tensor:
        return samples.clamp(-1, 1)

    def vectors(self, samples: Tensor) -> Tensor:
        return samples.float().flatten(1)

    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        heights = cells.flatten(0, 2)
        places = torch.linspace(-1, 1, heights.shape[1]).expand(heights.shape)
        return scatter([(torch.stack([places, heights.cpu()], -1).flatten(0, 1), (0, 0, 0))], smallest)

    def fitting(self, batch: Batch) -> int:
        return 4

    def data_sheet(self, batch: Batch, titles: Any) -> Tensor:
        return self.sheet(batch["real"][:, None])

    def save(self, sample: Tensor, path: Path, mark: Any) -> None:
        with files.whole(path) as unfinished:
            torch.save(sample, unfinished)


class Sines(Stream):
    def __init__(self, data: WaveData, mine: slice) -> None:
        self.data, self.mine = data, mine

    def batch(self, number: int) -> Batch:
        return {"real": self.data.drawn(self.data.batch_size, number)[self.mine]}


class WaveData(DataModule):
    """Sines of a random phase."""

    provides = frozenset({"real"})
    kind = Waves()

    def __init__(self, length: int = 16, batch_size: int = 8, classes: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.length, self.batch_size, self.classes, self.seed = length, batch_size, classes, seed

    def drawn(self, n: int, number: int) -> Tensor:
        phase = torch.rand(n, 1, 1, generator=generator(self.seed, 0, number))
        return torch.sin(2 * torch.pi * (phase + torch.arange(self.length) / self.length))

    def describe(self) -> str:
        return f"sines of {self.length} values"

    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        share = self.batch_size // world
        return Sines(self, slice(rank * share, (rank + 1) * share))

    def fixed(self, n: int) -> Batch:
        return {"real": self.drawn(n, 10**6)}

    def reference(self, split: str = "train") -> Any:
        raise ConfigError("sines have no scores: type metrics=none")


class WaveGenerator(nn.Module):
    latent_dim, kind = 4, Waves()

    def __init__(self, length: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, length)

    def forward(self, z: Tensor) -> Tensor:
        return 2 * self.layer(z)[:, None]


class WaveDiscriminator(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.layer = nn.Linear(length, 1)

    def forward(self, waves: Tensor) -> Tensor:
        return self.layer(waves[:, 0])[:, 0]


def test_another_kind_is_a_class_with_its_data_and_networks(tmp_path: Path) -> None:
    """It passes the check, trains with sheets and health, and is drawn from; images are told to be others."""
    cfg = compose(tmp_path / "run", "model=dcgan", "metrics=none", "images=16")
    cfg.data = {"_target_": f"{__name__}.WaveData", "length": 16, "batch_size": 8, "classes": 0, "seed": 0}
    players = {"generator": "WaveGenerator", "discriminator": "WaveDiscriminator"}
    for player, name in players.items():
        cfg.model[player] = {"_target_": f"{__name__}.{name}", "length": 16}
    check.require(cfg)
    health = Health(every=8, n=8)
    model: Any = train(cfg, every=8, before=[health, SampleSheets(cfg.output, 8, n=4)])
    assert len([*(tmp_path / "run" / "samples").glob("[0-9]*.png")]) == 3
    assert health._real.shape == (8, 16)
    assert model.sample(10 * torch.ones(2, 4)).abs().max() <= 1
    assert real_sheet(WaveData()).shape == (3, 512, 512)
    words = [f"run={cfg.output}", f"out={tmp_path / 'drawn'}", "n=3", "singles=true", f"trust={__name__}"]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        sample.sample(hydra.compose("sample", words))
    assert torch.load(tmp_path / "drawn" / "images" / "000002.pt").shape == (1, 16)

    cfg.data = compose(tmp_path, "data=digits").data
    with pytest.raises(ConfigError, match=r"makes images \[1, 16\] and data has \[1, 32, 32\]"):
        check.require(cfg)


@pytest.mark.parametrize("metrics", ["digits", "paired", "modes"])
def test_scores_of_another_kind_are_refused(metrics: str, tmp_path: Path) -> None:
    """They were computed of the first coordinate of each point, as of a grey pixel."""
    model = "dcgan" if metrics == "modes" else "wgan_gp_toy"
    with pytest.raises(ConfigError, match=r"metrics=\S+ is of .*, and this model makes .*; leave metrics= out"):
        check.require(compose(tmp_path, f"model={model}", f"metrics={metrics}"))


@pytest.mark.parametrize("data", ["moving_digits", "shapes"])
def test_data_of_another_kind_are_one_fault(data: str, tmp_path: Path) -> None:
    """What the discriminator cannot read then is no fault of its own, and the scores are those of the data."""
    (fault,) = check.faults(compose(tmp_path, "model=dcgan", f"data={data}"))
    assert "model.generator makes images [1, 32, 32] and data has [1, " in fault


def test_scores_that_do_not_fit_are_told_beside_networks_that_do_not() -> None:
    faults = [*check.faults(compose(Path("r"), "model=dcgan", "model.generator.channels=3", "metrics=i3d"))]
    assert [fault.split("=")[0].split(" ")[0] for fault in faults] == ["model.generator", "metrics"]
