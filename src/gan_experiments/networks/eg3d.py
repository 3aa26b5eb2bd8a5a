"""Efficient Geometry-aware 3D Generative Adversarial Networks.

Eric R. Chan, Connor Z. Lin, Matthew A. Chan, Koki Nagano, Boxiao Pan, Shalini De Mello, Orazio Gallo, Leonidas Guibas,
Jonathan Tremblay, Sameh Khamis, Tero Karras, Gordon Wetzstein, 2022. arXiv:2112.07945

Differs from the paper: the planes see x and y, x and z, y and z, where in the authors' code the last one is z and x;
`official_planes` is theirs. Without a `draw`, as in evaluation, rays are sampled at even places, and the second time at
the quantiles of what the first samples say. Rays that miss the box are sampled as the other rays of their image are.
Images of any number of channels and of any sides can be made, and images that are rendered without super-resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gan_experiments import cameras as camera
from gan_experiments.bounds import (
    Count,
    Depth,
    Few,
    NotNegative,
    Positive,
    Resolution,
    Share,
    Whole,
    Width,
    settled,
    sides,
)
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.dropout import Draw
from gan_experiments.layers.equalised import EqualisedLinear
from gan_experiments.layers.labels import required_label
from gan_experiments.layers.resample import Upsample
from gan_experiments.layers.resolution import doublings_from_4, widths_of
from gan_experiments.layers.styles import Mapping, StyledGenerator
from gan_experiments.layers.volume_rendering import AXES, OFFICIAL_AXES, at_planes, limits_of, positive, render
from gan_experiments.networks.stylegan2 import (
    CLAMP,
    HALVES,
    StyleGAN2Discriminator,
    StyleGAN2Synthesis,
    SynthesisBlock,
    halves_of,
    keep_gradients_finite,
)

PLANES = 3
AT_A_TIME = 1 << 26
"""The largest number of hidden values of the decoder at a time: a quarter of a GB. More images are made one by one."""
Widths = Annotated[Sequence[Width], Field(min_length=2, max_length=2)]
Samples = Annotated[int, Field(ge=2, le=1000)]


class View(NamedTuple):
    """What cameras see: images `[N, C, H, W]`; and of what was rendered depths, opacities `[N, 1, h, w]` and images."""

    images: Tensor
    depth: Tensor
    opacity: Tensor
    raw: Tensor


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images `[N, C, h, w]` at another size, bilinear; smaller ones are means, so that nothing is left out."""
    if images.shape[-2:] == size:
        return images
    smaller = images.shape[-2] > size[0] or images.shape[-1] > size[1]
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=smaller)


def paired(images: Tensor, raw: Tensor) -> Tensor:
    """Return what the discriminator sees, `[N, 2 C, H, W]`: images and, enlarged, what they were made of (§4.3)."""
    height, width = images.shape[-2:]
    return torch.cat([images, resized(raw, (height, width))], 1)


class CameraMapping(Mapping):
    """A mapping that is told from where the scene will be seen, cameras `[N, 25]`; zeros unless it is `told`."""

    def __init__(self, latent_dim: int, w_dim: int, layers: int, told: bool) -> None:
        super().__init__(latent_dim, w_dim, layers, numbers=camera.NUMBERS, decay=0.998)
        self.told = told

    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        """Map z `[N, latent_dim]` to w `[N, w_dim]`; cameras can be left out unless the mapping is told them."""
        if not self.told:
            assert z is not None
            label = z.new_zeros(z.shape[0], camera.NUMBERS)
        return super().forward(z, label)


class Decoder(nn.Module):
    """Features of points `[..., F]` to colours `[..., outputs]` a little beyond [0, 1] and raw densities `[..., 1]`."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.hidden = EqualisedLinear(inputs, width)
        self.output = EqualisedLinear(width, 1 + outputs)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return colours and densities."""
        told = self.output(F.softplus(self.hidden(features)))
        return torch.sigmoid(told[..., 1:]) * 1.002 - 0.001, told[..., :1]


