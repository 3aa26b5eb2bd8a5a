"""The package from Python: `import gan_experiments as gx`, then `gx.train([...], data=my_dataset)`.

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
    from gan_experiments.assembly.build import Run
    from gan_experiments.assembly.trained import TrainedRun

NOT_HERE = ("-", "hydra/", "hydra.sweep")
"""Beginnings of words that are for the command alone."""


def train(
    overrides: Sequence[str] | str = (), data: Any = None, test_data: Any = None, resume: str | Path | None = None
) -> TrainedRun | None:
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
    for word in words:
        if word.startswith(NOT_HERE):
            raise ConfigError(f"{word}: options and sweeps are for the command gan-experiments; leave it out")
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


def _trained(cfg: DictConfig) -> TrainedRun | None:
    """Run a command's work for a composed config; see `launch.command`."""
    from gan_experiments.assembly.trained import TrainedRun, open_run
    from gan_experiments.verbs.run import run

    runs: list[Run] = []
    folder = Path(cfg.output)
    status = command.single(lambda cfg: run(cfg, runs.append), cfg, "run")
    if runs:
        if status == 1:  # a rank died, as was printed
            raise TrainingFailure(f"{run_folder.shown(folder)}: the training was broken off")
        return TrainedRun(runs[0].model.eval(), runs[0].cfg, runs[0].folder)
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
    register_resolvers()
    of_others = HydraConfig.instance().cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
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
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(mistakes.explain(error, "run")) from error
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
