"""When a run ends: its images have been seen, or someone asks it to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Any

import lightning as L

from gan_experiments import world
from gan_experiments.engine import AdversarialModule


class Stopping(L.Callback):
    """Ends the run after the batch in which its images are complete, or SIGINT or SIGTERM arrived.

    The batch is carried out to its end, so that what is saved is a state that an unbroken run passes through. A second
    signal interrupts at once. Under SLURM SIGUSR1 also ends it (`sbatch --signal=USR1@120`: two minutes before the time
    is up), and SLURM is asked to put the job in its queue again.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._module: AdversarialModule | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: L.Trainer, module: AdversarialModule) -> None:  # type: ignore[override]
        """Take over the signals (only a program's main thread can)."""
        self._module = module
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if world.slurm() else [])):
                self._previous[number] = signal.signal(number, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if self._module is not None:
            self._module.stop_asked = True
        print(f"\n{self.signal.name}: saving after this batch; once more to stop at once", file=sys.stderr)

    def on_train_batch_end(self, trainer: L.Trainer, module: AdversarialModule, *_: Any) -> None:  # type: ignore[override]
        """Tell Lightning to stop, every rank after the same batch: one that stops alone leaves the others waiting."""
        if module.stop_agreed and self.signal is None:
            self.signal = signal.SIGTERM
        if module.stop_agreed or module.at_end():
            trainer.should_stop = True

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Give the signals back; queue the job again where its time is up."""
        if self.signal == signal.SIGUSR1 and trainer.is_global_zero:
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
        self._give_back()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Give the signals back, as Lightning leaves out the teardown of a run that failed."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