class SuperResolution(nn.Module):
    """Two blocks that make images of rendered features, in the style of the last w (§4.2).

    Images `[N, C, h, w]` and features `[N, F, h, w]` are first resized to `start`, and get `doublings` times as large,
    0 to 2: one doubling is the second block's. `widths` are the blocks' channels.
    """

    def __init__(
        self,
        features: int,
        channels: int,
        widths: Sequence[int],
        w_dim: int,
        start: tuple[int, int],
        doublings: int,
        half: torch.dtype | None,
        noise: bool,
    ) -> None:
        super().__init__()
        self.start, self.noise = start, noise
        self.ups = doublings > 1, doublings > 0
        blocks, size, inputs = [], start, features
        for up, width in zip(self.ups, widths, strict=True):
            size = (size[0] << up, size[1] << up)
            clamp = CLAMP if half else None
            blocks.append(SynthesisBlock(inputs, width, channels, w_dim, size, half, clamp, up))
            inputs = width
        self.blocks = nn.ModuleList(blocks)
        self.upsample = Upsample()

    def forward(self, images: Tensor, features: Tensor, w: Tensor, draw: Draw | None) -> Tensor:
        """Return images `[N, C, H, W]` of the full size."""
        images, x = resized(images, self.start), resized(features, self.start)
        chosen = draw if self.noise else partial(_silent, w)
        for block, up in zip(self.blocks, self.ups, strict=True):
            x, rgb = block(x, w, w, w, chosen)
            images = (self.upsample(images) if up else images) + rgb
        return images


def _silent(like: Tensor, sampler: object, *shape: int) -> Tensor:
    return like.new_zeros(())


