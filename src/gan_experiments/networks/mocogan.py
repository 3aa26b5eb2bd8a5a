"""MoCoGAN: Decomposing Motion and Content for Video Generation.

Sergey Tulyakov, Ming-Yu Liu, Xiaodong Yang, Jan Kautz, 2017. arXiv:1707.04993

Differs from the paper: the frames are drawn by DCGAN's generator with DCGAN's initial weights, where the authors' code
has PyTorch's; resolutions other than 64 have more or fewer layers. All noise of a clip is its z, so that a clip is a
function of z and its category.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Classes, Depth, NotNegative, Resolution, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.kinds import CLIP
from gan_experiments.layers.clips import as_clips, per_clip
from gan_experiments.layers.dropout import Draw
from gan_experiments.layers.labels import one_hot
from gan_experiments.layers.resolution import doublings_from_4, start_of


class MoCoGANGenerator(nn.Module):
    """Noise `[N, latent_dim]` and optional categories int64 `[N]` to clips `[N, C, length, H, W]` (section 3.1).

    z holds the content, `content_dim` numbers, then the initial state of the recurrent network and its input at each
    frame, `motion_dim` numbers each. `images` makes each frame of its content, its category, one of `classes` as a
    one-hot vector, and its motion. Raises ConfigError if `images` does not take as many numbers as these.
    """

    kind = CLIP

    def __init__(
        self,
        images: nn.Module,
        content_dim: Width = 50,
        motion_dim: Width = 10,
        length: Depth = 16,
        classes: Classes = 0,
    ) -> None:
        super().__init__()
        needed, given = content_dim + classes + motion_dim, int(images.latent_dim)  # type: ignore[arg-type]
        if given != needed:
            raise ConfigError(
                f"model.generator.images.latent_dim={given}: a frame is made of content_dim + classes + motion_dim ="
                f" {content_dim} + {classes} + {motion_dim} numbers; type model.generator.images.latent_dim={needed}"
            )
        self.images = images
        self.content_dim, self.motion_dim, self.length, self.classes = content_dim, motion_dim, length, classes
        self.latent_dim = content_dim + (length + 1) * motion_dim
        self.drawn = bool(getattr(images, "drawn", False))
        self.recurrent = nn.GRUCell(motion_dim, motion_dim)

    def codes(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Return what each frame is made of: z `[N, latent_dim]` and categories -> `[N, length, content + ... ]`."""
        content, state = z[:, : self.content_dim], z[:, self.content_dim :][:, : self.motion_dim]
        states = []
        for noise in z[:, self.content_dim + self.motion_dim :].split(self.motion_dim, dim=1):
            state = self.recurrent(noise, state)
            states.append(state)
        motion = torch.stack(states, dim=1)
        fixed = [content]
        if self.classes:
            fixed.append(one_hot(label, self.classes, z, "MoCoGANGenerator"))
        return torch.cat([*(part[:, None].expand(-1, motion.shape[1], -1) for part in fixed), motion], dim=2)

    def forward(self, z: Tensor, label: Tensor | None = None, draw: Draw | None = None) -> Tensor:
        """Generate clips; `z` of more numbers gives clips of more frames."""
        codes = self.codes(z, label)
        length = codes.shape[1]
        drawing = {"draw": per_clip(draw, length)} if self.drawn and draw is not None else {}
        return as_clips(self.images(codes.flatten(0, 1), **drawing), length)

    def frames(self, z: Tensor, label: Tensor | None, times: Tensor, draw: Draw | None = None) -> Tensor:
        """Generate one frame of each clip, that at `times`, int64 `[N]` -> `[N, C, H, W]`."""
        codes = self.codes(z, label)
        drawing = {"draw": draw} if self.drawn and draw is not None else {}
        return self.images(codes[torch.arange(len(z), device=z.device), times], **drawing)


class _Noisy(nn.Module):
    """Layers, before each of which but the last noise of deviation `noise` is added where there is a `draw`."""

    drawn = True

    def __init__(self, layers: list[nn.Module], last: nn.Module, noise: float) -> None:
        super().__init__()
        self.layers, self.last, self.noise = nn.ModuleList(layers), last, noise

    def _before_last(self, x: Tensor, draw: Draw | None) -> Tensor:
        for layer in self.layers:
            x = layer(self._noisy(x, draw))
        return x

    def _noisy(self, x: Tensor, draw: Draw | None) -> Tensor:
        return x if draw is None or not self.noise else x + self.noise * draw(torch.randn, *x.shape).to(x.dtype)


