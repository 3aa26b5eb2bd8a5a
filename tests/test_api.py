"""The package from Python: `gx.train`, the page about it, and batches of a plain loader."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image
from support import REPOSITORY, Variant, compose, run, shrink, small
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

import gan_experiments as gx
from gan_experiments.assembly import build
from gan_experiments.contracts import ConfigError
from gan_experiments.engine.module import AdversarialModule

PIXELS = torch.randint(0, 256, (16, 1, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
LABELS = torch.arange(16) % 10


class Dicts(Dataset):
    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return 16

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: rows[row] for name, rows in self.columns.items()}


def model_of(tmp_path: Path, model: str, *words: str) -> AdversarialModule:
    """A model as a person may build one by hand: no run, no images, no data."""
    cfg = shrink(compose(tmp_path / "r", f"model={model}", "metrics=none", *words))
    torch.manual_seed(0)
    made: AdversarialModule = build.make(cfg.model)
    return made


def fit(model: AdversarialModule, loader: Any, logger: Any = False, epochs: int = 1) -> dict[str, Tensor]:
    build.quieten()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    return {name: value.clone() for name, value in model.state_dict().items()}


LOADERS: dict[str, Any] = {
    "uint8": TensorDataset(PIXELS),
    "pairs": TensorDataset(PIXELS, LABELS),
    "labels [n, 1] of int32": TensorDataset(PIXELS, LABELS[:, None].int()),
    "floats": TensorDataset(PIXELS / 127.5 - 1, LABELS),
    "float64": TensorDataset(PIXELS.double() / 127.5 - 1, LABELS),
    "dicts of image and label": Dicts(image=PIXELS, label=LABELS),
    "dicts as ours": Dicts(real=PIXELS / 127.5 - 1, label=LABELS),
    "tensors": PIXELS,
}


@pytest.mark.parametrize("model", ["dcgan", "cdcgan"])
def test_the_batches_of_any_loader_train_the_same(model: str, tmp_path: Path) -> None:
    words = ["data.classes=10"] if model == "cdcgan" else []
    weights = {}
    for name, dataset in LOADERS.items():
        labelled = name not in ("uint8", "tensors")
        if model == "cdcgan" and not labelled:
            continue
        made = model_of(tmp_path, model, *words)
        weights[name] = fit(made, DataLoader(dataset, batch_size=4))
        assert (made.batches, made.images_seen) == (4, 16)
    first = weights.pop("pairs")
    for name, others in weights.items():
        gaps = [(first[key].double() - others[key].double()).abs().max().item() for key in first]
        assert max(gaps) < 1e-5, name


REFUSED: dict[str, tuple[str, Any, str]] = {
    "pairs for CycleGAN": (
        "cyclegan",
        TensorDataset(PIXELS.expand(-1, 3, -1, -1), LABELS),
        "CycleGAN needs real_a, real_b, and the loader gives batches of 2 parts: give dicts with 'real_a', images of",
    ),
    "no labels": ("cdcgan", TensorDataset(PIXELS), "needs label, and the loader gives batches of 1 parts: give dicts"),
    "three parts": ("dcgan", TensorDataset(PIXELS, LABELS, LABELS), "gives batches of 3 parts: \\(image, label\\) is"),
    "other keys": (
        "dcgan",
        Dicts(x=PIXELS),
        "DCGAN needs real, and the loader gives dicts of x: give dicts with 'real'",
    ),
    "beyond": (
        "dcgan",
        TensorDataset(PIXELS.float()),
        r"values 0..255, and \[-1, 1\] is needed: give uint8, or x / 127",
    ),
    "normalised otherwise": (
        "dcgan",
        TensorDataset(PIXELS / 50 - 2),
        r"give uint8, or floats by Normalize\(0.5, 0.5\)",
    ),
    "no numbers": ("dcgan", TensorDataset(PIXELS / 0.0), r"has the values nan..nan, and \[-1, 1\] is needed"),
    "labels beyond": (
        "cdcgan",
        TensorDataset(PIXELS, LABELS + 1),
        "labels 1 to 4, and the model has 2 classes: give 0 to 1",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_batches_that_a_model_cannot_take_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    name, dataset, said = REFUSED[case]
    model = build.make(small(tmp_path / "r", name, *(["data.classes=2"] if name == "cdcgan" else [])).model)
    with pytest.raises(ConfigError, match=said) as refused:
        fit(model, DataLoader(dataset, batch_size=4))
    assert "\n" not in str(refused.value)


def test_values_from_0_to_1_are_taken_as_they_are_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        fit(model_of(tmp_path, "dcgan"), DataLoader(TensorDataset(PIXELS / 255), batch_size=4), epochs=2)
    (line,) = [line for line in caplog.text.splitlines() if "the loader's" in line]
    assert "they are taken as [-1, 1]; if they are meant as [0, 1], as ToTensor makes them, give 2 * x - 1" in line


def test_a_loader_of_names_for_labels_is_refused(tmp_path: Path) -> None:
    named: Any = [(PIXELS[row], "cat") for row in range(4)]
    with pytest.raises(
        ConfigError, match="the loader gives a tuple for 'label': a tensor is needed, class of each real"
    ):
        fit(model_of(tmp_path, "cdcgan", "data.classes=10"), DataLoader(named, batch_size=4))


def test_the_numbers_reach_lightnings_logger_and_do_not_pile_up(tmp_path: Path) -> None:
    told: dict[int, dict[str, float]] = {}

    class Told(L.pytorch.loggers.CSVLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            told[step or 0] = metrics

    model = model_of(tmp_path, "dcgan")
    model.run.log_every = 2
    fit(model, DataLoader(TensorDataset(PIXELS), batch_size=4), logger=Told(tmp_path))
    assert list(told) == [8, 16]
    assert {"discriminator/adversarial", "generator/adversarial", "D(real)"} <= set(told[8])
    assert model._history == {}


# gx.train


SMALL = [
    "model=gan",
    "images=8",
    "data.batch_size=4",
    "data.resolution=32",
    "metrics=none",
    "logger=none",
    "trainer=cpu",
]
SMALL += ["data.channels=1", "callbacks.samples.n=4"]
DATASET = TensorDataset(PIXELS, LABELS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_import_takes_no_torch() -> None:
    code = "import sys, gan_experiments as gx; assert {'train', 'ConfigError'} <= set(dir(gx)); gx.ConfigError"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = gx.trian


def test_two_runs_in_one_process_and_more_of_one(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    typed, level = sys.argv, logging.getLogger("gan_experiments").level
    first = gx.train(SMALL, data=DATASET)
    said = capsys.readouterr().out
    assert "TensorDataset: 16 images 1x32x32" in said
    assert "done: 8 images" in said
    assert f'gx.train(["ckpt={first.folder.relative_to(here)}/checkpoints/last.ckpt", "images=16"], data=...)' in said
    assert repr(first) == f"Run({str(first.folder)!r}, NoiseToImage, 8 images)"
    assert not first.model.training
    names = {path.name for path in first.folder.iterdir()}
    assert {".hydra", ".lock", "checkpoints", "config.yaml", "outcome.json", "run.log", "samples"} <= names
    assert "TensorDataset: 16 images" in (first.folder / "run.log").read_text()
    cfg = OmegaConf.load(first.folder / "config.yaml")
    target = "gan_experiments.data.dataset.Given"
    assert cfg.data.dataset == {"_target_": target, "what": "TensorDataset of 16 items"}
    whole = gx.train([*SMALL, "images=16"], data=DATASET, test_data=DATASET)
    assert whole.folder != first.folder
    assert whole.folder.parent == first.folder.parent
    assert (sys.argv, logging.getLogger("gan_experiments").level) == (typed, level)
    assert not HydraConfig.initialized()
    # To go on, the data are given again
    with pytest.raises(
        gx.ConfigError, match=r"an object in Python \(TensorDataset of 16 items\), .*give it again, gx.train"
    ):
        gx.train(["images=16"], resume=first.folder)
    more = gx.train(["images=16"], data=DATASET, resume=first.folder)
    assert (more.folder, more.model.images_seen) == (first.folder, 16)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, more.model.state_dict()[name]), name
    # A command samples from it, and says what is missing to go on
    assert run("sample", f"run={first.folder}", "n=4", folder=here).returncode == 0
    refused = run(f"ckpt={first.folder}", "images=32", folder=here)
    assert refused.returncode == 2
    assert "an object in Python (TensorDataset of 16 items)" in refused.stderr


def test_words_alone_choose_the_data(here: Path) -> None:
    words = [word for word in SMALL if not word.startswith("callbacks")]
    made = gx.train([*words, "data=digits", "data.limit=64", "hydra.run.dir=mine", "callbacks=none"])
    assert made.folder == here / "mine"
    assert made.cfg.data.limit == 64
    with pytest.raises(gx.ConfigError, match=r"mine holds a run already \(finished, 8 images\): type hydra.run.dir="):
        gx.train([*words, "hydra.run.dir=mine"])


MISTAKES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "model": (["model=dcgn"], {}, r"model=dcgn: there is no such model \(did you mean dcgan\?\)"),
    "key": (["imgs=3"], {}, r"imgs: there is no such key \(did you mean images\?\)"),
    "value": ("images=x", {}, "images=x: a whole number of 1 or more is needed"),
    "sweep": (["-m", "seed=1,2"], {}, "-m: options and sweeps are for the command"),
    "devices": (["trainer.devices=2", "trainer=ddp_cpu"], {}, "trainer.devices=2: from Python a run has one process"),
    "items": ([], {"data": [None]}, r"none of the 1 items of data.dataset=builtins.list is an image"),
    "no dataset": ([], {"data": 7}, "data.dataset=builtins.int has neither __getitem__ and __len__ nor __iter__"),
    "test alone": ([], {"test_data": DATASET}, "test_data is given without data: give both"),
    "resume": ([], {"resume": "nowhere"}, "ckpt=nowhere: there is no such file or folder"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing_behind(case: str, here: Path) -> None:
    words, given, said = MISTAKES[case]
    usual = [] if case == "value" else SMALL
    words = words if isinstance(words, str) else [*usual, *words]
    with pytest.raises(gx.ConfigError, match=said) as refused:
        gx.train(words, **{"data": DATASET, **given} if case not in ("test alone", "resume") else given)
    assert "\n" not in str(refused.value)
    assert not list(here.iterdir())
    assert not HydraConfig.initialized()


def test_the_examples_of_the_page(
    here: Path, monkeypatch: pytest.MonkeyPatch, variants: Callable[[str], Variant]
) -> None:
    translator = variants("cyclegan").folder  # older than what is trained below
    page = (REPOSITORY / "docs" / "python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    words = '"images=8", "logger=none", "metrics=none", "trainer=cpu", "model.generator.width=4", "data.batch_size=4"'
    (trains,) = [block for block in blocks if "gx.train(" in block]
    (loader,) = [block for block in blocks if "L.Trainer(" in block]
    names: dict[str, Any] = {}
    exec("import gan_experiments as gx\nimport numpy as np\n" + trains.replace('"images=100_000"', words), names)
    assert names["images"].shape == (16, 32, 32, 1)
    assert names["run"].model.class_names == ["upright", "flat"]
    trained = names["run"]
    # What the page opens is what was trained before, and a translator
    shutil.copytree(translator, "outputs/photos")
    Path("outputs/photos/.hydra").mkdir()
    Path("outputs/photos/.hydra/overrides.yaml").write_text("- model=cyclegan\n")
    for name in "ab":
        Image.new("RGB", (50, 37)).save(f"{name}.png")
    names = {}
    others = [block for block in blocks if block not in (trains, loader)]
    assert len(others) == 4
    front = re.findall(
        r"```python\n(import gan_experiments as gx.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL
    )
    others += front
    assert len(front) == 1
    for block in others:
        exec(block, names)
        if "sheet" in names and "photo" not in names:  # in a kernel, after the training
            assert (names["run"].folder, names["run"].facts) == (trained.folder, trained.facts)
            assert names["run"].checkpoint == trained.checkpoint != ""
            assert np.array_equal(names["images"], trained.sample(16))
            assert [picture.size for picture in names["sheet"]] == [(32, 32)] * 4
            assert names["same"].shape == (16, 1, 32, 32)
    assert names["turned"].shape == (300, 200, 3)
    assert [picture.size for picture in names["several"]] == [(50, 37)] * 2
    assert names["fid"] == names["scores"]["fid_digits"].value
    # A plain loader
    trainer = L.Trainer
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with monkeypatch.context() as patch:
        patch.setattr(L, "Trainer", lambda **options: trainer(**{**options, **quiet, "max_epochs": 1}))
        exec(loader, names)
    assert names["model"].images_seen == 64
