"""What `trainer.compile` gains or loses: a step of each model as it is written and compiled, on noise.

    python benchmarks/compiled.py [--models gan dcgan ...] [--batch 16] [--seconds 20]

Each model trains twice by turns in one process, on one thread, in float32 and torch's own layout: some cycles of all
phases as they are written, as many compiled, again and again. CPU time counts. What compiling itself takes is the CPU
time of the first cycles, with the compilers that they start. With `--inference`, the generator (or the first network of
a translator) draws without gradients.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import hydra
import torch
from omegaconf import DictConfig

from gan_experiments.assembly import build
from gan_experiments.assembly.stopwatch import cycle_of, train_on_noise
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.runs import configs, resolvers

MODELS = {
    "gan": [],
    "dcgan": [],
    "sngan": ["model.generator.width=64", "model.discriminator.width=64"],
    "pix2pix": ["data.root=none", "data.resolution=64", "model.generator.width=16", "model.discriminator.width=16"],
    "cyclegan": ["data.root=none", "data.resolution=64"],
    "srgan": ["data.root=none", "perceptual=none", "model.pixel_weight=1"],
}
"""Each model without second derivatives with the words that it needs beside the defaults."""
WARM = 2  # cycles


class Switch(RunCallback):
    """A callback that trains by turns as the networks are written and compiled, and keeps the CPU time of each cycle.

    The first turn of either side does not count: it is kept as `first`. A turn is one cycle.
    """

    def __init__(self, cycle: int, seconds: float) -> None:
        self.cycle, self.seconds = cycle, seconds
        self.times: dict[bool, list[float]] = {False: [], True: []}
        self.first = 0.0
        self._done, self._start, self._began, self._compiled = 0, 0.0, 0.0, False

    def on_train_batch_start(self, trainer: Any, module: AdversarialModule, *_: Any) -> None:
        """Start the clock at the beginning of a cycle."""
        if self._done % self.cycle == 0:
            torch.compiler.set_stance("default" if self._compiled else "force_eager")
            self._start = spent()
            self._began = self._began or time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: AdversarialModule, *_: Any) -> None:
        """Keep the time of a cycle, and give the other side its turn."""
        self._done += 1
        if self._done % self.cycle:
            return
        seconds = spent() - self._start
        turn = self._done // self.cycle
        if turn <= 2 * WARM:
            self.first += seconds if self._compiled else -seconds
            self._began = time.perf_counter()
        else:
            self.times[self._compiled].append(seconds)
        self._compiled = not self._compiled
        enough = min(map(len, self.times.values())) >= 3
        trainer.should_stop = enough and time.perf_counter() - self._began > self.seconds


def spent() -> float:
    """CPU seconds of this process and of the compilers that it has started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def composed(model: str, batch: int) -> DictConfig:
    """Return the config of a model, in float32 and torch's own layout."""
    words = [f"model={model}", *MODELS.get(model, []), f"data.batch_size={batch}", "trainer=exact", "images=1_000_000"]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        return hydra.compose(
            "run", [*words, "trainer.accelerator=cpu", "metrics=none", "callbacks=none", "logger=none", "output=none"]
        )


def training(model: str, names: list[str], batch: int, seconds: float) -> tuple[Switch, list[str]]:
    """Return the times of a model's training, compiled in part; all networks if no names are given."""
    cfg = composed(model, batch)
    module = build.build_model(cfg)
    chosen = [name for name in names if name in module.network_names] or list(module.network_names)
    for name in chosen:
        build.compile_parts(getattr(module, name))
    switch = Switch(cycle_of(module), seconds)
    train_on_noise(cfg, module, switch)
    return switch, chosen


def ratio(times: dict[bool, list[float]]) -> str:
    """Time as written over compiled: the median of the pairs, and their range. Above 1 compiled is faster."""
    pairs = [plain / compiled for plain, compiled in zip(times[False], times[True], strict=False)]
    return f"{statistics.median(pairs):.2f} ({min(pairs):.2f}-{max(pairs):.2f}, {len(pairs)})"


def drawing(model: str, batch: int, seconds: float) -> tuple[dict[bool, list[float]], float]:
    """Return the times of drawing a batch without gradients, and what compiling took."""
    cfg = composed(model, batch)
    module = build.build_model(cfg).eval()
    name = module.network_names[0]
    network = getattr(module, name)
    build.compile_parts(network)
    forward = next(forwards(module, network, cfg, batch))
    times: dict[bool, list[float]] = {False: [], True: []}
    first = 0.0
    began = time.perf_counter()
    turn = 0
    while turn < 10 or time.perf_counter() - began < seconds:
        for compiled in (False, True):
            torch.compiler.set_stance("default" if compiled else "force_eager")
            start = spent()
            with torch.no_grad():
                forward()
            if turn < WARM:
                first += (spent() - start) * (1 if compiled else -1)
                began = time.perf_counter()
            else:
                times[compiled].append(spent() - start)
        turn += 1
    return times, first


def forwards(module: Any, network: Any, cfg: DictConfig, batch: int) -> Iterator[Callable[[], Any]]:
    """Yield a function that draws a batch."""
    if hasattr(module, "latent_dim"):
        z = torch.randn(batch, module.latent_dim)
        labels = torch.zeros(batch, dtype=torch.long) if module.classes else None
        yield lambda: network(z) if labels is None else network(z, labels)
    else:
        images = torch.randn(batch, cfg.data.channels, cfg.data.resolution, cfg.data.resolution)
        yield lambda: network(images)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*MODELS])
    parser.add_argument("--networks", nargs="+", default=[], help="those to compile; all of the model's by default")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each model, after compiling")
    parser.add_argument("--inference", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    resolvers.register_resolvers()
    build.quieten()
    print(f"batch {options.batch}, torch {torch.__version__}\n")
    print("| model | compiled | written / compiled (range, turns) | ms as written | compiling, CPU s |")
    print("|---|---|---|---|---|", flush=True)
    for model in options.models:
        if options.inference:
            times, first = drawing(model, options.batch, options.seconds)
            what = "the generator, drawing"
        else:
            switch, names = training(model, options.networks, options.batch, options.seconds)
            times, first, what = switch.times, switch.first, ", ".join(names)
        plain = 1000 * statistics.median(times[False])
        print(f"| {model} | {what} | {ratio(times)} | {plain:.0f} | {first:.0f} |", flush=True)


if __name__ == "__main__":
    main()
