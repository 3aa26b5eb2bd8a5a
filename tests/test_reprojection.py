"""Reprojection: views of one scene from two cameras, by hand and of a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support import small
from torch import Tensor

from gan_experiments import cameras
from gan_experiments.assembly import build, check
from gan_experiments.contracts import ConfigError
from gan_experiments.metrics.measures.reprojection import Reprojection, Seen, errors_of
from gan_experiments.metrics.of_scenes import SceneEvaluator
from gan_experiments.metrics.request import Request

HERE = cameras.joined(cameras.on_sphere(torch.tensor([0.2]), torch.tensor([0.3]), 2.7), cameras.intrinsics_of(18.837))
THERE = cameras.turned_around(HERE, math.radians(15))


def painted(camera: Tensor, height: float = 0.0, shift: float = 0.0, side: int = 64) -> Seen:
    """What a camera sees of a plane at a height, wider than its view, painted by place; `shift` moves the paint."""
    origins, directions = cameras.rays(camera, side)
    depth = ((height - origins) / directions)[..., 1]
    points = origins + depth[..., None] * directions
    colours = torch.stack([(12 * points[..., axis] + shift).sin() for axis in (0, 2, 0)], 1)
    shape = (1, 1, side, side)
    return Seen(colours.unflatten(2, (side, side)), depth.view(shape), torch.ones(shape), camera)


def test_the_cameras_are_moved_around() -> None:
    yaw, pitch = cameras.angles_of(THERE)
    assert yaw.item() == pytest.approx(0.2 + math.radians(15), abs=1e-6)
    assert pitch.item() == pytest.approx(0.3, abs=1e-6)
    again = cameras.joined(cameras.on_sphere(yaw, pitch, 2.7), cameras.intrinsics_of(18.837))
    assert torch.allclose(THERE, again, atol=1e-6)


def test_views_of_one_plane_agree() -> None:
    """But for interpolation; not with wrong depths, nor if the paint moves with the camera, nor upside down."""
    here, there = painted(HERE), painted(THERE)
    assert errors_of(here, there).item() < 0.01
    nearer = here._replace(depth=here.depth * 0.97)
    assert errors_of(nearer, there).item() > 0.05
    assert errors_of(here, painted(THERE, shift=0.5)).item() > 0.05
    assert errors_of(here._replace(images=here.images.flip(2)), there).item() > 0.1


def test_a_known_difference() -> None:
    """Two grey views differ by half of the range."""
    here, there = painted(HERE), painted(THERE)
    here = here._replace(images=torch.full_like(here.images, 0.5))
    there = there._replace(images=torch.full_like(there.images, -0.5))
    metric = Reprojection()
    metric.update(here, there)
    value: Any = metric.compute()
    assert value.item() == pytest.approx(0.5)


def test_what_is_hidden_or_empty_is_left_out() -> None:
    """Behind what the other camera sees nothing is compared, in front of it all is; empty rays do not count."""
    here, there = painted(HERE), painted(THERE)
    black = there._replace(images=torch.full_like(there.images, -1.0))
    assert errors_of(here, black._replace(depth=there.depth * 0.9)).isnan().all()
    assert errors_of(here, black._replace(depth=there.depth * 1.1)).item() > 0.3
    empty = here._replace(opacity=torch.zeros_like(here.opacity))
    assert errors_of(empty, there).isnan().all()
    assert math.isnan(Reprojection().values(errors_of(empty, there))["reprojection"][0])


def test_the_score_of_a_model(tmp_path: Path) -> None:
    """The same on one rank and on chunks of two; with its passport; a model of images is refused."""
    model: Any = build.build_model(small(tmp_path / "run", "pi_gan"))
    evaluator = SceneEvaluator(num_fake=6, batch_size=4)
    real = evaluator.real(build.make(small(tmp_path / "run", "pi_gan").data))
    found = evaluator.measure(model.sampler(0, ema=False), real, Request("cpu", ema=False)).scores["reprojection"]
    assert 0 < found.value < 1
    assert found.passport["estimator"].startswith("mean absolute difference in parts of the range, one view warped")
    assert found.passport["num_fake"] == 6
    again = evaluator.measure(model.sampler(0, ema=False), real, Request("cpu", ema=False)).scores["reprojection"]
    assert again == found
    still = SceneEvaluator(num_fake=6, batch_size=4, degrees=0.01)
    assert (
        still.measure(model.sampler(0, ema=False), real, Request("cpu", ema=False)).scores["reprojection"].value < 1e-2
    )
    plain: Any = build.build_model(small(tmp_path / "run", "dcgan"))
    with pytest.raises(ConfigError, match="metrics=reprojection: DCGANGenerator draws images and no scenes"):
        evaluator.measure(plain.sampler(0, ema=False), real, Request("cpu", ema=False))
    with pytest.raises(ConfigError, match=r"metrics\.scores=\[fid\]: type metrics\.scores=\[reprojection\]"):
        SceneEvaluator(scores=["fid"])
    cfg = small(tmp_path / "run", "dcgan", "metrics=reprojection")
    assert any("is of rendered scenes, and this model draws images" in fault for fault in check.faults(cfg))
    assert not [*check.faults(small(tmp_path / "run", "pi_gan", "metrics=reprojection"))]
