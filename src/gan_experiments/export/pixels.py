"""The first and the last steps of an exported module: from pixels to what a network reads, and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from gan_experiments.drawing import to_uint8
from gan_experiments.export.signature import Options


class Start(nn.Module):
    """Images as the file takes them -> float32 [n, C, H, W] in [-1, 1]."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.eight, self.last = options.pixels == "uint8", options.layout == "nhwc"

    @override
    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        return (x.to(torch.float32) - 127.5) / 127.5 if self.eight else x

    def mask(self, mask: Tensor) -> Tensor:
        """Return a mask as a model reads it, float32 [n, 1, H, W]: 1 in the hole, which is where it is not 0."""
        return (self.first(mask) > 0).to(torch.float32)

    def first(self, images: Tensor) -> Tensor:
        """Return images with their channels first."""
        return images.permute(0, 3, 1, 2) if self.last else images


class Finish(nn.Module):
    """Float samples [n, C, H, W] in [-1, 1] -> images as the file gives them.

    `bare` samples, which are no images, stay as they are: waves [n, C, L]; points [n, 2, 1, 1] -> [n, 2].
    """

    def __init__(self, options: Options, bare: bool = False) -> None:
        super().__init__()
        self.eight, self.last, self.bare = options.pixels == "uint8", options.layout == "nhwc", bare

    @override
    def forward(self, samples: Tensor) -> Tensor:
        if self.bare:
            return samples.flatten(1) if samples.shape[2:].numel() == 1 else samples
        images = to_uint8(samples) if self.eight else samples
        return images.permute(0, 2, 3, 1).contiguous() if self.last else images
