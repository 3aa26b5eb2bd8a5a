"""Context Encoders: Feature Learning by Inpainting.

Deepak Pathak, Philipp Krähenbühl, Jeff Donahue, Trevor Darrell, Alexei A. Efros, 2016. arXiv:1604.07379

Differs from the paper: the bottleneck is fully connected, as in the authors' code (train.lua), and not channel-wise as
in section 3.1; convolutions learn biases, which that code sets to zero at each step; the discriminator returns logits,
without the sigmoid. Resolutions other than 64 and 128 add or remove layers at the wide end.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from gan_experiments.bounds import Resolution, Width, settled
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.plain_norm import require_several
from gan_experiments.layers.resolution import doublings_from_4, require_resolution, start_of


class ContextEncoder(nn.Module):
    """Images with holes to their content, `[N, channels, H, W]` -> `[N, channels, H/2, W/2]` or H x W, in [-1, 1].

    With `region="centre"` the output is the middle of half the height and width. With "random" it is the whole image
    (train_random.lua). 4x4 convolutions of stride 2 down to 4x4, a code of `bottleneck` values, and transposed ones
    back. Raises ConfigError unless `resolution`, or its shorter side, is a power of two from 32 on, and for another
    region; in forward for images of another resolution, and in training for a batch of one image.
    """

    def __init__(
        self,
        resolution: Resolution = 128,
        channels: Width = 3,
        width: Width = 64,
        bottleneck: Width = 4000,
        region: str = "centre",
    ) -> None:
        super().__init__()
        if region not in ("centre", "random"):
            raise ConfigError(f"ContextEncoder was given region={region}: type region=centre or region=random")
        self.resolution = settled(resolution)
        read = _widths(resolution, width, "ContextEncoder", smallest=32)
        made = start_of(resolution, 1) if region == "centre" else resolution
        drawn = _widths(made, width, "ContextEncoder")[::-1]
        code, start = start_of(resolution, len(read)), start_of(made, len(drawn))
        stack = [
            *_halvings(channels, read),
            nn.Conv2d(read[-1], bottleneck, code),  # [N, 4000, 1, 1]
            nn.BatchNorm2d(bottleneck),
            nn.LeakyReLU(0.2, inplace=True),
            nn.ConvTranspose2d(bottleneck, drawn[0], start),  # [N, 512, 4, 4]
            nn.BatchNorm2d(drawn[0]),
            nn.ReLU(inplace=True),
        ]
        for wide, narrow in itertools.pairwise(drawn):
            stack += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)]
            stack += [nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
        stack += [nn.ConvTranspose2d(drawn[-1], channels, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*stack)
        init_normal(self, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Return the content of the hole, or the whole image with `region="random"`."""
        require_resolution(images, self.resolution, "ContextEncoder")
        require_several(images, self)
        return self.layers(images)


class ContextDiscriminator(nn.Module):
    """The content of holes `[N, channels, H, W]` to logits `[N]`; it does not see the context.

    `resolution` is that of the generator's output: half of the images' for region=centre. `batch_norm=False` is not the
    paper's: gradient penalties need it. Raises ConfigError unless `resolution`, or its shorter side, is a power of two
    from 16 on, and in forward for images of another.
    """

    def __init__(
        self, resolution: Resolution = 64, channels: Width = 3, width: Width = 64, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.resolution = settled(resolution)
        widths = _widths(resolution, width, "ContextDiscriminator")
        end = start_of(resolution, len(widths))
        self.layers = nn.Sequential(*_halvings(channels, widths, batch_norm), nn.Conv2d(widths[-1], 1, end))
        init_normal(self, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images, `[N]`."""
        require_resolution(images, self.resolution, "ContextDiscriminator")
        return self.layers(images).flatten()


def _widths(resolution: Resolution, width: int, network: str, smallest: int = 16) -> list[int]:
    """Return the channels at every size down to 4x4, where they are `8·width`: 64, 64, 128, 256, 512 at 128 pixels."""
    halvings = doublings_from_4(resolution, network, smallest)
    return [width * 2 ** max(0, i + 4 - halvings) for i in range(halvings)]


def _halvings(channels: int, widths: list[int], batch_norm: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i, (narrow, wide) in enumerate(itertools.pairwise([channels, *widths])):
        layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1)]
        layers += [nn.BatchNorm2d(wide)] if i and batch_norm else []
        layers += [nn.LeakyReLU(0.2, inplace=True)]
    return layers
