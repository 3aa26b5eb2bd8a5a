"""Draw samples from a trained model: `gan-experiments sample run=outputs/2026-11-21/12-00-00 n=64`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from torch import Tensor

    from gan_experiments.conditions import Embedded
    from gan_experiments.inference.run import Run
    from gan_experiments.kinds import Kind
    from gan_experiments.models.noise_to_image import NoiseToImage


def sample(cfg: DictConfig) -> int:
    """Write a sheet of samples, single images with `singles`, and a GIF with `interpolation`. Return 0."""
    import torch

    from gan_experiments import drawing, files
    from gan_experiments.assembly import check, report
    from gan_experiments.contracts import ConfigError
    from gan_experiments.inference.run import open_run
    from gan_experiments.kinds import Image
    from gan_experiments.loggers import lineage
    from gan_experiments.models.noise_to_image import NoiseToImage

    check.require_options(cfg, "sample")
    run = open_run(cfg.run, cfg.device, cfg.trust)
    model, usual = run.model, run.folder / "drawn" / f"{run.model.images_seen:08d}"
    kind = model.kind
    if cfg.singles and not kind.suffix:
        raise ConfigError(f"singles=true: {kind.name} are not saved one by one; leave it out")
    suffix = _suffix(cfg, kind)
    if cfg.depth == 16 and not cfg.singles:
        raise ConfigError("depth=16 is of single images: type singles=true, or leave it out")
    if cfg.depth == 16 and not isinstance(kind, Image):
        raise ConfigError(f"depth=16 is of images, and this model makes {kind.name}; leave it out")
    out = files.place(cfg.out, usual, cfg.existing)
    label, columns = _labels(run, cfg) if isinstance(model, NoiseToImage) else (None, None)
    if label is not None:
        cfg.n = len(label)  # as many of each caption
    singles = _singles(run, cfg, label, out / "images", suffix) if cfg.singles else []
    sheet, walk = out / "sheet.png", out / "interpolation.gif"
    played = [sheet.with_suffix(suffix) for suffix in kind.plays]
    wanted = set(files.to_write([sheet, *played, *singles, *([walk] if cfg.interpolation else [])], cfg.existing))
    cells = _drawn(run, cfg, label)
    real = run.data().fixed(kind.behind)["real"] if kind.behind else None
    names = [] if label is None else run.names_of(label)
    mark = run.mark(cfg.provenance, cfg.seed, names[0] if len({*names}) == 1 else "", composite=real is not None)
    if sheet in wanted:
        titles = [] if label is None or columns is None else run.conditions.titles(label, columns)
        drawing.save_png(kind.sheet(torch.stack(cells), columns, real=real, titles=titles), sheet, mark)
    print(report.shown(sheet))
    for path in played:
        if path in wanted:
            kind.play(torch.stack(cells), path, mark)
        print(report.shown(path))
    if singles:
        _write_singles(run, cfg, singles, wanted, cells, names, label)
        print(f"{report.shown(out / 'images')}  ({len(cells)} {kind.name})")
    if cfg.interpolation and isinstance(model, NoiseToImage):
        if walk in wanted:
            frames = _walk(model, cfg, label)
            drawing.save_gif([kind.sheet(f, real=real) for f in frames], walk, mark, seconds=len(frames) / 20)
        print(report.shown(walk))
    lineage.record_use("sample", run.folder, run.file, sheet)
    return 0


def _write_singles(
    run: Run,
    cfg: DictConfig,
    singles: list[Path],
    wanted: set[Path],
    cells: list[Tensor],
    names: list[str],
    told: Tensor | None,
) -> None:
    """Write each wanted sample to its file, and beside them the captions, or cameras, that were `told`."""
    from gan_experiments import processes
    from gan_experiments.cameras import NUMBERS
    from gan_experiments.conditions import Captions
    from gan_experiments.data import camera_files

    if isinstance(run.conditions, Captions):
        _write_captions(names, singles, singles[0].parent.with_name("captions.txt"))
    elif told is not None and told.shape[1:] == (NUMBERS,):
        camera_files.write(told, singles)
    values = [_values(run)] if cfg.depth == 16 else []
    for index, (path, cell) in enumerate(zip(processes.watched(singles, "files"), cells, strict=False)):
        if path in wanted:  # of input, output and reconstruction, the output
            of_one = run.mark(cfg.provenance, cfg.seed, names[index] if names else "")
            run.model.kind.save(cell[min(1, len(cell) - 1)], path, of_one, *values)


def _suffix(cfg: DictConfig, kind: Kind) -> str:
    """Return the suffix of the files of single samples: that of `format=`, or the kind's own."""
    from gan_experiments.contracts import ConfigError

    if cfg.format is None:
        return kind.suffix
    known = [one[1:] for one in (kind.suffix, *kind.others) if one]
    if not cfg.singles:
        raise ConfigError(f"format={cfg.format} is of single samples: type singles=true, or leave it out")
    if cfg.format not in known:
        raise ConfigError(f"format={cfg.format}: {kind.name} are saved as {', '.join(known)}; type one of these")
    return f".{cfg.format}"


