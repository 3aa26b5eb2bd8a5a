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
    """Three kinds of checkpoints in the folder `checkpoints`.

    - `last.ckpt`, replaced every `every` images and at the end;
    - `best.ckpt`, replaced at each best score;
    - `00100000.ckpt` and so on, every `keep` images, which are kept.

    A checkpoint is written beside the old one and then renamed, so that a kill at any moment leaves a complete one. A
    state that is not finite is never written. Must come after `Scores` among the callbacks.

    Args:
        folder: the run folder.
        every: images from one `last.ckpt` to the next.
        keep: images from one checkpoint that is kept to the next; 0 for none.
    """

    def __init__(self, folder: Place, every: Whole, keep: Whole = 0) -> None:
        self.folder = Path(folder) / "checkpoints"
        self.every, self.keep = every, keep
        self.saved_at = -1  # images seen by the last checkpoint that this process has written

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.ckpt"

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Remove unfinished checkpoints that a kill left in the run's folder."""
        if trainer.is_global_zero:
            for left in self.folder.glob(".*.unfinished.ckpt"):
                left.unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Save the checkpoints that are due."""
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
        """Write the state to a file, completely or not at all; raise NotFinite if it is not finite."""
        with module.paused():
            module.require_finite()
            if trainer.is_global_zero:
                with files.whole(path) as unfinished:
                    trainer.save_checkpoint(unfinished)
            else:  # every rank is asked for its part of the state, one writes
                trainer.save_checkpoint(path)
