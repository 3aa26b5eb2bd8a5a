"""What a run does to its folder: nothing of a person's is lost, whatever is typed and whichever signal comes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from support import REPOSITORY, compose, required

from gan_experiments import files, processes, signals
from gan_experiments.assembly import build, report
from gan_experiments.callbacks.checkpoints import Checkpoints
from gan_experiments.callbacks.samples import SampleSheets
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.contracts import ConfigError, RankDied
from gan_experiments.data.image_module import ImageData
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.launch import command, entry
from gan_experiments.runs import configs, quoting, resume, run_folder
from gan_experiments.runs.run_folder import Outcome

TINY = (
    "model.generator.width=4",
    "model.discriminator.width=4",
    "model.generator.latent_dim=4",
    "data.batch_size=4",
    "callbacks.samples.n=4",
    "callbacks.health.every=0",
    "~callbacks.progress",
    "metrics=none",
    "logger=csv",
    "trainer=cpu",
    "images=8",
)
NAMES = ("it's", "a b", 'say "x"', "a=b", "a,b", "$HOME", "${x}", "ünï 文", "[a]", "back\\", "null", "-x", "#1", "7")
"""Names of folders that a shell or Hydra might misread."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Give back what a command sets for the whole process."""
    argv, handlers, level = sys.argv, logging.root.handlers[:], logging.root.level
    processes.run_name.cache_clear()
    try:
        yield
    finally:
        for handler in logging.root.handlers:
            if isinstance(handler, run_folder.LogFile):
                handler.close()
        sys.argv, logging.root.handlers[:] = argv, handlers
        logging.root.setLevel(level)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None


def do(*words: str, main: Callable[[], None] = entry.main) -> int:
    """Do what a command does, in this process; its exit status."""
    with _as_before():
        sys.argv = [str(REPOSITORY / "src/gan_experiments/run.py"), *words]
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0)


def contents(folder: Path) -> dict[str, str]:
    """What is in a folder: each path, and a hash of each file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run has finished in `it's kept`; every test leaves it as it is."""
    place = tmp_path_factory.mktemp("runs")
    with contextlib.chdir(place):
        assert do(*TINY, 'hydra.run.dir="it\'s kept"') == 0
    return place


# ------------------------------------------------------------------------------------------ refused: nothing is touched


