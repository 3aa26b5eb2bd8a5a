"""Export a trained model to a file for other programs: `gan-experiments export run=latest format=onnx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from gan_experiments.export.making import Made


def export(cfg: DictConfig) -> int:
    """Write the file, if it does what the run does, and say what it is. Return 0."""
    from gan_experiments import files
    from gan_experiments.assembly import check, report
    from gan_experiments.contracts import ConfigError

    check.require_options(cfg, "export")
    from gan_experiments.export import formats, making
    from gan_experiments.export.signature import Options
    from gan_experiments.inference.run import open_run

    suffix = formats.SUFFIXES[cfg.format]
    if cfg.out and Path(cfg.out).suffix != suffix:
        right = f"{Path(cfg.out).stem}{suffix}"
        raise ConfigError(f"out={cfg.out}: a file of format={cfg.format} ends in {suffix}; type out={right}")
    size = cfg.size if cfg.size is None or isinstance(cfg.size, int) else [*cfg.size]
    options = Options(cfg.ema, cfg.half, cfg.truncation, cfg.to, size, cfg.noise, cfg.seed, cfg.pixels, cfg.layout)
    run = open_run(cfg.run, "cpu", cfg.trust)
    words = [f"{run.model.images_seen:08d}", *([] if cfg.to is None else [str(cfg.to)]), *(["half"] * cfg.half)]
    usual = run.folder / "exported" / f"{files.clean_name('-'.join(words))}{suffix}"
    path = files.place(cfg.out, usual, cfg.existing, suffix=suffix)
    if not files.to_write([path], cfg.existing):
        print(f"{report.shown(path)} is there already, and kept")
        return 0
    try:
        made = making.export(run, options, path, cfg.format, cfg.licence)
    except ConfigError as error:
        raise ConfigError(*(f"run={cfg.run} format={cfg.format}: {fault}" for fault in error.faults)) from error
    print(f"{report.shown(path)}  ({path.stat().st_size / 1e6:,.1f} MB)")
    for line in _told(made):
        print(line)
    return 0


def _told(made: Made) -> list[str]:
    """Return lines on a file: what it is, its inputs, how far it is from the run, and how fast."""
    from gan_experiments.export import metadata

    ports = [f"{port['name']} {port['dtype']} {_shape(port['shape'])}" for port in made.metadata["inputs"]]
    output = made.metadata["output"]
    lines = [
        metadata.described(made.metadata),
        f"{', '.join(ports)} -> {output['name']} {output['dtype']} {_shape(output['shape'])}",
        f"differs from the run by at most {made.difference}",
    ]
    if made.loss is not None:
        unit = "levels" if made.loss.levels else "of -1 to 1"
        mean, most = made.loss.mean, made.loss.largest
        what = "float16 weights change" if made.metadata["half"] else "computing in float32 alone changes"
        lines.append(f"{what} it by {mean:.2g} {unit} on average, {most:.2g} at most")
    return [*lines, f"one image on one core: {made.run_ms:.1f} ms as a run, {made.file_ms:.1f} ms as this file"]


def _shape(parts: list[int | str]) -> str:
    return f"[{', '.join(map(str, parts))}]"
