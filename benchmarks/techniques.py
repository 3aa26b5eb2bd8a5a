"""Every technique, loss and augmentation on every variant: each pair trains two batches; writes docs/techniques.md.

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
from matrix import PAGE, TECHNIQUES, TRANSLATORS, VARIANTS, Column, page


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
    with multiprocessing.get_context("spawn").Pool(parser.parse_args().cores) as pool:
        models = [*VARIANTS, *TRANSLATORS]
        PAGE.write_text(page(dict(zip(models, pool.map(column, models, chunksize=1), strict=True))))
    print(PAGE)


if __name__ == "__main__":
    main()
