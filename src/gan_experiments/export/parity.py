"""The gate: an exported file is run beside the model that it was made of, and refused where the two differ."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_experiments.contracts import ConfigError
from gan_experiments.export.signature import Rows, Wrapped

SECONDS = 1.0
"""How long a measurement of the time for one image takes, about."""


@dataclass(frozen=True)
class Difference:
    """How far two outputs are from each other: the largest and the mean difference, and the share that differs.

    Differences of `levels` are in levels of 255, others in values of which black is -1 and white 1.
    """

    largest: float
    mean: float
    share: float
    levels: bool
    images: int
    sizes: int
    batches: tuple[int, ...]

    def __str__(self) -> str:
        of = f"{self.largest:.1e}"
        if self.levels:
            of = f"{self.largest:.0f} of 255 levels, in {self.share:.2g} of the values"
        sizes = f" of {self.sizes} sizes" if self.sizes > 1 else ""
        return f"{of} ({self.images} inputs{sizes}, batches of {', '.join(map(str, self.batches))})"


def difference(wrapped: Wrapped, one: Callable[[Rows], Tensor], other: Callable[[Rows], Tensor]) -> Difference:
    """Return how far two outputs are from each other over all cases. Raises ConfigError for another shape or dtype."""
    largest, total, differing, number, images, sizes, batches = 0.0, 0.0, 0, 0, 0, set(), []
    for rows in wrapped.cases:
        a, b = one(rows), other(rows)
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ConfigError(f"it gives {a.dtype} {[*a.shape]} where the run gives {b.dtype} {[*b.shape]}")
        gap = (a.double() - b.double()).abs()
        largest = max(largest, gap.max().item()) if gap.isfinite().all() else float("nan")
        total, differing, number = total + gap.sum().item(), differing + int((gap > 0).sum()), number + gap.numel()
        images += len(a)
        sizes.add(tuple(a.shape[1:]))
        batches.append(len(a))
    eight = wrapped.output.dtype == "uint8"
    found = tuple(dict.fromkeys(batches))
    return Difference(largest, total / number, differing / number, eight, images, len(sizes), found)


def require(found: Difference, bound: float) -> None:
    """Raise ConfigError for a difference beyond a bound of values in [-1, 1].

    Of levels one is allowed, in as many values as a difference of twice the bound would bring to another level.
    """
    least_share = 255 * bound
    if found.levels and not (found.largest <= 1 and found.share <= least_share):
        raise ConfigError(f"it differs from the run by {found}, and 1 in {least_share:.2g} of the values is allowed")
    if not found.levels and not found.largest <= bound:
        raise ConfigError(f"it differs from the run by {found}, and {bound:.0e} is allowed")


def milliseconds(call: Callable[[], object]) -> float:
    """Return the least processor time of a call on one core, over calls of about `SECONDS` in all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times: list[float] = []
        while not times or (sum(times) < SECONDS and len(times) < 100):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    return 1000 * min(times)