class MoCoGANImageDiscriminator(_Noisy):
    """Frames `[N, channels, H, W]` to logits of patches `[N, 1, H / 16, W / 16]`, or without `patches` to one, `[N]`.

    `width` is the number of channels of the first of three layers, each of which has twice as many as the last, or
    without `patches` of as many as halve the resolution to 4. `noise` is the deviation of the noise that is added in
    training before each layer (the authors' --use_noise).
    """

    def __init__(
        self,
        resolution: Resolution = 64,
        channels: Width = 3,
        width: Width = 64,
        patches: bool = True,
        noise: NotNegative = 0.0,
        batch_norm: bool = True,
    ) -> None:
        halvings = doublings_from_4(resolution, "MoCoGANImageDiscriminator")
        widths = [width * 2**i for i in range(3 if patches else halvings)]
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True))
        ]
        for narrow, wide in itertools.pairwise(widths):
            convolution = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
            norm = nn.BatchNorm2d(wide) if batch_norm else nn.Identity()
            layers.append(nn.Sequential(convolution, norm, nn.LeakyReLU(0.2, True)))
        size, step, padding = (4, 2, 1) if patches else (start_of(resolution, halvings), 1, 0)
        super().__init__(layers, nn.Conv2d(widths[-1], 1, size, step, padding, bias=False), noise)
        self.patches = patches

    def features(self, images: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, H, W]` -> `[N, F, h, w]`."""
        x = self._before_last(images, draw)
        return self._noisy(x, draw) if self.patches else x

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features."""
        logits = self.last(features)
        return logits if self.patches else logits.flatten()

    def forward(self, images: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the logits of frames."""
        return self.head(self.features(images, draw))


class MoCoGANVideoDiscriminator(_Noisy):
    """Clips `[N, channels, T, H, W]` to logits `[N]`, or with `patches` to `[N, 1, t, h, w]`; and of their categories.

    Convolutions of 4 frames and 4x4 pixels halve the sides and end three frames earlier each: `length` is more than
    three times their number. The last one spans what is left and gives the logit, then those of `categories`. `width`
    and `noise` are as in `MoCoGANImageDiscriminator`. Raises ConfigError for clips that are too short, and for patches
    with categories.
    """

    def __init__(
        self,
        resolution: Resolution = 64,
        length: Depth = 16,
        channels: Width = 3,
        width: Width = 64,
        categories: Classes = 0,
        patches: bool = False,
        noise: NotNegative = 0.0,
        batch_norm: bool = True,
    ) -> None:
        name = "MoCoGANVideoDiscriminator"
        halvings = doublings_from_4(resolution, name)
        if patches and categories:
            raise ConfigError(
                f"{name} with patches=true tells no categories; type model.discriminator.patches=false, or"
                " model.discriminator.categories=0"
            )
        stages = 3 if patches else halvings
        left = length - 3 * (stages + patches)
        if left < 1:
            raise ConfigError(
                f"{name} cannot read clips of {length} frames at {resolution} pixels: each of its layers ends three"
                f" frames earlier; type data.length={3 * (stages + patches) + 1} or more"
            )
        widths = [width * 2**i for i in range(stages)]
        layers: list[nn.Module] = [nn.Sequential(_halving(channels, width), nn.LeakyReLU(0.2, True))]
        for narrow, wide in itertools.pairwise(widths):
            convolution = _halving(narrow, wide)
            norm = nn.BatchNorm3d(wide) if batch_norm else nn.Identity()
            layers.append(nn.Sequential(convolution, norm, nn.LeakyReLU(0.2, True)))
        whole = (left, *start_of(resolution, halvings))
        last = _halving(widths[-1], 1) if patches else nn.Conv3d(widths[-1], 1 + categories, whole, bias=False)
        super().__init__(layers, last, noise)
        self.categories, self.patches = categories, patches

    def features(self, clips: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the last layer's input, `[N, channels, T, H, W]` -> `[N, F, t, h, w]`."""
        return self._before_last(clips, draw)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features."""
        if self.patches:
            return self.last(features)
        return F.conv3d(features, self._weight[:1]).flatten()

    def categorise(self, features: Tensor) -> Tensor:
        """Return the logits of the categories, `[N, F, t, h, w]` -> `[N, categories]`."""
        return F.conv3d(features, self._weight[1:]).flatten(1)

    @property
    def _weight(self) -> Tensor:
        return self.last.weight  # type: ignore[return-value]

    @override
    def forward(self, clips: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the logits of clips."""
        return self.head(self.features(clips, draw))


def _halving(inputs: int, outputs: int) -> nn.Conv3d:
    """Return a convolution of 4 frames and 4x4 pixels that halves the sides and ends three frames earlier."""
    return nn.Conv3d(inputs, outputs, 4, stride=(1, 2, 2), padding=(0, 1, 1), bias=False)
