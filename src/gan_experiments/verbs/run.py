"""Train a model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from gan_experiments.assembly.build import Run

log = logging.getLogger(__name__)


def run(cfg: DictConfig, built: Callable[[Run], object] = lambda run: None) -> int:
    """Check the config, build the parts, train, and return the exit status; `built` is called with the parts."""
    from gan_experiments import processes, signals
    from gan_experiments.assembly import build, check, encoders, fastest, pretrained, report, trained
    from gan_experiments.contracts import RankDied
    from gan_experiments.runs import configs, resume, run_folder

    typed = {resume.key_of(word) for word in resume.overrides()}
    check.require_readable(cfg)
    configs.settle_shape(cfg)
    processes.adopt(cfg.trainer, resume.choice("trainer"), "trainer.devices" in typed)
    encoders.settle(cfg)
    pretrained.settle(cfg)
    check.require(cfg)
    if resume.finished(cfg):
        folder = Path(cfg.output)
        ended = run_folder.outcome(folder)
        if ended is None:  # killed after its last checkpoint
            run_folder.record(folder, run_folder.Outcome("finished", cfg.images, f"done: {cfg.images:,} images"))
        early = ended is not None and ended.images < cfg.images  # by its score
        told = (
            f"ended early before ({ended.message})" if ended and early else f"has seen its {cfg.images:,} images before"
        )
        print(f"{report.shown(folder)} {told}")
        return 0
    if cfg.ckpt:
        trained.require_fit(cfg, resume.find(cfg.ckpt))
    cfg = fastest.settled(cfg)
    checkpoint = resume.prepare(cfg)
    if cfg.check:
        report.tell_forecast(cfg)
        return 0
    parts = build.build(cfg)
    built(parts)
    if parts.trainer.is_global_zero:
        for remark in check.remarks(cfg, parts.model):
            log.warning("%s", remark)
    stopped: signals.Stopped | None = None
    parts.on_death(lambda message: report.broken_off(parts, message))
    with parts.opened():
        try:
            with run_folder.running(parts.folder, lambda: parts.model.images_seen):
                parts.train(checkpoint)
        except signals.Stopped as error:  # before the first batch, or a second signal
            stopped = error
            parts.end_other_ranks()
        except RankDied as error:
            report.broken_off(parts, str(error))
            return 1
        return report.close(parts, stopped)
