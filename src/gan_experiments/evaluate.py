"""Score a run again, or another checkpoint: `python src/gan_experiments/evaluate.py run=outputs/2026-11-21/12-00`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if not __package__:  # run as a script: import the package, not its files
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from omegaconf import DictConfig

from gan_experiments import launch


def evaluate(cfg: DictConfig) -> int:
    """Print the scores of a checkpoint and write them, with their passports, beside the run's own."""
    from gan_experiments import build, report, trained
    from gan_experiments.contracts import ConfigError
    from gan_experiments.models.noise_to_image import NoiseToImage

    run = trained.open_run(cfg.run, cfg.device)
    if not isinstance(run.model, NoiseToImage):
        raise ConfigError(f"run={cfg.run}: this model does not draw images from noise; there is nothing to score yet")
    settings = cfg.get("metrics") or run.cfg.metrics
    if not settings:
        raise ConfigError(f"run={cfg.run} was trained with metrics=none: type metrics=digits or metrics=inception")
    evaluator = build.make(settings)
    data = build.make(run.cfg.data)
    data.prepare_data()
    data.setup("fit")
    ema = bool(cfg.ema) and "generator" in run.model.averages
    scores = evaluator.evaluate(
        run.model.sampler(cfg.seed, ema), data.reference(evaluator.split), run.model.device, ema=ema
    )
    for score in scores.values():
        spread = f" ± {score.std:.4g}" if score.std is not None else ""
        print(f"{score.name:20}{score.value:.5g}{spread}")
    path = run.folder / f"scores-{run.model.images_seen:08d}.json"
    measured = {"images": run.model.images_seen, "scores": {name: score.to_dict() for name, score in scores.items()}}
    path.write_text(json.dumps(measured, indent=1))
    print(report.shown(path))
    return 0


def main() -> None:
    """Start the verb."""
    launch.main(evaluate, config="evaluate")


if __name__ == "__main__":
    main()
