"""Images of several domains in one stream: {"real", "domain"}, the data of StarGAN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from gan_experiments.data.image_module import spread_rows
from gan_experiments.data.images import CelebA, Folder
from gan_experiments.data.sources import Files


class Domains(Folder):
    """A folder or zip archive with a subfolder for each domain: "real", "label", and "domain", the label as one-hot.

    `classes` is the number of domains. Raises ConfigError if it is less than two.
    """

    provides = frozenset({"real", "label", "domain"})
    exclusive = True
    """Whether each image is in exactly one domain."""

    def __init__(
        self, root: Places = "data", resolution: Resolution = 128, classes: Classes = 2, **settings: Any
    ) -> None:
        if classes < 2:
            raise ConfigError(
                f"data.classes={classes}: domains are the subfolders of data.root={words(root)}, type their number"
            )
        super().__init__(root, resolution, classes=classes, **settings)

    @property
    @override
    def shapes(self) -> Shapes:
        return {**super().shapes, "domain": (self.classes,)}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Scale "real" to float [-1, 1] and add "domain", on the device where they are."""
        return self._with_domain(super().on_after_batch_transfer(batch, dataloader_idx))

    def fixed(self, n: int) -> Batch:
        """Return `n` images of domain 0, 1, 2, ... in turn, the same at each call."""
        return self._with_domain(super().fixed(n))

    def unpaired(self, reads: str, number: int | None, split: str) -> tuple[HeldOut, Part]:
        """Return the images of all domains but `number`, of the split "test" if there is one, and those of `number`."""
        images, real = self.reference("test" if self.has("test") else "train"), self.reference(split)
        assert images.labels is not None, "domains are labels"
        assert real.labels is not None, "domains are labels"
        name = f"domain {number}"

        def batch(rows: Tensor) -> Batch:
            assert images.labels is not None, "domains are labels"
            return self._with_domain({"real": to_float(images.pixels[rows]), "label": images.labels[rows]})

        within, of_others = real.labels.eq(number or 0), images.labels.ne(number or 0)
        return _others(images, of_others, name, batch), Part(real, _rows(within), name)

    @property
    @override
    def title(self) -> str:
        return f"Domains {words(self.root)}"

    def _with_domain(self, batch: Batch) -> Batch:
        return {**batch, "domain": F.one_hot(batch["label"], self.classes).to(batch["real"].dtype)}


class CelebAAttributes(CelebA):
    """CelebA with several attributes at once: "real", and "domain" with 1 for each of `attributes` that a face has.

    `classes` is their number; `reference().labels` holds them as bits, the first attribute's the lowest. Raises
    ConfigError for an attribute that CelebA does not have.
    """

    provides = frozenset({"real", "domain"})
    exclusive = False

    def __init__(
        self,
        root: Place = "data",
        resolution: Resolution = 128,
        attributes: Sequence[str] = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"),
        classes: Classes = 5,
        **settings: Any,
    ) -> None:
        if classes != len(attributes):
            raise ConfigError(
                f"data.classes={classes} with {len(attributes)} data.attributes: type data.classes={len(attributes)}"
            )
        super().__init__(root, resolution, **settings)
        self.attributes, self.classes = list(attributes), classes

    def load(self, split: str) -> ImageArray:
        """Build or open the cache of a split."""
        path = self._find()
        names, bits = self._attributes(path, self._names(path, split), self.attributes, "data.attributes")
        source = Files(path, "data.root", names, bits, self.attributes, self.limit)
        source.name = f"CelebA-{split}"
        return cached(source, self._settings(self.crop), self.cache, split)

    @property
    @override
    def shapes(self) -> Shapes:
        return {**super().shapes, "domain": (self.classes,)}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int = 0) -> Batch:
        """Scale "real" to float [-1, 1] and add "domain", on the device where they are."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {"real": batch["real"], "domain": self._domain(batch["label"]) if "label" in batch else batch["domain"]}

    def fixed(self, n: int) -> Batch:
        """Return `n` images evenly spread over the data, the same at each call."""
        images = self.reference("train")
        assert images.labels is not None
        rows = spread_rows(n, len(images))
        return {"real": to_float(images.pixels[rows]), "domain": self._domain(images.labels[rows])}

    def counts(self, images: ImageArray) -> dict[str, int]:
        """Count the images that have each attribute."""
        assert images.labels is not None
        return {name: int((images.labels >> place & 1).sum()) for place, name in enumerate(self.attributes)}

    def unpaired(self, reads: str, number: int | None, split: str) -> tuple[HeldOut, Part]:
        """Return the faces without attribute `number`, of the split "test" if there is one, and those with it."""
        assert number is not None, "the directions are attributes"
        parted = bool(self._table(self._find(), "list_eval_partition.txt"))
        images, real = self.reference("test" if parted else "train"), self.reference(split)
        assert images.labels is not None, "attributes are labels"
        assert real.labels is not None, "attributes are labels"
        name = self.attributes[number]

        def batch(rows: Tensor) -> Batch:
            assert images.labels is not None, "attributes are labels"
            return {"real": to_float(images.pixels[rows]), "domain": self._domain(images.labels[rows])}

        without, having = (images.labels >> number & 1) == 0, (real.labels >> number & 1) == 1
        return _others(images, without, name, batch), Part(real, _rows(having), name)

    def _domain(self, bits: Tensor) -> Tensor:
        places = torch.arange(self.classes, device=bits.device)
        return (bits[:, None] >> places & 1).to(torch.get_default_dtype())


def _rows(chosen: Tensor) -> Tensor:
    return chosen.nonzero()[:, 0]


def _others(images: ImageArray, chosen: Tensor, name: str, batch: Callable[[Tensor], Batch]) -> HeldOut:
    """Return the images to translate to a domain or to give an attribute, one at a time."""
    rows = _rows(chosen)
    return HeldOut(images.split, f"{images.fingerprint}-not-{name}", len(rows), lambda row: batch(rows[row : row + 1]))
