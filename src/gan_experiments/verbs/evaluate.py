"""Score a run, or folders of images: `gan-experiments evaluate run=outputs/2026-11-21/12-00-00`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    from torch import Tensor

    from gan_experiments.assembly.subjects import Subject
    from gan_experiments.metrics.evaluator import Evaluator, Judge, Measured, Score
    from gan_experiments.models.latents import Sampler


def evaluate(cfg: DictConfig) -> int:
    """Print each subject's scores, write them with their passports, and draw what is asked for. Return 0."""
    from gan_experiments.assembly import options
    from gan_experiments.contracts import ConfigError

    options.require(cfg, "evaluate")
    if wrong := [*faults(cfg)]:  # before torch is imported
        raise ConfigError(*wrong)
    from gan_experiments.data import limits

    with limits.at_most(cfg.max_pixels, "max_pixels"):
        return _evaluate(cfg)


def _evaluate(cfg: DictConfig) -> int:
    from gan_experiments import files
    from gan_experiments.assembly import check, report
    from gan_experiments.metrics import pictures

    check.require_options(cfg, "evaluate")
    if cfg.fake is not None and is_paired(cfg):
        return _evaluate_pairs(cfg)
    points: list[tuple[float, dict[str, float]]] = []
    folders = set()
    over = "images seen" if isinstance(cfg.truncation, float | int | None) else "truncation"
    curve = f"scores-over-{over.replace(' ', '-')}.png"
    if cfg.out and (cfg.checkpoints or over == "truncation"):
        files.to_write([Path(cfg.out) / curve], cfg.existing)
    for subject in _subjects(cfg):
        name = f"{subject.images:08d}{subject.tag}"
        scores_of = f"scores{subject.tag}" if subject.config is None else f"scores-{name}"
        path = _place(cfg, subject.folder, f"{scores_of}.json")
        sheets = _place(cfg, subject.folder, f"pictures-{name}")
        wanted = files.to_write([path, *([sheets] if cfg.pictures else [])], cfg.existing)
        folders.add(subject.folder)
        if not wanted:
            print(f"{subject.name}: {report.shown(path)} is there already, and kept")
            points.append((subject.position, _kept(path)))
            continue
        real, evaluator, labels, measured, scores = scored(cfg, subject, tell=partial(print, flush=True))
        _print(scores, measured.by_class)
        if path in wanted:
            by_class = {"by_class": measured.by_class} if measured.by_class else {}
            _save({"images": subject.images, **by_class}, scores, path)
        print(report.shown(path))
        if sheets in wanted:
            written = pictures.write_sheets(measured, evaluator, subject.sample, real, sheets, labels, subject.mark)
            print(f"{report.shown(sheets)}: {', '.join(path.name for path in written)}")
        _log(subject, scores, measured, evaluator, real)
        points.append((subject.position, {name: score.value for name, score in scores.items()}))
    if len(points) > 1 and len(folders) == 1:
        path = _place(cfg, folders.pop(), curve)
        if files.to_write([path], cfg.existing):
            pictures.write_curves(sorted(points, key=lambda p: p[0]), over, path)
        print(report.shown(path))
    return 0


def scored(
    cfg: DictConfig, subject: Subject, given: Any = None, tell: Callable[[str], object] = print
) -> tuple[Any, Any, Tensor | None, Measured, dict[str, Score]]:
    """Compute a subject's scores, against `given` real images if there are some.

    `tell` gets a line on what is compared with what. Returns the real images, the evaluator, the classes of the fake
    images if they have some, what was measured, and all scores.
    """
    from gan_experiments.metrics.request import Request
    from gan_experiments.models.image_to_image import Translations

    evaluator = _evaluator(cfg, subject)
    real = _real(cfg, subject, evaluator) if given is None else given
    labels = None if isinstance(subject.sample, Translations) else _classes(cfg, subject, evaluator, real)
    tell(f"{subject.name}: {evaluator.against(real)}")
    path_length = _path_length(cfg, subject)
    request = Request(
        subject.device,
        subject.ema,
        extra=subject.extra | subject.facts,
        labels=labels if cfg.by_class else None,
        bootstrap=cfg.bootstrap,
    )
    measured = evaluator.measure(subject.sample, real, request)
    return real, evaluator, labels, measured, measured.scores | path_length


