"""What a run says for itself: before it starts (`check=true`) and when it ends."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from gan_experiments import build
from gan_experiments.callbacks.checkpoints import Checkpoints
from gan_experiments.callbacks.samples import SampleSheets
from gan_experiments.callbacks.scores import Scores
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.contracts import Batch
from gan_experiments.engine import AdversarialModule
from gan_experiments.run_folder import shown


def forecast(cfg: DictConfig) -> str:
    """The resolved run, parameter counts, images per step; memory and time as measured on a few batches of noise."""
    config = build.plain(cfg)
    build.quieten()
    model = build.build_model(cfg)
    lines = [OmegaConf.to_yaml(OmegaConf.create(config)).rstrip(), ""]
    lines += [f"{name + ' parameters':30}{count:>14,}" for name, count in build.parameters(model).items()]
    seconds, memory = _measure(cfg, model)
    batch, steps = cfg.data.batch_size, -(-cfg.images // cfg.data.batch_size)
    lines += [
        f"{'images per step':30}{batch:>14,}",
        f"{'steps':30}{steps:>14,}  ({cfg.images:,} images)",
        f"{'time of a step':30}{1000 * seconds:>14,.0f}  ms ({batch / seconds:,.0f} images/s)",
        f"{'time of the run':30}{_duration(steps * seconds):>14}  without sheets and scores",
        f"{'memory':30}{memory / 2**20:>14,.0f}  MiB, the highest so far",
    ]
    return "\n".join(lines)


def closing(run: build.Run) -> tuple[str, int]:
    """Where to look and how to go on, and the exit status of the run (128 + n where signal n ended it)."""
    if not run.trainer.is_global_zero:
        return "", 0
    model, stopping = run.model, run.callback(Stopping)
    sheets, scores, checkpoints = (run.callback(kind) for kind in (SampleSheets, Scores, Checkpoints))
    lines = ["", f"{'stopped at' if stopping.signal else 'done:'} {model.images_seen:,} images"]
    if scores is not None and scores.history:
        first, last = scores.history[0], scores.history[-1]
        row = [
            f"{k} {first[k]:.4g} -> {v:.4g}" if first is not last else f"{k} {v:.4g}"
            for k, v in last.items()
            if k != "images"
        ]
        lines.append(
            f"  scores   {'   '.join(row)}   (scores.json; from {first['images']:,} to {last['images']:,} images)"
        )
    if sheets is not None and sheets.latest is not None:
        lines.append(f"  samples  {shown(sheets.latest)}   training.gif beside it shows how they came about")
    lines.append(f"  run      {shown(run.folder)}")
    lines += [f"  W&B      {logger.where()}" for logger in run.trainer.loggers if hasattr(logger, "where")]
    if checkpoints is not None and checkpoints.last.exists():
        command = f"{_command()} ckpt={shown(checkpoints.last)}"
        lines.append(f"  go on    {command}" + ("" if stopping.signal else f" images={2 * model.images_seen}"))
    return "\n".join(lines), 128 + int(stopping.signal) if stopping.signal else 0


def _command() -> str:
    return f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name


def _measure(cfg: DictConfig, model: AdversarialModule) -> tuple[float, float]:
    """Seconds a step and the highest memory in bytes, over as many batches as the rarest phase needs, after as many."""
    cycle = max(phase.every for phase in model.phases())
    cycles = 1 if cycle > 1 else 3
    stopwatch = _Stopwatch(cycle * cycles)
    trainer = build.build_trainer(cfg, [stopwatch], [])
    model.run.images = 2 * stopwatch.batches * cfg.data.batch_size
    shapes = build.make(cfg.data).shapes
    noise = _Noise({key: shapes[key] for key in model.needs}, cfg.data.batch_size // trainer.world_size)
    trainer.fit(model, datamodule=_NoiseData(noise))
    if model.device.type == "cuda":
        return stopwatch.seconds, float(torch.cuda.max_memory_allocated(model.device))
    unit = 1 if sys.platform == "darwin" else 1024
    return stopwatch.seconds, float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class _Noise(IterableDataset):
    def __init__(self, shapes: Mapping[str, tuple[int, ...]], rows: int) -> None:
        self.shapes, self.rows = shapes, rows

    def __iter__(self) -> Any:
        while True:
            yield self.batch(self.rows)

    def batch(self, n: int) -> Batch:
        return {key: self._fill(key, (n, *shape)) for key, shape in self.shapes.items()}

    @staticmethod
    def _fill(key: str, shape: tuple[int, ...]) -> Tensor:
        if key == "label":
            return torch.zeros(shape, dtype=torch.int64)
        noise = torch.rand(shape, dtype=torch.get_default_dtype())
        return noise.round() if key in ("domain", "mask") else noise * 2 - 1


class _NoiseData(L.LightningDataModule):
    def __init__(self, noise: _Noise) -> None:
        super().__init__()
        self.noise, self.fixed = noise, noise.batch

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.noise, batch_size=None)


class _Stopwatch(L.Callback):
    def __init__(self, batches: int) -> None:
        self.batches, self.seconds = batches, 0.0
        self._start = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:  # type: ignore[override]
        module.flush()  # waits for the device
        if module.batches == self.batches:
            self._start = time.perf_counter()
        if module.batches == 2 * self.batches:
            self.seconds = (time.perf_counter() - self._start) / self.batches
            trainer.should_stop = True


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02} h" if hours else f"{rest // 60}:{rest % 60:02} min"
