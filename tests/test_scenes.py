"""What is done with scenes, on every model that renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from PIL import Image
from support import MODELS, inherited, small

from gan_experiments.assembly import build
from gan_experiments.exploration.latent_space import LatentSpace
from gan_experiments.exploration.orbit import Orbit
from gan_experiments.exploration.shape import Shape
from gan_experiments.exploration.walk import Walk
from gan_experiments.metrics.of_scenes import SceneEvaluator
from gan_experiments.models import scenes

RENDERING = ["pi_gan", "eg3d"]


@pytest.mark.parametrize("name", RENDERING)
def test_turntables_meshes_walks_and_scores(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From one camera and from around; the box and the densities say where the scene is."""
    model: Any = build.build_model(small(tmp_path / "run", name))
    generator = model.generator
    assert scenes.renders(generator)
    space = LatentSpace(model, ema=False, camera=[20, 10])
    assert Orbit(cells=2, steps=3, views=2).explore(space, tmp_path) == 0
    assert Walk(places=2, cells=2, steps=2).explore(space, tmp_path) == 0
    with Image.open(tmp_path / "orbit.gif") as film:
        assert film.n_frames == 3
    points = (torch.rand(2, 50, 3) - 0.5) * generator.box
    densities = generator.densities(space.latents(2), points)
    assert densities.shape == (2, 50)
    assert (densities >= 0).all()
    level = densities.max().item() / 4
    assert Shape(cells=1, resolution=16, level=level).explore(space, tmp_path) == 0
    assert (tmp_path / "shape-00.ply").stat().st_size > 100
    greatest = [Shape(resolution=16).sampled(generator, one[None]).max().item() for one in space.latents(2)]
    thin = greatest.index(min(greatest))
    capsys.readouterr()
    assert Shape(cells=2, resolution=16, level=sum(greatest) / 2).explore(space, tmp_path / "some") == 0
    assert f"scene {thin} is left out: its greatest density is " in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "some").glob("*.ply")] == [f"shape-{1 - thin:02d}.ply"]
    evaluator = SceneEvaluator(num_fake=2, batch_size=2)
    here, there = evaluator.views(model.sampler(0, ema=False), 0, 2)
    assert here.images.shape == there.images.shape
    assert here.depth.shape == here.opacity.shape == (2, 1, *here.images.shape[2:])
    assert not torch.equal(here.images, there.images)


def test_no_other_model_renders() -> None:
    """So that the list above is complete."""
    made = {}
    for name in MODELS:
        nodes = [node.generator for node in inherited(name) if "generator" in node]
        made[name] = next((node._target_ for node in nodes if "_target_" in node), None)
    assert sorted(RENDERING) == [name for name in sorted(made) if made[name] and scenes.renders(get_class(made[name]))]