def _values(run: Run) -> tuple[float, float]:
    """Return the values that black and white have in 16 bits: those of the data's files if they can be written."""
    from gan_experiments.kinds import Bands

    low, high = run.model.values or (0.0, 65535.0)
    if isinstance(run.model.kind, Bands) or (low >= 0 and high <= 65535 and high - low > 255):
        return low, high
    print(f"depth=16: 0 is black and 65535 white; in the data's files {low:g} and {high:g} are")
    return 0.0, 65535.0


def _drawn(run: Run, cfg: DictConfig, label: Tensor | None) -> list[Tensor]:
    """Return the n cells of the sheet, each [k, ...] for k images side by side."""
    from gan_experiments.contracts import ConfigError
    from gan_experiments.models.noise_to_image import NoiseToImage

    model = run.model
    if not isinstance(model, NoiseToImage):
        for key in ("class", "labels", "caption", "camera", "cameras"):
            if cfg[key] is not None:
                what = {"caption": "captions", "camera": "cameras", "cameras": "cameras"}.get(key, "classes")
                raise ConfigError(f"{key}={cfg[key]}: this model translates images and knows no {what}; leave it out")
        if cfg.interpolation:
            raise ConfigError("interpolation: this model translates images and has no latent space; leave it out")
        fixed = run.data().fixed(cfg.n)
        return list(model.sheet(model.sheet_inputs(fixed, cfg.n), cfg.ema).cpu())
    from gan_experiments import processes
    from gan_experiments.inference.run import CHUNK

    z = run.noise(cfg.n, cfg.seed, cfg.truncation)
    drawn: list[Tensor] = []
    for start in processes.watched(range(0, cfg.n, CHUNK), f"times {CHUNK} images"):
        rows = slice(start, start + CHUNK)
        drawn += [*run.draw(z[rows], None if label is None else label[rows], cfg.truncation, cfg.ema, exact=True)]
    return [image[None] for image in drawn]


def _walk(model: NoiseToImage, cfg: DictConfig, label: Tensor | None) -> list[Tensor]:
    """Return the 16 cells, [16, 1, ...], of each frame of the interpolation."""
    import torch

    walk = model.walk(cfg.interpolation, n=16, seed=cfg.seed)
    label = None if label is None else label[torch.arange(16) % cfg.n]
    return [model.sample(z, cfg.ema, label, cfg.truncation)[:, None] for z in walk]


def _singles(run: Run, cfg: DictConfig, label: Tensor | None, folder: Path, suffix: str) -> list[Path]:
    """Return a path for each image, in a folder of its class if there are classes."""
    from gan_experiments import files

    names = [f"{index:06d}{suffix}" for index in range(cfg.n)]
    if label is None or label.ndim > 1:  # captions and cameras name no folders
        return [folder / name for name in names]
    classes = files.clean_names(run.model.class_names or run.data().class_names)
    return [folder / classes[number] / name for number, name in zip(label.tolist(), names, strict=True)]


