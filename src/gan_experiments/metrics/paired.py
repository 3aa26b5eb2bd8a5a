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
from gan_experiments.data.image_module import spread_rows
from gan_experiments.data.module import DataModule
from gan_experiments.data.sources import Files
from gan_experiments.data.stored import pixels_in
from gan_experiments.drawing import to_uint8
from gan_experiments.losses.perceptual import LPIPS
from gan_experiments.metrics import names
from gan_experiments.metrics.evaluator import Measured, Score
from gan_experiments.metrics.metric import Measurement
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.ranks import Ranks

log = logging.getLogger(__name__)

USUAL = ("psnr", "ssim", "l1")
SCORES = (*USUAL, *(name for name in names.of("pairs") if name not in USUAL))
"""Every score of pairs of images, the usual ones first."""
LIBRARIES = ("torch", "torchvision", "torchmetrics", "pillow")


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

    `scores` are among SCORES; what each of them is, its class in `measures/` says. With `y_channel` PSNR and SSIM are
    of the luma of colour images, and called `psnr_y` and `ssim_y` in what is found. `crop_border` pixels on each side
    are left out of all. LPIPS is called `lpips_<net>`; `lpips_net` and `lpips_weights` are those of
    `losses.perceptual.LPIPS`.

    Of a model the translations of held-out pairs are scored: of the data's split named `split` (None: "test", or else
    "val"), all or `num_fake` of them, evenly spread.

    Raises ConfigError for an unknown score, a negative border, too few pairs, and where LPIPS lacks its weights.
    """

    def __init__(
        self,
        scores: Sequence[str] = USUAL,
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
        self.crop_border = crop_border
        constants = {
            "y_channel": y_channel,
            "crop_border": crop_border,
            "lpips_net": lpips_net,
            "lpips_weights": lpips_weights,
        }
        self.metrics = names.collection(scores, constants)
        made: Any = self.metrics.values(copy_state=False)
        self._metric = {name: metric for metric in made for name in metric.chosen}
        self.names = {score: self._metric[score].known_as for score in scores}
        self.split, self.num_fake = split, num_fake
        self._told = False

    @property
    def lpips(self) -> LPIPS | None:
        """The network of the score "lpips"; None without it."""
        return self._metric["lpips"].network if "lpips" in self._metric else None

    def real(self, data: DataModule) -> HeldOut:
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
        inner = min(real.shape[1:]) - 2 * self.crop_border
        for score, known_as in self.names.items():
            smallest = self._metric[score].smallest
            if inner < smallest:
                raise ConfigError(
                    f"pair {name}: {real.shape[1]}x{real.shape[2]} pixels, {self.crop_border} off each side, are too "
                    f"few for {known_as}: give images whose short side is {smallest + 2 * self.crop_border} "
                    "or more, or another metrics.crop_border or metrics.scores"
                )

    def _values(self, name: str, fake: Tensor, real: Tensor) -> dict[str, float]:
        self._require_alike(name, fake, real)
        found = {score: self._metric[score].value(fake, real) for score in self.names}
        for score, value in found.items():
            if not math.isfinite(value):
                raise ConfigError(f"pair {name}: {self.names[score]} is {value}: its weights are not whole")
        return found

    def _notes(self, score: str, values: list[float], colours: set[int]) -> dict[str, Any]:
        """Say how a score was computed, and what speaks against trusting it."""
        metric = self._metric[score]
        doubts = ["some translations are not finite"] if any(map(math.isnan, values)) else []
        return {
            "channel": " and ".join({1: "grey", 3: metric.colour}[number] for number in sorted(colours)),
            "data_range": metric.data_range,
            "estimator": metric.estimator(score, Measurement(len(values), len(values), len(values), "", 0)),
            **metric.facts,
            "warnings": doubts + metric.doubts_of(values),
        }


def pairs_of(fake: str | Path, real: str | Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, fake, real) of the images of two folders or zip archives, uint8 [C, H, W] in their own sizes.

    Two images are a pair where the paths below the folder are the same but for the suffix. They are RGB, or grey where
    both are; transparency lies over white. Files without an image's suffix are passed over. Raises ConfigError at once
    where an image has no partner, and on the way where one cannot be decoded.
    """
    sides = Files(fake, "fake"), Files(real, "real")
    fakes, reals = (_images(files) for files in sides)
    faults = []
    for files, mine, others in ((sides[0], fakes, reals), (sides[1], reals, fakes)):
        if alone := sorted(mine.keys() - others.keys()):
            some = ", ".join(alone[:3]) + (", ..." if len(alone) > 3 else "")
            faults.append(
                f"{files.where}: {len(alone)} of {len(mine)} images have no partner ({some}): pairs have the same "
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
