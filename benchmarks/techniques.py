"""Every technique, loss and augmentation on every variant: each pair trains two batches; writes docs/techniques.md.

    python benchmarks/techniques.py [--cores 2] [--models gan_int_cls]     # the columns of the others stay as they are

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
from matrix import PAGE, TECHNIQUES, TRANSLATORS, VARIANTS, Column, page, read_page

ALL = [*VARIANTS, *TRANSLATORS]


def column(model: str) -> dict[str, list[str]]:
    """The cells of a variant, by choice."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if model in VARIANTS:
            return Column(model, Path(folder) / "run").cells()
        translator = Column(model, Path(folder) / "run", batch_size=4)
        return {choice: translator.alone(choice) for choice in TECHNIQUES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--models", nargs="+", choices=ALL, default=ALL, metavar="MODEL", help="default: all")
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(options.cores) as pool:
        found = dict(zip(options.models, pool.map(column, options.models, chunksize=1), strict=True))
    kept = {} if set(options.models) == set(ALL) else read_page()
    PAGE.write_text(page({model: found[model] if model in found else kept[model] for model in ALL}))
    print(PAGE)


if __name__ == "__main__":
    main()
