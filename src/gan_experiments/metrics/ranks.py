"""The few words that the ranks of one evaluation say to each other."""

from __future__ import annotations

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

    def tell(self, value: T) -> T:
        """Return rank 0's `value` on every rank."""
        box = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(box, src=0, device=self.meeting_place)
        return box[0]

    def collect(self, table: Tensor) -> Tensor:
        """Return on rank 0, on the CPU, the sum of all ranks' tables: exact where all but one of them hold zeros."""
        if self.world_size > 1:
            dist.reduce(table, dst=0)
        return table.cpu()
