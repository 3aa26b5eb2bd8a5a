"""pi-GAN: Periodic Implicit Generative Adversarial Networks for 3D-Aware Image Synthesis.

Eric R. Chan, Marco Monteiro, Petr Kellnhofer, Jiajun Wu, Gordon Wetzstein, 2021. arXiv:2012.00926

Differs from the paper: the pose of the camera is a part of z, so that a sample is a function of z. Images of any number
of channels and of any sides can be made. Without a `draw`, as in evaluation, rays are sampled at even places, and the
second time at the quantiles of what the first samples say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gan_experiments import cameras as camera
from gan_experiments.bounds import Count, Depth, Finite, NotNegative, Positive, Resolution, Whole, Width, settled
from gan_experiments.layers.growing import stage_of
from gan_experiments.layers.rays import camera_on_sphere, pixel_rays
from gan_experiments.layers.resolution import doublings_from_4, start_of, widths_of
from gan_experiments.layers.volume_rendering import weights_of, where_it_counts

POSE = 2
"""The last numbers of z, of the yaw and of the pitch."""
AT_A_TIME = 1 << 26
"""The largest number of hidden values of a layer at a time: a quarter of a GB. More images are made one by one."""
EDGE = 1e-5
"""How near to the poles cameras come, where which way is up is not known."""
Draw = Callable[..., Tensor]


class Styles(NamedTuple):
    """Frequencies and phases of all layers, each `[N, layers · width]`."""

    frequencies: Tensor
    phases: Tensor


class FiLM(nn.Module):
    """A linear layer and a sine, `[N, P, inputs]` -> `[N, P, outputs]`: sin(frequency · (W x + b) + phase)."""

    def __init__(self, inputs: int, outputs: int, first: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        uniform(self.layer, 1 / inputs if first else None)

    def forward(self, x: Tensor, frequency: Tensor, phase: Tensor) -> Tensor:
        """Return the sines for frequencies and phases `[N, outputs]`."""
        return torch.sin(frequency[:, None] * self.layer(x) + phase[:, None])


def uniform(layer: nn.Linear, bound: float | None = None) -> None:
    """Draw the weights from U(-bound, bound), by default of SIREN's bound for a frequency of 25."""
    bound = math.sqrt(6 / layer.in_features) / 25 if bound is None else bound
    nn.init.uniform_(layer.weight, -bound, bound)


class SIREN(nn.Module):
    """Points and directions of view to colours and densities, in the style of a code (section 3.1, figure 2).

    The scene lies in a cube of side `box`, which is mapped to [-1, 1]³. There are `depth` layers and one of colour.
    """

    def __init__(
        self,
        content_dim: Width = 256,
        channels: Width = 3,
        width: Width = 256,
        depth: Depth = 8,
        mapping_width: Width = 256,
        box: Positive = 0.24,
    ) -> None:
        super().__init__()
        self.box, self.width = box, width
        widths = [content_dim, *[mapping_width] * 3]
        ends = zip(widths, [*widths[1:], 2 * width * (depth + 1)], strict=True)
        linear = [nn.Linear(inputs, outputs) for inputs, outputs in ends]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, a=0.2)
        with torch.no_grad():
            linear[-1].weight.mul_(0.25)
        self.mapping = nn.Sequential(*[part for layer in linear for part in (layer, nn.LeakyReLU(0.2))][:-1])
        self.layers = nn.ModuleList(FiLM(width if i else 3, width, first=i == 0) for i in range(depth))
        self.density = nn.Linear(width, 1)
        self.colour_layer = FiLM(width + 3, width)
        self.colour = nn.Linear(width, channels)
        uniform(self.density)
        uniform(self.colour)

    def styles(self, content: Tensor) -> Styles:
        """Map codes `[N, content_dim]` to the styles of all layers."""
        frequencies, phases = self.mapping(content).chunk(2, dim=1)
        return Styles(15 * frequencies + 30, phases)

    def forward(self, points: Tensor, directions: Tensor, styles: Styles) -> tuple[Tensor, Tensor]:
        """Return colours `[N, P, C]` in [0, 1] and raw densities `[N, P]` of points seen in unit directions."""
        x = points * (2 / self.box)
        *inner, last = zip(*(rows.split(self.width, dim=1) for rows in styles), strict=True)
        for layer, style in zip(self.layers, inner, strict=True):
            x = layer(x, *style)
        colour = self.colour_layer(torch.cat([directions, x], -1), *last)
        return self.colour(colour).sigmoid(), self.density(x)[..., 0]


