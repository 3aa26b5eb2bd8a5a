"""Subjects of scoring: the generator of a run, at one checkpoint or several, and folders of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from gan_experiments import files
from gan_experiments.assembly import build, check, trained
from gan_experiments.contracts import ConfigError
from gan_experiments.data import stored
from gan_experiments.data.stored import HeldImages, StoredClips, StoredImages, StoredWaves
from gan_experiments.kinds import CLIP, IMAGE, Image, Kind, Wave
from gan_experiments.layers.standing_statistics import take_standing_statistics
from gan_experiments.models.damsm import DAMSM
from gan_experiments.models.image_to_image import ImageToImage, TranslatedSet
from gan_experiments.models.latents import Sampler
from gan_experiments.models.noise_to_image import NoiseToImage
from gan_experiments.provenance import Mark
from gan_experiments.runs import resume

Samples: TypeAlias = StoredImages | StoredClips | StoredWaves | HeldImages
STANDING = 1 << 31  # index of the first chunk of noise for batch norm's statistics, beyond the scored ones


@dataclass
class Subject:
    """Images to be scored, which `sample` makes.

    `sample` is an `evaluator.Sample`, or the `Translations` of a model that translates. `name` tells the subject from
    others in messages, and `position` is its place on a curve over checkpoints or truncations. `extra`, `facts` and
    `ema` are added to the passport; `facts` do not appear in names. `averaged` is True if there is an averaged
    generator.

    `config` is that of the run, and `checkpoint` its file. A folder has none; it has `number` images, which are
    `stored`. Translations of unpaired images also have a `number`, and the `real` images that they should look like.
    `mark` is that of pictures of the images, if a model of ours makes them.
    """

    name: str
    sample: Any
    device: torch.device
    folder: Path
    position: float = 0.0
    images: int = 0
    ema: bool | None = None
    number: int | None = None
    config: DictConfig | None = None
    checkpoint: Path | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    real: Any = None
    stored: Samples | None = None
    averaged: bool = False
    kind: Kind = IMAGE
    mark: Mark | None = None

    def labels(self, n: int, batch_size: int) -> Tensor | None:
        """Return the classes of the first `n` images, int64 [n]; None if they have none."""
        if self.stored is not None:
            return None if self.stored.labels is None else self.stored.labels[:n]
        asked = self.sample.asked(n, batch_size) if isinstance(self.sample, Sampler) else None
        return None if asked is None else asked[0]

    @property
    def tag(self) -> str:
        """The end of its files' names, which differs between two ways of drawing from one checkpoint."""
        words = [f"{key}{str(value).split()[0]}" for key, value in self.extra.items()]
        return "".join(f"-{word}" for word in [*words, *(["live"] if self.ema is False and self.averaged else [])])

    @property
    def class_names(self) -> list[str]:
        """The names of a folder's classes; empty for a generator, which has the classes of its data."""
        return self.stored.class_names if self.stored is not None else []


@dataclass(frozen=True)
class _Stored:
    """Images of files in chunks, as an `evaluator.Sample`."""

    stored: Samples
    batch_size: int

    def __call__(self, index: int, n: int) -> Tensor | list[Tensor]:
        return self.stored.images(index * self.batch_size, index * self.batch_size + n)

    def asked(self, n: int, batch_size: int) -> tuple[Tensor, list[str]] | None:
        """Return the classes of the first n images, which are their folders; None if they are in none."""
        return None if self.stored.labels is None else (self.stored.labels[:n], list(self.stored.class_names))


def of_folder(cfg: DictConfig, batch_size: int) -> Subject:
    """Return the images of `fake=`, a folder or zip archive, in chunks of `batch_size`; see `of_images`."""
    extractor = cfg.metrics.get("extractor")
    kind = getattr(get_class(extractor._target_), "reads", Image) if extractor else Image
    rate = cfg.data.rate if cfg.get("data") and "rate" in cfg.data else None
    return of_images(cfg, stored.stored(cfg.fake, "fake", kind, rate), batch_size)


