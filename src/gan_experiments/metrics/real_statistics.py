"""What the scores need of the real images, kept on disk."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from gan_experiments.files import whole
from gan_experiments.metrics.neighbours import nearest
from gan_experiments.metrics.ranks import Ranks
from gan_experiments.metrics.scores import moments, square_root

PATIENCE = 10.0  # seconds from one word to the other ranks to the next: far less than a process group waits

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RealStatistics:
    """Features [N, D] float32 of the real images, and of these in float64 what takes long to compute.

    `mean` [D], `cov` [D, D] and its `root` (see `square_root`); `nearest` [N, K], the squared distances to each one's
    nearest neighbours, K 0 where no score has asked for them yet.
    """

    features: Tensor
    mean: Tensor
    cov: Tensor
    root: Tensor
    nearest: Tensor

    @classmethod
    def of(cls, features: Tensor) -> RealStatistics:
        """Compute the statistics of features [N, D], N >= 2, all but the neighbours."""
        mean, cov = moments(features)
        return cls(features, mean, cov, square_root(cov), cov.new_empty(len(features), 0))

    def knows(self, neighbours: int) -> bool:
        """Whether it holds the distances to so many neighbours."""
        return self.nearest.shape[1] >= neighbours

    def with_neighbours(self, number: int) -> RealStatistics:
        """Return these statistics with the distances to `number` neighbours."""
        return replace(self, nearest=nearest(self.features, number))

    @classmethod
    def load(cls, path: Path, device: torch.device) -> RealStatistics | None:
        """Return on `device` what `save` wrote to `path`; None where there is no file.

        A damaged one, by the checksums in it, is named and removed.
        """
        try:
            with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums
                if archive.testzip() is not None:
                    raise ValueError("its content is not what was written")
            return cls(**torch.load(path, map_location=device, weights_only=True))._whole()
        except OSError:
            return None
        except Exception as error:  # a damaged file makes its reader raise anything
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            log.warning("the features kept in %s are damaged (%s) and are extracted again", path, reason)
            with suppress(OSError):
                path.unlink()
            return None

    def _whole(self) -> RealStatistics:
        """Raise ValueError where these are no statistics of one set of features."""
        number, width = self.features.shape
        shapes = [(number, width), (width,), (width, width), (width, width), (number, self.nearest.shape[1])]
        if [tuple(getattr(self, field.name).shape) for field in fields(self)] != shapes:
            raise ValueError("it holds something else")
        return self

    def save(self, path: Path) -> None:
        """Write to `path` all at once, so that no other process ever reads half a file; warn where that fails.

        Clears away what a process that was killed has left: none but one `alone` may save.
        """
        try:
            for stale in path.parent.glob(f".{path.stem}.*.unfinished{path.suffix}"):
                stale.unlink(missing_ok=True)
            with whole(path) as unfinished, unfinished.open("wb") as file:
                torch.save({field.name: getattr(self, field.name) for field in fields(self)}, file)
        except (OSError, RuntimeError) as error:
            warnings.warn(f"the features of the real images are not kept for the next time: {error}", stacklevel=2)


@contextmanager
def alone(path: Path, ranks: Ranks) -> Iterator[None]:
    """Let in one job at a time, all of its ranks together; a job that was killed is no longer in.

    `path` is the lock's file. Where none can be written, jobs do not wait for each other.
    """
    lock = FileLock(path)
    told = False
    try:
        while not ranks.tell(ranks.rank != 0 or _acquired(lock, PATIENCE if told else 0)):
            if ranks.rank == 0 and not told:
                log.info("waiting for another job that extracts the features of the same real images")
            told = True
        yield
    finally:
        if lock.is_locked:
            lock.release()


def _acquired(lock: FileLock, timeout: float) -> bool:
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except (OSError, NotImplementedError):  # nothing can be written here: `save` will say so
        pass
    return True
