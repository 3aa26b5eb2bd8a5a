"""The few words that the ranks of one evaluation say to each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `world_size` of the default process group, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def meeting_place(self) -> torch.device:
        """The device whose tensors the process group can carry: the ranks' own, but for gloo."""
        alone = self.world_size == 1
        return torch.device("cpu") if alone or dist.get_backend() == "gloo" else self.device

    @property
    def scoring_place(self) -> torch.device:
        """The device that computes in float64: few but CUDA's can."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    def tell(self, value: T) -> T:
        """Return rank 0's `value` on every rank."""
        box = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0, device=self.meeting_place)
        return box[0]

    def collect(self, table: Tensor) -> Tensor:
        """Return on rank 0 the sum of all ranks' tables: exact where all but one of them hold zeros."""
        if self.world_size > 1:
            dist.reduce(table, dst=0)
        return table


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Compute with `number` threads on the CPU (None: as many as before): another number gives other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
