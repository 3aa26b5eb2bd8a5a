"""Training Generative Adversarial Networks with Limited Data.

Tero Karras, Miika Aittala, Janne Hellsten, Samuli Laine, Jaakko Lehtinen, Timo Aila, 2020. arXiv:2006.06676

Differs from the paper: only images for which a general geometric transformation was drawn are resampled, the others are
moved by whole pixels, exactly. The reflection beyond an image's border is computed at twice its resolution and has no
end, so that no black is ever read. p is adjusted for the first time after `interval` batches, not after one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments import distributed
from gan_experiments.augment.augmentation import Augmentation, Draw
from gan_experiments.bounds import Positive, Rhythm, Share
from gan_experiments.contracts import ConfigError

PRESETS: dict[str, tuple[str, ...]] = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
}
PRESETS["bg"] = (*PRESETS["blit"], *PRESETS["geom"])
PRESETS["bgc"] = (*PRESETS["bg"], *PRESETS["color"])
PRESETS["bgcf"] = (*PRESETS["bgc"], *PRESETS["filter"])
PRESETS["bgcfn"] = (*PRESETS["bgcf"], "noise")
PRESETS["bgcfnc"] = (*PRESETS["bgcfn"], "cutout")

# The paper's orthogonal wavelets: Symlets of 6 and 2 vanishing moments.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633, 0.4910559419267466,
    0.787641141030194, 0.3379294217276218, -0.07263752278646252, -0.021060292512300564, 0.04472490177066578,
    0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
SYM2 = (-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025)
PEAK = 5  # the tap of SYM6 that is taken as its middle
POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # the power of natural images in the four bands, the lowest first


class ADA(Augmentation):
    """Augmentation of all images that the discriminator D sees, of a strength that adapts to D's overfitting.

    Each transformation is applied to each image with probability p. p is adjusted by r_t = E[sign D(x)] over the
    augmented real images (section 3): up while r_t is above the target, down while below. This needs logits for which 0
    means chance, as those of cross-entropy; the logits of a Wasserstein critic have no such value. The model calls
    `observe` with the real logits of each batch, and `adjust` once after each batch.

    Args:
        policy: presets (blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn, bgcfnc) and single
            transformations, separated by commas; they are applied in the paper's order, whatever the order here.
        p: the probability to begin with; it stays the same if `target` is None.
        target: the value at which r_t is held; None keeps p constant.
        interval: batches from one adjustment to the next.
        speed: real images in which p can move by 1.

    Raises ConfigError for another name in the policy.
    """

    p: Tensor
    signs: Tensor
    sym6: Tensor
    bands: Tensor

    def __init__(
        self,
        policy: str = "bgc",
        p: Share = 0.0,
        target: Share | None = 0.6,
        interval: Rhythm = 4,
        speed: Positive = 500_000,
    ) -> None:
        super().__init__()
        known = [*PRESETS, *PRESETS["bgcfnc"]]
        names = [name.strip() for name in policy.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"ADA was given {name!r} in its policy: it knows {', '.join(dict.fromkeys(known))};"
                    " type augment.policy=bgc"
                )
        self.policy = frozenset(kind for name in names for kind in PRESETS.get(name, (name,)))
        self.target, self.interval, self.speed = target, interval, speed
        self.register_buffer("p", torch.tensor(float(p)))
        # Since the last adjustment, of all ranks: the sum of the signs of D(real), and the number of images.
        self.register_buffer("signs", torch.zeros(2))
        self.register_buffer("sym6", torch.tensor(SYM6) / sum(SYM6), persistent=False)
        self.register_buffer("bands", _octaves(), persistent=False)

    def faults(self, channels: int) -> Iterator[str]:
        """Yield a line if colours are to change and there are none."""
        if channels not in (1, 3, 4) and self.policy & {*PRESETS["color"]}:
            yield (
                f"augment=ada: its transformations of colours are of grey, RGB and transparency, and data.channels="
                f"{channels}; type augment.policy=bg"
            )

    @torch.no_grad()
    def observe(self, real_logits: Tensor) -> None:
        """Record the signs of D's logits of augmented real images, `[n]` on each rank, unless p is constant."""
        if self.target is None:
            return
        n = len(real_logits)
        total = n * real_logits.sign().to(self.signs).mean()
        mean = distributed.mean_over_ranks(torch.stack([total, torch.full_like(total, n)]))
        self.signs += distributed.world_size() * mean

    @torch.no_grad()
    def adjust(self, batches: int) -> None:
        """Raise p if r_t is above the target, lower it if below, after each `interval`-th batch of `batches` in all.

        The step is the number of real images since the last step, of all ranks, divided by `speed`; p stays at 0 or
        above. To be called at the end of `training_step`, because callbacks write the checkpoint of a batch before the
        module's own hooks are called.
        """
        if self.target is None or batches % self.interval:
            return
        total, images = self.signs
        self.p += (total - self.target * images).sign() * images / self.speed
        self.p.clamp_(min=0)
        self.signs.zero_()

    @property
    def needs_zero_at_chance(self) -> bool:  # type: ignore[override]
        """Whether p is adjusted by the signs of the logits."""
        return self.target is not None

    def follow(self, p: float) -> None:
        """Set p, if no target adjusts it."""
        if self.target is None:
            self.p.fill_(p)

    def numbers(self) -> dict[str, float]:
        """Return p."""
        return {"p": self.p.item()}

    def forward(self, images: Tensor, draw: Draw | None = None) -> Tensor:
        """Augment images `[N, C, H, W]` -> `[N, C, H, W]`, each with random numbers of its own.

        Colours need C 1, 3 or 4, of which the fourth is transparency and stays as it is.

        `draw(sampler, n, *shape)` makes the random numbers, on any device; by default on the images' device, from
        torch's global generator. An image for which no transformation was drawn stays the same to the last bit. The
        result can be differentiated twice. Of rectangles, `rotate90` makes half turns alone. `imgfilter` needs sides of
        22 pixels or more. Raises ValueError for other shapes.
        """
        if [*self.faults(images.shape[1])]:
            raise ValueError(f"ADA was given images {list(images.shape)[1:]}: it needs 1, 3 or 4 channels")
        if draw is None:
            draw = lambda sampler, *shape: sampler(shape, device=images.device)  # noqa: E731
        with torch.autocast(images.device.type, enabled=False):
            augmented = images.to(torch.promote_types(images.dtype, torch.float32))
            dice = _Dice(draw, self.p, augmented)
            if self.policy & {*PRESETS["bg"]}:
                augmented = self._move(augmented, dice)
            if self.policy & {*PRESETS["color"]}:
                colours, rest = augmented[:, :3], augmented[:, 3:]  # the fourth channel is transparency
                colours = self._recolor(colours, dice)
                augmented = torch.cat([colours, rest], dim=1) if rest.shape[1] else colours
            if "imgfilter" in self.policy:
                augmented = _filter(augmented, dice, self.bands.to(augmented))
            if "noise" in self.policy:
                augmented = _noise(augmented, dice)
            if "cutout" in self.policy:
                augmented = _cutout(augmented, dice)
        return augmented.to(images.dtype)

    def _move(self, images: Tensor, dice: _Dice) -> Tensor:
        """Apply pixel blitting and general geometric transformations as one mapping of the plane (appendix B)."""
        size = images.shape[-2], images.shape[-1]
        plane = torch.eye(3, device=images.device, dtype=images.dtype).expand(dice.n, 3, 3)
        blit = general = plane
        for name, transformation in BLITS:
            if name in self.policy:
                blit = _product(blit, transformation(dice, size))
        for name, transformation in GEOMETRY:
            if name in self.policy:
                general = _product(general, transformation(dice, size))
        own = [torch.arange(side, device=images.device) for side in size]
        blitted = _read(images, blit, own, "nearest")
        if not self.policy & {*PRESETS["geom"]}:
            return blitted
        # Up to twice the resolution, with the old pixels at even places, and down again: no aliasing of images that are
        # rotated or shrunk.
        h = self.sym6.to(images)
        places = [torch.arange(-PEAK, 2 * side + PEAK, device=images.device) / 2 for side in size]
        fine = _read(_upsample(images, h), _product(blit, general), places, "bilinear", 2)
        resampled = _downsample(fine, h)
        moved = (general != plane).flatten(1).any(dim=1)
        return torch.where(moved[:, None, None, None], resampled, blitted)

    def _recolor(self, images: Tensor, dice: _Dice) -> Tensor:
        """Apply colour transformations as one affine mapping of the colours; grey stands for red = green = blue."""
        mapping = torch.eye(3, 4, device=images.device, dtype=images.dtype).expand(dice.n, 3, 4)
        for name, transformation in COLORS:
            if name in self.policy:
                mapping = transformation(dice, mapping)
        if images.shape[1] == 1:
            grey = torch.stack([mapping[:, :, :3].sum(2).mean(1), mapping[:, :, 3].mean(1)], dim=1)
            mapping = grey[:, None]  # [n, 1, 2]
        mapping = mapping[..., None, None]
        # Not by a matrix product, for which some devices use lower precision: the identity must change no image.
        recolored = mapping[:, :, -1] + mapping[:, :, 0] * images[:, :1]
        for channel in range(1, images.shape[1]):
            recolored = recolored + mapping[:, :, channel] * images[:, channel : channel + 1]
        return recolored


Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""


