"""Communication between the ranks of one evaluation."""

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
    """This process's rank among `world_size` in the default process group, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def meeting_place(self) -> torch.device:
        """The device of tensors that the process group can send: the CPU for gloo or a single rank, else `device`."""
        alone = self.world_size == 1
        return torch.device("cpu") if alone or dist.get_backend() == "gloo" else self.device

    @property
    def scoring_place(self) -> torch.device:
        """The device for float64: `device` if it is CUDA, else the CPU, because few other devices support float64."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    def tell(self, value: T) -> T:
        """Return rank 0's `value` on every rank."""
        box = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0, device=self.meeting_place)
        return box[0]

    def collect(self, table: Tensor) -> Tensor:
        """Return the sum of all ranks' tables on rank 0; it is exact where all but one of them hold zeros."""
        if self.world_size > 1:
            dist.reduce(table, dst=0)
        return table


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Use `number` CPU threads within (None: no change); the last bits of results depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
