"""Do the orderings of the papers show at this scale? As many images for each, several seeds.

    nohup python benchmarks/orderings.py > orderings.md &              # of digits: three seeds, 60,000 images each
    python benchmarks/orderings.py augmentation --images 500000 --seeds 0 1 2 3 4
    python benchmarks/orderings.py ada --images 200000 --seeds 0       # see learning.py for what the emoji need

ada             StyleGAN2 on 500 emoji of the 1,906, without and with ADA. Scored against all.
augmentation    DCGAN on 500 digits of the 5,000: none, DiffAugment and ADA. Scored against all.
conditioning    a class-conditional DCGAN, its discriminator told the class by concatenation and by projection;
                `intra_fid` is the mean over the classes of the FID within one.
modes           DCGAN, with minibatch discrimination, unrolled, as WGAN-GP: how much of the digits each finds.

A row has the mean over the seeds and each seed's FID. What has been run is only read, as in learning.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from learning import DATA, Cell, composed

EVALUATE = ("-m", "gan_experiments", "evaluate")
# p may reach 1 in 100,000 images: a run here sees about as many, and not 25 million.
ADA = ("augment=ada", "augment.speed=100000")
FEW = "data.limit=500"
ORDERINGS: dict[str, dict[str, tuple[str, str, tuple[str, ...]]]] = {  # title -> model, name, words
    "ada": {
        "none": ("stylegan2", "few", (FEW,)),
        "ADA": ("stylegan2", "few-ada", (FEW, *ADA)),
    },
    "augmentation": {
        "none": ("dcgan", "few", (FEW,)),
        "DiffAugment": ("dcgan", "few-diffaugment", (FEW, "augment=diffaugment")),
        "ADA": ("dcgan", "few-ada", (FEW, *ADA)),
    },
    "conditioning": {
        "concatenation": ("cdcgan", "concatenation", ("model.discriminator.conditioning=concatenation",)),
        "projection": ("cdcgan", "projection", ("model.discriminator.conditioning=projection",)),
    },
    "modes": {
        "DCGAN": ("dcgan", "", ()),
        "minibatch discrimination": ("dcgan", "minibatch", ("model.discriminator.minibatch=discrimination",)),
        "unrolled": ("unrolled_gan_dcgan", "", ()),
        "WGAN-GP": ("wgan_gp_dcgan", "", ()),
    },
}
EMOJI = ("ada",)  # the others are of digits
COLUMNS = ("fid", "intra_fid", "kid", "is", "precision", "recall", "coverage", "memorised")
EACH = {"fid": ".2f", "coverage": ".3f"}  # which are shown of each seed too


def scores(cell: Cell) -> dict[str, float]:
    """Of the last checkpoint, against all of the data; trained first where it has not been."""
    cell.result()
    path = cell.folder / "all" / "against-all.json"
    if not path.exists():
        words = [f"run='{cell.folder}'", f"out='{path.parent}'", *DATA[cell.data], "device=cpu", "trust=learning"]
        if cell.data == "digits" and composed(*cell.words).model.generator.get("classes"):
            words.append("by_class=true")
        with (cell.folder / "printed.log").open("a") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, *EVALUATE, *words], env=environment, stdout=log, check=True)
        next(path.parent.glob("scores-*.json")).rename(path)
    found = json.loads(path.read_text())["scores"]
    return {name.rpartition("_")[0]: score["value"] for name, score in found.items()}


def row(title: str, runs: list[dict[str, float]]) -> str:
    """Means over the seeds, and the FID and the coverage of each."""
    means = [f"{statistics.mean(run[name] for run in runs):.3g}" if name in runs[0] else "" for name in COLUMNS]
    each = [", ".join(format(run[name], form) for run in runs) for name, form in EACH.items()]
    return f"| {' | '.join([title, *means, *each])} |"


def main() -> None:
    """Train what is asked for, and print a table for each ordering."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = f"of {', '.join(ORDERINGS)} (default: those of digits)"
    parser.add_argument("orderings", nargs="*", metavar="ORDERING", help=told)
    parser.add_argument("--images", type=int, default=60_000, help="the length of each run (default 60,000)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("outputs/learning"), help="folder for the runs")
    options = parser.parse_args()
    if unknown := set(options.orderings) - set(ORDERINGS):
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(ORDERINGS)}")
    os.nice(19)
    for name in options.orderings or [name for name in ORDERINGS if name not in EMOJI]:
        print(f"\n**{name}**, {options.images:,} images, seeds {', '.join(map(str, options.seeds))}\n")
        titles = [*COLUMNS, *(f"{name} of each" for name in EACH)]
        print(f"| | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 1)}", flush=True)
        data = "emoji" if name in EMOJI else "digits"
        for title, (model, label, words) in ORDERINGS[name].items():
            cells = [Cell(model, data, seed, 0.0, options.out, label, words, options.images) for seed in options.seeds]
            print(row(title, [scores(cell) for cell in cells]), flush=True)


if __name__ == "__main__":
    main()