def of_images(cfg: DictConfig, given: Samples, batch_size: int) -> Subject:
    """Return images in chunks of `batch_size`. Raises ConfigError if there are fewer than two, or fewer than `n`."""
    number = cfg.n or len(given)
    if len(given) < 2:
        raise ConfigError(f"fake={cfg.fake} holds a single image: two or more are needed")
    if number > len(given):
        raise ConfigError(f"n={number}: fake={cfg.fake} holds {len(given)} images; type n={len(given)} or leave it out")

    device = trained.device_of(cfg.device)
    name = Path(cfg.fake).stem
    sample = _Stored(given, batch_size)
    place = Path("outputs") / "scores" / name
    return Subject(name, sample, device, place, number=number, stored=given, kind=_kind_of(given))


def _kind_of(given: Any) -> Kind:
    if isinstance(given, stored.StoredWaves):
        return Wave(rate=float(given.rate or 0))
    return CLIP if isinstance(given, stored.StoredClips) else IMAGE


def checkpoints_of(cfg: DictConfig) -> list[Path]:
    """Return the checkpoints that `run=` names; with `checkpoints=true` all of the run, ordered by images seen."""
    given = [str(word) for word in ([cfg.run] if isinstance(cfg.run, str) else cfg.run)]
    found = [resume.find(word, key="run") for word in given]
    if not cfg.checkpoints:
        return found
    at: dict[int, Path] = {}
    for path in found:
        for checkpoint in sorted(path.parent.glob("[!.]*.ckpt")):
            at.setdefault(int(resume.load(checkpoint, key="run")["gan_experiments"]["images_seen"]), checkpoint)
    return [at[images] for images in sorted(at)]


def of_run(cfg: DictConfig, run: trained.TrainedRun) -> Iterator[Subject]:
    """Yield a run's generator, once for each truncation; each is usable until the next is yielded.

    Raises ConfigError if the scores or options do not suit the model.
    """
    model = run.model
    settings = cfg.get("metrics") or run.cfg.metrics
    if settings and (faults := [*check.metrics_of(settings, model)]):
        raise ConfigError(*faults)
    if isinstance(model, ImageToImage):
        yield _of_translator(cfg, run, model)
        return
    if isinstance(model, DAMSM):
        yield _of_encoders(cfg, run, model)
        return
    assert isinstance(model, NoiseToImage), "every variant is of one of the three families"
    if cfg.to is not None:
        raise ConfigError(f"to={cfg.to}: this model draws images from noise; leave it out")
    ema = bool(cfg.ema) and bool(model.averages)
    several = list(cfg.truncation) if isinstance(cfg.truncation, ListConfig) else [cfg.truncation]
    law = cfg.get("labels") or (settings or {}).get("labels") or "data"
    for truncation in several:
        sampler = model.sampler(cfg.seed, ema, truncation, law)
        extra: dict[str, Any] = sampler.passport | ({} if truncation is None else {"truncation": truncation})
        if cfg.standing_statistics:
            _stand(sampler, cfg.standing_statistics, run.cfg.data.batch_size)
            extra["standing_statistics"] = f"{cfg.standing_statistics} batches of {run.cfg.data.batch_size}"
        if cfg.seed:
            extra["noise_seed"] = cfg.seed
        yield Subject(
            name=f"{model.images_seen:,} images" + ("" if truncation is None else f", truncation {truncation:g}"),
            sample=sampler,
            device=model.device,
            folder=run.folder,
            position=model.images_seen if len(several) == 1 else (truncation or float("nan")),
            images=model.images_seen,
            ema=ema,
            config=run.cfg,
            checkpoint=run.file,
            extra=extra,
            averaged=bool(model.averages),
            kind=model.kind,
            mark=run.mark(cfg.provenance, cfg.seed),
        )


