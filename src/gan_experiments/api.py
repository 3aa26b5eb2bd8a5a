"""The package from Python: `import gan_experiments as gx`, then `gx.train`, `gx.load` and `gx.evaluate`.

Nothing here imports torch before a function is called.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from gan_experiments import processes
from gan_experiments.contracts import ConfigError, TrainingFailure
from gan_experiments.launch import command, mistakes
from gan_experiments.runs import configs, latest, quoting, run_folder
from gan_experiments.runs.resolvers import register_resolvers
from gan_experiments.runs.resume import command_line

if TYPE_CHECKING:
    from gan_experiments.assembly import build
    from gan_experiments.data.stored import HeldImages, StoredImages
    from gan_experiments.inference.run import Run
    from gan_experiments.metrics.evaluator import Score

log = logging.getLogger(__name__)

NOT_HERE = ("-", "hydra/", "hydra.sweep")
"""Beginnings of words that are for the command alone."""


def train(
    overrides: Sequence[str] | str = (), data: Any = None, test_data: Any = None, resume: str | Path | None = None
) -> Run | None:
    """Train a model in this process as the command does, and return the trained run; None for check=true.

    Args:
        overrides: the words of the command, such as ["model=dcgan", "images=100_000"].
        data: a torch Dataset, or anything that `data=torch` takes: items of an image, (image, label) or a dict with
            both. The keys of that choice (data.range, data.classes, ...) are words. None for data chosen by words.
        test_data: the same for the split "test".
        resume: the folder of a run, or a checkpoint, to go on with; `data` has to be given again.

    The run gets a folder of its own below `outputs/`, or that of `hydra.run.dir=`, which it locks. Its config only
    describes `data`. Raises ConfigError for a mistake, TrainingFailure if the training fails.
    """
    words = [overrides] if isinstance(overrides, str) else [str(word) for word in overrides]
    _require_of_here(words)
    if resume is not None:
        words.append(quoting.word("ckpt", str(resume)))
    with contextlib.ExitStack() as stack:
        stack.callback(run_folder.undo)
        words = configs.with_own_keys(latest.settled(words))
        if data is not None or test_data is not None:
            words = [*(word for word in words if not word.startswith("data=")), *_given(data, test_data, stack)]
        stack.enter_context(_typed(words))
        stack.enter_context(quoting.in_python("" if data is None else "data=..."))
        words = sys.argv[1:] = command_line(words)
        cfg = stack.enter_context(_composed(words))
        _require_one_process(cfg)
        return _trained(cfg)


def load(run: str | Path = "latest", device: str = "auto", trust: str | Sequence[str] | None = None) -> Run:
    """Open what was trained, to sample from it or to translate with it.

    Args:
        run: a run folder or a checkpoint; "latest", or "latest:model=dcgan", is the last run in `outputs/`. Or an
            exported file; of ONNX and torch.export (.pt2) it samples and translates on the CPU, and has no networks.
        device: "auto" for the accelerator if there is one, "cpu", "cuda", "mps".
        trust: modules of yours that the config in the file may name, such as "mine.networks"; "torch.export" for a
            .pt2, which can run code as it is opened.

    Raises ConfigError if there is no such run, or its checkpoint cannot be opened.
    """
    if not isinstance(run, str | Path):
        raise ConfigError(f"run={run!r}: the path of a run or of a checkpoint is needed, or 'latest'")
    given = os.fspath(run)
    if latest.is_one(given) and not os.path.exists(given):
        given = str(latest.folder_of(given, given))
    register_resolvers()
    from gan_experiments.export.exported import open_any

    trusted = [trust] if isinstance(trust, str) else trust
    opened: Any = open_any(os.path.expanduser(given), device, trusted)
    return opened  # of ONNX it is no Run, but samples and translates as one


def evaluate(
    fake: Any, real: Any = None, metrics: str | None = None, overrides: Sequence[str] | str = ()
) -> dict[str, Score]:
    """Score a run or images, as `gan-experiments evaluate` does; return the scores by name.

    Args:
        fake: a run that `train` or `load` returned, or images: a folder, a zip archive, an array [n, H, W, C] or a
            tensor [n, C, H, W] of uint8, or a list of images of different sizes.
        real: images in the same forms to compare with; None for the data that the run was trained on.
        metrics: what looks at the images: "inception" (as published), "digits", "lite0", "torchvision", ...; None for
            that of the run.
        overrides: further words of the command, such as ["n=1000", "metrics.scores=[fid,kid]", "bootstrap=100"].

    A score is a number by `float(score)`, and has a `value`, a `std` if it has one, and a `passport`: what must be
    equal to compare it with another. Nothing is written. Raises ConfigError for a mistake.
    """
    words = [overrides] if isinstance(overrides, str) else [str(word) for word in overrides]
    if metrics is not None:
        words = [f"metrics={metrics}", *words]
    _require_of_here(words)
    with _typed(words), _hydra("evaluate"):
        cfg = compose("evaluate", overrides=configs.with_own_keys(words))
    from gan_experiments.assembly import check, options, subjects
    from gan_experiments.assembly.trained import TrainedRun
    from gan_experiments.verbs import evaluate as verb

    for key in ("run", "fake", "checkpoints", "pictures", "out", "real"):
        if cfg[key]:
            raise ConfigError(f"{key}={cfg[key]}: that is for the command; give fake and real, and leave it out")
    of_run = isinstance(fake, TrainedRun)
    cfg.run, cfg.fake = (str(fake.folder), None) if of_run else (None, "...")
    cfg.real = None if real is None else "..."
    options.require(cfg, "evaluate")
    if wrong := [*verb.faults(cfg)]:
        raise ConfigError(*wrong)
    check.require_options(cfg, "evaluate")
    if not of_run and verb.is_paired(cfg):
        return _paired(cfg, fake, real)
    compared = None if real is None else _images(real, "real")
    if not of_run:
        subject = subjects.of_images(cfg, _images(fake, "fake"), cfg.metrics.get("batch_size", 100))
    else:
        subject = next(subjects.of_run(cfg, fake))
    return verb.scored(cfg, subject, compared, log.info)[-1]


def _paired(cfg: DictConfig, fake: Any, real: Any) -> dict[str, Score]:
    """Score images against their ground truth: files by their names, others in their order."""
    from gan_experiments.assembly import build
    from gan_experiments.inference import pictures
    from gan_experiments.metrics.paired import pairs_of

    evaluator = build.make(cfg.metrics)
    if isinstance(fake, str | Path) and isinstance(real, str | Path):
        found: dict[str, Score] = evaluator.evaluate(pairs_of(fake, real))
        return found
    sides = pictures.plain(fake, "fake"), pictures.plain(real, "real")
    if len(sides[0]) != len(sides[1]):
        raise ConfigError(f"fake has {len(sides[0])} images and real {len(sides[1])}: metrics=paired needs one of each")
    found = evaluator.evaluate(zip(*sides, strict=True))
    return found


def _images(given: Any, key: str) -> StoredImages | HeldImages:
    """Return images to be scored: those of a folder or archive, or those that are given."""
    from gan_experiments.data.stored import HeldImages, StoredImages
    from gan_experiments.inference import pictures

    if isinstance(given, str | Path):
        return StoredImages(os.path.expanduser(given), key)
    return HeldImages(pictures.plain(given, key))


def _require_of_here(words: Sequence[str]) -> None:
    """Raise ConfigError for a word that is for the command alone."""
    for word in words:
        if word.startswith(NOT_HERE):
            raise ConfigError(f"{word}: options and sweeps are for the command gan-experiments; leave it out")


def _trained(cfg: DictConfig) -> Run | None:
    """Run a command's work for a composed config; see `launch.command`."""
    from gan_experiments.inference.run import after, open_run
    from gan_experiments.verbs.run import run

    runs: list[build.Run] = []
    folder = Path(cfg.output)
    status = command.single(lambda cfg: run(cfg, runs.append), cfg, "run")
    if runs:
        if status == 1:  # a rank died, as was printed
            raise TrainingFailure(f"{run_folder.shown(folder)}: the training was broken off")
        return after(runs[0])
    return None if cfg.check else open_run(str(folder))  # it was complete before, or kept