class _Dice:
    """The random numbers of one call, with a row for each image."""

    def __init__(self, draw: Draw, p: Tensor, images: Tensor) -> None:
        self.n, self.p, self.like = len(images), p, images
        self._draw = draw

    def uniform(self, *shape: int) -> Tensor:
        """Draw from U(0, 1), `[n, *shape]`."""
        return self._draw(torch.rand, self.n, *shape).to(self.like)

    def signed(self, *shape: int) -> Tensor:
        """Draw from U(-1, 1), `[n, *shape]`."""
        return 2 * self.uniform(*shape) - 1

    def below(self, k: int) -> Tensor:
        """Draw whole numbers from 0 to k - 1, `[n]`."""
        return (k * self.uniform()).floor().clamp(max=k - 1)  # a coarse type may round up to k

    def normal(self, *shape: int) -> Tensor:
        """Draw from N(0, 1), `[n, *shape]`."""
        return self._draw(torch.randn, self.n, *shape).to(self.like)

    def sometimes(self, value: Tensor, neutral: float, p: Tensor | None = None, coins: int = 1) -> Tensor:
        """Keep `value`, `[n]` or `[n, k]`, with probability p, and replace it by `neutral` otherwise.

        `coins` is 1 to decide for each row, or k to decide for each of its entries.
        """
        coin = self.uniform(*[coins] * (value.ndim - 1))
        return torch.where(coin < (self.p if p is None else p), value, neutral)


