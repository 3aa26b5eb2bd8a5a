"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros, 2017. arXiv:1703.10593

Differs from the paper: none (appendix 7.2; details as in pytorch-CycleGAN-and-pix2pix).
"""

from __future__ import annotations

from torch import Tensor, nn

from gan_experiments.contracts import ConfigError
from gan_experiments.layers.init import init_normal


class ResNetTranslator(nn.Module):
    """Images of a domain to the other, `[N, channels_in, H, W]` -> `[N, channels_out, H, W]` in [-1, 1] (appendix 7.2).

    c7s1-64, d128, d256, R256 times `blocks`, u128, u64, c7s1-3. The paper takes 6 blocks at 128 pixels, 9 from 256 on.
    Instance norm has no parameters here, so the convolutions keep their biases. Needs H and W that 4 divides: forward
    raises ConfigError for others.
    """

    def __init__(self, channels_in: int = 3, channels_out: int = 3, width: int = 64, blocks: int = 9) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels_in, width, 7),
            *_norm_relu(width),  # [N, 64, H, W]
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *_norm_relu(2 * width),  # [N, 128, H/2, W/2]
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            *_norm_relu(4 * width),  # [N, 256, H/4, W/4]
            *(TranslatorBlock(4 * width) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1),
            *_norm_relu(2 * width),  # [N, 128, H/2, W/2]
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1),
            *_norm_relu(width),  # [N, 64, H, W]
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, channels_out, 7),
            nn.Tanh(),
        )
        init_normal(self, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """The images translated, `[N, channels_in, H, W]` -> `[N, channels_out, H, W]`."""
        height, width = images.shape[-2:]
        if height % 4 or width % 4 or min(height, width) < 8:
            raise ConfigError(
                f"ResNetTranslator was given images of {height}x{width}: it needs sides that 4 divides, from 8 on;"
                " type data.resolution=128 or 256"
            )
        return self.layers(images)


class TranslatorBlock(nn.Module):
    """Two reflected 3x3 convolutions beside the identity, no ReLU after the sum: `[N, C, H, W]`, unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            *_norm_relu(channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x and what the block adds to it."""
        return x + self.layers(x)


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]