REFUSED = {
    "a folder that holds a run": (
        [*TINY, 'hydra.run.dir="it\'s kept"'],
        "it's kept holds a run already (finished, 8 images): type hydra.run.dir= another folder, existing=replace",
    ),
    "no such word": ([*TINY, 'hydra.run.dir="it\'s kept"', "existing=banana"], "existing=banana: type existing= one"),
    "a mistake": ([*TINY, 'hydra.run.dir="it\'s kept"', "existing=replace", "images=0"], "images=0: a whole number"),
    "no data": (
        [*TINY, 'hydra.run.dir="it\'s kept"', "existing=replace", "data=folder", "data.root=nowhere"],
        "nowhere",
    ),
    "a mistake with ckpt": (['ckpt="it\'s kept"', "images=0"], "images=0: a whole number"),
    "a mistake with resume": (
        [*TINY, 'hydra.run.dir="it\'s kept"', "resume=true", "data.batch_size=-1"],
        "data.batch_size=-1",
    ),
    "no further": (['ckpt="it\'s kept"'], "has already seen 8 images"),
    "another width": (
        ['ckpt="it\'s kept"', "images=16", "model.generator.width=8"],
        "model.generator.width is 8 here and was 4 there; leave out model.generator.width=8 to go on with it",
    ),
    "another model": (['ckpt="it\'s kept"', "images=16", "model=wgan_gp"], "model is wgan_gp here and was DCGAN there"),
    "an average": (
        ['ckpt="it\'s kept"', "images=16", "+model.ema.discriminator.decay=0.9"],
        "model.ema.discriminator.decay is 0.9 here and was not set there",
    ),
    "an augmentation": (['ckpt="it\'s kept"', "images=16", "augment=ada"], "augment is ada here and was "),
    "classes": (['ckpt="it\'s kept"', "images=16", "model=cdcgan"], "model is cdcgan here and was DCGAN there"),
    "another resolution": (
        ['ckpt="it\'s kept"', "images=16", "data.resolution=64"],
        "data.resolution is 64 here and was 32 there",
    ),
    "a sweep": (["-m", "seed=0,1", "existing=replace"], "existing= is about one run; a sweep keeps what is finished"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_command_touches_nothing(
    case: str, finished: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, answer = REFUSED[case]
    monkeypatch.chdir(finished)
    before = contents(finished)
    assert do(*words) == 2
    said = capfd.readouterr().err.strip()
    assert answer in said
    assert "\n" not in said
    assert contents(finished) == before


def test_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own files, whatever they are called, and folders that are empty."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.log").write_text("mine")
    (tmp_path / "empty" / "below").mkdir(parents=True)
    before = contents(tmp_path)
    for words in (["hydra.run.dir=mine"], ["hydra.run.dir=empty/below"], [], ["hydra.run.dir=a/b/c"]):
        assert do(*TINY, "images=0", *words) == 2
    assert do(*TINY, "hydra.run.dir=mine") == 2, "run.log is written by a run"
    assert contents(tmp_path) == before


def test_keep_leaves_a_run_and_says_so(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    before = contents(finished)
    assert do(*TINY, 'hydra.run.dir="it\'s kept"', "existing=keep", "seed=1") == 0
    assert "it's kept holds a run already (finished, 8 images) and stays as it is" in capsys.readouterr().out
    assert contents(finished) == before


def test_replace_removes_what_a_run_writes_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    earlier = ("checkpoints/good.ckpt", "samples/00000064.png", "rank_1.log", "tensorboard/events.out.tfevents.1")
    others = ("thesis.txt", "samples/holiday.png", "samples/2026.png", "checkpoints/mine.ckpt", "drawn/sheet.png")
    for name in (*earlier, *others):
        files.write_text(tmp_path / "r" / name, "theirs")
    (tmp_path / "r" / "metrics.csv").write_text("images,old\n1,2\n")
    (tmp_path / "r" / "wandb" / "offline-run-20260101_000000-abc").mkdir(parents=True)
    assert do(*TINY, "hydra.run.dir=r", "existing=replace") == 0
    left = contents(tmp_path / "r")
    assert not set(earlier) & set(left)
    assert not [name for name in left if name.startswith("wandb/")]
    assert all((tmp_path / "r" / name).read_text() == "theirs" for name in others)
    assert "old" not in (tmp_path / "r" / "metrics.csv").read_text()
    assert resume.load(tmp_path / "r" / "checkpoints" / "last.ckpt")["gan_experiments"]["images_seen"] == 8


def test_all_that_a_run_writes_is_known(finished: Path) -> None:
    folder = finished / "it's kept"
    known = {str(path.relative_to(folder)) for path in run_folder.written(folder)}
    left = [name for name, what in contents(folder).items() if what != "folder"]
    assert [name for name in left if name not in known] == [run_folder.LOCK]


def test_runs_from_python_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = compose(tmp_path, *TINY[:4], "images=4", "metrics=none")
    cfg.output = "${outputs:}"
    for _ in range(2):
        build.build(cfg).train(None)
    folders = sorted(Path("outputs").glob("*/*"))
    assert [(folder / "config.yaml").is_file() for folder in folders] == [True, True]
    cfg.output = str(folders[0])
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="holds a run already"):
        build.build(cfg)
    cfg.existing = "keep"
    with pytest.raises(ConfigError, match=r"existing=keep: .* is left as it is"):
        build.build(cfg)
    assert contents(tmp_path) == before


# ------------------------------------------------------------------------------------------ names and places


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = {processes.free_place() for _ in range(4)}
    assert len(places) == 4
    assert all((tmp_path / "outputs" / place).is_dir() for place in places)
    files.remove_empty(files.made)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_can_be_typed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell, Hydra and `resume.py` read the folder's name as it is; the line is one command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "seed=1"])
    folder = tmp_path / name
    files.write_text(folder / "checkpoints" / "last.ckpt", "")
    files.write_text(folder / "config.yaml", "")
    python, script, word, images = shlex.split(report.go_on(Path(name), 16))
    assert (python, script, images) == ("python", "run.py", "images=16")
    assert Path(quoting.value_of(word)) == Path(name) / "checkpoints" / "last.ckpt"
    program, verb, word_of_verb = shlex.split(quoting.of_verb("sample", run=name))
    assert (program, verb, quoting.value_of(word_of_verb)) == ("gan-experiments", "sample", name)
    saved: dict[str, Any] = {"gan_experiments": {"overrides": ["seed=1"]}}
    monkeypatch.setattr(resume, "load", lambda path, key="ckpt": saved)
    words = resume.command_line([word])
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("run", words, return_hydra_config=True)
    assert cfg.hydra.run.dir == str(folder)
    assert resume.find(cfg.ckpt) == Path(name) / "checkpoints" / "last.ckpt"


# ------------------------------------------------------------------------------------------ signals


def _before(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Have the signals come, in turn, at the next calls of a function."""
    original, left = getattr(owner, name), list(numbers)

    def hit(*args: Any, **kwargs: Any) -> Any:
        if left:
            os.kill(os.getpid(), left.pop(0))
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, hit)


EARLY = {
    "while the command is read": (resume, "command_line"),
    "while the data are prepared": (ImageData, "prepare_data"),
    "while the parts are made": (build, "build_trainer"),
}
LATE = {
    "in the last sheet": (SampleSheets, "_draw", 1),
    "at the end": (SampleSheets, "on_train_end", 0),
    "in closing": (report, "closing", 0),
}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", EARLY)
def test_a_signal_before_a_run_begins(
    moment: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _before(*EARLY[moment], monkeypatch, number)
    assert do(*TINY) == 128 + number
    assert capfd.readouterr().err == f"{signal.Signals(number).name}: stopped\n"
    assert not list(tmp_path.iterdir()), "nothing has begun, nothing is left"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_before_the_first_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained yet, and nothing lost by ending at once; `resume=true` begins in the folder."""
    monkeypatch.chdir(tmp_path)
    _before(SampleSheets, "_draw", monkeypatch, signal.SIGTERM)
    assert do(*TINY, "hydra.run.dir=r") == 128 + signal.SIGTERM
    assert run_folder.outcome(tmp_path / "r") == Outcome("stopped", 0, "stopped at 0 images")
    assert do(*TINY, "hydra.run.dir=r", "resume=true") == 0
    assert run_folder.outcome(tmp_path / "r") == Outcome("finished", 8, "done: 8 images")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_training_saves(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _before(AdversarialModule, "training_step", monkeypatch, number)
    assert do(*TINY, "hydra.run.dir=r") == 128 + number
    assert run_folder.outcome(tmp_path / "r") == Outcome("stopped", 4, "stopped at 4 images")
    said = capfd.readouterr()
    assert "saving after this batch" in said.err
    assert "ckpt=r/checkpoints/last.ckpt" in said.out
    assert resume.load(tmp_path / "r" / "checkpoints" / "last.ckpt")["gan_experiments"]["images_seen"] == 4


def test_a_second_signal_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _before(AdversarialModule, "training_step", monkeypatch, signal.SIGTERM)
    _before(Checkpoints, "save", monkeypatch, signal.SIGINT)
    assert do(*TINY, "hydra.run.dir=r") == 128 + signal.SIGINT
    assert run_folder.outcome(tmp_path / "r") == Outcome("stopped", 4, "stopped at 4 images")
    assert not list((tmp_path / "r" / "checkpoints").glob("*"))


@pytest.mark.parametrize("moment", LATE)
def test_a_signal_when_all_images_are_seen_takes_nothing_from_the_run(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    owner, name, skipped = LATE[moment]
    _before(owner, name, monkeypatch, *[0] * skipped, signal.SIGTERM)  # 0 asks for nothing
    assert do(*TINY, "hydra.run.dir=r") == 0
    assert run_folder.outcome(tmp_path / "r") == Outcome("finished", 8, "done: 8 images")
    assert (tmp_path / "r" / "samples" / "training.gif").is_file()


@pytest.mark.parametrize("config", entry.VERBS)
@pytest.mark.parametrize("number", SIGNALS[:2])
def test_a_signal_ends_every_verb_alike(
    config: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def hit(cfg: DictConfig) -> int:
        with files.whole(Path("result.png")) as unfinished:
            unfinished.write_text("half")
            os.kill(os.getpid(), number)
        return 0

    words = [] if config == "run" else required(config)
    assert do(*words, main=lambda: command.main(hit, config)) == 128 + number
    assert capfd.readouterr().err == f"{signal.Signals(number).name}: stopped\n"
    assert not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_so() -> None:
    """`nohup` starts a command that a closed terminal does not end."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.stopping():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# ------------------------------------------------------------------------------------------ a rank that died


def test_a_rank_that_died_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What gloo says where the other end is gone: status 1, what happened and how to go on."""
    monkeypatch.chdir(tmp_path)

    def gone(*_: Any) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:12345")

    monkeypatch.setattr(Stopping, "on_train_batch_end", gone)
    assert do(*TINY, "hydra.run.dir=r") == 1
    said = capfd.readouterr().err.strip()
    assert said.startswith("another rank of this run has died, after 4 images; to go on type python ")
    assert said.endswith("hydra.run.dir=r resume=true"), "it has no checkpoint yet"
    assert json.loads((tmp_path / "r" / "outcome.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    "text", ["Connection reset by peer", "NCCL communicator was aborted", "Timed out waiting 1800000ms for recv"]
)
def test_what_torch_says_of_a_rank_that_died(text: str) -> None:
    assert isinstance(run_folder.mistake(RuntimeError(text)), RankDied)
    assert run_folder.mistake(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
