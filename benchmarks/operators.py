"""Where the time of a training step goes: torch's operators by share of CPU time, and how near they are to the peak.

    python benchmarks/operators.py [--models wgan_gp cyclegan ...] [--batch 8] [--least 2]

One cycle of every phase is profiled on noise, after one to warm up, on one thread, at the defaults of the model and of
`trainer` (precision and layout as this machine chooses them). A cycle more counts the floating-point operations. The
peak is that of a product of two matrices of 1024 x 1024 in float32. Operators below `--least` per cent are left out.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import hydra
import lightning as L
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gan_experiments.assembly import build, fastest
from gan_experiments.assembly.stopwatch import cycle_of, train_on_noise
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.runs import configs, resolvers

MODELS = {
    "wgan_gp": [],
    "sngan_projection": [],
    "biggan": [],
    "stylegan2": ["data.resolution=64", "model.generator.channel_base=4096"],
    "cyclegan": ["data.root=none", "data.resolution=64"],
    "esrgan": ["data.root=none", "perceptual=none"],
}
"""Each model with the words that it needs beside the defaults."""


class Operations(TorchDispatchMode):
    """Counts floating-point operations by operator. torch's own counter cannot follow a second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry an operator out and add what it took."""
        result = function(*args, **(kwargs or {}))
        operator = function._overloadpacket
        if operator in flop_registry:
            self.flops[operator.__name__] += flop_registry[operator](*args, **(kwargs or {}), out_val=result)
        return result


class Watch(RunCallback):
    """A callback that lets one cycle pass, profiles the next, and counts the operations of the third."""

    def __init__(self, cycle: int) -> None:
        self.cycle = cycle
        self.profiler = profile(activities=[ProfilerActivity.CPU])
        self.counter = Operations()
        self.begun = 0

    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Enter the profiler, or the counter."""
        if not self.begun:
            self.begun = module.batches + 1
        done = module.batches + 1 - self.begun
        if done == self.cycle:
            self.profiler.__enter__()
        if done == 2 * self.cycle:
            self.counter.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Leave it after a cycle."""
        done = module.batches + 1 - self.begun
        if done == 2 * self.cycle:
            self.profiler.__exit__(None, None, None)
        if done == 3 * self.cycle:
            self.counter.__exit__(None, None, None)
            trainer.should_stop = True


def peak() -> float:
    """Return the GFLOP/s of a product of large matrices."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(10):
        start = time.process_time()
        torch.mm(a, b)
        seconds.append(time.process_time() - start)
    return 2 * 1024**3 / min(seconds) / 1e9


def rows(model: str, batch: int, least: float) -> tuple[str, list[tuple[str, float, float | None]]]:
    """Return what was chosen for a model, and its operators: name, share of the time, GFLOP/s if they are products."""
    words = [f"model={model}", *MODELS.get(model, []), f"data.batch_size={batch}", "trainer=cpu", "images=1_000_000"]
    with hydra.initialize_config_dir(str(configs.conf_dir()), version_base="1.3"):
        cfg = hydra.compose("run", [*words, "metrics=none", "callbacks=none", "logger=none", "output=none"])
    cfg = fastest.settled(cfg)
    module = build.build_model(cfg)
    watch = Watch(cycle_of(module))
    train_on_noise(cfg, module, watch)
    spent = {event.key: event.self_cpu_time_total / 1e6 for event in watch.profiler.key_averages()}
    total = sum(spent.values())
    of = {"mkldnn_convolution": "convolution", "mkldnn_convolution_backward": "convolution_backward"}
    found = []
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        if 100 * seconds / total >= least:
            short = name.removeprefix("aten::")
            done = watch.counter.flops.get(of.get(short, short))
            found.append((short, 100 * seconds / total, done / seconds / 1e9 if done else None))
    return f"{cfg.trainer.precision}, {'channels last' if cfg.trainer.channels_last else 'contiguous'}", found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*MODELS])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--least", type=float, default=2.0, help="per cent of the time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    resolvers.register_resolvers()
    build.quieten()
    highest = peak()
    print(f"peak {highest:.0f} GFLOP/s, batch {options.batch}, torch {torch.__version__}\n")
    print("| model | operators: share of the time (share of the peak) |")
    print("|---|---|")
    for model in options.models:
        chosen, found = rows(model, options.batch, options.least)
        cells = [
            f"{name} {share:.0f}%" + (f" ({rate / highest:.0%} of the peak)" if rate else "")
            for name, share, rate in found
        ]
        print(f"| {model} ({chosen}) | {', '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
