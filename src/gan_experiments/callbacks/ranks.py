"""A guard that checks that all ranks hold the same model."""

from __future__ import annotations

from typing import Any

import lightning as L

from gan_experiments import distributed
from gan_experiments.bounds import Whole
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.contracts import TrainingFailure
from gan_experiments.engine.module import AdversarialModule


class RankGuard(RunCallback):
    """A comparison of all ranks, every `every` images and before the last checkpoint; a difference stops the run.

    Parameters, their averages and buffers are compared bit by bit, by a checksum of each tensor. The states of the
    optimizers are not: they follow from the gradients, which are equal as long as the parameters are. A comparison
    costs one pass over the weights.

    Args:
        every: images from one comparison to the next; 0 for none.
    """

    def __init__(self, every: Whole) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Compare if it is due; raise TrainingFailure, on every rank, naming the first tensor that differs."""
        if distributed.world_size() > 1 and self.every and (module.passed(self.every) or module.at_end()):
            with module.paused():
                require_equal(module)


def require_equal(module: AdversarialModule) -> None:
    """Raise TrainingFailure, on every rank, if a parameter or buffer differs between them; the message names it."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    table = distributed.gather_rows(distributed.checksums(tensors.values())[None])  # [ranks, tensors]
    differs = (table != table[:1]).cpu()
    if differs.any():
        place = int(differs.any(0).nonzero()[0])
        ranks = ", ".join(str(int(rank)) for rank in differs[:, place].nonzero())
        raise TrainingFailure(
            f"the ranks no longer train the same model: {list(tensors)[place]!r} of rank {ranks} differs from rank 0's"
            f" after {module.images_seen:,} images ({int(differs.any(0).sum())} of {len(tensors)} tensors differ)"
        )
