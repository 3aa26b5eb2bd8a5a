"""Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks.

Jun-Yan Zhu, Taesung Park, Phillip Isola, Alexei A. Efros, 2017. arXiv:1703.10593

Differs from the paper: none (appendix 7.2; details as in pytorch-CycleGAN-and-pix2pix).
"""

from __future__ import annotations

from torch import Tensor, nn

from gan_experiments.bounds import Depth, Width
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.plain_norm import plain_norm
from gan_experiments.layers.resolution import require_sides


class ResNetTranslator(nn.Module):
    """Images of one domain to another, `[N, channels_in, H, W]` -> `[N, channels_out, H, W]` in [-1, 1] (appendix 7.2).

    c7s1-64, d128, d256, R256 times `blocks`, u128, u64, c7s1-3. The paper uses 6 blocks at 128 pixels and 9 from 256
    on. `norm` is "instance", "batch" or "none"; instance norm has no parameters, so the convolutions keep their biases.
    H and W must be multiples of 4 (`multiple`) and at least 8: forward raises ConfigError for others.
    """

    multiple, smallest = 4, 8

    def __init__(
        self,
        channels_in: Width = 3,
        channels_out: Width = 3,
        width: Width = 64,
        blocks: Depth = 9,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        bias = norm != "batch"
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(channels_in, width, 7, bias=bias),
            *_norm_relu(norm, width),  # [N, 64, H, W]
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=bias),
            *_norm_relu(norm, 2 * width),  # [N, 128, H/2, W/2]
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=bias),
            *_norm_relu(norm, 4 * width),  # [N, 256, H/4, W/4]
            *(TranslatorBlock(4 * width, norm) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1, bias=bias),
            *_norm_relu(norm, 2 * width),  # [N, 128, H/2, W/2]
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, bias=bias),
            *_norm_relu(norm, width),  # [N, 64, H, W]
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, channels_out, 7),
            nn.Tanh(),
        )
        init_normal(self, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Translate images, `[N, channels_in, H, W]` -> `[N, channels_out, H, W]`."""
        require_sides(images, self.multiple, "ResNetTranslator", self.smallest)
        return self.layers(images)


class TranslatorBlock(nn.Module):
    """Residual block of two reflection-padded 3x3 convolutions, no ReLU after the sum: `[N, C, H, W]` -> the same."""

    def __init__(self, channels: int, norm: str = "instance") -> None:
        super().__init__()
        bias = norm != "batch"
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            *_norm_relu(norm, channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            plain_norm(norm, channels, "ResNetTranslator"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the block's residual."""
        return x + self.layers(x)


def _norm_relu(norm: str, channels: int) -> list[nn.Module]:
    return [plain_norm(norm, channels, "ResNetTranslator"), nn.ReLU(inplace=True)]
