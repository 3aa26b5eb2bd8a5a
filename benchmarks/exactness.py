"""One truth: how far apart are one rank and two, straight and resumed? And what does it cost to train as one?

    python benchmarks/exactness.py          # both tables, about 4 minutes on two cores
    python benchmarks/exactness.py --only cost --rounds 6

The first table is what tests/test_exactness.py holds to its limits, in numbers: six batches in float64 with the same
global batch, every file of conf/model/ with networks of a few channels. The second is the CPU time of both ranks for a
batch, under our strategy and under Lightning's ddp_find_unused_parameters_true, by turns in the same processes.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
os.environ["OMP_NUM_THREADS"] = "1"

import lightning as L
import torch
import torch.multiprocessing
from exactness import (
    FEATURES,
    STOPS,
    Case,
    all_cases,
    cancelled,
    gap,
    largest,
    on_two_ranks,
    place,
    resumed,
    straight,
    tensors,
)
from lightning.pytorch.strategies import DDPStrategy
from support import compose, difference

from gan_experiments import distributed
from gan_experiments.assembly import build
from gan_experiments.callbacks.record import Record
from gan_experiments.callbacks.stopping import Stopping
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.runs import resolvers, resume

# ------------------------------------------------------------------------------------------ one truth


def truth() -> None:
    """Print the table of differences."""
    cases = all_cases()
    models = list(dict.fromkeys(case.model for case in cases))
    features = [name for name in FEATURES if name != "own batch norm"]
    others = ["2 ranks, then 1", "cancelled biases", "resumed on 1", "resumed on 2", "ranks"]
    print(f"\n| variant | {' | '.join([*features, *others])} |")
    print("|---" * (1 + len(features) + len(others)) + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        on_two_ranks(folder, cases)
        for model in models:
            print(
                f"| {model} | {' | '.join(_row(folder, [c for c in cases if c.model == model], features))} |",
                flush=True,
            )


def _row(folder: Path, cases: list[Case], features: list[str]) -> list[str]:
    cells: dict[str, str] = {}
    parted = resumed_on_two = 0.0
    for case in cases:
        where = place(folder, case)
        made = [torch.load(where / f"rank-{rank}.pt")["tensors"] for rank in (0, 1)]
        parted = max(parted, largest(difference(*made)))
        if case.feature in ("plain", "own batch norm"):
            resumed_on_two = max(resumed_on_two, _between(where / "two", where / "two-from-2-on-2"))
        if case.feature == "own batch norm":
            continue
        alone = straight(case, where / "one")
        cells[case.feature] = f"{gap(alone, made[0]):.0e}"
        if case.feature == "plain":
            last = resume.load(resumed(case, where / "one", 2, 1, source=where / "two"))["state_dict"]
            then_one = gap(alone, {k: v for k, v in last.items() if isinstance(v, torch.Tensor)})
            biases = f"{largest(difference(tensors(alone), made[0])):.0e}" if cancelled(alone) else ""
    case = cases[-1]  # with its batch norm, where it has some
    straight(case, folder / case.model, stops=STOPS)
    again = [resumed(case, folder / case.model, stop).parents[1] for stop in STOPS]
    stops = max(_between(folder / case.model, other) for other in again)
    row = [cells.get(feature, "-") for feature in features]
    return [
        *row,
        f"{then_one:.0e}",
        biases,
        *(f"{value:.0f}" if value == 0 else f"{value:.0e}" for value in (stops, resumed_on_two, parted)),
    ]


def _between(one: Path, other: Path) -> float:
    states = [resume.load(folder / "checkpoints" / "last.ckpt") for folder in (one, other)]
    for state in states:
        state["gan_experiments"].pop("config")
    return largest(difference(*states))


# ------------------------------------------------------------------------------------------ its cost

COSTS = {"DCGAN 32x32, width 32": "dcgan", "WGAN-GP conv 32x32, width 32": "wgan_gp_dcgan"}


class _Clock(L.Callback):
    """CPU seconds of this process from one batch to another."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.seconds = first, last, 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:  # type: ignore[override]
        if module.batches == self.first:
            self.seconds -= time.process_time()
        if module.batches == self.last:
            self.seconds += time.process_time()


def cost(rounds: int) -> None:
    """Print the table of CPU times."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        torch.multiprocessing.spawn(_rank, (port, name, rounds), nprocs=2)
        heads = ["ours, CPU ms a batch", "wrapper", "wrapper / ours", "all-reduces an optimizer step"]
        print(f"\n| two ranks, batch 64 in all | {' | '.join(heads)} |")
        print("|---" * 5 + "|")
        for title, model in COSTS.items():
            ranks = [torch.load(Path(name) / f"{model}-{rank}.pt") for rank in (0, 1)]
            ours, theirs = (
                [sum(times) for times in zip(*(r[k] for r in ranks), strict=True)] for k in ("ours", "wrapper")
            )
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            row = [title, *(f"{1000 * statistics.median(times):.1f}" for times in (ours, theirs))]
            row += [f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"]
            print(f"| {' | '.join(row)} | {ranks[0]['reductions']:.3f} |")


def _rank(rank: int, port: int, folder: str, rounds: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    resolvers.register_resolvers()
    for model in COSTS.values():
        found: dict[str, Any] = {"ours": [], "wrapper": []}
        for _ in range(rounds):
            seconds, found["reductions"] = _fit(Path(folder), model, wrapper=False)
            found["ours"].append(seconds)
            found["wrapper"].append(_fit(Path(folder), model, wrapper=True)[0])
        torch.save(found, Path(folder) / f"{model}-{rank}.pt")


def _fit(folder: Path, model: str, wrapper: bool) -> tuple[float, float]:
    """CPU seconds of a batch, and all-reduces for each optimizer step."""
    import torch.distributed as dist

    warm, timed = 5, 15
    words = [f"model={model}", "trainer=ddp_cpu", f"images={64 * (warm + timed)}", "metrics=none"]
    words += [f"model.{player}.width=32" for player in ("generator", "discriminator")]
    cfg = compose(folder, *words)
    build.quieten()
    module, data, clock = build.build_model(cfg), build.make(cfg.data), _Clock(warm, warm + timed)
    trainer = build.build_trainer(cfg, [Record(), Stopping(), clock], [])
    average, reduce, seen = distributed.average_step_, dist.all_reduce, [0]

    def counting(*args: Any, **kwargs: Any) -> Any:
        seen[0] += 1
        return reduce(*args, **kwargs)

    dist.all_reduce = counting
    if wrapper:  # averages at each backward, so the engine need not
        cfg.trainer.strategy = {
            "_target_": f"{DDPStrategy.__module__}.{DDPStrategy.__name__}",
            "process_group_backend": "gloo",
            "find_unused_parameters": True,
        }
        trainer = build.build_trainer(cfg, [Record(), Stopping(), clock], [])
        distributed.average_step_ = lambda *_: None  # type: ignore[assignment]
    try:
        trainer.fit(module, datamodule=data)
    finally:
        distributed.average_step_, dist.all_reduce = average, reduce
    return clock.seconds / timed, (seen[0] - 1) / trainer.global_step  # one reads the losses at the end


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["truth", "cost"])
    parser.add_argument("--rounds", type=int, default=5, help="of the cost, by turns")
    options = parser.parse_args()
    resolvers.register_resolvers()
    torch.set_num_threads(1)
    if options.only != "cost":
        truth()
    if options.only != "truth":
        cost(options.rounds)


if __name__ == "__main__":
    main()
