"""Images of several domains in one stream: {"real", "domain"}, the data of StarGAN."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from gan_experiments.bounds import Classes, Place, Resolution
from gan_experiments.contracts import Batch, ConfigError
from gan_experiments.data.archives import Places, words
from gan_experiments.data.batches import HeldOut, Part, Shapes, to_float
from gan_experiments.data.cache import ImageArray, cached
from gan_experiments.data.image_module import ImageData, spread_rows
from gan_experiments.data.images import CelebA, Folder
from gan_experiments.data.sources import Files


class InDomains(ImageData):
    """Images that are in domains: "domain" float [N, classes] beside "real".

    Each image is in the one domain that is its label, which the batch has too, or it has some of `attributes`: then the
    labels of `reference()` hold them as bits, the first attribute's the lowest, and the batch has no label.
    """

    attributes: Sequence[str] = ()

    @abstractmethod
    def has(self, split: str) -> bool:
        """Return True if there is such a split."""

    @property
    @override
    def shapes(self) -> Shapes:
        return {**super().shapes, **({"domain": (self.classes,)} if "domain" in self.provides else {})}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Scale "real" to float [-1, 1] and add "domain", on the device where they are."""
        return self._with_domain(super().on_after_batch_transfer(batch, dataloader_idx))

    def fixed(self, n: int) -> Batch:
        """Return `n` images, the same at each call: of domain 0, 1, 2, ... in turn, or evenly spread over the data."""
        if not self.attributes:
            return self._with_domain(super().fixed(n))
        images = self.reference("train")
        return self._batch(images, spread_rows(n, len(images)))

    def counts(self, images: ImageArray) -> dict[str, int]:
        """Count the images of each domain, or that have each attribute."""
        if not self.attributes or images.labels is None:
            return super().counts(images)
        return {name: int(self.inside(images.labels, place).sum()) for place, name in enumerate(self.attributes)}

    def unpaired(self, reads: str, number: int | None, split: str) -> tuple[HeldOut, Part]:
        """Return the images outside domain `number`, of the split "test" if there is one, and those inside it."""
        images, real = self.reference("test" if self.has("test") else "train"), self.reference(split)
        assert images.labels is not None, "domains are labels"
        assert real.labels is not None, "domains are labels"
        name = self.attributes[number or 0] if self.attributes else f"domain {number}"
        outside = ~self.inside(images.labels, number or 0)
        inside = self.inside(real.labels, number or 0)
        return _others(images, outside, name, lambda rows: self._batch(images, rows)), Part(real, _rows(inside), name)

    def inside(self, labels: Tensor, number: int) -> Tensor:
        """Return which images, by their labels int64 [n], are in a domain or have an attribute, bool [n]."""
        return (labels >> number & 1) == 1 if self.attributes else labels == number

    def _batch(self, images: ImageArray, rows: Tensor) -> Batch:
        assert images.labels is not None, "domains are labels"
        return self._with_domain({"real": to_float(images.pixels[rows]), "label": images.labels[rows]})

    def _with_domain(self, batch: Batch) -> Batch:
        if "label" not in batch:
            return batch
        label, real = batch["label"], batch["real"]
        if self.attributes:
            places = torch.arange(self.classes, device=label.device)
            return {"real": real, "domain": (label[:, None] >> places & 1).to(real.dtype)}
        return {**batch, "domain": F.one_hot(label, self.classes).to(real.dtype)}


class Domains(InDomains, Folder):
    """Files with a subfolder for each domain: "real", "label", and "domain", the label as one-hot.

    Or files of which each may have several of `attributes`, which name the zeros and ones that a dataset.json beside
    the files lists for each, in the form of NVIDIA's dataset tool: "real" and "domain". `classes` is the number of
    domains or attributes. Raises ConfigError if it is less than two without attributes, or is not the number of these.
    """

    provides = frozenset({"real", "label", "domain"})

    def __init__(
        self,
        root: Places = "data",
        resolution: Resolution = 128,
        classes: Classes = 2,
        attributes: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        if attributes:
            require_number(classes, attributes)
        elif classes < 2:
            raise ConfigError(
                f"data.classes={classes}: domains are the subfolders of data.root={words(root)}, type their number"
            )
        super().__init__(root, resolution, classes=classes, **settings)
        self.attributes = list(attributes)
        if attributes:
            self.provides = self.provides - {"label"}
            self.choice = replace(self.choice, attributes=self.attributes)

    @override
    def has(self, split: str) -> bool:
        return Folder.has(self, split)

    @property
    @override
    def title(self) -> str:
        return f"Domains {words(self.root)}"


class CelebAAttributes(InDomains, CelebA):
    """CelebA with several attributes at once: "real", and "domain" with 1 for each of `attributes` that a face has.

    `classes` is their number. Raises ConfigError for an attribute that CelebA does not have.
    """

    provides = frozenset({"real", "domain"})

    def __init__(
        self,
        root: Place = "data",
        resolution: Resolution = 128,
        attributes: Sequence[str] = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"),
        classes: Classes = 5,
        **settings: Any,
    ) -> None:
        require_number(classes, attributes)
        super().__init__(root, resolution, **settings)
        self.attributes, self.classes = list(attributes), classes

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split."""
        path = self._find()
        names, bits = self._attributes(path, self._names(path, split), self.attributes, "data.attributes")
        source = Files(path, "data.root", names, bits, self.attributes, self.limit)
        source.name = f"CelebA-{split}"
        return cached(source, self._settings(self.crop), self.cache, split)

    @override
    def has(self, split: str) -> bool:
        return split == "train" or bool(self._table(self._find(), "list_eval_partition.txt"))


def require_number(classes: int, attributes: Sequence[str]) -> None:
    """Raise ConfigError if `classes` is not the number of attributes."""
    if classes != len(attributes):
        raise ConfigError(
            f"data.classes={classes} with {len(attributes)} data.attributes: type data.classes={len(attributes)}"
        )


def _rows(chosen: Tensor) -> Tensor:
    return chosen.nonzero()[:, 0]


def _others(images: ImageArray, chosen: Tensor, name: str, batch: Callable[[Tensor], Batch]) -> HeldOut:
    """Return the images to translate to a domain or to give an attribute, one at a time."""
    rows = _rows(chosen)
    return HeldOut(images.split, f"{images.fingerprint}-not-{name}", len(rows), lambda row: batch(rows[row : row + 1]))
