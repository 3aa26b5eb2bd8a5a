"""Train a model: `python src/gan_experiments/run.py model=wgan_gp data=celeba`, or `gan-experiments model=...`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

if not __package__:  # run as a script: import the package, not its files
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from omegaconf import DictConfig

from gan_experiments import launch

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> int:
    """Check, build, train; the exit status."""
    from gan_experiments import build, check, report, resume, run_folder, signals, trained, world
    from gan_experiments.contracts import RankDied

    typed = {resume.key_of(word) for word in resume.overrides()}
    check.require_readable(cfg)
    world.adopt(cfg.trainer, resume.choice("trainer"), "trainer.devices" in typed)
    check.require(cfg)
    if resume.finished(cfg):
        folder = Path(cfg.output)
        if run_folder.outcome(folder) is None:  # killed after its last checkpoint
            run_folder.record(folder, run_folder.Outcome("finished", cfg.images, f"done: {cfg.images:,} images"))
        print(f"{report.shown(folder)} has seen its {cfg.images:,} images before")
        return 0
    if cfg.ckpt:
        trained.require_fit(cfg, resume.find(cfg.ckpt))
    checkpoint = resume.prepare(cfg)
    if cfg.check:
        report.tell_forecast(cfg)
        return 0
    parts = build.build(cfg)
    if parts.trainer.is_global_zero:
        for remark in check.remarks(cfg, parts.model):
            log.warning("%s", remark)
    stopped: signals.Stopped | None = None
    parts.on_death(lambda message: report.broken_off(parts, message))
    try:
        parts.train(checkpoint)
    except signals.Stopped as error:  # before the first batch, or the second one: at once
        stopped = error
        parts.end_other_ranks()
    except Exception as error:
        known = run_folder.mistake(error)
        if isinstance(known, RankDied):
            report.broken_off(parts, str(known))
            return 1
        message = " ".join(str(known or repr(error)).split())
        run_folder.record(parts.folder, run_folder.Outcome("failed", parts.model.images_seen, message))
        parts.finish()
        raise
    with signals.waiting():
        lines, status = report.closing(parts, stopped)
        state, said = "stopped" if status else "finished", lines.strip().partition("\n")[0]
        run_folder.record(parts.folder, run_folder.Outcome(state, parts.model.images_seen, said))
        if lines:
            print(lines, flush=True)
        parts.finish()
    return status


def main() -> None:
    """The console script `gan-experiments`."""
    launch.main(run, config="run")


if __name__ == "__main__":
    main()
