"""Does each variant learn? Trains it on real images and prints its scores before and after.

    python benchmarks/learning.py                       # DCGAN and WGAN-GP on the digits, about 15 minutes on two cores
    python benchmarks/learning.py --cases dcgan --out outputs/learning --seed 1

A case that was interrupted goes on where it was; one that is done is only read.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "src" / "gan_experiments" / "run.py"
CASES = {
    "dcgan": ["experiment=digits"],
    "wgan_gp_dcgan": ["experiment=digits_wgan_gp"],
}


def train(folder: Path, words: list[str]) -> None:
    """Run the command, or what is left of it."""
    last = folder / "checkpoints" / "last.ckpt"
    if not (folder / "finished").exists():
        started = [f"ckpt={last}"] if last.exists() else [*words, f"hydra.run.dir={folder}"]
        subprocess.run([sys.executable, str(RUN), *started], check=True)
        (folder / "finished").touch()


def row(name: str, folder: Path) -> str:
    """One line of the table."""
    scores = json.loads((folder / "scores.json").read_text())
    first, last = scores["history"][0], scores["history"][-1]
    with (folder / "metrics.csv").open() as file:
        speeds = [float(r["images_per_second"]) for r in csv.DictReader(file) if r["images_per_second"]]
    fid, inception = next(k for k in last if k.startswith("fid")), next(k for k in last if k.startswith("is"))
    minutes = last["images"] / (sum(speeds) / len(speeds)) / 60
    return (
        f"| {name} | {last['images']:,} | {minutes:.1f} | {first[fid]:.1f} -> {last[fid]:.2f}"
        f" | {first[fid] / last[fid]:.0f} | {first[inception]:.2f} -> {last[inception]:.2f} |"
    )


def main() -> None:
    """Train what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("outputs/learning"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folders = {name: options.out / f"{name}-{options.seed}" for name in options.cases}
    for name, folder in folders.items():
        train(folder, [*CASES[name], f"seed={options.seed}"])
    print("\n| model | images | minutes of training | fid_digits | fall | is_digits |\n|---|---|---|---|---|---|")
    for name, folder in folders.items():
        print(row(name, folder))


if __name__ == "__main__":
    main()
