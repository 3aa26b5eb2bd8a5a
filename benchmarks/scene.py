"""Whether three planes and a decoder can hold a shape: EG3D's renderer fitted to pictures of one, with known cameras.

    python benchmarks/scene.py                 # a chair of data=shapes, 24 views of 32x32; a minute of one core
    python benchmarks/scene.py --shape 3 --steps 400 --out scene.png
    python benchmarks/scene.py --speed --official eg3d/eg3d    # rays a second; a folder of a checkout of NVlabs/eg3d

Prints the PSNR of views that were fitted and of views that were not, and writes pairs of these: true, rendered. It is
the check that comes before any adversarial training of such a generator.

`--speed` renders with the settings of the authors' networks of faces and of cars, forwards and backwards, on one core,
and prints rays a second of CPU time; with `--official` of the authors' renderer too, and how far both agree.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from gan_experiments import cameras, drawing
from gan_experiments.data.volumes import Shapes
from gan_experiments.layers.volume_rendering import OFFICIAL_AXES, render
from gan_experiments.networks import eg3d as networks
from gan_experiments.rendering import seen_along

RADIUS, NEAR, FAR, FIELD = 2.7, 1.8, 3.6, 24.0
BOX = 1.1


def views(volume: Tensor, number: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cameras [n, 25] on a sphere, and what they see of a volume, float [n, side², 3] in [-1, 1]."""
    draw = torch.Generator().manual_seed(seed)
    yaw = torch.rand(number, generator=draw) * 2 * math.pi
    pitch = torch.rand(number, generator=draw) * 0.9 - 0.1
    found = cameras.joined(cameras.on_sphere(yaw, pitch, RADIUS), cameras.intrinsics_of(FIELD))
    flip = torch.tensor([1.0, -1.0, -1.0])  # the world's y is upwards and its z to the front
    pictures = []
    for origins, directions in zip(*cameras.rays(found, side), strict=True):
        start = (origins + NEAR * directions) * flip
        shape = (side, side, 3)
        pictures.append(seen_along(volume, start.view(shape), (directions * flip).view(shape), FAR - NEAR)[0])
    seen = torch.stack(pictures).flatten(2).transpose(1, 2)
    return found, seen.float() / 127.5 - 1


class Decoder(nn.Module):
    """EG3D's: one hidden layer of softplus; colours within a little more than [0, 1], densities as they are."""

    def __init__(self, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, hidden), nn.Softplus(), nn.Linear(hidden, 4))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        made = self.layers(features)
        return torch.sigmoid(made[..., 1:]) * 1.002 - 0.001, made[..., :1]


def psnr(made: Tensor, true: Tensor) -> float:
    return -10 * math.log10(((made.clamp(-1, 1) - true) / 2).square().mean().item())


SPEEDS = {"faces": (48, 2.25, 3.3, 1.0, False, 2.7), "cars": (64, 0.1, 2.6, 1.6, True, 1.7)}
"""Samples of either kind on a ray, near, far, box, whether white is behind, and how far away cameras are."""
SIDE = 64


def speed(official: Path | None, repeats: int) -> None:
    """Print rays a second of CPU time, without gradients and with them, of planes of 256 pixels at 64x64 rays."""
    print(f"{'':28}{'forward':>12}{'with gradients':>16}  rays a second of one core")
    for name, settings in SPEEDS.items():
        kinds = rendered_by(official, *settings)
        seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for _ in range(repeats):  # in turns, so that a busy machine is so for both
            for kind, rendered in kinds.items():
                seconds[kind].append((cpu_seconds(rendered, False), cpu_seconds(rendered, True)))
        for kind, times in seconds.items():
            found = [SIDE**2 / statistics.median(column) for column in zip(*times, strict=True)]
            print(f"{name + ', ' + kind:28}{found[0]:12,.0f}{found[1]:16,.0f}", flush=True)
        drawn = []
        for rendered in kinds.values():
            torch.manual_seed(1)
            drawn.append(rendered().detach())
        if len(drawn) > 1:
            print(f"{'':28}both agree to {(drawn[0] - drawn[1]).abs().max().item():.1e}")


