"""Explore a latent space: `gan-experiments explore run=outputs/2026-11-21/12-00-00 what=mixing`."""

from __future__ import annotations

import glob
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gan_experiments.runs import configs, quoting


def explore(cfg: DictConfig) -> int:
    """Explore the latent space of the run's generator as `what` says, and return the exit status."""
    from gan_experiments import files
    from gan_experiments.assembly import build, check, report, trained
    from gan_experiments.contracts import ConfigError
    from gan_experiments.exploration.latent_space import LatentSpace
    from gan_experiments.models.noise_to_image import NoiseToImage

    if not cfg.get("what"):
        known = sorted(path.stem for path in (configs.conf_dir() / "what").glob("*.yaml"))
        raise ConfigError(f"what= is not given: type what= one of {', '.join(known)}")
    own = [group for group in ("metrics", "data") if not cfg.get(group)]
    for group in own:
        OmegaConf.update(cfg, group, {}, force_add=True)  # until the run is open: `what` refers to it
    check.require_options(cfg, "explore")
    run = trained.open_run(cfg.run, cfg.device, cfg.trust)
    model = run.model
    if not isinstance(model, NoiseToImage):
        raise ConfigError(
            f"run={cfg.run}: this model translates images; type {quoting.of_verb('translate', run=cfg.run)} images=..."
        )
    for group in own:
        cfg[group] = run.cfg[group]
    for key in ("directions", "latents"):  # files of earlier explorations are in the run folder
        name = cfg.what.get(key)
        if isinstance(name, str) and not Path(name).exists():
            found = (run.folder / "explored").glob(f"**/{glob.escape(name)}")
            cfg.what[key] = str(max(found, key=lambda path: path.stat().st_mtime, default=name))
    what = build.make(cfg.what)
    generator = LatentSpace(model, cfg.ema, cfg.truncation, cfg["class"], cfg.seed, cfg.caption, cfg.camera)
    generator.mark = run.mark(cfg.provenance, cfg.seed, generator.only_name)
    usual = run.folder / "explored" / f"{model.images_seen:08d}"

    def there_in(folder: Path) -> list[Path]:
        return sorted(path for pattern in what.writes(generator) for path in folder.glob(pattern))

    out = files.place(cfg.out, usual, cfg.existing, is_taken=lambda folder: bool(there_in(folder)))
    there = there_in(out)
    if there and not files.to_write(there, cfg.existing):
        print(f"{report.shown(there[0])} is there already, and kept")
        return 0
    status: int = what.explore(generator, out)
    return status
