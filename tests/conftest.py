"""Every test runs without a network, keeps its caches in a folder of its own and uses one thread."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # three workers share two cores
os.environ["WANDB_MODE"] = "offline"
_caches = tempfile.TemporaryDirectory(prefix="gan_experiments-tests-")
for _name in ("GAN_EXPERIMENTS_CACHE", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "HF_HOME"):
    os.environ[_name] = os.path.join(_caches.name, _name.lower())

for _name in ("http_proxy", "https_proxy"):
    os.environ[_name] = "http://127.0.0.1:9"  # where nobody answers: no network for the processes that tests start
os.environ["no_proxy"] = "localhost,127.0.0.1"

from pathlib import Path

import composing
import pytest
import torch
import yaml
from lightning.fabric.utilities import registry
from PIL import Image

from gan_experiments import processes
from gan_experiments.runs import resolvers

torch.set_num_threads(1)
processes.keep_freed_memory()
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a quarter less for each of thousands of configs
resolvers.register_resolvers()
composing.once()
registry.entry_points = cache(registry.entry_points)  # a hundredth of the time here, for nothing

_connect = socket.socket.connect


def _connect_here(self: socket.socket, address: Any) -> None:
    """Refuse what is not on this machine, so that a test which needs the network fails wherever it runs."""
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise OSError("the tests have no network")
    _connect(self, address)


socket.socket.connect = _connect_here  # type: ignore[method-assign]

SHARED = ("bare_machine", "trained", "swept", "two_ranks")  # fixtures that train for long


def pytest_itemcollected(item: pytest.Item) -> None:
    """The tests that share a long training go to the same worker, so that it is done once (`--dist loadgroup`)."""
    for name in set(SHARED) & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.xdist_group(name))
    model = (
        item.callspec.params.get("model") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    )
    if model is not None and "variants" in item.fixturenames:  # type: ignore[attr-defined]
        item.add_marker(pytest.mark.xdist_group(f"variant {model}"))


def pytest_collection_finish() -> None:
    """What was imported and collected is no garbage: it is not looked for there again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Gives a small run of a variant by its name, a `support.Variant`, which is trained when it is first asked for."""
    from support import Variant

    folder = tmp_path_factory.mktemp("variants")
    return cache(lambda model: Variant.trained(folder / model, model))


@pytest.fixture(scope="session")
def bare_machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few images and a small run of several models in `runs/`, and nothing that is downloaded."""
    from support import small, write_images

    from gan_experiments.verbs import run

    folder = tmp_path_factory.mktemp("bare")
    for name in (
        "holiday",
        "scans",
        "restored",
        "originals",
        "emoji",
        *(f"folder{x}/{c}" for x in "ABC" for c in "ab"),
    ):
        write_images(folder / name, 4, size=32, seed=len(name))
    Image.open(folder / "holiday" / "0.png").save(folder / "photo.jpg")
    holes = Image.new("L", (32, 32))
    holes.paste(255, (8, 8, 24, 24))
    holes.save(folder / "holes.png")
    words = ["callbacks=default", "logger=csv", "data.batch_size=4", "images=8"]
    digits = ["metrics=digits", "metrics.num_fake=8", "metrics.num_real=8", "data.limit=64"]
    for model in ("dcgan", "cdcgan", "stylegan2", "gan_int_cls"):
        run.run(small(folder / "runs" / model, model, *words, *digits))
    for model in ("cyclegan", "context_encoder_random", "pix2pix"):
        run.run(small(folder / "runs" / model, model, *words))
    return folder
