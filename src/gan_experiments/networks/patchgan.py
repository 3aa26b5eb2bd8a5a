"""Image-to-Image Translation with Conditional Adversarial Networks.

Phillip Isola, Jun-Yan Zhu, Tinghui Zhou, Alexei A. Efros, 2016. arXiv:1611.07004

Differs from the paper: the discriminator returns logits, without the sigmoid. CycleGAN's discriminator is this one with
instance norm.
"""

from __future__ import annotations

from torch import Tensor, nn

from gan_experiments.bounds import Depth, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.plain_norm import plain_norm


class PatchDiscriminator(nn.Module):
    """Images to a logit for each overlapping patch, `[N, channels, H, W]` -> `[N, 1, H', W']` (appendix 6.1.2).

    C64-C128-C256-C512: `layers` convolutions of stride 2, then two of stride 1: 30x30 logits at 256 pixels. The
    receptive field is 16x16, 34x34, 70x70 or 142x142 pixels with 1, 2, 3 or 4 layers. `norm` is "instance", "batch" or
    "none"; before batch norm a convolution has no bias. Raises ConfigError for another norm, and in forward for images
    too small for a logit.
    """

    def __init__(self, channels: Width = 3, width: Width = 64, layers: Depth = 3, norm: str = "instance") -> None:
        super().__init__()
        self.smallest = 3 * 2**layers
        stack: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        narrow = width
        for i in range(1, layers + 1):
            wide = width * min(2**i, 8)
            stride = 2 if i < layers else 1
            stack += [nn.Conv2d(narrow, wide, 4, stride=stride, padding=1, bias=norm != "batch")]
            stack += [plain_norm(norm, wide, "PatchDiscriminator"), nn.LeakyReLU(0.2, inplace=True)]
            narrow = wide
        self.layers = nn.Sequential(*stack, nn.Conv2d(narrow, 1, 4, stride=1, padding=1))
        init_normal(self, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit for each patch, `[N, channels, H, W]` -> `[N, 1, H', W']`."""
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest:
            raise ConfigError(
                f"PatchDiscriminator was given images of {height}x{width}: with this number of layers it needs"
                f" {self.smallest} pixels or more; type data.resolution=256, or fewer layers"
            )
        return self.layers(images)


class PixelDiscriminator(nn.Module):
    """Images to a logit of each single pixel, `[N, channels, H, W]` -> `[N, 1, H, W]` (section 4.4, appendix 6.1.2).

    C64-C128 of 1x1 convolutions. `norm` is as in `PatchDiscriminator`.
    """

    def __init__(self, channels: int = 3, width: int = 64, norm: str = "instance") -> None:
        super().__init__()
        bias = norm != "batch"
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 2 * width, 1, bias=bias),
            plain_norm(norm, 2 * width, "PixelDiscriminator"),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * width, 1, 1, bias=bias),
        )
        init_normal(self, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Return a logit for each pixel, `[N, channels, H, W]` -> `[N, 1, H, W]`."""
        return self.layers(images)
