"""Score images against those that they should be: PSNR, SSIM, L1 and LPIPS of pairs."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Protocol

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from gan_experiments.bounds import Place, Samples
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.batches import HeldOut
from gan_experiments.data.images import spread_rows
from gan_experiments.data.sources import Files
from gan_experiments.data.stored import pixels_in
from gan_experiments.drawing import to_uint8
from gan_experiments.losses.perceptual import LPIPS
from gan_experiments.metrics.evaluator import Measured, Score
from gan_experiments.metrics.extractors import plain_float32
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.ranks import Ranks

log = logging.getLogger(__name__)

SCORES = ("psnr", "ssim", "l1", "lpips")
LIBRARIES = ("torch", "torchvision", "torchmetrics", "pillow")
WINDOW, SIGMA = 11, 1.5
HIGHEST_PSNR = 100.0  # dB


class Translates(Protocol):
    """What is scored: `pair(batch, number)` is the translation of item `number` and what it should be, in [-1, 1].

    `as_it_is` has the image before translation in its place; `changes` says whether that is another one than it should
    be.
    """

    direction: str
    seed: int
    changes: bool

    def pair(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Twice images [1, C, H, W]."""

    def as_it_is(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Twice images [1, C, H, W]."""


class PairedEvaluator:
    """Compute scores of images against the real images that they should be.

    `scores` are among SCORES: `psnr` in dB, at most HIGHEST_PSNR, which identical images have; `ssim`; `l1`, the mean
    absolute difference of images in [0, 1]; `lpips`, called `lpips_<net>` in what is found. With `y_channel` PSNR and
    SSIM are of the luma of colour images, and called `psnr_y` and `ssim_y`. `crop_border` pixels on each side are left
    out of all. `lpips_net` and `lpips_weights` are those of `losses.perceptual.LPIPS`.

    Of a model the translations of held-out pairs are scored: of the data's split named `split` (None: "test", or else
    "val"), all or `num_fake` of them, evenly spread.

    Raises ConfigError for an unknown score, a negative border, too few pairs, and where LPIPS lacks its weights.
    """

    def __init__(
        self,
        scores: Sequence[str] = ("psnr", "ssim", "l1"),
        y_channel: bool = False,
        crop_border: Annotated[int, Field(ge=0, le=2**17)] = 0,
        lpips_net: str = "alex",
        lpips_weights: Place | None = None,
        split: str | None = None,
        num_fake: Samples | None = None,
    ) -> None:
        faults = []
        if not scores or set(scores) - set(SCORES):
            faults.append(f"metrics.scores=[{','.join(scores)}]: type some of [{','.join(SCORES)}]")
        if crop_border < 0:
            faults.append(f"metrics.crop_border={crop_border} is too few: type metrics.crop_border=0 or more")
        if num_fake is not None and num_fake < 1:
            faults.append(f"metrics.num_fake={num_fake} is too few: type metrics.num_fake=1 or more")
        if faults:
            raise ConfigError(*faults)
        self.y_channel, self.crop_border = y_channel, crop_border
        self.lpips = LPIPS(lpips_net, lpips_weights, "metrics.lpips_") if "lpips" in scores else None
        on_luma = "_y" if y_channel else ""
        names = {"psnr": f"psnr{on_luma}", "ssim": f"ssim{on_luma}", "lpips": f"lpips_{lpips_net}"}
        self.names = {score: names.get(score, score) for score in scores}
        self.split, self.num_fake = split, num_fake
        self._told = False

    def real(self, data: Any) -> HeldOut:
        """The held-out pairs of a data module; raises ConfigError where it has none."""
        return data.held_out(self.split)

    def against(self, real: HeldOut) -> str:
        """What is compared with what, in words."""
        return f"{self.number_of(real):,} against what they should be, of the split {real.split}"

    def number_of(self, real: HeldOut) -> int:
        """How many of these pairs it looks at."""
        return min(real.number, self.num_fake or real.number)

    def measure(
        self,
        sample: Translates,
        real: HeldOut,
        device: torch.device | str,
        *,
        rank: int = 0,
        world_size: int = 1,
        ema: bool | None,
        extra: dict[str, Any] | None = None,
        labels: Tensor | None = None,
        bootstrap: int = 0,
    ) -> Measured:
        """Score the translations of held-out pairs, one at a time; the arguments are those of `Evaluator.measure`.

        A translation is a function of its pair and its number, so that the scores are the same on any number of ranks.
        The first time, the log says how the images score as they are before translation, enlarged (bicubic) where the
        translation is: what a model that has learnt nothing would have. Translations that are not finite score NaN.

        Raises ConfigError where `evaluate` does, and for `labels` or `bootstrap`, which these scores have not.
        """
        for word, asked in (("by_class", labels is not None), ("bootstrap", bootstrap > 0)):
            if asked:
                raise ConfigError(f"{word}: metrics=paired does not read it; leave it out")
        ranks = Ranks(rank, world_size, torch.device(device))
        if not self._told and sample.changes:
            columns, _ = self._table(sample.as_it_is, real, ranks)
            means = "   ".join(f"{self.names[score]} {sum(each) / len(each):.4g}" for score, each in columns.items())
            if rank == 0:
                log.info("the images as they are: %s   (%s)", means, self.against(real))
        self._told = True
        columns, colours = self._table(sample.pair, real, ranks)
        passport = {
            "quantisation": "uint8, to the nearest level",
            "split": real.split,
            "direction": sample.direction,
            "seed": sample.seed,
            "ema": ema,
            "real_fingerprint": real.fingerprint,
            **(extra or {}),
        }
        scores = self._scores(columns, colours, passport)
        return Measured(scores, {}, None, None, (), None)

    def _table(
        self, pair: Callable[[Batch, int], tuple[Tensor, Tensor]], real: HeldOut, ranks: Ranks
    ) -> tuple[dict[str, list[float]], set[int]]:
        """Return on every rank each score's values over the pairs, and the numbers of channels that there are."""
        rows = spread_rows(self.number_of(real), real.number).tolist()
        table = torch.zeros(len(rows), len(self.names) + 1, dtype=torch.float64)  # the channels last
        for place in range(ranks.rank, len(rows), ranks.world_size):
            fake, truth = pair(real.batch(rows[place]), rows[place])
            found = dict.fromkeys(self.names, math.nan)
            if fake.isfinite().all():  # uint8 would hide it
                found = self._values(f"{real.split} {rows[place]}", to_uint8(fake)[0], to_uint8(truth)[0])
            table[place] = torch.tensor([*found.values(), truth.shape[1]], dtype=torch.float64)
        table = ranks.tell(ranks.collect(table.to(ranks.meeting_place)).cpu())
        *columns, channels = table.T.tolist()
        return dict(zip(self.names, columns, strict=True)), {int(number) for number in channels}

    def evaluate(
        self,
        pairs: Iterable[tuple[Tensor, Tensor] | tuple[str, Tensor, Tensor]],
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Score]:
        """Return by name the means over pairs of images (fake, real), with the standard deviations over the pairs.

        Both images of a pair are uint8 [C, H, W] with C 1 or 3, of one size, on one device, which computes; another
        pair may be of another size. A name before them is used in messages, else the pair's number from 0 on. `extra`
        joins the passport; without a "real_fingerprint" there, one is taken of the real images in their order.

        Raises ConfigError where there are no pairs, where the two images of one differ in size, or are too small, and
        where a value is not finite.
        """
        values: dict[str, list[float]] = {score: [] for score in self.names}
        colours = set()
        content = hashlib.sha256()
        for number, pair in enumerate(pairs):
            name, fake, real = pair if len(pair) == 3 else (str(number), *pair)
            for score, value in self._values(name, fake, real).items():
                values[score].append(value)
            colours.add(len(real))
            if not extra or "real_fingerprint" not in extra:
                content.update(f"{tuple(real.shape)}".encode())
                content.update(real.cpu().contiguous().numpy().data)
        if not colours:
            raise ConfigError("there are no pairs of images to score: give one or more")
        passport = {"quantisation": "uint8, as given", "real_fingerprint": content.hexdigest()[:32]}
        return self._scores(values, colours, passport | (extra or {}))

    def _scores(self, values: dict[str, list[float]], colours: set[int], passport: dict[str, Any]) -> dict[str, Score]:
        passport = {
            "crop_border": self.crop_border,
            "num_pairs": len(next(iter(values.values()))),
            "versions": versions(*LIBRARIES),
            **passport,
        }
        found = {}
        for score, known_as in self.names.items():
            each = torch.tensor(values[score], dtype=torch.float64)
            notes = self._notes(score, values[score], colours)
            found[known_as] = Score(known_as, each.mean().item(), each.std(correction=0).item(), passport | notes)
        return found

    def _require_alike(self, name: str, fake: Tensor, real: Tensor) -> None:
        for which, image in (("fake", fake), ("real", real)):
            if image.dtype != torch.uint8 or image.ndim != 3 or len(image) not in (1, 3):
                given = f"{str(image.dtype).removeprefix('torch.')} {list(image.shape)}"
                raise ConfigError(f"pair {name}: the {which} image is {given}: give uint8 [C, H, W], C 1 or 3")
        if fake.shape != real.shape:
            raise ConfigError(
                f"pair {name}: the fake image is {list(fake.shape)} and the real one {list(real.shape)}, [C, H, W]: "
                "give two of the same size"
            )
        least = {"ssim": WINDOW, "lpips": self.lpips.smallest if self.lpips else 1}
        inner = min(real.shape[1:]) - 2 * self.crop_border
        for score, known_as in self.names.items():
            if inner < least.get(score, 1):
                raise ConfigError(
                    f"pair {name}: {real.shape[1]}x{real.shape[2]} pixels, {self.crop_border} off each side, are too "
                    f"few for {known_as}: give images whose short side is {least.get(score, 1) + 2 * self.crop_border} "
                    "or more, or another metrics.crop_border or metrics.scores"
                )

    def _values(self, name: str, fake: Tensor, real: Tensor) -> dict[str, float]:
        self._require_alike(name, fake, real)
        border = self.crop_border
        inside = slice(border, -border or None)
        fake, real = fake[:, inside, inside], real[:, inside, inside]
        x, y = fake.double(), real.double()
        seen = (luma(x), luma(y)) if self.y_channel and len(x) == 3 else (x, y)
        found = {}
        for score in self.names:
            if score == "psnr":
                found[score] = psnr(*seen)
            elif score == "ssim":
                found[score] = ssim(*seen)
            elif score == "l1":
                found[score] = (x - y).abs().mean().item() / 255
            elif self.lpips is not None:
                with plain_float32(x.device):
                    a, b = (image[None].float() / 127.5 - 1 for image in (fake, real))
                    found[score] = self.lpips.to(x.device)(a, b).item()
        for score, value in found.items():
            if not math.isfinite(value):
                raise ConfigError(f"pair {name}: {self.names[score]} is {value}: its weights are not whole")
        return found

    def _notes(self, score: str, values: list[float], colours: set[int]) -> dict[str, Any]:
        """Say how a score was computed, and what speaks against trusting it."""
        on_luma = self.y_channel and score in ("psnr", "ssim")
        named = {1: "grey", 3: "Y of BT.601, 16..235, not rounded" if on_luma else "RGB"}
        notes: dict[str, Any] = {"channel": " and ".join(named[number] for number in sorted(colours))}
        notes["data_range"] = {"psnr": 255, "ssim": 255, "l1": 1, "lpips": 2}[score]
        how = {
            "psnr": f"PSNR over all of an image's values, at most {HIGHEST_PSNR:g} dB",
            "ssim": f"{WINDOW}x{WINDOW} Gaussian window of sigma {SIGMA} where it fits, K1 0.01, K2 0.03, by channel",
            "l1": "absolute difference of an image's values",
            "lpips": "LPIPS 0.1 at the image's own size",
        }[score]
        notes["estimator"] = f"{how}; mean and std over images"
        doubts = []
        if any(map(math.isnan, values)):
            doubts.append("some translations are not finite")
        if score == "psnr" and (same := sum(value >= HIGHEST_PSNR for value in values)):
            doubts.append(f"{same} of {len(values)} pairs are identical or nearly so, and count {HIGHEST_PSNR:g} dB")
        if score == "lpips" and self.lpips is not None:
            notes["weights_hash"] = self.lpips.weights_hash
            if not self.lpips.published:
                doubts.append("the network's weights are not those that are published")
        return notes | {"warnings": doubts}