def faults(cfg: DictConfig) -> Iterator[str]:
    """Yield a line for each fault in how the options go together."""
    from gan_experiments.contracts import LAWS

    if (cfg.run is None) == (cfg.fake is None):
        given = "neither run= nor fake= was" if cfg.run is None else "both run= and fake= were"
        yield f"{given} given: type run=<run folder or checkpoint>, or fake=<folder or zip archive of images>"
    elif cfg.run is None:
        yield from _faults_of_folders(cfg)
    if cfg.real is not None and cfg.get("data") is not None:
        yield "both real= and data= were given: leave one out"
    if cfg.labels not in (None, *LAWS):
        yield f"labels={cfg.labels}: type labels={' or labels='.join(LAWS)}, or leave it out"


def _faults_of_folders(cfg: DictConfig) -> Iterator[str]:
    if not cfg.get("metrics"):
        yield "metrics= is missing: type metrics=inception (as published), metrics=digits, metrics=torchvision, ..."
    if cfg.real is None and (cfg.get("data") is None or is_paired(cfg)):
        yield "real images are missing: type real=<folder or zip archive>" + (
            "" if is_paired(cfg) else ", or data=digits, data=cifar10, ..."
        )
    for key in ("checkpoints", "truncation", "standing_statistics", "seed", "path_length", "labels", "to"):
        if cfg[key]:
            yield f"{key}={cfg[key]}: a folder of images has no generator; leave it out, or type run="
    for key in ("n", "by_class", "bootstrap", "pictures"):
        if cfg[key] and is_paired(cfg):
            yield f"{key}={cfg[key]}: metrics=paired does not read it; leave it out"


def _subjects(cfg: DictConfig) -> Iterator[Subject]:
    from gan_experiments.assembly import subjects, trained
    from gan_experiments.contracts import ConfigError

    if cfg.fake is not None:
        yield subjects.of_folder(cfg, cfg.metrics.batch_size)
        return
    checkpoints = subjects.checkpoints_of(cfg)
    if cfg.out and len({path.parent for path in checkpoints}) > 1:
        raise ConfigError(f"out={cfg.out}: the scores of several runs would meet there; leave it out")
    for checkpoint in checkpoints:
        yield from subjects.of_run(
            cfg, trained.open_run(str(checkpoint), cfg.device, cfg.trust, cfg.compile, images=False)
        )


def _evaluator(cfg: DictConfig, subject: Subject) -> Any:
    """Return the evaluator of `metrics=`, else the one of the run's training, for `n` images."""
    from gan_experiments.assembly import build, scoring
    from gan_experiments.contracts import ConfigError
    from gan_experiments.metrics.evaluator import Evaluator

    settings = scoring.required(cfg, subject.config) or (subject.config and scoring.required(subject.config))
    if not settings:
        raise ConfigError(
            f"run={cfg.run} was trained with metrics=none: type metrics=digits or metrics=inception, for a model that"
            " translates between pairs metrics=paired"
        )
    number = cfg.n or subject.number
    made: Judge = build.make(settings, **({"num_fake": number} if number else {}))
    for key in ("pictures", "path_length"):
        if cfg[key] and not hasattr(made, "extractor"):
            raise ConfigError(f"{key}={cfg[key]}: these scores look at no images; leave it out")
    if isinstance(made, Evaluator):
        made.see_as(subject.kind)
    return made


def _real(cfg: DictConfig, subject: Subject, judge: Judge) -> Any:
    """Return the real images: those of `real=`, of `data=`, else of the run's own data.

    Captions of a held-out split are what its images are compared with.
    """
    from gan_experiments.assembly import build
    from gan_experiments.data import stored
    from gan_experiments.models.latents import Sampler

    if cfg.real is not None:
        return stored.stored(cfg.real, "real", subject.kind)
    if subject.real is not None:
        return subject.real
    node = cfg.get("data") or (subject.config and subject.config.data)
    assert node, "faults asks for one"
    data = build.open_data(node)
    real = judge.real(data)
    if isinstance(subject.sample, Sampler):
        subject.sample = subject.sample.against(data, real.split)
        subject.facts = subject.facts | subject.sample.passport
    return real