def _given(data: Any, test_data: Any, stack: contextlib.ExitStack) -> list[str]:
    """Return the words for datasets that are objects; inside the stack, `dataset.Given` makes these."""
    from gan_experiments.data.dataset import Given, described_dataset, giving

    if data is None:
        raise ConfigError("test_data is given without data: give both")
    stack.enter_context(giving({"train": data, "test": test_data}))
    name = f"{Given.__module__}.{Given.__name__}"
    words = ["data=torch", f"data.dataset._target_={name}"]
    words.append(f"++data.dataset.what={quoting.quoted(described_dataset(data))}")
    if test_data is not None:
        words += [f"++data.test_dataset._target_={name}", "++data.test_dataset.split=test"]
        words.append(f"++data.test_dataset.what={quoting.quoted(described_dataset(test_data))}")
    return words


@contextlib.contextmanager
def _typed(words: Sequence[str]) -> Iterator[None]:
    """Let messages know these words as those of the command."""
    before = sys.argv
    sys.argv = [before[0] if before else "", *words]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _composed(words: Sequence[str]) -> Iterator[DictConfig]:
    """Yield the config of a run; inside, it is that of Hydra, as in a command, and its messages are printed and kept.

    Raises ConfigError for words that are none.
    """
    with _hydra("run"):
        whole = compose("run", overrides=[*words], return_hydra_config=True)
        typed = any(word.startswith("hydra.run.dir=") for word in words)
        with read_write(whole), open_dict(whole):
            if not typed:
                whole.hydra.run.dir = processes.own_folder()
            whole.hydra.runtime.output_dir = os.path.abspath(whole.hydra.run.dir)
            whole.hydra.job.config_name = "run"
        run_folder.Withhold().on_run_start(whole)
        HydraConfig.instance().set_config(whole)
        cfg: DictConfig = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        OmegaConf.set_struct(cfg, True)
        with _messages(Path(whole.hydra.runtime.output_dir)):
            yield cfg


