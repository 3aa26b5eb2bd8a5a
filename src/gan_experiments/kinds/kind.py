"""The base of kinds of samples: their shape, their bounds, and how they are compared, shown, played and saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_experiments.contracts import Batch
from gan_experiments.provenance import Mark


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of samples. Samples of the same kind are tensors [n, ...] of `dims` dimensions."""

    name: ClassVar[str]
    """What samples are called in messages."""
    dims: ClassVar[int]
    """The number of dimensions of a tensor of samples, including n."""
    suffix: ClassVar[str] = ""
    """The file suffix of a single sample; empty if samples are not saved one by one."""
    others: ClassVar[tuple[str, ...]] = ()
    """The other suffixes of files that a single sample can be saved to."""
    plays: ClassVar[tuple[str, ...]] = ()
    """The file suffixes of what is written beside each sheet, because a still picture cannot show it (see `play`)."""
    recognised: ClassVar[bool] = False
    """Whether copies of training samples are looked for, see `traits` and `apart`."""
    behind: ClassVar[int] = 0
    """The number of real samples that the verb `sample` draws behind the generated ones on its sheets."""
    quantisation: ClassVar[str] = ""
    """How what the scores see is rounded, in words, for passports; empty if it is not."""
    rate: float = field(default=0.0, kw_only=True)
    """Frames or samples in a second; 0 for what has no time."""

    @abstractmethod
    def shape(self, data: Any) -> tuple[int, ...]:
        """Return the shape of one sample; `data` is a data module, its config or anything with its arguments."""

    @abstractmethod
    def bounded(self, samples: Tensor) -> Tensor:
        """Return generated samples [n, ...] clipped to the bounds of real ones; unchanged if there are none."""

    @abstractmethod
    def vectors(self, samples: Tensor) -> Tensor:
        """Return a small vector for each sample [n, ...], float [n, d]; their distances tell how alike samples are."""

    def traits(self, samples: Tensor) -> Tensor:
        """Return what copies are recognised by, float [n, d]: by default `vectors` without their mean, of length 1.

        So a copy in paler or darker colours is one too.
        """
        vectors = self.vectors(samples)
        return F.normalize(vectors - vectors.mean(dim=1, keepdim=True), dim=1)

    def apart(self, traits: Tensor, others: Tensor) -> Tensor:
        """Return the distances float64 [n, m] of the traits [n, d] of some samples to those [m, d] of others."""
        return torch.cdist(traits.double(), others.double(), compute_mode="donot_use_mm_for_euclid_dist")

    @abstractmethod
    def sheet(
        self,
        cells: Tensor,
        columns: int | None = None,
        smallest: int = 512,
        real: Tensor | None = None,
        titles: Sequence[str] = (),
    ) -> Tensor:
        """Draw cells [n, k, ...], k samples in each, on one uint8 picture [3, h, w].

        `columns`, if given, is the number of cells in a row. The picture is at least `smallest` pixels wide. `real`
        samples [m, ...] are drawn behind, by the kinds for which that shows something. `titles`, if given, are those of
        the rows.
        """

    @abstractmethod
    def fitting(self, batch: Batch) -> int:
        """Return how many items like those of `batch` a `data_sheet` shows."""

    @abstractmethod
    def data_sheet(self, batch: Batch, titles: Sequence[str]) -> Tensor:
        """Draw a batch of the data, each item with all its keys and its title, on one uint8 picture [3, h, w]."""

    def viewed(self, samples: Tensor) -> Tensor:
        """Return samples [n, ...] as the extractors of scores see them."""
        return samples

    def floats(self, stored: Tensor) -> Tensor:
        """Return samples [n, ...] as data modules keep them, uint8 or whole numbers of more bits, as floats."""
        return stored if stored.is_floating_point() else stored.to(torch.get_default_dtype()).sub(127.5).div(127.5)

    def pictures(self, samples: Tensor) -> Tensor:
        """Return samples [n, ...] as uint8 pictures [n, C, h, w] with the channels of picture files, one for each.

        Raises TypeError if one sample alone makes no picture.
        """
        raise TypeError(f"{self.name} have no pictures of their own")

    def seen_as(self, channels: int) -> str:
        """Say what the scores see of samples with so many channels; "" for all."""
        return ""

    @property
    def views(self) -> tuple[Any, ...]:
        """What the view of the same samples depends on, in plain types; () if they are always seen alike."""
        return ()

    def play(self, cells: Tensor, path: Path, mark: Mark | None) -> None:
        """Write cells [n, k, ...] to a file whose suffix is one of `plays`, complete or not at all.

        `mark` is as in `save`. Raises TypeError if nothing is written beside sheets.
        """
        raise TypeError(f"{self.name} are not played")

    def array(self, samples: Tensor) -> np.ndarray:
        """Return samples [n, ...] as an array of the shape that is usual outside of networks."""
        return samples.cpu().numpy()

    def save(self, sample: Tensor, path: Path, mark: Mark | None, values: tuple[float, float] | None = None) -> None:
        """Write one sample to a file that ends in `suffix`, complete or not at all (see `files.whole`).

        `mark` says in the file that a model made it, if files of that suffix can hold it. `values` are what -1 and 1
        stand for, if it is to be written with more than 8 bits. Raises TypeError if samples are not saved one by one.
        """
        raise TypeError(f"{self.name} are not saved one by one")

    def samples(self, batch: Batch) -> Batch:
        """Return the part of a batch whose tensors have as many dimensions as samples."""
        return {key: rows for key, rows in batch.items() if rows.ndim == self.dims}