def _classes(cfg: DictConfig, subject: Subject, evaluator: Evaluator, real: Any) -> Tensor | None:
    """Return the classes of the fake images, as labels of the real data, int64 [num_fake]; None if they have none.

    Raises ConfigError if `by_class` needs them and they are missing or not among the real images' classes.
    """
    import torch

    from gan_experiments.contracts import ConfigError

    labels = subject.labels(evaluator.num_fake, evaluator.batch_size)
    theirs = list(real.class_names)
    mine = subject.class_names or theirs  # a generator has its data's classes
    if labels is None or not theirs or set(mine) - set(theirs):
        if not cfg.by_class:
            return None
        if labels is None:
            what = "images in a folder for each class" if cfg.fake else "a generator with classes"
            raise ConfigError(f"by_class=true needs {what}, and here is none; leave it out")
        given = (
            f"{len(mine)} ({', '.join(mine[:3])}, ...) and the real ones {len(theirs)} ({', '.join(theirs[:3])}, ...)"
        )
        raise ConfigError(f"by_class=true: the fake images have the classes {given}; give the folders the same names")
    return torch.tensor([theirs.index(name) for name in mine])[labels]


def _path_length(cfg: DictConfig, subject: Subject) -> dict[str, Score]:
    """Return the perceptual path length of a generator in z or in w; empty if `path_length` is 0."""
    if not cfg.path_length:
        return {}
    from gan_experiments.contracts import ConfigError
    from gan_experiments.losses.perceptual import LPIPS
    from gan_experiments.metrics import path_length
    from gan_experiments.metrics.evaluator import Score
    from gan_experiments.metrics.passports import versions
    from gan_experiments.models.latents import Sampler

    assert isinstance(subject.sample, Sampler), "faults refuses folders"
    sampler = subject.sample
    sample, mapping = (sampler.along, None) if cfg.path_length_in == "z" else _in_w(sampler)
    pairs = path_length.latent_pairs(
        sample, sampler.model.latent_dim, sampler.seed, sampling=cfg.path_length_at, mapping=mapping
    )
    channels, *sides = sampler(0, 1).shape[1:]
    if channels not in (1, 3):
        raise ConfigError(
            f"path_length={cfg.path_length}: it is measured on grey images and RGB, and these have {channels} channels;"
            " leave it out"
        )
    distance = LPIPS(cfg.lpips_net, cfg.lpips_weights, "lpips_").to(subject.device)
    side = min(sides)
    if side < distance.smallest:
        raise ConfigError(
            f"lpips_net={cfg.lpips_net} needs images of {distance.smallest} pixels, and these have {side}"
        )
    with path_length.full_precision(sampler.model.network("generator", sampler.ema)):
        mean, std = path_length.perceptual_path_length(pairs, distance, cfg.path_length, device=subject.device)
    end = "_end" if cfg.path_length_at == "end" else ""
    name = f"ppl_{cfg.path_length_in}{end}" + ("" if cfg.lpips_net == "vgg" else f"_{cfg.lpips_net}")
    where = "at the beginning of" if end else "on"
    way = "an arc in z" if cfg.path_length_in == "z" else "a straight line in w"
    passport = {
        "estimator": f"mean and std of LPIPS over the squared step of 1e-4 {where} {way}, 1% cut off each end",
        "images": "not clamped",
        "weights_hash": distance.weights_hash,
        "num_paths": cfg.path_length,
        "ema": subject.ema,
        **subject.extra,
        "versions": versions("torch", "torchvision", "torchmetrics"),
        "warnings": [] if distance.published else ["the network's weights are not those that are published"],
    }
    return {name: Score(name, mean, std, passport)}


