"""Evaluation of images against their ground truth: PSNR, SSIM, L1 and LPIPS of pairs."""

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
from gan_experiments.kinds import IMAGE
from gan_experiments.kinds import Image as ImageKind
from gan_experiments.losses.perceptual import LPIPS
from gan_experiments.metrics import names
from gan_experiments.metrics.evaluator import Measured, Score
from gan_experiments.metrics.metric import Measurement
from gan_experiments.metrics.passports import versions
from gan_experiments.metrics.ranks import Ranks
from gan_experiments.metrics.request import Request

log = logging.getLogger(__name__)

USUAL = ("psnr", "ssim", "l1")
SCORES = (*USUAL, *(name for name in names.of("pairs") if name not in USUAL))
"""All scores of pairs of images, the usual ones first."""
LIBRARIES = ("torch", "torchvision", "torchmetrics", "pillow")


class Translates(Protocol):
    """The interface of a model whose translations are scored.

    `changes` says whether the image before translation differs from the ground truth.
    """

    direction: str
    seed: int
    changes: bool

    def pair(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Return the translation of item `number` and its ground truth, each [1, C, H, W] in [-1, 1]."""

    def as_it_is(self, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Return the image of item `number` before translation and the ground truth, as `pair` does."""


class PairedEvaluator:
    """Evaluator of images against their ground truth.

    Args:
        scores: names among SCORES; their classes in `measures/` define them.
        y_channel: True to compute PSNR and SSIM on the luma of colour images; they are then reported as `psnr_y` and
            `ssim_y`.
        crop_border: the number of pixels left out on each side.
        lpips_net, lpips_weights: `net` and `weights` of `losses.perceptual.LPIPS`, which is reported as `lpips_<net>`.
        split: the data's split of held-out pairs on which a model is scored; None for "test", or else "val".
        num_fake: the number of these pairs, evenly spread; None for all.

    Raises ConfigError for an unknown score, a negative border, too few pairs, and for missing weights of LPIPS.
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
        self.kind = IMAGE

    @property
    def lpips(self) -> LPIPS | None:
        """The network of the score "lpips"; None without that score."""
        return self._metric["lpips"].network if "lpips" in self._metric else None

    def real(self, data: DataModule) -> HeldOut:
        """Return the held-out pairs of a data module; raises ConfigError if it has none."""
        self.kind = data.kind if isinstance(data.kind, ImageKind) else IMAGE
        return data.held_out(self.split)

    def against(self, real: HeldOut) -> str:
        """Say in words what is compared with what."""
        return f"{self.number_of(real):,} against what they should be, of the split {real.split}"

    def number_of(self, real: HeldOut) -> int:
        """Return how many of these pairs are used."""
        return min(real.number, self.num_fake or real.number)

    def measure(self, sample: Translates, real: HeldOut, request: Request) -> Measured:
        """Score the translations of held-out pairs, one at a time; see `Evaluator.measure`.

        A translation depends only on its pair and the pair's index, so that the scores are the same on any number of
        ranks. The first call also logs the scores of the images before translation (enlarged by bicubic interpolation
        if the model enlarges images): the baseline of a model that has learnt nothing. Translations that are not finite
        give NaN.

        Raises ConfigError as `evaluate` does, and for a request of `labels` or `bootstrap`.
        """
        request.require_scores_only("metrics=paired does not read it")
        ranks = request.ranks
        if not self._told and sample.changes:
            columns, _ = self._table(sample.as_it_is, real, ranks)
            means = "   ".join(f"{self.names[score]} {sum(each) / len(each):.4g}" for score, each in columns.items())
            if ranks.rank == 0:
                log.info("the images as they are: %s   (%s)", means, self.against(real))
        self._told = True
        columns, colours = self._table(sample.pair, real, ranks)
        passport = {
            "quantisation": "uint8, to the nearest level",
            "split": real.split,
            "direction": sample.direction,
            "seed": sample.seed,
            "ema": request.ema,
            "real_fingerprint": real.fingerprint,
            **request.extra,
        }
        scores = self._scores(columns, colours, passport)
        return Measured(scores, {}, None, None, (), None)

    def _table(
        self, pair: Callable[[Batch, int], tuple[Tensor, Tensor]], real: HeldOut, ranks: Ranks
    ) -> tuple[dict[str, list[float]], set[int]]:
        """Return each score's values over the pairs and the set of the images' channel counts, on every rank."""
        rows = spread_rows(self.number_of(real), real.number).tolist()
        table = torch.zeros(len(rows), len(self.names) + 1, dtype=torch.float64)  # last column: the number of channels
        for place in range(ranks.rank, len(rows), ranks.world_size):
            fake, truth = pair(real.batch(rows[place]), rows[place])
            found = dict.fromkeys(self.names, math.nan)
            if fake.isfinite().all():  # uint8 would hide NaN
                seen = zip(self.kind.viewed(fake), self.kind.viewed(truth), strict=True)  # of a clip, each frame
                each = [self._values(f"{real.split} {rows[place]}", *both) for both in seen]
                found = {score: sum(values[score] for values in each) / len(each) for score in self.names}
            table[place] = torch.tensor([*found.values(), truth.shape[1]], dtype=torch.float64)
        table = ranks.tell(ranks.collect(table.to(ranks.meeting_place)).cpu())
        *columns, channels = table.T.tolist()
        return dict(zip(self.names, columns, strict=True)), {int(number) for number in channels}

    def evaluate(
        self,
        pairs: Iterable[tuple[Tensor, Tensor] | tuple[str, Tensor, Tensor]],
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Score]:
        """Return the scores by name: means and standard deviations over pairs of images (fake, real).

        Both images of a pair are uint8 [C, H, W] with C 1 or 3, of the same size and on the same device, which computes
        the scores. Pairs may differ in size. A name before the images is used in messages, else the pair's index from 0
        on. `extra` is added to the passport; without a "real_fingerprint" there, one is computed from the real images
        in their order.

        Raises ConfigError if there are no pairs, if the images of a pair differ in size or are too small, and if a
        value is not finite.
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
        """Return the passport entries that say how a score was computed, and its warnings."""
        metric = self._metric[score]
        doubts = ["some translations are not finite"] if any(map(math.isnan, values)) else []
        return {
            "channel": " and ".join(
                self.kind.seen_as(number) or {1: "grey", 3: metric.colour}[number] for number in sorted(colours)
            ),
            "data_range": metric.data_range,
            "estimator": metric.estimator(score, Measurement(len(values), len(values), len(values), "", 0)),
            **metric.facts,
            "warnings": doubts + metric.doubts_of(values),
        }


def pairs_of(fake: str | Path, real: str | Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, fake, real) for the images of two folders or zip archives, uint8 [C, H, W] in their own sizes.

    Two images are a pair if their paths below the folders are equal except for the suffix. They are RGB, or grey if
    both are; transparency is laid over white. Files without an image's suffix are skipped. Raises ConfigError at once
    if an image has no partner, and during the iteration if one cannot be decoded.
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
    """Return a dict from the paths of images below the folder, without suffixes, to their row indices."""
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
