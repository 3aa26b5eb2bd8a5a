"""AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial Networks.

Tao Xu, Pengchuan Zhang, Qiuyuan Huang, Han Zhang, Zhe Gan, Xiaolei Huang, Xiaodong He, 2017. arXiv:1711.10485

The generator of figure 2. Its discriminators are those of StackGAN++, which are told the sentence itself.

Differs from the paper: the mask of padding is each sample's own, where the authors' code mixes up those of a batch; the
ε of conditioning augmentation are the last numbers of z, so that a sample is a function of z and the caption; other
resolutions add or remove stages at the wide end of the first branch.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from gan_experiments.bounds import Count, Resolution, Width
from gan_experiments.layers.init import init_orthogonal
from gan_experiments.layers.resolution import doublings_from_4, start_of
from gan_experiments.networks.stackgan import ConditioningAugmentation, convolution
from gan_experiments.networks.stackgan_v2 import Residual, Scales, enlarging, sizes_of
from gan_experiments.networks.text import Text


class WordAttention(nn.Module):
    """F_attn of section 3.1: for each place of maps, the mean of the words' codes, weighted by how well they fit."""

    def __init__(self, text_features: int, width: int) -> None:
        super().__init__()
        self.words = nn.Linear(text_features, width, bias=False)  # U of the paper

    def forward(self, h: Tensor, text: Text) -> tuple[Tensor, Tensor]:
        """Return contexts `[N, width, H, W]` of maps of this shape, and the weights of the words `[N, L, H, W]`.

        The weights of a place sum to 1. Padding has none; of a caption without words all of it is read, which is 0.
        """
        assert text.words is not None
        assert text.mask is not None
        e = self.words(text.words.transpose(1, 2))  # [N, L, width]
        read = text.mask | ~text.mask.any(1, keepdim=True)
        s = torch.einsum("nlc,nchw->nlhw", e, h)
        beta = s.masked_fill(~read[:, :, None, None], -torch.inf).softmax(dim=1)
        return torch.einsum("nlhw,nlc->nchw", beta, e), beta


class AttentionBranch(nn.Module):
    """Maps of one scale and words to maps of twice the height and width: F_i of equation 1."""

    def __init__(self, text_features: int, width: int, blocks: int) -> None:
        super().__init__()
        self.attention = WordAttention(text_features, width)
        self.blocks = nn.Sequential(*(Residual(2 * width) for _ in range(blocks)))
        self.enlarging = enlarging(2 * width, width)

    def forward(self, h: Tensor, text: Text) -> tuple[Tensor, Tensor]:
        """Return maps of maps `[N, width, H, W]`, and the weights of the words `[N, L, H, W]`."""
        context, weights = self.attention(h, text)
        return self.enlarging(self.blocks(torch.cat([h, context], dim=1))), weights


class AttnGANGenerator(nn.Module):
    """z `[N, latent_dim]` and a `Text` with words to images `[N, channels, H, W]` in [-1, 1] of several scales.

    The largest have `resolution`, the smallest a half of it for each further one of `scales`. z are `noise_dim` numbers
    and the `condition_dim` numbers ε. `width` is the number of channels at every scale, and `blocks` that of residual
    blocks of each further one. Raises ConfigError unless the first scale, or its shorter side, is a power of two from 8
    on.
    """

    conditional = True

    def __init__(
        self,
        text_features: Width = 256,
        noise_dim: Width = 100,
        resolution: Resolution = 256,
        channels: Width = 3,
        width: Width = 32,
        condition_dim: Width = 100,
        scales: Scales = 3,
        blocks: Count = 2,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        doublings_from_4(resolution, name, smallest=8 << scales - 1)
        self.augmentation = ConditioningAugmentation(text_features, condition_dim, gated=True)
        self._parts = [noise_dim, condition_dim]
        self.latent_dim = sum(self._parts)
        smallest = sizes_of(resolution, scales)[0]
        stages = doublings_from_4(smallest, name, smallest=8)
        self._start = start_of(smallest, stages)
        widths = [width * 2**i for i in reversed(range(stages + 1))]  # 512, 256, 128, 64, 32
        first = 2 * widths[0] * math.prod(self._start)
        self.first = nn.Sequential(nn.Linear(self.latent_dim, first, bias=False), nn.BatchNorm1d(first), nn.GLU(dim=1))
        self.layers = nn.Sequential(*(enlarging(wide, narrow) for wide, narrow in itertools.pairwise(widths)))
        self.branches = nn.ModuleList(AttentionBranch(text_features, width, blocks) for _ in range(scales - 1))
        self.images = nn.ModuleList(nn.Sequential(convolution(width, channels), nn.Tanh()) for _ in range(scales))
        init_orthogonal(self)

    def attended(self, z: Tensor, text: Text) -> tuple[list[Tensor], list[Tensor]]:
        """Generate images of each scale, the smallest first, and the weights of the words `[N, L, h, w]`.

        Of each scale but the first there are those with which the maps of the scale before it are read.
        """
        noise, epsilon = z.split(self._parts, dim=1)
        code = self.augmentation.sample(text.sentence, epsilon)
        h = self.layers(self.first(torch.cat([code, noise], dim=1)).unflatten(1, (-1, *self._start)))
        images, weights = [self.images[0](h)], []
        for branch, image in zip(self.branches, self.images[1:], strict=True):
            h, of_words = branch(h, text)
            images.append(image(h))
            weights.append(of_words)
        return images, weights

    def scales(self, z: Tensor, text: Text) -> list[Tensor]:
        """Generate images of each scale, the smallest first, of z `[N, latent_dim]` and a `Text` of N captions."""
        return self.attended(z, text)[0]

    def forward(self, z: Tensor, text: Text) -> Tensor:
        """Generate the largest images of z `[N, latent_dim]` and a `Text` of N captions -> `[N, channels, H, W]`."""
        return self.scales(z, text)[-1]
