"""Train a model: `python src/gan_experiments/run.py model=wgan_gp data=celeba`, or `gan-experiments model=...`."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script: import the package, not its files
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from omegaconf import DictConfig

from gan_experiments import launch


def run(cfg: DictConfig) -> int:
    """Check, build, train; the exit status."""
    from gan_experiments import build, check, report, resume

    check.require(cfg)
    checkpoint = resume.prepare(cfg)
    if cfg.check:
        print(report.forecast(cfg))
        return 0
    parts = build.build(cfg)
    try:
        parts.train(checkpoint)
        lines, status = report.closing(parts)
    finally:
        parts.finish()
    print(lines, flush=True)
    return status


def main() -> None:
    """The console script `gan-experiments`."""
    launch.main(run, config="run")


if __name__ == "__main__":
    main()
