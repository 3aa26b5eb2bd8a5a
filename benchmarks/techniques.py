"""Every technique, loss and augmentation on every variant: trains each pair for two batches and prints docs/techniques.md.

    python benchmarks/techniques.py [--cores 2]

tests/test_techniques.py compares the page with what it finds itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from matrix import CHOICES, PAGE, VARIANTS, cell, page, variant


def column(model: str) -> dict[str, str | None]:
    """The cells of a variant, by choice."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        base = variant(model, Path(folder) / "run")
        return {choice: cell(base, group, choice) for group, choice in CHOICES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=1)
    with multiprocessing.get_context("spawn").Pool(parser.parse_args().cores) as pool:
        PAGE.write_text(page(dict(zip(VARIANTS, pool.map(column, VARIANTS, chunksize=1), strict=True))))
    print(PAGE)


if __name__ == "__main__":
    main()
