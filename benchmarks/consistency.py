"""How well two views of a scene can agree: renders, models that render scenes, and a GAN of images that is told sides.

    python benchmarks/consistency.py                                   # renders of data=posed_shapes alone
    python benchmarks/consistency.py outputs/pi_gan outputs/eg3d       # beside runs that render scenes
    python benchmarks/consistency.py outputs/eg3d outputs/cdcgan       # and one of images:
    gan-experiments model=cdcgan data=posed_shapes data.classes_are=sides data.classes=24

Each scene is seen from two cameras, 15 degrees apart. A GAN of images has no depths, so each pixel that is not white
is given the depth at which the second view has the most similar colour: this is the least reprojection error that any
depths would have. `own` is the score `reprojection`, by the depths that the model says, `best` that least one, `other`
the least one between views of different scenes: what views have that do not agree.
"""

from __future__ import annotations

import argparse
import math
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import cameras
from gan_experiments.conditions import Cameras
from gan_experiments.data.cache import collect
from gan_experiments.data.posed import ShapeViews, seen_from
from gan_experiments.data.volumes import PackedShapes, VolumeSettings
from gan_experiments.inference.run import open_run
from gan_experiments.metrics.measures.reprojection import errors_of
from gan_experiments.metrics.of_scenes import SceneEvaluator
from gan_experiments.models import scenes

DEGREES, DEPTHS, REACH, WHITE = 15.0, 48, 0.14, 0.9
"""Degrees between the cameras, depths tried, how far they go from the middle in parts of the cameras' distance, and the
least value of a white pixel, of 1."""


def best(here: Tensor, there: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The least mean difference [n] of images [n, 3, R, R] in [-1, 1] from two cameras each, [n, 25], by any depths."""
    origins, directions = cameras.rays(first, (here.shape[2], here.shape[3]))
    middle = origins.norm(dim=2, keepdim=True)
    least = torch.full(here.flatten(2).shape[::2], torch.inf)
    for part in torch.linspace(1 - REACH, 1 + REACH, DEPTHS):
        places = cameras.projected(second, origins + part * middle * directions)[0]
        found = F.grid_sample(there, (2 * places - 1)[:, None], padding_mode="border", align_corners=False)[:, :, 0]
        least = least.minimum((found - here.flatten(2)).abs().mean(1) / 2)
    counted = here.flatten(2).amin(1) < 2 * WHITE - 1
    return (least * counted).sum(1) / counted.sum(1).where(counted.any(1), torch.nan)


def shown(name: str, own: Tensor | None, *views: Tensor) -> None:
    """Print a row, of views and cameras as `best` takes them."""
    here, there, first, second = views
    found = [own, best(*views), best(here, there.roll(1, 0), first, second)]
    columns = ("-" if errors is None else f"{errors.nanmean().item():.4f}" for errors in found)
    print(f"{name:30} " + " ".join(f"{column:>8}" for column in columns), flush=True)


def renders(n: int, side: int) -> tuple[Tensor, ...]:
    """Renders of n of the shapes from two cameras."""
    source = ShapeViews(1, n)
    volumes = collect(PackedShapes(), VolumeSettings(32, 1)).pixels[source.shapes].float() / 127.5 - 1
    first = source.cameras
    second = cameras.turned_around(first, math.radians(DEGREES))
    pairs = zip(volumes, first, second, strict=True)
    seen = torch.stack([seen_from(volume[None], torch.stack(pair), side) for volume, *pair in pairs])
    here, there = (seen.float() / 127.5 - 1).unbind(1)
    return here, there, first, second


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--num", type=int, default=142)
    options = parser.parse_args()
    print(f"{'':30} {'own':>8} {'best':>8} {'other':>8}")
    shown("renders", None, *renders(options.num, 32))
    for given in options.runs:
        run = open_run(given, "cpu")
        model: Any = run.model
        if scenes.renders(model.generator):
            here, there = SceneEvaluator(degrees=DEGREES, num_fake=options.num).views(model.sampler(0), 0, options.num)
            shown(given, errors_of(here, there), here.images, there.images, here.cameras, there.cameras)
        else:
            side = torch.arange(options.num) % model.classes
            sector = 2 * math.pi / model.classes
            z = run.noise(options.num, 0)
            here, there = (run.draw(z, label, exact=True) for label in (side, (side + 1) % model.classes))
            known = Cameras(ShapeViews(24).cameras)
            yaw, pitch = sector * (side + 0.5), torch.full((options.num,), math.radians(20))
            shown(given, None, here, there, known.of_angles(yaw, pitch), known.of_angles(yaw + sector, pitch))


if __name__ == "__main__":
    main()
