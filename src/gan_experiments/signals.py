"""What a signal does, the same from the first second of a command to the last: it ends with 128 + n, and one line.

Outside of a training it ends the work at once (`Stopped`); what is half done leaves nothing behind, as every file is
written whole or not at all. In a training `callbacks/stopping.py` has the batch carried out first. Nothing here imports
torch.
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
    """A signal ends the command at once."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def numbers() -> tuple[signal.Signals, ...]:
    """List the signals that ask a command to end; under SLURM SIGUSR1 says that its time is up."""
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *([signal.SIGUSR1] if processes.slurm() else []))


def stop(number: int) -> None:
    """Raise Stopped."""
    raise Stopped(number)


def handle(answer: Callable[[int], None]) -> dict[signal.Signals, Any]:
    """Have the signals call a function; return what they did before, for `give_back`.

    One that is ignored stays so (`nohup`). Only a program's main thread can; elsewhere nothing happens.
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
    """Have the signals do what they did before."""
    for number, handler in before.items():
        signal.signal(number, handler)
    before.clear()


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Within, a signal raises Stopped."""
    before = handle(stop)
    try:
        yield
    finally:
        give_back(before)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Within, the first signal changes nothing: the work ends in a moment. A second one raises Stopped."""
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
    """Ask SLURM to put the job in its queue again where its time is up."""
    if number == signal.SIGUSR1 and processes.rank() == 0:
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)


def say(text: str) -> None:
    """Print a line on the error stream, if somebody listens."""
    if processes.rank() == 0:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def _leave_terminal() -> None:
    """Write nowhere what was meant for a terminal that is gone, instead of failing with it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if os.isatty(stream):
            os.dup2(nowhere, stream)
    os.close(nowhere)