def rendered_by(
    official: Path | None, samples: int, near: float, far: float, box: float, white: bool, radius: float
) -> dict[str, Callable[[], Tensor]]:
    """Return what renders random planes here, and with a folder by the authors' modules with the same weights."""
    decoder = networks.Decoder(32, 64, 32)
    planes = torch.randn(1, 3, 32, 256, 256, requires_grad=True)
    pose = cameras.on_sphere(torch.tensor([0.3]), torch.tensor([0.2]), radius)
    rays = cameras.rays(cameras.joined(pose, cameras.intrinsics_of(FIELD)), SIDE)
    ends = near, far, box, samples, samples, white
    kinds = {"here": lambda: render(planes, decoder, *rays, *ends, torch.rand, OFFICIAL_AXES).colours}
    if official is not None:
        if not (official / "training" / "triplane.py").is_file():
            sys.exit(f"--official {official}: there is no training/triplane.py; give the folder eg3d/ of NVlabs/eg3d")
        sys.path.insert(0, str(official))
        from training.triplane import OSGDecoder
        from training.volumetric_rendering.renderer import ImportanceRenderer

        made, renderer = OSGDecoder(32, {"decoder_lr_mul": 1, "decoder_output_dim": 32}), ImportanceRenderer()
        for layer, own in ((made.net[0], decoder.hidden), (made.net[2], decoder.output)):
            layer.load_state_dict(own.state_dict())
        settings = {"ray_start": near, "ray_end": far, "box_warp": box, "white_back": white}
        settings |= {"depth_resolution": samples, "depth_resolution_importance": samples}
        settings |= {"disparity_space_sampling": False, "clamp_mode": "softplus"}
        kinds["the authors' code"] = lambda: renderer(planes, made, *rays, settings)[0]
    return kinds


def cpu_seconds(rendered: Callable[[], Tensor], gradients: bool) -> float:
    start = time.process_time()
    with torch.set_grad_enabled(gradients):
        colours = rendered()
    if gradients:
        colours.sum().backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("scene.png"))
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--official", type=Path, help="with --speed: the folder eg3d/ of a checkout of NVlabs/eg3d")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.speed:
        torch.set_num_threads(1)
        speed(options.official, options.repeats)
        return
    data = Shapes()
    volume = data.training().pixels[options.shape : options.shape + 1].float() / 127.5 - 1
    known, true = views(volume, 24, options.side, 1)
    others, unseen = views(volume, 8, options.side, 2)
    planes = nn.Parameter(0.1 * torch.randn(1, 3, 16, 32, 32))
    decoder = Decoder(16)
    optimizer = torch.optim.Adam([planes, *decoder.parameters()], lr=0.01, betas=(0.9, 0.99))

    def rendered(camera: Tensor, rows: Tensor | None = None, jitter: bool = False) -> Tensor:
        origins, directions = cameras.rays(camera, options.side)
        if rows is not None:
            origins, directions = origins[:, rows], directions[:, rows]
        some = planes.expand(len(camera), -1, -1, -1, -1)
        return render(
            some, decoder, origins, directions, NEAR, FAR, BOX, 24, 8, True, torch.rand if jitter else None
        ).colours

    for step in range(options.steps):
        which = torch.randint(24, (4,))
        rows = torch.randperm(options.side**2)[:256]
        loss = (rendered(known[which], rows, True) - true[which][:, rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            with torch.no_grad():
                print(f"{step + 1:5} steps: PSNR of new views {psnr(rendered(others), unseen):.2f} dB", flush=True)
    with torch.no_grad():
        made = rendered(others)
        print(f"fitted views {psnr(rendered(known), true):.2f} dB, new views {psnr(made, unseen):.2f} dB")
    blank = torch.full_like(unseen, 1.0)
    print(f"a white picture {psnr(blank, unseen):.2f} dB")
    cells = torch.stack([unseen, made], dim=1).transpose(2, 3).unflatten(3, (options.side,) * 2)
    drawing.save_png(drawing.sheet(cells, 4), options.out, None)
    print(options.out)


if __name__ == "__main__":
    main()
