"""What bfloat16 does to what is learnt: the same trainings in float32 and in bf16-mixed, over seeds.

    python benchmarks/precision.py [--experiments digits digits_wgan_gp] [--images 40000] [--seeds 0 1 2] [--out ...]

Each run is the command `run.py experiment=... trainer=cpu trainer.precision=... seed=...`; a run that is there already
is not trained again. Prints a Markdown table with the last scores of each run, their means and their spread.

A processor without instructions for bfloat16 takes twenty times as long for a convolution in it. There the products
are computed in float32 on inputs rounded to bfloat16, and their results are rounded to bfloat16, forwards and
backwards. This is what the instructions do, which also add up in float32; only the order of the sums differs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RUN = REPOSITORY / "src" / "gan_experiments" / "run.py"
PRECISIONS = ("32-true", "bf16-mixed")


def emulate() -> None:
    """Compute the products of autocast to bfloat16 in float32, on rounded inputs and with rounded results."""
    import torch

    def rounded(product: Callable[..., Any]) -> Callable[..., Any]:
        def on_rounded(x: Any, weight: Any, bias: Any = None, *others: Any, **named: Any) -> Any:
            if not torch.is_autocast_enabled("cpu"):
                return product(x, weight, bias, *others, **named)
            with torch.autocast("cpu", enabled=False):
                given = [None if t is None else t.bfloat16().float() for t in (x, weight, bias)]
                return product(*given, *others, **named).bfloat16()

        return on_rounded

    for name in ("conv2d", "conv_transpose2d", "linear"):
        setattr(torch.nn.functional, name, rounded(getattr(torch.nn.functional, name)))


def command(words: list[str]) -> None:
    """Run a training in this process, with bfloat16 emulated where the processor does not compute it."""
    from gan_experiments.assembly import fastest
    from gan_experiments.launch import entry

    if "trainer.precision=bf16-mixed" in words and not fastest.computes_bfloat16("cpu"):
        emulate()
    sys.argv = [str(RUN), *words]
    entry.main()


def trained(experiment: str, precision: str, seed: int, images: int, out: Path) -> dict[str, float]:
    """Return the last scores of a run, trained now if it is not there."""
    folder = out / f"{experiment}-{precision}-{seed}-{images}"
    if not (folder / "scores.json").exists():
        words = [f"experiment={experiment}", "trainer=cpu", f"trainer.precision={precision}", f"seed={seed}"]
        words += [f"images={images}", "trainer.channels_last=true", "logger=csv", f"callbacks.scores.every={images}"]
        words += [f"hydra.run.dir={folder}", "existing=replace"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
        subprocess.run([sys.executable, __file__, "--run", *words], env=environment, check=True, stdout=sys.stderr)
    scores = json.loads((folder / "scores.json").read_text())["last"]["scores"]
    return {name: score["value"] for name, score in scores.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", default=["digits", "digits_wgan_gp"])
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("outputs/precision"))
    options = parser.parse_args()
    print("| experiment | score | " + " | ".join(f"{p}: each seed; mean ± spread" for p in PRECISIONS) + " |")
    print("|---|---|---|---|")
    for experiment in options.experiments:
        of = {
            precision: [
                trained(experiment, precision, seed, options.images, options.out.absolute()) for seed in options.seeds
            ]
            for precision in PRECISIONS
        }
        for score in of[PRECISIONS[0]][0]:
            cells = []
            for precision in PRECISIONS:
                values = [found[score] for found in of[precision]]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                each = ", ".join(f"{value:.4g}" for value in values)
                cells.append(f"{each}; {statistics.mean(values):.4g} ± {spread:.2g}")
            print(f"| {experiment} | {score} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        command(sys.argv[2:])
    else:
        main()
