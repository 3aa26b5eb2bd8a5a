"""Clips of the embedded digits moving and bouncing, made when they are asked for: {"real", "label"}.

Moving digits are those of Srivastava et al. 2015, arXiv:1502.04681, section 4.1: one or two digits on black, which
bounce off the edges. The label of a clip is the direction in which its digits set out.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from gan_experiments.bounds import Count, OneOf, Positive, Resolution, Seed, Width, sides
from gan_experiments.contracts import ConfigError
from gan_experiments.data.batches import generator
from gan_experiments.data.cache import ImageArray
from gan_experiments.data.clip_module import ClipData
from gan_experiments.data.images import Digits

DIRECTIONS = ("right", "down and right", "down", "down and left", "left", "up and left", "up", "up and right")
SHARE = 28 / 64
"""A digit's side as a share of the frame's shorter one."""
HELD_OUT = 10
"""Every so many digits of each class are of the split "test"."""
_SPLITS = {"train": 200, "test": 201}  # parts of the seed, as those of `batches`
VERSION = 1  # raise it when the same arguments would give other clips


class MovingDigits(ClipData):
    """Clips of moving digits; their class is a direction.

    Args:
        clips: their number; a tenth of it, of digits that are in no other, are the split "test".
        digits: how many there are in a clip. Where they cross, the lighter one is seen.
        speed: the least and the greatest, in parts of the frame's shorter side for each frame.
        classes: 4 or 8 directions in which all digits of a clip set out; they begin in the half that they leave. With 0
            each sets out anywhere and has a direction of its own.
        drawn: which clips there are; another number draws others. The seed changes their order alone, so that the
            scores of runs with several seeds compare.
        settings: the other arguments of `ClipData`.

    Raises ConfigError for another number of classes, and for frames that are too small.
    """

    splits = ("train", "test")

    def __init__(
        self,
        resolution: Resolution = 32,
        channels: Width = 1,
        clips: Count = 10_000,
        digits: Annotated[int, OneOf(1, 2)] = 1,
        speed: Annotated[list[Positive], Field(min_length=2, max_length=2)] = (0.02, 0.04),  # type: ignore[assignment]
        classes: Annotated[int, OneOf(0, 4, 8)] = 4,
        drawn: Seed = 0,
        **settings: Any,
    ) -> None:
        super().__init__(resolution, channels, classes=classes, **settings)
        if classes not in (0, 4, 8):
            raise ConfigError(f"data.classes={classes}: digits set out in 4 directions or 8; type 4, 8, or 0 for any")
        if min(sides(resolution)) < 16:
            raise ConfigError(
                f"data.resolution={resolution}: digits of {round(SHARE * min(sides(resolution)))} pixels cannot be"
                " told; type data.resolution=32"
            )
        self.number, self.digits, self.speed = clips, digits, (min(speed), max(speed))
        self.drawn = drawn

    @override
    def load(self, split: str) -> ImageArray:
        """Draw how each clip of a split moves; its frames are made when they are asked for."""
        return MovingClips(self, split)

    @property
    @override
    def title(self) -> str:
        return "MovingDigits"


class MovingClips(ImageArray):
    """The clips of a split, uint8 [N, C, T, H, W], made when they are asked for.

    `digit` int64 [N, digits] tells which digits are seen, `places` float [N, digits, T, 2] where the top left corner of
    each is, in pixels down and to the right.
    """

    def __init__(self, of: MovingDigits, split: str) -> None:
        number = of.number if split == "train" else max(of.number // HELD_OUT, 2)
        number = number if of.limit is None else min(number, of.limit)
        height, width = sides(of.resolution)
        self.frame, self.side = (of.channels, of.length, height, width), round(SHARE * min(height, width))
        rng = generator(of.drawn, _SPLITS[split])
        images, labels = Digits._read()
        labels = labels.long()
        rank = torch.stack([labels == c for c in range(10)]).cumsum(1)[labels, torch.arange(len(labels))]
        chosen = torch.nonzero((rank % HELD_OUT == 0) == (split == "test"))[:, 0]
        small = F.interpolate(images[chosen].float(), (self.side, self.side), mode="bilinear", antialias=True)
        self.shapes = small[:, 0] / 255  # [digits of the split, side, side]
        self.which = torch.randint(len(chosen), (number, of.digits), generator=rng)
        self.digit = labels[chosen][self.which]
        direction = torch.arange(number) % of.classes if of.classes else None
        self.places = _places(number, of, (height - self.side, width - self.side), direction, rng)
        said = [VERSION, number, of.digits, *of.speed, of.classes, of.drawn, split, *self.frame]
        names = [DIRECTIONS[i * 8 // of.classes] for i in range(of.classes)]
        fingerprint = hashlib.sha256(repr(said).encode()).hexdigest()
        super().__init__(_Made(self), direction, fingerprint, split, names)  # type: ignore[arg-type]

    def __reduce__(self) -> Any:
        return _again, (dict(self.__dict__),)

    def made(self, rows: Tensor) -> Tensor:
        """Draw the clips of `rows`, int64 [n] -> uint8 [n, C, T, H, W]."""
        channels, _, height, width = self.frame
        shapes = self.shapes[self.which[rows]][:, :, None]  # [n, digits, 1, side, side]
        down, right = self.places[rows].unbind(-1)  # [n, digits, T]
        spread = _spread(down, self.side, height) @ shapes @ _spread(right, self.side, width).mT
        clips = spread.amax(1).mul_(255).round_().to(torch.uint8)  # [n, T, H, W]
        return clips[:, None].expand(-1, channels, -1, -1, -1).contiguous()


def _again(state: dict[str, Any]) -> MovingClips:
    clips = MovingClips.__new__(MovingClips)
    clips.__dict__.update(state)
    return clips


class _Made:
    """As much of the pixels [N, C, T, H, W] as is asked of them."""

    def __init__(self, of: MovingClips) -> None:
        self.of = of

    def __len__(self) -> int:
        return len(self.of.which)

    @property
    def shape(self) -> torch.Size:
        """[N, C, T, H, W]."""
        return torch.Size([len(self), *self.of.frame])

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        return self.of.made(torch.arange(len(self))[rows])

    def index_select(self, _: int, rows: Tensor) -> Tensor:
        """Return the clips of `rows`."""
        return self.of.made(rows)


def _spread(places: Tensor, side: int, whole: int) -> Tensor:
    """Return how much of each of `side` pixels, the first at `places`, lies in each of `whole`: [..., whole, side]."""
    distance = torch.arange(whole)[:, None] - torch.arange(side) - places[..., None, None]
    return (1 - distance.abs()).clamp_(min=0)


def _places(
    number: int, of: MovingDigits, room: tuple[int, int], direction: Tensor | None, rng: torch.Generator
) -> Tensor:
    """Draw where the digits of each clip are, in pixels, float [number, digits, T, 2]."""
    draws = torch.rand(number, of.digits, 4, generator=rng)
    angle = (
        2 * math.pi * (draws[..., 0] if direction is None else (direction / of.classes)[:, None].expand(-1, of.digits))
    )
    low, high = (speed * min(sides(of.resolution)) for speed in of.speed)
    step = (low + (high - low) * draws[..., 1])[..., None] * torch.stack([angle.sin(), angle.cos()], dim=-1)
    start = draws[..., 2:]  # shares of the room
    if direction is not None:
        leaving = torch.where(step > 0, start / 2, 1 - start / 2)
        start = torch.where(step.abs() > 1e-4, leaving, start)
    size = torch.tensor(room, dtype=torch.float32)
    moved = start[:, :, None] * size + step[:, :, None] * torch.arange(of.length)[:, None]
    moved = moved.remainder(2 * size)
    return torch.minimum(moved, 2 * size - moved)  # bounced off