# -------------------------------------------------------------------- mappings of the plane
# Each is a matrix [n, 3, 3] that maps the place of an output pixel to the place that it is read from, in pixels from
# the middle, x to the right and y down.


def _xflip(dice: _Dice, size: Size) -> Tensor:
    sign = dice.sometimes(1 - 2 * dice.below(2), 1)
    return _plane(sign, 0, 0, 1)


def _rotate90(dice: _Dice, size: Size) -> Tensor:
    quarters = dice.below(4)
    if size[0] != size[1]:  # of a rectangle, quarter turns would lose much and show the rest several times
        quarters = 2 * (quarters >= 2)
    quarters = dice.sometimes(quarters, 0)
    return _rotation(quarters * (math.pi / 2))


def _xint(dice: _Dice, size: Size) -> Tensor:
    shift = dice.sometimes(dice.signed(2) / 8, 0)
    return _shift((shift * shift.new_tensor(size[::-1])).round())


def _scale(dice: _Dice, size: Size) -> Tensor:
    factor = dice.sometimes((0.2 * dice.normal()).exp2(), 1)
    return _plane(1 / factor, 0, 0, 1 / factor)


def _rotate(dice: _Dice, size: Size) -> Tensor:
    # Applied twice, so that p is the probability that at least one of the two is drawn.
    angle = dice.sometimes(math.pi * dice.signed(), 0, p=1 - (1 - dice.p).clamp(min=0).sqrt())
    return _rotation(angle)


def _aniso(dice: _Dice, size: Size) -> Tensor:
    factor = dice.sometimes((0.2 * dice.normal()).exp2(), 1)
    return _plane(1 / factor, 0, 0, factor)


def _xfrac(dice: _Dice, size: Size) -> Tensor:
    shift = dice.sometimes(dice.normal(2) / 8, 0)
    return _shift(shift * shift.new_tensor(size[::-1]))


BLITS: list[tuple[str, Callable[[_Dice, Size], Tensor]]] = [("xflip", _xflip), ("rotate90", _rotate90), ("xint", _xint)]
GEOMETRY: list[tuple[str, Callable[[_Dice, Size], Tensor]]] = [
    ("scale", _scale),
    ("rotate", _rotate),
    ("aniso", _aniso),
    ("rotate", _rotate),
    ("xfrac", _xfrac),
]


def _plane(xx: Tensor, xy: Tensor | float, yx: Tensor | float, yy: Tensor | float) -> Tensor:
    """Return the matrices [n, 3, 3] that map (x, y) to (xx x + xy y, yx x + yy y)."""
    rows = [xx, xy, 0, yx, yy, 0, 0, 0, 1]
    entries = [row if isinstance(row, Tensor) else torch.full_like(xx, row) for row in rows]
    return torch.stack(entries, dim=1).unflatten(1, (3, 3))


