"""Handling of signals: at any moment, signal n ends a command with exit status 128 + n and one line.

Outside a training it ends the work at once (`Stopped`). No unfinished file is left behind, because every file is
written complete or not at all. In a training, `callbacks/stopping.py` first lets the current batch finish. Nothing here
imports torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from gan_experiments import processes


class Stopped(BaseException):
    """A signal that ends the command at once."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def numbers() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a command to end; under SLURM also SIGUSR1, which says that its time is up."""
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *([signal.SIGUSR1] if processes.slurm() else []))


def stop(number: int) -> None:
    """Raise Stopped."""
    raise Stopped(number)


def handle(answer: Callable[[int], None]) -> dict[signal.Signals, Any]:
    """Make the signals call `answer`; return their previous handlers, for `give_back`.

    A signal that is ignored stays ignored (`nohup`). Only the main thread can set handlers; in another thread nothing
    happens.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    owner = os.getpid()

    def called(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a data worker, which ends with the process that started it
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if number == signal.SIGHUP:
            _leave_terminal()
        answer(number)

    asking = [number for number in numbers() if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, called) for number in asking}


def give_back(before: dict[signal.Signals, Any]) -> None:
    """Restore the previous handlers, and clear the table."""
    for number, handler in before.items():
        signal.signal(number, handler)
    before.clear()


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Make signals raise Stopped inside the `with`."""
    before = handle(stop)
    try:
        yield
    finally:
        give_back(before)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Ignore the first signal inside the `with`, where the work ends in a moment; a second one raises Stopped."""
    came: list[int] = []

    def note(number: int) -> None:
        if came:
            raise Stopped(number)
        came.append(number)

    before = handle(note)
    try:
        yield
    finally:
        give_back(before)


def requeue(number: int) -> None:
    """Ask SLURM to requeue the job if the signal says that its time is up."""
    if number == signal.SIGUSR1 and processes.rank() == 0:
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)


def say(text: str) -> None:
    """Print a line on the error stream of the first rank; do nothing if the stream is closed."""
    if processes.rank() == 0:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def _leave_terminal() -> None:
    """Redirect output for a terminal that is gone to the null device, so that printing does not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if os.isatty(stream):
            os.dup2(nowhere, stream)
    os.close(nowhere)
