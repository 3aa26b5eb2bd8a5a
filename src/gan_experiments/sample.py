"""Draw from a trained model: `python src/gan_experiments/sample.py run=outputs/2026-11-21/12-00-00 n=64`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: import the package, not its files
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from omegaconf import DictConfig

from gan_experiments import launch

CHUNK = 64


def sample(cfg: DictConfig) -> int:
    """Write a sheet, single images where `singles` asks for them, and an interpolation where `interpolation` does."""
    import torch

    from gan_experiments import build, check, images, report, trained
    from gan_experiments.contracts import ConfigError
    from gan_experiments.models.noise_to_image import NoiseToImage

    check.require_whole_numbers(cfg, {"n": 1, "seed": 0, "interpolation": 0})
    run = trained.open_run(cfg.run, cfg.device)
    model, out = run.model, Path(cfg.out or run.folder / "drawn" / f"{run.model.images_seen:08d}")
    if isinstance(model, NoiseToImage):
        z = model.fixed_noise(cfg.n, cfg.seed, cfg.truncation)
        drawn = [model.sample(part, cfg.ema).cpu() for part in z.split(CHUNK)]
        cells = [image[None] for part in drawn for image in part]
    else:
        if cfg.interpolation:
            raise ConfigError("interpolation: this model translates images and has no latent space; leave it out")
        data = build.make(run.cfg.data)
        data.prepare_data()
        data.setup("fit")
        cells = list(model.sheet(model.sheet_inputs(data.fixed(cfg.n), cfg.n), cfg.ema).cpu())
    images.save_png(images.sheet(torch.stack(cells)), out / "sheet.png")
    print(report.shown(out / "sheet.png"))
    if cfg.singles:
        for index, cell in enumerate(cells):  # of input, output and back, the output
            images.save_png(images.to_uint8(cell[min(1, len(cell) - 1)]), out / "images" / f"{index:06d}.png")
        print(f"{report.shown(out / 'images')}  ({len(cells)} images)")
    if cfg.interpolation and isinstance(model, NoiseToImage):
        walk = model.walk(cfg.interpolation, n=16, seed=cfg.seed)
        frames = [images.sheet(model.sample(z, cfg.ema)[:, None]) for z in walk]
        images.save_gif(frames, out / "interpolation.gif", seconds=len(frames) / 20)
        print(report.shown(out / "interpolation.gif"))
    return 0


def main() -> None:
    """Start the verb."""
    launch.main(sample, config="sample")


if __name__ == "__main__":
    main()
