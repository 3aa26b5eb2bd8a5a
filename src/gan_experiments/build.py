"""From a config to a run: the only place that instantiates."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from gan_experiments import launch, pretrained, resume, world
from gan_experiments.callbacks.health import Health
from gan_experiments.callbacks.record import Record
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.contracts import ConfigError, TrainingFailure
from gan_experiments.engine import AdversarialModule, RunSettings
from gan_experiments.layers.sync_batch_norm import OverAllRanks
from gan_experiments.resume import plain

log = logging.getLogger(__name__)

BEFORE_CHECKPOINTS = ("health", "samples", "scores", "checkpoints")


@dataclass
class Run:
    """Everything that a training needs, and its folder."""

    folder: Path
    cfg: DictConfig
    model: AdversarialModule
    data: L.LightningDataModule
    trainer: L.Trainer

    def train(self, checkpoint: Path | None) -> None:
        """Train until the run's images have been seen, from the checkpoint on where there is one.

        A run that fails goes on from its last good checkpoint where `Health` says so, and is else over.
        """
        if self.trainer.is_global_zero:
            log.info("%s", self.data.describe())  # type: ignore[attr-defined]
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(self.model.run.config)))
            (self.folder / "parameters.json").write_text(json.dumps(parameters(self.model), indent=1))
            for logger in self.trainer.loggers:
                if hasattr(logger, "start"):
                    logger.start(self.model.run.config)
        while True:
            try:
                self.trainer.fit(self.model, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
                return
            except TrainingFailure as failure:
                health = self.callback(Health)
                checkpoint = health.way_back(self.trainer, self.model, failure) if health else None
                if checkpoint is None:
                    raise

    def finish(self) -> None:
        """Close what was opened, so that the next run of this process starts afresh."""
        for logger in self.trainer.loggers:
            if hasattr(logger, "finish"):
                logger.finish()

    def callback(self, kind: type) -> Any:
        """The callback of that kind, or None."""
        return next((c for c in self.trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]


def build(cfg: DictConfig) -> Run:
    """Instantiate a checked config."""
    quieten()
    faults: list[str] = []
    with _collecting(faults):
        data = make(cfg.data)
        data.channels_last = cfg.trainer.channels_last
        data.prepare_data()
    with _collecting(faults):
        named = {name: make(node) for name, node in cfg.callbacks.items()}
    if getattr(named.get("health"), "action", "") == "back" and "checkpoints" not in named:
        faults.append("callbacks.health.action=back needs callbacks.checkpoints: type callbacks.health.action=stop")
    if faults:
        raise ConfigError(*faults)
    scores = named.get("scores")
    if scores is not None and scores.evaluator is not None:
        scores.evaluator.real(data)  # which lacks it says so now, not at the end of the run
    model = build_model(cfg)
    if model.pretrained and not cfg.ckpt:
        pretrained.take_up(model, model.pretrained)
    # Sheets and scores come before the checkpoint that holds them; what others add comes last.
    callbacks = [Record(), Stopping()]
    callbacks += [named.pop(name) for name in BEFORE_CHECKPOINTS if name in named]
    loggers = [make(node) for node in cfg.logger.values()]
    trainer = build_trainer(cfg, [*callbacks, *named.values()], loggers)
    return Run(Path(cfg.output), cfg, model, data, trainer)


@contextmanager
def _collecting(faults: list[str]) -> Iterator[None]:
    """Keep a ConfigError's faults for later, to tell them together with those of other parts."""
    try:
        yield
    except ConfigError as error:
        faults.extend(error.faults)


def build_model(cfg: DictConfig) -> AdversarialModule:
    """The model of a config, its weights drawn from the config's seed."""
    L.seed_everything(cfg.seed, verbose=False)
    model = make(cfg.model)
    if cfg.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if cfg.trainer.precision == "64-true":
        model = model.double()  # Lightning would only do so once it has read a checkpoint's weights into float32
    model.run = RunSettings(
        images=cfg.images,
        seed=cfg.seed,
        accumulate=cfg.trainer.accumulate,
        log_every=cfg.trainer.log_every,
        config=plain(cfg),
        overrides=resume.overrides(),
    )
    return model


def parameters(model: AdversarialModule) -> dict[str, int]:
    """The number of parameters of each network."""
    return {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in model.network_names}


def build_trainer(cfg: DictConfig, callbacks: list[L.Callback], loggers: list[Any]) -> L.Trainer:
    """Lightning's Trainer, with all that our callbacks do switched off."""
    node = cfg.trainer
    try:
        return _trainer(cfg, callbacks, loggers)
    except (MisconfigurationException, ValueError) as error:
        given = (
            f"trainer.accelerator={node.accelerator} trainer.devices={node.devices} trainer.precision={node.precision}"
        )
        raise ConfigError(f"{given}: {' '.join(str(error).split())}") from error


def _trainer(cfg: DictConfig, callbacks: list[L.Callback], loggers: list[Any]) -> L.Trainer:
    node = cfg.trainer
    plugins: list[Any] = [OverAllRanks()] if node.sync_batchnorm else []
    if world.slurm():  # a requeue is `Stopping`'s: Lightning's own would save in the middle of a batch
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return L.Trainer(
        accelerator=node.accelerator,
        devices=node.devices,
        num_nodes=node.num_nodes,
        strategy=make(node.strategy) if node.strategy else "auto",
        precision=node.precision,
        plugins=plugins,
        logger=loggers,
        callbacks=callbacks,
        max_epochs=-1,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000_000,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=cfg.output,
    )


def make(node: DictConfig, **other: Any) -> Any:
    """What a node's `_target_` makes of its arguments, all in plain types; a ConfigError comes out as itself.

    `other` arguments take the places of the node's.
    """
    try:
        return instantiate(node, _convert_="all", **other)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ConfigError):
                raise cause from error
            if isinstance(cause, ModuleNotFoundError):
                key = str(error).rpartition("full_key: ")[2].strip() if "full_key: " in str(error) else "config"
                raise ConfigError(f"{key}: {cause}; install it, or choose another") from error
            cause = cause.__cause__
        raise ConfigError(" ".join(str(error).split())) from error


def from_plain(config: dict[str, Any], folder: Path) -> DictConfig:
    """The config that a checkpoint carries, for the run folder given."""
    launch.register_resolvers()
    cfg = OmegaConf.create({**config, "output": str(folder)})
    OmegaConf.resolve(cfg)
    return cfg


def quieten() -> None:
    """Leave out what Lightning says to those who write the loop themselves."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (".*does not have many workers.*", ".*IterableDataset.*__len__.*", ".*treespec.*", ".*in eval mode.*"):
        warnings.filterwarnings("ignore", message=text)
