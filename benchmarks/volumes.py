"""How near volumes of a run come to real ones, beside what costs nothing: a table of scores.

    python src/gan_experiments/run.py experiment=shapes output=outputs/shapes
    python benchmarks/volumes.py outputs/shapes

"at random" occupies as many voxels as real shapes do, anywhere; "the mean shape" is the voxels that most real shapes
occupy, as many as these; "real ones again" are real shapes drawn at random, as good as a generator that copies.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from gan_experiments.assembly import build
from gan_experiments.inference.run import open_run
from gan_experiments.runs import configs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--num", type=int, default=500)
    options = parser.parse_args()
    run = open_run(options.run, "cpu")
    data = run.data()
    data.prepare_data()
    data.setup("fit")
    judge = build.make(configs.of_choice("metrics", "volumes"), num_fake=options.num)
    real = judge.real(data)
    volumes = real.images(0, len(real))
    mean = (volumes > 127).float().mean(0)
    occupied = mean.mean()
    shape = (mean >= mean.flatten().quantile(1 - occupied.item())).float() * 2 - 1

    def drawn(index: int) -> torch.Generator:
        return torch.Generator().manual_seed(index)

    def at_random(index: int, n: int) -> Tensor:
        return (torch.rand(n, *volumes.shape[1:], generator=drawn(index)) < occupied).float() * 2 - 1

    def again(index: int, n: int) -> Tensor:
        return volumes[torch.randint(len(volumes), (n,), generator=drawn(index))].float() / 127.5 - 1

    sampler = run.model.sampler(0, bool(run.model.averages))  # type: ignore[operator]
    made: dict[str, Callable[[int, int], Tensor]] = {
        "at random": at_random,
        "the mean shape": lambda index, n: shape.expand(n, *shape.shape),
        f"{run.model.model_name}, {run.model.images_seen:,} images": sampler,
        "real ones again": again,
    }
    for row, (name, sample) in enumerate(made.items()):
        scores = judge.evaluate(sample, real, "cpu", ema=True)
        if not row:
            print(f"| | {' | '.join(f'`{score}`' for score in scores)} |\n|---|{'---|' * len(scores)}")
        print(f"| {name} | {' | '.join(f'{score.value:.4g}' for score in scores.values())} |", flush=True)


if __name__ == "__main__":
    main()
