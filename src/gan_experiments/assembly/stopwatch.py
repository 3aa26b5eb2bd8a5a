"""Training on noise with a clock: how long a step takes and how much memory, without data and files."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader, IterableDataset
from typing_extensions import override

from gan_experiments import distributed
from gan_experiments.assembly import build
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.conditions import Conditions
from gan_experiments.contracts import Batch
from gan_experiments.data.module import DataModule
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.kinds import IMAGE

PATIENCE = 60.0  # seconds: if a few steps would take longer, `Stopwatch` measures with a part of the batch


def cycle_of(model: AdversarialModule) -> int:
    """Return the number of batches after which the phases of a model repeat: the interval of the rarest."""
    return max(phase.every for phase in model.phases())


def train_on_noise(cfg: DictConfig, model: AdversarialModule, clock: RunCallback) -> float:
    """Train a model on batches of noise until the callback `clock` stops it; return the peak memory in bytes.

    Growing networks have their final size. The weights change.
    """
    trainer = build.build_trainer(cfg, [clock], [])
    data: DataModule = build.make(cfg.data)
    model.images_seen = max(model.images_seen, cfg.images)
    rows = cfg.data.batch_size // trainer.world_size

    def noise(n: int) -> Batch:
        batch = data.noise(n, model.needs)
        if cfg.trainer.channels_last:
            batch |= {k: v.to(memory_format=torch.channels_last) for k, v in batch.items() if v.ndim == 4}
        return batch

    trainer.fit(model, datamodule=_NoiseData(noise, rows))
    if model.device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(model.device))
    return float((1 if sys.platform == "darwin" else 1024) * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


class _Noise(IterableDataset):
    def __init__(self, make: Callable[[int], Batch], rows: int) -> None:
        self.make, self.rows = make, rows

    def __iter__(self) -> Any:
        while True:
            yield self.make(self.rows)


class _NoiseData(L.LightningDataModule):
    """A data module of noise, with as much of a `DataModule` as a training uses."""

    class_names: tuple[str, ...] = ()
    conditions = Conditions()
    kind = IMAGE
    values = None
    size = None

    def __init__(self, make: Callable[[int], Batch], rows: int) -> None:
        super().__init__()
        self.fixed, self.rows = make, rows

    def train_dataloader(self) -> DataLoader:
        return DataLoader(_Noise(self.fixed, self.rows), batch_size=None)


class Stopwatch(RunCallback):
    """A callback that times cycles of `cycle` batches, of growing size up to `images`, until the time is up.

    A batch has at least two images in each of the `parts` of each rank, because some models need two.
    """

    def __init__(self, images: int, parts: int, cycle: int) -> None:
        self.images, self.parts, self.cycle = images, parts, cycle
        self.plan: list[int] = []  # the images of each batch, on all ranks
        self.times: list[float] = []
        self._start = 0.0

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Plan the sizes of the batches."""
        sizes = [self.images]
        while sizes[0] % (4 * self.parts * trainer.world_size) == 0:
            sizes.insert(0, sizes[0] // 2)
        sizes += [self.images] * (1 if self.cycle > 1 else 3)
        self.plan = [size for size in sizes for _ in range(self.cycle)]

    @override
    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, batch: Batch, *_: Any) -> None:
        rows = self.plan[len(self.times)] // trainer.world_size
        batch.update({key: values[:rows] for key, values in batch.items()})
        self._start = time.perf_counter()

    @override
    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        module.flush()  # waits for the device
        self.times.append(time.perf_counter() - self._start)
        done = len(self.times)
        if done % self.cycle == 0:
            spent = torch.tensor([sum(self.times), sum(self.times[-self.cycle :])], device=module.device)
            distributed.average_([spent])  # the ranks stop together
            longer = self.plan[done] / self.plan[done - 1] if done < len(self.plan) else math.inf
            trainer.should_stop = bool(spent[0] + longer * spent[1] > PATIENCE)

    @property
    def measured(self) -> int:
        """The number of images in the last batches, on all ranks."""
        return self.plan[len(self.times) - 1]

    @property
    def seconds(self) -> float:
        """The time of a step, from batches of the last size; their first cycle counts only if there is no other."""
        times = [seconds for size, seconds in zip(self.plan, self.times, strict=False) if size == self.measured]
        times = times[self.cycle :] or times
        return sum(times) / len(times) * self.images / self.measured
