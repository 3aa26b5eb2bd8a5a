"""Differentiable Augmentation for Data-Efficient GAN Training.

Shengyu Zhao, Zhijian Liu, Ji Lin, Jun-Yan Zhu, Song Han, 2020. arXiv:2006.10738

Differs from the paper: none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan_experiments.augment.augmentation import Augmentation, Draw
from gan_experiments.contracts import ConfigError


class DiffAugment(Augmentation):
    """Augmentation of all real and fake images that the discriminator sees (section 3.2).

    It is applied in the discriminator's updates and in the generator's, whose gradients pass through it. `policy` names
    the kinds in their order, separated by commas: "color", "translation", "cutout". Raises ConfigError for another
    name.
    """

    def __init__(self, policy: str = "color,translation,cutout") -> None:
        super().__init__()
        self.policy = [name.strip() for name in policy.split(",") if name.strip()]
        for name in self.policy:
            if name not in KINDS:
                raise ConfigError(
                    f"DiffAugment was given {name!r} in its policy: it knows {', '.join(KINDS)};"
                    ' type augment.policy="color,translation,cutout"'
                )

    def forward(self, images: Tensor, draw: Draw | None = None) -> Tensor:
        """Augment images `[N, C, H, W]` -> `[N, C, H, W]`, each with random numbers of its own.

        The fourth of four channels is transparency, which "color" leaves as it is. `draw(sampler, *shape)` makes the
        random numbers, on any device, in any float type; by default on the images' device, from torch's global
        generator.
        """
        if draw is None:
            draw = lambda sampler, *shape: sampler(shape, device=images.device)  # noqa: E731
        for name in self.policy:
            # Of RGB and transparency, colours change alone.
            colours, rest = images.split([3, 1], dim=1) if name == "color" and images.shape[1] == 4 else (images, None)
            for augment in KINDS[name]:
                colours = augment(colours, draw)
            images = colours if rest is None else torch.cat([colours, rest], dim=1)
        return images


def brightness(images: Tensor, draw: Draw) -> Tensor:
    """Add U(-½, ½) to the whole image."""
    return images + (draw(torch.rand, len(images), 1, 1, 1).to(images) - 0.5)


def saturation(images: Tensor, draw: Draw) -> Tensor:
    """Scale the distance to grey, the mean over channels, by U(0, 2); a grey image stays as it is."""
    grey = images.mean(dim=1, keepdim=True)
    return (images - grey) * (2 * draw(torch.rand, len(images), 1, 1, 1).to(images)) + grey


def contrast(images: Tensor, draw: Draw) -> Tensor:
    """Scale the distance to the image's mean by U(½, 1½)."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (draw(torch.rand, len(images), 1, 1, 1).to(images) + 0.5) + mean


def translation(images: Tensor, draw: Draw, ratio: float = 0.125) -> Tensor:
    """Shift by up to an eighth of each side, in whole pixels; fill with zeros (mid-grey)."""
    n, channels, height, width = images.shape
    rows, rows_inside = _shifted(height, ratio, n, draw, images.device)
    columns, columns_inside = _shifted(width, ratio, n, draw, images.device)
    sample = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    moved = images[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return moved * (rows_inside[:, None, :, None] & columns_inside[:, None, None, :])


def cutout(images: Tensor, draw: Draw, ratio: float = 0.5) -> Tensor:
    """Set a rectangle of half of each side to zero (mid-grey); its centre is inside, its edges may be outside."""
    n, _, height, width = images.shape
    rows = _cut(height, ratio, n, draw, images.device)
    columns = _cut(width, ratio, n, draw, images.device)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


KINDS: dict[str, list[Callable[[Tensor, Draw], Tensor]]] = {
    "color": [brightness, saturation, contrast],
    "translation": [translation],
    "cutout": [cutout],
}


def _integers(low: int, high: int, n: int, draw: Draw, device: torch.device) -> Tensor:
    """Draw whole numbers from low to high, both included, int64 [n, 1]."""
    u = draw(torch.rand, n, 1).to(device=device, dtype=torch.float32)
    return (low + u * (high + 1 - low)).floor().long().clamp(max=high)  # a coarse type may round u up to 1


def _shifted(side: int, ratio: float, n: int, draw: Draw, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where each of `side` pixels is read from, int64 [n, side], and whether that lies inside the image."""
    reach = int(side * ratio + 0.5)
    source = torch.arange(side, device=device) + _integers(-reach, reach, n, draw, device)
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def _cut(side: int, ratio: float, n: int, draw: Draw, device: torch.device) -> Tensor:
    """Return which of `side` pixels lie within the cut, bool [n, side]."""
    size = int(side * ratio + 0.5)
    start = _integers(0, side - size % 2, n, draw, device) - size // 2
    pixels = torch.arange(side, device=device)
    return (pixels >= start) & (pixels < start + size)
