"""Every model config goes through the same: compose, check, train, checkpoint, resume, two ranks."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from support import MODELS, difference, small, train

from gan_experiments import build, check, resume
from gan_experiments.models.noise_to_image import NoiseToImage


@pytest.mark.parametrize("model", MODELS)
def test_passes_its_own_check(model: str, tmp_path: Path) -> None:
    check.require(small(tmp_path / "run", model))


@pytest.mark.parametrize("model", MODELS)
def test_each_network_learns_and_every_term_is_finite(model: str, tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", model)
    before = build.build_model(cfg)
    after = train(cfg)
    assert after.images_seen == cfg.images
    assert after.batches == cfg.images // cfg.data.batch_size
    for name in after.network_names:
        pairs = zip(getattr(before, name).parameters(), getattr(after, name).parameters(), strict=True)
        moved = [not torch.equal(old, new) for old, new in pairs]
        assert sum(moved) > len(moved) / 2, f"{name} did not learn"
        assert all(torch.isfinite(p).all() for p in getattr(after, name).parameters())
    assert all(p.requires_grad for name in after.network_names for p in getattr(after, name).parameters())


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(model: str, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch; weights, averages, optimizers, pools and counters."""
    unbroken = small(tmp_path / "unbroken", model)
    train(unbroken, every=10_000)
    broken = small(tmp_path / "broken", model)
    whole, broken.images = broken.images, broken.images // 2
    # The schedules that run to the end of the run must be those of the whole run.
    schedules = {k: v for k, v in unbroken.model.get("schedules", {}).items() if v}
    for name, node in schedules.items():
        broken.model.schedules[name] = dict(node)
    train(broken, every=10_000)
    checkpoint = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    broken.images = whole
    train(broken, checkpoint=checkpoint, every=10_000)

    states = [resume.load(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("unbroken", "broken")]
    for state in states:
        state["gan_experiments"].pop("config")
    assert difference(*states) == {}


@pytest.mark.parametrize("model", MODELS)
def test_sheets_and_samples(model: str, tmp_path: Path) -> None:
    cfg = small(tmp_path / "run", model)
    module, data = build.build_model(cfg), build.make(cfg.data)
    data.prepare_data()
    data.setup("fit")
    cells = module.sheet(module.sheet_inputs(data.fixed(4), 4))
    assert cells.shape[0] == 4
    assert cells.shape[2:] == (cfg.data.channels, cfg.data.resolution, cfg.data.resolution)
    assert cells.min() >= -1
    assert cells.max() <= 1
    if isinstance(module, NoiseToImage):
        draw = module.sampler(seed=3)
        assert torch.equal(draw(5, 2), draw(5, 2))
        assert not torch.equal(draw(5, 2), draw(6, 2))


# ------------------------------------------------------------------------------------------ two ranks


def _config(folder: Path, model: str, *overrides: str) -> Any:
    """In float64, without batch norm where a network can do without, three batches with a generator's step in them."""
    cfg = small(folder, model, "trainer.precision=64-true", *overrides)
    cfg.images = 4 * cfg.data.batch_size
    for node in cfg.model.values():
        if hasattr(node, "get") and "DCGAN" in str(node.get("_target_", "")):
            node.batch_norm = False
    return cfg


CASES = {
    **{model: (model, ()) for model in MODELS},
    "dcgan, accumulation and clipping": ("dcgan", ("trainer.accumulate=2", "model.clip_grad_norm=0.1")),
    "dcgan, augmentation": ("dcgan", ("augment=diffaugment",)),
    "wgan_gp without batch norm": (
        "wgan_gp",
        (
            "model.generator._target_=gan_experiments.networks.dcgan.DCGANGenerator",
            "+model.generator.batch_norm=false",
        ),
    ),
}


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    from gan_experiments import launch

    launch.register_resolvers()
    for name, (model, overrides) in CASES.items():
        ranks = ("trainer=ddp_cpu", "trainer.precision=64-true", *(o for o in overrides if "accumulate" not in o))
        cfg = _config(Path(folder) / name / "run", model, *ranks)
        module = train(cfg)
        torch.save(_weights(module), Path(folder) / f"{name}-{rank}.pt")


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of every case, trained on two ranks, one file a rank."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ["GAN_EXPERIMENTS_CACHE"] = str(folder / "cache")
    torch.multiprocessing.spawn(_rank, (port, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_as_one(case: str, two_ranks: Path) -> None:
    """Equal global batch, float64: the ranks agree exactly, and with one process to rounding where no batch norm is."""
    ours, theirs = (torch.load(two_ranks / f"{case}-{rank}.pt") for rank in (0, 1))
    assert difference(ours, theirs) == {}
    model, overrides = CASES[case]
    alone = train(_config(two_ranks / case / "alone", model, *overrides))
    gaps = difference(_weights(alone), ours)
    assert all(math.isfinite(gap) for gap in gaps.values())
    if not any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in alone.modules()):
        # Adam turns the rounding of a gradient near zero into more than rounding of its step.
        assert max(gaps.values(), default=0.0) < 1e-9
