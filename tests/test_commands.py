"""The verbs as a person types them, and what they answer to mistakes."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import hydra
import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from support import REPOSITORY, compose, difference, run, small, start, train, write_images

from gan_experiments.assembly import check
from gan_experiments.assembly import trained as trained_run
from gan_experiments.contracts import ConfigError
from gan_experiments.launch import mistakes
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.runs import configs, resume
from gan_experiments.verbs import sample

NARROW = ("model.generator.width=4", "model.discriminator.width=4", "trainer=cpu", "metrics.num_fake=200")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default model with everything on, W&B included."""
    folder = tmp_path_factory.mktemp("trained")
    done = run(
        *NARROW, "images=256", "callbacks.samples.every=128", "hydra.run.dir=one", "trainer.log_every=1", folder=folder
    )
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    return folder / "one"


def test_a_run_folder_holds_what_it_should(trained: Path) -> None:
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    sheets = {f"samples/{n:08d}.png" for n in (0, 128, 256)}
    assert sheets | {"samples/training.gif", "config.yaml", "metrics.csv", "scores.json", "run.log"} <= names
    assert {".hydra/config.yaml", "parameters.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= names
    assert any(name.startswith("wandb/offline-run-") for name in names)
    assert not [name for name in names if "=" in name or name.endswith(".tmp")]
    assert Image.open(trained / "samples" / "00000256.png").width >= 512
    assert Image.open(trained / "samples" / "training.gif").n_frames == 3


def test_the_last_lines_say_where_to_look_and_how_to_go_on(trained: Path) -> None:
    said = (trained.parent / "said").read_text().splitlines()
    assert ["fid_digits"] in [line.split()[:1] for line in said[said.index("  scores   in scores.json") :]]
    last = {line.split()[0]: line for line in said[-7:]}
    assert [*last] == ["curves", "report", "samples", "run", "W&B", "view", "go"]
    assert "one/report.html" in last["report"]
    assert "one/samples/00000256.png" in last["samples"]
    assert "wandb leet one/wandb" in last["view"]
    assert "ckpt=one/checkpoints/last.ckpt images=512" in last["go"]


def test_metrics_against_images_seen(trained: Path) -> None:
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images"]) for row in rows if row["D(real)"]] == [64, 128, 192, 256]
    wanted = {"discriminator/adversarial", "generator/adversarial", "D(fake)", "gradient_norm/generator"}
    recorded = next({name for name, value in row.items() if value} for row in rows if row["images"] == "256")
    assert wanted | {"learning_rate/generator", "images_per_second"} <= recorded
    assert [int(row["images"]) for row in rows if row["fid_digits"]] == [0, 256]


def test_scores_have_passports(trained: Path) -> None:
    scores = json.loads((trained / "scores.json").read_text())
    assert [row["images"] for row in scores["history"]] == [0, 256]
    fid = scores["last"]["scores"]["fid_digits"]
    assert fid["passport"]["num_fake"] == 200
    assert fid["passport"]["extractor"] == "digits"
    assert {"weights_hash", "resize", "num_real", "split", "ema", "versions"} <= set(fid["passport"])
    assert "fid" not in scores["last"]["scores"]


def records_of(folder: Path) -> list[dict[str, Any]]:
    """The records of a W&B run on disk, by W&B's own reader."""
    wandb = Path(sys.executable).with_name("wandb")
    command = [wandb, "leet", "inspect", "--json", folder]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def summary_of(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary in the end; of what is nested, by the first name."""
    summary: dict[str, Any] = {}
    for record in (record["summary"] for record in records if record["type"] == "summary"):
        summary |= record.get("update", {})
        for gone in record.get("remove", []):
            summary = {key: value for key, value in summary.items() if not key.startswith(gone["key"])}
    return summary


def test_weights_and_biases_has_it_all_against_images(trained: Path) -> None:
    records = records_of(next((trained / "wandb").glob("offline-run-*")))
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert all("images" in item for item in history)
    logged = set().union(*history)
    assert {"fid_digits", "D(real)", "generator/adversarial", "gradient_norm/generator", "samples.path"} <= logged
    assert {"real.path", "samples.caption", "training.path"} <= logged  # a GIF is a video
    assert any(name.startswith("histogram/D(real)") for name in logged)
    metrics = [record["metric"] for record in records if record["type"] == "metric"]
    assert [metric["step_metric"] for metric in metrics if "glob_name" in metric][-1] == "images"
    directions = {metric["name"]: metric["summary"] for metric in metrics if "summary" in metric}
    assert directions["fid_digits"] == {"min": True, "last": True}
    assert directions["is_digits"] == {"max": True, "last": True}
    (run,) = (record["run"] for record in records if record["type"] == "run")
    assert run["job_type"] == "train"
    assert "num_fake=200" in run["display_name"].split()


def test_the_wandb_summary_is_what_runs_are_sorted_by(trained: Path) -> None:
    summary = summary_of(records_of(next((trained / "wandb").glob("offline-run-*"))))
    scores = json.loads((trained / "scores.json").read_text())
    fids = [row["fid_digits"] for row in scores["history"]]
    assert summary["fid_digits"] == {"min": pytest.approx(min(fids)), "last": pytest.approx(fids[-1])}
    assert summary["best/images"] == scores["best"]["images"]
    assert summary["best/fid_digits"] == pytest.approx(scores["best"]["scores"]["fid_digits"]["value"])
    assert not [name for name in summary if name.startswith("histogram")]


def test_evaluate_adds_to_the_wandb_run_of_the_training(trained: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    shutil.copytree(trained, run_folder, symlinks=True)
    words = ("metrics=digits", "metrics.num_fake=64", "metrics.num_real=64", "metrics.scores=[fid]")
    done = run(f"run={run_folder}", *words, verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = sorted((run_folder / "wandb").glob("offline-run-*"))
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]
    before, after = summary_of(records_of(first)), summary_of(records_of(second))
    assert after["evaluate/images"] == 256
    assert after["evaluate/nearest._type"] == "table-file"
    assert after["best/fid_digits"] == before["best/fid_digits"]  # what is uploaded last would replace it
    assert after["D(real)"] == before["D(real)"]
    names = [r["run"]["display_name"] for f in (first, second) for r in records_of(f) if r["type"] == "run"]
    assert names[0] == names[1]
    assert done.stdout.splitlines()[-1].split()[-2:] == [str(first), str(second)]


def test_checkpoints_are_wandb_artifacts_without_a_copy(trained: Path) -> None:
    records = records_of(next((trained / "wandb").glob("offline-run-*")))
    kept = [record["artifact"] for record in records if record["type"] == "artifact"]
    artifacts = {alias: artifact for artifact in kept for alias in artifact["aliases"]}
    assert {"latest", "best"} <= artifacts.keys()
    for alias, file in (("latest", "last.ckpt"), ("best", "best.ckpt")):
        (entry,) = artifacts[alias]["manifest"]["contents"]
        assert Path(entry["local_path"]) == trained / "checkpoints" / file
        assert "fid_digits" in artifacts[alias]["metadata"]


def test_a_checkpoint_is_plain_and_carries_its_config(trained: Path) -> None:
    checkpoint = resume.load(trained / "checkpoints" / "last.ckpt")  # weights_only
    config = checkpoint["gan_experiments"]["config"]
    assert config["model"]["generator"]["width"] == 4
    assert str(trained) not in json.dumps(config)
    assert not [key for key in checkpoint["state_dict"] if "extractor" in key]


def test_sample(trained: Path, tmp_path: Path) -> None:
    done = run(f"run={trained}", "n=6", "singles=true", "interpolation=2", "out=drawn", verb="sample", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "drawn" / "images").glob("*.png"))) == 6
    assert Image.open(tmp_path / "drawn" / "images" / "000000.png").size == (32, 32)
    assert Image.open(tmp_path / "drawn" / "interpolation.gif").n_frames == 40
    assert (tmp_path / "drawn" / "sheet.png").exists()


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a model of ten classes."""
    folder = tmp_path_factory.mktemp("conditional") / "run"
    train(small(folder, "cdcgan"), every=16)
    return folder


def draw(out: Path, *words: str) -> Path:
    """What `gan-experiments sample` does, in this process."""
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        assert sample.sample(hydra.compose("sample", [*words, f"out={out}", "device=cpu"])) == 0
    return out


def test_single_images_lie_in_folders_of_their_classes(conditional: Path, tmp_path: Path) -> None:
    """A sheet has a class in each column; class=3 draws the same noise as that class alone."""
    every = draw(tmp_path / "all", f"run={conditional}", "n=20", "singles=true")
    drawn = [str(path.relative_to(every / "images")) for path in sorted((every / "images").rglob("*.png"))]
    assert drawn == [f"{c}/{n:06d}.png" for c in range(10) for n in (c, c + 10)]
    assert Image.open(every / "sheet.png").size == (2 * (10 * 34 + 2), 2 * (2 * 34 + 2))  # enlarged twice
    three = draw(tmp_path / "3", f"run={conditional}", "n=14", "class=3", "singles=true")
    assert [path.name for path in (three / "images").iterdir()] == ["3"]
    assert len(list((three / "images" / "3").iterdir())) == 14
    assert (three / "images/3/000013.png").read_bytes() == (every / "images/3/000013.png").read_bytes()
    assert (three / "images/3/000004.png").read_bytes() != (every / "images/4/000004.png").read_bytes()


@pytest.mark.parametrize("asked", ["99", "-1", "three"])
def test_a_class_that_there_is_not(conditional: Path, tmp_path: Path, asked: str) -> None:
    with pytest.raises(ConfigError, match=f"class={asked}: type a number of 0 to 9"):
        draw(tmp_path, f"run={conditional}", f"class={asked}")
    assert not list(tmp_path.iterdir())


def test_a_class_by_its_name(conditional: Path) -> None:
    model = trained_run.open_run(str(conditional), "cpu").model
    assert isinstance(model, NoiseToImage)
    model.class_names = ["flags", "7", *"abcdefg", "2021"]
    assert [model.class_number(asked) for asked in ("flags", 7, 0, "7", 2021, "g")] == [0, 1, 0, 1, 9, 8]
    with pytest.raises(ConfigError, match="class=flag: type a number of 0 to 9, or a name: flags, 7, a, b"):
        model.class_number("flag")


def test_a_class_of_a_model_that_knows_none(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="class=3: this generator knows no classes; leave it out"):
        draw(tmp_path, f"run={trained}", "class=3")


def test_the_notebook_runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((REPOSITORY / "notebooks" / "look_into_a_run.ipynb").read_text())
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    code = code.replace('Path("../outputs")', 'Path("..")')
    monkeypatch.setattr(plt, "show", lambda: None)
    (trained.parent / "here").mkdir()
    monkeypatch.chdir(trained.parent / "here")
    names: dict[str, object] = {}
    exec(code, names)
    assert tuple(names["cells"].shape) == (6, 8, 1, 32, 32)  # type: ignore[attr-defined]
    curves = {"discriminator/adversarial", "generator/adversarial", "fid_digits"}
    assert set(names["curves"]) == curves  # type: ignore[call-overload]
    assert len(plt.gcf().axes) == 3
    plt.close("all")
    last = json.loads((trained / "scores.json").read_text())["last"]["scores"]
    assert {name: score.to_dict() for name, score in names["run"].scores.items()} == last  # type: ignore[attr-defined]


def test_evaluate_again_gives_the_same_scores(trained: Path, tmp_path: Path) -> None:
    """In other words: the checkpoint holds all of the averaged generator, and the noise of the scores is fixed."""
    done = run(f"run={trained / 'checkpoints' / 'last.ckpt'}", verb="evaluate", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    again = json.loads((trained / "scores-00000256.json").read_text())["scores"]
    before = json.loads((trained / "scores.json").read_text())["last"]["scores"]
    assert {name: s["value"] for name, s in again.items()} == {name: s["value"] for name, s in before.items()}


def test_a_killed_run_goes_on_to_the_same_end(trained: Path, tmp_path: Path) -> None:
    """SIGTERM in the middle of an epoch: saved, status 143, and `ckpt=` ends bit for bit where the unbroken run did."""
    words = [*NARROW, "images=640", "data.batch_size=16", "trainer.log_every=2", "logger=csv"]
    words += ["callbacks.scores.at_start=false"]
    whole = run(*words, "hydra.run.dir=whole", folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = start(*words, "hydra.run.dir=cut", folder=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    ended = process.wait()
    assert ended.returncode == 143
    stopped = resume.load(tmp_path / "cut" / "checkpoints" / "last.ckpt")["gan_experiments"]["images_seen"]
    assert 0 < stopped < 640
    assert "go on" in ended.stdout
    done = run("ckpt=cut/checkpoints/last.ckpt", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ends = [resume.load(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "cut")]
    assert difference(*ends) == {}
    tables = [list(csv.DictReader((tmp_path / name / "metrics.csv").open())) for name in ("whole", "cut")]
    assert tables[0][-1]["fid_digits"] == tables[1][-1]["fid_digits"]
    images = [int(row["images"]) for row in tables[1]]
    assert images == sorted(images)


def test_a_loss_that_explodes_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    words = [*NARROW, "metrics=none", "logger=csv", "trainer.log_every=1", "callbacks.checkpoints.every=64"]
    words = [word for word in words if "num_fake" not in word]
    fine = run(*words, "images=128", "hydra.run.dir=r", folder=tmp_path)
    assert fine.returncode == 0, fine.stderr
    broken = run("ckpt=r", "images=6400", "model.optimizers.discriminator.lr=1e30", folder=tmp_path)
    assert broken.returncode == 1
    line = broken.stderr.strip().splitlines()[-1]
    assert line.startswith("the term 'adversarial' of the phase ")
    assert "Traceback" not in broken.stderr
    kept = resume.load(tmp_path / "r" / "checkpoints" / "last.ckpt")
    assert kept["gan_experiments"]["images_seen"] < 640
    assert all(torch.isfinite(t).all() for t in kept["state_dict"].values() if isinstance(t, torch.Tensor))


# ------------------------------------------------------------------------------------------ mistakes


def _quick(*words: str, folder: Path) -> tuple[str, float]:
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(*words, folder=folder)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime  # of its CPU: the machine is shared
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == [], "something was left behind"
    return done.stderr.strip(), seconds


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (
            ["model=dcgn"],
            "model=dcgn: there is no such model (did you mean dcgan?); type model= one of acgan, attngan, bicyclegan",
        ),
        (["model.latnt_dim=3"], "model.latnt_dim: there is no such key (did you mean model.generator.latent_dim?)"),
        (["model.generator.widht=3"], "model.generator.widht: there is no such key (did you mean width?)"),
        (["imges=100"], "imges: there is no such key (did you mean images?)"),
        (["images"], "images: not understood; type key=value"),
        (["technique=[r3]"], "technique=r3: there is no such technique (did you mean r2?)"),
        (["ckpt=nowhere"], "ckpt=nowhere: there is no such file or folder"),
    ],
)
def test_a_misspelt_name_is_answered_at_once(words: list[str], answer: str, tmp_path: Path) -> None:
    said, seconds = _quick(*words, folder=tmp_path)
    assert said.startswith(answer)
    assert "\n" not in said
    assert seconds < 2  # 0.4 s alone


def test_a_key_that_another_choice_has_is_told_apart_from_one_that_there_is_not() -> None:
    known = ["model.generator.width", "model.generator.latent_dim"]
    answers = {
        "technique.r1.gamma": "type technique=[r1] to have it",
        "model.discriminator.conditioning": "type model= one of acgan, biggan, biggan_deep, cdcgan",
        "model.generator.widht": "there is no such key (did you mean width?)",
    }
    for key, answer in answers.items():
        assert mistakes._no_such_key(key, known).startswith(f"{key}: ")
        assert answer in mistakes._no_such_key(key, known)


def test_a_mistake_removes_no_files_of_others(tmp_path: Path) -> None:
    """Where the run folder is one that holds other things, or the folder of an earlier run."""
    (tmp_path / "thesis.txt").write_text("mine")
    assert run("images=0", "hydra.run.dir=.", folder=tmp_path).returncode == 2
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert run("images=0", "hydra.run.dir=.", folder=tmp_path / "empty").returncode == 2
    assert list((tmp_path / "empty").iterdir()) == []


def test_faults_are_reported_together_before_anything_is_built(tmp_path: Path) -> None:
    said, _ = _quick("data.batch_size=-4", "loss=wasserstein", "images=0", folder=tmp_path)
    assert [line.split("=")[0] for line in said.splitlines()] == ["images", "data.batch_size", "loss"]
    said, _ = _quick("data.batch_size=-4", "+model.generator.depth=3", "+image=5", folder=tmp_path)
    lines = said.splitlines()
    assert len(lines) == 3
    assert "image: nothing reads this key (did you mean images?); leave it out" in lines
    assert any(line.startswith("model.generator.depth: DCGANGenerator takes no such argument") for line in lines)
    assert any(line.startswith("data.batch_size=-4: a whole number of 1 or more is needed") for line in lines)


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (
            ["data.resolution=48"],
            " cannot make a resolution of 48: it needs a power of two from 16 on; type data.resolution=32 or 64",
        ),
        (["loss=wasserstein"], "needs a Lipschitz critic"),
        (["data=unpaired"], "trains on real; type data= one of captioned, captioned_digits, celeba, cifar10, digits"),
        (
            ["model=cdcgan", "data=domains_celeba", "data.resolution=64"],
            "CelebAAttributes gives batches of domain, real; model=gan_experiments.models.dcgan.DCGAN trains on label,",
        ),
        (
            ["data.batch_size=7", "trainer.accumulate=2"],
            "data.batch_size=7: the whole batch is shared by 1 ranks and 2",
        ),
        (["+model.generator.depth=3"], "model.generator.depth: DCGANGenerator takes no such argument"),
        (["+trainer.deterministc=true"], "trainer.deterministc: nothing reads this key"),
        (["model.optimizers.generator.lr=-1"], "model.optimizers.generator.lr=-1: a number of 0 or more is needed"),
        (["model.discriminator.resolution=64"], "model.discriminator cannot read images [1, 32, 32]"),
        (["images=0"], "images=0: a whole number of 1 or more is needed"),
        (["callbacks.checkpoints.every=-5"], "callbacks.checkpoints.every=-5: a whole number of 0 or more is needed"),
        (["trainer.devices=2"], "trainer.devices=2 without a strategy"),
        (["model.generator._target_=gan_experiments.networks.dcgan.Generator"], "cannot be imported"),
    ],
)
def test_what_cannot_be_is_refused(overrides: list[str], answer: str, tmp_path: Path) -> None:
    callbacks = ["callbacks=default"] if "callbacks" in overrides[0] else []
    with pytest.raises(ConfigError) as raised:
        check.require(compose(tmp_path, *callbacks, *overrides))
    assert all(answer in fault for fault in raised.value.faults), raised.value


def test_batch_norm_under_a_gradient_penalty_is_refused(tmp_path: Path) -> None:
    cfg = small(tmp_path, "wgan_gp")
    cfg.model.discriminator._target_ = "gan_experiments.networks.dcgan.DCGANDiscriminator"
    with pytest.raises(ConfigError, match="has batch norm, which mixes the samples"):
        check.require(cfg)


def test_a_discriminator_that_ends_in_a_sigmoid_is_refused(tmp_path: Path) -> None:
    cfg = small(tmp_path, "dcgan")
    cfg.model.discriminator = {
        "_target_": "torch.nn.Sequential",
        "_args_": [
            {"_target_": "torch.nn.Flatten"},
            {"_target_": "torch.nn.Linear", "in_features": 1024, "out_features": 1},
            {"_target_": "torch.nn.Flatten", "start_dim": 0},
            {"_target_": "torch.nn.Sigmoid"},
        ],
    }
    with pytest.raises(ConfigError, match=r"model\.discriminator ends in a sigmoid"):
        check.require(cfg)


def test_translation_is_not_scored_as_generation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no image is known that should come of another.*or metrics=none"):
        check.require(small(tmp_path, "cyclegan", "metrics=paired"))


def test_a_missing_folder_and_one_without_images(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    words = ["data=folder", "metrics=none", "data.resolution=32", "trainer=cpu"]
    said, _ = _quick(*words, "data.root=../nowhere", folder=tmp_path / "work")
    assert "nowhere" in said
    assert "\n" not in said
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    said, _ = _quick(*words, "data.root=../texts", folder=tmp_path / "work")
    assert "texts" in said
    assert "\n" not in said


def test_a_truncated_checkpoint(trained: Path, tmp_path: Path) -> None:
    whole = (trained / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    for verb, key in (("run", "ckpt"), ("sample", "run")):
        done = run(f"{key}={tmp_path / 'half.ckpt'}", verb=verb, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith(f"{key}={tmp_path / 'half.ckpt'}: not a whole checkpoint")
        assert len(done.stderr.strip().splitlines()) == 1


def test_check_true_measures_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(*NARROW, "check=true", "images=6400", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert "generator parameters" in done.stdout
    assert "steps                                    100  (6,400 images)" in done.stdout
    assert "_target_" not in done.stdout  # --cfg job prints the config


# ------------------------------------------------------------------------------------------ as installed


LATE = (
    *("torchmetrics.functional", "scipy.signal", "wandb", "optuna", "tensorboard", "torch._dynamo.eval_frame"),
    *("torch._inductor", "torchvision.models", "torchvision.ops", "torchvision.datasets", "torch_fidelity.metrics"),
)
"""Modules of which this run needs none, and each of which takes half a second or more to import."""
AFTERWARDS = """
    import lightning, torch, torchmetrics, torchvision
    print(torchmetrics.MeanMetric.__mro__[-1], torchmetrics.functional.__name__, torchvision.ops.nms.__name__)
    compiled = torch.compile(torch.nn.Linear(2, 1), backend='eager')
    print(compiled(torch.ones(1, 2)).shape, isinstance(compiled, lightning.fabric.wrappers.OptimizedModule))
    print(isinstance(compiled._orig_mod, lightning.fabric.wrappers.OptimizedModule), torch._dynamo.OptimizedModule)
    import os; print(os.environ.get('PYTORCH_NVML_BASED_CUDA_CHECK'), torch.cuda.is_available())
"""


def test_works_uninstalled(tmp_path: Path) -> None:
    """Nothing asks for the installed package's metadata: all of a run, with scores, where there is none.

    And nothing is imported that it does not need; the rest is there when it is asked for.
    """
    script = (
        "import sys; sys.path[0] = sys.argv.pop(1); import importlib.metadata as m; real = m.Distribution.from_name\n"
    )
    script += "def gone(name):\n    if 'gan' in name: raise m.PackageNotFoundError(name)\n    return real(name)\n"
    script += "m.Distribution.from_name = gone\nfrom gan_experiments.launch import entry\n"
    script += f"try: entry.main()\nfinally:\n    print('imported', [name for name in {LATE} if name in sys.modules])\n"
    script += AFTERWARDS
    done = subprocess.run(
        [sys.executable, "-c", script, str(REPOSITORY / "src"), *NARROW, "images=64", "data.limit=256", "logger=none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.partition("imported ")[2].splitlines() == [
        "[]",
        "<class 'object'> torchmetrics.functional nms",
        "torch.Size([1, 1]) True",
        "False <class 'torch._dynamo.eval_frame.OptimizedModule'>",
        "1 True" if torch.cuda.is_available() else "None False",  # what slows Adam where there is no GPU is taken back
    ]


@pytest.mark.parametrize(
    ("words", "status", "late"),
    [
        (["--help"], 0, ("torch", "numpy")),
        (["sample", "--help"], 0, ("torch", "numpy")),
        (["model=banana"], 2, ("torch", "numpy")),
        (["rum"], 2, ("torch", "numpy")),
        (["compare"], 2, ("wandb", "optuna")),
    ],
    ids=str,
)
def test_what_needs_no_torch_imports_none(words: list[str], status: int, late: tuple[str, ...], tmp_path: Path) -> None:
    script = "import sys; from gan_experiments.launch import entry\ntry: entry.main()\n"
    script += f"finally: print('imported', [name for name in {late} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (status, "imported []"), done.stderr


def test_works_from_a_wheel_and_as_a_module(tmp_path: Path) -> None:
    """The configs are in the wheel; unpacked elsewhere, it runs without the repository."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(REPOSITORY),
        ],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("gan_experiments-*.whl"))
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    assert (tmp_path / "site" / "gan_experiments" / "conf" / "model" / "dcgan.yaml").exists()
    assert (tmp_path / "site" / "hydra_plugins" / "gan_experiments_sweeper.py").exists()
    done = subprocess.run(
        [sys.executable, "-m", "gan_experiments", "model=dcgn"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("model=dcgn: there is no such model")


def test_unpaired_folders_train_a_translator(tmp_path: Path) -> None:
    for name in ("trainA", "trainB"):
        write_images(tmp_path / "photos" / name, 4, seed=ord(name[-1]))
    words = [
        "model=cyclegan",
        "data.root=photos",
        "data.resolution=32",
        "data.load_resolution=null",
        "data.batch_size=1",
    ]
    words += ["model.generator_ab.width=4", "model.generator_ab.blocks=1", "model.discriminator_a.width=4", "images=4"]
    done = run(*words, "logger=csv", "trainer=cpu", "hydra.run.dir=r", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    drawn = run("run=r", "n=4", "singles=true", verb="sample", folder=tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert len(list((tmp_path / "r" / "drawn" / "00000004" / "images").glob("*.png"))) == 4
    refused = run("run=r", verb="evaluate", folder=tmp_path)
    assert refused.returncode == 2
    assert "type metrics=inception, metrics=lite0" in refused.stderr
