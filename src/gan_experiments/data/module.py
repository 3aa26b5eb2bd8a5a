"""The contract of a data module: all that training, scores, sheets and the verbs need from data.

To write a new one, derive from `DataModule`, set its `provides` and its `kind`, define the attributes and the abstract
methods, and name the class as `_target_` in a file of `conf/data/`. The base does the rest. `toy.py` is a short
example, `image_module.py` the base of all that read images. If the samples are not images, a generator that is trained
on them needs a `kind` too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from gan_experiments.conditions import Classes, Conditions
from gan_experiments.contracts import BATCH_KEYS, Batch, ConfigError, register_keys
from gan_experiments.data.batches import HeldOut, Shapes, Stream, StreamLoader
from gan_experiments.kinds import Kind


class DataModule(LightningDataModule, ABC):
    """Endless batches, samples for sheets and scores, and descriptions of them.

    Constructors take their settings as keyword arguments of plain types, which are the keys of the config. A mistake in
    them raises ConfigError in one line. They read no file: `prepare_data` does, once a node, and `setup` on each rank.
    Every data module has the arguments `batch_size`, `classes` and `seed`, because configs refer to them. It also has
    `resolution` and `channels` if the configs of its models refer to those (`data.resolution`, ...).
    """

    provides: frozenset[str]
    """The keys of a batch; a constructor removes "label" if there are no labels."""
    kind: Kind
    """The kind of a sample; an attribute of the class, so that it is known before any file is read."""
    to_provide: ClassVar[str] = "type another data="
    """What to type if a model needs keys that the class provides and, as it is set, the object does not."""
    keys: ClassVar[Mapping[str, str]] = {}
    """A sentence for each key in `provides` that `contracts.BATCH_KEYS` lacks: what it is, its dtype and its shape."""
    splits: tuple[str, ...] = ("train",)
    """The splits that `reference` accepts; not all of them need to exist."""

    batch_size: int
    """Items of one discriminator step, over all ranks and accumulation steps."""
    classes: int
    """The number of classes, or of domains; 0 for none."""
    seed: int
    """The seed of all that is drawn at random."""
    workers: int = 0
    """The number of processes that read batches ahead."""
    channels_last: bool = False
    """Whether images have torch's memory format channels_last; set by `build.py`, other kinds may ignore it."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Register the keys of the class; raise TypeError for a key in `provides` that nothing describes."""
        super().__init_subclass__(**options)
        register_keys(vars(cls).get("keys", {}))
        if unknown := sorted(set(getattr(cls, "provides", ())) - BATCH_KEYS.keys()):
            raise TypeError(f"{cls.__name__} provides {', '.join(unknown)}: say in `keys` what that is")

    # ---------------------------------------------------------------- what a data module writes

    @abstractmethod
    def describe(self) -> str:
        """Return one line for the terminal: the name, the number and shape of the samples, the number of classes."""

    @abstractmethod
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        """Return the endless batches of one rank, each a pure function of (seed, number of the batch).

        A `Stream` makes batch `number` in its method `batch`; `ShuffledStream` is one that shows each item once an
        epoch. Random numbers come from `batches.generator(seed, what, number)`, so that a resumed run draws the same
        ones. Rank r of `world` gets rows [r B / world, (r + 1) B / world) of each batch of B = `batch_size` items.
        """

    @abstractmethod
    def fixed(self, n: int) -> Batch:
        """Return n items as a model gets them, the same at each call: for sheets, and for health to compare with."""

    @abstractmethod
    def reference(self, split: str = "train") -> Any:
        """Return the real samples of a split for the scores; raise ConfigError for an unknown split.

        The result has the name of its `split`, and a `fingerprint` that differs whenever the samples do. What else it
        must have depends on the evaluator: for images, see `metrics.evaluator.RealImages`.
        """

    # ---------------------------------------------------------------- what it may write

    @property
    def shapes(self) -> Shapes:
        """Return the shape of one item of each key in `provides`, without n; no file is read for it.

        It is () for a label and the kind's for all others; data with keys of other shapes add these.
        """
        shape = self.kind.shape(self)
        return {key: () if key == "label" else shape for key in sorted(self.provides)}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Convert a batch of the stream, on the device, to what a model gets: keys of `provides`, floats in [-1, 1]."""
        return batch

    def understood(self) -> list[str]:
        """Return how the training files were interpreted: folders, classes, sizes, files left out; a line for each."""
        return []

    def of_classes(self, labels: Tensor) -> Batch:
        """Return items of these classes, int64 [n], the same at each call; needed if classes are of unequal size."""
        raise NotImplementedError(f"{type(self).__name__} has no classes of unequal size")

    def held_out(self, split: str | None = None) -> HeldOut:
        """Return the held-out items of `split` that have a ground truth, or by default of the only such split.

        They are read one by one, as batches of one item in the form that a model gets. Raises ConfigError if there are
        none.
        """
        raise ConfigError(f"{self.title} has no images that should come of others: type metrics=none")

    def unpaired(self, reads: str, number: int | None, split: str) -> tuple[HeldOut, Any]:
        """Return images to translate that have no ground truth, and real ones of `split` that they should look like.

        `reads` and `number` are those of a model's direction: the key of the images to translate, and the number of the
        class that they are translated to. They are held-out images if there are any. Raises ConfigError if the data
        have no images of that kind.
        """
        raise ConfigError(f"{self.title} has no two kinds of images, to turn one into the other: type metrics=none")

    @property
    def title(self) -> str:
        """The name for messages."""
        return type(self).__name__

    @property
    def values(self) -> tuple[float, float] | None:
        """The values that are -1 and 1 in files of more than 8 bits; None without such files."""
        return None

    @property
    def size(self) -> int | None:
        """The number of training samples, which make an epoch; None for samples that are drawn without end."""
        return None

    @property
    def fingerprint(self) -> str:
        """A text that differs whenever the training samples do; empty if they have none."""
        return ""

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, indexed by label; empty without classes."""
        return []

    @property
    def class_counts(self) -> list[int]:
        """The number of training samples of each class, or numbers in the same proportion; empty without classes."""
        return []

    @property
    def conditions(self) -> Conditions:
        """What samples are conditioned on: `conditions(count, seed)` draws [count, ...] in the data's proportions.

        By default these are the classes. Data with others (captions, cameras) return another subclass of `Conditions`.
        """
        return Classes(self.classes if "label" in self.provides else 0, tuple(self.class_counts))

    def conditions_of(self, split: str) -> Conditions | None:
        """Return what samples are conditioned on that are compared with a split, if that is not `conditions`."""
        return None

    def noise(self, n: int, keys: Iterable[str]) -> Batch:
        """Return a batch of n items of random numbers, to measure time and memory with; no file is read.

        Override it if some keys are neither labels nor floats.
        """
        return {key: self._fill(key, (n, *self.shapes[key])) for key in keys}

    @staticmethod
    def _fill(key: str, shape: tuple[int, ...]) -> Tensor:
        if key == "label":
            return torch.zeros(shape, dtype=torch.int64)
        noise = torch.rand(shape, dtype=torch.get_default_dtype())
        return noise.round() if key in ("domain", "mask") else noise * 2 - 1

    # ---------------------------------------------------------------- what Lightning calls

    def train_dataloader(self) -> DataLoader:
        """Return an endless loader that begins at the batch to which the model's counter `batches` points."""
        rank, world, pin = 0, 1, False
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            pin = self.trainer.strategy.root_device.type not in ("cpu", "mps")  # where pinned memory helps
        return StreamLoader(self.stream(rank, world), self._position, self.workers, pin)

    def _position(self) -> int:
        return 0 if self.trainer is None else int(getattr(self.trainer.lightning_module, "batches", 0))
