"""GAN experiments on PyTorch Lightning: see `run.py`."""

__version__ = "0.1.0"

from gan_experiments.imports import lighten

lighten()
