"""The contract of a data module: all that training, scores, sheets and the verbs ask of data.

To write a new one, derive from `DataModule`, name its `provides` and its `kind`, give it the attributes and the
abstract methods, and name the class by `_target_` in a file of `conf/data/`. The base does the rest. `toy.py` is a
short one, `image_module.py` the base of all that read images. A generator trained on it needs a `kind` too where its
samples are no images.
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
    """Batches without end, samples for sheets and scores, and what is to be said of them.

    Constructors take their settings as keyword arguments of plain types, which are the keys of the config; a mistake in
    them raises ConfigError in one line. They read no file: `prepare_data` does, once a node, and `setup` on each rank.
    `batch_size`, `classes` and `seed` are among the arguments of every data module, as configs refer to them;
    `resolution` and `channels` where its models' configs do (`data.resolution`, ...).
    """

    provides: frozenset[str]
    """The keys of a batch; without labels a constructor takes "label" out."""
    kind: Kind
    """What a sample is; of the class, so that it is known before any file is read."""
    keys: ClassVar[Mapping[str, str]] = {}
    """A sentence for each key in `provides` that `contracts.BATCH_KEYS` lacks: what it is, its dtype and its shape."""
    splits: tuple[str, ...] = ("train",)
    """The names that `reference` may be asked for; not each of them need be there."""

    batch_size: int
    """Items of one discriminator step, over all ranks and accumulation steps."""
    classes: int
    """The number of classes, or of domains; 0 for none."""
    seed: int
    """All that is drawn derives from it."""
    workers: int = 0
    """Processes that read ahead."""
    channels_last: bool = False
    """Whether images are to lie in memory so, set by `build.py`; other kinds need not care."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Register the keys of the class. Raises TypeError for one that it provides and nobody says a word of."""
        super().__init_subclass__(**options)
        register_keys(vars(cls).get("keys", {}))
        if unknown := sorted(set(getattr(cls, "provides", ())) - BATCH_KEYS.keys()):
            raise TypeError(f"{cls.__name__} provides {', '.join(unknown)}: say in `keys` what that is")

    # ---------------------------------------------------------------- what a data module writes

    @property
    @abstractmethod
    def shapes(self) -> Shapes:
        """Return the shape of one item of each key in `provides`, without n; no file is read for it."""

    @abstractmethod
    def describe(self) -> str:
        """Return one line for the terminal: the name, how many samples of which form, how many classes."""

    @abstractmethod
    def stream(self, rank: int = 0, world: int = 1) -> Stream:
        """Return the endless batches of one rank, each a pure function of (seed, number of the batch).

        A `Stream` makes batch `number` by its method `batch`; `ShuffledStream` is one that shows each item once an
        epoch. Draws come from `batches.generator(seed, what, number)`, so that a run that goes on draws the same. Rank
        r of `world` gets rows [r B / world, (r + 1) B / world) of each batch of B = `batch_size` items.
        """

    @abstractmethod
    def fixed(self, n: int) -> Batch:
        """Return the same n items each time, as a model gets them: for sheets, and for health to compare with."""

    @abstractmethod
    def reference(self, split: str = "train") -> Any:
        """Return the real samples of a split for the scores; raises ConfigError for an unknown split.

        It has the name of its `split`, and a `fingerprint` that differs whenever the samples do. What else it must have
        is a matter of the evaluator: `metrics.evaluator.RealImages` says so for images.
        """

    # ---------------------------------------------------------------- what it may write

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Make of a batch of the stream what a model gets, on the device: the keys in `provides`, floats in [-1, 1]."""
        return batch

    def understood(self) -> list[str]:
        """Return what was understood of the files that are trained on, a line for each thing that is to be said."""
        return []

    def of_classes(self, labels: Tensor) -> Batch:
        """Return the same items each time, of these classes, int64 [n]; for data whose classes are of unequal size."""
        raise NotImplementedError(f"{type(self).__name__} has no classes of unequal size")

    def held_out(self, split: str | None = None) -> HeldOut:
        """Return the held-out items of `split` that have a ground truth; None: of the only such split.

        They are read one by one, as batches of one item in the form that a model gets. Raises ConfigError where there
        are none.
        """
        raise ConfigError(f"{self.title} has no images that should come of others: type metrics=none")

    def unpaired(self, reads: str, number: int | None, split: str) -> tuple[HeldOut, Any]:
        """Return images to translate that have no partners, and real ones of `split` that they should look like.

        `reads` and `number` are those of a model's direction. What is translated was held out, where such images are.
        Raises ConfigError where the data have no images of that kind.
        """
        raise ConfigError(f"{self.title} has no two kinds of images, to turn one into the other: type metrics=none")

    @property
    def title(self) -> str:
        """The name for messages."""
        return type(self).__name__

    @property
    def size(self) -> int | None:
        """The number of training samples, an epoch; None for data that are drawn without end."""
        return None

    @property
    def class_names(self) -> list[str]:
        """The names of the classes by their numbers; empty where there are none."""
        return []

    @property
    def class_counts(self) -> list[int]:
        """The training samples of each class, or other numbers in their proportion; empty where there are none."""
        return []

    @property
    def conditions(self) -> Conditions:
        """What samples are conditioned on: `conditions(count, seed)` draws [count, ...] in the data's proportions.

        These are the classes. Data of other conditions (captions, cameras) return another subclass of `Conditions`.
        """
        return Classes(self.classes if "label" in self.provides else 0, tuple(self.class_counts))

    def noise(self, n: int, keys: Iterable[str]) -> Batch:
        """Return n items of random numbers in the form of a batch, to measure time and memory by; no file is read.

        Data with keys of other dtypes than label and float write their own.
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
        """Return a loader that never ends; it goes on at the batch that the model's counter `batches` says."""
        rank, world, pin = 0, 1, False
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            pin = self.trainer.strategy.root_device.type not in ("cpu", "mps")  # where pinned memory helps
        return StreamLoader(self.stream(rank, world), self._position, self.workers, pin)

    def _position(self) -> int:
        return 0 if self.trainer is None else int(getattr(self.trainer.lightning_module, "batches", 0))
