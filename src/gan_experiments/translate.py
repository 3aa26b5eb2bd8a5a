"""Turn images into others: `python src/gan_experiments/translate.py run=outputs/2026-11-21/12-00-00 images=a.jpg`."""

from __future__ import annotations

import glob
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a script: import the package, not its files
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from omegaconf import DictConfig

from gan_experiments import launch

if TYPE_CHECKING:
    from torch import Tensor

    from gan_experiments.contracts import Batch
    from gan_experiments.data.photos import Photo
    from gan_experiments.models.image_to_image import ImageToImage

EXISTING = ("refuse", "skip", "overwrite")
CELL = 256  # pixels a side on the contact sheet


@dataclass(frozen=True)
class Job:
    """An image, where its translation goes, and the masks that it needs, by the batch's keys."""

    image: Path
    result: Path
    masks: dict[str, Path]


def translate(cfg: DictConfig) -> int:
    """Translate each image, then write the contact sheet; the exit status."""
    import torch
    from tqdm import tqdm

    from gan_experiments import check, images, report, trained
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.decode import UnreadableImageError
    from gan_experiments.data.photos import read_photo, write_photo
    from gan_experiments.models.image_to_image import ImageToImage, side_by_side

    check.require_given(cfg)
    least = {"seed": 0, "sheet": 0}
    check.require_whole_numbers(
        cfg, least | {key: 1 - (key == "label") for key in ("tile", "label") if cfg[key] is not None}
    )
    run = trained.open_run(cfg.run, cfg.device)
    model = run.model
    if not isinstance(model, ImageToImage):
        raise ConfigError(f"run={cfg.run}: this model draws images from noise; type sample.py run={cfg.run}")
    to = model.direction("" if cfg.to is None else str(cfg.to))
    jobs, sheet = _plan(cfg, to, model.directions)
    given = {} if cfg.label is None else {"label": torch.tensor([cfg.label])}
    faults: list[str] = []
    cells: list[Tensor] = []
    done, began = 0, time.monotonic()
    with tqdm(jobs, "images", disable=None, leave=False) as bar:  # where somebody looks
        for job in bar:
            try:
                photo = read_photo(job.image, run.cfg.data.channels)
                masks = {key: read_photo(path, 1) for key, path in job.masks.items()}
                made = _turned(model, photo, masks, given, to, cfg, job.image)
                write_photo(made, job.result, photo)
            except UnreadableImageError as error:
                faults.append(f"{job.image} cannot be decoded ({error}); mend or remove it")
                continue
            except KeyboardInterrupt:
                bar.close()
                print(f"stopped: {done} of {len(jobs)} images are done; the same command with existing=skip goes on")
                return 128 + signal.SIGINT
            done += 1
            if len(cells) < cfg.sheet:
                cells.append(side_by_side(_cell(photo.pixels), _cell(made))[0])
    seconds = time.monotonic() - began
    if done:
        last = report.shown(jobs[0].result if len(jobs) == 1 else jobs[0].result.parent)
        print(f"{last}  ({done} image{'s' * (done > 1)} to {to}, {seconds:.1f} s)")
    elif not jobs:
        print("all of them are there already")
    if cells:
        images.save_png(images.sheet(torch.stack(cells)), sheet)
        print(report.shown(sheet))
    if faults:
        raise ConfigError(*faults)
    return 0


def _turned(
    model: ImageToImage, photo: Photo, masks: dict[str, Photo], given: Batch, to: str, cfg: DictConfig, name: Path
) -> Tensor:
    """What the model makes of a photograph: uint8 [C, H, W].

    The masks lie on the image as further channels, so that they are cut into tiles as it is. Norms that take the
    statistics of what they see are given those of a sample of the whole image, lest each tile is a picture of its own;
    what the model should know of the whole of it, it is asked once.
    """
    import torch
    from tqdm import tqdm

    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.batches import to_float
    from gan_experiments.data.tiles import number_of_tiles, sample_of, tiled, tiling
    from gan_experiments.layers.shared_statistics import shared_statistics

    channels, height, width = photo.pixels.shape
    for key, mask in masks.items():
        if mask.pixels.shape[1:] != (height, width):
            found = f"{mask.pixels.shape[2]}x{mask.pixels.shape[1]}"
            raise ConfigError(f"{key}={cfg[key]} is {found} and {name} {width}x{height}: give one of the same size")
    tile, overlap = tiling(cfg.tile, height, width, model.multiple)
    number = number_of_tiles(height, width, tile, overlap, model.multiple)
    several = number > 1
    whole = to_float(_fitted(photo.pixels, min(tile, max(height, width)))).to(next(model.parameters()))
    given = model.overview(whole) | given
    hidden = None if several else True  # None: where nobody looks
    with tqdm(total=number + several, desc=name.name, unit="tile", disable=hidden, leave=False) as bar:

        def function(rows: Tensor) -> Tensor:
            image, *maps = rows.split([channels, *(1 for _ in masks)], dim=1)
            batch = {key: (values > 0).to(values) for key, values in zip(masks, maps, strict=True)}
            batch |= {key: values.expand(len(rows), *values.shape[1:]) for key, values in given.items()}
            made = model.translate({model.directions[to].reads: image, **batch}, to, cfg.ema, cfg.seed)
            bar.update()
            return made

        def sample() -> Tensor:
            return function(to_float(sample_of(stack, tile, model.multiple)).to(model.device))

        stack = torch.cat([photo.pixels, *(mask.pixels for mask in masks.values())]) if masks else photo.pixels
        try:
            with shared_statistics(model, sample) if several else nullcontext():
                return tiled(function, stack, tile, overlap, model.multiple, model.scale, model.device)
        except torch.OutOfMemoryError:
            raise ConfigError(
                f"tile={cfg.tile} is too large for the memory of {model.device}; type tile={tile // 2}"
            ) from None