def _rotation(angle: Tensor) -> Tensor:
    """Return the mapping that rotates images by `angle` [n], counter-clockwise."""
    cosine, sine = angle.cos(), angle.sin()
    return _plane(cosine, -sine, sine, cosine)


def _shift(shift: Tensor) -> Tensor:
    """Return the mapping that moves images by `shift` [n, 2], to the right and down."""
    still = torch.eye(3, device=shift.device, dtype=shift.dtype).expand(len(shift), 3, 3)
    return torch.cat([still[:, :, :2], still[:, :, 2:] - F.pad(shift, (0, 1))[:, :, None]], dim=2)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices [n, i, k] x [n, k, j]; see `ADA._recolor` for why not by matmul."""
    return (left[:, :, :, None] * right[:, None]).sum(dim=2)


# -------------------------------------------------------------------- resampling


class _Sample(torch.autograd.Function):
    """`grid_sample` with reflection beyond the borders, as a linear function of the images.

    Its derivative is the transposed mapping `_Spread`, whose derivative is `_Sample` again. `grid_sample` itself has no
    second derivative in most versions of torch.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor, mode: str) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape, ctx.mode = images.shape, mode
        return F.grid_sample(images, grid, mode, padding_mode="reflection", align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Spread.apply(gradient, ctx.saved_tensors[0], ctx.mode, ctx.shape), None, None


class _Spread(torch.autograd.Function):
    """The transpose of `_Sample`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, mode: str, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.mode = mode
        with torch.enable_grad():
            images = gradient.new_zeros(shape).requires_grad_()
            sampled = F.grid_sample(images, grid, mode, padding_mode="reflection", align_corners=True)
            return torch.autograd.grad(sampled, images, gradient)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return _Sample.apply(gradient, ctx.saved_tensors[0], ctx.mode), None, None, None


def _read(images: Tensor, mapping: Tensor, places: Sequence[Tensor], mode: str, finer: int = 1) -> Tensor:
    """Read images `[n, C, H, W]` through the mapping at the grid rows x columns, as `[n, C, j, k]`.

    `places` are rows `[j]` and columns `[k]`, in pixels of the image whose resolution is `finer` times as low. The
    first and last pixels of `images` are those of that image, whatever the resolution in between.
    """
    down, across = ((length - 1) / (2 * finer) for length in images.shape[-2:])  # the middle
    rows, columns = places[0].to(images) - down, places[1].to(images) - across
    a = mapping[:, :2, :, None, None]  # [n, 2, 3, 1, 1]
    read = a[:, :, 0] * columns + a[:, :, 1] * rows[:, None] + a[:, :, 2]  # [n, 2, j, k]
    grid = torch.stack([read[:, 0] / across, read[:, 1] / down], dim=3)
    return _Sample.apply(images, grid, mode)


def _upsample(images: Tensor, h: Tensor) -> Tensor:
    """Double the resolution, [n, C, H, W] -> [n, C, 2H - 1, 2W - 1], with the old pixels at the even places."""
    fine = F.pad(images.flatten(0, 1)[None], (3, 3, 3, 3), mode="reflect")
    crop = 6 + PEAK  # the padding at twice the resolution, and the taps before the filter's middle
    for taps, stride, padding in ((h[:, None], (2, 1), (crop, 0)), (h[None], (1, 2), (0, crop))):
        fine = F.conv_transpose2d(fine, 2 * _each(taps, fine), None, stride, padding, groups=fine.shape[1])
    return fine[0, :, :-1, :-1].unflatten(0, images.shape[:2])


def _downsample(fine: Tensor, h: Tensor) -> Tensor:
    """Halve the resolution, [n, C, 2H + 10, 2W + 10] -> [n, C, H, W], by the transpose of upsampling.

    A side of the input is the 2 H - 1 or 2 W - 1 pixels of an upsampled image, with five more before and six after
    them.
    """
    images = fine.flatten(0, 1)[None]
    for taps, stride in ((h[:, None], (2, 1)), (h[None], (1, 2))):
        images = F.conv2d(images, _each(taps, images), None, stride, groups=images.shape[1])
    return images[0].unflatten(0, fine.shape[:2])


def _each(taps: Tensor, images: Tensor) -> Tensor:
    """Return one filter as the weight of a convolution with a group per channel, by far the fastest form on a CPU."""
    return taps.expand(images.shape[1], 1, -1, -1)


# -------------------------------------------------------------------- mappings of the colours
# Each takes a mapping [n, 3, 4] and returns it followed by one more transformation.


def _brightness(dice: _Dice, mapping: Tensor) -> Tensor:
    offset = dice.sometimes(0.2 * dice.normal(), 0)
    return torch.cat([mapping[:, :, :3], mapping[:, :, 3:] + offset[:, None, None]], dim=2)


def _contrast(dice: _Dice, mapping: Tensor) -> Tensor:
    factor = dice.sometimes((0.5 * dice.normal()).exp2(), 1)
    return factor[:, None, None] * mapping


def _lumaflip(dice: _Dice, mapping: Tensor) -> Tensor:
    flipped = dice.sometimes(dice.below(2), 0)
    return mapping - 2 * flipped[:, None, None] * _luma(mapping)


def _hue(dice: _Dice, mapping: Tensor) -> Tensor:
    angle = dice.sometimes(math.pi * dice.signed(), 0)[:, None, None]
    chroma = mapping - _luma(mapping)
    across = (mapping.roll(1, dims=1) - mapping.roll(-1, dims=1)) / math.sqrt(3)  # (1, 1, 1)/sqrt(3) x colour
    return mapping + (angle.cos() - 1) * chroma + angle.sin() * across


def _saturation(dice: _Dice, mapping: Tensor) -> Tensor:
    factor = dice.sometimes(dice.normal().exp2(), 1)
    return mapping + (factor - 1)[:, None, None] * (mapping - _luma(mapping))


COLORS: list[tuple[str, Callable[[_Dice, Tensor], Tensor]]] = [
    ("brightness", _brightness),
    ("contrast", _contrast),
    ("lumaflip", _lumaflip),
    ("hue", _hue),
    ("saturation", _saturation),
]


def _luma(mapping: Tensor) -> Tensor:
    """Return the part of the colours along the grey axis."""
    return mapping.mean(dim=1, keepdim=True)


# -------------------------------------------------------------------- corruptions


def _octaves() -> Tensor:
    """Return symmetric filters [4, 43] for one octave of frequencies each, the lowest first; their sum passes all."""
    low = np.convolve(SYM2, SYM2[::-1]) / 2  # 7 taps
    high = np.eye(7)[3] - low
    rest, bands = np.eye(43)[21], []
    for octave in (1, 2, 4):
        stretched = np.zeros((2, 6 * octave + 1))
        stretched[:, ::octave] = high, low
        bands.append(np.convolve(rest, stretched[0], mode="same"))
        rest = np.convolve(rest, stretched[1], mode="same")
    return torch.tensor(np.stack([rest, *bands[::-1]]), dtype=torch.float32)


def _filter(images: Tensor, dice: _Dice, bands: Tensor) -> Tensor:
    """Amplify octaves, each drawn separately, with gains by which a natural image would keep its power."""
    factor = dice.sometimes(dice.normal(len(bands)).exp2(), 1, coins=len(bands))  # [n, 4]
    power = 1 + (factor.square() - 1) * factor.new_tensor(POWER)
    gains = factor * power.rsqrt().prod(dim=1, keepdim=True)
    taps = (gains[:, :, None] * bands).sum(dim=1)[:, None]  # [n, 1, 43]
    reach = bands.shape[1] // 2
    filtered = F.pad(images, [reach] * 4, mode="reflect").transpose(0, 1)  # [C, n, ...]: a group for each image
    for kernel in (taps[..., None, :], taps[..., None]):
        filtered = F.conv2d(filtered, kernel, groups=dice.n)
    amplified = (factor != 1).any(dim=1)
    return torch.where(amplified[:, None, None, None], filtered.transpose(0, 1), images)


def _noise(images: Tensor, dice: _Dice) -> Tensor:
    """Add noise to each image, of a strength drawn for it."""
    sigma = dice.sometimes(0.1 * dice.normal().abs(), 0)
    return images + sigma[:, None, None, None] * dice.normal(*images.shape[1:])


def _cutout(images: Tensor, dice: _Dice) -> Tensor:
    """Set a piece of half of each side to zero (mid-grey); its centre is inside, its edges may be outside."""
    height, width = images.shape[-2:]
    size = dice.sometimes(torch.full_like(images[:, 0, 0, 0], 0.5), 0)
    columns, rows = (
        (((torch.arange(side, device=images.device).to(images) + 0.5) / side) - centre[:, None]).abs()
        < size[:, None] / 2  # [n, side]
        for side, centre in zip((width, height), dice.uniform(2).unbind(1), strict=True)
    )
    return images * ~(columns[:, None, None, :] & rows[:, None, :, None])