@contextlib.contextmanager
def _hydra(config: str) -> Iterator[None]:
    """Let Hydra compose `config` inside the `with`, whatever else it is used for in this process.

    Raises ConfigError for words that are none.
    """
    register_resolvers()
    of_others = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
            yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(mistakes.explain(error, config)) from error
    finally:
        HydraConfig.instance().cfg, GlobalHydra.instance().hydra = of_others


@contextlib.contextmanager
def _messages(folder: Path) -> Iterator[None]:
    """Print the package's messages inside the `with`, and keep them in the run folder's log, as a command does."""
    ours, root = logging.getLogger("gan_experiments"), logging.getLogger()
    shown, kept = logging.StreamHandler(sys.stdout), run_folder.LogFile(str(folder / "run.log"))
    kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level, before = ours.level, ours.propagate
    ours.addHandler(shown)
    root.addHandler(kept)  # where `run_folder.accept` looks for it
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(shown)
        root.removeHandler(kept)
        kept.close()
        ours.setLevel(level)
        ours.propagate = before


def _require_one_process(cfg: DictConfig) -> None:
    """Raise ConfigError if several processes would have to be started, which only a command can."""
    devices = cfg.trainer.get("devices")
    one = devices in (1, "1", "auto") or (not isinstance(devices, (int, str)) and devices and len(devices) == 1)
    if not one and not processes.several():
        raise ConfigError(
            f"trainer.devices={devices}: from Python a run has one process; start the script by torchrun, or type"
            " gan-experiments with data=torch"
        )
