"""What every variant that turns noise into images shares: its two networks, its noise, its samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.engine import AdversarialModule


class NoiseToImage(AdversarialModule):
    """A generator [N, latent_dim] -> [N, C, H, W] in [-1, 1] and a discriminator of images -> logits, high means real.

    Args:
        generator: has the attribute `latent_dim`.
        discriminator: ends in logits, not in a sigmoid.
        augment: differentiable augmentation of all that the discriminator sees; None for none.
        engine: the arguments of `AdversarialModule`.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, augment: nn.Module | None = None, **engine: Any
    ) -> None:
        super().__init__({"generator": generator, "discriminator": discriminator}, **engine)
        self.augment = augment or None  # augment=none is an empty config

    def noise(self, n: int) -> Tensor:
        """z ~ N(0, 1) of shape [n, latent_dim], for use in the losses."""
        return self.draw(torch.randn, n, self.latent_dim)

    @property
    def latent_dim(self) -> int:
        """The number of components of z."""
        return int(self.generator.latent_dim)  # type: ignore[arg-type]

    def judge(self, images: Tensor) -> Tensor:
        """The discriminator's logits for images [n, C, H, W], augmented where the config asks for it."""
        return self.discriminator(images if self.augment is None else self.augment(images, self.draw))

    @property
    def classes(self) -> int:
        """The number of classes that the generator is conditioned on, 0 for none."""
        return int(getattr(self.generator, "classes", 0))

    @torch.no_grad()
    def sample(self, z: Tensor, ema: bool = True, labels: Tensor | None = None) -> Tensor:
        """z [n, latent_dim] -> images [n, C, H, W] in [-1, 1], by the averaged generator, in evaluation mode.

        A conditional generator needs `labels`, int64 [n].
        """
        generator = self.network("generator", ema)
        training = generator.training
        z = z.to(self.device, dtype=next(generator.parameters()).dtype)
        conditions = () if labels is None else (labels.to(self.device),)
        images = generator.eval()(z, *conditions)
        generator.train(training)
        return images

    def fixed_noise(self, n: int, seed: int, truncation: float | None = None) -> Tensor:
        """z [n, latent_dim] that depends on the seed alone, not on the device.

        With `truncation` no component is larger than that: the truncation trick, Brock et al. 2019, arXiv:1809.11096,
        section 3.1. Raises ConfigError unless it is above 0.
        """
        if truncation is not None and not (isinstance(truncation, (int, float)) and truncation > 0):
            raise ConfigError(f"truncation={truncation}: the largest |z| is a number above 0; type for example 0.5")
        generator = torch.Generator().manual_seed(seed)
        if truncation is None:
            return torch.randn(n, self.latent_dim, generator=generator, dtype=torch.float32)
        z = torch.empty(n, self.latent_dim)
        return nn.init.trunc_normal_(z, a=-truncation, b=truncation, generator=generator)

    def fixed_labels(self, n: int, seed: int) -> Tensor | None:
        """Labels int64 [n], each class as likely, that depend on the seed alone; None without classes."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(self.classes, (n,), generator=generator) if self.classes else None

    def sampler(self, seed: int, ema: bool = True, truncation: float | None = None) -> Sampler:
        """The images that the scores are computed from."""
        return Sampler(self, seed, ema, truncation)

    def walk(self, places: int, n: int, seed: int, steps: int = 20) -> Iterator[Tensor]:
        """z [n, latent_dim] along n closed walks through `places` random places each, `steps` from one to the next."""
        stations = self.fixed_noise(places * n, seed).view(places, n, -1)
        for here, there in zip(stations, stations.roll(-1, dims=0), strict=True):
            for step in range(steps):
                yield slerp(here, there, step / steps)

    def sheet_inputs(self, fixed: Mapping[str, Tensor], n: int) -> Batch:
        """What the sample sheets are made from at every interval: the same n points of the latent space."""
        return {"z": self.fixed_noise(n, seed=self.run.seed)}

    def sheet(self, inputs: Batch, ema: bool = True) -> Tensor:
        """Images [n, 1, C, H, W]: n cells of one image."""
        return self.sample(inputs["z"], ema)[:, None]


@dataclass(frozen=True)
class Sampler:
    """Draws fixed images chunk by chunk, each the same on every rank."""

    model: NoiseToImage
    seed: int
    ema: bool
    truncation: float | None

    def __call__(self, index: int, n: int) -> Tensor:
        """The images [n, C, H, W] in [-1, 1] of chunk `index`."""
        z = self.model.fixed_noise(n, self.chunk_seed(index), self.truncation)
        return self.model.sample(z, self.ema, self.labels(index, n))

    def labels(self, index: int, n: int) -> Tensor | None:
        """The classes int64 [n] that chunk `index` is asked for; None for a generator without classes."""
        return self.model.fixed_labels(n, self.chunk_seed(index))

    def along(self, z: Tensor) -> Tensor:
        """The images [n, C, H, W] of places z [n, latent_dim]; calls with as many places have the same classes."""
        return self.model.sample(z, self.ema, self.model.fixed_labels(len(z), self.seed))

    def chunk_seed(self, index: int) -> int:
        """Where the draws of a chunk begin: a generator on the CPU reads 32 bits, so no seed is shifted beyond them."""
        return (self.seed * 0x9E3779B1 + index) % 2**32  # far from the chunks of other seeds


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Spherical interpolation of rows [n, d], a at t = 0 and b at t = 1 (White 2016, arXiv:1609.04468)."""
    cosine = F.cosine_similarity(a, b, dim=-1).clamp(-1, 1)[:, None]
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    # Nearly parallel rows: the straight line is the limit.
    straight = sine < 1e-6
    weights = [torch.sin((1 - t) * angle) / sine, torch.sin(t * angle) / sine]
    weight_a, weight_b = (torch.where(straight, s, w) for s, w in zip((1 - t, t), weights, strict=True))
    return weight_a * a + weight_b * b
