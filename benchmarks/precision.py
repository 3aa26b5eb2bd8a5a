"""What bfloat16 does to what is learnt: the same trainings in float32 and in bf16-mixed, over seeds.

    python benchmarks/precision.py [--trainings digits emoji ...] [--seeds 0 1 2] [--out FOLDER]

Each run is the command `run.py ... trainer=cpu trainer.precision=... seed=...` with the words of TRAININGS; a run that
is there already is not trained again. The emoji and the pairs of `pix2pix` come from `benchmarks/real_data.py emoji
maps`, and the scores of the emoji need the packages of `metrics=lite0`. Prints a Markdown table with the last scores of
each run, their means and their spread.

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
DATA = "data.root=${oc.env:GAN_EXPERIMENTS_DATA,data}"
NARROW = ["model.generator.width=32", "model.discriminator.width=32"]
FASTER = [f"model.optimizers.{player}.lr=0.0004" for player in ("generator", "discriminator")]
SMALL_PAIRS = [f"{DATA}/maps", "data.resolution=64", "data.load_resolution=72", "model.discriminator.layers=2"]
LITE0 = ["metrics=lite0", "metrics.num_fake=1000", "metrics.threads=1"]
EMOJI = ["data=folder", f"{DATA}/emoji", "data.resolution=32", "data.batch_size=32", *LITE0]
TRAININGS: dict[str, tuple[int, list[str]]] = {
    "digits": (40_000, ["experiment=digits"]),
    "digits_wgan_gp": (40_000, ["experiment=digits_wgan_gp"]),
    "emoji": (30_000, ["model=dcgan", *EMOJI]),
    "emoji_sngan_projection": (
        30_000,
        [
            *("model=sngan_projection", *EMOJI, "data.classes=9", "model.n_critic=1", "model.generator_batch=1"),
            *("model.schedules.generator=null", "model.schedules.discriminator=null", *NARROW, *FASTER),
        ],
    ),
    "pix2pix": (2_000, ["model=pix2pix", "metrics=paired", *SMALL_PAIRS, "data.batch_size=4", *NARROW, *FASTER]),
}
"""The images and the words of each training, small enough for minutes on one core."""


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


def trained(training: str, precision: str, seed: int, out: Path) -> dict[str, float]:
    """Return the last scores of a run, trained now if it is not there."""
    images, given = TRAININGS[training]
    folder = out / f"{training}-{precision}-{seed}-{images}"
    if not (folder / "scores.json").exists():
        words = [*given, "trainer=cpu", f"trainer.precision={precision}", f"seed={seed}"]
        words += [f"images={images}", "trainer.channels_last=true", "logger=csv", f"callbacks.scores.every={images}"]
        words += [f"hydra.run.dir={folder}", "existing=replace"]
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{os.environ.get('PYTHONPATH', '')}"}
        subprocess.run([sys.executable, __file__, "--run", *words], env=environment, check=True, stdout=sys.stderr)
    scores = json.loads((folder / "scores.json").read_text())["last"]["scores"]
    return {name: score["value"] for name, score in scores.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=[*TRAININGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("outputs/precision"))
    options = parser.parse_args()
    print("| training | score | " + " | ".join(f"{p}: each seed; mean ± spread" for p in PRECISIONS) + " |")
    print("|---|---|---|---|")
    for training in options.trainings:
        of = {
            precision: [trained(training, precision, seed, options.out.absolute()) for seed in options.seeds]
            for precision in PRECISIONS
        }
        for score in of[PRECISIONS[0]][0]:
            cells = []
            for precision in PRECISIONS:
                values = [found[score] for found in of[precision]]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                each = ", ".join(f"{value:.4g}" for value in values)
                cells.append(f"{each}; {statistics.mean(values):.4g} ± {spread:.2g}")
            print(f"| {training} | {score} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        command(sys.argv[2:])
    else:
        main()
