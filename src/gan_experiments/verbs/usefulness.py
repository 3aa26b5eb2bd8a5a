"""Measure what generated images are worth as training data: `gan-experiments usefulness run=outputs/...`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    from gan_experiments.assembly.trained import TrainedRun
    from gan_experiments.data.image_module import ImageData
    from gan_experiments.metrics.usefulness import Subset

HELD_OUT = 0.2  # share of the real images, if there are no others to test on
CHUNK = 64


def usefulness(cfg: DictConfig) -> int:
    """Train the classifiers that are not trained yet, print the table of their scores, and write it with its passports.

    Returns the exit status.
    """
    from gan_experiments.assembly import report
    from gan_experiments.data import limits

    with report.stoppable() as stopped, limits.at_most(cfg.max_pixels, "max_pixels"):
        return _measure(cfg)
    print("stopped; the same command goes on")
    return 128 + stopped[0]


def _opened(cfg: DictConfig) -> TrainedRun:
    """Return the run of `run=`. Raises ConfigError unless its model draws images from noise."""
    from gan_experiments.assembly import trained
    from gan_experiments.contracts import ConfigError
    from gan_experiments.kinds import Image
    from gan_experiments.models.noise_to_image import NoiseToImage

    run = trained.open_run(cfg.run, cfg.device, cfg.trust)
    if not isinstance(run.model, NoiseToImage):
        raise ConfigError(f"run={cfg.run}: this model does not draw images from noise; there is nothing to train on")
    if not isinstance(run.model.kind, Image):
        raise ConfigError(
            f"run={cfg.run}: classifiers here learn of images, and this model makes {run.model.kind.name};"
            f" type gan-experiments evaluate run={cfg.run}"
        )
    return run


def _measure(cfg: DictConfig) -> int:
    from gan_experiments.assembly import report, trained
    from gan_experiments.metrics.passports import short_name
    from gan_experiments.metrics.usefulness import Recipe, Usefulness, scores, table, trainings

    _require(cfg)
    run = _opened(cfg) if cfg.run else None
    path = Path(cfg.out or (run.folder if run else ".")) / "usefulness.json"
    kept = {} if cfg.existing == "replace" else _kept(path)
    real, test, names, of_real = _real_and_test(cfg, run)
    fake, of_fake = _drawn(cfg, run, real, names) if run else _of_folder(cfg, real, names)
    recipe = Recipe(
        cfg.steps, cfg.batch_size, cfg.fake_share, run.model.device if run else trained.device_of(cfg.device)
    )
    passport = recipe.passport(real.pixels.shape, len(names)) | of_real | of_fake
    print(f"real  {len(real):,} images of {len(names)} classes, {passport['real']}")
    print(f"test  {len(test):,} images, {passport['test']}")
    print(f"fake  {len(fake):,} images, {passport['fake']}; labels {passport['labels']}", flush=True)

    name = short_name(passport | {"num_fake": len(fake), "fake_share": cfg.fake_share})
    one = kept.setdefault(name, {"images": run.model.images_seen if run else None, "accuracy": {}, "scores": {}})
    seeds = range(cfg.seed, cfg.seed + cfg.seeds)
    wanted = trainings(cfg.parts, seeds)
    left = [training for training in wanted if training.key not in one["accuracy"]]
    if len(left) < len(wanted):
        print(f"{len(wanted) - len(left)} of {len(wanted)} classifiers were trained before ({report.shown(path)})")
    classifiers, began = Usefulness(real, test, fake, len(names), recipe), time.monotonic()
    for number, training in enumerate(left, start=1):
        accuracy = one["accuracy"][training.key] = classifiers.accuracy(training)
        _write(kept, path)
        minutes = (time.monotonic() - began) / 60
        print(f"{number:>4}/{len(left)}{minutes:>7.1f} min{accuracy:>8.1%}  {training}", flush=True)
    found = scores(one["accuracy"], real, len(fake), cfg.parts, seeds, passport, cfg.fake_share)
    one["scores"] = {score.name: score.to_dict() for score in found.values()}
    _write(kept, path)
    print(f"\n{table(found)}\n{report.shown(path)}")
    if run and (run.folder / "wandb" / "run-id").exists():
        from gan_experiments.loggers import wandb_run

        with wandb_run.reopened(run.folder) as logger:
            if logger is not None:
                accuracies = {score.name: score.value for score in found.values()}
                logger.log_evaluation("usefulness", accuracies, run.model.images_seen)
                print(f"W&B      {logger.where()}")
    return 0


def _require(cfg: DictConfig) -> None:
    """Raise one ConfigError with everything that is wrong with the options, before anything is opened."""
    from gan_experiments import files
    from gan_experiments.assembly import check
    from gan_experiments.contracts import ConfigError

    check.require_options(cfg, "usefulness")
    files.require_existing(cfg.existing)
    faults = []
    if bool(cfg.run) == bool(cfg.fake):
        faults.append("the generated images come from a run or a folder: type one of run=outputs/... and fake=FOLDER")
    elif cfg.fake and not cfg.real:
        faults.append(f"fake={cfg.fake} needs real images: type real= a folder with one subfolder for each class")
    for key in ("resolution", "channels") if cfg.run else ("classes", "attribute"):
        if cfg.data[key] is not None:
            why = "the images are as the run's" if cfg.run else "the subfolders are the classes"
            faults.append(f"data.{key}={cfg.data[key]}: {why}; leave it out")
    if not 0 < round(cfg.fake_share * cfg.batch_size) < cfg.batch_size:
        faults.append(
            f"fake_share={cfg.fake_share}: a batch of {cfg.batch_size} must hold generated and real images; "
            "type for example fake_share=0.5"
        )
    if faults:
        raise ConfigError(*faults)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kept(path: Path) -> dict[str, Any]:
    """Return the results of earlier commands. Raises ConfigError if the file holds something else."""
    from gan_experiments.contracts import ConfigError

    try:
        kept = json.loads(path.read_text()) if path.is_file() else {}
        assert isinstance(kept, dict)
        for one in kept.values():
            assert isinstance(one["scores"], dict)
            assert isinstance(one["accuracy"], dict)
            assert all(map(_is_number, one["accuracy"].values()))
    except (OSError, ValueError, TypeError, KeyError, AssertionError):
        raise ConfigError(
            f"{path} does not hold results of usefulness: type existing=replace to overwrite it, or another out="
        ) from None
    return kept


def _write(kept: dict[str, Any], path: Path) -> None:
    """Write the results; the file is complete at any moment."""
    from gan_experiments import files

    files.write_text(path, json.dumps(kept, indent=1))


# -------------------------------------------------------------------- the images


def _real_and_test(cfg: DictConfig, run: TrainedRun | None) -> tuple[Subset, Subset, list[str], dict[str, Any]]:
    """Return the real images to train on and to test on, their class names, and their passport entries."""
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.images import Folder
    from gan_experiments.metrics.usefulness import labelled, open_folder

    tests = None
    if run and not cfg.real:
        data, what, where, seen = _data(cfg, run), "the run's data", f"the data of run={cfg.run}", "has"
        images = data.reference("train")
        if "test" in data.splits and not (isinstance(data, Folder) and not data.has("test")):
            tests = data.reference("test")
    else:
        size, what, where, seen = (run.cfg if run else cfg).data, "a folder", f"real={cfg.real}", "may have"
        images = open_folder("real", cfg.real, size.resolution or 64, size.channels or 3)
    names, shape = images.class_names, images.pixels.shape
    if len(names) < 2:
        also = "" if cfg.real else "data.classes= their number, or "
        raise ConfigError(
            f"{where}: no two labelled classes; type {also}real= a folder with a subfolder for each class"
        )
    real = labelled(images, names, where)
    passport = {"real": what, "real_fingerprint": images.fingerprint}
    if cfg.test:
        tests = open_folder("test", cfg.test, shape[2:], shape[1])
    if tests is None:
        real, test = real.split(HELD_OUT, cfg.seed)
        passport["test"] = f"a fifth of the real ones (seed {cfg.seed}); the generator {seen} seen them"
    else:
        test = labelled(tests, names, f"test={cfg.test}" if cfg.test else where)
        passport |= {"test": "a folder" if cfg.test else "the split test", "test_fingerprint": tests.fingerprint}
    for part, purpose in ((real, "train on"), (test, "test on")):
        if lacking := part.lacking(names):
            raise ConfigError(f"{where}: too few images, of {lacking[0]} none to {purpose}; give it two of each class")
    return real, test, names, passport | {"num_test": len(test)}


def _data(cfg: DictConfig, run: TrainedRun) -> ImageData:
    """Return the data of the run, changed by what was typed."""
    from gan_experiments.assembly import build

    settings = run.cfg.data.copy()
    settings.update({key: value for key, value in cfg.data.items() if value is not None})
    return build.make(settings)


def _of_folder(cfg: DictConfig, real: Subset, names: list[str]) -> tuple[Subset, dict[str, Any]]:
    """Return the generated images of a folder, and their passport entries."""
    import torch

    from gan_experiments.contracts import ConfigError
    from gan_experiments.metrics.usefulness import PSEUDO, Subset, labelled, open_folder

    images = open_folder("fake", cfg.fake, real.pixels.shape[2:], real.pixels.shape[1])
    if len(images) < (cfg.n or 0):
        raise ConfigError(
            f"n={cfg.n}: fake={cfg.fake} holds {len(images)} images; type n={len(images)} or leave it out"
        )
    named = bool(images.class_names)
    fake = labelled(images, names, f"fake={cfg.fake}") if named else Subset.all_of(images.pixels, None)
    if len(fake) > (n := cfg.n or len(real)):
        fake = fake.take(torch.randperm(len(fake), generator=torch.Generator().manual_seed(cfg.seed))[:n])
    lacking = f"; none of {', '.join(fake.lacking(names))}" if named and fake.lacking(names) else ""
    return fake, {
        "fake": f"a folder{lacking}",
        "fake_fingerprint": images.fingerprint,
        "labels": "by the subfolders" if named else PSEUDO,
        "seed": cfg.seed,
    }


def _drawn(cfg: DictConfig, run: TrainedRun, real: Subset, names: list[str]) -> tuple[Subset, dict[str, Any]]:
    """Return images that the model of a run generates, and their passport entries.

    A class-conditional model is given the classes of as many real images, another conditional one what its data have.
    """
    import torch

    from gan_experiments.conditions import Rows
    from gan_experiments.contracts import ConfigError
    from gan_experiments.drawing import to_uint8
    from gan_experiments.metrics.usefulness import PSEUDO, Subset
    from gan_experiments.models.noise_to_image import NoiseToImage

    model = run.model
    assert isinstance(model, NoiseToImage), "_opened has looked"
    n, ema = cfg.n or len(real), bool(cfg.ema) and "generator" in model.averages
    sampler = model.sampler(cfg.seed, ema)
    labels = asked = None
    if classes := model.classes:
        assert real.labels is not None
        labels = Rows(real.labels)(n, cfg.seed)
        known = _data(cfg, run).class_names if cfg.real else names
        if classes != len(known) or set(names) - set(known):
            raise ConfigError(f"run={cfg.run}: its {classes} classes are not the {len(names)} of the real images")
        asked = torch.tensor([known.index(name) for name in names])[labels]
    elif model.conditional:
        asked = model.conditions(n, cfg.seed)
    pixels = []
    for index, start in enumerate(range(0, n, CHUNK)):
        z = model.fixed_noise(min(CHUNK, n - start), sampler.chunk_seed(index))
        images = model.sample(z, ema, None if asked is None else asked[start : start + CHUNK])
        if not images.isfinite().all():  # uint8 would hide it
            raise ConfigError(f"run={cfg.run}: its images are not finite; type run= an earlier checkpoint")
        pixels.append(to_uint8(images).cpu())
    checkpoint = run.checkpoint[:16]
    return Subset.all_of(torch.cat(pixels), labels), {
        "fake": f"drawn by the checkpoint {checkpoint}",
        "labels": PSEUDO if labels is None else "those that the model was asked for",
        "ema": ema,
        "seed": cfg.seed,
    }