def luma(image: Tensor) -> Tensor:
    """RGB [3, H, W] in 0..255 -> Y of BT.601 [1, H, W] in 16..235, as MATLAB's rgb2ycbcr has it before rounding.

    BasicSR does not round either. MATLAB does where its image is uint8, which takes 0.01 to 0.02 dB off a PSNR of 32.
    """
    weights = image.new_tensor([65.481, 128.553, 24.966]).view(3, 1, 1) / 255
    return (image * weights).sum(dim=0, keepdim=True) + 16


def psnr(x: Tensor, y: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of two images in 0..255, at most HIGHEST_PSNR (else infinite)."""
    error = (x - y).square().mean().item() / 255**2
    return -10 * math.log10(max(error, 10 ** (-HIGHEST_PSNR / 10)))


def ssim(x: Tensor, y: Tensor) -> float:
    """Return the structural similarity of two images [C, H, W] in 0..255, float64, H and W of WINDOW or more.

    Wang et al. 2004, section III-B, over the places where the window fits, as the authors' code has it; the channels'
    mean. torchmetrics' agrees, its reflected borders cut off, and takes 15 to 60 times as long.
    """
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x.square()) + _blur(y.square()) - mean_x.square() - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    return (luminance * contrast).mean().item()


def _blur(image: Tensor) -> Tensor:
    """Average over a Gaussian window [C, H, W] -> [C, H - 10, W - 10]; a convolution in float64 takes far longer."""
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.softmax(-places.square() / (2 * SIGMA**2), dim=0).tolist()
    for dim in (1, 2):
        size = image.shape[dim] - WINDOW + 1
        total = image.narrow(dim, 0, size) * weights[0]
        for start, weight in enumerate(weights[1:], 1):
            total.add_(image.narrow(dim, start, size), alpha=weight)
        image = total
    return image


def pairs_of(fake: str | Path, real: str | Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, fake, real) of the images of two folders or zip archives, uint8 [C, H, W] in their own sizes.

    Two images are a pair where the paths below the folder are the same but for the suffix. They are RGB, or grey where
    both are; transparency lies over white. Files without an image's suffix are passed over. Raises ConfigError at once
    where an image has no partner, and on the way where one cannot be decoded.
    """
    sides = Files(fake, "fake"), Files(real, "real")
    fakes, reals = (_images(files) for files in sides)
    faults = []
    for files, names, others in ((sides[0], fakes, reals), (sides[1], reals, fakes)):
        if alone := sorted(names.keys() - others.keys()):
            some = ", ".join(alone[:3]) + (", ..." if len(alone) > 3 else "")
            faults.append(
                f"{files.where}: {len(alone)} of {len(names)} images have no partner ({some}): pairs have the same "
                "path below fake=... and real=..., but for the suffix"
            )
    if faults:
        raise ConfigError(*faults)

    def decoded() -> Iterator[tuple[str, Tensor, Tensor]]:
        for name in sorted(fakes):
            images = [pixels_in(files, rows[name]) for files, rows in zip(sides, (fakes, reals), strict=True)]
            channels = max(len(image) for image in images)
            x, y = (image.expand(channels, -1, -1) for image in images)
            yield name, x, y

    return decoded()


def _images(files: Files) -> dict[str, int]:
    """Map the paths of images below the folder, without their suffixes, to the files' rows."""
    found: dict[str, int] = {}
    for row in range(len(files)):
        path = PurePosixPath(files.file(row))
        if path.suffix.lower() in Image.registered_extensions():
            stem = str(path.with_suffix(""))
            if stem in found:
                both = f"{files.file(found[stem])} and {files.file(row)}"
                raise ConfigError(f"{files.where}: {both} differ in the suffix alone: keep one")
            found[stem] = row
    if not found:
        raise ConfigError(f"{files.where} holds no images: name a folder or a zip archive of some")
    return found
