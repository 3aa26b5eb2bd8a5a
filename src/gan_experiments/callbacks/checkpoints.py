"""Checkpoints: the last state, and the best by score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from gan_experiments import files
from gan_experiments.bounds import Place, Whole
from gan_experiments.callbacks.callback import RunCallback, find
from gan_experiments.callbacks.scores import Scores
from gan_experiments.engine.module import AdversarialModule


class Checkpoints(RunCallback):
    """Writes `checkpoints/last.ckpt` every `every` images and at the end, `best.ckpt` beside it at each best score.

    And one that stays, `00100000.ckpt`, every `keep` images, for those who want to look back.

    A checkpoint is written beside the old one and then takes its name, so a kill at any moment leaves one whole. None
    is written of a state that is not finite. Must come after `Scores` among the callbacks.

    Args:
        folder: the run folder.
        every: images from one checkpoint to the next.
        keep: images from one that stays to the next; 0 for none.
    """

    def __init__(self, folder: Place, every: Whole, keep: Whole = 0) -> None:
        self.folder = Path(folder) / "checkpoints"
        self.every, self.keep = every, keep
        self.saved_at = -1  # images seen by the last checkpoint that this process has written

    @property
    def last(self) -> Path:
        """The file to go on from."""
        return self.folder / "last.ckpt"

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Remove what a kill in the middle of a checkpoint left in the run's folder."""
        if trainer.is_global_zero:
            for left in self.folder.glob(".*.unfinished.ckpt"):
                left.unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Save where a checkpoint is due."""
        scores = find(trainer, Scores)
        best = scores is not None and scores.best_at == module.images_seen
        due = module.passed(self.every) or module.at_end() or trainer.should_stop
        if best:
            self.save(trainer, module, self.folder / "best.ckpt")
        if module.passed(self.keep):
            self.save(trainer, module, self.folder / f"{module.images_seen:08d}.ckpt")
        if due:
            self.save(trainer, module, self.last)
            self.saved_at = module.images_seen

    def save(self, trainer: L.Trainer, module: AdversarialModule, path: Path) -> None:
        """Write the state to a file, at once or not at all."""
        with module.paused():
            module.require_finite()
            if trainer.is_global_zero:
                with files.whole(path) as unfinished:
                    trainer.save_checkpoint(unfinished)
            else:  # every rank is asked for its part of the state, one writes
                trainer.save_checkpoint(path)