def _plan(cfg: DictConfig, to: str, directions: Iterable[str]) -> tuple[list[Job], Path]:
    """What there is to do, and the path of the contact sheet; raises ConfigError with all that is in its way."""
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.photos import find_photos, suffix_of
    from gan_experiments.report import shown

    if cfg.existing not in EXISTING:
        raise ConfigError(f"existing={cfg.existing}: type existing={' or existing='.join(EXISTING)}")
    words = [str(word) for word in ([cfg.images] if isinstance(cfg.images, str | int) else cfg.images)]
    found = dict.fromkeys(pair for word in words for pair in find_photos(word, "images"))
    out = Path(str(cfg.out)).expanduser() if cfg.out else None
    sheet = (out or next(iter(found))[0].parent) / f"sheet-{to}.png"
    if out is None:  # what an earlier command made of these images is not translated again
        made = {_beside(image, direction) for image, _ in found for direction in directions}
        made |= {image.with_name(f"sheet-{direction}.png") for image, _ in found for direction in directions}
        found = {pair: None for pair in found if pair[0] not in made}
    jobs = []
    for image, name in found:
        result = _beside(image, to) if out is None else out / name.with_suffix(suffix_of(image))
        jobs.append(Job(image, result, dict(_masks(cfg, image))))
    results: dict[Path, Path] = {}
    faults = []
    originals = {image.resolve() for image, _ in found}
    for job in jobs:
        if job.result.resolve() in originals:
            faults.append(f"out={cfg.out}: {shown(job.result)} is itself to be translated; type another out=")
        elif results.setdefault(job.result, job.image) != job.image:
            both = f"{shown(results[job.result])} and {shown(job.image)}"
            faults.append(f"{both} would both become {shown(job.result)}: translate them one at a time")
    there = [path for path in (*results, *([sheet] if cfg.sheet else [])) if path.exists()]
    if there and cfg.existing == "refuse":
        some = f"{shown(there[0])} is there already" + (f", and {len(there) - 1} others" if len(there) > 1 else "")
        faults.append(f"{some}: type existing=skip, existing=overwrite or another out=")
    if cfg.existing == "skip":
        jobs = [job for job in jobs if not job.result.exists()]
    if faults:
        raise ConfigError(*faults[:5])
    return jobs, sheet


def _beside(image: Path, to: str) -> Path:
    from gan_experiments.data.photos import suffix_of

    return image.with_name(f"{image.stem}-{to}{suffix_of(image)}")


def _masks(cfg: DictConfig, image: Path) -> Iterator[tuple[str, Path]]:
    """The files of masks for an image: the one that was given, or that of the same name in the folder given."""
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.photos import is_photo

    if cfg.mask is None:
        return
    path = Path(str(cfg.mask)).expanduser()
    if path.is_dir():
        path = next(
            (file for file in sorted(path.glob(f"{glob.escape(image.stem)}.*")) if is_photo(file)), path / image.name
        )
    if not path.is_file():
        raise ConfigError(f"mask={cfg.mask}: {path} does not exist; give an image, or a folder with one of each name")
    yield "mask", path


def _cell(pixels: Tensor) -> Tensor:
    """An image uint8 [C, H, W] on a white square, float [1, C, CELL, CELL] in [-1, 1]."""
    from torch.nn import functional as F

    from gan_experiments.data.batches import to_float

    small = _fitted(pixels, CELL)
    down, right = (CELL - side for side in small.shape[2:])
    return to_float(F.pad(small, (right // 2, right - right // 2, down // 2, down - down // 2), value=255))


def _fitted(pixels: Tensor, longer: int) -> Tensor:
    """An image uint8 [C, H, W] of another size, uint8 [1, C, h, w], the longer of h and w as given."""
    from torch.nn import functional as F

    height, width = (max(1, round(side * longer / max(pixels.shape[1:]))) for side in pixels.shape[1:])
    return F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)


def main() -> None:
    """Start the verb."""
    launch.main(translate, config="translate")


if __name__ == "__main__":
    main()
