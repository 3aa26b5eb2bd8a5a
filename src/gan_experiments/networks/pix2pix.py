"""Image-to-Image Translation with Conditional Adversarial Networks.

Phillip Isola, Jun-Yan Zhu, Tinghui Zhou, Alexei A. Efros, 2016. arXiv:1611.07004

The discriminators are in `patchgan.py`.
Differs from the paper: none (section 3.2.1, appendix 6.1.1). The three innermost layers of the decoder have dropout, as
in the paper and its Torch code; in pytorch-CycleGAN-and-pix2pix they are the second to fourth innermost.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gan_experiments.bounds import BelowOne, Resolution, Width
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.dropout import Draw, DrawnDropout
from gan_experiments.layers.init import init_normal
from gan_experiments.layers.plain_norm import plain_norm
from gan_experiments.layers.resolution import halvings_of, require_sides


class UNet(nn.Module):
    """Images to images, `[N, channels_in, H, W]` -> `[N, channels_out, H, W]` in [-1, 1], with skip connections.

    The encoder C64-C128-C256-C512-...-C512 has 4x4 convolutions of stride 2, down to 1x1 at `resolution`. The decoder
    mirrors it, with a skip connection from the encoder's map of the same size (appendix 6.1.1). The first and the last
    layer and the innermost layer of the encoder have no norm. `norm` is "batch", which uses its batch's statistics in
    evaluation mode too, "instance" or "none"; before batch norm a convolution has no bias.

    `dropout` is the noise of section 2.1: pass `draw` to forward wherever it is wanted, at test time too. `drawn` says
    whether the network has dropout. `latent_dim` is the length of a code z that is concatenated to the input as
    constant maps; with `latent_at="all"` it is concatenated to the input of every encoder layer (Zhu et al. 2017,
    arXiv:1711.11586, figure 3).

    Sides must be multiples of `multiple`, `resolution` or more. Raises ConfigError unless `resolution` is a power of
    two from 16 on, for another norm or `latent_at`, and in forward for other sides.
    """

    def __init__(
        self,
        channels_in: Width = 3,
        channels_out: Width = 3,
        resolution: Resolution = 256,
        width: Width = 64,
        norm: str = "batch",
        dropout: BelowOne = 0.5,
        latent_dim: Annotated[int, Field(ge=0, le=2**17)] = 0,
        latent_at: str = "all",
    ) -> None:
        super().__init__()
        if latent_at not in ("all", "input"):
            raise ConfigError(f"UNet was given latent_at={latent_at}: type latent_at=all or latent_at=input")
        depth = halvings_of(resolution, "UNet")
        self.multiple = 2**depth
        self.latent_dim, self.latent_everywhere = latent_dim, latent_at == "all"
        bias = norm != "batch"
        widths = [width * min(2**i, 8) for i in range(depth)]  # 64, 128, 256, 512, ..., 512

        self.encoder, self.encoder_norms = nn.ModuleList(), nn.ModuleList()
        for level, (narrow, wide) in enumerate(zip([channels_in, *widths], widths, strict=False)):
            plain = level in (0, depth - 1)
            z = latent_dim if level == 0 or self.latent_everywhere else 0
            # Without a norm behind it the first convolution has no bias either, as in the PyTorch code.
            self.encoder.append(nn.Conv2d(narrow + z, wide, 4, stride=2, padding=1, bias=bias))
            self.encoder_norms.append(nn.Identity() if plain else plain_norm(norm, wide, "UNet", running=False))

        self.decoder, self.decoder_norms = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(1, depth)):
            joined = widths[level] * (1 if level == depth - 1 else 2)
            narrow = widths[level - 1]
            self.decoder.append(nn.ConvTranspose2d(joined, narrow, 4, stride=2, padding=1, bias=bias))
            self.decoder_norms.append(plain_norm(norm, narrow, "UNet", running=False))
        self.to_image = nn.ConvTranspose2d(2 * width, channels_out, 4, stride=2, padding=1)
        self.drawn = dropout > 0
        self.dropouts = nn.ModuleList(DrawnDropout(dropout) for _ in range(3 if dropout else 0))
        init_normal(self, std=0.02)

    def forward(self, images: Tensor, draw: Draw | None = None, z: Tensor | None = None) -> Tensor:
        """Translate; `draw` draws dropout's random numbers, see `DrawnDropout`; z is `[N, latent_dim]`, if any."""
        require_sides(images, self.multiple, "UNet")
        x, skips = images, []
        for level, (convolution, norm) in enumerate(zip(self.encoder, self.encoder_norms, strict=True)):
            if z is not None and (level == 0 or self.latent_everywhere):
                x = torch.cat([x, z[:, :, None, None].expand(-1, -1, *x.shape[-2:])], dim=1)
            x = F.leaky_relu(x, 0.2) if level else x  # of z too, as in the code
            x = norm(convolution(x))
            skips.append(x)
        skips.pop()
        for level, (convolution, norm) in enumerate(zip(self.decoder, self.decoder_norms, strict=True)):
            x = norm(convolution(F.relu(x)))
            if level < len(self.dropouts):
                x = self.dropouts[level](x, draw)
            x = torch.cat([skips.pop(), x], dim=1)
        return torch.tanh(self.to_image(F.relu(x)))
