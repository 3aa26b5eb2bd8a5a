"""Interpolate between two runs: `gan-experiments interpolate a=outputs/rrdb_psnr b=outputs/esrgan alpha=0.8`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from torch import Tensor


def interpolate(cfg: DictConfig) -> int:
    """Write a run folder with the checkpoint of `b`, in which the interpolated weights replace the generator's.

    They also replace those of the generator's average. Returns 0.
    """
    from gan_experiments import files
    from gan_experiments.assembly import check, report
    from gan_experiments.networks import esrgan
    from gan_experiments.runs import resume

    check.require_options(cfg, "interpolate")
    path = resume.find(cfg.b, "b")
    usual = (resume.folder_of(path) or path.parent) / "interpolated" / f"{cfg.alpha:g}"
    folder = files.place(cfg.out, usual, cfg.existing)
    if not resume.to_make(folder, cfg.existing):
        print(f"{report.shown(folder)} is there already, and kept")
        return 0
    first, second = _generator(cfg, "a"), _generator(cfg, "b")
    state = esrgan.interpolate(first, second, float(cfg.alpha))

    checkpoint = resume.load(path, "b")
    whole = checkpoint["state_dict"]
    whole |= {f"{prefix}.{name}": value for prefix in _places(whole) for name, value in state.items()}
    resume.write(checkpoint, folder)
    print(report.shown(folder))
    return 0


def _generator(cfg: DictConfig, key: str) -> dict[str, Tensor]:
    """Return the weights of the generator of `a` or `b`: those of its average if the run has one."""
    from gan_experiments.assembly import pretrained
    from gan_experiments.contracts import ConfigError

    found = pretrained.weights(cfg[key], ("generator",), key)
    if not found:
        raise ConfigError(f"{key}={cfg[key]}: that run has no generator; type {key}= another one")
    return found["generator"]


def _places(whole: dict[str, object]) -> list[str]:
    """Return the prefixes under which a checkpoint holds the generator and, if there is one, its average."""
    return [p for p in ("generator", "averages.generator.network") if any(name.startswith(f"{p}.") for name in whole)]
