"""The base of this package's callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import lightning as L

from gan_experiments.engine.module import AdversarialModule

Kind = TypeVar("Kind")

if TYPE_CHECKING:  # mypy would refuse hooks that take an AdversarialModule where Lightning's take any module
    _Callback = object
else:
    _Callback = L.Callback


class RunCallback(_Callback):
    """A Lightning callback whose hooks are given an `AdversarialModule`.

    A hook that takes long does its work inside `module.paused()`, so that the images per second do not count its time.
    """

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Prepare, before the first batch of a new or a resumed training."""

    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Act before a batch."""

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Act after a batch, which `module.images_seen` already includes."""

    def on_train_end(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Act after the last batch."""

    def on_exception(self, trainer: L.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        """Act when the training ends with an error; `on_train_end` is then not called."""


def find(trainer: L.Trainer, kind: type[Kind]) -> Kind | None:
    """Return the trainer's callback of that class, or None."""
    return next((c for c in trainer.callbacks if isinstance(c, kind)), None)  # type: ignore[attr-defined]
