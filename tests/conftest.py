"""Every test runs without a network, keeps its caches in a folder of its own and uses one thread."""

from __future__ import annotations

import os
import tempfile

os.environ["OMP_NUM_THREADS"] = "1"  # two workers share two cores
os.environ["WANDB_MODE"] = "offline"
_caches = tempfile.TemporaryDirectory(prefix="gan_experiments-tests-")
for _name in ("GAN_EXPERIMENTS_CACHE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
    os.environ[_name] = os.path.join(_caches.name, _name.lower())

import pytest
import torch

from gan_experiments import launch

torch.set_num_threads(1)
launch.register_resolvers()

SHARED = ("trained", "swept", "two_ranks")  # fixtures that train for long


def pytest_itemcollected(item: pytest.Item) -> None:
    """The tests that share a long training go to the same worker, so that it is done once (`--dist loadgroup`)."""
    for name in set(SHARED) & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.xdist_group(name))