def _of_encoders(cfg: DictConfig, run: trained.TrainedRun, model: DAMSM) -> Subject:
    """Return encoders, which are scored on real images."""
    for key in (
        "truncation",
        "standing_statistics",
        "path_length",
        "by_class",
        "labels",
        "real",
        "bootstrap",
        "pictures",
    ):
        if cfg.get(key):
            raise ConfigError(f"{key}={cfg[key]}: this model reads captions and images and makes none; leave it out")
    name = f"{model.images_seen:,} images"
    return Subject(
        name,
        model.sampler(cfg.seed),
        model.device,
        run.folder,
        model.images_seen,
        model.images_seen,
        config=run.cfg,
        checkpoint=run.file,
    )


def _of_translator(cfg: DictConfig, run: trained.TrainedRun, model: ImageToImage) -> Subject:
    """Return translations of held-out pairs, or of unpaired held-out images with the real ones of the target domain."""
    to = model.direction("" if cfg.to is None else str(cfg.to))
    paired = bool(model.directions[to].truth)
    of_pairs = ("real", "bootstrap", "pictures") if paired else ()
    for key in ("truncation", "standing_statistics", "path_length", "by_class", "labels", *of_pairs):
        if cfg.get(key):
            what = "images of its data's pairs" if paired else "images into others"
            raise ConfigError(f"{key}={cfg[key]}: this model translates {what}; leave it out")
    ema = bool(cfg.ema) and bool(model.averages)
    sample, real = (model.sampler(cfg.seed, ema, to), None) if paired else _unpaired(cfg, run, model, to, ema)
    number: int | None = None
    facts: dict[str, Any] = {}
    name = f"{model.images_seen:,} images"
    if isinstance(sample, TranslatedSet):
        number, facts = sample.number, sample.facts
        name += f", {sample.number:,} of the split {sample.source.split} to {to}"
    return Subject(
        name=name,
        sample=sample,
        number=number,
        facts=facts,
        real=real,
        extra={} if to == model.direction("") else {"to": files.clean_name(to)},
        device=model.device,
        folder=run.folder,
        position=model.images_seen,
        images=model.images_seen,
        ema=ema,
        config=run.cfg,
        checkpoint=run.file,
        averaged=bool(model.averages),
        kind=model.kind,
        mark=run.mark(cfg.provenance, cfg.seed, to),
    )


def _unpaired(
    cfg: DictConfig, run: trained.TrainedRun, model: ImageToImage, to: str, ema: bool
) -> tuple[TranslatedSet, Any]:
    """Return translations of images of the run's data or of `data=`, and the real images that they should look like."""
    settings = cfg.get("metrics") or run.cfg.metrics
    if not settings:
        raise ConfigError(f"run={cfg.run} was trained with metrics=none: type metrics=inception, metrics=lite0, ...")
    data = build.open_data(cfg.get("data") or run.cfg.data)
    split = settings.get("split") or "train"
    sample, real = model.translated(data, cfg.seed, ema, split, settings.batch_size, cfg.n or settings.num_fake, to)
    if cfg.n and sample.number < cfg.n:
        raise ConfigError(
            f"n={cfg.n}: the split {sample.source.split} holds {sample.number} images to translate;"
            f" type n={sample.number} or leave it out"
        )
    return sample, real


def _stand(sampler: Sampler, batches: int, batch_size: int) -> None:
    """Compute standing statistics of the generator's batch norms, over noise with the same truncation and labels."""
    model = sampler.model
    network = model.network("generator", sampler.ema)
    dtype = next(network.parameters()).dtype

    def inputs() -> Iterator[tuple[Tensor, ...]]:
        for index in range(STANDING, STANDING + batches):
            z = model.fixed_noise(batch_size, sampler.chunk_seed(index), sampler.truncation)
            labels = sampler.labels(index, batch_size)
            yield (z.to(model.device, dtype), *model.told(labels))

    if not take_standing_statistics(network, inputs()):
        raise ConfigError("standing_statistics: this generator has no batch norm; leave it out")
