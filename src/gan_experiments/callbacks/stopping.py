"""The end of a run: when its images have been seen, or someone asks it to stop."""

from __future__ import annotations

import math
import signal
import time
from typing import Any

import lightning as L

from gan_experiments import signals
from gan_experiments.bounds import MaxTime
from gan_experiments.callbacks.callback import RunCallback
from gan_experiments.engine.module import AdversarialModule


class Stopping(RunCallback):
    """A callback that ends the run after its last image, or after the batch in which a signal arrived (`signals.py`).

    The batch is finished first, so that the saved state is one that an uninterrupted run passes through. A second
    signal ends the run at once, and so does one before the first batch. Under SLURM SIGUSR1 also ends it (`sbatch
    --signal=USR1@120`: two minutes before the time is up), and SLURM is asked to requeue the job.

    Args:
        max_time: "days:hours:minutes:seconds" after which the run ends in the same way, though by no signal; None for
            no limit. It is counted from the first batch of this process.
    """

    def __init__(self, max_time: MaxTime | None = None) -> None:
        self.max_time = max_time
        self.time_is_up = False
        self._until = math.inf
        self.signal: signal.Signals | None = None
        self._module: AdversarialModule | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Forget the signals of an earlier training."""
        self.signal, self._module, self.time_is_up = None, module, False
        if self.max_time and self._until == math.inf:  # not again when a failing run goes back to a checkpoint
            self._until = time.monotonic() + seconds(self.max_time)

    def on_train_batch_start(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Install the handlers of the signals at the first batch (only a program's main thread can)."""
        if not self._previous:
            self._previous = signals.handle(self._asked)

    def _asked(self, number: int) -> None:
        if self.signal is not None:
            raise signals.Stopped(number)
        self.signal = signal.Signals(number)
        if self._module is not None:
            self._module.stop_asked = True
        signals.say(f"\n{self.signal.name}: saving after this batch; once more to stop at once")

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:
        """Tell Lightning to stop, all ranks after the same batch: one that stops alone leaves the others waiting."""
        if trainer.is_global_zero and time.monotonic() >= self._until:
            module.stop_asked = self.time_is_up = True
        if module.stop_agreed and self.signal is None and not self.time_is_up:
            self.signal = signal.SIGTERM
        if module.stop_agreed or module.at_end():
            trainer.should_stop = True

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Restore the handlers of the signals; requeue the job if its time is up."""
        signals.give_back(self._previous)
        if self.signal is not None:
            signals.requeue(self.signal)

    def on_exception(self, trainer: L.Trainer, module: AdversarialModule, exception: BaseException) -> None:
        """Restore the handlers of the signals, as Lightning skips the teardown of a run that failed."""
        signals.give_back(self._previous)


def seconds(text: str) -> int:
    """Return the seconds of "days:hours:minutes:seconds"."""
    days, hours, minutes, rest = map(int, text.split(":"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
