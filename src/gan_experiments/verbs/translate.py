"""Translate images with a trained model: `gan-experiments translate run=outputs/2026-11-21/12-00-00 images=a.jpg`."""

from __future__ import annotations

import contextlib
import glob
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

if TYPE_CHECKING:
    from torch import Tensor

    from gan_experiments.data.masks import Mask
    from gan_experiments.data.photos import Photo
    from gan_experiments.inference.run import Run
    from gan_experiments.kinds import Kind
    from gan_experiments.provenance import Mark

CELL = 256  # pixels a side on the contact sheet
FEW = 8  # up to so many images, there is a line about each
CELLS = 24  # images whose cells are kept until the sheet is drawn; others are read again
NAMED = 20  # images that are named if more are left out
FOLDER = "translated"


@dataclass(frozen=True)
class Job:
    """An image, the path of its translation, and that of its mask if there is one."""

    image: Path
    result: Path
    mask: Path | None


@dataclass
class Told:
    """Messages about the images: a line about each of a few; about many, only exceptions and a summary."""

    many: bool
    shares: list[float] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def of(self, image: Path, photo: Photo, mask: Mask | None) -> Iterator[str]:
        """Yield a line on how an image's mask was read, if it is to be printed at once; keep what the summary needs."""
        for words in photo.lost:
            self.lost.setdefault(words, []).append(image.name)
        if mask is not None:
            self.shares.append(mask.share)
            if not self.many or mask.share > 0.5:
                yield f"{image.name}: {_percent(mask.share)} of it is hole, {mask.seen} in the mask"

    def summary(self) -> Iterator[str]:
        """Yield lines about all images together."""
        if self.many and self.shares:
            least, middle, most = (_percent(sorted(self.shares)[i]) for i in (0, len(self.shares) // 2, -1))
            yield f"of an image, {least} to {most} is hole, {middle} of half of them or less"
        if any(share > 0.5 for share in self.shares):
            yield "where a mask is black in the hole, type hole=black"
        for words, names in self.lost.items():
            yield f"{names[0]}{f' and {len(names) - 1} others' if len(names) > 1 else ''}: {words}"


def translate(cfg: DictConfig) -> int:
    """Translate each image, write the contact sheet, and return the exit status.

    Images that cannot be translated are left out, and a ConfigError at the end names them.
    """
    from gan_experiments.data import limits

    with limits.at_most(cfg.max_pixels, "max_pixels"):
        return _translate(cfg)


def _translate(cfg: DictConfig) -> int:
    from gan_experiments import files
    from gan_experiments.assembly import report
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.decode import UnreadableImageError
    from gan_experiments.data.photos import sheet_of
    from gan_experiments.inference.run import open_run
    from gan_experiments.kinds import Clip
    from gan_experiments.loggers import lineage
    from gan_experiments.models.image_to_image import ImageToImage
    from gan_experiments.runs import quoting

    _require(cfg)
    run = open_run(cfg.run, cfg.device, cfg.trust, cfg.compile)
    if not isinstance(run.model, ImageToImage):
        raise ConfigError(
            f"run={cfg.run}: this model draws images from noise; type {quoting.of_verb('sample', run=cfg.run)}"
        )
    to = run.direction("" if cfg.to is None else str(cfg.to))
    if isinstance(run.model.kind, Clip):
        return _predict(cfg, run)
    out = Path(str(cfg.out)).expanduser() if cfg.out else run.folder / FOLDER / files.clean_name(to)
    jobs, sheet = _plan(cfg, out, run.folder / FOLDER), sheet_of(out)
    wanted = set(files.to_write([*(job.result for job in jobs), *([sheet] if cfg.sheet else [])], cfg.existing))
    left = [job for job in jobs if job.result in wanted]
    cells: dict[Path, Tensor] = {}
    began = time.monotonic()
    told = Told(len(left) > FEW)
    mark = run.mark(cfg.provenance, cfg.seed, to)
    done, faults, stopped = _do(left, _translator(cfg, run, to), _masks(cfg, jobs), told, cells, mark)
    for line in told.summary():
        print(line)
    if done:
        last = report.shown(jobs[0].result if len(jobs) == 1 else out)
        print(f"{last}  ({done} image{'s' * (done > 1)} to {to}, {time.monotonic() - began:.1f} s)")
    elif not left:
        print("all of them are there already")
    if stopped:
        print(f"stopped: {done} of {len(left)} images are done; the same command with existing=keep goes on")
        return 128 + stopped
    if sheet in wanted:
        for job in jobs[: cfg.sheet + len(faults)]:
            if job.result not in cells and job.result.is_file():
                with contextlib.suppress(UnreadableImageError):
                    cells[job.result] = _pair(run.read(job.image), run.read(job.result, result=True).pixels)
        found = [cells[job.result] for job in jobs[: cfg.sheet + len(faults)] if job.result in cells]
        _write_sheet(found[: cfg.sheet], sheet, run.model.kind, mark)
    if done:
        lineage.record_use("translate", run.folder, run.file)  # no picture: photographs are the user's
    if faults:
        more = [f"... and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
        raise ConfigError(*faults[:NAMED], *more)
    return 0


def _predict(cfg: DictConfig, run: Run) -> int:
    """Write a clip that goes on from the first frames of each film in `images=`, and a sheet of them. Return 0."""
    import torch

    from gan_experiments import drawing, files
    from gan_experiments.assembly import report
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data import clips
    from gan_experiments.data.limits import UnreadableImageError
    from gan_experiments.loggers import lineage

    model: Any = run.model
    kind = model.kind
    if unread := [f"{key}={cfg[key]}" for key in ("mask", "label") if cfg[key] is not None]:
        raise ConfigError(
            f"{unread[0]}: this model goes on from the first frames of films and reads none; leave it out"
        )
    found = clips.first_frames(cfg.images, model.given, "images")
    out = Path(str(cfg.out)).expanduser() if cfg.out else run.folder / FOLDER / "future"
    results = [out / f"{files.clean_name(path.stem)}{kind.suffix}" for path in found]
    if len(set(results)) < len(results):
        raise ConfigError(f"images={cfg.images}: several films have the same name: predict them one at a time")
    sheet = out.with_name(f"{out.name}-sheet.png")
    played = [sheet.with_suffix(suffix) for suffix in kind.plays] if cfg.sheet else []
    wanted = set(files.to_write([*results, *([sheet] if cfg.sheet else []), *played], cfg.existing))
    settings = clips.ClipSettings(run.cfg.data.resolution, run.cfg.data.channels, fit=run.cfg.data.get("fit", "crop"))
    mark, faults, cells = run.mark(cfg.provenance, cfg.seed, "future"), list[str](), list[torch.Tensor]()
    for path, result in zip(found, results, strict=True):
        try:
            made = model.predict(clips.frames_in(path, settings, model.given), cfg.ema).cpu()
        except (UnreadableImageError, ConfigError) as error:
            faults.append(f"{report.shown(path)} is left out: {error}")
            continue
        if result in wanted:
            kind.save(made, result, mark)
        cells.append(torch.stack([model.held(made[None].to(run.model.device))[0].cpu(), made]))
    if cells and cfg.sheet:
        shown = torch.stack(cells[: cfg.sheet])
        if sheet in wanted:
            drawing.save_png(kind.sheet(shown), sheet, mark)
        for path in wanted & {*played}:
            kind.play(shown, path, mark)
        print(report.shown(sheet))
    if cells:
        print(f"{report.shown(out)}  ({len(cells)} clips)")
        lineage.record_use("translate", run.folder, run.file)
    if faults:
        raise ConfigError(*faults[:NAMED])
    return 0


def _do(
    jobs: list[Job],
    translated: Callable[[Path, Mask | None], tuple[Photo, Tensor]],
    mask_of: Callable[[Job], Mask | None],
    told: Told,
    cells: dict[Path, Tensor],
    mark: Mark | None,
) -> tuple[int, list[str], int]:
    """Translate the images that can be translated.

    Returns the number of images done, the reasons why others are left out, and the number of the signal that ended the
    work, or 0. The cells of the first images for the contact sheet are added to `cells`. Raises ConfigError if a result
    cannot be written.
    """
    from tqdm import tqdm

    from gan_experiments.assembly import report
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.decode import UnreadableImageError
    from gan_experiments.data.photos import write_photo

    done, faults = 0, []
    with tqdm(jobs, "images", disable=None, leave=False) as bar, report.stoppable() as stopped:  # on a terminal
        for job in bar:
            name = report.shown(job.image)
            try:
                mask = mask_of(job)
                photo, made = translated(job.image, mask)
            except UnreadableImageError as error:
                faults.append(f"{name} is left out: it cannot be decoded ({error})")
                continue
            except ConfigError as error:
                faults += [f"{name} is left out: {fault}" for fault in error.faults]
                continue
            for line in told.of(job.image, photo, mask):
                bar.write(line)
            try:
                write_photo(made, job.result, photo, mark)
            except ConfigError as error:  # no other can be written either
                ready = f"; {done} of {len(jobs)} images are done, existing=keep goes on" if done else ""
                raise ConfigError(f"{error}{ready}") from error
            done += 1
            if len(cells) < CELLS:
                cells[job.result] = _pair(photo, made)
    return done, faults, stopped[0] if stopped else 0


def _require(cfg: DictConfig) -> None:
    """Raise one ConfigError with everything that is wrong with the options, before anything is opened."""
    from gan_experiments.assembly import check
    from gan_experiments.contracts import ConfigError

    if nothing := [
        f"{key} is not given: type {key}=..." for key in ("run", "images") if cfg.get(key) in (None, "", [])
    ]:
        raise ConfigError(*nothing)
    check.require_options(cfg, "translate")


def _translator(cfg: DictConfig, run: Run, to: str) -> Callable[[Path, Mask | None], tuple[Photo, Tensor]]:
    """Return a function from an image's path and its mask to the image and its translation.

    Raises ConfigError if the model reads something that was not given, or something was given that it does not read.
    """
    from gan_experiments.data.decode import as_grey
    from gan_experiments.inference import tiling
    from gan_experiments.models.image_to_image import ImageToImage

    run.require(to, cfg.mask, cfg.label)
    if run.cfg.data.get("range") == "auto" and run.model.values is None:
        print("data.range=auto: files of more than 8 bits are read by their kind here")
    assert isinstance(run.model, ImageToImage), "require has looked"
    for line in tiling.other_tile(cfg.tile, run.model):
        print(line)

    def translated(image: Path, mask: Mask | None) -> tuple[Photo, Tensor]:
        photo = run.read(image)
        hole = None if mask is None else mask.pixels
        made = run.translated(photo.pixels, to, hole, cfg.label, cfg.seed, cfg.tile, cfg.ema, image.name)
        if not photo.grey or len(made) != 3:
            return photo, made
        if cfg.grey:
            return photo, as_grey(made)
        told = "grey becomes the colours that the model makes; grey=true writes grey"
        return replace(photo, lost=(*photo.lost, told)), made

    return translated


def _plan(cfg: DictConfig, out: Path, earlier: Path) -> list[Job]:
    """Return the jobs to do. Raises ConfigError with everything that prevents them.

    Results of an earlier command, in `out` or below `earlier`, are not translated again unless they are named directly.
    """
    from gan_experiments.assembly.report import shown
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.photos import base_of, find_photos, suffix_of

    found: dict[tuple[Path, Path], None] = {}
    for word in [str(word) for word in ([cfg.images] if isinstance(cfg.images, str | int) else cfg.images)]:
        base = base_of(word).resolve()
        ours = [place.resolve() for place in (out, earlier)]
        ours = [place for place in ours if place != base and place.is_relative_to(base)]
        for image, name in find_photos(word, "images"):
            if not any(image.resolve().is_relative_to(place) for place in ours):
                found[image, name] = None
    if not found:
        raise ConfigError(f"images={cfg.images}: nothing but earlier results is there; name the images themselves")
    jobs = [
        Job(image, out / name.with_suffix(suffix_of(image)), _mask_beside(cfg, image, name)) for image, name in found
    ]
    results: dict[Path, Path] = {}
    faults = []
    originals = {image.resolve() for image, _ in found}
    for job in jobs:
        if job.result.resolve() in originals:
            faults.append(f"out={cfg.out}: {shown(job.result)} is itself to be translated; type another out=")
        elif results.setdefault(job.result, job.image) != job.image:
            both = f"{shown(results[job.result])} and {shown(job.image)}"
            faults.append(f"{both} would both become {shown(job.result)}: translate them one at a time")
    if faults:
        raise ConfigError(*faults[:5])
    return jobs


def _mask_beside(cfg: DictConfig, image: Path, name: Path) -> Path | None:
    """Return the path of an image's mask: the given file, or the file of the same name in the given folder.

    In that folder, a file in the same subfolder as the image's comes first. The path may not exist.
    """
    from gan_experiments.data.photos import is_photo

    if cfg.mask is None:
        return None
    path = Path(str(cfg.mask)).expanduser()
    if not path.is_dir():
        return path
    places = [path / name.parent, path]
    alike = (file for place in places for file in sorted(place.glob(f"{glob.escape(image.stem)}.*")) if is_photo(file))
    return next(alike, path / name)


def _masks(cfg: DictConfig, jobs: list[Job]) -> Callable[[Job], Mask | None]:
    """Return the function that reads the mask of a job; a mask that all jobs share is read now.

    The function raises ConfigError if a mask does not exist, cannot be read, has no hole, or is all hole. For a shared
    mask it is raised here.
    """
    from gan_experiments.assembly.report import shown
    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.decode import UnreadableImageError
    from gan_experiments.data.masks import read_mask

    def read(path: Path) -> Mask:
        if not path.is_file():
            wanted = "give an image, or a folder with one of each name"
            raise ConfigError(f"mask={shown(path)} does not exist: {wanted}")
        try:
            return read_mask(path, cfg.hole)
        except UnreadableImageError as error:
            raise ConfigError(f"mask={shown(path)}: {error}") from None

    alone = {job.mask for job in jobs if job.mask}
    shared = read(alone.pop()) if len(alone) == 1 else None
    return lambda job: shared or (None if job.mask is None else read(job.mask))


def _write_sheet(cells: list[Tensor], sheet: Path, kind: Kind, mark: Mark | None) -> None:
    """Write a sheet of images beside their translations, [2, C, CELL, CELL] each."""
    import torch

    from gan_experiments import drawing
    from gan_experiments.assembly import report
    from gan_experiments.contracts import ConfigError

    if not cells:
        return
    try:
        drawing.save_png(kind.sheet(torch.stack(cells)), sheet, mark)
    except OSError as error:
        raise ConfigError(
            f"{sheet} cannot be written ({error.strerror or error}); type sheet=0 or out=<another folder>"
        ) from error
    print(report.shown(sheet))


def _pair(photo: Photo, made: Tensor) -> Tensor:
    """Return an image beside its translation, float [2, C, CELL, CELL] in [-1, 1]."""
    from gan_experiments.models.image_to_image import side_by_side

    return side_by_side(_cell(photo.pixels), _cell(made))[0]


def _percent(share: float) -> str:
    """Return a share in percent with two significant digits, or four near 100, so that 100 is only said of all."""
    return f"{100 * share:.2g}%" if share < 0.995 else f"{100 * share:.4g}%"


def _cell(pixels: Tensor) -> Tensor:
    """Centre an image [C, H, W] on a white square, float [1, C, CELL, CELL] in [-1, 1]."""
    from torch.nn import functional as F

    from gan_experiments.data.batches import to_float
    from gan_experiments.inference.tiling import fitted

    small = fitted(pixels, CELL)
    down, right = (CELL - side for side in small.shape[2:])
    white = 1 if small.is_floating_point() else 255
    return to_float(F.pad(small, (right // 2, right - right // 2, down // 2, down - down // 2), value=white))
