"""Does the health callback see the failures, and nothing in healthy runs? Provokes each on the digits.

    python benchmarks/health.py                                   # about 10 minutes on one core
    python benchmarks/health.py --cases saturated healthy_dcgan
    python benchmarks/health.py --images 250000 --cases healthy_dcgan

Beside each healthy run stands how near it came to an alarm, over as many looks in a row as an alarm takes.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "src" / "gan_experiments" / "run.py"
D_LR, G_LR = "model.optimizers.discriminator.lr", "model.optimizers.generator.lr"
SOON = ["callbacks.health.every=1000", "callbacks.health.warm_up=5000"]
CASES = {  # what is provoked: images, words
    "saturated": (15_000, ["experiment=digits", f"{G_LR}=1e-5"]),
    "vanished": (40_000, ["experiment=digits", "loss=minimax", f"{G_LR}=1e-5"]),
    "collapsed": (8_000, ["experiment=digits", f"{D_LR}=1e-5", f"{G_LR}=2e-3", *SOON]),
    "exploded": (15_000, ["experiment=digits_wgan_gp", "model.gp_weight=0"]),
    "not_finite": (5_000, ["experiment=digits_wgan_gp", f"{D_LR}=1e30"]),
    "stop": (15_000, ["experiment=digits", f"{G_LR}=1e-5", "callbacks.health.action=stop"]),
    "back": (
        15_000,
        [
            "experiment=digits",
            f"{D_LR}=1",
            f"{G_LR}=1",
            "callbacks.health.action=back",
            "callbacks.health.back_rate=1e-3",
        ],
    ),
    "healthy_dcgan": (25_000, ["experiment=digits"]),
    "healthy_wgan_gp_dcgan": (15_000, ["experiment=digits_wgan_gp"]),
    "healthy_least_squares": (25_000, ["experiment=digits", "loss=least_squares"]),
    "healthy_hinge": (25_000, ["experiment=digits", "loss=hinge"]),
}
PATIENCE = 3


def train(folder: Path, words: list[str]) -> tuple[list[str], int]:
    """Run the command; the lines of the health callback and the exit status."""
    command = [sys.executable, str(RUN), "logger=csv", "metrics=none", *words, f"hydra.run.dir={folder}"]
    status = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode
    return re.findall(r": health: (.*)", (folder / "run.log").read_text()), status


def nearest(folder: Path) -> str:
    """How near a run came to an alarm."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))

    def column(name: str) -> list[float]:
        return [float(row[name]) for row in rows if row.get(name)]

    def in_a_row(values: list[float]) -> list[list[float]]:
        return [values[i : i + PATIENCE] for i in range(len(values) - PATIENCE + 1)] or [[math.nan]]

    parts = [f"D's loss {min(map(max, in_a_row(column('discriminator/adversarial')))):.2g}"]
    norms = column("gradient_norm/generator")
    usual = [max(norms[0], statistics.median(norms[max(0, i - 100) : i])) for i in range(1, len(norms))]
    looks = in_a_row([norm / before for norm, before in zip(norms[1:], usual, strict=True)])
    parts.append(f"the generator's gradient {min(map(max, looks)):.2g} of usual")
    for player in ("generator", "discriminator"):
        norms = column(f"gradient_norm/{player}")
        looks = in_a_row([norm / norms[0] for norm in norms])
        parts.append(f"the {player}'s {max(map(min, looks)):.2g} times that at the start")
    twins = column("health/twins")
    return ", ".join([*parts, f"twins {twins[0]:.0%} first, {max(twins[1:]):.0%} at most later"])


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("outputs/health"))
    parser.add_argument("--images", type=int, help="for every case")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| case | typed | images | exit | said |\n|---|---|---|---|---|")
    for name in options.cases:
        images, words = CASES[name]
        images = options.images or images
        folder = options.out / f"{name}-{options.seed}-{images}"
        said, status = train(folder, [*words, f"images={images}", f"seed={options.seed}"])
        lines = "<br>".join(said) or f"nothing; {nearest(folder)}"
        print(f"| {name} | `{' '.join(words)}` | {images:,} | {status} | {lines} |", flush=True)


if __name__ == "__main__":
    main()