def _in_w(sampler: Sampler) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the functions from w [n, w_dim] to images and from z on the CPU to w.

    Raises ConfigError if the generator has no w.
    """
    import torch

    from gan_experiments.contracts import ConfigError
    from gan_experiments.exploration.latent_space import LatentSpace

    generator = LatentSpace(sampler.model, sampler.ema, sampler.truncation)
    if not generator.styled:
        raise ConfigError("path_length_in=w: this generator has no styles; type path_length_in=z")

    def mapped(z: Tensor) -> Tensor:
        labels = sampler.model.conditions(len(z), sampler.seed, sampler.law)
        return generator.mapped(z.to(generator.device), None if labels is None else labels.to(generator.device))

    @torch.no_grad()
    def sample(w: Tensor) -> Tensor:
        return generator.images(generator.placed(w), None)

    return sample, mapped


def is_paired(cfg: DictConfig) -> bool:
    """Return True if each fake image is compared with its ground truth."""
    return bool(cfg.get("metrics")) and cfg.metrics._target_.endswith(".PairedEvaluator")


def _evaluate_pairs(cfg: DictConfig) -> int:
    """Score the images of one folder against those with the same names in another. Return 0."""
    from gan_experiments import files
    from gan_experiments.assembly import build, report
    from gan_experiments.metrics.paired import pairs_of

    path = _place(cfg, Path("outputs") / "scores" / Path(cfg.fake).stem, "scores.json")
    if not files.to_write([path], cfg.existing):
        print(f"{report.shown(path)} is there already, and kept")
        return 0
    scores = build.make(cfg.metrics).evaluate(pairs_of(cfg.fake, cfg.real))
    _print(scores, {})
    _save({"images": 0}, scores, path)
    print(report.shown(path))
    return 0


def _print(scores: dict[str, Score], by_class: dict[str, dict[str, float]]) -> None:
    from gan_experiments.metrics.passports import doubts

    width = max(26, *(len(name) + 2 for name in scores))
    for score in scores.values():
        spread = f" ± {score.std:.4g}" if score.std is not None else ""
        sure = f"   95%: {score.interval[0]:.5g} to {score.interval[1]:.5g}" if score.interval else ""
        print(f"{score.name:{width}}{score.value:.5g}{spread}{sure}")
    for doubt in doubts({name: score.passport for name, score in scores.items()}):
        print(doubt)
    if by_class:
        names = list(next(iter(by_class.values())))
        wide = max(20, *(len(name) + 2 for name in names))
        first = max([20, *(len(label) + 2 for label in by_class)])
        print(f"\n{'class':{first}}" + "".join(f"{name:>{wide}}" for name in names))
        for label, values in by_class.items():
            print(f"{label:{first}}" + "".join(f"{values[name]:{wide}.5g}" for name in names))


def _log(subject: Subject, scores: dict[str, Score], measured: Measured, evaluator: Any, real: Any) -> None:
    """Add the scores to the W&B run of the training, if it was logged there, with the nearest real images."""
    from gan_experiments.drawing import to_uint8
    from gan_experiments.metrics.pictures import nearest_pairs

    if subject.config is None or not (subject.folder / "wandb" / "run-id").exists():
        return
    from gan_experiments.loggers import lineage, wandb_run

    with wandb_run.reopened(subject.folder) as logger:
        if logger is None:
            return
        pairs: list[tuple[Any, Any, float]] = []
        if measured.fake is not None and measured.real is not None:
            fakes, reals, distances = nearest_pairs(measured, evaluator, subject.sample, real)
            rows = [to_uint8(images).permute(0, 2, 3, 1).numpy() for images in (fakes, reals)]
            pairs = list(zip(*rows, distances, strict=True))
        values = {f"{name}{subject.tag}": score.value for name, score in scores.items()}
        logger.log_evaluation("evaluate", values, subject.images, pairs)
        print(f"W&B      {logger.where()}")
    lineage.record_use("evaluate", subject.folder, subject.checkpoint)


def _place(cfg: DictConfig, folder: Path, name: str) -> Path:
    """Return the path of a result: in `out=`, else in the run's folder under a new name, where `compare` finds it."""
    from gan_experiments import files

    return files.place(cfg.out and Path(cfg.out) / name, folder / name, cfg.existing, suffix=Path(name).suffix)


def _save(record: dict[str, Any], scores: dict[str, Score], path: Path) -> None:
    from gan_experiments import files

    told = {name: score.to_dict() for name, score in scores.items()}
    files.write_text(path, json.dumps(record | {"scores": told}, indent=1))


def _kept(path: Path) -> dict[str, float]:
    """Return the scores that an earlier command has written, by name. Raises ConfigError if the file holds none."""
    from gan_experiments.contracts import ConfigError

    try:
        return {name: float(score["value"]) for name, score in json.loads(path.read_text())["scores"].items()}
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} holds no scores: type existing=replace, or another out=") from error
