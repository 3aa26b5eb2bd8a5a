"""StyleGAN-V: A Continuous Video Generator with the Price, Image Quality and Perks of StyleGAN2.

Ivan Skorokhodov, Sergey Tulyakov, Mohamed Elhoseiny, 2021. arXiv:2112.14683

The discriminator's idea alone (section 3.2, and DIGAN, arXiv:2202.10571): it sees a few frames and how far they are
apart. Differs from the paper: the frames are the channels of one image from the first layer on, as in DIGAN, and the
gaps are maps beside them, where the paper joins features of frames and modulates by the embedded gaps.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.bounds import Depth
from gan_experiments.contracts import ConfigError
from gan_experiments.layers.dropout import Draw


class FewFramesDiscriminator(nn.Module):
    """Clips `[N, C, T, H, W]` to logits `[N]`, by a discriminator of images that sees `frames` of them at once.

    `images` gets the frames and, as maps of a constant, the share of the clip between each and the next: `frames` · C +
    `frames` - 1 channels. The frames are drawn where there is a `draw`, in training, and else evenly spread. If
    `images` has a classifier, it tells the clips' categories. Raises ConfigError for fewer frames than that.
    """

    drawn = True

    def __init__(self, images: nn.Module, length: Depth = 16, frames: Annotated[int, Field(ge=2, le=64)] = 3) -> None:
        super().__init__()
        if frames > length:
            raise ConfigError(
                f"model.discriminator.frames={frames}: clips have {length}; type model.discriminator.frames={length} or"
                " less"
            )
        self.images, self.frames = images, frames
        auxiliary = getattr(images, "conditioning", "none") == "auxiliary"
        self.categories = int(getattr(images, "classes", 0)) if auxiliary else 0

    def chosen(self, n: int, length: int, like: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the frames to see of n clips in their order, int64 `[n, frames]`, none of them twice."""
        if draw is None:
            spread = torch.linspace(0, length - 1, self.frames, device=like.device).round().long()
            return spread.expand(n, -1)
        return draw(torch.rand, n, length).to(like.device).argsort(1)[:, : self.frames].sort(1).values

    def features(self, clips: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the last layer's input, `[N, C, T, H, W]` -> `[N, F]`."""
        n, _, length, height, width = clips.shape
        times = self.chosen(n, length, clips, draw)
        seen = clips.transpose(1, 2)[torch.arange(n, device=clips.device)[:, None], times]  # [N, frames, C, H, W]
        gaps = times.diff(dim=1).to(clips.dtype) / length
        maps = gaps[:, :, None, None].expand(-1, -1, height, width)
        return self.images.features(torch.cat([seen.flatten(1, 2), maps], dim=1))  # type: ignore[operator]

    def head(self, features: Tensor) -> Tensor:
        """Return the logits of features `[N, F]` -> `[N]`."""
        return self.images.head(features)  # type: ignore[operator]

    def categorise(self, features: Tensor) -> Tensor:
        """Return the logits of the categories, `[N, F]` -> `[N, categories]`."""
        return self.images.classify(features)  # type: ignore[operator]

    @override
    def forward(self, clips: Tensor, draw: Draw | None = None) -> Tensor:
        """Return the logits of clips."""
        return self.head(self.features(clips, draw))
