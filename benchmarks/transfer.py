"""What does it help to begin with another run? 200 images of one kind, from scratch and from a run on other kinds.

    nohup python benchmarks/transfer.py > transfer.md &   # 3 CPU minutes for the others, 9 of half a minute, scores

DCGAN, reduced as in learning.py, on 200 bags of Fashion-MNIST at 32 pixels: from random weights, from a run on the
nine other kinds of its clothes (`model.pretrained=`), and with the first layers of the discriminator frozen as well
(`technique=[freeze_d]`). All have as many minutes, and are scored against 2,000 bags. What has been run is only
read, what was interrupted goes on where it was. Needs `python benchmarks/real_data.py fashion_mnist`, and the two
packages that conf/metrics/lite0.yaml names.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from learning import DATA, Cell
from PIL import Image

BAG = 8
FEW, OTHERS = 200, 1000  # bags to train on, and images of each other kind
MODEL = "dcgan"
COLUMNS = ("kid", "fid", "precision", "recall", "coverage")


def images(out: Path, root: Path) -> Path:
    """Write the images to train on and to score against as folders of PNG, once; return the folder of these."""
    folder = out.resolve() / "images"
    if (folder / "done").exists():
        return folder
    raw = root / "FashionMNIST" / "raw"
    pixels = np.frombuffer(gzip.decompress((raw / "train-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((raw / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    kinds = {kind: np.flatnonzero(labels == kind).tolist() for kind in range(10)}
    others = [number for kind, numbers in kinds.items() if kind != BAG for number in numbers[:OTHERS]]
    for name, numbers in (("bags", kinds[BAG]), ("few", kinds[BAG][:FEW]), ("others", others)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.fromarray(pixels.reshape(-1, 28, 28)[number]).save(folder / name / f"{number:05}.png")
    (folder / "done").touch()
    return folder


class Timed(Cell):
    """A run of some minutes. Nothing in it is scheduled in images, so it need not know how many they make."""

    def _images(self) -> int:
        return 10**9


class Others(Timed):
    """The run to begin with. Nobody scores it."""

    def _found(self) -> dict[str, Any]:
        return {}


def cells(options: argparse.Namespace, folder: Path) -> tuple[Cell, dict[str, list[Cell]]]:
    """The run on the others, and the runs on the few of each row."""
    grey = ["data=folder", "data.resolution=32", "data.channels=1"]
    DATA["others"] = [*grey, f"data.root='{folder / 'others'}'", "metrics=none"]
    scores = ["metrics=lite0", "metrics.split=test", "metrics.num_fake=500", "metrics.num_real=2000"]
    scores += ["metrics.kid_subset_size=500", "metrics.threads=1", "callbacks.scores.at_start=false"]
    DATA["few"] = [*grey, f"data.root='{folder / 'few'}'", f"data.test_root='{folder / 'bags'}'", *scores]
    source = Others(MODEL, "others", 0, options.source_minutes, options.out)
    begun = [f"model.pretrained='{source.folder}'"]
    rows = {
        "from scratch": ("", []),
        "`model.pretrained=`": ("pretrained", begun),
        "`model.pretrained= technique=[freeze_d]`": ("frozen", [*begun, "technique=[freeze_d]"]),
    }
    return source, {
        title: [Timed(MODEL, "few", seed, options.minutes, options.out, name, tuple(words)) for seed in options.seeds]
        for title, (name, words) in rows.items()
    }


def row(title: str, results: list[dict[str, Any]]) -> str:
    """The means over the seeds, and the KID of each."""
    after = [result["trained"] for result in results]
    means = [f"{statistics.mean(scores[name] for scores in after):.3g}" for name in COLUMNS]
    each = ", ".join(f"{scores['kid']:.3g}" for scores in after)
    seen = f"{statistics.mean(result['images'] for result in results):,.0f}"
    return f"| {' | '.join([title, seen, *means, each])} |"


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.5, help="CPU minutes of each run (%(default)g)")
    parser.add_argument("--source-minutes", type=float, default=3, help="of the run on the others (%(default)g)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("outputs/transfer"), help="folder for the runs")
    return parser.parse_args(words)


def main() -> None:
    """Train what has not been trained, and print the table."""
    options = parsed()
    os.nice(19)
    folder = images(options.out, Path(os.environ.get("GAN_EXPERIMENTS_DATA", "data")))
    source, rows = cells(options, folder)
    source.result()
    results: dict[str, list[dict[str, Any]]] = {title: [] for title in rows}
    for number in range(len(options.seeds)):  # seed by seed, so that a broken off table compares what is alike
        for title, runs in rows.items():
            results[title].append(runs[number].result())
    titles = ["200 bags", "images", *(name.upper() if len(name) == 3 else name for name in COLUMNS)]
    print(f"| {' | '.join([*titles, 'KID of each seed'])} |\n|{'---|' * (len(titles) + 1)}")
    for title, found in results.items():
        print(row(title, found))
    print(f"\n{found[0]['date']}, {found[0]['machine']}; {options.minutes:g} CPU minutes each")


if __name__ == "__main__":
    sys.exit(main())
