"""Features and statistics of the real images, cached on disk."""

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

PATIENCE = 10.0  # seconds between messages to the other ranks while waiting: far less than a process group's timeout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RealStatistics:
    """Features [N, D] float32 of the real images, and their float64 statistics that take long to compute.

    These are `mean` [D], `cov` [D, D], its `root` (see `square_root`) and `nearest` [N, K], the squared distances of
    each image to its K nearest neighbours. K is 0 until a score needs neighbours.
    """

    features: Tensor
    mean: Tensor
    cov: Tensor
    root: Tensor
    nearest: Tensor

    @classmethod
    def of(cls, features: Tensor) -> RealStatistics:
        """Return the statistics of features [N, D], N >= 2, without neighbours."""
        mean, cov = moments(features)
        return cls(features, mean, cov, square_root(cov), cov.new_empty(len(features), 0))

    def knows(self, neighbours: int) -> bool:
        """Return True if it holds the distances to that many neighbours."""
        return self.nearest.shape[1] >= neighbours

    def with_neighbours(self, number: int) -> RealStatistics:
        """Return these statistics with the distances to `number` neighbours."""
        return replace(self, nearest=nearest(self.features, number))

    @classmethod
    def load(cls, path: Path, device: torch.device) -> RealStatistics | None:
        """Load onto `device` what `save` wrote to `path`; None if there is no file.

        A file that is damaged, by its checksums, is logged and removed; the result is then None too.
        """
        try:
            with zipfile.ZipFile(path) as archive:  # torch itself does not verify the checksums
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
        """Return self; raises ValueError if the shapes do not belong to one set of features."""
        number, width = self.features.shape
        shapes = [(number, width), (width,), (width, width), (width, width), (number, self.nearest.shape[1])]
        if [tuple(getattr(self, field.name).shape) for field in fields(self)] != shapes:
            raise ValueError("it holds something else")
        return self

    def save(self, path: Path) -> None:
        """Write to `path` atomically, so that no other process ever reads half a file; warn if that fails.

        Also removes unfinished files of killed processes. So only a process that is within `alone` may save.
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
    """Run the block in one job at a time, with all of its ranks; a killed job releases the lock.

    `path` is the lock file. If it cannot be written, jobs do not wait for each other.
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
    except (OSError, NotImplementedError):  # the folder is not writable: `save` will warn
        pass
    return True
