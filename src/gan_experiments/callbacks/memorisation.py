"""Memorisation: at the end of a run on few images, how many samples are copies of training images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from gan_experiments.bounds import Cells, Place, Whole
from gan_experiments.callbacks.callback import RunCallback, find
from gan_experiments.callbacks.record import log_metrics, log_picture
from gan_experiments.callbacks.scores import Scores
from gan_experiments.data.module import DataModule
from gan_experiments.drawing import save_png
from gan_experiments.engine.module import AdversarialModule
from gan_experiments.kinds import IMAGE, Kind
from gan_experiments.models.noise_to_image import NoiseToImage

COPY = 0.5
"""A sample is a copy if it is less than this share as far from a training image as that one's nearest neighbour is."""
CHUNK, SHOWN = 64, 32
MORE_THAN_OTHERS = 0.1
"""Share of copies above that of the training images from which it is said what helps."""


@dataclass(frozen=True)
class Found:
    """How near samples are to training images.

    `copies` is the share of the samples that are copies, `real` that of the training images if each is compared with
    the others, and `distance` the median of the samples' distances, as parts of those between neighbouring training
    images. Without two training images that differ, `copies` and `distance` are None; without three, `real` is. `kind`
    is what they are: images, clips, ...
    """

    images: int
    samples: int
    copies: float | None = None
    real: float | None = None
    distance: float | None = None
    kind: str = "images"

    def __str__(self) -> str:
        if self.copies is None:
            several = f"{self.images:,} training {self.kind}, all alike"
            alike = f"1 training {self.kind.removesuffix('s')}" if self.images == 1 else several
            return f"{alike}: nothing but copies can be learnt of it"
        said = (
            f"{self.copies:.0%} of {self.samples} samples are copies of one of the {self.images:,} training {self.kind}"
        )
        said += "" if self.real is None else f" ({self.real:.0%} of these are, of one another)"
        if self.copies - (self.real or 0.0) > MORE_THAN_OTHERS:
            said += "; what helps: more images, augment=ada or diffaugment, fewer images seen"
        return said


class Memorisation(RunCallback):
    """The samples of a run beside their nearest training images, `samples/nearest.png`, and the share of copies.

    It looks once, at the end, at generators from noise, but not where each time another piece of a sound is trained on.
    Distances are those by which the kind recognises copies (see `Kind.traits`), to a training image or, if the data
    flip, to its mirror image: of images at 8x8 pixels without brightness and contrast, of clips at 4 frames of as many,
    of sounds in 8 bands at 8 times without loudness, of volumes 1 - intersection over union. A sample's distance is
    divided by that from its training image to the nearest other one, because a blurred image is near to many; Carlini
    et al. 2023, arXiv:2301.13188, find copies by such a quotient. The share is set against that of the training images,
    each compared with all others. The numbers are logged as `memorisation/...`, and are in `scores.json` if the run has
    scores.

    Args:
        folder: the run folder.
        most: the greatest number of training images at which to look; 0 for never.
        n: samples to look at.
        ema: whether the averaged generator makes them, if there is one.
    """

    def __init__(self, folder: Place, most: Whole = 1_000, n: Cells = 256, ema: bool = True) -> None:
        self.path = Path(folder) / "samples" / "nearest.png"
        self.most, self.n, self.ema = most, n, ema
        self.found: Found | None = None

    def on_train_end(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Look, if all images have been seen and the training images are few."""
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        if not (module.at_end() and isinstance(module, NoiseToImage) and data.kind.recognised):
            return
        if getattr(data, "window", "") == "random":  # a sample is a copy of no window that is the same each time
            return
        if (data.size or self.most + 1) > self.most or not trainer.is_global_zero:
            return
        real, floats = data.reference("train"), data.kind.floats
        with module.paused(), torch.random.fork_rng(devices=[]), torch.no_grad():
            sampler = module.sampler(module.run.seed, self.ema and bool(module.averages))
            starts = range(0, self.n, CHUNK)
            fake = torch.cat([sampler(i, min(CHUNK, self.n - at)).cpu() for i, at in enumerate(starts)])
            known = [floats(real.images(at, min(at + CHUNK, len(real)))) for at in range(0, len(real), CHUNK)]
            reals = [
                torch.cat([data.kind.traits(images.flip(-1) if turn else images) for images in known])
                for turn in ((False, True) if getattr(data, "flip", False) else (False,))
            ]
            self.found, part, which = compared(data.kind.traits(fake), reals, data.kind)
            rows = part.argsort()[torch.linspace(0, len(part) - 1, min(SHOWN, self.n)).long()].unique_consecutive()
            unit = "" if self.found.copies is None else " of the next"
            beside = torch.cat([floats(real.images(row, row + 1)) for row in which[rows].tolist()])
            titles = [f"{part[row]:.2f}{unit}" for row in rows.tolist()]
            picture = data.kind.data_sheet({"sample": fake[rows], "training": beside}, titles)
            save_png(picture, self.path, module.mark(composite=True))
        numbers = {k: v for k, v in asdict(self.found).items() if isinstance(v, float)}
        log_metrics(trainer, {f"memorisation/{name}": value for name, value in numbers.items()}, module.images_seen)
        log_picture(trainer, "nearest", self.path, module.images_seen)
        scores = find(trainer, Scores)
        if scores is not None and scores.last:
            scores.memorisation = asdict(self.found)
            scores.write()


def compared(fake: Tensor, reals: list[Tensor], kind: Kind = IMAGE) -> tuple[Found, Tensor, Tensor]:
    """Compare traits of samples [m, d] with those of training images [n, d], and of these mirrored if they are.

    Returns what was found, each sample's distance as a part of that to the next, float [m], or the distance itself if
    no two training images differ, and the row of its training image, int64 [m].
    """
    among = _distances(reals[0], reals, kind)
    among[among <= 1e-6 * reals[0].norm(dim=1).max().clamp(min=1)] = torch.inf  # itself, and those equal to it
    near, which = _distances(fake, reals, kind).min(dim=1)
    n = len(among)
    next_to = among.min(dim=1).values
    if not next_to.isfinite().all():
        return Found(n, len(fake), kind=kind.name), near / fake.shape[1] ** 0.5, which
    part = near / next_to[which]
    # Each training image as if it were a sample, and the others were all that was trained on.
    own, neighbour = among.min(dim=1)
    rows = among[neighbour].clone()
    rows[among.isinf()] = torch.inf  # the image itself, and those equal to it
    left = own / rows.min(dim=1).values
    real = (left < COPY).double().mean().item() if rows.isfinite().any(dim=1).all() else None
    copies = (part < COPY).double().mean().item()
    return Found(n, len(fake), copies, real, part.median().item(), kind.name), part, which


def _distances(rows: Tensor, reals: list[Tensor], kind: Kind) -> Tensor:
    """Return the distances [m, n], float64, of traits to training images, each the least to its two sides."""
    return torch.stack([kind.apart(rows, of) for of in reals]).amin(dim=0)