class EG3DSynthesis(nn.Module):
    """A scene of ws `[N, styles, w_dim]` on three planes, and what cameras `[N, 25]` see of it (§4.1 and §4.2)."""

    def __init__(
        self,
        planes: StyleGAN2Synthesis,
        plane_channels: int,
        decoder: Decoder,
        super_resolution: SuperResolution | None,
        channels: int,
        resolution: Resolution,
        neural_resolution: int,
        samples: int,
        further: int,
        near: float | None,
        far: float | None,
        box: float,
        white: bool,
        official_planes: bool,
    ) -> None:
        super().__init__()
        self.planes, self.decoder, self.super_resolution = planes, decoder, super_resolution
        self.plane_channels, self.channels = plane_channels, channels
        self.size, self.neural_resolution = sides(resolution), neural_resolution
        self.samples, self.further, self.near, self.far = samples, further, near, far
        self.box, self.white = box, white
        self.axes = OFFICIAL_AXES if official_planes else AXES

    def neural_size(self) -> tuple[int, int]:
        """Return the height and the width that are rendered; the shorter one is the neural resolution."""
        short = min(self.size)
        return round(self.size[0] * self.neural_resolution / short), round(
            self.size[1] * self.neural_resolution / short
        )

    def scenes(self, ws: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the planes `[N, 3, C, P, P]` of ws."""
        return self.planes(ws, draw).unflatten(1, (PLANES, self.plane_channels))

    def raw_densities(self, scenes: Tensor, points: Tensor) -> Tensor:
        """Return the raw densities `[N, M]` of scenes at points `[N, M, 3]` of the world."""
        return self.decoder(at_planes(scenes, points, self.box, self.axes).mean(1))[1][..., 0]

    def seen(self, scenes: Tensor, ws: Tensor, cameras: Tensor, draw: Draw | None = None) -> View:
        """Return what cameras `[N, 25]` see of scenes that were made of these ws."""
        height, width = self.neural_size()
        values = height * width * (self.samples + self.further) * self.decoder.hidden.weight.shape[0]
        half = not ws.is_meta and torch.is_autocast_enabled(ws.device.type)
        with torch.autocast(ws.device.type, enabled=False) if half else nullcontext():  # sums need their digits
            given = scenes.to(self.decoder.hidden.weight), cameras.to(self.decoder.hidden.weight)
            if torch.is_grad_enabled() or draw is not None or torch.compiler.is_exporting():
                found = self._marched(*given, draw=draw)
            else:
                at_once = max(1, AT_A_TIME // values)
                parts = zip(*(rows.split(at_once) for rows in given), strict=True)
                marched = [self._marched(planes, cameras, None) for planes, cameras in parts]
                found = tuple(torch.cat(some) for some in zip(*marched, strict=True))
        features, depth, opacity = (rows.mT.unflatten(2, (height, width)) for rows in found)
        raw = features[:, : self.channels]
        if self.super_resolution is None:
            return View(resized(raw, self.size), depth, opacity, raw)
        return View(self.super_resolution(raw, features, ws[:, -1], draw), depth, opacity, raw)

    def _marched(self, scenes: Tensor, cameras: Tensor, draw: Draw | None) -> tuple[Tensor, ...]:
        """Return features, depths and opacities of rays, `[N, h · w, ...]`."""
        origins, directions = camera.rays(cameras, self.neural_size())
        ends = (self.near, self.far) if self.near is not None and self.far is not None else None
        near, far = ends or limits_of(origins, directions, self.box)
        uniform = None if draw is None else partial(draw, torch.rand)
        counts = self.samples, self.further
        rays = origins, directions, near, far, self.box
        found = render(scenes, self.decoder, *rays, *counts, self.white, uniform, self.axes)
        return found.colours, found.depth, found.weights.sum(2)

    def forward(self, ws: Tensor, draw: Draw | None = None, cameras: Tensor | None = None) -> Tensor:
        """Return the images `[N, C, H, W]` that cameras `[N, 25]` see."""
        return self.seen(self.scenes(ws, draw), ws, required_label(cameras, "EG3D"), draw).images


class EG3DGenerator(StyledGenerator):
    """Noise `[N, latent_dim]` and cameras `[N, 25]` to images `[N, C, H, W]`, around [-1, 1] but not bounded.

    StyleGAN2's generator makes three planes of `plane_channels` channels and `plane_resolution` pixels. Points of the
    cube of side `box` around the origin are looked up in them, and a decoder with a hidden layer of `decoder_width`
    says their densities and `features`, of which the first are their colours. Rays gather those, `samples` and
    `further` ones, from `near` to `far`, or from where they enter the box to where they leave it if these are None.
    `neural_resolution` is the side of what is rendered, of rectangles the shorter one, or None for that of the images.
    Super-resolution makes images of it, from `upsampled_from` pixels on; None for none. `white` is what lies behind the
    scene, in place of nothing.

    Args:
        told_cameras: whether the mapping is told the cameras, so that scenes may depend on them (§4.4).
        upsampling_widths: channels of the two blocks of the super-resolution.
        upsampling_noise: whether these add noise, as those of the planes do.
        half_resolutions, half: as in `StyleGAN2Generator`, of the planes.
        half_upsampling: whether super-resolution computes in `half`.
        official_planes: whether the third plane sees z and x as in the authors' code, and not y and z.

    Raises ConfigError for a `resolution` that super-resolution cannot make, for more colours than features, and as
    `StyleGAN2Generator` does.
    """

    mapping: CameraMapping
    synthesis: EG3DSynthesis

    def __init__(
        self,
        latent_dim: Width = 512,
        resolution: Resolution = 512,
        channels: Width = 3,
        w_dim: Width = 512,
        channel_base: Count = 32768,
        channel_max: Width = 512,
        mapping_layers: Depth = 2,
        mixing: Share = 0.0,
        told_cameras: bool = True,
        plane_resolution: Width = 256,
        plane_channels: Width = 32,
        neural_resolution: Width | None = 64,
        features: Width = 32,
        decoder_width: Width = 64,
        samples: Samples = 48,
        further: Whole = 48,
        near: NotNegative | None = 2.25,
        far: Positive | None = 3.3,
        box: Positive = 1.0,
        white: bool = False,
        upsampled_from: Width | None = 128,
        upsampling_widths: Widths = (256, 128),
        upsampling_noise: bool = False,
        half_resolutions: Few = 0,
        half: str = "bfloat16",
        half_upsampling: bool = False,
        official_planes: bool = False,
    ) -> None:
        if channels > features:
            raise ConfigError(
                f"EG3DGenerator has features={features} and makes channels={channels}: the first features are the"
                f" colours; type model.generator.features={max(channels, 32)}"
            )
        if (near is None) != (far is None) or (near is not None and far is not None and near >= far):
            raise ConfigError(
                f"EG3DGenerator has near={near} far={far}: rays go from near to a greater far; type both, or null for"
                " both"
            )
        doublings = doublings_from_4(plane_resolution, "EG3DGenerator's planes, model.generator.plane_resolution,")
        widths = widths_of(channel_base, channel_max, doublings)
        halves = halves_of(half_resolutions, half, doublings)
        planes = StyleGAN2Synthesis(widths, PLANES * plane_channels, w_dim, halves, CLAMP if half_resolutions else None)
        above = None
        if upsampled_from is not None:
            above = SuperResolution(
                features,
                channels,
                upsampling_widths,
                w_dim,
                *_upsampling(resolution, upsampled_from),
                HALVES[half] if half_upsampling else None,
                upsampling_noise,
            )
        synthesis = EG3DSynthesis(
            planes,
            plane_channels,
            Decoder(plane_channels, decoder_width, features),
            above,
            channels,
            resolution,
            neural_resolution or min(sides(resolution)),
            samples,
            further,
            near,
            far,
            box,
            white,
            official_planes,
        )
        mapping = CameraMapping(latent_dim, w_dim, mapping_layers, told_cameras)
        super().__init__(mapping, synthesis, latent_dim, 2 * len(widths), mixing)
        self.resolution, self.channels, self.numbers = settled(resolution), channels, camera.NUMBERS
        self.box, self.dual = box, above is not None
        self.step = (box if near is None or far is None else far - near) / samples
        if half == "float16" and (half_upsampling or torch.float16 in halves):
            keep_gradients_finite(self)

    def made(self, ws: Tensor, label: Tensor | None, draw: Draw | None = None) -> Tensor:
        """Return the images that cameras `[N, 25]` see of ws `[N, styles, w_dim]`."""
        return self.synthesis(ws, draw, label)

    def seen(self, ws: Tensor, cameras: Tensor, draw: Draw | None = None) -> View:
        """Return what cameras `[N, 25]` see of ws `[N, styles, w_dim]`; see models/scenes.py."""
        return self.synthesis.seen(self.synthesis.scenes(ws, draw), ws, cameras, draw)

    def raw_densities(self, ws: Tensor, points: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the raw densities `[N, M]` of the scenes of ws at points `[N, M, 3]` of the world."""
        return self.synthesis.raw_densities(self.synthesis.scenes(ws, draw), points)

    def densities(self, ws: Tensor, points: Tensor) -> Tensor:
        """Return the densities `[N, M]` by which light is lost, 0 or more; see models/scenes.py."""
        return positive(self.raw_densities(ws, points))


def _upsampling(resolution: Resolution, start: int) -> tuple[tuple[int, int], int]:
    """Return the height and width from which `resolution` is made, and by how many doublings."""
    height, width = sides(resolution)
    for doublings in range(3):
        first = height >> doublings, width >> doublings
        if min(first) == start and (first[0] << doublings, first[1] << doublings) == (height, width):
            return first, doublings
    raise ConfigError(
        f"EG3DGenerator has upsampled_from={start}, and super-resolution makes images of that side, or twice or four"
        f" times as large; data.resolution={settled(resolution)}: type model.generator.upsampled_from="
        f"{min(height, width) // 2 or 1}, or null to render images as they are"
    )


class EG3DDiscriminator(StyleGAN2Discriminator):
    """StyleGAN2's discriminator, told the camera: pairs `[N, 2 C, H, W]` of `paired` to logits `[N]` (§4.3).

    Without `dual` it sees images alone, `[N, C, H, W]`. `StyleGAN2Discriminator` has the other arguments.
    """

    conditional = True

    def __init__(
        self,
        resolution: Resolution = 512,
        channels: Width = 3,
        channel_base: Count = 32768,
        channel_max: Width = 512,
        architecture: str = "resnet",
        group: Count = 4,
        mapping_layers: Depth = 8,
        dual: bool = True,
        half_resolutions: Few = 0,
        half: str = "bfloat16",
    ) -> None:
        super().__init__(
            resolution,
            channels * (2 if dual else 1),
            channel_base=channel_base,
            channel_max=channel_max,
            architecture=architecture,
            group=group,
            mapping_layers=mapping_layers,
            half_resolutions=half_resolutions,
            half=half,
            numbers=camera.NUMBERS,
        )
        self.dual = dual