class View(NamedTuple):
    """Images `[N, C, H, W]` in [-1, 1], how far away on its ray what they show is, and how opaque, `[N, 1, H, W]`."""

    images: Tensor
    depth: Tensor
    opacity: Tensor


class PiGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` to images `[N, C, H, W]` in [-1, 1] of a scene, rendered from a camera (section 3.2).

    The last two numbers of z are the camera's yaw and pitch, in deviations from the front (see `poses`). A ray is
    sampled `samples` times between `near` and `far`, and with `hierarchical` as often again where it counts. `view` is
    the camera's angle in degrees. `grown` doublings from 4 pixels are rendered, see layers/growing.py.

    Args:
        content_dim: numbers of z without the pose.
        width, depth, mapping_width, box: see `SIREN`.
        poses: the law of the poses: "normal" with the deviations, "uniform" within them, or "sphere", uniform over
            that part of the sphere.
        yaw, pitch: the deviations, or the greatest distances from the front, in radians.
        elevation: how far above the horizon the middle of the poses is, in radians.
        background: what lies behind the scene: nothing, "white", or the colour of the "last" sample.
        density: what makes a density of what the network says.
        density_scale: factor of all densities. The scene is `box` wide, so that a surface needs densities far above 1.

    Attributes:
        density_noise: the deviation of the noise of densities that are drawn with a `draw`; the model sets it.
    """

    drawn = True

    def __init__(
        self,
        content_dim: Width = 256,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 256,
        depth: Depth = 8,
        mapping_width: Width = 256,
        samples: Annotated[int, Field(ge=3, le=1000)] = 12,
        hierarchical: bool = True,
        view: Annotated[float, Field(gt=0, lt=180)] = 12.0,
        near: NotNegative = 0.88,
        far: Positive = 1.12,
        box: Positive = 0.24,
        poses: Literal["normal", "uniform", "sphere"] = "normal",
        yaw: NotNegative = 0.3,
        pitch: NotNegative = 0.155,
        elevation: Finite = 0.0,
        background: Literal["nothing", "white", "last"] = "nothing",
        density: Literal["relu", "softplus"] = "relu",
        density_scale: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.content_dim, self.latent_dim = content_dim, content_dim + POSE
        self.resolution, self.channels = settled(resolution), channels
        doublings = doublings_from_4(resolution, "PiGANGenerator", smallest=8)
        self.grown, self.start = float(doublings), start_of(resolution, doublings)
        self.samples, self.hierarchical, self.view, self.near, self.far = samples, hierarchical, view, near, far
        self.law, self.yaw, self.pitch, self.elevation = poses, yaw, pitch, elevation
        self.background, self.density, self.density_noise = background, density, 0.0
        self.density_scale = density_scale
        self.siren = SIREN(content_dim, channels, width, depth, mapping_width, box)

    def poses(self, z: Tensor) -> Tensor:
        """Return the poses `[N, 2]` of noise: pitch and yaw in radians, π/2 in front."""
        yaw, pitch = z[:, -2], z[:, -1]
        if self.law != "normal":
            yaw, pitch = (torch.erf(one / math.sqrt(2)) for one in (yaw, pitch))  # uniform in (-1, 1)
        yaw = math.pi / 2 + self.yaw * yaw
        if self.law == "sphere":
            pitch = ((self.elevation - pitch * self.pitch) * 2 / math.pi).clamp(-1 + EDGE, 1 - EDGE).arccos()
        else:
            pitch = math.pi / 2 - self.elevation + self.pitch * pitch
        return torch.stack([pitch.clamp(EDGE, math.pi - EDGE), yaw], 1)

    def forward(self, z: Tensor, cameras: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Render images as the cameras of z see the scenes, or other cameras `[N, 25]`.

        With a `draw` the places on the rays are drawn, as in training.
        """
        if cameras is not None:
            return self.seen(z, cameras, draw).images
        poses = self.poses(z)
        own = camera_on_sphere(poses[:, 1], poses[:, 0])
        directions = pixel_rays(*self._size(), self.view, own) @ own[:, :3, :3].mT  # [N, H W, 3]
        return self._along(z, own, directions, draw).images

    def cameras(self, yaw: Tensor, pitch: Tensor) -> Tensor:
        """Return cameras `[N, 25]` at angles `[N]` in radians that see as those of z do; see `cameras.on_sphere`."""
        tangent = math.tan(math.radians(self.view) / 2)
        focal = [(side - 1) * max(self._size()) / (2 * side**2 * tangent) for side in self._size()]
        down, across = focal
        rows = [[across, 0, 0.5], [0, down, 0.5], [0, 0, 1]]
        intrinsics = torch.tensor(rows, dtype=yaw.dtype, device=yaw.device)
        return camera.joined(camera.on_sphere(yaw, pitch, 1.0), intrinsics)

    def own_cameras(self, z: Tensor) -> Tensor:
        """Return the cameras `[N, 25]` of noise."""
        pitch, yaw = (math.pi / 2 - self.poses(z)).unbind(1)
        return self.cameras(yaw, pitch)

    def seen(self, z: Tensor, cameras: Tensor, draw: Draw | None = None) -> View:
        """Render the scenes of noise from cameras `[N, 25]`, whatever z says of them."""
        cameras = cameras.to(z)
        directions = camera.rays(cameras, self._size())[1]
        return self._along(z, camera.parted(cameras)[0], directions, draw)

    def densities(self, z: Tensor, points: Tensor) -> Tensor:
        """Return how dense the scenes of noise are at points `[N, P, 3]` in the box around the origin, `[N, P]`."""
        return self._positive(self.siren(points, torch.zeros_like(points), self._styles(z))[1], None)

    @property
    def box(self) -> float:
        """The side of the cube that holds the scene."""
        return self.siren.box

    @property
    def step(self) -> float:
        """The distance of the first samples of a ray from each other."""
        return (self.far - self.near) / self.samples

    def _size(self) -> tuple[int, int]:
        height, width = (side << stage_of(self.grown)[0] for side in self.start)
        return height, width

    def _styles(self, z: Tensor) -> Styles:
        return self.siren.styles(z[:, : self.content_dim])

    def _along(self, z: Tensor, cameras: Tensor, directions: Tensor, draw: Draw | None) -> View:
        """Render along rays `[N, H W, 3]` from the places of poses `[N, 4, 4]`."""
        styles = self._styles(z)
        at_once = max(1, AT_A_TIME // (directions.shape[1] * self.samples * self.siren.width))
        if torch.is_grad_enabled() or draw is not None or torch.compiler.is_exporting():
            return self._rendered(styles, cameras, directions, draw)
        parts = zip(*(rows.split(at_once) for rows in (*styles, cameras, directions)), strict=True)
        views = [self._rendered(Styles(*styles), pose, rays, None) for *styles, pose, rays in parts]
        return View(*(torch.cat(some) for some in zip(*views, strict=True)))

    def _rendered(self, styles: Styles, cameras: Tensor, directions: Tensor, draw: Draw | None) -> View:
        places = torch.linspace(self.near, self.far, self.samples, dtype=cameras.dtype, device=cameras.device)
        places = places.expand(*directions.shape[:2], -1)
        if draw is not None:
            places = places + (draw(torch.rand, *places.shape) - 0.5) * (places[0, 0, 1] - places[0, 0, 0])
        colours, densities = self._at(places, directions, cameras, styles)
        if self.hierarchical:
            with torch.no_grad():
                weights = weights_of(self._positive(densities, draw), places)
                if draw is None:
                    even = torch.linspace(0, 1, self.samples, dtype=places.dtype, device=places.device)
                    uniform = even.expand(places.shape)
                else:
                    uniform = draw(torch.rand, *places.shape)
                further = where_it_counts(places, weights, uniform)
            more = self._at(further, directions, cameras, styles)
            places, order = torch.cat([further, places], -1).sort(-1)
            densities = torch.cat([more[1], densities], -1).gather(-1, order)
            colours = torch.cat([more[0], colours], 2).gather(2, order[..., None].expand(-1, -1, -1, self.channels))
        weights = weights_of(self._positive(densities, draw), places)
        opacity = weights.sum(-1, keepdim=True)
        left = 1 - opacity
        if self.background == "last":
            weights = torch.cat([weights[..., :-1], weights[..., -1:] + left], -1)
        seen = (weights[..., None] * colours).sum(2)
        seen = seen + left if self.background == "white" else seen
        depth = (weights * places).sum(-1, keepdim=True) / weights.sum(-1, keepdim=True).clamp_min(EDGE)
        return View(*(rows.mT.unflatten(2, self._size()) for rows in (2 * seen - 1, depth, opacity)))

    def _at(self, places: Tensor, directions: Tensor, cameras: Tensor, styles: Styles) -> tuple[Tensor, Tensor]:
        """Return colours `[N, R, S, C]` and raw densities `[N, R, S]` at places `[N, R, S]` of rays `[N, R, 3]`."""
        points = cameras[:, None, None, :3, 3] + places[..., None] * directions[:, :, None]
        given = points.flatten(1, 2), directions[:, :, None].expand_as(points).flatten(1, 2), *styles
        at_once = max(1, AT_A_TIME // (points[0, ..., 0].numel() * self.siren.width))
        if torch.compiler.is_exporting() or not torch.is_grad_enabled() or at_once >= len(points):
            colours, densities = self._asked(*given)
        else:  # what the layers say is computed once more in the backward, in place of being kept
            parts = zip(*(rows.split(at_once) for rows in given), strict=True)
            found = [checkpoint(self._asked, *part, use_reentrant=False) for part in parts]
            colours, densities = (torch.cat(some) for some in zip(*found, strict=True))
        return colours.unflatten(1, places.shape[1:]), densities.unflatten(1, places.shape[1:])

    def _asked(self, points: Tensor, directions: Tensor, *styles: Tensor) -> tuple[Tensor, Tensor]:
        return self.siren(points, directions, Styles(*styles))

    def _positive(self, densities: Tensor, draw: Draw | None) -> Tensor:
        if draw is not None and self.density_noise:
            densities = densities + self.density_noise * draw(torch.randn, *densities.shape)
        return self.density_scale * (F.relu(densities) if self.density == "relu" else F.softplus(densities))


class CoordConv2d(nn.Conv2d):
    """A convolution that is also told where it is: of a map and of its rows' and columns' places in [-1, 1]."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__(inputs + 2, outputs, side, padding=side // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, outputs, H, W]` of a map `[N, inputs, H, W]`."""
        height, width = x.shape[2:]
        rows, columns = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in (height, width))
        places = torch.stack([rows[:, None].expand(-1, width), columns.expand(height, -1)])
        return super().forward(torch.cat([x, places.expand(len(x), -1, -1, -1)], 1))


class HalvingBlock(nn.Module):
    """Two convolutions and a shortcut, `[N, inputs, H, W]` -> `[N, outputs, H / 2, W / 2]`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CoordConv2d(inputs, outputs, 3), nn.LeakyReLU(0.2), CoordConv2d(outputs, outputs, 3), nn.LeakyReLU(0.2)
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Halve both sides."""
        return (F.avg_pool2d(self.layers(x), 2) + self.shortcut(F.avg_pool2d(x, 2))) / math.sqrt(2)


class PiGANDiscriminator(nn.Module):
    """Images `[N, C, H, W]` to logits `[N]`, and to `told` further numbers (section 3.3 and the supplement).

    The last two of these are the camera's pitch and yaw, those before the code. `grown` doublings from 4 pixels are
    seen, see layers/growing.py. At R pixels there are min(`channel_base` / R, `channel_max`) channels.
    """

    def __init__(
        self,
        resolution: Resolution = 64,
        channels: Width = 3,
        channel_base: Count = 8192,
        channel_max: Width = 400,
        told: Whole = 258,
    ) -> None:
        super().__init__()
        self.resolution, self.told = settled(resolution), told
        doublings = doublings_from_4(resolution, "PiGANDiscriminator", smallest=8)
        self.grown = float(doublings)
        lowest = start_of(resolution, doublings + 1)
        widths = [channel_max, *widths_of(channel_base, channel_max, doublings)]  # at 2 pixels, 4, 8, ...
        self.from_image = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.2)) for width in widths
        )
        self.blocks = nn.ModuleList(HalvingBlock(wide, narrow) for narrow, wide in itertools.pairwise(widths))
        self.last = nn.Conv2d(widths[0], 1 + told, lowest)

    def chains(self) -> list[list[nn.Module]]:
        """Return the parts from the image on, when fully grown; see techniques/freeze_d.py."""
        return [[self.from_image[-1], *reversed(self.blocks), self.last]]

    def features(self, images: Tensor) -> Tensor:
        """Return the maps `[N, F, 2, 2]` of the last layer's input."""
        stage, share = stage_of(self.grown)
        x = self.from_image[stage + 1](images)
        x = self.blocks[stage](x)
        if share < 1:  # every second pixel, as in the authors' code
            x = torch.lerp(self.from_image[stage](images[..., ::2, ::2]), x, share)
        for block in reversed(self.blocks[:stage]):
            x = block(x)
        return x

    def _last(self, features: Tensor) -> Tensor:
        return self.last(features).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features."""
        return self._last(features)[:, 0]

    def tell(self, features: Tensor) -> Tensor:
        """Return the further numbers `[N, told]` of features."""
        return self._last(features)[:, 1:]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images."""
        return self.head(self.features(images))
