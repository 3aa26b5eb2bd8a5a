"""Train a model: `python src/gan_experiments/run.py model=wgan_gp data=celeba`, or `gan-experiments model=...`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: import the package, not its files
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from gan_experiments.launch import entry

if __name__ == "__main__":
    entry.do("run")