def _cameras(run: Run, cfg: DictConfig) -> Tensor | None:
    """Return the cameras float [n, 25] of `camera=` or `cameras=`; None without these."""
    import torch

    from gan_experiments.contracts import ConfigError
    from gan_experiments.data.camera_files import read
    from gan_experiments.models import scenes

    given = [key for key in ("camera", "cameras") if cfg[key] is not None]
    if not given:
        return None
    (key, *others), generator = given, run.model.network("generator", cfg.ema)
    scenes.require(generator, f"{key}={cfg[key]}")
    if others or cfg["class"] is not None or cfg.caption is not None or cfg.labels is not None:
        raise ConfigError(f"{key}={cfg[key]}: it says all that samples are told; leave out the others of these")
    if key == "camera":
        return scenes.cameras_at(generator, run.conditions, *scenes.at_degrees(cfg.camera)).expand(cfg.n, -1)
    cameras = read(Path(cfg.cameras).expanduser(), f"cameras={cfg.cameras}")
    return cameras[torch.arange(cfg.n) % len(cameras)]


def _embeddings(cfg: DictConfig, known: Embedded) -> Tensor:
    """Return the embeddings float [n, features] of `caption=`, an .npy of them."""
    from gan_experiments.data.embedding_files import read

    return read(Path(cfg.caption).expanduser(), f"caption={cfg.caption}", known.rows.shape[1])


def _captions(cfg: DictConfig) -> list[str] | None:
    """Return the captions of `caption=`: one, several, or the lines of a text file; None without any."""
    from gan_experiments.contracts import ConfigError

    given = cfg.caption
    if given is None:
        return None
    if isinstance(given, str) and given.lower().endswith(".txt"):
        try:
            given = Path(given).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"caption={cfg.caption}: it cannot be read ({error}); give a caption a line") from None
    captions = [str(one).strip() for one in ([given] if isinstance(given, str | int) else given)]
    captions = [one for one in captions if one]
    if not captions:
        raise ConfigError(f"caption={cfg.caption}: it has no caption; type caption='a thick seven'")
    return captions


def _write_captions(captions: list[str], singles: list[Path], path: Path) -> None:
    """Write the caption of each single image, a line for each."""
    from gan_experiments import files

    lines = [f"{single.name}\t{caption}" for single, caption in zip(singles, captions, strict=True)]
    files.write_text(path, "\n".join([*lines, ""]))


def _labels(run: Run, cfg: DictConfig) -> tuple[Tensor | None, int | None]:
    """Return the classes int64 [n] of the images and the number of columns of their sheet.

    The classes are None if there are none, and the columns None for any number. The images are all of the class of
    `class=` or of the captions of `caption=`, or drawn by the law of `labels=`; else they repeat 0, 1, 2, ..., so that
    each class has its columns. Single images are a data set: if the data's classes are unequally frequent, they are
    drawn in the same proportions.
    """
    from gan_experiments.conditions import ACROSS, Cameras, Captions, Embedded
    from gan_experiments.contracts import ConfigError

    if (seen_from := _cameras(run, cfg)) is not None:
        return seen_from, None

    if (captions := _captions(cfg)) is not None:
        if not isinstance(run.conditions, Captions):
            raise ConfigError(f"caption={cfg.caption}: this generator reads no captions; leave it out")
        known, of_file = run.conditions, str(cfg.caption).lower().endswith(".npy")
        told = _embeddings(cfg, known) if of_file and isinstance(known, Embedded) else known.of_words(captions)
        each = max(1, cfg.n // len(told))
        columns = min(each, ACROSS)
        return told.repeat_interleave(each - each % columns, dim=0), columns
    asked = cfg["class"]
    if asked is not None and isinstance(run.conditions, Captions):
        raise ConfigError(f"class={asked}: this generator reads captions and knows no classes; type caption=...")
    if asked is not None and isinstance(run.conditions, Cameras):
        raise ConfigError(f"class={asked}: this generator is told cameras and knows no classes; type camera=[30,15]")
    a_data_set = cfg.singles and asked is None and (not run.conditions.even or isinstance(run.conditions, Cameras))
    law = cfg.labels or ("data" if a_data_set else None)
    columns = None if law or asked is not None else run.conditions.columns(cfg.n)
    return run.labels(cfg.n, cfg.seed, asked, law, key="class"), columns
